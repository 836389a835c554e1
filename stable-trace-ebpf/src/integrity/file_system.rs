//! Data that a file system read, and that does not match the checksum that it keeps of it: btrfs.
//!
//! btrfs logs the file of a wrong block, of at most 10 in 5 s (`btrfs_warn_rl`, fs/btrfs/messages.h), and then counts
//! it for the device that it was read from (`btrfs_data_csum_ok`, fs/btrfs/inode.c, 6.12 and 7.3;
//! `btrfs_check_data_csum`, 6.1). Both functions run for errors only, so that a sound read costs nothing. A block of
//! RAID5 or RAID6, which has no device of its own, is logged and not counted.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_get_current_task, bpf_ktime_get_ns},
    macros::{kprobe, map},
    maps::LruHashMap,
    programs::ProbeContext,
};
use stable_trace_common::{
    counter::Counter,
    folio::{BtrfsOffsets, Folio},
    integrity::{FILE, FILE_SYSTEM, GUARD, IntegrityKey, READ},
};

use super::{
    btrfs_inode::{inode, xarray_entry},
    report::{count_failure, reserve_record, submit_record},
};
use crate::{
    folio::{btrfs_offsets, identify_file_system},
    maps::count,
    members::{make_unknown, member, offset, offsets, read, read_or_zero},
    path,
};

/// The file that btrfs last logged in a task, by `task_struct`, until the error is counted.
#[map]
static LOGGED_FILES: LruHashMap<u64, LoggedFile> = LruHashMap::with_max_entries(1024, 0);

/// A block whose checksum was found wrong.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoggedFile {
    /// Address of the file system's `struct btrfs_fs_info`.
    fs: u64,
    /// Number of the subvolume's tree.
    root: u64,
    ino: u64,
    /// Place in the file, in bytes.
    at: u64,
}

const _: () = assert!(size_of::<LoggedFile>() == 32);

/// `BTRFS_DEV_STAT_CORRUPTION_ERRS`, include/uapi/linux/btrfs.h, 5.10 to 7.3.
const CORRUPTION: u32 = 3;

/// `btrfs_print_data_csum_error`, fs/btrfs/inode.c (6.12, 7.3), `fs/btrfs/btrfs_inode.h` (6.1), logs
/// `"csum failed root %llu ino %llu off %llu csum …"`, with `KERN_WARNING` before it up to 6.18.
const WITH_LEVEL: [u8; 16] = *b"\x014csum failed ro";
const WITHOUT_LEVEL: [u8; 16] = *b"csum failed root";

/// `void _btrfs_printk(const struct btrfs_fs_info *fs_info, const char *fmt, ...)` (6.1 to 6.18),
/// `void _btrfs_printk(const struct btrfs_fs_info *fs_info, unsigned int level, const char *fmt, ...)` (7.3).
#[kprobe]
fn btrfs_log(ctx: ProbeContext) -> u32 {
    // All are read before the first branch: the verifier permits no reads of the context at computed places.
    let [fs, first, second, third, fourth, fifth]: [u64; 6] =
        [0, 1, 2, 3, 4, 5].map(|number| ctx.arg(number).unwrap_or(0));
    let [root, ino, at] = if read(first) == Ok(WITH_LEVEL) {
        [second, third, fourth]
    } else if read(second) == Ok(WITHOUT_LEVEL) {
        [third, fourth, fifth]
    } else {
        return 0;
    };
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    let file = LoggedFile { fs, root, ino, at };
    if LOGGED_FILES.insert(task, file, u64::from(BPF_ANY)).is_err() {
        count(Counter::SubmittersFull);
    }
    0
}

/// `void btrfs_dev_stat_inc_and_print(struct btrfs_device *dev, int index)`, fs/btrfs/volumes.c, 5.10 to 7.3. Scrub
/// calls it too, for blocks that it has found wrong.
#[kprobe]
fn btrfs_device_error(ctx: ProbeContext) -> u32 {
    if let (Some(device), Some(CORRUPTION)) = (ctx.arg(0), ctx.arg(1))
        && let Some(known) = btrfs_offsets().filter(|known| known.checksums_known != 0)
    {
        checksum_failed(known, device);
    }
    0
}

#[inline(always)]
fn checksum_failed(known: &BtrfsOffsets, device: u64) {
    let bdev = read_or_zero(device + u64::from(known.device_bdev));
    let fs = read_or_zero(device + u64::from(known.device_fs));
    let key = IntegrityKey {
        dev: member(bdev, &offsets().bdev_dev).unwrap_or(0),
        op: READ,
        check: GUARD,
        source: FILE_SYSTEM,
    };
    count_failure(&key);
    let bytes: u32 = read(fs + u64::from(known.fs_block_bytes)).unwrap_or(0);
    let mut first = Folio::UNKNOWN;
    let _ = identify_file_system(read_or_zero(fs + u64::from(known.fs_sb)), &mut first.backing);
    if let Some(file) = take_logged(fs) {
        first.ino = file.ino;
        first.index = file.at >> (offset(&offsets().page_shift) & 31);
        let root = xarray_entry(fs + u64::from(known.fs_roots), file.root);
        if root != 0 && known.known != 0 {
            first.subvolume = read(root + u64::from(known.anon_dev)).unwrap_or(0);
            make_unknown(&mut first);
            path::send(inode(known, root, file.ino), &first);
        }
    }
    // SAFETY: no pointer is involved.
    let now = unsafe { bpf_ktime_get_ns() };
    // Its place on the device is not among the arguments.
    if let Some(mut entry) = reserve_record(&key, u64::MAX, u64::from(bytes), now) {
        // SAFETY: `reserve_record` has written all of the record.
        let [run, ..] = unsafe { &mut (*entry.as_mut_ptr()).runs };
        run.kind = FILE;
        // `btrfs_update_inode_mapping_flags` (6.8 to 7.3); before, writers wait without a flag (`prepare_pages`).
        run.stable = 1;
        run.count = 1;
        run.first = first;
        submit_record(entry);
    }
}

/// Takes the file that the current task last logged, if it is of this file system.
#[inline(always)]
fn take_logged(fs: u64) -> Option<LoggedFile> {
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    // SAFETY: only this task writes its entry.
    let logged = unsafe { LOGGED_FILES.get(task) }.copied()?;
    // May only fail if the entry has been evicted.
    let _ = LOGGED_FILES.remove(task);
    (logged.fs == fs).then_some(logged)
}
