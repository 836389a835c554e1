//! One test for each row of the table, and one that compares the table with the code.

use super::*;
use crate::event::Cause::{
    ApplicationTuple, DirectIoBuffer, NoRewriteSeen, PageRewrittenInFlight, Unknown,
};

/// A write of one stable page of the page cache, with all writers traced.
const STABLE_WRITE: RuleInput = RuleInput {
    op: Operation::Write,
    check: Check::Guard,
    source: Source::Scsi,
    proof: None,
    proof_without_memory: false,
    file_pages: 1,
    device_pages: 0,
    buffer_pages: 0,
    unknown_pages: 0,
    stability: Stability::Stable,
    rewrites: 0,
    rewrites_at_some_time: 0,
    rewrites_of_other_pages: 0,
    all_writers_traced: true,
    rewrite_may_be_missed: false,
    same_sector: 0,
    bad_sector: false,
    disk_checks: false,
};

/// The same of an unstable page.
const UNSTABLE_WRITE: RuleInput = RuleInput { stability: Stability::Unstable, ..STABLE_WRITE };

/// A write of one page of a process.
const BUFFER_WRITE: RuleInput =
    RuleInput { file_pages: 0, buffer_pages: 1, stability: Stability::Unknown, ..STABLE_WRITE };

/// A failed read that the disk reported.
const DISK_READ: RuleInput = RuleInput { op: Operation::Read, ..STABLE_WRITE };

/// A failed read into a page of a process that the host verified.
const BUFFER_READ: RuleInput =
    RuleInput { op: Operation::Read, source: Source::Verify, ..BUFFER_WRITE };

#[track_caller]
fn decides(input: &RuleInput, expected: Rule, cause: Cause, percent: u8) {
    let rule = first_match(input);
    assert_eq!(
        (rule, rule.conclusion().0, confidence(rule, input)),
        (expected, cause, percent),
        "{input:?}"
    );
}

#[test]
fn proven_tuple() {
    let proof = Some(ProofKind::ApplicationTuple);
    decides(&RuleInput { proof, ..BUFFER_WRITE }, Rule::ProvenTuple, ApplicationTuple, 99);
    decides(&RuleInput { proof, ..BUFFER_READ }, Rule::ProvenTuple, ApplicationTuple, 99);
}

#[test]
fn proven_rewrite() {
    for kind in [ProofKind::MemoryChanged, ProofKind::MemoryChanging] {
        let found = RuleInput { proof: Some(kind), check: Check::Unknown, ..STABLE_WRITE };
        decides(&found, Rule::ProvenRewrite, PageRewrittenInFlight, 99);
    }
}

#[test]
fn proven_buffer_change() {
    let found = RuleInput { proof: Some(ProofKind::MemoryChanged), ..BUFFER_WRITE };
    decides(&found, Rule::ProvenBufferChange, DirectIoBuffer, 99);
}

#[test]
fn proven_change() {
    let proof = Some(ProofKind::MemoryChanged);
    for found in [
        RuleInput { proof, file_pages: 1, ..BUFFER_WRITE },
        RuleInput { proof, buffer_pages: 0, unknown_pages: 1, ..BUFFER_WRITE },
        RuleInput { proof, unknown_pages: 1, ..STABLE_WRITE },
    ] {
        decides(&found, Rule::ProvenChange, Unknown, 0);
    }
}

#[test]
fn proven_intact() {
    let proof = Some(ProofKind::MemoryIntact);
    decides(&RuleInput { proof, ..UNSTABLE_WRITE }, Rule::ProvenIntact, NoRewriteSeen, 99);
    // Of a read it says only that the check failed elsewhere.
    decides(&RuleInput { proof, ..DISK_READ }, Rule::DiskRead, NoRewriteSeen, 85);
}

#[test]
fn intact_buffer() {
    let proof = Some(ProofKind::MemoryIntact);
    decides(&RuleInput { proof, ..BUFFER_WRITE }, Rule::IntactBuffer, NoRewriteSeen, 50);
}

#[test]
fn intact_rewritten() {
    let proof = Some(ProofKind::MemoryIntact);
    let found = RuleInput { proof, rewrites: 3, ..UNSTABLE_WRITE };
    decides(&found, Rule::IntactRewritten, PageRewrittenInFlight, 50);
}

#[test]
fn proven_read() {
    let file_read = RuleInput { source: Source::Verify, ..DISK_READ };
    for kind in [ProofKind::BitFlip, ProofKind::ForeignData] {
        let proof = Some(kind);
        decides(&RuleInput { proof, ..file_read }, Rule::ProvenRead, NoRewriteSeen, 99);
        // The process may have changed its buffer.
        decides(&RuleInput { proof, ..BUFFER_READ }, Rule::BufferRead, DirectIoBuffer, 50);
    }
    let proof = Some(ProofKind::ForeignData);
    let by_tag = RuleInput { proof, proof_without_memory: true, ..BUFFER_READ };
    decides(&by_tag, Rule::ProvenRead, NoRewriteSeen, 99);
    let nothing = RuleInput { proof: Some(ProofKind::None), ..BUFFER_READ };
    decides(&nothing, Rule::BufferRead, DirectIoBuffer, 50);
}

#[test]
fn tag() {
    for check in [Check::ApplicationTag, Check::ReferenceTag] {
        let found = RuleInput { check, rewrites: 3, ..UNSTABLE_WRITE };
        decides(&found, Rule::Tag, NoRewriteSeen, 90);
        decides(&RuleInput { check, ..BUFFER_WRITE }, Rule::Tag, NoRewriteSeen, 90);
        decides(&RuleInput { check, ..BUFFER_READ }, Rule::Tag, NoRewriteSeen, 90);
    }
}

#[test]
fn disk_read() {
    for source in [Source::Scsi, Source::Nvme] {
        decides(&RuleInput { source, ..DISK_READ }, Rule::DiskRead, NoRewriteSeen, 85);
        let into_buffer = RuleInput { source, ..BUFFER_READ };
        decides(&into_buffer, Rule::DiskRead, NoRewriteSeen, 85);
        let rewritten_before =
            RuleInput { source, rewrites: 9, rewrite_may_be_missed: true, ..DISK_READ };
        decides(&rewritten_before, Rule::DiskRead, NoRewriteSeen, 85);
    }
}

#[test]
fn checksum_read() {
    for found in [DISK_READ, BUFFER_READ, RuleInput { same_sector: 3, ..DISK_READ }] {
        for source in [Source::Block, Source::Filesystem] {
            decides(&RuleInput { source, ..found }, Rule::ChecksumRead, Unknown, 0);
        }
    }
}

#[test]
fn rewritten_at_some_time() {
    let found = RuleInput { rewrites_at_some_time: 2, ..STABLE_WRITE };
    decides(&found, Rule::RewrittenAtSomeTime, PageRewrittenInFlight, 50);
    decides(&RuleInput { rewrites: 1, ..found }, Rule::Rewritten, PageRewrittenInFlight, 95);
    let read = RuleInput { op: Operation::Read, ..found };
    decides(&read, Rule::DiskRead, NoRewriteSeen, 85);
}

#[test]
fn file_read() {
    let found = RuleInput { source: Source::Verify, stability: Stability::Unstable, ..DISK_READ };
    decides(&found, Rule::FileRead, NoRewriteSeen, 85);
}

#[test]
fn bad_sector() {
    let found = RuleInput { bad_sector: true, ..BUFFER_READ };
    decides(&found, Rule::BadSector, NoRewriteSeen, 75);
}

#[test]
fn buffer_read() {
    decides(&BUFFER_READ, Rule::BufferRead, DirectIoBuffer, 50);
    let often = RuleInput { same_sector: 40, ..BUFFER_READ };
    decides(&often, Rule::BufferRead, DirectIoBuffer, 50);
}

#[test]
fn rewritten() {
    for stability in
        [Stability::Unstable, Stability::UnstableByDevice, Stability::Unknown, Stability::Stable]
    {
        let found =
            RuleInput { stability, rewrites: 1, rewrite_may_be_missed: true, ..STABLE_WRITE };
        decides(&found, Rule::Rewritten, PageRewrittenInFlight, 95);
    }
}

#[test]
fn buffer_write() {
    decides(&BUFFER_WRITE, Rule::BufferWrite, DirectIoBuffer, 50);
    let untraced =
        RuleInput { all_writers_traced: false, rewrite_may_be_missed: true, ..BUFFER_WRITE };
    decides(&untraced, Rule::BufferWrite, DirectIoBuffer, 50);
}

#[test]
fn mixed_buffer_write() {
    for found in [
        RuleInput { file_pages: 1, stability: Stability::Stable, ..BUFFER_WRITE },
        RuleInput { unknown_pages: 1, ..BUFFER_WRITE },
    ] {
        decides(&found, Rule::MixedBufferWrite, DirectIoBuffer, 40);
    }
}

#[test]
fn unknown_owner() {
    let write = RuleInput { file_pages: 0, stability: Stability::Unknown, ..STABLE_WRITE };
    decides(&write, Rule::UnknownOwner, Unknown, 0);
    decides(&RuleInput { unknown_pages: 4, ..write }, Rule::UnknownOwner, Unknown, 0);
    let read = RuleInput { op: Operation::Read, source: Source::Verify, ..write };
    decides(&read, Rule::UnknownOwner, Unknown, 0);
    for stability in [Stability::Unstable, Stability::Stable] {
        let metadata = RuleInput { device_pages: 1, stability, ..STABLE_WRITE };
        decides(&metadata, Rule::UnknownOwner, Unknown, 0);
        let rewritten = RuleInput { rewrites: 1, ..metadata };
        decides(&rewritten, Rule::Rewritten, PageRewrittenInFlight, 95);
        let proof = Some(ProofKind::MemoryIntact);
        decides(&RuleInput { proof, ..metadata }, Rule::ProvenIntact, NoRewriteSeen, 99);
        let beside_a_file = RuleInput { file_pages: 2, ..metadata };
        assert_ne!(first_match(&beside_a_file), Rule::UnknownOwner);
    }
}

#[test]
fn other_page_rewritten() {
    for stability in [Stability::Unstable, Stability::UnstableByDevice] {
        let found = RuleInput {
            stability,
            rewrites_of_other_pages: 1,
            rewrite_may_be_missed: true,
            ..STABLE_WRITE
        };
        decides(&found, Rule::OtherPageRewritten, PageRewrittenInFlight, 50);
    }
}

#[test]
fn unstable_unobserved() {
    let missed = RuleInput { rewrite_may_be_missed: true, ..UNSTABLE_WRITE };
    decides(&missed, Rule::UnstableUnobserved, PageRewrittenInFlight, 50);
    let untraced = RuleInput { all_writers_traced: false, ..UNSTABLE_WRITE };
    decides(&untraced, Rule::UnstableUnobserved, PageRewrittenInFlight, 50);
}

#[test]
fn unstable_not_rewritten() {
    decides(&UNSTABLE_WRITE, Rule::UnstableNotRewritten, NoRewriteSeen, 50);
}

#[test]
fn unobserved() {
    for stability in [Stability::Unknown, Stability::StableByDevice, Stability::Stable] {
        let found = RuleInput { stability, ..STABLE_WRITE };
        decides(&RuleInput { rewrite_may_be_missed: true, ..found }, Rule::Unobserved, Unknown, 0);
        decides(&RuleInput { all_writers_traced: false, ..found }, Rule::Unobserved, Unknown, 0);
        let some_unknown = RuleInput { unknown_pages: 1, rewrites_of_other_pages: 1, ..found };
        decides(&some_unknown, Rule::Unobserved, Unknown, 0);
    }
}

#[test]
fn stable() {
    decides(&STABLE_WRITE, Rule::Stable, NoRewriteSeen, 90);
    // All pages are known, so a rewrite of another page is not one of these.
    decides(
        &RuleInput { rewrites_of_other_pages: 1, ..STABLE_WRITE },
        Rule::Stable,
        NoRewriteSeen,
        90,
    );
}

#[test]
fn stable_by_device() {
    let found = RuleInput { stability: Stability::StableByDevice, ..STABLE_WRITE };
    decides(&found, Rule::StableByDevice, NoRewriteSeen, 80);
}

#[test]
fn unknown_stability() {
    let found = RuleInput { stability: Stability::Unknown, ..STABLE_WRITE };
    decides(&found, Rule::UnknownStability, NoRewriteSeen, 60);
}

#[test]
fn other_errors_on_the_sector_raise_the_confidence() {
    let found = RuleInput { same_sector: 1, ..STABLE_WRITE };
    decides(&found, Rule::Stable, NoRewriteSeen, 95);
    decides(&RuleInput { same_sector: 1, ..BUFFER_WRITE }, Rule::BufferWrite, DirectIoBuffer, 50);
    // A process may rewrite the buffer of one sector over and over.
    let intact = RuleInput { same_sector: 1, proof: Some(ProofKind::MemoryIntact), ..BUFFER_WRITE };
    decides(&intact, Rule::IntactBuffer, NoRewriteSeen, 50);
    let unstable = RuleInput { same_sector: 1, ..UNSTABLE_WRITE };
    decides(&unstable, Rule::UnstableNotRewritten, NoRewriteSeen, 50);
}

#[test]
fn a_disk_that_checks_writes_raises_the_confidence_in_a_read_error() {
    decides(&RuleInput { disk_checks: true, ..DISK_READ }, Rule::DiskRead, NoRewriteSeen, 90);
    let again = RuleInput { disk_checks: true, same_sector: 2, ..DISK_READ };
    decides(&again, Rule::DiskRead, NoRewriteSeen, 95);
    decides(&RuleInput { disk_checks: true, ..STABLE_WRITE }, Rule::Stable, NoRewriteSeen, 90);
}

#[test]
fn unknown_pages_lower_the_confidence() {
    decides(&RuleInput { unknown_pages: 8, ..STABLE_WRITE }, Rule::Stable, NoRewriteSeen, 75);
    decides(
        &RuleInput { unknown_pages: 8, ..UNSTABLE_WRITE },
        Rule::UnstableNotRewritten,
        NoRewriteSeen,
        35,
    );
    decides(&RuleInput { unknown_pages: 8, ..DISK_READ }, Rule::DiskRead, NoRewriteSeen, 85);
}

#[test]
fn an_unknown_check_lowers_the_confidence() {
    let check = Check::Unknown;
    let found = RuleInput { check, rewrites: 1, ..UNSTABLE_WRITE };
    decides(&found, Rule::Rewritten, PageRewrittenInFlight, 76);
    decides(&RuleInput { check, ..BUFFER_WRITE }, Rule::BufferWrite, DirectIoBuffer, 40);
    decides(&RuleInput { check, ..STABLE_WRITE }, Rule::Stable, NoRewriteSeen, 90);
}

#[test]
fn the_documented_table_matches_the_code() {
    let rows: Vec<Vec<&str>> = include_str!("../rules.md")
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let documented: Vec<_> = rows
        .iter()
        .map(|cells| {
            let percent = (cells[3].parse::<f64>().unwrap() * 100.0).round();
            (cells[0].to_owned(), cells[2].trim_matches('`').to_owned(), percent)
        })
        .collect();
    let implemented: Vec<_> = Rule::VARIANTS
        .iter()
        .map(|rule| {
            let (cause, percent) = rule.conclusion();
            let name = <&str>::from(rule).replace('_', " ");
            (name, cause.name().to_owned(), f64::from(percent))
        })
        .collect();
    assert_eq!(documented, implemented);
}
