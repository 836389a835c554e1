//! What folios belong to: each file system and device is looked up once, and again when something
//! is mounted.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    rc::Rc,
};

use aya::maps::{HashMap as KernelMap, MapData};
use stable_trace_analysis::{error_chain::ErrorChain, event::Source, units::DeviceId};
use stable_trace_common::{
    backing::{BY_DEV, Backing as Named, dev_t},
    device::Wish,
};

use super::decode::name;
use crate::kernel::{
    device_stack::checks_integrity,
    mounts::{BackingDevice, Mounts},
    sysfs::{block_folder, link_name},
};

/// The devices of a run, and which of them the user asked for.
pub struct Identities {
    mounts: Mounts,
    sysfs: PathBuf,
    known: HashMap<Named, Rc<Identity>>,
    disks: HashMap<DeviceId, Rc<Disk>>,
    /// Every block device there was when this was last looked at.
    devices: Vec<DeviceId>,
    /// The disks of `--device`; empty for all.
    only: Vec<DeviceId>,
    /// Where the kernel reads which devices nobody asked for.
    wishes: KernelMap<MapData, Named, Wish>,
    /// Where the kernel reads below which devices integrity is checked.
    checked: KernelMap<MapData, u32, u32>,
}

/// What is known of one file system or device.
#[derive(Debug, Default)]
pub struct Identity {
    /// Device and file system, where they could be found.
    pub backing: Option<BackingDevice>,
    /// Whether the user asked for it.
    pub wanted: bool,
    /// Whether it, or a device below it, checks integrity.
    pub checked: bool,
}

/// What is known of one disk.
#[derive(Debug, Default)]
pub struct Disk {
    /// The kernel's name.
    pub device: Option<String>,
    /// Its number.
    pub dev: DeviceId,
    /// Whether the user asked for it.
    pub wanted: bool,
    /// Which driver's it is, of those that have protection information.
    pub driver: Option<Source>,
}

impl Identities {
    /// Takes the mounts, the disks of `--device`, and the maps `WISHES` and `CHECKED_DEVICES`.
    #[must_use]
    pub fn new(
        mounts: Mounts,
        only: Vec<DeviceId>,
        wishes: KernelMap<MapData, Named, Wish>,
        checked: KernelMap<MapData, u32, u32>,
    ) -> Self {
        let sysfs = PathBuf::from("/sys");
        let (known, disks) = (HashMap::new(), HashMap::new());
        let devices = block_devices(&sysfs);
        let mut identities = Self { mounts, sysfs, known, disks, devices, only, wishes, checked };
        identities.mark_checked();
        identities
    }

    /// Looks whether something was mounted or unmounted, and if so asks again from here on. A
    /// device that is no longer mounted keeps what was known of it until its name is used anew.
    pub fn follow_mounts(&mut self) {
        match self.mounts.refresh() {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => log::warn!("{}", ErrorChain(&error)),
        }
        self.mark_checked();
        self.disks.clear();
        let known: Vec<_> = self.known.keys().copied().collect();
        for named in known {
            let found = self.identify(&named);
            if found.backing.as_ref().is_some_and(|backing| backing.fs.is_some()) {
                self.learn(named, found);
            }
        }
    }

    /// Looks whether block devices came or went, and if so tells the kernel again which of them have
    /// something below that checks integrity. Reads a folder, so not for every record.
    pub fn follow_devices(&mut self) {
        let devices = block_devices(&self.sysfs);
        if devices != self.devices {
            self.devices = devices;
            self.mark_checked();
            self.disks.clear();
        }
    }

    /// Every mounted file system that lies on a disk, if the user asked for it: device and type.
    #[must_use]
    pub fn mounted(&self) -> Vec<(String, String)> {
        let wanted = |disks: &[DeviceId]| {
            self.only.is_empty() || disks.iter().any(|disk| self.only.contains(disk))
        };
        let backings = self.mounts.all().iter().filter_map(|mount| self.mounts.by_dev(mount.dev));
        let backings = backings.filter(|found| !found.disks.is_empty() && wanted(&found.disks));
        let mut all: Vec<_> =
            backings.filter_map(|found| Some((found.device, found.fs?))).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// What is behind a name.
    pub fn get(&mut self, named: &Named) -> Rc<Identity> {
        if let Some(identity) = self.known.get(named) {
            return Rc::clone(identity);
        }
        // The name may be younger than the last look.
        self.follow_mounts();
        let found = self.identify(named);
        self.learn(*named, found)
    }

    /// What is known of a disk, by its `major:minor`.
    pub fn disk(&mut self, dev: DeviceId) -> Rc<Disk> {
        if let Some(disk) = self.disks.get(&dev) {
            return Rc::clone(disk);
        }
        let home = block_folder(&self.sysfs, dev);
        let subsystem = link_name(&home.join("device/subsystem"));
        let disk = Rc::new(Disk {
            device: self.mounts.block_name(dev),
            dev,
            wanted: self.only.is_empty() || self.only.contains(&dev),
            driver: match subsystem.as_deref() {
                Some("scsi") => Some(Source::Scsi),
                Some(name) if name.starts_with("nvme") => Some(Source::Nvme),
                _ => None,
            },
        });
        self.disks.insert(dev, Rc::clone(&disk));
        disk
    }

    /// The disks of `--device`; empty for all.
    #[must_use]
    pub fn only(&self) -> &[DeviceId] {
        &self.only
    }

    fn learn(&mut self, named: Named, identity: Identity) -> Rc<Identity> {
        if !self.only.is_empty() {
            // Lets the kernel pass over what nobody asked for. If the map is full we go on passing
            // over it ourselves.
            let wish = if identity.wanted { Wish::WANTED } else { Wish::UNWANTED };
            let _ = self.wishes.insert(named, wish, 0);
        }
        let identity = Rc::new(identity);
        self.known.insert(named, Rc::clone(&identity));
        identity
    }

    fn identify(&self, named: &Named) -> Identity {
        let text = name(&named.name);
        let backing = if named.kind == BY_DEV {
            let found = self.mounts.by_dev(device_id(named));
            // The kernel has said what it is; the list of mounts may be another namespace's.
            found.map(|backing| BackingDevice { fs: Some(text), ..backing })
        } else {
            self.mounts.by_bdi_name(&text)
        };
        let disks = backing.as_ref().map(|backing| backing.disks.as_slice()).unwrap_or_default();
        let wanted = self.only.is_empty() || disks.iter().any(|disk| self.only.contains(disk));
        let checked = disks.iter().any(|disk| checks_integrity(&self.sysfs, &self.mounts, *disk));
        Identity { backing, wanted, checked }
    }

    /// Tells the kernel which file systems and devices integrity is checked below.
    fn mark_checked(&mut self) {
        let mounted = self.mounts.all().iter().map(|mount| mount.dev);
        let blocks = block_devices(&self.sysfs);
        for dev in mounted.chain(blocks) {
            if checks_integrity(&self.sysfs, &self.mounts, dev) {
                // If the map is full these are counted all the same, and graded when read.
                let _ = self.checked.insert(dev_t(dev.major, dev.minor), 1, 0);
            } else {
                // Most were not there.
                let _ = self.checked.remove(&dev_t(dev.major, dev.minor));
            }
        }
    }
}

/// The device number in the kernel's record of a file system or device.
pub(super) const fn device_id(backing: &Named) -> DeviceId {
    let (major, minor) = backing.numbers();
    DeviceId::new(major, minor)
}

/// Every block device, by `major:minor`, in order.
fn block_devices(sysfs: &Path) -> Vec<DeviceId> {
    let entries = std::fs::read_dir(sysfs.join("dev/block")).into_iter().flatten().flatten();
    let mut devices: Vec<_> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    devices.sort_unstable();
    devices
}
