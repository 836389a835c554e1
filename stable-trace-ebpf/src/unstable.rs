//! A page given to a writer: counted and streamed if it is under writeback.

use aya_ebpf::{
    EbpfContext, Global,
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns,
    },
    macros::map,
    maps::{LruHashMap, PerCpuHashMap},
};
use stable_trace_common::{
    counter::Counter,
    folio::Folio,
    offsets::ABSENT,
    record::{UNSTABLE, UnstableRecord},
    task::{COMM_LEN, process_and_thread},
    unstable::UnstableKey,
};

use crate::{
    filter, folio,
    maps::{self, EVENTS, add_to_counter, checks_data, count, wake_up},
    members::{offset, offsets, read_or_zero},
    path, process, stack,
};

/// Pages of one write that are checked. `prepare_pages` (fs/btrfs/file.c, 5.10 to 6.12) takes up to 1 MiB of
/// pages in a batch, more than a program can check.
const PAGES: usize = 8;

/// Unstable writes, by device, context and whether stable pages were required.
#[map]
static UNSTABLE_WRITES: PerCpuHashMap<UnstableKey, u64> = PerCpuHashMap::with_max_entries(1024, 0);

/// The folio of the last unstable write that an outer function counted, by `task_struct`, for the
/// latest tasks.
#[map]
static COUNTED_WRITES: LruHashMap<u64, u64> = LruHashMap::with_max_entries(4_096, 0);

/// 1: stream harmless unstable writes too.
#[unsafe(no_mangle)]
static STREAM_HARMLESS: Global<u32> = Global::new(0);

/// A writer has changed, or is about to change, a folio that it holds locked. `outer`: the probed
/// function may call another probed one for the same folio, as `generic_write_end` and
/// `iomap_write_end` call, or contain, `block_write_end`.
#[inline(always)]
pub(crate) fn folio_written(ctx: &impl EbpfContext, folio: u64, context: u32, outer: bool) {
    if !folio::under_writeback(folio) {
        return;
    }
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    if outer {
        // Keeps the inner function from counting the same write. If the map is full the write is
        // counted twice, and so is the failure of the map.
        if COUNTED_WRITES.insert(task, folio, u64::from(BPF_ANY)).is_err() {
            count(Counter::UnstableFull);
        }
    } else {
        // SAFETY: a word that only probes in this task write.
        let counted = unsafe { COUNTED_WRITES.get(task) }.copied();
        if counted == Some(folio) {
            let _ = COUNTED_WRITES.remove(task);
            return;
        }
    }
    let mut page = Folio::UNKNOWN;
    let Some((inode, key)) = identify(folio, context, &mut page) else {
        return;
    };
    if let Some(writer) = Writer::included(ctx, &page, inode, &key)
        && writer.counts(&key, 1)
    {
        writer.stream(&page, &key);
    }
}

/// A writer has changed, or is about to change, `count` pages of one file, of which the first [`PAGES`] are
/// checked. `pages` is the address of an array of their addresses; none is a tail page.
///
/// What they have in common is read once, and the first loop has no branch: from 6.8 on the verifier seldom
/// prunes inside a loop, so that each branch would double what it follows.
#[inline(always)]
pub(crate) fn pages_written(ctx: &impl EbpfContext, pages: u64, count: u64, context: u32) {
    let (flags_at, index_at) = (offset(&offsets().folio_flags), offset(&offsets().folio_index));
    let bit = offset(&offsets().pg_writeback);
    if flags_at == ABSENT || index_at == ABSENT || bit >= 64 {
        return;
    }
    if count > PAGES as u64 {
        add_to_counter(Counter::PagesUnchecked, count - PAGES as u64);
    }
    let page_at = |place: usize| read_or_zero(pages + 8 * place as u64);
    let mut held = [0_u8; PAGES];
    let mut writes = 0;
    for (place, held) in held.iter_mut().enumerate() {
        let flags = read_or_zero(page_at(place) + u64::from(flags_at));
        // The sign of a difference: 1 below `count`.
        let is_below = (place as u64).wrapping_sub(count) >> 63;
        let is_held = flags >> bit & 1 & is_below;
        *held = is_held.to_ne_bytes()[0];
        writes += is_held;
    }
    if writes == 0 {
        return;
    }
    let mut page = Folio::UNKNOWN;
    let Some((inode, key)) = identify(page_at(0), context, &mut page) else {
        return;
    };
    let Some(task) = Writer::included(ctx, &page, inode, &key) else {
        return;
    };
    if !task.counts(&key, writes) {
        return;
    }
    for (place, held) in held.iter().enumerate() {
        if *held != 0 {
            page.index = read_or_zero(page_at(place) + u64::from(index_at));
            task.stream(&page, &key);
        }
    }
}

/// Identifies a folio that is written to: its inode's address, and the key of its count.
#[inline(always)]
fn identify(folio: u64, context: u32, page: &mut Folio) -> Option<(u64, UnstableKey)> {
    let mapping = folio::mapping(folio)?;
    let inode = folio::identify(folio, mapping, page)?;
    let required = folio::stable_required(mapping);
    Some((inode, UnstableKey { backing: page.backing, context, required }))
}

/// What is the same in all unstable writes of one task at one time.
struct Writer {
    pid_tgid: u64,
    comm: [u8; COMM_LEN],
    process: [u8; COMM_LEN],
    stack: u64,
    is_streamed: bool,
}

impl Writer {
    /// The current task, if the filters include its write. A verdict rests on the writes that are not
    /// harmless: no filter of tasks hides them. Sends the path of the file if the write is streamed.
    #[inline(always)]
    fn included(
        ctx: &impl EbpfContext,
        page: &Folio,
        inode: u64,
        key: &UnstableKey,
    ) -> Option<Self> {
        let pid_tgid = bpf_get_current_pid_tgid();
        let comm = filter::current_comm();
        let harmless = key.required == 0 && !checks_data(key.backing.dev);
        if harmless
            && !(filter::includes_task(pid_tgid, &comm) && filter::includes_device(&page.backing))
        {
            return None;
        }
        let is_streamed = !harmless || STREAM_HARMLESS.load() != 0;
        let mut writer = Self { pid_tgid, comm, process: comm, stack: 0, is_streamed };
        if is_streamed {
            // SAFETY: no pointer is involved.
            let task = unsafe { bpf_get_current_task() };
            path::send(inode, page);
            process::leader_name(task, pid_tgid, &mut writer.process);
            writer.stack = stack::of_writer(ctx);
        }
        Some(writer)
    }

    /// Counts unstable writes. Returns whether they are to be streamed.
    #[inline(always)]
    fn counts(&self, key: &UnstableKey, writes: u64) -> bool {
        count_writes(key, writes);
        if !self.is_streamed {
            add_to_counter(Counter::UnstableHarmless, writes);
        }
        self.is_streamed
    }

    /// Streams an unstable write.
    #[inline(always)]
    fn stream(&self, page: &Folio, key: &UnstableKey) {
        let Some(mut entry) = EVENTS.reserve::<UnstableRecord>(0) else {
            count(Counter::Lost);
            return;
        };
        let (pid, tid) = process_and_thread(self.pid_tgid);
        entry.write(UnstableRecord {
            kind: UNSTABLE,
            size: UnstableRecord::SIZE,
            // SAFETY: no pointer is involved.
            time_ns: unsafe { bpf_ktime_get_ns() },
            ino: page.ino,
            index: page.index,
            // SAFETY: no pointer is involved.
            cgroup_id: unsafe { bpf_get_current_cgroup_id() },
            stack: self.stack,
            pid,
            tid,
            comm: self.comm,
            process: self.process,
            key: *key,
            subvolume: page.subvolume,
            padding: 0,
        });
        entry.submit(wake_up());
        count(Counter::UnstableStreamed);
    }
}

#[inline(always)]
fn count_writes(key: &UnstableKey, writes: u64) {
    if add(key, writes) {
        return;
    }
    // Fails if the map is full, or if another CPU was first: the next look-up tells which.
    let _ = UNSTABLE_WRITES.insert(key, 0, u64::from(BPF_NOEXIST));
    if !add(key, writes) {
        add_to_counter(Counter::UnstableFull, writes);
    }
}

/// Adds to an existing count; false if there is none.
#[inline(always)]
fn add(key: &UnstableKey, writes: u64) -> bool {
    let Some(value) = UNSTABLE_WRITES.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a live, aligned per-CPU map value, to which every writer adds atomically.
    unsafe { maps::add(value, writes) };
    true
}
