//! One sentence for a person.

use std::fmt::Write as _;

use super::{
    error_context::ErrorContext,
    rules::{Rule, Stability},
    topics::Page,
};
use crate::event::Check;

/// What a rule says, with the figures of the case.
pub fn explain(scene: &ErrorContext, rule: Rule) -> String {
    let error = &scene.error;
    let found = &scene.findings;
    let device = error.device.as_deref().unwrap_or("an unknown device");
    let sector = error.sector;
    let mut text = match rule {
        Rule::Tag => {
            let tag = match found.check {
                Check::ApplicationTag => "application",
                _ => "reference",
            };
            format!(
                "The {tag} tag of sector {sector} on {device} was wrong, which no change of the \
                 data can make it: the path or the medium is suspect"
            )
        }
        Rule::DiskRead => format!(
            "{device} read sector {sector} and reported it bad before any page had the data: the \
             medium or the path is suspect"
        ),
        Rule::FileRead => format!(
            "What was read from sector {sector} of {device} did not match its checksum, and {} \
             cannot be changed before it is read: the path or the medium is suspect",
            pages(scene),
        ),
        Rule::BadSector => format!(
            "What was read from sector {sector} of {device} into {} did not match its checksum, \
             and the disk itself reports that sector bad: the medium is suspect",
            buffer(scene),
        ),
        Rule::BufferRead => format!(
            "What was read from sector {sector} of {device} into {} did not match its checksum \
             when the host looked; the disk did not complain, so the buffer may have been changed \
             meanwhile, which is not seen",
            buffer(scene),
        ),
        Rule::Rewritten => rewritten(scene),
        Rule::Buffer | Rule::BufferAmong => format!(
            "{} {} being written to {device} by direct I/O: only the process can keep that as it is \
             meanwhile, and what it does to it is not seen",
            capital(&buffer(scene)),
            if found.anonymous_pages == 1 { "was" } else { "were" },
        ),
        Rule::Pageless => format!(
            "It is not known whose pages sector {sector} of {device} was in, so not who may have \
             changed them"
        ),
        Rule::RewrittenBeside => format!(
            "{} was being written and may change meanwhile ({}); {} of other pages of the same \
             file while they were being written",
            capital(&pages(scene)),
            ground(found.stability),
            times(found.rewrites_beside, "rewrite was seen", "rewrites were seen"),
        ),
        Rule::Changeable => format!(
            "{} was being written and may change meanwhile ({}); whether it did was not seen: {}",
            capital(&pages(scene)),
            ground(found.stability),
            scene.hidden_because.unwrap_or_default(),
        ),
        Rule::LeftAlone => format!(
            "Nobody rewrote {} or another page of the same file while it was being written, though \
             that could be ({}): the path to {device} or its medium is suspect",
            pages(scene),
            ground(found.stability),
        ),
        Rule::Hidden => format!(
            "{} was being written to {device}; whether it changed meanwhile was not seen: {}",
            capital(&pages(scene)),
            scene.hidden_because.unwrap_or(
                "some of the pages are not known, and others of the file were rewritten"
            ),
        ),
        Rule::Stable | Rule::StableByDevice | Rule::Unsaid => format!(
            "Nobody rewrote {} while it was being written, and {}: the path to {device} or its \
             medium is suspect",
            pages(scene),
            ground(found.stability),
        ),
    };
    if found.same_sector > 0 && rule.says().0 == crate::event::Cause::NoRewriteSeen {
        let _ = write!(
            text,
            "; {} there within the window",
            times(found.same_sector, "more error was", "more errors were",)
        );
    }
    text
}

fn rewritten(scene: &ErrorContext) -> String {
    let Some((page, stores, writes)) = scene.worst else { return String::new() };
    let what = match (stores, writes) {
        (0, writes) => times(writes, "write", "writes"),
        (stores, 0) => times(stores, "store", "stores"),
        (stores, writes) => {
            format!("{} and {}", times(writes, "write", "writes"), times(stores, "store", "stores"))
        }
    };
    let others = match scene.pages_rewritten {
        0 | 1 => String::new(),
        more => format!(", and others to {}", times(more - 1, "more page", "more pages")),
    };
    let ground = match scene.findings.stability {
        Stability::Yes => "though its file system holds pages stable: the kernel broke its word",
        other => ground(other),
    };
    format!("{what} to {}{others} while it was being written; {ground}", page_name(scene, page))
}

/// Why a page may change, or not.
const fn ground(stability: Stability) -> &'static str {
    match stability {
        Stability::Not => "its file system does not hold pages stable",
        Stability::NotByDevice => "its device does not ask for stable pages",
        Stability::Unknown => "it is not known whether its file system holds pages stable",
        Stability::ByDevice => "its device asks for stable pages",
        Stability::Yes => "its file system holds pages stable",
    }
}

/// The failed part: `page 12 of inode 77 on sda1 (ext4)`, or that it is one of several.
fn pages(scene: &ErrorContext) -> String {
    let known = scene.error.pages();
    let all = scene.findings.file_pages + scene.findings.unseen_pages;
    match known.first() {
        None if all <= 1 => "a page of a file".to_owned(),
        None => format!("one of {all} pages of files"),
        Some(first) if all <= 1 => page_name(scene, *first),
        Some(first) => {
            format!("{} (one of {all} pages)", page_name(scene, *first))
        }
    }
}

fn page_name(scene: &ErrorContext, ((_, ino), index): Page) -> String {
    let error = &scene.error;
    let mut text = format!("page {index} of ");
    let _ = match (&error.path, &error.file_device) {
        (Some(path), _) => write!(text, "{path} (inode {ino}"),
        (None, _) => write!(text, "inode {ino}"),
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

/// A process's own memory.
fn buffer(scene: &ErrorContext) -> String {
    let whose = scene
        .error
        .comm
        .as_deref()
        .map_or_else(|| "a process's own memory".to_owned(), |comm| format!("{comm}'s own memory"));
    match scene.findings.anonymous_pages {
        1 => format!("a page of {whose}"),
        pages => format!("{pages} pages of {whose}"),
    }
}

fn times(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
