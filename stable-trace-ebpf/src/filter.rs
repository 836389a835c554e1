//! `--pid`, `--comm`, `--cgroup` and `--device`: which waits are followed at all.

use aya_ebpf::helpers::bpf_get_current_comm;
use stable_trace_common::{
    backing::Backing,
    device::Wish,
    record::{COMM_LEN, process_and_thread},
};

use crate::maps::{CGROUPS, ONLY_CGROUP, ONLY_COMM, ONLY_DEVICES, ONLY_PID, WISHES};

/// The name of the current thread, NUL-padded; empty if the kernel does not say.
#[inline(always)]
pub fn current_comm() -> [u8; COMM_LEN] {
    bpf_get_current_comm().unwrap_or([0; COMM_LEN])
}

/// Whether the user asked for the current task.
#[inline(always)]
pub fn wanted(pid_tgid: u64, comm: &[u8; COMM_LEN]) -> bool {
    let pid = ONLY_PID.load();
    if pid != 0 && process_and_thread(pid_tgid).0 != pid {
        return false;
    }
    let name = ONLY_COMM.load();
    if name != [0; 2] && words(comm) != name {
        return false;
    }
    // An error means that the agent put no cgroup there, which it always does with the flag.
    ONLY_CGROUP.load() == 0 || CGROUPS.current_task_under_cgroup(0).unwrap_or(false)
}

/// Whether the user asked for the device, as far as the agent has said.
#[inline(always)]
pub fn wanted_device(backing: &Backing) -> bool {
    if ONLY_DEVICES.load() == 0 {
        return true;
    }
    // SAFETY: the value is four bytes that the agent replaces as a whole.
    let wish = unsafe { WISHES.get(backing) };
    wish.copied() != Some(Wish::UNWANTED)
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
