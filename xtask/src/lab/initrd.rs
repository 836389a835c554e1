//! Builds the guest's initramfs: busybox, kernel modules, and the task of the run.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::cpio::Archive;
use super::kernel::Kernel;
use super::modules::Modules;
use crate::elf;

/// Modules with their parameters: first those that mount the host's root, then those of the disks.
/// Loading one over 9p takes about a second on an emulated 5.10.
const MODULES: [(&str, &str); 10] = [
    ("virtio_pci", ""),
    ("virtio_console", ""),
    ("9pnet_virtio", ""),
    ("9p", ""),
    ("overlay", ""),
    // Not loaded on demand.
    ("loop", ""),
    ("sd_mod", ""),
    // T10 PI type 1 with CRC guard tags, checked by host and device. xfs needs at least 300 MiB.
    ("scsi_debug", "dif=1 dix=1 guard=0 dev_size_mb=320"),
    ("null_blk", "nr_devices=0"),
    ("nvme", ""),
];

/// btrfs needs it early on 5.10 and 6.1; later kernels have it built in or removed.
const OPTIONAL_MODULE: &str = "crc32c_generic";

const INIT: &[u8] = include_bytes!("guest/init.sh");
const STAGE: &[u8] = include_bytes!("guest/stage.sh");

/// Paths of busybox in Debian and other distributions.
const BUSYBOX: [&str; 3] = ["/usr/bin/busybox", "/bin/busybox", "/sbin/busybox"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Command(Vec<OsString>),
    /// A shell on a terminal of this size.
    Shell {
        rows: u16,
        columns: u16,
        terminal: String,
    },
}

/// Variables for the guest's second script.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings(Vec<(&'static str, OsString)>);

impl Settings {
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<OsString>) {
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

pub(crate) fn build(kernel: &Kernel, settings: &Settings, task: &Task) -> Result<Vec<u8>> {
    let modules = Modules::read(&kernel.modules.join(&kernel.release))?;
    let mut names: Vec<_> = MODULES.iter().map(|(name, _)| *name).collect();
    if modules.has(OPTIONAL_MODULE) {
        names.push(OPTIONAL_MODULE);
    }
    let mut archive = Archive::new();
    // The kernel opens it for init before /dev is mounted.
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

/// A script that replaces the shell with the program; the shell exits with 127 if it is missing.
fn command(words: &[OsString]) -> Vec<u8> {
    let mut text = b"exec".to_vec();
    for word in words {
        text.push(b' ');
        text.extend(quoted(word));
    }
    text.push(b'\n');
    text
}

/// A word quoted for a shell.
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

/// Reads a static busybox: the archive contains no shared libraries.
fn busybox() -> Result<Vec<u8>> {
    let Some(path) = BUSYBOX.iter().map(PathBuf::from).find(|path| path.exists()) else {
        bail!("busybox is not installed: install the package busybox-static");
    };
    let code = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if !elf::is_static(&code).with_context(|| format!("cannot use {}", path.display()))? {
        bail!("{} is not static: install the package busybox-static", path.display());
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_parses_quoted_words_back() {
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
