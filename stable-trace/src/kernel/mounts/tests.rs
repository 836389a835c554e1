//! Against a sysfs made of plain files.

use std::{fs, os::unix::fs::symlink};

use proptest::prelude::*;
use rustix::mount::{UnmountFlags, unmount};
use tempfile::TempDir;

use super::*;
use crate::kernel::private_mount::{self, PrivateMountError};

/// A disk `sda` (8:0) with two partitions, `loop0` without any, and a btrfs over both `sdb` and
/// `sdc`.
fn sysfs() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    let file = |path: &str, text: &str| {
        fs::create_dir_all(at(path).parent().unwrap()).unwrap();
        fs::write(at(path), text).unwrap();
    };
    fs::create_dir_all(at("dev/block")).unwrap();
    for (name, dev) in [
        ("sda", "8:0"),
        ("sda/sda1", "8:1"),
        ("sda/sda2", "259:7"),
        ("loop0", "7:0"),
        ("sdb", "8:16"),
        ("sdc", "8:32"),
        ("cciss!c0d0", "104:0"),
    ] {
        file(&format!("devices/block/{name}/dev"), &format!("{dev}\n"));
        if name.contains('/') {
            file(&format!("devices/block/{name}/partition"), "1\n");
        }
        symlink(format!("../../devices/block/{name}"), at(&format!("dev/block/{dev}"))).unwrap();
    }
    fs::create_dir_all(at("fs/btrfs/features")).unwrap();
    for (uuid, bdi, devices) in
        [("aaaa", "btrfs-1", vec!["sdb"]), ("bbbb", "btrfs-2", vec!["sdb", "sdc"])]
    {
        let home = format!("fs/btrfs/{uuid}");
        fs::create_dir_all(at(&format!("{home}/devices"))).unwrap();
        symlink(format!("../../../devices/virtual/bdi/{bdi}"), at(&format!("{home}/bdi"))).unwrap();
        for device in devices {
            let target = format!("../../../../devices/block/{device}");
            symlink(target, at(&format!("{home}/devices/{device}"))).unwrap();
        }
    }
    root
}

fn backing(device: &str, dev: &str, fs: Option<&str>, disks: &[DeviceId]) -> Backing {
    Backing {
        device: device.into(),
        dev: dev.parse().unwrap(),
        fs: fs.map(Into::into),
        disks: disks.into(),
    }
}

const PLAIN: &str = "22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 8:1 /sub /mnt\\040two rw,noatime shared:3 master:1 - ext4 /dev/sda1 rw
24 22 7:0 / /loop rw - xfs /dev/loop0 rw
25 22 0:52 / /net rw - nfs server:/export rw
26 22 0:53 / /pool rw - btrfs /dev/sdc rw,subvol=/
27 22 104:0 / /raid rw - ext2 /dev/cciss/c0d0 rw
";

#[test]
fn one_mounted_partition_stands_for_its_disk() {
    let sysfs = sysfs();
    let mounts = Mounts::from_text(PLAIN, sysfs.path());
    assert_eq!(
        mounts.backing("8:0"),
        Some(backing("sda1", "8:1", Some("ext4"), &[DeviceId::new(8, 0)]))
    );
    assert_eq!(
        mounts.backing("7:0"),
        Some(backing("loop0", "7:0", Some("xfs"), &[DeviceId::new(7, 0)]))
    );
    assert_eq!(
        mounts.backing("104:0"),
        Some(backing("cciss/c0d0", "104:0", Some("ext2"), &[DeviceId::new(104, 0)]))
    );
}

#[test]
fn several_mounted_partitions_leave_the_disk() {
    let sysfs = sysfs();
    let same = format!("{PLAIN}28 22 259:7 / /home rw - ext4 /dev/sda2 rw\n");
    let mounts = Mounts::from_text(&same, sysfs.path());
    assert_eq!(
        mounts.backing("8:0"),
        Some(backing("sda", "8:0", Some("ext4"), &[DeviceId::new(8, 0)]))
    );
    let other = same.replace("ext4 /dev/sda2", "xfs /dev/sda2");
    let mounts = Mounts::from_text(&other, sysfs.path());
    assert_eq!(mounts.backing("8:0"), Some(backing("sda", "8:0", None, &[DeviceId::new(8, 0)])));
}

#[test]
fn what_is_not_mounted_has_no_file_system() {
    let sysfs = sysfs();
    let mounts = Mounts::from_text("", sysfs.path());
    assert_eq!(mounts.backing("8:0"), Some(backing("sda", "8:0", None, &[DeviceId::new(8, 0)])));
    assert_eq!(mounts.backing("9:9"), None);
    assert_eq!(mounts.backing("(unknown)"), None);
    assert_eq!(mounts.backing(""), None);
}

const BOTH: &[DeviceId] = &[DeviceId::new(8, 16), DeviceId::new(8, 32)];

#[test]
fn a_file_system_s_own_number_leads_to_its_device() {
    let sysfs = sysfs();
    let mounts = Mounts::from_text(PLAIN, sysfs.path());
    assert_eq!(
        mounts.by_dev(DeviceId::new(8, 1)),
        Some(backing("sda1", "8:1", Some("ext4"), &[DeviceId::new(8, 0)]))
    );
    assert_eq!(
        mounts.by_dev(DeviceId::new(8, 0)),
        Some(backing("sda", "8:0", None, &[DeviceId::new(8, 0)]))
    );
    assert_eq!(
        mounts.by_dev(DeviceId::new(0, 53)),
        Some(backing("sdc", "8:32", Some("btrfs"), BOTH))
    );
    assert_eq!(
        mounts.by_dev(DeviceId::new(0, 52)),
        Some(backing("0:52", "0:52", Some("nfs"), &[]))
    );
    assert_eq!(mounts.by_dev(DeviceId::new(0, 99)), None);
}

#[test]
fn btrfs_is_found_by_the_link_to_its_backing_device() {
    let sysfs = sysfs();
    let mounts = Mounts::from_text(PLAIN, sysfs.path());
    assert_eq!(
        mounts.backing("btrfs-1"),
        Some(backing("sdb", "8:16", Some("btrfs"), &[DeviceId::new(8, 16)]))
    );
    assert_eq!(mounts.backing("btrfs-2"), Some(backing("sdc", "8:32", Some("btrfs"), BOTH)));
    let unmounted = Mounts::from_text("", sysfs.path());
    assert_eq!(unmounted.backing("btrfs-2"), Some(backing("sdb", "8:16", Some("btrfs"), BOTH)));
    assert_eq!(mounts.backing("btrfs-3"), None);
}

#[test]
fn a_network_file_system_is_found_by_its_number() {
    let sysfs = sysfs();
    let mounts = Mounts::from_text(PLAIN, sysfs.path());
    assert_eq!(mounts.backing("0:52"), Some(backing("0:52", "0:52", Some("nfs"), &[])));
}

#[test]
fn escapes_are_undone() {
    let mounts = parse(PLAIN);
    assert_eq!(mounts[1].point, "/mnt two");
    assert_eq!(unescape("a\\040b\\134c\\9\\04"), "a b\\c\\9\\04");
    assert_eq!(unescape("\\777"), "\\777");
}

#[test]
fn the_mounts_of_this_process() {
    let mounts = Mounts::load().unwrap();
    assert!(mounts.all().iter().any(|mount| mount.point == "/proc"));
}

#[test]
fn a_change_is_noticed_once() {
    let folder = tempfile::tempdir().unwrap();
    let point = folder.path().to_str().unwrap().to_owned();
    let tried = private_mount::with("tmpfs", folder.path(), |root| {
        // `self` is the process, whose mounts are others than this thread's.
        let mut mounts = Mounts::open(Path::new("/proc/thread-self/mountinfo")).unwrap();
        let is_there = |mounts: &Mounts| mounts.all().iter().any(|mount| mount.point == point);
        assert!(is_there(&mounts));
        assert!(!mounts.changed() && !mounts.refresh().unwrap());
        unmount(root, UnmountFlags::empty()).unwrap();
        assert!(mounts.refresh().unwrap());
        assert!(!is_there(&mounts));
        assert!(!mounts.refresh().unwrap());
    });
    match tried {
        Ok(()) => {}
        Err(PrivateMountError::Mount(errno)) => eprintln!("skipped: {errno}"),
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #[test]
    fn any_text_is_taken(text in "(.| - |[0-9]:[0-9]|\\\\[0-7]{1,3})*") {
        let _ = parse(&text);
        unescape(&text);
    }
}
