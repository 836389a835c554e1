//! Proofs: what data and protection information of a failed check say about each other.

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

/// What was computed from the data of a failed check and its protection information.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ProofKind {
    /// A write: the memory does not match the guard that was made from it, so it changed since.
    MemoryChanged,
    /// The data matches its guard: it is as it was when the guard was made.
    MemoryIntact,
    /// Two readings of the memory differ: somebody changes it now.
    MemoryChanging,
    /// A read: the data matches its guard but for one bit.
    BitFlip,
    /// A read: zeros, or the data of another place of the disk.
    ForeignData,
    /// User space supplied the protection information.
    ApplicationTuple,
    /// Nothing could be computed, or what was says nothing.
    None,
}

impl ProofKind {
    /// Every kind, in the order of reports.
    pub const ALL: &[Self] = Self::VARIANTS;
}

/// The outcome for the first interval that says something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// What was found.
    pub kind: ProofKind,
    /// The interval, counted from the first sector of the failed part. An interval is what one tuple protects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<u64>,
    /// The guard in the protection information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_guard: Option<u64>,
    /// The guard of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed_guard: Option<u64>,
    /// The byte within the interval, of a flipped bit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The bit within that byte, 0 for the least significant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bit: Option<u8>,
    /// Why there is no proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_none: Option<String>,
}

impl Proof {
    /// Of this kind, without figures.
    pub const fn of(kind: ProofKind) -> Self {
        Self {
            kind,
            interval: None,
            stored_guard: None,
            computed_guard: None,
            offset: None,
            bit: None,
            why_none: None,
        }
    }

    /// Whether something was found.
    pub fn says_something(&self) -> bool {
        self.kind != ProofKind::None
    }

    /// No proof, and why.
    pub fn none(why: impl Into<String>) -> Self {
        Self { why_none: Some(why.into()), ..Self::of(ProofKind::None) }
    }
}
