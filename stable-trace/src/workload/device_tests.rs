//! A small sysfs of disks that are, and are not, test disks.

use super::*;
use std::os::unix::fs::symlink;

const MOUNTINFO: &str = "\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:40 / /mnt/my\\040disk rw - btrfs /dev/sdb rw
31 21 0:41 / /tmp rw - tmpfs tmpfs rw
";

/// `sda` with a partition, `sdb` (`scsi_debug`), `nvme0n1` (QEMU), `loop3`, `dm-0` over sdb and sda1.
fn sysfs() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let sys = root.path();
    fs::create_dir_all(sys.join("dev/block")).unwrap();
    for (name, number, model) in [
        ("sda", "8:0", "ST4000NM"),
        ("sda/sda1", "8:1", ""),
        ("sdb", "8:16", "scsi_debug      "),
        ("nvme0n1", "259:0", "QEMU NVMe Ctrl    "),
        ("loop3", "7:3", ""),
        ("loopback", "7:99", ""),
        ("vda", "254:0", ""),
        ("dm-0", "253:0", ""),
        ("dm-1", "253:1", ""),
    ] {
        let dir = sys.join("block").join(name);
        fs::create_dir_all(dir.join("holders")).unwrap();
        fs::write(dir.join("dev"), format!("{number}\n")).unwrap();
        if !model.is_empty() {
            fs::create_dir_all(dir.join("device")).unwrap();
            fs::write(dir.join("device/model"), format!("{model}\n")).unwrap();
        }
        symlink(&dir, sys.join("dev/block").join(number)).unwrap();
    }
    fs::write(sys.join("block/sda/sda1/partition"), "1\n").unwrap();
    for (upper, lower) in [("dm-0", "sdb"), ("dm-0", "sda/sda1"), ("dm-1", "sdb")] {
        let slaves = sys.join("block").join(upper).join("slaves");
        fs::create_dir_all(&slaves).unwrap();
        let lower = sys.join("block").join(lower);
        symlink(&lower, slaves.join(lower.file_name().unwrap())).unwrap();
    }
    symlink(sys.join("block/dm-1"), sys.join("block/nvme0n1/holders/dm-1")).unwrap();
    root
}

fn verdict(number: Number) -> Option<(String, String)> {
    let root = sysfs();
    let kernel = Kernel { sys: root.path(), mountinfo: MOUNTINFO };
    let disk = kernel.directory(number).unwrap();
    not_a_test_disk(&disk, DEEPEST)
}

#[test]
fn test_disks_are_known() {
    for number in [Number(8, 16), Number(259, 0), Number(7, 3), Number(253, 1)] {
        assert_eq!(verdict(number), None, "{number:?}");
    }
}

#[test]
fn others_are_named_with_the_reason() {
    let real = ("sda".to_owned(), "its model is ST4000NM".to_owned());
    assert_eq!(verdict(Number(8, 0)).as_ref(), Some(&real));
    // A partition is its disk, and a stack is as real as its most real disk.
    assert_eq!(verdict(Number(8, 1)).as_ref(), Some(&real));
    assert_eq!(verdict(Number(253, 0)).as_ref(), Some(&real));
    assert_eq!(verdict(Number(254, 0)).unwrap().1, "it has no model name");
    assert!(verdict(Number(7, 99)).is_some());
}

#[test]
fn users_of_disk_and_partitions_are_found() {
    let root = sysfs();
    let kernel = Kernel { sys: root.path(), mountinfo: MOUNTINFO };
    assert_eq!(kernel.user(Number(8, 0)).unwrap(), "sda1 is mounted on /");
    assert_eq!(kernel.user(Number(8, 1)).unwrap(), "sda1 is mounted on /");
    assert_eq!(kernel.user(Number(8, 16)).unwrap(), "sdb is mounted on /mnt/my disk");
    assert_eq!(kernel.user(Number(259, 0)).unwrap(), "dm-1 holds nvme0n1");
    assert_eq!(kernel.user(Number(7, 3)), None);
}

#[test]
fn the_innermost_mount_wins() {
    let source = |path| source_of(MOUNTINFO, Path::new(path));
    assert_eq!(source("/mnt/my disk/a"), Some("/dev/sdb".into()));
    assert_eq!(source("/etc"), Some("/dev/sda1".into()));
    // Not the root's disk: nothing of it lies below a file in memory.
    assert_eq!(source("/tmp/a"), None);
}

#[test]
fn a_regular_file_is_no_device() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(Claim::new(file.path(), 4096), Err(WorkloadError::NotABlockDevice(_))));
}
