//! The targets of a device-mapper device: sysfs does not have them.
//!
//! `include/uapi/linux/dm-ioctl.h` and `drivers/md/dm-ioctl.c`, 5.10 to 7.3.

use std::fs::File;

use rustix::ioctl::{Opcode, Updater, ioctl};
use stable_trace_analysis::units::DeviceId;

/// One target of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its type, such as `linear`.
    pub(crate) kind: String,
    /// What follows its type in the table.
    pub(crate) parameters: String,
}

/// `DM_TABLE_STATUS`: `_IOWR(DM_IOCTL, DM_TABLE_STATUS_CMD, struct dm_ioctl)`.
const TABLE_STATUS: Opcode = 0xc138_fd0c;
/// `DM_STATUS_TABLE_FLAG`: the table, not the status of its targets.
const TABLE: u32 = 1 << 4;
/// `DM_BUFFER_FULL_FLAG`: not all of it is there.
const FULL: u32 = 1 << 8;
/// `DM_NOFLUSH_FLAG`: a target does not wait for its requests first.
const NO_FLUSH: u32 = 1 << 11;

/// Size of `struct dm_ioctl`.
const HEADER: u32 = 312;
/// Size of `struct dm_target_spec`.
const SPEC: usize = 40;

/// A `struct dm_ioctl` with room for some hundred targets.
#[repr(C, align(8))]
struct Request([u8; 16 << 10]);

/// The targets of a device; `None` if it has none, or they are not known: without permission, or without
/// `/dev/mapper/control`.
pub(crate) fn targets(dev: DeviceId) -> Option<Vec<Target>> {
    let control = File::options().read(true).write(true).open("/dev/mapper/control").ok()?;
    let mut request = Request([0; 16 << 10]);
    let size = u32::try_from(request.0.len()).ok()?;
    put(&mut request.0, 0, 4_u32.to_ne_bytes());
    put(&mut request.0, 12, size.to_ne_bytes());
    put(&mut request.0, 16, HEADER.to_ne_bytes());
    put(&mut request.0, 28, (TABLE | NO_FLUSH).to_ne_bytes());
    put(&mut request.0, 40, encoded(dev).to_ne_bytes());
    // SAFETY: the kernel reads and writes at most as many bytes as the request says that it has.
    unsafe { ioctl(&control, Updater::<TABLE_STATUS, Request>::new(&mut request)) }.ok()?;
    parse(&request.0)
}

/// `huge_encode_dev`, `include/linux/kdev_t.h`, 5.10 to 7.3.
fn encoded(dev: DeviceId) -> u64 {
    let (major, minor) = (u64::from(dev.major), u64::from(dev.minor));
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = bytes.get_mut(at..at + N) {
        place.copy_from_slice(&value);
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(word.try_into().ok()?))
}

/// Text up to its NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The targets in an answer: each a `struct dm_target_spec` with its parameters. `next` is the offset of the next one
/// from the first.
fn parse(answer: &[u8]) -> Option<Vec<Target>> {
    if word(answer, 28)? & FULL != 0 {
        return None;
    }
    let specs = answer.get(usize::try_from(word(answer, 16)?).ok()?..)?;
    let mut found = Vec::new();
    let mut at = 0;
    for _ in 0..word(answer, 20)?.min(1024) {
        let spec = specs.get(at..)?;
        let kind = text(spec.get(24..SPEC)?);
        let next = usize::try_from(word(spec, 20)?).ok()?;
        found.push(Target { kind, parameters: text(spec.get(SPEC..)?) });
        if next <= at {
            break;
        }
        at = next;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(next: u32, kind: &str, parameters: &str) -> Vec<u8> {
        let mut bytes = vec![0; SPEC];
        put(&mut bytes, 20, next.to_ne_bytes());
        bytes[24..24 + kind.len()].copy_from_slice(kind.as_bytes());
        bytes.extend_from_slice(parameters.as_bytes());
        bytes.resize(usize::try_from(next).unwrap().max(bytes.len() + 1), 0);
        bytes
    }

    fn answer(flags: u32, count: u32, specs: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 312];
        put(&mut bytes, 16, HEADER.to_ne_bytes());
        put(&mut bytes, 20, count.to_ne_bytes());
        put(&mut bytes, 28, flags.to_ne_bytes());
        bytes.extend_from_slice(specs);
        bytes
    }

    #[test]
    fn targets_follow_each_other() {
        let first = spec(56, "linear", "8:0 2048");
        let second = spec(0, "integrity", "8:16 0 4 D 1");
        let found = parse(&answer(0, 2, &[first, second].concat())).unwrap();
        let target = |kind: &str, parameters: &str| Target {
            kind: kind.to_owned(),
            parameters: parameters.to_owned(),
        };
        assert_eq!(found, [target("linear", "8:0 2048"), target("integrity", "8:16 0 4 D 1")]);
    }

    #[test]
    fn a_table_that_is_cut_is_unknown() {
        assert_eq!(parse(&answer(FULL, 1, &spec(0, "linear", "8:0 0"))), None);
        assert_eq!(parse(&answer(0, 1, &[0; 8])), None);
    }

    #[test]
    fn a_device_is_encoded_as_the_kernel_does() {
        assert_eq!(encoded(DeviceId::new(253, 3)), 0xfd03);
        assert_eq!(encoded(DeviceId::new(253, 0x1_02)), 0x10_fd02);
    }

    proptest! {
        #[test]
        fn no_answer_panics(answer in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&answer);
        }
    }
}
