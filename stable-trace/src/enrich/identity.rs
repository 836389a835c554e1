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
    device_filter::FilterDecision,
};

use super::decode::name;
use crate::kernel::{
    device_stack::checks_integrity,
    mountinfo::Mount,
    mounts::{BackingDevice, Mounts},
    sysfs::{block_folder, entries, link_name},
};

/// The file systems and disks of a run, and which of them `--device` selects.
pub(crate) struct Identities {
    mounts: Mounts,
    sysfs: PathBuf,
    cache: HashMap<Backing, Rc<Identity>>,
    disks: HashMap<DeviceId, Rc<Disk>>,
    /// All block devices at the last check.
    devices: Vec<DeviceId>,
    /// The disks of `--device`; empty for all.
    selected_disks: Vec<DeviceId>,
    /// The map by which the programs skip devices that are not selected.
    device_filter: KernelMap<MapData, Backing, FilterDecision>,
    /// The map by which the programs know the devices below which integrity is checked.
    checked: KernelMap<MapData, u32, u32>,
}

/// A file system or device.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    /// Device and file system, if they could be resolved.
    pub(crate) backing: Option<BackingDevice>,
    /// Whether `--device` selects it.
    pub(crate) selected: bool,
    /// Whether its device, or a device below it, checks integrity.
    pub(crate) integrity_checked: bool,
}

/// Device and file system for an event, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Location {
    /// The kernel's name of the device.
    pub(crate) device: Option<String>,
    /// The number of the device.
    pub(crate) dev: Option<DeviceId>,
    /// Type of the file system.
    pub(crate) fs: Option<String>,
}

impl Identity {
    /// Device and file system.
    pub(crate) fn location(&self) -> Location {
        let Some(BackingDevice { device, dev, fs, .. }) = &self.backing else {
            return Location::default();
        };
        Location { device: Some(device.clone()), dev: Some(*dev), fs: fs.clone() }
    }
}

/// A whole disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// The kernel's name.
    pub(crate) device: Option<String>,
    /// Its number.
    pub(crate) dev: DeviceId,
    /// Whether `--device` selects it.
    pub(crate) selected: bool,
    /// The driver, if it is one that supports protection information.
    pub(crate) driver: Option<Source>,
}

impl Identities {
    /// Takes the mounts, the disks of `--device` (none for all), and the maps
    /// `DEVICE_FILTER` and `CHECKED_DEVICES`.
    pub(crate) fn new(
        mounts: Mounts,
        selected_disks: Vec<DeviceId>,
        device_filter: KernelMap<MapData, Backing, FilterDecision>,
        checked: KernelMap<MapData, u32, u32>,
    ) -> Self {
        let sysfs = PathBuf::from("/sys");
        let mut created = Self {
            devices: block_devices(&sysfs),
            mounts,
            sysfs,
            cache: HashMap::new(),
            disks: HashMap::new(),
            selected_disks,
            device_filter,
            checked,
        };
        created.update_checked_devices();
        created
    }

    /// Looks all devices up again if something was mounted or unmounted. A device that is no longer
    /// mounted keeps its identity until another mount has its name.
    pub(crate) fn refresh_mounts(&mut self) {
        match self.mounts.refresh() {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => log::warn!("{}", ErrorChain(&error)),
        }
        self.update_checked_devices();
        self.disks.clear();
        let backings: Vec<_> = self.cache.keys().copied().collect();
        for backing in backings {
            let identity = self.identify(&backing);
            if identity.backing.as_ref().is_some_and(|device| device.fs.is_some()) {
                self.insert(backing, identity);
            }
        }
    }

    /// Updates the map of checked devices if block devices came or went. Reads a folder, so it is too
    /// slow for every record.
    pub(crate) fn refresh_devices(&mut self) {
        let devices = block_devices(&self.sysfs);
        if devices != self.devices {
            self.devices = devices;
            self.update_checked_devices();
            self.disks.clear();
        }
    }

    /// The mounted file systems on selected disks: device and type.
    pub(crate) fn mounted(&self) -> Vec<(String, String)> {
        let backings = self.mounts.all().iter().filter_map(|mount| self.mounts.by_dev(mount.dev));
        let backings =
            backings.filter(|found| !found.disks.is_empty() && self.selects(&found.disks));
        let mut all: Vec<_> =
            backings.filter_map(|found| Some((found.device, found.fs?))).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The agent's mounts.
    pub(super) fn mounts(&self) -> &[Mount] {
        self.mounts.all()
    }

    /// The identity of a backing.
    pub(crate) fn get(&mut self, backing: &Backing) -> Rc<Identity> {
        if let Some(identity) = self.cache.get(backing) {
            return Rc::clone(identity);
        }
        // It may have been mounted since the last refresh.
        self.refresh_mounts();
        let identity = self.identify(backing);
        self.insert(*backing, identity)
    }

    /// The disk with this number.
    pub(crate) fn disk(&mut self, dev: DeviceId) -> Rc<Disk> {
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
    pub(crate) fn selected_disks(&self) -> &[DeviceId] {
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
            let decision =
                if identity.selected { FilterDecision::INCLUDE } else { FilterDecision::EXCLUDE };
            let _ = self.device_filter.insert(backing, decision, 0);
        }
        let identity = Rc::new(identity);
        self.cache.insert(backing, Rc::clone(&identity));
        identity
    }

    fn identify(&self, backing: &Backing) -> Identity {
        let device = name(&backing.name);
        let backing = if backing.kind == BY_DEV {
            Some(self.by_super_block(device_id(backing), name(&backing.fs), device))
        } else {
            self.mounts.by_bdi_name(&device)
        };
        let disks = backing.as_ref().map(|device| device.disks.as_slice()).unwrap_or_default();
        let selected = self.selects(disks);
        let integrity_checked =
            disks.iter().any(|disk| checks_integrity(&self.sysfs, &self.mounts, *disk));
        Identity { backing, selected, integrity_checked }
    }

    /// The device of a file system, by what its super block has. `name` is the device's name in the
    /// kernel, or for a file system without a device whatever names it.
    fn by_super_block(&self, dev: DeviceId, fs: String, name: String) -> BackingDevice {
        let found = self.mounts.by_dev(dev).or_else(|| self.mounts.by_block_name(&name));
        match found {
            // The type is the kernel's: the mounts may be those of another namespace.
            Some(device) => BackingDevice { fs: Some(fs), ..device },
            // The device is gone, or it is a file system without one in another mount namespace.
            None => {
                let device = if name.is_empty() { dev.to_string() } else { name };
                BackingDevice { device, dev, fs: Some(fs), disks: Vec::new() }
            }
        }
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

/// The device number of a btrfs subvolume; `None` where there is none.
pub(super) const fn subvolume_dev(subvolume: u32) -> Option<DeviceId> {
    if subvolume == 0 {
        return None;
    }
    Some(DeviceId::new(subvolume >> 20, subvolume & 0xf_ffff))
}

/// The numbers of all block devices, sorted.
fn block_devices(sysfs: &Path) -> Vec<DeviceId> {
    let entries = entries(&sysfs.join("dev/block")).unwrap_or_default();
    let mut devices: Vec<_> = entries.iter().filter_map(|(name, _)| name.parse().ok()).collect();
    devices.sort_unstable();
    devices
}
