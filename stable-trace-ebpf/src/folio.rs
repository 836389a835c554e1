//! What the programs read of a folio: its head, its state, its identity.

use aya_ebpf::{Global, helpers::bpf_probe_read_kernel_str_bytes, macros::map, maps::Array};
use stable_trace_common::{
    backing::{BY_DEV, Backing, FS_LEN, NAME_LEN},
    folio::{BtrfsOffsets, Folio},
    offsets::ABSENT,
};

use crate::members::{make_unknown, member, offset, offsets, read, word};

/// Where btrfs's structures have their members. The agent fills it when btrfs is loaded.
#[map]
static BTRFS_OFFSETS: Array<BtrfsOffsets> = Array::with_max_entries(1, 0);

/// The address of `struct swap_info_struct *swap_info[MAX_SWAPFILES]` (mm/swapfile.c, 5.10 to 7.3), from
/// `/proc/kallsyms`; 0 if it is not known.
#[unsafe(no_mangle)]
static SWAP_INFO: Global<u64> = Global::new(0);

/// `SWP_TYPE_SHIFT`, include/linux/swapops.h, 5.10 to 7.3: `BITS_PER_XA_VALUE - MAX_SWAPFILES_SHIFT` on
/// 64-bit machines.
const SWAP_TYPE_SHIFT: u32 = 58;

/// `(1 << MAX_SWAPFILES_SHIFT) - 1`, include/linux/swap.h, 5.10 to 7.3.
const SWAP_TYPES: u64 = 31;

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

/// 1 if a folio of this address space must not change while under writeback, else 0: a flag of the address
/// space on kernels that have it, else of its super block. Without branches on what is read, so that the
/// verifier follows one way.
#[inline(always)]
pub(crate) fn stable_required(mapping: u64) -> u32 {
    let bit = offset(&offsets().as_stable_writes);
    let flag = if bit == ABSENT {
        let inode = word(mapping, &offsets().mapping_host);
        let sb = word(inode, &offsets().inode_sb);
        word(sb, &offsets().sb_iflags) >> SB_I_STABLE_WRITES.trailing_zeros()
    } else {
        word(mapping, &offsets().mapping_flags) >> (bit & 63)
    };
    (flag & 1) as u32
}

/// Identifies a folio: file system, file and page index. Returns the address of its inode, 0 for swap.
/// Writes to `out` instead of returning: a BPF stack has no room for a second copy.
#[inline(always)]
pub(crate) fn identify(folio: u64, mapping: u64, out: &mut Folio) -> Option<u64> {
    let inode = read_identity(folio, mapping, out);
    // 42 ms of the verifier instead of 183 for `writeback_wait_begin_typed` on 6.18.
    make_unknown(out);
    inode
}

/// [`identify`] of a folio whose address space is not known: that of a file, or none for one that is written to swap.
#[inline(always)]
pub(crate) fn identify_any(folio: u64, out: &mut Folio) -> Option<u64> {
    if let Some(mapping) = mapping(folio) {
        return identify(folio, mapping, out);
    }
    identify_swap(folio, out);
    Some(0)
}

/// [`identify`].
#[inline(always)]
fn read_identity(folio: u64, mapping: u64, out: &mut Folio) -> Option<u64> {
    let inode: u64 = member(mapping, &offsets().mapping_host)?;
    if inode == 0 {
        identify_swap(folio, out);
        return Some(0);
    }
    out.index = member(folio, &offsets().folio_index)?;
    out.ino = member(inode, &offsets().inode_ino)?;
    let sb: u64 = member(inode, &offsets().inode_sb)?;
    read_type(sb, &mut out.backing)?;
    if out.backing.is_type(*b"bdev\0\0\0\0") {
        // The page cache of a block device. All of these share one super block.
        out.backing.dev = member(inode, &offsets().inode_rdev)?;
        return Some(inode);
    }
    read_name(sb, &mut out.backing);
    if out.backing.is_type(*b"btrfs\0\0\0") {
        out.subvolume = subvolume(inode).unwrap_or(0);
    }
    Some(inode)
}

/// Identifies the file system of a super block.
#[inline(always)]
pub(crate) fn identify_file_system(sb: u64, out: &mut Backing) -> Option<()> {
    read_type(sb, out)?;
    read_name(sb, out);
    Some(())
}

/// Device number and type of a super block.
#[inline(always)]
fn read_type(sb: u64, out: &mut Backing) -> Option<()> {
    out.kind = BY_DEV;
    out.dev = member(sb, &offsets().sb_dev)?;
    let name: u64 =
        member(sb, &offsets().sb_type).and_then(|fs| member(fs, &offsets().fs_type_name))?;
    out.fs = [0; FS_LEN];
    out.name = [0; NAME_LEN];
    // SAFETY: the helper takes any address, and writes no further than the buffer's end.
    // It leaves the bytes after the NUL as they were: zero.
    unsafe { bpf_probe_read_kernel_str_bytes(name as *const u8, &mut out.fs) }.ok()?;
    Some(())
}

/// The name of the super block's device.
#[inline(always)]
fn read_name(sb: u64, out: &mut Backing) {
    let id = offset(&offsets().sb_id);
    if id != ABSENT {
        let id = (sb + u64::from(id)) as *const u8;
        // SAFETY: the helper takes any address, and writes no further than the buffer's end.
        let _ = unsafe { bpf_probe_read_kernel_str_bytes(id, &mut out.name) };
    }
}

/// The offsets of btrfs's structures, once the agent has written them.
#[inline(always)]
pub(crate) fn btrfs_offsets() -> Option<&'static BtrfsOffsets> {
    BTRFS_OFFSETS.get(0)
}

/// The anonymous device of a btrfs inode's subvolume, which `stat` gives as the device of its files
/// (`btrfs_getattr`, fs/btrfs/inode.c, 5.10 to 7.3).
#[inline(always)]
fn subvolume(inode: u64) -> Option<u32> {
    let known = btrfs_offsets().filter(|known| known.known != 0)?;
    // `BTRFS_I`, fs/btrfs/btrfs_inode.h.
    let root: u64 = read(inode - u64::from(known.vfs_inode) + u64::from(known.root)).ok()?;
    read(root + u64::from(known.anon_dev)).ok()
}

/// Identifies a folio of the swap cache, whose address space has no inode: by its swap entry, which is
/// the number of the swap area and the page's offset in it (`swp_type`, `swp_offset`,
/// include/linux/swapops.h, 5.10 to 7.3).
#[inline(always)]
fn identify_swap(folio: u64, out: &mut Folio) {
    out.backing.kind = BY_DEV;
    out.backing.fs = *b"swap\0\0\0\0\0\0\0\0\0\0\0\0";
    let Some(entry) = member::<u64>(folio, &offsets().folio_swap) else {
        return;
    };
    out.index = entry & ((1 << SWAP_TYPE_SHIFT) - 1);
    let areas = SWAP_INFO.load();
    if areas != 0
        && let Ok(area) = read::<u64>(areas + 8 * (entry >> SWAP_TYPE_SHIFT & SWAP_TYPES))
        && let Some(bdev) = member(area, &offsets().swap_bdev)
        && let Some(dev) = member(bdev, &offsets().bdev_dev)
    {
        out.backing.dev = dev;
    }
}
