//! Process names, and stall time by process name and cgroup: complete even if the stream loses records.

use core::ffi::c_void;

use aya_ebpf::{
    Global, bindings::BPF_NOEXIST, helpers::generated::bpf_probe_read_kernel_str, macros::map,
    maps::PerCpuHashMap,
};
use stable_trace_common::{
    offsets::ABSENT,
    process::{ProcessKey, ProcessStalls},
    task::{COMM_LEN, process_and_thread},
    waiter::Waiter,
};

use crate::{
    maps::{self, add_one},
    members::{member, offset, offsets},
};

/// 1: stall time is counted by cgroup too.
#[unsafe(no_mangle)]
static LABEL_CGROUP: Global<u32> = Global::new(0);

/// Stall time by process name, cgroup and stack. If it is full, stalls are added to [`ProcessKey::OVERFLOW`].
#[map]
static PROCESS_STALLS: PerCpuHashMap<ProcessKey, ProcessStalls> =
    PerCpuHashMap::with_max_entries(4_096, 0);

/// Replaces the name of a thread of the current process by that of the group leader, unless the kernel's
/// types are not known. `task` is the current task.
#[inline(always)]
pub(crate) fn leader_name(task: u64, pid_tgid: u64, name: &mut [u8; COMM_LEN]) {
    let (process, thread) = process_and_thread(pid_tgid);
    let comm = offset(&offsets().task_comm);
    if process == thread || comm == ABSENT {
        return;
    }
    // `group_leader` is changed only by `de_thread` (fs/exec.c, 5.10 to 7.3), in the new leader itself.
    let Some(leader) = member::<u64>(task, &offsets().task_group_leader) else {
        return;
    };
    *name = own_name(leader);
}

/// The name of a task, NUL-padded; empty without BTF. Not the bytes after its NUL: 5.10 leaves those of an
/// earlier, longer name there (`strlcpy` in `__set_task_comm`, fs/exec.c; 6.1 has `strscpy_pad`).
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "16")]
pub(crate) fn own_name(task: u64) -> [u8; COMM_LEN] {
    let mut name = [0; COMM_LEN];
    let comm = offset(&offsets().task_comm);
    if comm != ABSENT {
        let address = (task + u64::from(comm)) as *const c_void;
        // SAFETY: the helper writes `COMM_LEN` bytes at most, and takes any address to read from. If the read
        // fails the name is empty.
        let _ = unsafe {
            bpf_probe_read_kernel_str(name.as_mut_ptr().cast(), COMM_LEN as u32, address)
        };
    }
    name
}

/// Adds a finished stall to its process's name.
///
/// Not inlined: its frame would not fit beside its caller's.
#[inline(never)]
pub(crate) fn add_stall(waiter: &Waiter, duration_ns: u64) {
    let cgroup_id = if LABEL_CGROUP.load() == 0 { 0 } else { waiter.cgroup_id };
    let key = ProcessKey { process: waiter.process, cgroup_id, stack: waiter.stack };
    if add(&key, duration_ns) {
        return;
    }
    // Fails if the map is full, or if another CPU was first: the next look-up tells which.
    let _ = PROCESS_STALLS.insert(key, ProcessStalls::EMPTY, u64::from(BPF_NOEXIST));
    if !add(&key, duration_ns) {
        add(&ProcessKey::OVERFLOW, duration_ns);
    }
}

/// Adds to an existing entry; false if there is none.
#[inline(always)]
fn add(key: &ProcessKey, duration_ns: u64) -> bool {
    let Some(stalls) = PROCESS_STALLS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a live per-CPU map value of this type, to whose words every writer adds atomically.
    unsafe {
        maps::add(&raw mut (*stalls).sum_ns, duration_ns);
        add_one(&raw mut (*stalls).stalls);
    }
    true
}
