//! The file systems and devices of folios. Each is looked up once, and again after a mount.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    rc::Rc,
};

use aya::maps::{HashMap as KernelMap, MapData};
use smol_str::SmolStr;
use stable_trace_analysis::{
    error_chain::ErrorChain,
    event::{Protection, Risk, Source},
    units::DeviceId,
};
use stable_trace_common::{
    backing::{BY_DEV, Backing, numbers},
    device_filter::FilterDecision,
};

use super::{checked_devices::CheckedDevices, decode::name};
use crate::kernel::{
    data_risk::risk,
    device_family::covers,
    hidden_disks,
    mounts::{BackingDevice, Mounts, Refresh},
    protection::protection,
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
    /// The devices of `--device`; empty for all.
    selected_devices: Vec<DeviceId>,
    /// The map by which the programs skip devices that are not selected.
    device_filter: KernelMap<MapData, Backing, FilterDecision>,
    /// The devices below which data is checked, as the programs know them.
    checked: CheckedDevices,
    /// What [`Self::mounted`] returned last, until mounts or devices change.
    mounted: Option<Vec<(String, String)>>,
}

/// Identities that are kept before those are dropped that are gone.
const CACHED: usize = 16_384;

/// A file system or device.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    /// Device and file system, if they could be resolved.
    pub(crate) backing: Option<BackingDevice>,
    /// Whether `--device` selects it.
    pub(crate) selected: bool,
    /// What its device, or a device below it, rests on.
    pub(crate) risk: Option<Risk>,
}

/// Device and file system for an event, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Location {
    /// The kernel's name of the device.
    pub(crate) device: Option<SmolStr>,
    /// The number of the device.
    pub(crate) dev: Option<DeviceId>,
    /// Type of the file system.
    pub(crate) fs: Option<SmolStr>,
}

impl Identity {
    /// Whether its unstable writes are shown: `--device` never hides what a verdict rests on.
    pub(crate) const fn shows_unstable_writes(&self) -> bool {
        self.selected || self.is_checked()
    }

    /// Whether something below finds a change of the data.
    pub(crate) const fn is_checked(&self) -> bool {
        matches!(self.risk, Some(risk) if risk.is_checked())
    }

    /// Device and file system.
    pub(crate) fn location(&self) -> Location {
        let Some(BackingDevice { device, dev, fs, .. }) = &self.backing else {
            return Location::default();
        };
        let (device, fs) = (SmolStr::new(device), fs.as_deref().map(SmolStr::new));
        Location { device: Some(device), dev: Some(*dev), fs }
    }
}

/// A whole disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// The kernel's name.
    pub(crate) device: Option<String>,
    /// Its number.
    pub(crate) dev: DeviceId,
    /// The driver, if it is one that supports protection information.
    pub(crate) driver: Option<Source>,
    /// Its protection information.
    pub(crate) protection: Option<Protection>,
}

impl Identities {
    /// Takes the mounts, the devices of `--device` (none for all), and the maps
    /// `DEVICE_FILTER`, `CHECKED_DEVICES` and `STACKED_ON`.
    pub(crate) fn new(
        mounts: Mounts,
        selected_devices: Vec<DeviceId>,
        device_filter: KernelMap<MapData, Backing, FilterDecision>,
        checked: KernelMap<MapData, u32, u32>,
        stacked: KernelMap<MapData, u64, u32>,
    ) -> Self {
        let sysfs = PathBuf::from("/sys");
        let mut created = Self {
            devices: block_devices(&sysfs),
            mounts,
            sysfs,
            cache: HashMap::new(),
            disks: HashMap::new(),
            selected_devices,
            device_filter,
            checked: CheckedDevices::new(checked, stacked),
            mounted: None,
        };
        created.update_all_checked_devices();
        created
    }

    /// Whether something below a device finds a change of the data.
    pub(crate) fn has_checked_devices(&self) -> bool {
        !self.checked.is_empty()
    }

    /// Looks the file systems up again of which a mount came or went. One that is no longer mounted
    /// keeps its identity until another mount has its name.
    pub(crate) fn refresh_mounts(&mut self, reason: Refresh) {
        let changed = match self.mounts.refresh(reason) {
            Ok(changed) if changed.is_empty() => return,
            Ok(changed) => changed,
            Err(error) => return log::warn!("{}", ErrorChain(&error)),
        };
        // Most mounts of a storm are of no block device, and have nothing below that could be
        // looked up.
        let on_device = |dev: &DeviceId| {
            let source = self.mounts.first_of(*dev).map(|mount| mount.source.as_str());
            dev.major != 0
                || self.checked.contains(*dev)
                || source.is_some_and(|source| source.starts_with("/dev/"))
        };
        let on_devices: Vec<_> = changed.iter().copied().filter(on_device).collect();
        let mut related = changed;
        for dev in on_devices {
            self.checked.update(&self.sysfs, &self.mounts, dev);
            related.insert(self.mounts.disk_of(dev));
        }
        self.mounted = None;
        self.identify_again(|backing, identity| is_related(&related, backing, identity));
    }

    /// Follows block devices that came or went. Reads a folder, so it is too slow for every record.
    pub(crate) fn refresh_devices(&mut self) {
        let devices = block_devices(&self.sysfs);
        if devices != self.devices {
            self.devices = devices;
            self.update_all_checked_devices();
            self.disks.clear();
            self.mounted = None;
            // A new device may be part of the stack of an old one.
            self.identify_again(|_, _| true);
        }
    }

    /// Identifies the cached file systems anew that are wanted. One whose type is no longer known
    /// keeps its identity.
    fn identify_again(&mut self, wanted: impl Fn(&Backing, &Identity) -> bool) {
        let cached = self.cache.iter().filter(|(backing, identity)| wanted(backing, identity));
        let backings: Vec<_> = cached.map(|(backing, _)| *backing).collect();
        for backing in backings {
            let identity = self.identify(&backing);
            if identity.backing.as_ref().is_some_and(|device| device.fs.is_some()) {
                self.insert(backing, identity);
            }
        }
    }

    /// The file systems that are mounted read-write on selected devices: device and type.
    pub(crate) fn mounted(&mut self) -> &[(String, String)] {
        let mounted = self.mounted.take().unwrap_or_else(|| self.list_mounted());
        self.mounted.insert(mounted)
    }

    fn list_mounted(&self) -> Vec<(String, String)> {
        // A read-only file system, such as a snap, is announced when it stalls first.
        let mounts = self.mounts.all().iter().filter(|mount| !mount.read_only);
        let devs: BTreeSet<_> = mounts
            .filter(|mount| mount.dev.major != 0 || mount.source.starts_with("/dev/"))
            .map(|mount| mount.dev)
            .collect();
        let backings = devs.into_iter().filter_map(|dev| self.mounts.by_dev(dev));
        let backings =
            backings.filter(|found| !found.members.is_empty() && self.selects(&found.members));
        let mut all: Vec<_> =
            backings.filter_map(|found| Some((found.device, found.fs?))).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The agent's mounts.
    pub(super) const fn mounts(&self) -> &Mounts {
        &self.mounts
    }

    /// The identity of a backing.
    pub(crate) fn get(&mut self, backing: &Backing) -> Rc<Identity> {
        if let Some(identity) = self.cache.get(backing) {
            return Rc::clone(identity);
        }
        // It may have been mounted since the last refresh.
        self.refresh_mounts(Refresh::Lookup);
        let identity = self.identify(backing);
        self.insert(*backing, identity)
    }

    /// Whether a file system is mounted no longer, or in other mount namespaces only, or a block device has
    /// been removed.
    pub(crate) fn is_gone(&self, backing: &Backing) -> bool {
        is_gone(&self.mounts, &self.devices, backing)
    }

    /// The disk with this number. For a path of a multipath device it is that device.
    pub(crate) fn disk(&mut self, number: DeviceId) -> Rc<Disk> {
        if let Some(disk) = self.disks.get(&number) {
            return Rc::clone(disk);
        }
        let dev = hidden_disks::head_of(&self.sysfs, Path::new("/proc"), number).unwrap_or(number);
        let folder = block_folder(&self.sysfs, dev);
        let subsystem = link_name(&folder.join("device/subsystem"));
        let disk = Rc::new(Disk {
            device: self.mounts.block_name(dev),
            dev,
            driver: match subsystem.as_deref() {
                Some("scsi") => Some(Source::Scsi),
                Some(name) if name.starts_with("nvme") => Some(Source::Nvme),
                _ => None,
            },
            protection: protection(&folder),
        });
        self.disks.insert(number, Rc::clone(&disk));
        disk
    }

    /// The devices of `--device`; empty for all.
    pub(crate) fn selected_devices(&self) -> &[DeviceId] {
        &self.selected_devices
    }

    /// Whether `--device` selects a file system on these block devices.
    fn selects(&self, members: &[DeviceId]) -> bool {
        let selected = &self.selected_devices;
        let covered = |dev: &DeviceId| covers(&self.sysfs, &self.mounts, selected, *dev);
        selected.is_empty() || members.iter().any(covered)
    }

    fn insert(&mut self, backing: Backing, identity: Identity) -> Rc<Identity> {
        if !self.selected_devices.is_empty() {
            // The programs skip what is not selected. If the map is full, the agent skips it.
            let decision =
                if identity.selected { FilterDecision::INCLUDE } else { FilterDecision::EXCLUDE };
            let _ = self.device_filter.insert(backing, decision, 0);
        }
        if self.cache.len() >= CACHED {
            // Those that are gone are looked up again, by what their keys have.
            let (mounts, devices) = (&self.mounts, &self.devices);
            self.cache.retain(|backing, _| !is_gone(mounts, devices, backing));
        }
        let identity = Rc::new(identity);
        self.cache.insert(backing, Rc::clone(&identity));
        identity
    }

    fn identify(&self, backing: &Backing) -> Identity {
        let device = name(&backing.name);
        let backing = if backing.kind == BY_DEV {
            Some(self.by_super_block(device_id(backing), name(&backing.fs).into(), device.into()))
        } else {
            self.mounts.by_bdi_name(&device)
        };
        let members = backing.as_ref().map(|device| device.members.as_slice()).unwrap_or_default();
        let selected = self.selects(members);
        let own = backing.as_ref().map(|device| device.dev);
        let all = members.iter().copied().chain(own);
        let risk = all.filter_map(|dev| risk(&self.sysfs, &self.mounts, dev)).min();
        Identity { backing, selected, risk }
    }

    /// The device of a file system, by what its super block has. `name` is the device's name in the
    /// kernel, or for a file system without a device whatever names it.
    fn by_super_block(&self, dev: DeviceId, fs: String, name: String) -> BackingDevice {
        let found = self.mounts.by_dev(dev).or_else(|| self.mounts.by_block_name(&name));
        // Without a device it is gone, or its file system has none and is mounted elsewhere only.
        let found = found.unwrap_or_else(|| {
            let device = if name.is_empty() { dev.to_string() } else { name };
            BackingDevice { device, dev, fs: None, disks: Vec::new(), members: Vec::new() }
        });
        BackingDevice { fs: Some(fs_type(fs, found.fs)), ..found }
    }

    /// Fills the map of file systems and devices below which data is checked.
    fn update_all_checked_devices(&mut self) {
        let mounted = self.mounts.all().iter();
        let mounted = mounted
            .filter(|mount| mount.dev.major != 0 || mount.source.starts_with("/dev/"))
            .map(|mount| mount.dev);
        let gone = self.checked.all();
        let all: BTreeSet<_> = mounted.chain(self.devices.iter().copied()).chain(gone).collect();
        for dev in all {
            self.checked.update(&self.sysfs, &self.mounts, dev);
        }
    }
}

/// The kernel's type of a file system: the mounts may be those of another namespace. They tell what FUSE
/// serves, as in `fuse.sshfs` (`show_type`, `fs/proc_namespace.c`, 6.12).
fn fs_type(kernel: String, mounted: Option<String>) -> String {
    let subtype = format!("{kernel}.");
    mounted.filter(|mounted| mounted.starts_with(&subtype)).unwrap_or(kernel)
}

/// [`Identities::is_gone`], with the sorted block devices.
fn is_gone(mounts: &Mounts, devices: &[DeviceId], backing: &Backing) -> bool {
    if backing.kind != BY_DEV {
        return false;
    }
    let dev = device_id(backing);
    if backing.is_type(*b"bdev\0\0\0\0") || backing.is_type(*b"swap\0\0\0\0") {
        devices.binary_search(&dev).is_err()
    } else {
        mounts.first_of(dev).is_none()
    }
}

/// Whether a cached identity may have changed with mounts of these devices and disks.
fn is_related(changed: &BTreeSet<DeviceId>, backing: &Backing, identity: &Identity) -> bool {
    if backing.kind == BY_DEV && changed.contains(&device_id(backing)) {
        return true;
    }
    // The name of a backing device is a number, or `btrfs-N`, of which only the identity tells the
    // members.
    let named = name(&backing.name).parse().is_ok_and(|dev| changed.contains(&dev));
    let Some(found) = &identity.backing else { return true };
    let mut devices = found.members.iter().chain(&found.disks).chain([&found.dev]);
    named || devices.any(|dev| changed.contains(dev))
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
    let (major, minor) = numbers(subvolume);
    Some(DeviceId::new(major, minor))
}

/// The numbers of all block devices, sorted.
fn block_devices(sysfs: &Path) -> Vec<DeviceId> {
    let entries = entries(&sysfs.join("dev/block")).unwrap_or_default();
    let mut devices: Vec<_> = entries.iter().filter_map(|(name, _)| name.parse().ok()).collect();
    devices.sort_unstable();
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_the_kernels_with_the_subtype_of_the_mount() {
        for (kernel, mounted, expected) in [
            ("fuse", Some("fuse.sshfs"), "fuse.sshfs"),
            ("fuse", Some("fuse"), "fuse"),
            ("xfs", Some("ext4"), "xfs"),
            ("ext4", None, "ext4"),
        ] {
            assert_eq!(fs_type(kernel.to_owned(), mounted.map(str::to_owned)), expected);
        }
    }
}
