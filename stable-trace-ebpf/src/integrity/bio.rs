//! Reading bios: their device, their direction, and a position among their pages.

use core::arch::asm;

use stable_trace_common::{backing::dev_t, offsets::ABSENT};

use crate::members::{member, offset, offsets, word_32};

/// `BLK_STS_PROTECTION`, `include/linux/blk_types.h`, 5.4 to 7.3: the status of a request, a bio or a
/// verification whose protection information did not match.
pub(super) const BLK_STS_PROTECTION: u32 = 8;

/// Elements of a bio's vector at most: `BIO_MAX_VECS`, include/linux/bio.h.
pub(super) const BIO_MAX_VECS: u16 = 256;

/// A position in a bio, or in the bios of a request, from which its pages are walked.
#[repr(C)]
pub(super) struct BioPosition {
    /// The bio.
    pub(super) bio: u64,
    /// Bytes of it that are left.
    pub(super) size: u32,
    /// Index into its vector.
    pub(super) idx: u32,
    /// Bytes of that element that precede the position.
    pub(super) done: u32,
    /// 1 if the bios after it (`bi_next`) belong to the same request.
    pub(super) chained: u32,
}

impl BioPosition {
    /// The position of an iterator (`struct bvec_iter`); with nothing left if it cannot be read. Without branches on
    /// what is read, as everything in a loop: the verifier follows both ways of each, in each iteration.
    #[inline(always)]
    pub(super) fn at(bio: u64, iter: u64) -> Self {
        Self {
            bio,
            size: word_32(iter, &offsets().iter_size),
            idx: word_32(iter, &offsets().iter_idx),
            done: word_32(iter, &offsets().iter_done),
            chained: 0,
        }
    }
}

/// The iterator inside a bio.
#[inline(always)]
pub(super) fn own_iter(bio: u64) -> u64 {
    bio + u64::from(offset(&offsets().bio_iter))
}

/// The address of an element of a bio's vector. `struct bio_vec` is 16 bytes on every 64-bit kernel: a
/// pointer and two 32-bit words.
#[inline(always)]
pub(super) const fn vec_element(vec: u64, index: u64) -> u64 {
    vec + 16 * index
}

/// The disk that a bio is for.
#[inline(always)]
pub(super) fn disk_of(bio: u64) -> Option<u64> {
    if offset(&offsets().bio_disk) == ABSENT {
        let device: u64 = member(bio, &offsets().bio_bdev)?;
        return member(device, &offsets().bdev_disk);
    }
    member(bio, &offsets().bio_disk)
}

/// The number of a disk, as a `dev_t`.
#[inline(always)]
pub(super) fn disk_number(disk: u64) -> Option<u32> {
    let major: u32 = member(disk, &offsets().disk_major)?;
    let minor: u32 = member(disk, &offsets().disk_minor)?;
    Some(dev_t(major, minor))
}

/// The direction of the data, `READ` or `WRITE`: `op_is_write`, `include/linux/blk_types.h`, 5.10 to
/// 7.3.
#[inline(always)]
pub(super) const fn direction(flags: u32) -> u32 {
    flags & 1
}

/// All bits if `a < b`, else none. The compiler makes a branch of anything but assembly.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "64 equal bits")]
pub(super) fn mask_if_less(a: u32, b: u32) -> u32 {
    let mut difference = u64::from(a);
    // SAFETY: computes in registers only.
    unsafe {
        asm!(
            "{0} -= {1}",
            "{0} s>>= 63",
            inout(reg) difference,
            in(reg) u64::from(b),
            options(pure, nomem, nostack),
        );
    }
    difference as u32
}
