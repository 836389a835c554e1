//! `--device`: which file systems and devices the programs follow.

/// What the agent has decided about a file system or device, as the map `DEVICE_FILTER` holds it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterDecision(u32);

impl FilterDecision {
    /// The user asked for it.
    pub const INCLUDE: Self = Self(1);
    /// The user did not ask for it: its waits are skipped.
    pub const EXCLUDE: Self = Self(2);
}
