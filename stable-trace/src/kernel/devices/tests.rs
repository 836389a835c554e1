//! With a sysfs of plain files.

use super::*;
use crate::kernel::test_sysfs::TestSysfs;

const OLD: Release = Release::new(6, 1);
const NEW: Release = Release::new(6, 12);

/// `sda` with PI and a partition, `nvme0n1` with metadata that nothing checks, `dm-0` that requires
/// stable pages, `loop0` that does not, and `sdb` as 5.4 shows it.
fn sysfs() -> TestSysfs {
    let sysfs = TestSysfs::with_devices(&[
        ("sda", "8:0"),
        ("sda/sda1", "8:1"),
        ("nvme0n1", "259:0"),
        ("dm-0", "252:0"),
        ("loop0", "7:0"),
        ("sdb", "8:16"),
        ("cciss!c0d0", "104:0"),
    ]);
    for (path, text) in [
        ("sda/queue/stable_writes", "0"),
        ("sda/integrity/format", "T10-DIF-TYPE1-CRC"),
        ("sda/integrity/tag_size", "2"),
        ("sda/integrity/protection_interval_bytes", "512"),
        ("nvme0n1/queue/stable_writes", "0"),
        ("nvme0n1/integrity/format", "nop"),
        ("dm-0/queue/stable_writes", "1"),
        ("dm-0/integrity/format", "none"),
        ("dm-0/dm/name", "vg-root"),
        ("loop0/queue/stable_writes", "0"),
        ("sdb/bdi/stable_pages_required", "1"),
        ("broken/size", "0"),
    ] {
        sysfs.file(&format!("devices/{path}"), text);
    }
    sysfs.named("broken", "broken");
    sysfs
}

fn device(sysfs: &TestSysfs, kernel: Release, name: &str) -> Device {
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
fn a_partition_stays_a_partition() {
    let sysfs = sysfs();
    let device = |wanted| resolve_device(sysfs.path(), wanted).unwrap();
    for wanted in ["sda", "8:0"] {
        assert_eq!(device(wanted), DeviceId::new(8, 0), "{wanted}");
    }
    for wanted in ["sda1", "8:1"] {
        assert_eq!(device(wanted), DeviceId::new(8, 1), "{wanted}");
    }
    assert_eq!(device("vg-root"), DeviceId::new(252, 0));
}

#[test]
fn the_disk_of_a_partition_is_found() {
    let sysfs = sysfs();
    let disk = |wanted| resolve_disk(sysfs.path(), wanted).unwrap();
    let sda = DiskId { name: "sda".to_owned(), dev: DeviceId::new(8, 0) };
    for wanted in ["sda", "sda1", "8:0", "8:1"] {
        assert_eq!(disk(wanted), sda, "{wanted}");
    }
    assert_eq!(disk("vg-root").name, "dm-0");
    assert_eq!(disk("cciss/c0d0").name, "cciss/c0d0");
}

#[test]
fn the_error_for_an_unknown_device_lists_similar_names() {
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
fn listing_without_sysfs_fails() {
    let root = tempfile::tempdir().unwrap();
    assert!(list(root.path(), NEW).unwrap_err().to_string().contains("is sysfs mounted?"));
}
