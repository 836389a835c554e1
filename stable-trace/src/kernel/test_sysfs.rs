//! A sysfs of plain files, for unit tests.

use std::{fs, os::unix::fs::symlink, path::Path};

use tempfile::TempDir;

pub(super) struct TestSysfs(TempDir);

impl TestSysfs {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["block", "class/block", "dev/block"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        Self(root)
    }

    /// With these devices, as [`Self::device`] adds them: name and number.
    pub(super) fn with_devices(devices: &[(&str, &str)]) -> Self {
        let sysfs = Self::new();
        for (name, dev) in devices {
            sysfs.device(name, dev);
        }
        sysfs
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Adds a device below `devices`, and the links to it. A partition is named `DISK/PARTITION`.
    pub(super) fn device(&self, name: &str, dev: &str) {
        self.file(&format!("devices/{name}/dev"), dev);
        self.link(&format!("dev/block/{dev}"), &format!("devices/{name}"));
        let (disk, partition) = name.split_once('/').unzip();
        if disk.is_some() {
            self.file(&format!("devices/{name}/partition"), "1");
        }
        self.named(name, partition.unwrap_or(name));
    }

    /// Adds the links by name to a device.
    pub(super) fn named(&self, device: &str, name: &str) {
        let target = format!("devices/{device}");
        self.link(&format!("class/block/{name}"), &target);
        if device == name {
            self.link(&format!("block/{name}"), &target);
        }
    }

    /// Writes a file of one line.
    pub(super) fn file(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    pub(super) fn link(&self, link: &str, target: &str) {
        let link = self.path().join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(self.path().join(target), link).unwrap();
    }
}
