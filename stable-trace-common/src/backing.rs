//! The file system or device that a folio belongs to.

/// Bytes of a backing device's or a file-system type's name: `__entry->name` of the tracepoint
/// `writeback:folio_wait_writeback` (include/trace/events/writeback.h, 6.18).
pub const NAME_LEN: usize = 32;

/// [`Backing::kind`]: `name` is a backing device's (`8:0`, `btrfs-1`), as the tracepoint gives it.
pub const BY_BDI: u32 = 0;
/// [`Backing::kind`]: `dev` is the `s_dev` of the super block and `name` the file-system type; for a
/// block device's own page cache `dev` is the device and `name` is `bdev`.
pub const BY_DEV: u32 = 1;

/// The file system or device that a folio belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backing {
    /// [`BY_BDI`] or [`BY_DEV`].
    pub kind: u32,
    /// The kernel's own `dev_t`: 12 bits of major, 20 bits of minor; 0 if `kind` is [`BY_BDI`].
    pub dev: u32,
    /// NUL-padded.
    pub name: [u8; NAME_LEN],
}

impl Backing {
    /// Neither a file system nor a device.
    pub const NONE: Self = Self { kind: BY_BDI, dev: 0, name: [0; NAME_LEN] };

    /// Major and minor number (`MAJOR` and `MINOR` of `include/linux/kdev_t.h`).
    #[must_use]
    pub const fn numbers(&self) -> (u32, u32) {
        (self.dev >> 20, self.dev & 0xf_ffff)
    }
}

/// A major and a minor number as the kernel's own `dev_t` (`MKDEV`).
#[must_use]
pub const fn dev_t(major: u32, minor: u32) -> u32 {
    (major << 20) | (minor & 0xf_ffff)
}

const _: () = assert!(size_of::<Backing>() == 8 + NAME_LEN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_and_minor_survive_the_round_trip() {
        let backing = Backing { kind: BY_DEV, dev: dev_t(259, 1_000_000), ..Backing::NONE };
        assert_eq!(backing.numbers(), (259, 1_000_000));
    }
}
