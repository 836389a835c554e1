//! The guest's first root file system: busybox, a few modules, and what this run is to do.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::cpio::Archive;
use super::kernel::Kernel;
use super::modules::Modules;

/// What the way to the host's root needs, and then what makes the disks, with their parameters.
/// From here they load in no time; over 9p each costs an emulated 5.10 about a second.
const MODULES: [(&str, &str); 10] = [
    ("virtio_pci", ""),
    ("virtio_console", ""),
    ("9pnet_virtio", ""),
    ("9p", ""),
    ("overlay", ""),
    // Nothing loads it when a loop device is asked for.
    ("loop", ""),
    ("sd_mod", ""),
    // Protection information of type 1, by CRC, checked by the host as well as the device. 320 MiB,
    // for xfs wants 300.
    ("scsi_debug", "dif=1 dix=1 guard=0 dev_size_mb=320"),
    ("null_blk", "nr_devices=0"),
    ("nvme", ""),
];

/// Wanted early by btrfs and its like on 5.10 and 6.1; built in or gone later.
const MODULE_WHERE_PRESENT: &str = "crc32c_generic";

const INIT: &[u8] = include_bytes!("guest/init.sh");
const STAGE: &[u8] = include_bytes!("guest/stage.sh");

/// Where Debian's busybox-static puts it, and others.
const BUSYBOX: [&str; 3] = ["/usr/bin/busybox", "/bin/busybox", "/sbin/busybox"];

/// What the guest runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// A program with its arguments.
    Command(Vec<OsString>),
    /// A shell on a terminal of this many rows and columns.
    Shell {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
        /// Value of `TERM`.
        terminal: String,
    },
}

/// Variables for the guest's second script.
#[derive(Clone, Debug, Default)]
pub struct Settings(Vec<(&'static str, OsString)>);

impl Settings {
    /// Adds a variable.
    pub fn set(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.0.push((name, value.into()));
    }

    fn script(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (name, value) in &self.0 {
            text.extend_from_slice(name.as_bytes());
            text.push(b'=');
            text.extend(quoted(value));
            text.push(b'\n');
        }
        text
    }
}

/// Builds the archive.
///
/// # Errors
/// If busybox or a module is missing.
pub fn build(kernel: &Kernel, settings: &Settings, task: &Task) -> Result<Vec<u8>> {
    let modules = Modules::read(&kernel.modules.join(&kernel.release))?;
    let mut names: Vec<_> = MODULES.iter().map(|(name, _)| *name).collect();
    if modules.has(MODULE_WHERE_PRESENT) {
        names.push(MODULE_WHERE_PRESENT);
    }
    let mut archive = Archive::new();
    // The kernel opens it for the first program before any /dev is mounted.
    archive.character_device("dev/console", 5, 1);
    for folder in ["proc", "sys"] {
        archive.folder(folder);
    }
    archive.file("bin/busybox", 0o755, &busybox()?);
    archive.file("init", 0o755, INIT);
    let mut order = String::new();
    for module in modules.load(&names)? {
        archive.file(&format!("modules/{}", module.name), 0o644, &module.code);
        let parameters =
            MODULES.iter().find(|(name, _)| module.name.strip_suffix(".ko") == Some(name));
        order.push_str(&module.name);
        order.push(' ');
        order.push_str(parameters.map_or("", |(_, parameters)| parameters));
        order.push('\n');
    }
    archive.file("modules/order", 0o644, order.as_bytes());
    archive.file("lab/stage.sh", 0o644, STAGE);
    archive.file("lab/config", 0o644, &settings.script());
    if let Task::Command(words) = task {
        archive.file("lab/command", 0o644, &command(words));
    }
    Ok(archive.finish())
}

/// The program in place of the shell that reads this; a missing one is the shell's 127.
fn command(words: &[OsString]) -> Vec<u8> {
    let mut text = b"exec".to_vec();
    for word in words {
        text.push(b' ');
        text.extend(quoted(word));
    }
    text.push(b'\n');
    text
}

/// A word that a shell takes as it stands.
fn quoted(word: &OsStr) -> Vec<u8> {
    let mut text = vec![b'\''];
    for byte in word.as_bytes() {
        match byte {
            b'\'' => text.extend_from_slice(b"'\\''"),
            _ => text.push(*byte),
        }
    }
    text.push(b'\'');
    text
}

/// A static busybox: nothing else is in the archive that it could be linked with.
fn busybox() -> Result<Vec<u8>> {
    let Some(path) = BUSYBOX.iter().map(PathBuf::from).find(|path| path.exists()) else {
        bail!("busybox is not installed: run `cargo xtask setup`");
    };
    let code = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if is_dynamic(&code) {
        bail!("{} is not a static program: install the package busybox-static", show(&path));
    }
    Ok(code)
}

/// Whether an ELF program names an interpreter, the dynamic linker.
fn is_dynamic(code: &[u8]) -> bool {
    let linkers: [&[u8]; 2] = [b"/ld-linux", b"/ld-musl"];
    let head = &code[..code.len().min(4096)];
    linkers.iter().any(|linker| head.windows(linker.len()).any(|window| window == *linker))
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_gives_every_word_back() {
        let words: Vec<OsString> =
            ["printf", "%s|", "it's", "", "a b", "$HOME", "`x`", "\\", "two\nlines"]
                .iter()
                .map(Into::into)
                .collect();
        let script = command(&words);
        let output = Command::new("sh").arg("-c").arg(OsStr::from_bytes(&script)).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "it's||a b|$HOME|`x`|\\|two\nlines|");
    }

    #[test]
    fn settings_are_assignments() {
        let mut settings = Settings::default();
        settings.set("LAB_DIRECTORY", "/a b");
        assert_eq!(settings.script(), b"LAB_DIRECTORY='/a b'\n");
    }
}
