//! Files by number.

use super::ledger::File;

/// The file of a `major:minor` and an inode; nothing if it is not known which device.
pub fn file(dev: Option<&str>, ino: u64) -> Option<File> {
    let (major, minor) = dev?.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    Some((u64::from(major) << 32 | u64::from(minor), ino))
}

/// As much of a text as fits into that many bytes.
pub fn short(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_device_and_its_inode() {
        assert_eq!(file(Some("8:17"), 12), Some((0x8_0000_0011, 12)));
        for dev in [None, Some(""), Some("8"), Some("8:"), Some(":1"), Some("a:b"), Some("-1:2")] {
            assert_eq!(file(dev, 12), None, "{dev:?}");
        }
    }

    #[test]
    fn a_text_is_cut_between_letters() {
        assert_eq!(short("häuser", 2), "h");
        assert_eq!(short("häuser", 3), "hä");
        assert_eq!(short("h", 3), "h");
    }
}
