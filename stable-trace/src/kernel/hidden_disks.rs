//! The paths of NVMe native multipath: disks that sysfs lists by name but not by number.
//!
//! A path is a hidden disk (`nvme0c0n1`). Requests, and so failures, are the path's, while file systems
//! are on the multipath device (`nvme0n1`). A hidden disk has a number (`device_add_disk`,
//! block/genhd.c, 5.10 to 7.3), but neither a `dev` file nor a link in `dev/block`.

use std::{collections::BTreeSet, path::Path};

use stable_trace_analysis::units::DeviceId;

use super::sysfs;

/// The multipath device of the path with this number; `None` if the number is no path's.
pub(crate) fn head_of(sysfs: &Path, proc: &Path, number: DeviceId) -> Option<DeviceId> {
    if sysfs::block_folder(sysfs, number).exists() {
        return None;
    }
    let stats = sysfs::read(&proc.join("diskstats")).unwrap_or_default();
    let named: Vec<_> = stats.lines().filter_map(parse_line).collect();
    if let Some((_, name)) = named.iter().find(|(dev, _)| *dev == number) {
        return head(sysfs, name);
    }
    // Up to 5.14 diskstats shows 0:0 for hidden disks (`diskstats_show`, block/genhd.c, 5.10). If all
    // are paths of one device, it is that device.
    let without_number = named.iter().filter(|(dev, _)| *dev == DeviceId::new(0, 0));
    let heads: BTreeSet<_> = without_number.filter_map(|(_, name)| head(sysfs, name)).collect();
    let mut heads = heads.into_iter();
    heads.next().filter(|_| heads.next().is_none())
}

/// `MAJOR MINOR NAME …`.
fn parse_line(line: &str) -> Option<(DeviceId, &str)> {
    let mut words = line.split_ascii_whitespace();
    let (major, minor) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((DeviceId::new(major, minor), words.next()?))
}

fn head(sysfs: &Path, path: &str) -> Option<DeviceId> {
    sysfs::read_dev(&sysfs::disk_folder(sysfs, &head_name(path)?).join("dev"))
}

/// `nvme0n2` for `nvme0c1n2`: subsystem, controller and namespace (`nvme_mpath_set_disk_name`,
/// drivers/nvme/host/multipath.c, 6.1).
fn head_name(path: &str) -> Option<String> {
    let (subsystem, rest) = path.strip_prefix("nvme")?.split_once('c')?;
    let (controller, namespace) = rest.split_once('n')?;
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    let valid = [subsystem, controller, namespace].into_iter().all(is_number);
    valid.then(|| format!("nvme{subsystem}n{namespace}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::test_sysfs::TestSysfs;

    /// Two multipath devices with a path each, as `diskstats` numbers the paths.
    fn sysfs(paths: [&str; 2]) -> TestSysfs {
        let sysfs = TestSysfs::new();
        sysfs.device("nvme0n1", "259:1");
        sysfs.device("nvme1n1", "259:3");
        sysfs.file(
            "proc/diskstats",
            &format!(
                "   8       0 sda 1 2 3\n {} nvme0c0n1 0 0\n 259       1 nvme0n1 9\n {} nvme1c1n1 0",
                paths[0], paths[1]
            ),
        );
        sysfs
    }

    fn head(sysfs: &TestSysfs, number: &str) -> Option<String> {
        let head = head_of(sysfs.path(), &sysfs.path().join("proc"), number.parse().unwrap());
        head.map(|dev| dev.to_string())
    }

    #[test]
    fn a_path_leads_to_its_multipath_device() {
        let sysfs = sysfs(["259 0", "259 2"]);
        assert_eq!(head(&sysfs, "259:0").as_deref(), Some("259:1"));
        assert_eq!(head(&sysfs, "259:2").as_deref(), Some("259:3"));
        assert_eq!(head(&sysfs, "259:1"), None, "a device with a number");
        assert_eq!(head(&sysfs, "66:6"), None);
    }

    #[test]
    fn paths_without_number_lead_to_their_only_device() {
        let two = sysfs(["0 0", "0 0"]);
        assert_eq!(head(&two, "259:0"), None, "it can be a path of either");
        let one = sysfs(["0 0", "259 2"]);
        assert_eq!(head(&one, "259:0").as_deref(), Some("259:1"));
    }

    #[test]
    fn only_names_of_paths_have_a_multipath_device() {
        assert_eq!(head_name("nvme12c3n45").as_deref(), Some("nvme12n45"));
        for name in ["nvme0n1", "sda", "nvmec0n1", "nvme0cn1", "nvme0c0n1p1", ""] {
            assert_eq!(head_name(name), None, "{name}");
        }
    }
}
