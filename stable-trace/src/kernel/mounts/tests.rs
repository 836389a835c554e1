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
    let sysfs = TestSysfs::with_devices(&[
        ("sda", "8:0"),
        ("sda/sda1", "8:1"),
        ("sda/sda2", "259:7"),
        ("loop0", "7:0"),
        ("sdb", "8:16"),
        ("sdc", "8:32"),
        ("cciss!c0d0", "104:0"),
    ]);
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

/// On one block device, which is `dev`, or on no block device.
fn backing(device: &str, dev: &str, fs: Option<&str>, disks: &[DeviceId]) -> BackingDevice {
    let dev = dev.parse().unwrap();
    BackingDevice {
        device: device.into(),
        dev,
        fs: fs.map(Into::into),
        disks: disks.into(),
        members: if disks.is_empty() { Vec::new() } else { vec![dev] },
    }
}

/// The btrfs over `sdb` and `sdc`.
fn on_both(device: &str, dev: &str) -> BackingDevice {
    BackingDevice { members: BOTH.into(), ..backing(device, dev, Some("btrfs"), BOTH) }
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
    assert_eq!(mounts.by_dev(DeviceId::new(0, 53)), Some(on_both("sdc", "8:32")));
    assert_eq!(
        mounts.by_dev(DeviceId::new(0, 52)),
        Some(backing("server:/export", "0:52", Some("nfs"), &[]))
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
    assert_eq!(mounts.by_bdi_name("btrfs-2"), Some(on_both("sdc", "8:32")));
    let unmounted = Mounts::from_text("", sysfs.path());
    assert_eq!(unmounted.by_bdi_name("btrfs-2"), Some(on_both("sdb", "8:16")));
    assert_eq!(mounts.by_bdi_name("btrfs-3"), None);
}

#[test]
fn a_network_file_system_is_found_by_its_number() {
    let sysfs = sysfs();
    let mounts = Mounts::from_text(PLAIN, sysfs.path());
    assert_eq!(
        mounts.by_bdi_name("0:52"),
        Some(backing("server:/export", "0:52", Some("nfs"), &[]))
    );
}

#[test]
fn a_mount_without_a_device_has_the_name_of_its_source() {
    let sysfs = sysfs();
    let mounts = Mounts::from_text(
        "21 1 0:50 / /lab rw - 9p hostroot rw
22 1 0:51 / /home/me rw - fuse.sshfs me@host: rw
23 1 0:52 / /none rw - ceph none rw
24 1 0:53 / /tmp rw - tmpfs tmpfs rw
25 1 0:54 / /share rw - cifs //server/share rw
",
        sysfs.path(),
    );
    let name = |minor| mounts.by_dev(DeviceId::new(0, minor)).unwrap().device;
    let names = [50, 51, 52, 53, 54].map(name);
    assert_eq!(names, ["hostroot", "me@host:", "0:52", "0:53", "//server/share"]);
}

#[test]
fn only_file_systems_whose_mounts_differ_have_changed() {
    let sysfs = sysfs();
    let mut mounts = Mounts::from_text(PLAIN, sysfs.path());
    let mut change = |text: &str| -> Vec<String> {
        let changed = mounts.replace(parse(text));
        changed.iter().map(ToString::to_string).collect()
    };
    assert!(change(PLAIN).is_empty());
    assert_eq!(change(&PLAIN.replace("7:0 / /loop", "7:0 / /other")), ["7:0"]);
    let more = format!("{PLAIN}40 22 8:1 / /third ro - ext4 /dev/sda1 rw\n");
    assert_eq!(change(&more), ["7:0", "8:1"]);
    assert_eq!(change("25 22 0:52 / /net rw - nfs server:/export rw\n").len(), 4);
    assert_eq!(change(""), ["0:52"]);
}

#[test]
fn a_change_is_not_read_again_at_once() {
    let sysfs = sysfs();
    let mut mounts = Mounts::from_text(PLAIN, sysfs.path());
    mounts.read_took = Duration::from_millis(20);
    assert_eq!(mounts.rest(Refresh::Periodic), Duration::from_secs(1));
    assert_eq!(mounts.rest(Refresh::Lookup), Duration::from_millis(200));
    mounts.read_took = Duration::from_millis(1);
    assert_eq!(mounts.rest(Refresh::Periodic), MIN_INTERVAL);
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
        let refresh = |mounts: &mut Mounts| {
            mounts.read_took = Duration::ZERO;
            mounts.refresh(Refresh::Lookup).unwrap()
        };
        assert!(!mounts.changed() && refresh(&mut mounts).is_empty());
        let dev = mounts.all().iter().find(|mount| mount.point == point).unwrap().dev;
        unmount(root, UnmountFlags::empty()).unwrap();
        assert_eq!(refresh(&mut mounts), [dev].into());
        assert!(!is_there(&mounts));
        assert!(refresh(&mut mounts).is_empty());
    });
    match tried {
        Ok(()) => {}
        Err(PrivateMountError::Mount(errno)) => eprintln!("skipped: {errno}"),
        Err(error) => panic!("{error}"),
    }
}
