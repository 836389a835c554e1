//! The file system or device that a folio belongs to.

/// Bytes of a file-system type's name that are kept. The longest of 6.18 has 14 (`binfmt_misc`,
/// `selinuxfs`, `configfs`, `rpc_pipefs`).
pub const FS_LEN: usize = 16;

/// Bytes of a device's name that are kept.
pub const NAME_LEN: usize = 16;

/// [`Backing::kind`]: `name` is a backing device's (`8:0`, `btrfs-1`), as the tracepoint
/// `writeback:folio_wait_writeback` gives it (include/trace/events/writeback.h, 6.18); `fs` is empty.
pub const BY_BDI: u32 = 0;
/// [`Backing::kind`]: read from the super block: `dev` is its `s_dev`, `fs` its type and `name` its
/// `s_id`, which for a file system on a block device is the device's name (`loop0p1`), also where
/// `s_dev` is anonymous as in btrfs. For a block device's own page cache `dev` is the device, `fs` is
/// `bdev` and `name` is empty; for swap `dev` is the device of the swap area and `fs` is `swap`.
pub const BY_DEV: u32 = 1;

/// The file system or device that a folio belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backing {
    /// [`BY_BDI`] or [`BY_DEV`].
    pub kind: u32,
    /// The kernel's own `dev_t`: 12 bits of major, 20 bits of minor; 0 if `kind` is [`BY_BDI`].
    pub dev: u32,
    /// Type of the file system, NUL-padded.
    pub fs: [u8; FS_LEN],
    /// Name of the device, NUL-padded.
    pub name: [u8; NAME_LEN],
}

impl Backing {
    /// Neither a file system nor a device.
    pub const NONE: Self = Self { kind: BY_BDI, dev: 0, fs: [0; FS_LEN], name: [0; NAME_LEN] };

    /// Whether the type of the file system is `fs`, NUL-padded. As one number: an array would be compared
    /// by a function call, for which the stack of a BPF program has no room.
    #[must_use]
    pub const fn is_type(&self, fs: [u8; 8]) -> bool {
        match self.fs.first_chunk() {
            Some(first) => u64::from_ne_bytes(*first) == u64::from_ne_bytes(fs),
            None => false,
        }
    }

    /// Major and minor number (`MAJOR` and `MINOR` of `include/linux/kdev_t.h`).
    #[must_use]
    pub const fn numbers(&self) -> (u32, u32) {
        numbers(self.dev)
    }
}

/// A major and a minor number as the kernel's own `dev_t` (`MKDEV`).
#[must_use]
pub const fn dev_t(major: u32, minor: u32) -> u32 {
    (major << 20) | (minor & 0xf_ffff)
}

/// The major and the minor number of the kernel's own `dev_t` (`MAJOR`, `MINOR`).
#[must_use]
pub const fn numbers(dev: u32) -> (u32, u32) {
    (dev >> 20, dev & 0xf_ffff)
}

const _: () = assert!(size_of::<Backing>() == 8 + FS_LEN + NAME_LEN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_and_minor_survive_the_round_trip() {
        let backing = Backing { kind: BY_DEV, dev: dev_t(259, 1_000_000), ..Backing::NONE };
        assert_eq!(backing.numbers(), (259, 1_000_000));
    }
}
