//! The rules of `rules.md`: from the context of an error to a cause and a confidence.

use strum::{IntoStaticStr, VariantArray};

use crate::event::{Cause, Check, Operation, ProofKind, Source};

/// Whether a page must not change under writeback, the least stable first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stability {
    /// Its mapping does not require stable pages.
    Unstable,
    /// The mapping is unknown; its device did not require stable pages when the run started.
    UnstableByDevice,
    #[default]
    Unknown,
    /// The mapping is unknown; its device required stable pages when the run started.
    StableByDevice,
    /// Its mapping requires stable pages.
    Stable,
}

/// What the rules decide on.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the flags are independent facts")]
pub(super) struct RuleInput {
    pub(super) op: Operation,
    pub(super) check: Check,
    pub(super) source: Source,
    /// What was computed from data and protection information.
    pub(super) proof: Option<ProofKind>,
    /// The proof rests on the protection information alone, which no process can change.
    pub(super) proof_without_memory: bool,
    /// Pages of the page cache in the failed part.
    pub(super) file_pages: u64,
    /// Those of them that are of a block device's own page cache, in which a file system changes its metadata unseen.
    pub(super) device_pages: u64,
    /// Pages of buffers of direct I/O in the failed part.
    pub(super) buffer_pages: u64,
    /// Pages without a known owner, and pages that the line does not list.
    pub(super) unknown_pages: u64,
    /// Stability of the least stable page of the page cache.
    pub(super) stability: Stability,
    /// Rewrites of these pages under writeback while the request was in flight.
    pub(super) rewrites: u64,
    /// Rewrites of these pages within the window, if it is not known when the request began.
    pub(super) rewrites_at_some_time: u64,
    /// Rewrites of other pages of their files under writeback.
    pub(super) rewrites_of_other_pages: u64,
    /// Whether the probes saw every writer.
    pub(super) all_writers_traced: bool,
    /// Whether events within the window were lost, evicted or not matched to a page.
    pub(super) rewrite_may_be_missed: bool,
    /// Other errors on the same first sector.
    pub(super) same_sector: u64,
    /// Whether the disk itself reported that sector as bad when it read it.
    pub(super) bad_sector: bool,
    /// Whether the disk checks the data it receives.
    pub(super) disk_checks: bool,
}

/// A row of the table in `rules.md`, in the order of the table: the first rule that matches decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Rule {
    /// User space supplied the tuple.
    ProvenTuple,
    /// A page of the page cache no longer matches the guard that was made from it.
    ProvenRewrite,
    /// A buffer of direct I/O no longer matches the guard that was made from it.
    ProvenBufferChange,
    /// Memory of an unknown owner no longer matches the guard that was made from it.
    ProvenChange,
    /// The memory of a failed write matches its guard, and nothing is known to have rewritten it.
    ProvenIntact,
    /// The same of a buffer, which its process may have changed and changed back.
    IntactBuffer,
    /// The same of a page that was given to a writer meanwhile, which may have changed it and changed it back.
    IntactRewritten,
    /// What was read is not what was signed, in a way that no task changes memory.
    ProvenRead,
    /// A tag check failed; changed data makes only the guard check fail.
    Tag,
    /// A device or a file system that keeps checksums of its own, such as dm-integrity or btrfs, found a read wrong.
    ChecksumRead,
    /// The disk reported a failed read: the data was bad before it reached any page.
    DiskRead,
    /// The host verified a read into pages of a file.
    FileRead,
    /// The host verified a read into a buffer, and the disk reports the same sector as bad.
    BadSector,
    /// The host verified a read into a buffer.
    BufferRead,
    /// One of the pages was rewritten under writeback.
    Rewritten,
    /// One of the pages was rewritten under writeback, perhaps before the request.
    RewrittenAtSomeTime,
    /// A write from a direct I/O buffer.
    BufferWrite,
    /// A write from a direct I/O buffer and other pages.
    MixedBufferWrite,
    /// The owner of the pages is unknown, or a file system may have changed its metadata in them.
    UnknownOwner,
    /// The pages are unstable, and other pages of their files were rewritten.
    OtherPageRewritten,
    /// The pages are unstable, and a rewrite may have been missed.
    UnstableUnobserved,
    /// The pages are unstable, but none was rewritten.
    UnstableNotRewritten,
    /// The pages may be stable, and a rewrite may have been missed.
    Unobserved,
    /// The mapping requires stable pages, and none was rewritten.
    Stable,
    /// The device required stable pages, and none was rewritten.
    StableByDevice,
    /// The stability of the pages is unknown, but none was rewritten.
    UnknownStability,
}

impl Rule {
    fn matches(self, input: &RuleInput) -> bool {
        let read = input.op == Operation::Read;
        let verified = read && input.source == Source::Verify;
        let tag = matches!(input.check, Check::ApplicationTag | Check::ReferenceTag);
        let unstable = input.stability <= Stability::UnstableByDevice;
        let unobserved = input.rewrite_may_be_missed || !input.all_writers_traced;
        let changed =
            matches!(input.proof, Some(ProofKind::MemoryChanged | ProofKind::MemoryChanging));
        let intact = !read && input.proof == Some(ProofKind::MemoryIntact);
        let rest = input.unknown_pages;
        match self {
            Self::ProvenTuple => input.proof == Some(ProofKind::ApplicationTuple),
            Self::ProvenRewrite => {
                !read && changed && input.file_pages > 0 && input.buffer_pages + rest == 0
            }
            Self::ProvenBufferChange => {
                !read && changed && input.buffer_pages > 0 && input.file_pages + rest == 0
            }
            Self::ProvenChange => !read && changed,
            Self::ProvenIntact => intact && input.buffer_pages == 0 && input.rewrites == 0,
            Self::IntactBuffer => intact && input.buffer_pages > 0,
            Self::IntactRewritten => intact,
            Self::ProvenRead => {
                let other =
                    matches!(input.proof, Some(ProofKind::BitFlip | ProofKind::ForeignData));
                // A process can change its buffer before the check, by one bit or to zeros, too.
                let only_files = input.file_pages > 0 && input.buffer_pages + rest == 0;
                verified && other && (only_files || input.proof_without_memory)
            }
            Self::Tag => tag,
            Self::ChecksumRead => {
                read && matches!(input.source, Source::Block | Source::Filesystem)
            }
            Self::DiskRead => read && !verified,
            Self::FileRead => verified && input.file_pages > 0 && input.buffer_pages == 0,
            Self::BadSector => verified && input.buffer_pages > 0 && input.bad_sector,
            Self::BufferRead => verified && input.buffer_pages > 0,
            Self::Rewritten => !read && input.rewrites > 0,
            Self::RewrittenAtSomeTime => !read && input.rewrites_at_some_time > 0,
            Self::BufferWrite => {
                input.buffer_pages > 0 && input.file_pages + input.unknown_pages == 0
            }
            Self::MixedBufferWrite => input.buffer_pages > 0,
            Self::UnknownOwner => input.file_pages == input.device_pages,
            Self::OtherPageRewritten => unstable && input.rewrites_of_other_pages > 0,
            Self::UnstableUnobserved => unstable && unobserved,
            Self::UnstableNotRewritten => unstable,
            Self::Unobserved => {
                unobserved || (input.unknown_pages > 0 && input.rewrites_of_other_pages > 0)
            }
            Self::Stable => input.stability == Stability::Stable,
            Self::StableByDevice => input.stability == Stability::StableByDevice,
            Self::UnknownStability => true,
        }
    }

    /// Whether it rests on arithmetic, not on circumstance.
    pub(super) const fn is_proof(self) -> bool {
        matches!(
            self,
            Self::ProvenTuple
                | Self::ProvenRewrite
                | Self::ProvenBufferChange
                | Self::ProvenChange
                | Self::ProvenIntact
                | Self::ProvenRead
        )
    }

    /// The cause, and the confidence in percent before the corrections of [`confidence`].
    pub(super) const fn conclusion(self) -> (Cause, u8) {
        match self {
            Self::ProvenTuple => (Cause::ApplicationTuple, 99),
            Self::ProvenRewrite => (Cause::PageRewrittenInFlight, 99),
            Self::ProvenBufferChange => (Cause::DirectIoBuffer, 99),
            Self::ProvenIntact | Self::ProvenRead => (Cause::NoRewriteSeen, 99),
            Self::Tag | Self::Stable => (Cause::NoRewriteSeen, 90),
            Self::DiskRead | Self::FileRead => (Cause::NoRewriteSeen, 85),
            Self::BadSector => (Cause::NoRewriteSeen, 75),
            Self::Rewritten => (Cause::PageRewrittenInFlight, 95),
            // These changes cannot be observed.
            Self::BufferRead | Self::BufferWrite => (Cause::DirectIoBuffer, 50),
            Self::MixedBufferWrite => (Cause::DirectIoBuffer, 40),
            Self::RewrittenAtSomeTime | Self::OtherPageRewritten | Self::UnstableUnobserved => {
                (Cause::PageRewrittenInFlight, 50)
            }
            Self::IntactRewritten => (Cause::PageRewrittenInFlight, 50),
            Self::IntactBuffer | Self::UnstableNotRewritten => (Cause::NoRewriteSeen, 50),
            Self::ProvenChange | Self::ChecksumRead | Self::UnknownOwner | Self::Unobserved => {
                (Cause::Unknown, 0)
            }
            Self::StableByDevice => (Cause::NoRewriteSeen, 80),
            Self::UnknownStability => (Cause::NoRewriteSeen, 60),
        }
    }
}

/// The rule that decides: the first one that matches.
pub(super) fn first_match(input: &RuleInput) -> Rule {
    Rule::VARIANTS
        .iter()
        .copied()
        .find(|rule| rule.matches(input))
        .unwrap_or(Rule::UnknownStability)
}

/// Added to the confidence in `no_rewrite_seen` for each corroborating fact, in percent.
const CORROBORATION_BONUS: u8 = 5;

/// Subtracted from the confidence in `no_rewrite_seen` if pages are unknown, in percent.
const UNKNOWN_PAGES_PENALTY: u8 = 15;

/// Factor of the confidence in a change of the data if the failed check is unknown, in percent.
const UNKNOWN_CHECK_FACTOR: u16 = 80;

/// The confidence in the conclusion of a rule, in percent.
pub(super) fn confidence(rule: Rule, input: &RuleInput) -> u8 {
    let (cause, percent) = rule.conclusion();
    if rule.is_proof() {
        return percent;
    }
    match cause {
        Cause::Unknown => 0,
        Cause::NoRewriteSeen => {
            let checked_read = input.op == Operation::Read && input.disk_checks;
            // Memory that may have been changed may be written to one sector over and over.
            let may_change = matches!(rule, Rule::IntactBuffer | Rule::UnstableNotRewritten);
            let corroborations =
                u8::from(input.same_sector > 0 && !may_change) + u8::from(checked_read);
            // Unknown pages matter only where a change of the data could be the cause.
            let by_pages = matches!(
                rule,
                Rule::UnstableNotRewritten
                    | Rule::Stable
                    | Rule::StableByDevice
                    | Rule::UnknownStability
            );
            let penalty =
                if by_pages && input.unknown_pages > 0 { UNKNOWN_PAGES_PENALTY } else { 0 };
            (percent + corroborations * CORROBORATION_BONUS).saturating_sub(penalty).min(99)
        }
        Cause::PageRewrittenInFlight | Cause::DirectIoBuffer | Cause::ApplicationTuple => {
            let factor = if input.check == Check::Unknown { UNKNOWN_CHECK_FACTOR } else { 100 };
            u8::try_from(u16::from(percent) * factor / 100).unwrap_or(percent)
        }
    }
}

#[cfg(test)]
mod tests;
