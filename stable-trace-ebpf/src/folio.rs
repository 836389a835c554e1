//! Reading folios through the offsets that the running kernel's BTF gave.

use core::ptr;

use aya_ebpf::helpers::{bpf_probe_read_kernel, bpf_probe_read_kernel_str_bytes};
use stable_trace_common::{
    backing::{BY_DEV, NAME_LEN},
    offsets::{ABSENT, Offsets},
    waiter::Folio,
};

/// Where the members are. The agent fills it in before the programs load; to the verifier its
/// values are constants, so what this kernel does not have costs nothing.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::ABSENT;

/// Set in `super_block.s_iflags` if the file system wanted stable pages when it was mounted:
/// `SB_I_STABLE_WRITES`, include/linux/fs.h, 5.10 to 7.3. A macro, so BTF does not have it.
const SB_I_STABLE_WRITES: u64 = 0x8;

/// The low bits of `folio.mapping`: set if it is no address space (`PAGE_MAPPING_FLAGS`,
/// include/linux/page-flags.h, 5.10 to 6.12; `FOLIO_MAPPING_FLAGS` later).
pub const MAPPING_FLAGS: u64 = 3;

/// One field of [`OFFSETS`]. Volatile, or the compiler would take the value at build time for good.
#[inline(always)]
pub fn offset(field: &'static u32) -> u32 {
    // SAFETY: a reference is valid to read.
    unsafe { ptr::read_volatile(field) }
}

/// The table, to name its fields.
#[inline(always)]
pub fn offsets() -> &'static Offsets {
    &OFFSETS
}

/// Reads a member of a kernel structure; nothing if the kernel has no such member, or the pointer
/// leads nowhere.
#[inline(always)]
pub fn member<T>(structure: u64, field: &'static u32) -> Option<T> {
    let offset = offset(field);
    if offset == ABSENT || structure == 0 {
        return None;
    }
    // SAFETY: the helper takes any address, and fails on one that cannot be read.
    unsafe { bpf_probe_read_kernel((structure + u64::from(offset)) as *const T) }.ok()
}

/// The head of what a probed function has: the page itself, unless it is a tail page. From 7.x on such
/// functions have folios, and `page.compound_head` is gone.
#[inline(always)]
pub fn head(page: u64) -> u64 {
    match member::<u64>(page, &offsets().page_compound_head) {
        // `compound_head`, include/linux/page-flags.h, 5.10 to 7.0.
        Some(head) if head & 1 == 1 => head - 1,
        _ => page,
    }
}

/// The head of a page that was read from memory, on every kernel. Not of an argument: the verifier
/// knows that for a pointer, which cannot be masked.
#[inline(always)]
pub fn head_of_page(page: u64) -> u64 {
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
pub fn under_writeback(folio: u64) -> bool {
    let bit = offset(&offsets().pg_writeback);
    let flags: Option<u64> = member(folio, &offsets().folio_flags);
    bit < 64 && flags.is_some_and(|flags| flags >> bit & 1 == 1)
}

/// The address space of a folio; nothing for anonymous memory.
#[inline(always)]
pub fn mapping(folio: u64) -> Option<u64> {
    let mapping: u64 = member(folio, &offsets().folio_mapping)?;
    (mapping != 0 && mapping & MAPPING_FLAGS == 0).then_some(mapping)
}

/// Whether whoever changes a folio of this address space must wait for its writeback: a bit of the
/// address space where there is one, else of its super block.
#[inline(always)]
pub fn stable_required(mapping: u64) -> bool {
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

/// Which page of which file of which file system a folio is. Written into `out` and not returned:
/// a BPF stack has no room for a second copy.
#[inline(always)]
pub fn identify(folio: u64, mapping: u64, out: &mut Folio) -> Option<()> {
    out.index = member(folio, &offsets().folio_index)?;
    let inode: u64 = member(mapping, &offsets().mapping_host)?;
    out.ino = member(inode, &offsets().inode_ino)?;
    let sb: u64 = member(inode, &offsets().inode_sb)?;
    out.backing.kind = BY_DEV;
    out.backing.dev = member(sb, &offsets().sb_dev)?;
    let name: u64 =
        member(sb, &offsets().sb_type).and_then(|fs| member(fs, &offsets().fs_type_name))?;
    out.backing.name = [0; NAME_LEN];
    // SAFETY: the helper takes any address, and ends at the buffer's end.
    unsafe { bpf_probe_read_kernel_str_bytes(name as *const u8, &mut out.backing.name) }.ok()?;
    // Whatever lies behind the NUL is as it was: zero.
    if out.backing.name.starts_with(b"bdev\0") {
        // A block device's own page cache: the super block is one for all of them.
        out.backing.dev = member(inode, &offsets().inode_rdev)?;
    }
    Some(())
}

/// A folio of which nothing is known yet.
pub const UNKNOWN: Folio = Folio::UNKNOWN;
