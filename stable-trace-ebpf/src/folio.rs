//! What the programs read of a folio: its head, its state, its identity.

use aya_ebpf::helpers::bpf_probe_read_kernel_str_bytes;
use stable_trace_common::{
    backing::{BY_DEV, NAME_LEN},
    folio::Folio,
    offsets::ABSENT,
};

use crate::members::{member, offset, offsets};

/// Set in `super_block.s_iflags` if the file system required stable pages when it was mounted:
/// `SB_I_STABLE_WRITES`, include/linux/fs.h, 5.10 to 7.3. A macro, so BTF does not have it.
const SB_I_STABLE_WRITES: u64 = 0x8;

/// The low bits of `folio.mapping`, set if it does not point to an address space
/// (`PAGE_MAPPING_FLAGS`, include/linux/page-flags.h, 5.10 to 6.12; `FOLIO_MAPPING_FLAGS` later).
pub(crate) const MAPPING_FLAGS: u64 = 3;

/// The head of a page that is an argument of a probed function: the page itself, unless it is a tail
/// page. From 7.x on such functions have folios, and `page.compound_head` is gone.
#[inline(always)]
pub(crate) fn head(page: u64) -> u64 {
    match member::<u64>(page, &offsets().page_compound_head) {
        // `compound_head`, include/linux/page-flags.h, 5.10 to 7.0.
        Some(head) if head & 1 == 1 => head - 1,
        _ => page,
    }
}

/// The head of a page whose address was read from memory, on every kernel. Not for an argument: the
/// verifier knows an argument as a pointer, and does not allow to mask one.
#[inline(always)]
pub(crate) fn head_of_page(page: u64) -> u64 {
    match member::<u64>(page, &offsets().page_compound_info) {
        // A mask if the size of `struct page` is a power of two, else the head as before
        // (`_compound_head` and `compound_info_has_mask`, include/linux/page-flags.h, 7.3).
        Some(info) if info & 1 == 1 && offset(&offsets().page_bytes).is_power_of_two() => {
            page & info
        }
        Some(info) if info & 1 == 1 => info - 1,
        _ => head(page),
    }
}

/// Whether a folio is under writeback.
#[inline(always)]
pub(crate) fn under_writeback(folio: u64) -> bool {
    let bit = offset(&offsets().pg_writeback);
    let flags: Option<u64> = member(folio, &offsets().folio_flags);
    bit < 64 && flags.is_some_and(|flags| flags >> bit & 1 == 1)
}

/// The address space of a folio; `None` for anonymous memory.
#[inline(always)]
pub(crate) fn mapping(folio: u64) -> Option<u64> {
    let mapping: u64 = member(folio, &offsets().folio_mapping)?;
    (mapping != 0 && mapping & MAPPING_FLAGS == 0).then_some(mapping)
}

/// Whether a folio of this address space must not change while under writeback: a flag of the address
/// space on kernels that have it, else of its super block.
#[inline(always)]
pub(crate) fn stable_required(mapping: u64) -> bool {
    let bit = offset(&offsets().as_stable_writes);
    if bit != ABSENT {
        let flags: Option<u64> = member(mapping, &offsets().mapping_flags);
        return bit < 64 && flags.is_some_and(|flags| flags >> bit & 1 == 1);
    }
    let flags: Option<u64> = member(mapping, &offsets().mapping_host)
        .and_then(|inode| member(inode, &offsets().inode_sb))
        .and_then(|sb| member(sb, &offsets().sb_iflags));
    flags.is_some_and(|flags| flags & SB_I_STABLE_WRITES != 0)
}

/// Identifies a folio: file system, file and page index. Writes to `out` instead of returning: a BPF
/// stack has no room for a second copy.
#[inline(always)]
pub(crate) fn identify(folio: u64, mapping: u64, out: &mut Folio) -> Option<()> {
    out.index = member(folio, &offsets().folio_index)?;
    let inode: u64 = member(mapping, &offsets().mapping_host)?;
    out.ino = member(inode, &offsets().inode_ino)?;
    let sb: u64 = member(inode, &offsets().inode_sb)?;
    out.backing.kind = BY_DEV;
    out.backing.dev = member(sb, &offsets().sb_dev)?;
    let name: u64 =
        member(sb, &offsets().sb_type).and_then(|fs| member(fs, &offsets().fs_type_name))?;
    out.backing.name = [0; NAME_LEN];
    // SAFETY: the helper takes any address, and writes no further than the buffer's end.
    unsafe { bpf_probe_read_kernel_str_bytes(name as *const u8, &mut out.backing.name) }.ok()?;
    // The helper leaves the bytes after the NUL as they were: zero.
    if out.backing.name.starts_with(b"bdev\0") {
        // The page cache of a block device. All of these share one super block.
        out.backing.dev = member(inode, &offsets().inode_rdev)?;
    }
    Some(())
}
