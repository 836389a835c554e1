//! `queue/stable_writes`: what a file system looks at when it is mounted, and whether this kernel
//! lets it be switched off.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use stable_trace_analysis::event::Device;

use super::{args::Fs, error::ExperimentError, plan::Arm};
use crate::kernel::sysfs;

/// Which arms can be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Switching {
    /// Both.
    Both,
    /// This one alone.
    Only(
        Arm,
        /// Why, in one sentence.
        String,
    ),
}

/// Where a disk's switch is.
pub fn path(disk: &str) -> PathBuf {
    sysfs::disk_folder(Path::new("/sys"), disk).join("queue/stable_writes")
}

/// What stands there; nothing where there is no such file.
pub fn read(disk: &str) -> Option<String> {
    sysfs::read(&path(disk))
}

/// Sets it.
///
/// # Errors
/// The kernel refuses.
pub fn set(disk: &str, arm: Arm) -> Result<(), ExperimentError> {
    let (path, value) = (path(disk), value(arm));
    fs::write(&path, value).map_err(|source| ExperimentError::Switch {
        path,
        value: value.to_owned(),
        source,
    })
}

/// Writes what stood there, unless it does; whether it was written. A disk that is gone has nothing
/// to be written.
pub fn restore(disk: &str, before: &str) -> io::Result<bool> {
    match read(disk) {
        Some(now) if now != before => fs::write(path(disk), before).map(|()| true),
        _ => Ok(false),
    }
}

/// Whether the switch takes what is written to it. Leaves it as it was found.
pub fn answers(disk: &str) -> Result<(), String> {
    let before = read(disk).ok_or_else(|| format!("there is no {}", path(disk).display()))?;
    let tried = [Arm::On, Arm::Off].into_iter().try_for_each(|arm| {
        set(disk, arm).map_err(|error| error.to_string())?;
        match read(disk) {
            Some(now) if now == value(arm) => Ok(()),
            _ => Err(format!("{} does not keep what is written to it", path(disk).display())),
        }
    });
    restore(disk, &before).map_err(|error| error.to_string())?;
    tried
}

const fn value(arm: Arm) -> &'static str {
    match arm {
        Arm::On => "1",
        Arm::Off => "0",
    }
}

/// Which arms a file system on this device has. `answer` is what came of trying the switch,
/// `implied` whether this kernel has checksums alone keep pages stable.
#[must_use]
pub fn switching(fs: Fs, device: &Device, implied: bool, answer: &Result<(), String>) -> Switching {
    // btrfs waits for a page's writeback whatever the device says, since its checksum is made when
    // the writeback starts (fs/btrfs/file.c, prepare_one_folio, 6.12; AS_STABLE_WRITES, 6.17).
    if fs == Fs::Btrfs {
        let why =
            "btrfs has checksums of its own and keeps pages stable whatever the device asks for";
        return Switching::Only(Arm::On, why.to_owned());
    }
    match (&device.integrity, answer) {
        (Some(integrity), _) if implied && device.stable_writes => Switching::Only(
            Arm::On,
            format!(
                "{} has protection information ({}), which alone makes this kernel keep pages \
                 stable: stable writes cannot be switched off",
                device.device, integrity.format
            ),
        ),
        (_, Ok(())) => Switching::Both,
        (_, Err(why)) => {
            let arm = if device.stable_writes { Arm::On } else { Arm::Off };
            Switching::Only(arm, format!("stable writes cannot be switched: {why}"))
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
        }
    }

    fn only(switching: Switching) -> (Arm, String) {
        match switching {
            Switching::Only(arm, why) => (arm, why),
            Switching::Both => panic!("both"),
        }
    }

    #[test]
    fn a_disk_that_checks_can_be_switched_off_on_old_kernels_alone() {
        let disk = device(true, true);
        assert_eq!(switching(Fs::Ext4, &disk, false, &Ok(())), Switching::Both);
        let (arm, why) = only(switching(Fs::Ext4, &disk, true, &Ok(())));
        assert!(arm == Arm::On && why.contains("T10-DIF-TYPE1-CRC"), "{why}");
        assert_eq!(switching(Fs::Xfs, &device(false, false), true, &Ok(())), Switching::Both);
    }

    #[test]
    fn btrfs_has_one_arm() {
        let (arm, why) = only(switching(Fs::Btrfs, &device(false, false), true, &Ok(())));
        assert!(arm == Arm::On && why.contains("checksums of its own"), "{why}");
    }

    #[test]
    fn without_a_switch_there_is_the_arm_that_it_is_in() {
        let answer = Err("there is no switch".to_owned());
        for (stable, arm) in [(true, Arm::On), (false, Arm::Off)] {
            let (found, why) = only(switching(Fs::Ext4, &device(stable, false), true, &answer));
            assert!(found == arm && why.contains("there is no switch"), "{why}");
        }
    }
}
