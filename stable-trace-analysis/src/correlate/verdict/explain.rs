//! The explanation of a verdict: one sentence.

use std::fmt::Write as _;

use super::{
    error_context::ErrorContext,
    key_table::PageId,
    rules::{Rule, Stability},
};
use crate::event::{Cause, Check, Proof, ProofKind, Source};

/// The reason of a rule, with the figures of the case.
pub(super) fn explain(context: &ErrorContext, rule: Rule) -> String {
    let input = &context.input;
    let device = context.error.device.as_deref().unwrap_or("an unknown device");
    let place = place(context, device);
    let reason = stability_reason(input.stability);
    let missed = context
        .missed_because
        .unwrap_or("some of its pages are unknown, and other pages of the file were rewritten");
    let mut text = match rule {
        Rule::ProvenTuple
        | Rule::ProvenRewrite
        | Rule::ProvenBufferChange
        | Rule::ProvenChange
        | Rule::ProvenIntact
        | Rule::IntactBuffer
        | Rule::IntactRewritten
        | Rule::ProvenRead => proven(context, rule, device),
        Rule::Tag => {
            let tag = match input.check {
                Check::ApplicationTag => "application",
                _ => "reference",
            };
            format!(
                "The {tag} tag of {place} was wrong, which changed data cannot \
                 cause: the path or the medium is suspect"
            )
        }
        Rule::ChecksumRead => own_checksum(context, device),
        Rule::DiskRead => format!(
            "{device} reported {place} as bad before the data reached any \
             page: the medium or the path is suspect"
        ),
        Rule::FileRead => format!(
            "The data read from {place} did not match its checksum, and no \
             task can change {} before the read ends: the path or the medium is suspect",
            pages(context),
        ),
        Rule::BadSector => format!(
            "The data read from {place} into {} did not match its checksum, \
             and the disk itself reports that sector as bad: the medium is suspect",
            buffer(context),
        ),
        Rule::BufferRead => format!(
            "The data read from {place} into {} did not match its checksum \
             when the host verified it; the disk reported no error, so the process may have \
             changed the buffer before the check, which cannot be observed",
            buffer(context),
        ),
        Rule::Rewritten => rewritten(context),
        Rule::RewrittenAtSomeTime => format!(
            "{}; when the request began is unknown, so the data may have changed before it",
            rewritten(context)
        ),
        Rule::BufferWrite | Rule::MixedBufferWrite => format!(
            "{} {} being written to {device} by direct I/O: only the process can keep this memory \
             unchanged during the write, and its changes cannot be observed",
            capitalized(&buffer(context)),
            if input.buffer_pages == 1 { "was" } else { "were" },
        ),
        Rule::UnknownOwner if input.device_pages > 0 => format!(
            "{} may hold metadata, and whether its file system changed it is unknown",
            capitalized(&pages(context)),
        ),
        Rule::UnknownOwner => format!(
            "The owner of the pages of the request at {place} is unknown, so it \
             is unknown whether they changed"
        ),
        Rule::OtherPageRewritten => format!(
            "{} may change under writeback ({reason}); {} of other pages of the same file {} seen \
             under writeback",
            capitalized(&pages(context)),
            counted(input.rewrites_of_other_pages, "rewrite", "rewrites"),
            if input.rewrites_of_other_pages == 1 { "was" } else { "were" },
        ),
        Rule::UnstableUnobserved => format!(
            "{} may change under writeback ({reason}); whether it changed is unknown: {missed}",
            capitalized(&pages(context)),
        ),
        Rule::UnstableNotRewritten => format!(
            "No task rewrote {} or another page of the same file under writeback, although that \
             was possible ({reason}): the path to {device} or its medium is suspect",
            pages(context),
        ),
        Rule::Unobserved => format!(
            "{} was under writeback to {device}; whether it changed is unknown: {missed}",
            capitalized(&pages(context)),
        ),
        Rule::Stable | Rule::StableByDevice | Rule::UnknownStability => format!(
            "No task rewrote {} under writeback, and {reason}: the path to {device} or its medium \
             is suspect",
            pages(context),
        ),
    };
    if input.same_sector > 0 && rule.conclusion().0 == Cause::NoRewriteSeen {
        let more = counted(input.same_sector, "more error", "more errors");
        let _ = write!(text, "; {more} on this sector within the window");
    }
    if let Some(why) = context.error.proof.as_ref().and_then(|proof| proof.why_none.as_ref()) {
        let _ = write!(text, "; not proved: {why}");
    }
    text
}

/// Where the failed part begins.
fn place(context: &ErrorContext, device: &str) -> String {
    match context.error.sector {
        Some(sector) => format!("sector {sector} of {device}"),
        None => format!("a block of {device}"),
    }
}

/// A checksum of a file system or of a device was wrong.
fn own_checksum(context: &ErrorContext, device: &str) -> String {
    let what = if context.input.source == Source::Filesystem {
        let page = capitalized(&pages(context));
        format!(
            "{page}, as it was read from {device}, does not match the checksum that its file system"
        )
    } else {
        let place = place(context, device);
        format!("A read of {place} does not match the checksum that {device} itself")
    };
    format!(
        "{what} keeps: the data may have changed on the medium, or in memory while it was written"
    )
}

/// The reason of a rule that rests on a proof.
fn proven(context: &ErrorContext, rule: Rule, device: &str) -> String {
    let place = place(context, device);
    let guards = guards(context);
    let changed = match context.input.proof {
        Some(ProofKind::MemoryChanging) => "differed between two readings",
        _ => "no longer matched the guard that was made from it",
    };
    match rule {
        Rule::ProvenRewrite => format!(
            "{} {changed}{guards}: the memory changed while it was written to {device}; {}",
            capitalized(&pages(context)),
            stability_reason(context.input.stability),
        ),
        Rule::ProvenBufferChange => format!(
            "{} {changed}{guards}: the memory changed while it was written to {device} by direct I/O, which only the \
             process can prevent",
            capitalized(&buffer(context)),
        ),
        Rule::ProvenChange => format!(
            "The memory that was written to {place} {changed}{guards}; whose memory it is, is unknown"
        ),
        Rule::ProvenRead => format!(
            "What came from {place} is not what was signed: {}{guards}; the path to {device} or \
             its medium is suspect",
            read_proof(context),
        ),
        Rule::IntactBuffer => format!(
            "{} still matched its guard{guards}: the path to {device}, its controller or its medium is suspect, unless \
             the process changed it during the write and changed it back",
            capitalized(&buffer(context)),
        ),
        Rule::IntactRewritten => format!(
            "{}, yet the memory still matched its guard{guards}: a writer changed it and changed it back, or the path \
             to {device} or its medium is suspect",
            rewritten(context),
        ),
        Rule::ProvenTuple => format!(
            "The application supplied the protection information of {place} itself, and it does \
             not match"
        ),
        _ => format!(
            "The memory that was written to {place} still matched its guard{guards}: the path to \
             {device}, its controller or its medium is suspect"
        ),
    }
}

/// The guards of a proof, such as ` (stored d0db, computed 1234, interval 3)`.
fn guards(context: &ErrorContext) -> String {
    let Some(Proof {
        interval: Some(interval),
        stored_guard: Some(stored),
        computed_guard: Some(computed),
        ..
    }) = &context.error.proof
    else {
        return String::new();
    };
    format!(" (interval {interval}: stored {stored:04x}, computed {computed:04x})")
}

/// What a proof says of a read.
fn read_proof(context: &ErrorContext) -> String {
    match &context.error.proof {
        Some(Proof { kind: ProofKind::BitFlip, offset: Some(offset), bit: Some(bit), .. }) => {
            format!("bit {bit} of byte {offset} is flipped")
        }
        _ => "it is zeros, or the data of another place".to_owned(),
    }
}

fn rewritten(context: &ErrorContext) -> String {
    let Some(most) = context.most_rewritten else { return String::new() };
    let rewrites = match (most.stores, most.writes) {
        (0, writes) => counted(writes, "write", "writes"),
        (stores, 0) => counted(stores, "store", "stores"),
        (stores, writes) => format!(
            "{} and {}",
            counted(writes, "write", "writes"),
            counted(stores, "store", "stores")
        ),
    };
    let others = match context.pages_rewritten {
        0 | 1 => String::new(),
        pages => format!(", and others to {}", counted(pages - 1, "more page", "more pages")),
    };
    let reason = match context.input.stability {
        Stability::Stable => {
            "although its file system holds pages stable: the kernel violated this guarantee"
        }
        other => stability_reason(other),
    };
    let page = page_name(context, most.page);
    format!("{rewrites} to {page}{others} under writeback; {reason}")
}

/// Why a page may change under writeback, or must not.
const fn stability_reason(stability: Stability) -> &'static str {
    match stability {
        Stability::Unstable => "its file system does not hold pages stable",
        Stability::UnstableByDevice => "its device does not require stable pages",
        Stability::Unknown => "it is unknown whether its file system holds pages stable",
        Stability::StableByDevice => "its device requires stable pages",
        Stability::Stable => "its file system holds pages stable",
    }
}

/// The file pages of the failed part, such as `page 12 of inode 77 on sda1 (ext4) (one of 8 pages)`.
fn pages(context: &ErrorContext) -> String {
    let all = context.input.file_pages + context.input.unknown_pages;
    match context.error.pages().first() {
        None if all <= 1 => "a page of a file".to_owned(),
        None => format!("one of {all} pages of files"),
        Some(first) if all <= 1 => page_name(context, *first),
        Some(first) => format!("{} (one of {all} pages)", page_name(context, *first)),
    }
}

fn page_name(context: &ErrorContext, page: PageId) -> String {
    let error = &context.error;
    let (index, ino) = (page.index, page.file.ino);
    let mut text = format!("page {index} of ");
    let _ = match &error.path {
        Some(path) => write!(text, "{path} (inode {ino}"),
        None => write!(text, "inode {ino}"),
    };
    if let Some(device) = &error.file_device {
        let _ = write!(text, " on {device}");
    }
    match (&error.path, &error.fs) {
        (Some(_), Some(fs)) => {
            let _ = write!(text, ", {fs})");
        }
        (Some(_), None) => text.push(')'),
        (None, Some(fs)) => {
            let _ = write!(text, " ({fs})");
        }
        (None, None) => {}
    }
    text
}

/// The pages of a process in the failed part.
fn buffer(context: &ErrorContext) -> String {
    let owner = context.error.comm.as_deref().unwrap_or("a process");
    match context.input.buffer_pages {
        1 => format!("a page of {owner}'s own memory"),
        pages => format!("{pages} pages of {owner}'s own memory"),
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
