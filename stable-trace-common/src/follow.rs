//! `--pid`, `run` and `wac`: how a process that the agent names is followed.

/// What is followed of a process that the agent names, as the map `SEEDS` holds it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u32);

impl Seed {
    /// The process, and the processes that it creates.
    pub const PROCESS: Self = Self(1);
    /// Only the processes that it creates: the agent, while it starts its command.
    pub const CHILDREN: Self = Self(2);
}

/// Entries of the maps of followed processes. Both need some 2 MB, if a filter needs them at all.
pub const MAX_FOLLOWED: u32 = 16_384;
