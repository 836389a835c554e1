//! `/proc/self/mountinfo`: the mounts of this process's mount namespace. Mounts of other
//! containers are not in it.

use std::{
    io,
    path::{Path, PathBuf},
};

use stable_trace_analysis::units::DeviceId;

pub(super) const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `st_dev` of the files of the mount.
    pub dev: DeviceId,
    /// Where it is mounted.
    pub point: String,
    /// Type of the file system.
    pub fs: String,
    /// The source as the file system names it, such as `/dev/sda1`.
    pub source: String,
}

/// Reads the mounts of this process.
pub fn read() -> io::Result<Vec<Mount>> {
    let bytes = std::fs::read(MOUNTINFO)?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

/// Parses a mountinfo (`show_mountinfo`, `fs/proc_namespace.c`, 6.12). A malformed line is skipped.
pub fn parse(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(parse_line).collect()
}

/// `ID PARENT MAJ:MIN ROOT POINT OPTIONS [TAGS…] - FS SOURCE SUPER_OPTIONS`.
fn parse_line(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(2);
    let dev = before.next()?.parse().ok()?;
    let point = unescape(before.nth(1)?);
    let mut after = after.split(' ');
    Some(Mount {
        dev,
        point,
        fs: unescape(after.next()?),
        source: unescape(after.next().unwrap_or_default()),
    })
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

/// The device that the file system at `path` is mounted from; `None` if its source is no device.
pub fn source_device(mounts: &[Mount], path: &Path) -> Option<PathBuf> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        // Of two mounts on one point the later hides the earlier: `max_by_key` takes the last.
        .max_by_key(|mount| Path::new(&mount.point).components().count())
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
    fn escapes_are_undone() {
        let mounts = parse(MOUNTINFO);
        assert_eq!(mounts[1].point, "/mnt/my disk");
        assert_eq!(unescape("a\\040b\\134c\\9\\04"), "a b\\c\\9\\04");
        assert_eq!(unescape("\\777"), "\\777");
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

    proptest! {
        #[test]
        fn parsing_accepts_any_text(text in "(.| - |[0-9]:[0-9]|\\\\[0-7]{1,3})*") {
            let _ = parse(&text);
            unescape(&text);
        }
    }
}
