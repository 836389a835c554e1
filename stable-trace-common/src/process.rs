//! Stall time by process name, cgroup and stack.

use crate::task::COMM_LEN;

/// Key of the map `PROCESS_STALLS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    /// Name of the waiter's process, NUL-padded.
    pub process: [u8; COMM_LEN],
    /// Id of the waiter's cgroup (v2) with `--label cgroup`, else 0.
    pub cgroup_id: u64,
    /// Id of the stack of its waits. The agent derives the context from it.
    pub stack: u64,
}

impl ProcessKey {
    /// The sum of all stalls that have no entry of their own because the map is full. The agent creates
    /// it before it attaches the programs. Stalls of a process with an empty name and an unknown stack are
    /// in it too.
    pub const OVERFLOW: Self = Self { process: [0; COMM_LEN], cgroup_id: 0, stack: 0 };
}

/// Stall time: in the kernel that of one CPU, in the agent the sum over the CPUs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessStalls {
    /// Sum of the durations in ns.
    pub sum_ns: u64,
    /// Number of stalls.
    pub stalls: u64,
}

impl ProcessStalls {
    /// No stalls.
    pub const EMPTY: Self = Self { sum_ns: 0, stalls: 0 };

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
        self.stalls += other.stalls;
    }
}

const _: () = assert!(size_of::<ProcessKey>() == COMM_LEN + 16);
const _: () = assert!(size_of::<ProcessStalls>() == 16);
