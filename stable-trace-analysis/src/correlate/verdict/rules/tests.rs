//! One test for each row of the table, and one that the table says what the rules do.

use super::*;
use crate::event::Cause::{DirectIoBuffer, NoRewriteSeen, PageRewrittenInFlight, Unknown};

/// A write of one page of the page cache whose mapping holds it stable, with every writer watched.
const STABLE_WRITE: Findings = Findings {
    op: Operation::Write,
    check: Check::Guard,
    source: Source::Scsi,
    file_pages: 1,
    anonymous_pages: 0,
    unseen_pages: 0,
    stability: Stability::Yes,
    rewrites: 0,
    rewrites_beside: 0,
    watched: true,
    hidden: false,
    same_sector: 0,
    bad_sector: false,
    disk_checks: false,
};

/// The same of a page that may change.
const UNSTABLE_WRITE: Findings = Findings { stability: Stability::Not, ..STABLE_WRITE };

/// A write of one page of a process.
const BUFFER_WRITE: Findings =
    Findings { file_pages: 0, anonymous_pages: 1, stability: Stability::Unknown, ..STABLE_WRITE };

/// A read that the disk reported.
const DISK_READ: Findings = Findings { op: Operation::Read, ..STABLE_WRITE };

/// A read into a process's page that the host found bad.
const BUFFER_READ: Findings =
    Findings { op: Operation::Read, source: Source::Verify, ..BUFFER_WRITE };

#[track_caller]
fn decides(found: &Findings, expected: Rule, cause: Cause, percent: u8) {
    let rule = rule(found);
    assert_eq!(
        (rule, rule.says().0, confidence(rule, found)),
        (expected, cause, percent),
        "{found:?}"
    );
}

#[test]
fn tag() {
    for check in [Check::ApplicationTag, Check::ReferenceTag] {
        let found = Findings { check, rewrites: 3, ..UNSTABLE_WRITE };
        decides(&found, Rule::Tag, NoRewriteSeen, 90);
        decides(&Findings { check, ..BUFFER_WRITE }, Rule::Tag, NoRewriteSeen, 90);
        decides(&Findings { check, ..BUFFER_READ }, Rule::Tag, NoRewriteSeen, 90);
    }
}

#[test]
fn disk_read() {
    for source in [Source::Scsi, Source::Nvme, Source::Block] {
        decides(&Findings { source, ..DISK_READ }, Rule::DiskRead, NoRewriteSeen, 85);
        let into_buffer = Findings { source, ..BUFFER_READ };
        decides(&into_buffer, Rule::DiskRead, NoRewriteSeen, 85);
        let rewritten_before = Findings { source, rewrites: 9, hidden: true, ..DISK_READ };
        decides(&rewritten_before, Rule::DiskRead, NoRewriteSeen, 85);
    }
}

#[test]
fn file_read() {
    let found = Findings { source: Source::Verify, stability: Stability::Not, ..DISK_READ };
    decides(&found, Rule::FileRead, NoRewriteSeen, 85);
}

#[test]
fn bad_sector() {
    let found = Findings { bad_sector: true, ..BUFFER_READ };
    decides(&found, Rule::BadSector, NoRewriteSeen, 75);
}

#[test]
fn buffer_read() {
    decides(&BUFFER_READ, Rule::BufferRead, DirectIoBuffer, 75);
    let often = Findings { same_sector: 40, ..BUFFER_READ };
    decides(&often, Rule::BufferRead, DirectIoBuffer, 75);
}

#[test]
fn rewritten() {
    for stability in [Stability::Not, Stability::NotByDevice, Stability::Unknown, Stability::Yes] {
        let found = Findings { stability, rewrites: 1, hidden: true, ..STABLE_WRITE };
        decides(&found, Rule::Rewritten, PageRewrittenInFlight, 95);
    }
}

#[test]
fn buffer() {
    decides(&BUFFER_WRITE, Rule::Buffer, DirectIoBuffer, 80);
    let blind = Findings { watched: false, hidden: true, ..BUFFER_WRITE };
    decides(&blind, Rule::Buffer, DirectIoBuffer, 80);
}

#[test]
fn buffer_among_others() {
    for found in [
        Findings { file_pages: 1, stability: Stability::Yes, ..BUFFER_WRITE },
        Findings { unseen_pages: 1, ..BUFFER_WRITE },
    ] {
        decides(&found, Rule::BufferAmong, DirectIoBuffer, 60);
    }
}

#[test]
fn pageless() {
    let write = Findings { file_pages: 0, stability: Stability::Unknown, ..STABLE_WRITE };
    decides(&write, Rule::Pageless, Unknown, 0);
    decides(&Findings { unseen_pages: 4, ..write }, Rule::Pageless, Unknown, 0);
    let read = Findings { op: Operation::Read, source: Source::Verify, ..write };
    decides(&read, Rule::Pageless, Unknown, 0);
}

#[test]
fn rewritten_beside() {
    for stability in [Stability::Not, Stability::NotByDevice] {
        let found = Findings { stability, rewrites_beside: 1, hidden: true, ..STABLE_WRITE };
        decides(&found, Rule::RewrittenBeside, PageRewrittenInFlight, 75);
    }
}

#[test]
fn changeable() {
    let hidden = Findings { hidden: true, ..UNSTABLE_WRITE };
    decides(&hidden, Rule::Changeable, PageRewrittenInFlight, 60);
    let unwatched = Findings { watched: false, ..UNSTABLE_WRITE };
    decides(&unwatched, Rule::Changeable, PageRewrittenInFlight, 60);
}

#[test]
fn left_alone() {
    decides(&UNSTABLE_WRITE, Rule::LeftAlone, NoRewriteSeen, 50);
}

#[test]
fn hidden() {
    for stability in [Stability::Unknown, Stability::ByDevice, Stability::Yes] {
        let found = Findings { stability, ..STABLE_WRITE };
        decides(&Findings { hidden: true, ..found }, Rule::Hidden, Unknown, 0);
        decides(&Findings { watched: false, ..found }, Rule::Hidden, Unknown, 0);
        let some_unseen = Findings { unseen_pages: 1, rewrites_beside: 1, ..found };
        decides(&some_unseen, Rule::Hidden, Unknown, 0);
    }
}

#[test]
fn stable() {
    decides(&STABLE_WRITE, Rule::Stable, NoRewriteSeen, 90);
    // Nothing is unseen, so what happened beside did not happen here.
    decides(&Findings { rewrites_beside: 1, ..STABLE_WRITE }, Rule::Stable, NoRewriteSeen, 90);
}

#[test]
fn stable_by_device() {
    let found = Findings { stability: Stability::ByDevice, ..STABLE_WRITE };
    decides(&found, Rule::StableByDevice, NoRewriteSeen, 80);
}

#[test]
fn unsaid() {
    let found = Findings { stability: Stability::Unknown, ..STABLE_WRITE };
    decides(&found, Rule::Unsaid, NoRewriteSeen, 60);
}

#[test]
fn other_errors_on_the_sector_make_it_surer() {
    let found = Findings { same_sector: 1, ..STABLE_WRITE };
    decides(&found, Rule::Stable, NoRewriteSeen, 95);
    decides(&Findings { same_sector: 1, ..BUFFER_WRITE }, Rule::Buffer, DirectIoBuffer, 80);
}

#[test]
fn a_read_of_what_was_checked_when_written_is_surer() {
    decides(&Findings { disk_checks: true, ..DISK_READ }, Rule::DiskRead, NoRewriteSeen, 90);
    let again = Findings { disk_checks: true, same_sector: 2, ..DISK_READ };
    decides(&again, Rule::DiskRead, NoRewriteSeen, 95);
    decides(&Findings { disk_checks: true, ..STABLE_WRITE }, Rule::Stable, NoRewriteSeen, 90);
}

#[test]
fn pages_that_are_not_known_make_it_less_sure() {
    decides(&Findings { unseen_pages: 8, ..STABLE_WRITE }, Rule::Stable, NoRewriteSeen, 75);
    decides(&Findings { unseen_pages: 8, ..UNSTABLE_WRITE }, Rule::LeftAlone, NoRewriteSeen, 35);
    decides(&Findings { unseen_pages: 8, ..DISK_READ }, Rule::DiskRead, NoRewriteSeen, 85);
}

#[test]
fn a_check_that_nobody_named_makes_blame_less_sure() {
    let check = Check::Unknown;
    let found = Findings { check, rewrites: 1, ..UNSTABLE_WRITE };
    decides(&found, Rule::Rewritten, PageRewrittenInFlight, 76);
    decides(&Findings { check, ..BUFFER_WRITE }, Rule::Buffer, DirectIoBuffer, 64);
    decides(&Findings { check, ..STABLE_WRITE }, Rule::Stable, NoRewriteSeen, 90);
}

/// The table in the documentation, read as text.
#[test]
fn the_table_says_what_the_rules_do() {
    let rows: Vec<Vec<&str>> = include_str!("../rules.md")
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let told: Vec<_> = rows
        .iter()
        .map(|cells| {
            let percent = (cells[3].parse::<f64>().unwrap() * 100.0).round();
            (cells[0].to_owned(), cells[2].trim_matches('`').to_owned(), percent)
        })
        .collect();
    let names = [
        (Rule::Tag, "tag"),
        (Rule::DiskRead, "disk read"),
        (Rule::FileRead, "file read"),
        (Rule::BadSector, "bad sector"),
        (Rule::BufferRead, "buffer read"),
        (Rule::Rewritten, "rewritten"),
        (Rule::Buffer, "buffer"),
        (Rule::BufferAmong, "buffer among others"),
        (Rule::Pageless, "pageless"),
        (Rule::RewrittenBeside, "rewritten beside"),
        (Rule::Changeable, "changeable"),
        (Rule::LeftAlone, "left alone"),
        (Rule::Hidden, "hidden"),
        (Rule::Stable, "stable"),
        (Rule::StableByDevice, "stable by device"),
        (Rule::Unsaid, "unsaid"),
    ];
    assert_eq!(names.map(|(rule, _)| rule), Rule::ALL);
    let done = names.map(|(rule, name)| {
        let (cause, percent) = rule.says();
        (name.to_owned(), cause.name().to_owned(), f64::from(percent))
    });
    assert_eq!(told, done);
}
