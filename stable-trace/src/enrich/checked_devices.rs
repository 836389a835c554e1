//! The maps by which the programs know the devices that check data, and how devices are stacked.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use aya::maps::{HashMap as KernelMap, MapData};
use stable_trace_analysis::{event::Risk, units::DeviceId};
use stable_trace_common::{
    backing::dev_t,
    integrity::{CHECKSUMMED, OWN_CHECKSUMS, PROTECTED, stacked_on},
};

use crate::kernel::{
    data_risk::{own_risk, risk},
    device_stack::with_lower_devices,
    mounts::Mounts,
    sysfs::block_folder,
};

/// The maps `CHECKED_DEVICES` and `STACKED_ON`, and what is in them.
pub(super) struct CheckedDevices {
    checked: KernelMap<MapData, u32, u32>,
    stacked: KernelMap<MapData, u64, u32>,
    /// The devices in the first map, with those below each, which are in the second.
    known: HashMap<DeviceId, BTreeSet<DeviceId>>,
}

impl CheckedDevices {
    pub(super) fn new(
        checked: KernelMap<MapData, u32, u32>,
        stacked: KernelMap<MapData, u64, u32>,
    ) -> Self {
        Self { checked, stacked, known: HashMap::new() }
    }

    /// The devices below which data is checked, or that check it.
    pub(super) fn all(&self) -> impl Iterator<Item = DeviceId> {
        self.known.keys().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(super) fn contains(&self, dev: DeviceId) -> bool {
        self.known.contains_key(&dev)
    }

    /// Looks a device up again.
    pub(super) fn update(&mut self, sysfs: &Path, mounts: &Mounts, dev: DeviceId) {
        let mut kind = match risk(sysfs, mounts, dev) {
            Some(Risk::ProtectionInformation) => PROTECTED,
            Some(Risk::Checksums) => CHECKSUMMED,
            Some(Risk::Mirrors) | None => return self.remove(dev),
        };
        if own_risk(&block_folder(sysfs, dev), dev) == Some(Risk::Checksums) {
            kind |= OWN_CHECKSUMS;
        }
        // If a map is full, unstable writes are still counted, and graded by the agent; a device above may report an
        // error again.
        let _ = self.checked.insert(number(dev), kind, 0);
        let mut below = with_lower_devices(sysfs, mounts, dev);
        below.remove(&dev);
        let before = self.known.insert(dev, below.clone()).unwrap_or_default();
        for gone in before.difference(&below) {
            let _ = self.stacked.remove(&stacked_on(number(dev), number(*gone)));
        }
        for new in below.difference(&before) {
            let _ = self.stacked.insert(stacked_on(number(dev), number(*new)), 1, 0);
        }
    }

    fn remove(&mut self, dev: DeviceId) {
        let Some(below) = self.known.remove(&dev) else { return };
        let _ = self.checked.remove(&number(dev));
        for lower in below {
            let _ = self.stacked.remove(&stacked_on(number(dev), number(lower)));
        }
    }
}

fn number(dev: DeviceId) -> u32 {
    dev_t(dev.major, dev.minor)
}
