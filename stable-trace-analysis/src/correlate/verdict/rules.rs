//! The rules, as in `rules.md`: from what was found around an error to a cause and a confidence.

use crate::event::{Cause, Check, Operation, Source};

/// What is known of whether the pages' file holds them as they are while they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stability {
    /// The mapping said that it does not.
    Not,
    /// Its device did not ask for it when the run started.
    NotByDevice,
    /// Nobody said.
    #[default]
    Unknown,
    /// Its device asked for it when the run started.
    ByDevice,
    /// The mapping said that it does.
    Yes,
}

/// What was found around an error.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Findings {
    /// What the request wanted.
    pub op: Operation,
    /// Which check failed.
    pub check: Check,
    /// Who noticed.
    pub source: Source,
    /// Pages of the page cache in the failed part.
    pub file_pages: u64,
    /// Pages of processes.
    pub anonymous_pages: u64,
    /// Pages that are neither, or that the line does not list.
    pub unseen_pages: u64,
    /// What is known of the least stable page of the page cache.
    pub stability: Stability,
    /// Times that one of the pages was given to a writer while under writeback.
    pub rewrites: u64,
    /// The same of the other pages of their files.
    pub rewrites_beside: u64,
    /// Whether the probes saw every writer that there was.
    pub watched: bool,
    /// Whether something in the window was lost, or left for want of room.
    pub hidden: bool,
    /// Other errors on the same sector.
    pub same_sector: u64,
    /// Whether the disk itself found what it had read from that sector to be bad.
    pub bad_sector: bool,
    /// Whether the disk checks what it is sent.
    pub disk_checks: bool,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A tag failed, which no change of data can make fail.
    Tag,
    /// The disk read what was bad before any page had it.
    DiskRead,
    /// What the host read into a file's page was bad.
    FileRead,
    /// What the host read into a buffer was bad, and the disk found that sector bad too.
    BadSector,
    /// What the host read into a buffer was bad when the host looked.
    BufferRead,
    /// One of the pages was rewritten under writeback.
    Rewritten,
    /// A buffer of direct I/O.
    Buffer,
    /// A buffer of direct I/O among other pages.
    BufferAmong,
    /// Pages may change, and others of the file did.
    RewrittenBeside,
    /// Pages may change, and it would not have been seen.
    Changeable,
    /// Pages may change, but nobody was seen to change one.
    LeftAlone,
    /// Nobody said whose the pages are.
    Pageless,
    /// Pages may not change; that one did would not have been seen.
    Hidden,
    /// The mapping holds its pages, and none changed.
    Stable,
    /// The device asked that pages be held, and none changed.
    StableByDevice,
    /// Nobody said whether pages may change, but none did.
    Unsaid,
}

impl Rule {
    /// Every rule, in the order of the table: the first one that fits decides.
    pub const ALL: [Self; 16] = [
        Self::Tag,
        Self::DiskRead,
        Self::FileRead,
        Self::BadSector,
        Self::BufferRead,
        Self::Rewritten,
        Self::Buffer,
        Self::BufferAmong,
        Self::Pageless,
        Self::RewrittenBeside,
        Self::Changeable,
        Self::LeftAlone,
        Self::Hidden,
        Self::Stable,
        Self::StableByDevice,
        Self::Unsaid,
    ];

    /// Whether it fits what was found.
    fn fits(self, found: &Findings) -> bool {
        let read = found.op == Operation::Read;
        let verified = read && found.source == Source::Verify;
        let tag = matches!(found.check, Check::ApplicationTag | Check::ReferenceTag);
        let changeable = found.stability <= Stability::NotByDevice;
        let blind = found.hidden || !found.watched;
        match self {
            Self::Tag => tag,
            Self::DiskRead => read && !verified,
            Self::FileRead => verified && found.file_pages > 0 && found.anonymous_pages == 0,
            Self::BadSector => verified && found.anonymous_pages > 0 && found.bad_sector,
            Self::BufferRead => verified && found.anonymous_pages > 0,
            Self::Rewritten => !read && found.rewrites > 0,
            Self::Buffer => found.anonymous_pages > 0 && found.file_pages + found.unseen_pages == 0,
            Self::BufferAmong => found.anonymous_pages > 0,
            Self::Pageless => found.file_pages == 0,
            Self::RewrittenBeside => changeable && found.rewrites_beside > 0,
            Self::Changeable => changeable && blind,
            Self::LeftAlone => changeable,
            Self::Hidden => blind || (found.unseen_pages > 0 && found.rewrites_beside > 0),
            Self::Stable => found.stability == Stability::Yes,
            Self::StableByDevice => found.stability == Stability::ByDevice,
            Self::Unsaid => true,
        }
    }

    /// What it says: the cause, and the confidence in percent before [`confidence`] corrects it.
    #[must_use]
    pub const fn says(self) -> (Cause, u8) {
        match self {
            Self::Tag | Self::Stable => (Cause::NoRewriteSeen, 90),
            Self::DiskRead | Self::FileRead => (Cause::NoRewriteSeen, 85),
            Self::BadSector => (Cause::NoRewriteSeen, 75),
            Self::BufferRead => (Cause::DirectIoBuffer, 75),
            Self::Rewritten => (Cause::PageRewrittenInFlight, 95),
            Self::Buffer => (Cause::DirectIoBuffer, 80),
            Self::BufferAmong => (Cause::DirectIoBuffer, 60),
            Self::RewrittenBeside => (Cause::PageRewrittenInFlight, 75),
            Self::Changeable => (Cause::PageRewrittenInFlight, 60),
            Self::LeftAlone => (Cause::NoRewriteSeen, 50),
            Self::Pageless | Self::Hidden => (Cause::Unknown, 0),
            Self::StableByDevice => (Cause::NoRewriteSeen, 80),
            Self::Unsaid => (Cause::NoRewriteSeen, 60),
        }
    }
}

/// The first rule that fits.
#[must_use]
pub fn rule(found: &Findings) -> Rule {
    Rule::ALL.into_iter().find(|rule| rule.fits(found)).unwrap_or(Rule::Unsaid)
}

/// For each of these that holds, a finding that no rewrite was seen is this much surer, in percent.
pub const SURER: u8 = 5;

/// If pages of the failed part are not known, a finding that no rewrite was seen is this much less
/// sure, in percent.
pub const LESS_SURE: u8 = 15;

/// If nobody said which check failed, this is what is left of the confidence that a change of the
/// data was to blame, in percent.
pub const UNSAID_CHECK: u16 = 80;

/// The confidence of a rule's word, in percent.
#[must_use]
pub fn confidence(rule: Rule, found: &Findings) -> u8 {
    let (cause, percent) = rule.says();
    match cause {
        Cause::Unknown => 0,
        Cause::NoRewriteSeen => {
            let checked_read = found.op == Operation::Read && found.disk_checks;
            let surer = u8::from(found.same_sector > 0) + u8::from(checked_read);
            // Whose pages they are matters only where a change could have been to blame.
            let by_pages = matches!(
                rule,
                Rule::LeftAlone | Rule::Stable | Rule::StableByDevice | Rule::Unsaid
            );
            let less = if by_pages && found.unseen_pages > 0 { LESS_SURE } else { 0 };
            (percent + surer * SURER).saturating_sub(less).min(99)
        }
        Cause::PageRewrittenInFlight | Cause::DirectIoBuffer => {
            let left = if found.check == Check::Unknown { UNSAID_CHECK } else { 100 };
            u8::try_from(u16::from(percent) * left / 100).unwrap_or(percent)
        }
    }
}

#[cfg(test)]
mod tests;
