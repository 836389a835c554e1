//! `--pid`, `--comm` and `--cgroup`: which waiters are followed at all.

use aya_ebpf::helpers::bpf_get_current_comm;
use stable_trace_common::record::COMM_LEN;

use crate::maps::{CGROUPS, ONLY_CGROUP, ONLY_COMM, ONLY_PID};

/// The name of the current thread, NUL-padded; empty if the kernel does not say.
#[inline(always)]
pub fn current_comm() -> [u8; COMM_LEN] {
    bpf_get_current_comm().unwrap_or([0; COMM_LEN])
}

/// Whether the user asked for the current task.
#[inline(always)]
pub fn wanted(pid_tgid: u64, comm: &[u8; COMM_LEN]) -> bool {
    let pid = ONLY_PID.load();
    if pid != 0 && (pid_tgid >> 32) as u32 != pid {
        return false;
    }
    let name = ONLY_COMM.load();
    if name != [0; 2] && words(comm) != name {
        return false;
    }
    // An error means that the agent put no cgroup there, which it always does with the flag.
    ONLY_CGROUP.load() == 0 || CGROUPS.current_task_under_cgroup(0).unwrap_or(false)
}

/// A name as two words in the host's byte order.
#[inline(always)]
fn words(comm: &[u8; COMM_LEN]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *comm;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
}
