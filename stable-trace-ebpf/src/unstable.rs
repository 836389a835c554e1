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
    record::{UNSTABLE, UnstableRecord},
    task::process_and_thread,
    unstable::UnstableKey,
};

use crate::{
    filter, folio,
    maps::{EVENTS, checks_integrity, count, wake_up},
    path, process, stack,
};

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
    let Some(mapping) = folio::mapping(folio) else {
        return;
    };
    let mut page = Folio::UNKNOWN;
    let Some(inode) = folio::identify(folio, mapping, &mut page) else {
        return;
    };
    let required = u32::from(folio::stable_required(mapping));
    report(ctx, &page, inode, &UnstableKey { backing: page.backing, context, required });
}

/// Counts an unstable write that the filters include, and streams it unless it is harmless. A verdict
/// rests on the writes that are not harmless: no filter of tasks hides them.
#[inline(always)]
fn report(ctx: &impl EbpfContext, page: &Folio, inode: u64, key: &UnstableKey) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let comm = filter::current_comm();
    let harmless = key.required == 0 && !checks_integrity(key.backing.dev);
    if harmless
        && !(filter::includes_task(pid_tgid, &comm) && filter::includes_device(&page.backing))
    {
        return;
    }
    count_write(key);
    if harmless && STREAM_HARMLESS.load() == 0 {
        count(Counter::UnstableHarmless);
        return;
    }
    let (pid, tid) = process_and_thread(pid_tgid);
    let stack = stack::store_current(ctx);
    path::send(inode, page);
    let Some(mut entry) = EVENTS.reserve::<UnstableRecord>(0) else {
        count(Counter::Lost);
        return;
    };
    let record = entry.write(UnstableRecord {
        kind: UNSTABLE,
        size: UnstableRecord::SIZE,
        // SAFETY: no pointer is involved.
        time_ns: unsafe { bpf_ktime_get_ns() },
        ino: page.ino,
        index: page.index,
        // SAFETY: no pointer is involved.
        cgroup_id: unsafe { bpf_get_current_cgroup_id() },
        stack,
        pid,
        tid,
        comm,
        process: comm,
        key: *key,
        subvolume: page.subvolume,
        padding: 0,
    });
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    process::leader_name(task, pid_tgid, &mut record.process);
    entry.submit(wake_up());
    count(Counter::UnstableStreamed);
}

#[inline(always)]
fn count_write(key: &UnstableKey) {
    if add(key) {
        return;
    }
    // Fails if the map is full, or if another CPU was first: the next look-up tells which.
    let _ = UNSTABLE_WRITES.insert(key, 0, u64::from(BPF_NOEXIST));
    if !add(key) {
        count(Counter::UnstableFull);
    }
}

/// Adds 1 to an existing count; false if there is none.
#[inline(always)]
fn add(key: &UnstableKey) -> bool {
    let Some(value) = UNSTABLE_WRITES.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a live per-CPU map value. Without preemption this CPU has one writer at a time; a program
    // that is preempted here may overwrite what another one adds meanwhile.
    unsafe { *value += 1 };
    true
}
