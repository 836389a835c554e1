//! The two ways sysfs says something: a small file, and the name that a link leads to.

use std::path::Path;

/// A file's text without the line end, or nothing if it cannot be read.
pub(crate) fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// A file's number, or nothing if it cannot be read or is none.
pub(crate) fn read_number(path: &Path) -> Option<u32> {
    read(path)?.parse().ok()
}

/// The last component of a link's target.
pub(crate) fn link_name(path: &Path) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

/// The kernel's own name of a device, from its sysfs directory's: a slash cannot stand in a file
/// name, so `kobject_set_name_vargs` (lib/kobject.c, 6.12) writes `cciss!c0d0` for `cciss/c0d0`.
pub(crate) fn kernel_name(directory: &str) -> String {
    directory.replace('!', "/")
}

/// The directory that [`kernel_name`] came from.
pub(crate) fn directory_name(device: &str) -> String {
    device.replace('/', "!")
}

/// `major:minor` as two numbers.
pub(crate) fn parse_dev(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((parse_digits(major)?, parse_digits(minor)?))
}

/// Decimal digits and nothing else: `u32::from_str` would take a plus sign as well.
fn parse_digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
