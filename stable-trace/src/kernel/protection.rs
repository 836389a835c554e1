//! The protection information of a disk: `/sys/block/DEV/integrity`.

use std::path::Path;

use stable_trace_analysis::event::Protection;

use super::sysfs;

/// That of the disk with this folder in sysfs. A disk without has no folder `integrity`, or the format `none`.
pub(crate) fn protection(disk: &Path) -> Option<Protection> {
    let folder = disk.join("integrity");
    let format = sysfs::read(&folder.join("format"))?;
    if format.is_empty() || format == "none" {
        return None;
    }
    Some(Protection {
        format,
        tag_size: sysfs::read_number(&folder.join("tag_size")).unwrap_or_default(),
        interval_bytes: sysfs::read_number(&folder.join("protection_interval_bytes")),
    })
}
