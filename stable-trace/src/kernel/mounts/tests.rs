//! With a sysfs of plain files.

use rustix::mount::{UnmountFlags, unmount};

use super::*;
use crate::kernel::{
    private_mount::{self, PrivateMountError},
    test_sysfs::TestSysfs,
};

/// A disk `sda` (8:0) with two partitions, `loop0` without any, and a btrfs over both `sdb` and
/// `sdc`.
fn sysfs() -> TestSysfs {
    let sysfs = TestSysfs::new();
    for (name, dev) in [
        ("sda", "8:0"),
        ("sda/sda1", "8:1"),
        ("sda/sda2", "259:7"),
        ("loop0", "7:0"),
        ("sdb", "8:16"),
        ("sdc", "8:32"),
        ("cciss!c0d0", "104:0"),
    ] {
        sysfs.device(name, dev);
    }
    sysfs.file("fs/btrfs/features/raid56", "0");
    for (uuid, bdi, devices) in
        [("aaaa", "btrfs-1", vec!["sdb"]), ("bbbb", "btrfs-2", vec!["sdb", "sdc"])]
    {
        sysfs.link(&format!("fs/btrfs/{uuid}/bdi"), &format!("devices/virtual/bdi/{bdi}"));
        for device in devices {
            let link = format!("fs/btrfs/{uuid}/devices/{device}");
            sysfs.link(&link, &format!("devices/{device}"));
        }
    }
    sysfs
}

fn backing(device: &str, dev: &str, fs: Option<&str>, disks: &[DeviceId]) -> BackingDevice {
    BackingDevice {
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
fn one_mounted_partition_replaces_its_disk() {
    let sysfs = sysfs();
    let mounts = Mounts::from_text(PLAIN, sysfs.path());
    assert_eq!(
        mounts.by_bdi_name("8:0"),
        Some(backing("sda1", "8:1", Some("ext4"), &[DeviceId::new(8, 0)]))
    );
    assert_eq!(
        mounts.by_bdi_name("7:0"),
        Some(backing("loop0", "7:0", Some("xfs"), &[DeviceId::new(7, 0)]))
    );
    assert_eq!(
        mounts.by_bdi_name("104:0"),
        Some(backing("cciss/c0d0", "104:0", Some("ext2"), &[DeviceId::new(104, 0)]))
    );
}

#[test]
fn several_mounted_partitions_resolve_to_the_disk() {
    let sysfs = sysfs();
    let same = format!("{PLAIN}28 22 259:7 / /home rw - ext4 /dev/sda2 rw\n");
    let mounts = Mounts::from_text(&same, sysfs.path());
    assert_eq!(
        mounts.by_bdi_name("8:0"),
        Some(backing("sda", "8:0", Some("ext4"), &[DeviceId::new(8, 0)]))
    );
    let other = same.replace("ext4 /dev/sda2", "xfs /dev/sda2");
    let mounts = Mounts::from_text(&other, sysfs.path());
    assert_eq!(
        mounts.by_bdi_name("8:0"),
        Some(backing("sda", "8:0", None, &[DeviceId::new(8, 0)]))
    );
}

#[test]
fn an_unmounted_disk_has_no_file_system() {
    let sysfs = sysfs();
    let mounts = Mounts::from_text("", sysfs.path());
    assert_eq!(
        mounts.by_bdi_name("8:0"),
        Some(backing("sda", "8:0", None, &[DeviceId::new(8, 0)]))
    );
    assert_eq!(mounts.by_bdi_name("9:9"), None);
    assert_eq!(mounts.by_bdi_name("(unknown)"), None);
    assert_eq!(mounts.by_bdi_name(""), None);
}

const BOTH: &[DeviceId] = &[DeviceId::new(8, 16), DeviceId::new(8, 32)];

#[test]
fn a_file_system_number_resolves_to_its_device() {
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
fn btrfs_is_found_by_its_bdi_link() {
    let sysfs = sysfs();
    let mounts = Mounts::from_text(PLAIN, sysfs.path());
    assert_eq!(
        mounts.by_bdi_name("btrfs-1"),
        Some(backing("sdb", "8:16", Some("btrfs"), &[DeviceId::new(8, 16)]))
    );
    assert_eq!(mounts.by_bdi_name("btrfs-2"), Some(backing("sdc", "8:32", Some("btrfs"), BOTH)));
    let unmounted = Mounts::from_text("", sysfs.path());
    assert_eq!(unmounted.by_bdi_name("btrfs-2"), Some(backing("sdb", "8:16", Some("btrfs"), BOTH)));
    assert_eq!(mounts.by_bdi_name("btrfs-3"), None);
}

#[test]
fn a_network_file_system_is_found_by_its_number() {
    let sysfs = sysfs();
    let mounts = Mounts::from_text(PLAIN, sysfs.path());
    assert_eq!(mounts.by_bdi_name("0:52"), Some(backing("0:52", "0:52", Some("nfs"), &[])));
}

#[test]
fn mounts_of_this_process_are_read() {
    let mounts = Mounts::load().unwrap();
    assert!(mounts.all().iter().any(|mount| mount.point == "/proc"));
}

#[test]
fn a_change_is_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    let point = folder.path().to_str().unwrap().to_owned();
    let tried = private_mount::with("tmpfs", folder.path(), |root| {
        // `/proc/self` is the process, which has other mounts than this thread.
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
