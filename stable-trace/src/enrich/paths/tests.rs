use std::os::unix::fs::MetadataExt as _;

use bytes::Bytes;
use stable_trace_common::backing::{BY_DEV, Backing, dev_t};

use super::*;
use crate::kernel::sysfs;

fn mounts(mountinfo: &str) -> Mounts {
    Mounts::from_text(mountinfo, Path::new("/nowhere"))
}

fn opened(file: &std::fs::File) -> File {
    let metadata = file.metadata().unwrap();
    File { dev: sysfs::device_id(metadata.dev()), subvolume: None, ino: metadata.ino() }
}

fn find_open(paths: &mut Paths, file: File, user: Option<u32>) -> Option<String> {
    paths.find(file, user, &mounts("")).map(|found| found.path.into())
}

#[test]
fn only_an_open_file_of_the_process_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a file");
    let open = std::fs::File::create(&path).unwrap();
    let file = opened(&open);
    let own = Some(std::process::id());
    let mut paths = Paths::new(Path::new("/proc"));
    assert_eq!(find_open(&mut paths, file, own).as_deref(), path.to_str());
    // The path is cached for callers without a process.
    assert_eq!(find_open(&mut paths, file, None).as_deref(), path.to_str());
    let mut paths = Paths::new(Path::new("/proc"));
    assert_eq!(find_open(&mut paths, File { ino: file.ino + 1_000_000, ..file }, own), None);
    let other = DeviceId::new(file.dev.major, file.dev.minor + 1);
    assert_eq!(find_open(&mut paths, File { dev: other, ..file }, own), None);
    // The process has closed it.
    drop(open);
    assert_eq!(find_open(&mut paths, file, own), None);
}

#[test]
fn a_deleted_file_is_marked() {
    let open = tempfile::tempfile().unwrap();
    let file = opened(&open);
    let mut paths = Paths::new(Path::new("/proc"));
    assert_eq!(find_open(&mut paths, file, None), None);
    let mut paths = Paths::new(Path::new("/proc"));
    let path = find_open(&mut paths, file, Some(std::process::id()));
    assert!(path.is_some_and(|path| path.ends_with(" (deleted)")));
}

/// Names of inode 12 on `8:1`, from the file's own to the outermost.
fn sent(names: &str, flags: u32, fs: &str) -> FileNames {
    let mut backing = Backing { kind: BY_DEV, dev: dev_t(8, 1), ..Backing::NONE };
    backing.fs[..fs.len()].copy_from_slice(fs.as_bytes());
    let names = Bytes::from(names.replace(' ', "\0"));
    FileNames { backing, subvolume: 0, ino: 12, flags, names }
}

const FILE: File = File { dev: DeviceId::new(8, 1), subvolume: None, ino: 12 };

fn found(sent: &FileNames, mountinfo: &str) -> Option<(String, Option<PathFrom>)> {
    let mut paths = Paths::new(Path::new("/nowhere"));
    paths.learn(sent);
    paths.find(FILE, None, &mounts(mountinfo)).map(|FilePath { path, from }| (path.into(), from))
}

const WHOLE: u32 = COMPLETE | AT_SB_ROOT;

#[test]
fn a_path_is_shown_from_the_mount_that_the_agent_sees() {
    let file = sent("f sub a ", WHOLE, "ext4");
    let from = |path: &str, from| Some((path.to_owned(), Some(from)));
    let root = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
    assert_eq!(found(&file, root), from("/a/sub/f", PathFrom::Mount));
    let data = "30 21 8:1 / /srv/data rw - ext4 /dev/sda1 rw\n";
    assert_eq!(found(&file, data), from("/srv/data/a/sub/f", PathFrom::Mount));
    // Bind mounts of a part of it, the second of which shows the file.
    let parts = "31 21 8:1 /other /x rw - ext4 /dev/sda1 rw\n\
                 32 21 8:1 /a /y rw - ext4 /dev/sda1 rw\n\
                 33 21 8:1 /a/su /z rw - ext4 /dev/sda1 rw\n";
    assert_eq!(found(&file, parts), from("/y/sub/f", PathFrom::Mount));
    let both = format!("{parts}{data}");
    assert_eq!(found(&file, &both), from("/srv/data/a/sub/f", PathFrom::Mount));
    let other = "21 1 8:2 / / rw - ext4 /dev/sda2 rw\n";
    assert_eq!(found(&file, other), from("/a/sub/f", PathFrom::Filesystem));
}

#[test]
fn a_deleted_file_keeps_its_last_name() {
    let file = sent("f ", WHOLE | DELETED, "ext4");
    let path = found(&file, "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n").unwrap().0;
    assert_eq!(path, "/f (deleted)");
}

#[test]
fn names_that_do_not_reach_the_root_are_no_path() {
    assert_eq!(found(&sent("f a ", 0, "ext4"), ""), None, "too deep");
    assert_eq!(found(&sent("f a ", COMPLETE, "xfs"), ""), None, "disconnected");
    assert!(found(&sent("f a ", COMPLETE, "nfs4"), "").is_some());
    assert_eq!(found(&sent("", WHOLE, "ext4"), ""), None);
}

#[test]
fn files_of_two_subvolumes_have_paths_of_their_own() {
    let mut paths = Paths::new(Path::new("/nowhere"));
    for (subvolume, name) in [(dev_t(0, 60), "f a "), (dev_t(0, 61), "f b ")] {
        paths.learn(&FileNames { subvolume, ..sent(name, WHOLE, "btrfs") });
    }
    let mounts = mounts("30 21 8:1 / /pool rw - btrfs /dev/sda1 rw\n");
    let mut path = |minor| {
        let subvolume = Some(DeviceId::new(0, minor));
        paths.find(File { subvolume, ..FILE }, None, &mounts).unwrap().path
    };
    assert_eq!([path(60), path(61)], ["/pool/a/f", "/pool/b/f"]);
}

#[test]
fn a_path_follows_the_mounts() {
    let mut paths = Paths::new(Path::new("/nowhere"));
    paths.learn(&sent("f ", WHOLE, "ext4"));
    let mut current = mounts("30 21 8:1 / /a rw - ext4 /dev/sda1 rw\n");
    let mut path = |mounts: &Mounts| paths.find(FILE, None, mounts).unwrap().path;
    assert_eq!([path(&current), path(&current)], ["/a/f", "/a/f"]);
    current.replace_text("30 21 8:1 / /b rw - ext4 /dev/sda1 rw\n");
    assert_eq!(path(&current), "/b/f");
}
