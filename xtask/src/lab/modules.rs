//! Finds and unpacks kernel modules with their dependencies.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::process;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// File name without the suffix of compression: `overlay.ko`.
    pub(crate) name: String,
    /// Uncompressed content.
    pub(crate) code: Vec<u8>,
}

/// The modules of one kernel and their dependencies.
#[derive(Debug)]
pub(crate) struct Modules {
    folder: PathBuf,
    /// By module name: its file, and the files of its dependencies in the order of `modules.dep`.
    dependencies: HashMap<String, (String, Vec<String>)>,
    builtin: Vec<String>,
}

impl Modules {
    /// Reads `modules.dep` and `modules.builtin` of a kernel's folder.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let text = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(Self::parse(folder, &text("modules.dep")?, &text("modules.builtin")?))
    }

    fn parse(folder: &Path, dep: &str, builtin: &str) -> Self {
        let mut dependencies = HashMap::new();
        for (file, needs) in dep.lines().filter_map(|line| line.split_once(':')) {
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            dependencies.insert(name_of(file), (file.to_owned(), needs));
        }
        let builtin = builtin.lines().map(name_of).collect();
        Self { folder: folder.to_owned(), dependencies, builtin }
    }

    /// The files of `names` and their dependencies, in load order, without built-in modules.
    pub(crate) fn order(&self, names: &[&str]) -> Result<Vec<&str>> {
        let mut order: Vec<&str> = Vec::new();
        for name in names {
            let name = name.replace('-', "_");
            let Some((file, needs)) = self.dependencies.get(&name) else {
                if self.builtin.contains(&name) {
                    continue;
                }
                bail!("the kernel in {} has no module {name}", self.folder.display());
            };
            // modules.dep(5): the dependency to load first is last in the line.
            for file in needs.iter().rev().chain([file]) {
                if !order.contains(&file.as_str()) {
                    order.push(file);
                }
            }
        }
        Ok(order)
    }

    /// Whether the kernel has the module as a file.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.dependencies.contains_key(&name.replace('-', "_"))
    }

    /// Reads the modules of [`Self::order`].
    pub(crate) fn load(&self, names: &[&str]) -> Result<Vec<Module>> {
        self.order(names)?.into_iter().map(|file| self.unpack(file)).collect()
    }

    /// Decompresses the files of these modules and their dependencies in place, and returns their number.
    /// Modules that the kernel lacks or has built in are skipped. `depmod` must run after a change.
    pub(crate) fn unpack_files(&self, names: &[&str]) -> Result<usize> {
        let present: Vec<_> = names.iter().copied().filter(|name| self.has(name)).collect();
        let mut count = 0;
        for file in self.order(&present)? {
            let (name, program) = compression(file);
            if program.is_some() {
                let path = self.folder.join(name);
                fs::write(&path, self.code(file)?)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                let packed = self.folder.join(file);
                fs::remove_file(&packed)
                    .with_context(|| format!("cannot remove {}", packed.display()))?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn unpack(&self, file: &str) -> Result<Module> {
        let (name, _) = compression(file);
        let name = name.rsplit('/').next().unwrap_or(name).to_owned();
        Ok(Module { name, code: self.code(file)? })
    }

    fn code(&self, file: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(file);
        let (_, Some(program)) = compression(file) else {
            return fs::read(&path).with_context(|| format!("cannot read {}", path.display()));
        };
        let done = process::finish(Command::new(program).arg("-dc").arg(&path))?;
        if !done.status.success() {
            bail!("cannot decompress {}: {}", path.display(), process::error_line(&done));
        }
        Ok(done.stdout)
    }
}

/// A module's file name without the suffix of compression, and the program that decompresses it.
fn compression(file: &str) -> (&str, Option<&'static str>) {
    match file.rsplit_once('.') {
        Some((name, "xz")) => (name, Some("xz")),
        Some((name, "zst")) => (name, Some("zstd")),
        Some((name, "gz")) => (name, Some("gzip")),
        _ => (file, None),
    }
}

/// The name of a module: `9p` for `kernel/fs/9p/9p.ko.xz`. The kernel treats `-` and `_` as equal.
fn name_of(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split(".ko").next().unwrap_or(base).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "\
kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz kernel/fs/fscache/fscache.ko.xz
kernel/net/9p/9pnet.ko.xz:
kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/drivers/virtio/virtio.ko.xz
kernel/drivers/nvme/host/nvme-core.ko.xz:
";

    fn modules() -> Modules {
        Modules::parse(Path::new("/m"), DEP, "kernel/fs/overlayfs/overlay.ko\n")
    }

    #[test]
    fn dependencies_load_first_and_once() {
        assert_eq!(
            modules().order(&["9p", "9pnet_virtio", "overlay"]).unwrap(),
            [
                "kernel/fs/fscache/fscache.ko.xz",
                "kernel/fs/netfs/netfs.ko.xz",
                "kernel/net/9p/9pnet.ko.xz",
                "kernel/fs/9p/9p.ko.xz",
                "kernel/drivers/virtio/virtio.ko.xz",
                "kernel/net/9p/9pnet_virtio.ko.xz",
            ]
        );
    }

    #[test]
    fn a_dash_is_an_underscore() {
        assert!(modules().has("nvme_core") && modules().has("nvme-core"));
    }

    #[test]
    fn a_missing_module_is_named() {
        let error = modules().order(&["9p", "absent"]).unwrap_err().to_string();
        assert_eq!(error, "the kernel in /m has no module absent");
    }
}
