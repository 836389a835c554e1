//! `/proc/self/mountinfo`: the mounts of this process's mount namespace. Mounts of other
//! containers are not in it.

use std::{
    io,
    path::{Path, PathBuf},
};

use stable_trace_analysis::units::DeviceId;

pub(crate) const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mount {
    /// Its number, and that of the mount that it is mounted on.
    pub(crate) id: u32,
    pub(crate) parent: u32,
    /// `st_dev` of the files of the mount.
    pub(crate) dev: DeviceId,
    /// The directory of the file system that the mount shows: `/` for the whole file system, a
    /// subdirectory for a bind mount, `/SUBVOLUME` for a btrfs subvolume.
    pub(crate) root: String,
    /// Where it is mounted.
    pub(crate) point: String,
    /// Type of the file system.
    pub(crate) fs: String,
    /// The source as the file system names it, such as `/dev/sda1`.
    pub(crate) source: String,
    /// Whether nothing can be written through it: the mount or the file system is read-only.
    pub(crate) read_only: bool,
}

/// Reads the mounts of this process.
pub(crate) fn read() -> io::Result<Vec<Mount>> {
    let bytes = std::fs::read(MOUNTINFO)?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

/// Parses a mountinfo (`show_mountinfo`, `fs/proc_namespace.c`, 6.12). A malformed line is skipped.
pub(crate) fn parse(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(parse_line).collect()
}

/// Where file systems of btrfs are mounted that make checksums of the data of new files, each once: `nodatasum` and
/// `nodatacow` switch that off (`btrfs_show_options`, fs/btrfs/super.c, 5.10 to 7.3).
pub(crate) fn btrfs_with_checksums(mountinfo: &str) -> Vec<Mount> {
    let mut found: Vec<Mount> = Vec::new();
    for line in mountinfo.lines() {
        let super_options = line.rsplit(' ').next().unwrap_or_default();
        let mut options = super_options.split(',');
        let without = options.any(|option| matches!(option, "nodatasum" | "nodatacow"));
        let mount = parse_line(line).filter(|mount| mount.fs == "btrfs" && !without);
        found.extend(mount.filter(|mount| !found.iter().any(|other| other.dev == mount.dev)));
    }
    found
}

/// `ID PARENT MAJ:MIN ROOT POINT OPTIONS [TAGS…] - FS SOURCE SUPER_OPTIONS`.
fn parse_line(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ');
    let id = before.next()?.parse().ok()?;
    let parent = before.next()?.parse().ok()?;
    let dev = before.next()?.parse().ok()?;
    let root = unescape(before.next()?);
    let point = unescape(before.next()?);
    let mount_options = before.next().unwrap_or_default();
    let mut after = after.split(' ');
    let fs = unescape(after.next()?);
    let source = unescape(after.next().unwrap_or_default());
    let super_options = after.next().unwrap_or_default();
    let read_only = is_read_only(mount_options) || is_read_only(super_options);
    Some(Mount { id, parent, dev, root, point, fs, source, read_only })
}

/// `show_mountinfo` writes `ro` or `rw` as an option of its own, both for the mount and for the file
/// system.
fn is_read_only(options: &str) -> bool {
    options.split(',').any(|option| option == "ro")
}

/// Undoes `mangle_path` (`fs/seq_file.c`), which writes space, tab, line end, backslash and hash as
/// a backslash and three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if let [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] = rest {
            bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The mount that a path without symbolic links leads to. Nothing is looked up in the file systems, of which one may not
/// answer.
pub(super) fn mount_at<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let on_path: Vec<_> = mounts.iter().filter(|mount| path.starts_with(&mount.point)).collect();
    let depth = |mount: &&&Mount| Path::new(&mount.point).components().count();
    let is_listed = |id: u32| on_path.iter().any(|mount| mount.id == id);
    // The walk begins at a mount on no other one, and enters the first mount that is on the way: that hides mounts
    // further down that are on the same one.
    let mut at = on_path.iter().filter(|mount| !is_listed(mount.parent)).min_by_key(depth)?;
    for _ in 0..on_path.len() {
        let mounted_on = |mount: &&&Mount| mount.parent == at.id && mount.id != at.id;
        let Some(next) = on_path.iter().filter(mounted_on).min_by_key(depth) else { break };
        at = next;
    }
    Some(at)
}

/// The device that the file system at `path` is mounted from; `None` if its source is no device.
pub(crate) fn source_device(mounts: &[Mount], path: &Path) -> Option<PathBuf> {
    mount_at(mounts, path)
        .map(|mount| PathBuf::from(&mount.source))
        .filter(|source| source.starts_with("/dev"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOUNTINFO: &str = "\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:40 / /mnt/my\\040disk rw,noatime shared:3 master:1 - btrfs /dev/sdb rw
31 21 0:41 / /tmp rw - tmpfs tmpfs rw
";

    #[test]
    fn btrfs_without_checksums_is_left_out() {
        let text = "30 1 0:52 / /pool rw - btrfs /dev/sda rw,space_cache=v2,subvol=/\n\
             31 1 0:52 /a /a rw - btrfs /dev/sda rw,space_cache=v2,subvol=/a\n\
             32 1 0:53 / /images rw - btrfs /dev/sdb rw,nodatasum,space_cache=v2\n\
             33 1 0:54 / /old rw - btrfs /dev/sdc rw,nodatasum,nodatacow\n\
             34 1 8:1 / / rw - ext4 /dev/sdd1 rw\n";
        let found = btrfs_with_checksums(text);
        let points: Vec<_> = found.iter().map(|mount| mount.point.as_str()).collect();
        assert_eq!(points, ["/pool"]);
    }

    #[test]
    fn escapes_are_undone() {
        let mounts = parse(MOUNTINFO);
        assert_eq!(mounts[1].point, "/mnt/my disk");
        assert_eq!(unescape("a\\040b\\134c\\9\\04"), "a b\\c\\9\\04");
        assert_eq!(unescape("\\777"), "\\777");
    }

    #[test]
    fn the_root_within_the_file_system_is_parsed() {
        let mounts = parse(
            "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
             22 21 8:1 /var/a\\040b /srv rw - ext4 /dev/sda1 rw\n\
             23 21 0:40 /home /home rw - btrfs /dev/sdb rw,subvol=/home\n",
        );
        let roots: Vec<_> = mounts.iter().map(|mount| mount.root.as_str()).collect();
        assert_eq!(roots, ["/", "/var/a b", "/home"]);
    }

    #[test]
    fn a_mount_is_read_only_by_itself_or_by_its_file_system() {
        let mounts = parse(
            "21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw,errors=remount-ro\n\
             22 21 7:0 / /snap/a ro,nodev - squashfs /dev/loop0 ro\n\
             23 21 8:1 / /view ro - ext4 /dev/sda1 rw\n\
             24 21 7:1 / /mnt rw - ext4 /dev/loop1 ro\n",
        );
        let read_only: Vec<_> = mounts.iter().map(|mount| mount.read_only).collect();
        assert_eq!(read_only, [false, true, true, true]);
    }

    #[test]
    fn the_innermost_mount_wins() {
        let mounts = parse(MOUNTINFO);
        let source = |path| source_device(&mounts, Path::new(path));
        assert_eq!(source("/mnt/my disk/a"), Some("/dev/sdb".into()));
        assert_eq!(source("/etc"), Some("/dev/sda1".into()));
        // tmpfs lies on no device, and not on the device of the root.
        assert_eq!(source("/tmp/a"), None);
    }

    #[test]
    fn a_mount_hides_those_below_its_point() {
        let text = "\
21 1 8:1 / / rw - ext4 /dev/sda1 rw
30 21 8:2 / /mnt/a rw - ext4 /dev/sda2 rw
31 21 8:3 / /mnt rw - ext4 /dev/sda3 rw
32 31 8:4 / /mnt/b rw - ext4 /dev/sda4 rw
33 32 8:5 / /mnt/b rw - ext4 /dev/sda5 rw
";
        let mounts = parse(text);
        let dev = |path: &str| mount_at(&mounts, Path::new(path)).map(|mount| mount.dev.minor);
        assert_eq!(dev("/mnt/a/f"), Some(3), "hidden by the mount on /mnt");
        assert_eq!(dev("/mnt/b/f"), Some(5), "the upper one of two on a point");
        assert_eq!(dev("/f"), Some(1));
        assert_eq!(dev("f"), None);
    }

    proptest! {
        #[test]
        fn parsing_accepts_any_text(text in "(.| - |[0-9]:[0-9]|\\\\[0-7]{1,3})*") {
            let _ = parse(&text);
            unescape(&text);
        }
    }
}
