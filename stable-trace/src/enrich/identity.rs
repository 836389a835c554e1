//! The file systems and devices of folios. Each is looked up once, and again after a mount.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    rc::Rc,
};

use aya::maps::{HashMap as KernelMap, MapData};
use stable_trace_analysis::{error_chain::ErrorChain, event::Source, units::DeviceId};
use stable_trace_common::{
    backing::{BY_DEV, Backing, dev_t},
    device::Wish,
};

use super::decode::name;
use crate::kernel::{
    device_stack::checks_integrity,
    mounts::{BackingDevice, Mounts},
    sysfs::{block_folder, entries, link_name},
};

/// The file systems and disks of a run, and which of them `--device` selects.
pub struct Identities {
    mounts: Mounts,
    sysfs: PathBuf,
    identities: HashMap<Backing, Rc<Identity>>,
    disks: HashMap<DeviceId, Rc<Disk>>,
    /// All block devices at the last check.
    devices: Vec<DeviceId>,
    /// The disks of `--device`; empty for all.
    selected_disks: Vec<DeviceId>,
    /// The map by which the programs skip devices that are not selected.
    wishes: KernelMap<MapData, Backing, Wish>,
    /// The map by which the programs know the devices below which integrity is checked.
    checked: KernelMap<MapData, u32, u32>,
}

/// A file system or device.
#[derive(Debug, Default)]
pub struct Identity {
    /// Device and file system, if they could be resolved.
    pub backing: Option<BackingDevice>,
    /// Whether `--device` selects it.
    pub selected: bool,
    /// Whether its device, or a device below it, checks integrity.
    pub integrity_checked: bool,
}

/// Device and file system for an event, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// The kernel's name of the device.
    pub device: Option<String>,
    /// The number of the device.
    pub dev: Option<DeviceId>,
    /// Type of the file system.
    pub fs: Option<String>,
}

impl Identity {
    /// Device and file system.
    pub fn location(&self) -> Location {
        let Some(BackingDevice { device, dev, fs, .. }) = &self.backing else {
            return Location::default();
        };
        Location { device: Some(device.clone()), dev: Some(*dev), fs: fs.clone() }
    }
}

/// A whole disk.
#[derive(Debug, Default)]
pub struct Disk {
    /// The kernel's name.
    pub device: Option<String>,
    /// Its number.
    pub dev: DeviceId,
    /// Whether `--device` selects it.
    pub selected: bool,
    /// The driver, if it is one that supports protection information.
    pub driver: Option<Source>,
}

impl Identities {
    /// Takes the mounts, the disks of `--device` (none for all), and the maps `WISHES` and `CHECKED_DEVICES`.
    pub fn new(
        mounts: Mounts,
        selected_disks: Vec<DeviceId>,
        wishes: KernelMap<MapData, Backing, Wish>,
        checked: KernelMap<MapData, u32, u32>,
    ) -> Self {
        let sysfs = PathBuf::from("/sys");
        let mut created = Self {
            devices: block_devices(&sysfs),
            mounts,
            sysfs,
            identities: HashMap::new(),
            disks: HashMap::new(),
            selected_disks,
            wishes,
            checked,
        };
        created.update_checked_devices();
        created
    }

    /// Looks all devices up again if something was mounted or unmounted. A device that is no longer
    /// mounted keeps its identity until another mount has its name.
    pub fn refresh_mounts(&mut self) {
        match self.mounts.refresh() {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => log::warn!("{}", ErrorChain(&error)),
        }
        self.update_checked_devices();
        self.disks.clear();
        let backings: Vec<_> = self.identities.keys().copied().collect();
        for backing in backings {
            let identity = self.identify(&backing);
            if identity.backing.as_ref().is_some_and(|device| device.fs.is_some()) {
                self.insert(backing, identity);
            }
        }
    }

    /// Updates the map of checked devices if block devices came or went. Reads a folder, so it is too
    /// slow for every record.
    pub fn refresh_devices(&mut self) {
        let devices = block_devices(&self.sysfs);
        if devices != self.devices {
            self.devices = devices;
            self.update_checked_devices();
            self.disks.clear();
        }
    }

    /// The mounted file systems on selected disks: device and type.
    pub fn mounted(&self) -> Vec<(String, String)> {
        let backings = self.mounts.all().iter().filter_map(|mount| self.mounts.by_dev(mount.dev));
        let backings =
            backings.filter(|found| !found.disks.is_empty() && self.selects(&found.disks));
        let mut all: Vec<_> =
            backings.filter_map(|found| Some((found.device, found.fs?))).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The identity of a backing.
    pub fn get(&mut self, backing: &Backing) -> Rc<Identity> {
        if let Some(identity) = self.identities.get(backing) {
            return Rc::clone(identity);
        }
        // It may have been mounted since the last refresh.
        self.refresh_mounts();
        let identity = self.identify(backing);
        self.insert(*backing, identity)
    }

    /// The disk with this number.
    pub fn disk(&mut self, dev: DeviceId) -> Rc<Disk> {
        if let Some(disk) = self.disks.get(&dev) {
            return Rc::clone(disk);
        }
        let folder = block_folder(&self.sysfs, dev);
        let subsystem = link_name(&folder.join("device/subsystem"));
        let disk = Rc::new(Disk {
            device: self.mounts.block_name(dev),
            dev,
            selected: self.selects(&[dev]),
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
    pub fn selected_disks(&self) -> &[DeviceId] {
        &self.selected_disks
    }

    /// Whether `--device` selects a file system on these disks.
    fn selects(&self, disks: &[DeviceId]) -> bool {
        let selected = &self.selected_disks;
        selected.is_empty() || disks.iter().any(|disk| selected.contains(disk))
    }

    fn insert(&mut self, backing: Backing, identity: Identity) -> Rc<Identity> {
        if !self.selected_disks.is_empty() {
            // The programs skip what is not selected. If the map is full, the agent skips it.
            let wish = if identity.selected { Wish::WANTED } else { Wish::UNWANTED };
            let _ = self.wishes.insert(backing, wish, 0);
        }
        let identity = Rc::new(identity);
        self.identities.insert(backing, Rc::clone(&identity));
        identity
    }

    fn identify(&self, backing: &Backing) -> Identity {
        let text = name(&backing.name);
        let backing = if backing.kind == BY_DEV {
            let found = self.mounts.by_dev(device_id(backing));
            // The type is the kernel's: the mounts may be those of another namespace.
            found.map(|device| BackingDevice { fs: Some(text), ..device })
        } else {
            self.mounts.by_bdi_name(&text)
        };
        let disks = backing.as_ref().map(|device| device.disks.as_slice()).unwrap_or_default();
        let selected = self.selects(disks);
        let integrity_checked =
            disks.iter().any(|disk| checks_integrity(&self.sysfs, &self.mounts, *disk));
        Identity { backing, selected, integrity_checked }
    }

    /// Fills the map of file systems and devices below which integrity is checked.
    fn update_checked_devices(&mut self) {
        let mounted = self.mounts.all().iter().map(|mount| mount.dev);
        let blocks = block_devices(&self.sysfs);
        for dev in mounted.chain(blocks) {
            if checks_integrity(&self.sysfs, &self.mounts, dev) {
                // If the map is full, unstable writes are still counted, and graded by the agent.
                let _ = self.checked.insert(dev_t(dev.major, dev.minor), 1, 0);
            } else {
                // Most are not in the map.
                let _ = self.checked.remove(&dev_t(dev.major, dev.minor));
            }
        }
    }
}

/// The device number in a backing.
pub(super) const fn device_id(backing: &Backing) -> DeviceId {
    let (major, minor) = backing.numbers();
    DeviceId::new(major, minor)
}

/// The numbers of all block devices, sorted.
fn block_devices(sysfs: &Path) -> Vec<DeviceId> {
    let entries = entries(&sysfs.join("dev/block")).unwrap_or_default();
    let mut devices: Vec<_> = entries.iter().filter_map(|(name, _)| name.parse().ok()).collect();
    devices.sort_unstable();
    devices
}
