//! `cargo xtask dist`: builds a static binary, which runs on any Linux of its architecture.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::compile::{self, Options};
use crate::{elf, progress, setup, shell, workspace};

pub(crate) fn dist() -> Result<()> {
    let target = setup::rust::ensure_musl()?;
    let built = compile::agent(Options { release: true, target: Some(&target), stripped: true })?;

    let image = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let is_static = elf::is_static(&image)
        .with_context(|| format!("cannot read the ELF headers of {}", built.display()))?;
    if !is_static {
        bail!("{} is dynamically linked: a dependency uses a shared library", built.display());
    }

    let folder = workspace::dist()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // Replaced atomically: a concurrent copy reads the old file or the new one.
    let mut file = tempfile::NamedTempFile::new_in(&folder)?;
    std::io::Write::write_all(&mut file, &image)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o755))?;
    let path = folder.join("stable-trace");
    file.persist(&path).with_context(|| format!("cannot replace {}", path.display()))?;

    progress::step(format!("{} bytes, static, for {target}", image.len()));
    shell::run(Command::new("sha256sum").arg(&path))
}
