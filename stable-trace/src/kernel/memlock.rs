//! The limit on locked memory, which BPF maps and programs count against up to 5.10.

use rustix::process::{Resource, Rlimit, setrlimit};

/// Removes the limit for this process. From 5.11 on BPF memory is charged to the memory cgroup
/// instead (`bpf_map_charge_init` is gone from kernel/bpf/syscall.c), and the limit does not matter:
/// a failure is logged at debug level only.
pub fn lift() {
    let unlimited = Rlimit { current: None, maximum: None };
    if let Err(error) = setrlimit(Resource::Memlock, unlimited) {
        log::debug!("the limit on locked memory cannot be removed: {error}");
    }
}
