//! Finds an inode of btrfs by the number of its subvolume and its own.
//!
//! The structures are read without their locks: a node that moves meanwhile may hide what is looked for, and then
//! nothing is found.

use stable_trace_common::{folio::BtrfsOffsets, offsets::ABSENT};

use crate::members::{member, offset, offsets, read_or_zero, word};

/// Levels of an xarray with a number of 64 bits. That of the subvolumes has as many: the tree for relocation has the
/// number 2^64 - 9 (`BTRFS_DATA_RELOC_TREE_OBJECTID`, `include/uapi/linux/btrfs_tree.h`).
const LEVELS: u32 = 11;

/// `XA_CHUNK_SHIFT`, include/linux/xarray.h, 5.10 to 7.3, of all but the smallest configurations.
const CHUNK_SHIFT: u32 = 6;

/// The low bits of an entry that tell what it is (include/linux/xarray.h, 5.10 to 7.3).
const TAG: u64 = 3;

/// A pointer to what is stored.
const POINTER: u64 = 0;

/// A pointer to a node of the xarray (`xa_is_node`).
const NODE: u64 = 2;

/// Levels of a red-black tree that are walked: at least a million inodes.
const DEPTH: u32 = 40;

/// The `struct inode` with this number in the subvolume with this `struct btrfs_root`, if it is in memory; else 0.
#[inline(always)]
pub(super) fn inode(known: &BtrfsOffsets, root: u64, ino: u64) -> u64 {
    if known.root_inodes != ABSENT {
        let found = xarray_entry(root + u64::from(known.root_inodes), ino);
        return if found == 0 { 0 } else { found + u64::from(known.vfs_inode) };
    }
    if known.root_inode_tree == ABSENT || known.inode_node == ABSENT {
        return 0;
    }
    tree_inode(known, root + u64::from(known.root_inode_tree), ino)
}

/// The entry of an xarray at this index, as `xa_load` (lib/xarray.c, 5.10 to 7.3) finds it; 0 if there is none.
#[inline(always)]
pub(super) fn xarray_entry(xarray: u64, index: u64) -> u64 {
    let mut entry = word(xarray, &offsets().xarray_head);
    // The head is the entry at index 0 if the xarray has no other.
    if entry & TAG != NODE && index != 0 {
        return 0;
    }
    for level in 0..LEVELS {
        if entry & TAG != NODE {
            break;
        }
        let node = entry - NODE;
        let shift = member::<u8>(node, &offsets().xa_node_shift).map_or(0, u32::from) & 63;
        let at = index >> shift;
        if level == 0 && at >> CHUNK_SHIFT != 0 {
            return 0;
        }
        let slot = at & ((1 << CHUNK_SHIFT) - 1);
        entry = word(node + 8 * slot, &offsets().xa_node_slots);
    }
    match entry & TAG {
        POINTER => entry,
        _ => 0,
    }
}

/// The inode in a tree of `btrfs_inode.rb_node`, which is ordered by `btrfs_ino`: on 64-bit machines `i_ino`
/// (`inode_tree_add`, fs/btrfs/inode.c, 5.10 and 6.1).
#[inline(always)]
fn tree_inode(known: &BtrfsOffsets, tree: u64, ino: u64) -> u64 {
    let mut node = word(tree, &offsets().rb_root);
    for _ in 0..DEPTH {
        if node == 0 {
            break;
        }
        let inode = node - u64::from(known.inode_node) + u64::from(known.vfs_inode);
        let found = word(inode, &offsets().inode_ino);
        if found == ino {
            return inode;
        }
        let side =
            if ino < found { offset(&offsets().rb_left) } else { offset(&offsets().rb_right) };
        node = read_or_zero(node + u64::from(side));
    }
    0
}
