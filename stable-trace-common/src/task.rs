//! How a task is named.

/// Bytes of a thread's name: `TASK_COMM_LEN` (include/linux/sched.h).
pub const COMM_LEN: usize = 16;

/// Process (`tgid`) and thread (`pid`) of what `bpf_get_current_pid_tgid` returns.
#[must_use]
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "two halves of a word")]
pub const fn process_and_thread(pid_tgid: u64) -> (u32, u32) {
    ((pid_tgid >> 32) as u32, pid_tgid as u32)
}
