//! The sysfs attribute `queue/stable_writes`, which file systems read when they are mounted, and
//! whether this kernel allows it to be cleared.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use stable_trace_analysis::{error_chain::ErrorChain, event::Device};

use super::{args::Fs, error::ExperimentError, plan::Arm};
use crate::kernel::sysfs;

/// The arms that can be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MeasurableArms {
    Both,
    /// One arm, and the reason.
    Only(Arm, String),
}

pub(super) fn path(disk: &str) -> PathBuf {
    sysfs::disk_folder(Path::new("/sys"), disk).join("queue/stable_writes")
}

/// The value; `None` if the attribute does not exist.
pub(super) fn read(disk: &str) -> Option<String> {
    sysfs::read(&path(disk))
}

pub(super) fn set(disk: &str, arm: Arm) -> Result<(), ExperimentError> {
    let (path, value) = (path(disk), value(arm));
    fs::write(&path, value).map_err(|source| ExperimentError::SetStableWrites {
        path,
        value: value.to_owned(),
        source,
    })
}

/// Restores the value `before`; returns whether a write was needed. Does nothing if the disk does
/// not exist any more.
pub(super) fn restore(disk: &str, before: &str) -> io::Result<bool> {
    match read(disk) {
        Some(now) if now != before => fs::write(path(disk), before).map(|()| true),
        _ => Ok(false),
    }
}

/// Checks that the attribute keeps both values. Restores the value that it had. The error is the
/// reason why it does not.
pub(super) fn check_writable(disk: &str) -> Result<(), String> {
    let before = read(disk).ok_or_else(|| format!("{} does not exist", path(disk).display()))?;
    let checked = [Arm::On, Arm::Off].into_iter().try_for_each(|arm| {
        set(disk, arm).map_err(|error| ErrorChain(&error).to_string())?;
        match read(disk) {
            Some(now) if now == value(arm) => Ok(()),
            _ => Err(format!("{} does not keep a written value", path(disk).display())),
        }
    });
    restore(disk, &before).map_err(|error| error.to_string())?;
    checked
}

const fn value(arm: Arm) -> &'static str {
    match arm {
        Arm::On => "1",
        Arm::Off => "0",
    }
}

/// The arms that a file system on this device has. `implied` is whether this kernel keeps pages
/// stable for every device with checksums; `writable` is the result of [`check_writable`].
pub(super) fn measurable_arms(
    fs: Fs,
    device: &Device,
    implied: bool,
    writable: &Result<(), String>,
) -> MeasurableArms {
    // btrfs waits for writeback on every device, because it computes a page's checksum when the
    // writeback starts (fs/btrfs/file.c, prepare_one_folio, 6.12; AS_STABLE_WRITES, 6.17).
    if fs == Fs::Btrfs {
        let reason = "btrfs has checksums of its own and keeps pages stable on every device";
        return MeasurableArms::Only(Arm::On, reason.to_owned());
    }
    match (&device.integrity, writable) {
        (Some(integrity), _) if implied && device.stable_writes => MeasurableArms::Only(
            Arm::On,
            format!(
                "{} has protection information ({}), for which this kernel always keeps pages \
                 stable: stable writes cannot be switched off",
                device.device, integrity.format
            ),
        ),
        (_, Ok(())) => MeasurableArms::Both,
        (_, Err(reason)) => {
            let arm = if device.stable_writes { Arm::On } else { Arm::Off };
            MeasurableArms::Only(arm, format!("stable writes cannot be switched: {reason}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stable_trace_analysis::event::Protection;

    fn device(stable_writes: bool, integrity: bool) -> Device {
        let format = "T10-DIF-TYPE1-CRC".to_owned();
        Device {
            device: "sda".to_owned(),
            dev: stable_trace_analysis::units::DeviceId::new(8, 0),
            stable_writes,
            integrity: integrity.then_some(Protection {
                format,
                tag_size: 0,
                interval_bytes: None,
            }),
            risk: None,
        }
    }

    fn only(arms: MeasurableArms) -> (Arm, String) {
        match arms {
            MeasurableArms::Only(arm, reason) => (arm, reason),
            MeasurableArms::Both => panic!("both"),
        }
    }

    #[test]
    fn a_disk_with_checksums_has_both_arms_on_old_kernels_only() {
        let disk = device(true, true);
        assert_eq!(measurable_arms(Fs::Ext4, &disk, false, &Ok(())), MeasurableArms::Both);
        let (arm, reason) = only(measurable_arms(Fs::Ext4, &disk, true, &Ok(())));
        assert!(arm == Arm::On && reason.contains("T10-DIF-TYPE1-CRC"), "{reason}");
        assert_eq!(
            measurable_arms(Fs::Xfs, &device(false, false), true, &Ok(())),
            MeasurableArms::Both
        );
    }

    #[test]
    fn btrfs_has_one_arm() {
        let (arm, reason) = only(measurable_arms(Fs::Btrfs, &device(false, false), true, &Ok(())));
        assert!(arm == Arm::On && reason.contains("checksums of its own"), "{reason}");
    }

    #[test]
    fn an_unwritable_attribute_leaves_the_current_arm() {
        let unwritable = Err("there is no switch".to_owned());
        for (stable, arm) in [(true, Arm::On), (false, Arm::Off)] {
            let (found, reason) =
                only(measurable_arms(Fs::Ext4, &device(stable, false), true, &unwritable));
            assert!(found == arm && reason.contains("there is no switch"), "{reason}");
        }
    }
}
