//! Which backing devices the user asked for.

/// What the agent says of a backing device, once it has seen its name.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish(pub u32);

impl Wish {
    /// Follow its waits.
    pub const WANTED: Self = Self(1);
    /// Pass over its waits.
    pub const UNWANTED: Self = Self(2);
}
