//! `--pid`, `--comm`, `--cgroup` and `--device`: which waits are followed.

use aya_ebpf::{
    Global,
    helpers::{bpf_get_current_task, generated::bpf_get_current_comm},
    macros::map,
    maps::{CgroupArray, HashMap},
};
use stable_trace_common::{
    backing::Backing,
    counter::Counter,
    device_filter::FilterDecision,
    task::{COMM_LEN, process_and_thread},
};

use crate::{
    follow,
    maps::count,
    members::{member, offsets},
    process,
};

/// The agent's decisions for `--device`. A file system or device that is not in the map is followed:
/// it may be mounted after the start, and the agent decides when it first sees it.
#[map]
static DEVICE_FILTER: HashMap<Backing, FilterDecision> = HashMap::with_max_entries(1024, 0);

/// The cgroup of `--cgroup`, in slot 0.
#[map]
static CGROUPS: CgroupArray = CgroupArray::with_max_entries(1, 0);

/// Only waiters of this process (`tgid`); 0 for all. Only where descendants cannot be followed.
#[unsafe(no_mangle)]
static ONLY_PID: Global<u32> = Global::new(0);

/// Only waiters whose thread or process has this name, NUL-padded; all zero for all. Two words, because
/// comparing words takes fewer instructions than comparing bytes.
#[unsafe(no_mangle)]
static ONLY_COMM: Global<[u64; 2]> = Global::new([0; 2]);

/// 1: only waiters in the cgroup of [`CGROUPS`], or below it.
#[unsafe(no_mangle)]
static ONLY_CGROUP: Global<u32> = Global::new(0);

/// 1: skip waits for devices that [`DEVICE_FILTER`] excludes.
#[unsafe(no_mangle)]
static ONLY_DEVICES: Global<u32> = Global::new(0);

/// The name of the current thread, NUL-padded; empty if the helper fails.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "16")]
pub(crate) fn current_comm() -> [u8; COMM_LEN] {
    let mut comm = [0; COMM_LEN];
    // No branch on the result: the verifier would follow both ways to the program's end.
    // SAFETY: the helper writes `COMM_LEN` bytes, zeros if it fails.
    let _ = unsafe { bpf_get_current_comm((&raw mut comm).cast(), COMM_LEN as u32) };
    comm
}

/// Whether a wait of the current task passes all filters. Counts one that does not.
#[inline(always)]
pub(crate) fn includes_wait(pid_tgid: u64, comm: &[u8; COMM_LEN], backing: &Backing) -> bool {
    if !includes_task(pid_tgid, comm) {
        count(Counter::OtherTasks);
        return false;
    }
    if !includes_device(backing) {
        count(Counter::OtherDevices);
        return false;
    }
    true
}

/// Whether the user asked for the current task.
#[inline(always)]
pub(crate) fn includes_task(pid_tgid: u64, comm: &[u8; COMM_LEN]) -> bool {
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    let (process, _) = process_and_thread(pid_tgid);
    if follow::is_on() && !follow::follows(task, process) {
        return false;
    }
    let pid = ONLY_PID.load();
    if pid != 0 && process != pid {
        return false;
    }
    let name = ONLY_COMM.load();
    if name != [0; 2] && words(comm) != name && process_name(task) != Some(name) {
        return false;
    }
    // An error means that the slot is empty. With `--cgroup` the agent always fills it.
    ONLY_CGROUP.load() == 0 || CGROUPS.current_task_under_cgroup(0).unwrap_or(false)
}

/// The name of a task's process, which is that of its first thread, as two words; `None` without BTF.
#[inline(always)]
fn process_name(task: u64) -> Option<[u64; 2]> {
    let leader: u64 = member(task, &offsets().task_group_leader)?;
    Some(words(&process::own_name(leader)))
}

/// Whether the user asked for the device, as far as the agent has decided.
#[inline(always)]
pub(crate) fn includes_device(backing: &Backing) -> bool {
    if ONLY_DEVICES.load() == 0 {
        return true;
    }
    // SAFETY: the value is four bytes that the agent replaces as a whole.
    let decision = unsafe { DEVICE_FILTER.get(backing) };
    decision.copied() != Some(FilterDecision::EXCLUDE)
}

/// A name as two words in the host's byte order.
#[inline(always)]
fn words(comm: &[u8; COMM_LEN]) -> [u64; 2] {
    // Both halves are whole words: `COMM_LEN` is 16.
    let (words, _) = comm.as_chunks::<8>();
    match words {
        [first, second] => [u64::from_ne_bytes(*first), u64::from_ne_bytes(*second)],
        _ => [0; 2],
    }
}
