//! Against a sysfs made of plain files.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const OLD: Release = Release::new(6, 1);
const NEW: Release = Release::new(6, 12);

/// `sda` with PI and a partition, `nvme0n1` with metadata that nothing checks, `dm-0` that asks for
/// stable pages, `loop0` that asks for nothing, and `sdb` as 5.4 showed it.
fn sysfs() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    for (path, text) in [
        ("sda/dev", "8:0"),
        ("sda/queue/stable_writes", "0"),
        ("sda/integrity/format", "T10-DIF-TYPE1-CRC"),
        ("sda/integrity/tag_size", "2"),
        ("sda/integrity/protection_interval_bytes", "512"),
        ("sda/sda1/dev", "8:1"),
        ("sda/sda1/partition", "1"),
        ("nvme0n1/dev", "259:0"),
        ("nvme0n1/queue/stable_writes", "0"),
        ("nvme0n1/integrity/format", "nop"),
        ("dm-0/dev", "252:0"),
        ("dm-0/queue/stable_writes", "1"),
        ("dm-0/integrity/format", "none"),
        ("dm-0/dm/name", "vg-root"),
        ("loop0/dev", "7:0"),
        ("loop0/queue/stable_writes", "0"),
        ("sdb/dev", "8:16"),
        ("sdb/bdi/stable_pages_required", "1"),
        ("cciss!c0d0/dev", "104:0"),
        ("broken/size", "0"),
    ] {
        let path = at("devices").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
    for folder in ["block", "class/block", "dev/block"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    for name in ["sda", "sda/sda1", "nvme0n1", "dm-0", "loop0", "sdb", "cciss!c0d0", "broken"] {
        let target = at("devices").join(name);
        let base = target.file_name().unwrap();
        if !name.contains('/') {
            symlink(&target, at("block").join(base)).unwrap();
        }
        symlink(&target, at("class/block").join(base)).unwrap();
        if let Ok(dev) = fs::read_to_string(target.join("dev")) {
            symlink(&target, at("dev/block").join(dev.trim())).unwrap();
        }
    }
    root
}

fn device(sysfs: &TempDir, kernel: Release, name: &str) -> Device {
    let devices = list(sysfs.path(), kernel).unwrap();
    devices.into_iter().find(|device| device.device == name).unwrap()
}

#[test]
fn devices_are_listed_by_number() {
    let sysfs = sysfs();
    let devices = list(sysfs.path(), NEW).unwrap();
    let names: Vec<_> = devices.iter().map(|device| device.device.as_str()).collect();
    assert_eq!(names, ["loop0", "sda", "sdb", "cciss/c0d0", "dm-0", "nvme0n1"]);
    assert_eq!(devices[1].dev, DeviceId::new(8, 0));
}

#[test]
fn checksums_force_stable_pages_on_new_kernels_only() {
    let sysfs = sysfs();
    assert!(device(&sysfs, NEW, "sda").stable_writes);
    assert!(!device(&sysfs, OLD, "sda").stable_writes, "the flag alone counts, and it is 0");
    assert!(!device(&sysfs, NEW, "nvme0n1").stable_writes, "nothing checks nop");
    assert!(device(&sysfs, OLD, "dm-0").stable_writes);
    assert!(device(&sysfs, Release::new(5, 4), "sdb").stable_writes);
    assert!(!device(&sysfs, NEW, "loop0").stable_writes);
}

#[test]
fn protection_information_is_described() {
    let sysfs = sysfs();
    assert_eq!(
        device(&sysfs, NEW, "sda").integrity,
        Some(Protection {
            format: "T10-DIF-TYPE1-CRC".to_owned(),
            tag_size: 2,
            interval_bytes: Some(512)
        })
    );
    let nop = device(&sysfs, NEW, "nvme0n1").integrity.unwrap();
    assert_eq!((nop.tag_size, nop.interval_bytes), (0, None));
    assert_eq!(device(&sysfs, NEW, "dm-0").integrity, None);
    assert_eq!(device(&sysfs, NEW, "loop0").integrity, None);
}

#[test]
fn a_partition_stands_for_its_disk() {
    let sysfs = sysfs();
    let disk = |wanted| resolve_device(sysfs.path(), wanted).unwrap();
    let sda = DiskId { name: "sda".to_owned(), dev: DeviceId::new(8, 0) };
    for wanted in ["sda", "sda1", "8:0", "8:1"] {
        assert_eq!(disk(wanted), sda, "{wanted}");
    }
    assert_eq!(disk("vg-root").name, "dm-0");
    assert_eq!(disk("cciss/c0d0").name, "cciss/c0d0");
}

#[test]
fn an_unknown_device_is_told_its_neighbours() {
    let sysfs = sysfs();
    let error = |wanted| resolve_device(sysfs.path(), wanted).unwrap_err().to_string();
    assert_eq!(error("sdz"), "no block device `sdz`; there is sda, sda1, sdb; see lsblk");
    assert!(error("9:9").contains("`9:9`; there is broken, cciss/c0d0"), "{}", error("9:9"));
    for wanted in ["", ".", "..", "../../etc", "8:", "x:y", "/nowhere/sda"] {
        assert!(error(wanted).starts_with("no block device"), "{}", error(wanted));
    }
    assert!(error("/proc/self/status").contains("is not a block device"));
}

#[test]
fn without_sysfs_there_is_no_list() {
    let root = tempfile::tempdir().unwrap();
    assert!(list(root.path(), NEW).unwrap_err().to_string().contains("is sysfs mounted?"));
}
