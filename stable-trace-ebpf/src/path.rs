//! Paths of files, from their dentries: also for files in other mount namespaces, of processes that have
//! ended, and that no process has open.

use core::arch::asm;

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_ktime_get_ns, generated::bpf_probe_read_kernel_str},
    macros::map,
    maps::LruHashMap,
};
use stable_trace_common::{
    counter::Counter,
    folio::Folio,
    offsets::ABSENT,
    path::{
        AT_SB_ROOT, COMPLETE, COMPONENTS, DELETED, FileKey, NAME_BYTES, NAMES_LIMIT, PathRecord,
    },
    record::PATH,
};

use crate::{
    maps::{EVENTS, count, wake_up},
    members::{member, offset, offsets, read_or_zero},
};

/// When the path of a file was last sent: `CLOCK_MONOTONIC` in ns.
#[map]
static PATHS_SENT: LruHashMap<FileKey, u64> = LruHashMap::with_max_entries(4_096, 0);

/// A path is sent again after this time in ns: a file may be renamed or deleted.
const RESEND_AFTER_NS: u64 = 1_000_000_000;

/// Sends the path of a file, unless it was sent within [`RESEND_AFTER_NS`]. `inode` may have been freed
/// meanwhile: what was read counts only if it still is the file of `folio`.
///
/// Not inlined: its frame would not fit beside its callers'.
#[inline(never)]
pub(crate) fn send(inode: u64, folio: &Folio) {
    if inode == 0
        || offset(&offsets().dentry_alias) == ABSENT
        || folio.backing.is_type(*b"bdev\0\0\0\0")
    {
        return;
    }
    let key = FileKey {
        dev: folio.backing.dev,
        subvolume: folio.subvolume,
        ino: folio.ino,
        generation: u64::from(
            member::<u32>(inode, &offsets().inode_generation).unwrap_or_default(),
        ),
    };
    // SAFETY: no pointer is involved.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: a word that is only ever replaced as a whole.
    if let Some(sent) = unsafe { PATHS_SENT.get(key) }
        && now.wrapping_sub(*sent) < RESEND_AFTER_NS
    {
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<PathRecord>(0) else {
        count(Counter::PathsLost);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is as large as the record and aligned to 8 bytes. Every field but the
    // names is written here.
    unsafe {
        (*record).kind = PATH;
        (*record).size = PathRecord::SIZE;
        (*record).backing = folio.backing;
        (*record).subvolume = folio.subvolume;
        (*record).ino = folio.ino;
    }
    if walk(inode, folio.ino, record).is_some() {
        entry.submit(wake_up());
    } else {
        entry.discard(0);
    }
    // An LRU map evicts its oldest entry if it is full. If the update fails the path is sent once more.
    let _ = PATHS_SENT.insert(key, now, u64::from(BPF_ANY));
}

/// Reads the names from the inode's first dentry up to its root. `None` if it has no dentry, or is not
/// the inode `ino` any more.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the length of a name, 256")]
#[expect(clippy::cast_sign_loss, reason = "more than 1 here")]
fn walk(inode: u64, ino: u64, record: *mut PathRecord) -> Option<()> {
    let alias: u64 = member(inode, &offsets().inode_dentry)?;
    if alias == 0 {
        return None;
    }
    let mut dentry = alias - u64::from(offset(&offsets().dentry_alias));
    let own: u64 = member(dentry, &offsets().dentry_inode)?;
    let links: u32 = member(inode, &offsets().inode_nlink)?;
    let hashed: u64 = member(dentry, &offsets().dentry_hashed)?;
    let mut flags = if links == 0 || hashed == 0 { DELETED } else { 0 };
    let (parent_at, name_at) = (offset(&offsets().dentry_parent), offset(&offsets().dentry_name));
    if parent_at == ABSENT || name_at == ABSENT {
        return None;
    }
    let mut at: u64 = 0;
    // Reads have no branch of their own: from 6.8 on the verifier seldom prunes inside a loop, and follows
    // this one at each call. A read that fails gives an empty name.
    for _ in 0..COMPONENTS {
        let parent = read_or_zero(dentry + u64::from(parent_at));
        if parent == dentry {
            flags |= COMPLETE;
            break;
        }
        let name = read_or_zero(dentry + u64::from(name_at));
        let place = masked(at);
        // SAFETY: `names` has room for one name behind each place that the mask permits, and the helper
        // takes any source address.
        let length = unsafe {
            let names = (&raw mut (*record).names).cast::<u8>().add(place);
            bpf_probe_read_kernel_str(names.cast(), NAME_BYTES as u32, name as *const _)
        };
        // One byte is the NUL of an empty name.
        if length <= 1 {
            return None;
        }
        at += length as u64;
        dentry = parent;
        if at >= NAMES_LIMIT as u64 {
            break;
        }
    }
    let sb: u64 = member(inode, &offsets().inode_sb)?;
    let root: u64 = member(sb, &offsets().sb_root)?;
    if root == dentry {
        flags |= AT_SB_ROOT;
    }
    // The wait is over: the inode may have been evicted, and its memory reused.
    let still: u64 = member(inode, &offsets().inode_ino)?;
    // SAFETY: as in `send`.
    unsafe {
        (*record).flags = flags;
        (*record).length = at;
    }
    (own == inode && still == ino && at != 0).then_some(())
}

/// The place of the next name, below [`NAMES_LIMIT`]. In assembler: the compiler knows that the mask does
/// nothing and would remove it, but the verifier does not.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "eBPF has registers of 64 bits")]
fn masked(at: u64) -> usize {
    let mut place = at;
    // SAFETY: it changes one register.
    unsafe { asm!("{0} &= {1}", inout(reg) place, const NAMES_LIMIT - 1) };
    place as usize
}
