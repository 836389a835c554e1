//! A page given to a writer: counted and streamed if it is under writeback.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task,
        bpf_ktime_get_ns, bpf_probe_read_kernel,
    },
};
use stable_trace_common::{
    counter::Counter,
    record::{UNSTABLE, UnstableRecord, process_and_thread},
    unstable::UnstableKey,
    waiter::Folio,
};

use crate::{
    emit, filter,
    folio::{self, UNKNOWN},
    maps::{CHECKED_DEVICES, EVENTS, STREAM_HARMLESS, UNSTABLE_WRITES, WRITTEN, count},
    stack,
};

/// A writer has the folio, and its lock. `outer` says that the probed function may call another
/// probed one for the same folio: `generic_write_end` and `iomap_write_end` call, or contain,
/// `block_write_end`.
#[inline(always)]
pub fn written(ctx: &impl EbpfContext, folio: u64, context: u32, outer: bool) {
    if !folio::under_writeback(folio) {
        return;
    }
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    if outer {
        // Tells the inner one, if there is one, that this is counted. If the map is full it is
        // counted twice, and the map's own failure is counted as well.
        if WRITTEN.insert(task, folio, u64::from(BPF_ANY)).is_err() {
            count(Counter::UnstableFull);
        }
    } else {
        // SAFETY: a word, which only this task's own probes write.
        let counted = unsafe { WRITTEN.get(task) }.copied();
        if counted == Some(folio) {
            let _ = WRITTEN.remove(task);
            return;
        }
    }
    let Some(mapping) = folio::mapping(folio) else {
        return;
    };
    let mut page = UNKNOWN;
    if folio::identify(folio, mapping, &mut page).is_none() {
        return;
    }
    let required = u32::from(folio::stable_required(mapping));
    tell(ctx, &page, &UnstableKey { backing: page.backing, context, required });
}

/// A pointer in an array of them.
#[inline(always)]
pub fn pointer_at(address: u64) -> Option<u64> {
    // SAFETY: the helper takes any address, and fails on one that cannot be read.
    unsafe { bpf_probe_read_kernel(address as *const u64) }.ok()
}

#[inline(always)]
fn tell(ctx: &impl EbpfContext, page: &Folio, key: &UnstableKey) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let comm = filter::current_comm();
    if !filter::wanted(pid_tgid, &comm) || !filter::wanted_device(&page.backing) {
        return;
    }
    tally(key);
    // SAFETY: a word that the agent replaces as a whole.
    let checked = unsafe { CHECKED_DEVICES.get(key.backing.dev) }.is_some();
    if key.required == 0 && !checked && STREAM_HARMLESS.load() == 0 {
        count(Counter::UnstableHarmless);
        return;
    }
    let (pid, tid) = process_and_thread(pid_tgid);
    let stack = stack::remember(ctx);
    let Some(mut entry) = EVENTS.reserve::<UnstableRecord>(0) else {
        count(Counter::Lost);
        return;
    };
    entry.write(UnstableRecord {
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
        key: *key,
    });
    entry.submit(emit::wake_up());
    count(Counter::UnstableStreamed);
}

#[inline(always)]
fn tally(key: &UnstableKey) {
    if add(key) {
        return;
    }
    // Fails if the map is full, or if another CPU was first: the next look tells which.
    let _ = UNSTABLE_WRITES.insert(key, 0, u64::from(BPF_NOEXIST));
    if !add(key) {
        count(Counter::UnstableFull);
    }
}

#[inline(always)]
fn add(key: &UnstableKey) -> bool {
    let Some(value) = UNSTABLE_WRITES.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a live per-CPU map value; programs run with preemption off, so it has one writer.
    unsafe { *value += 1 };
    true
}
