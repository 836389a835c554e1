//! The binary to hand out: static, so that it runs on any Linux of its architecture.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::compile::{self, Options};
use crate::{elf, progress, setup, shell, workspace};

/// `cargo xtask dist`: leaves `target/dist/stable-trace`.
///
/// # Errors
/// If the build fails, or what it leaves is not static.
pub fn dist() -> Result<()> {
    let target = setup::rust::ensure_musl()?;
    let built = compile::agent(Options { release: true, target: Some(&target), stripped: true })?;

    let image = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let is_static =
        elf::is_static(&image).with_context(|| format!("cannot judge {}", built.display()))?;
    if !is_static {
        bail!(
            "{} needs a dynamic loader: a dependency has pulled in a shared library",
            built.display()
        );
    }

    let folder = workspace::root()?.join("target/dist");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // Renamed into place, so that whoever copies it meanwhile gets the old one or the new one.
    let mut file = tempfile::NamedTempFile::new_in(&folder)?;
    std::io::Write::write_all(&mut file, &image)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o755))?;
    let place = folder.join("stable-trace");
    file.persist(&place).with_context(|| format!("cannot replace {}", place.display()))?;

    progress::step(format!("{} bytes, static, for {target}", image.len()));
    shell::run(Command::new("sha256sum").arg(&place))
}
