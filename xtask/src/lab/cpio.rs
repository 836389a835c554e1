//! Writes archives in cpio's "newc" format, which the kernel unpacks as its initramfs.
//!
//! The format is described in Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.

use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    entries: u32,
}

/// File types of `st_mode`.
const S_IFDIR: u32 = 0o040_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFREG: u32 = 0o100_000;

impl Archive {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a folder and its missing parents.
    pub(crate) fn folder(&mut self, path: &str) {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above);
        }
        if self.folders.insert(path.to_owned()) {
            self.entry(path, S_IFDIR | 0o755, (0, 0), &[]);
        }
    }

    /// Adds a file and its missing parents. `mode` is its permissions.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above);
        }
        self.entry(path, S_IFREG | mode, (0, 0), content);
    }

    /// Adds a character device that root can read and write.
    pub(crate) fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above);
        }
        self.entry(path, S_IFCHR | 0o600, (major, minor), &[]);
    }

    /// Ends the archive and returns its bytes.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.entries += 1;
        let fields = [
            self.entries, // inode
            mode,
            0, // user
            0, // group
            1, // links
            0, // time of modification
            u32::try_from(content.len()).unwrap_or(u32::MAX),
            0, // device that contains it: major, minor
            0,
            major,
            minor,
            u32::try_from(path.len() + 1).unwrap_or(u32::MAX),
            0, // checksum, unused in this variant
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        let aligned = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(aligned, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn every_part_is_aligned_and_the_sizes_are_right() {
        let mut archive = Archive::new();
        archive.file("a/b/init", 0o755, b"hello");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let headers: Vec<_> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert_eq!(headers.len(), 4, "two folders, the file, the trailer");
        assert!(headers.iter().all(|at| at % 4 == 0));
        let file = &text[headers[2]..];
        assert_eq!(&file[14..22], "000081ed", "mode");
        assert_eq!(&file[54..62], "00000005", "size");
        assert_eq!(&file[94..102], "00000009", "length of the name with its end");
    }

    /// Checked with cpio if it is installed.
    #[test]
    fn cpio_lists_what_was_added() {
        let mut archive = Archive::new();
        archive.character_device("dev/console", 5, 1);
        archive.file("bin/busybox", 0o755, &[7; 4097]);
        archive.file("init", 0o755, b"#!");
        let Ok(mut cpio) = Command::new("cpio")
            .args(["--list", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            return;
        };
        cpio.stdin.take().unwrap().write_all(&archive.finish()).unwrap();
        let list = cpio.wait_with_output().unwrap();
        assert!(list.status.success());
        assert_eq!(
            String::from_utf8(list.stdout).unwrap(),
            "dev\ndev/console\nbin\nbin/busybox\ninit\n"
        );
    }
}
