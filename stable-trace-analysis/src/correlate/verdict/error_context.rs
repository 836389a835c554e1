//! What happened around one integrity error.

use std::cmp::Reverse;

use super::{
    event_refs::{EventRef, EventsInSpan},
    history::{DiskProperties, History},
    key_table::{FileId, Key, PageId},
    pending_error::{FilePage, PendingError},
    rules::{RuleInput, Stability},
};
use crate::event::ProofKind;

/// Maximum number of `seq`s that a verdict names as evidence.
pub(super) const MAX_EVIDENCE: usize = 16;

/// Maximum number of `seq`s of one kind.
const MAX_EVIDENCE_OF_A_KIND: usize = 6;

/// Maximum error between the wall-clock times of two lines: each is computed from the kernel's clock separately.
/// A rewrite that is earlier than the request by up to this still counts as in flight.
const CLOCK_ERROR_NS: u64 = 1_000_000;

/// How long after an error its page may still be under the same writeback, at most: a rewrite is seen at its end,
/// and its page is under writeback until the file system's own work is done.
const WRITEBACK_ENDS_WITHIN_NS: u64 = 50_000_000;

/// Everything that the verdict on one error and its explanation need.
#[derive(Debug)]
pub(super) struct ErrorContext {
    pub(super) error: PendingError,
    pub(super) input: RuleInput,
    pub(super) most_rewritten: Option<PageRewrites>,
    /// Number of pages of the failed part that were rewritten.
    pub(super) pages_rewritten: u64,
    /// Why a rewrite may have been missed.
    pub(super) missed_because: Option<&'static str>,
    pub(super) evidence: Vec<u64>,
    /// Stalls on its pages, its files and its disks.
    pub(super) stalls: [u64; 3],
}

/// The rewrites of one page under writeback.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageRewrites {
    pub(super) page: PageId,
    /// Stores to mapped memory.
    pub(super) stores: u64,
    /// `write`s.
    pub(super) writes: u64,
}

impl ErrorContext {
    /// Collects what happened from one time to another. `early` means that later lines of the span
    /// may still arrive.
    pub(super) fn collect(
        history: &History,
        error: PendingError,
        (from, to): (u64, u64),
        early: bool,
    ) -> Self {
        let pages = error.pages();
        let until = error.event.time_ns.saturating_add(WRITEBACK_ENDS_WITHIN_NS).min(to);
        // A rewrite before the request is no cause: the protection information was made after it.
        let began = error.began_ns.map(|ns| ns.saturating_sub(CLOCK_ERROR_NS).max(from));
        let rewrites = Rewrites::collect(history, &pages, (began.unwrap_or(from), from), until);
        let (in_flight, at_some_time) =
            if began.is_some() { (rewrites.on_pages, 0) } else { (0, rewrites.on_pages) };

        let sector = error.disk.zip(error.sector);
        let mut same_sector: Vec<_> = sector
            .into_iter()
            .map(|(disk, sector)| history.errors.find(Key::Sector(disk, sector), from, to))
            .flat_map(EventsInSpan::iter)
            .filter(|other| other.seq != error.event.seq)
            .collect();
        let bad_sector = sector.is_some_and(|(disk, sector)| {
            history.errors.find(Key::BadSector(disk, sector), from, to).count() > 0
        });

        let (losses, losses_evicted) = history.losses(from, to);
        let all_writers_traced = traced(history, &error);
        let missed_because = if !losses.is_empty() || losses_evicted {
            Some("events were lost or not seen")
        } else if history.rewrites.evicted_since(from) {
            Some("rewrites were evicted for lack of space")
        } else if early {
            Some("the verdict was given early for lack of space")
        } else if error.file_pages.iter().any(|page| page.id.is_none()) {
            Some("some of the pages could not be identified")
        } else if !all_writers_traced {
            Some("not every writer was traced")
        } else {
            None
        };
        let input = RuleInput {
            op: error.op,
            check: error.check,
            source: error.source,
            proof: error.proof.as_ref().map(|proof| proof.kind),
            proof_without_memory: error.proof.as_ref().is_some_and(|proof| {
                // The data matches its guard, so it is the reference tag that does not fit.
                proof.kind == ProofKind::ForeignData && proof.stored_guard == proof.computed_guard
            }),
            file_pages: error.file_pages.len() as u64,
            device_pages: error.file_pages.iter().filter(|page| page.of_device).count() as u64,
            buffer_pages: error.buffer_pages,
            unknown_pages: error.unknown_pages,
            stability: stability(history, &error),
            rewrites: in_flight,
            rewrites_at_some_time: at_some_time,
            rewrites_of_other_pages: rewrites.on_files.saturating_sub(rewrites.on_pages),
            all_writers_traced,
            rewrite_may_be_missed: missed_because.is_some(),
            same_sector: same_sector.len() as u64,
            bad_sector,
            disk_checks: error
                .disk
                .and_then(|disk| history.disk_properties.get(&disk))
                .is_some_and(|disk| disk.checks_integrity),
        };

        let stalls = |keys: Vec<Key>| {
            keys.into_iter().map(|key| history.stalls.find(key, from, to).count()).sum()
        };
        let counts = [
            stalls(pages.iter().map(|page| Key::Page(*page)).collect()),
            stalls(files(&pages).into_iter().map(Key::File).collect()),
            stalls(error.disks().into_iter().map(Key::Disk).collect()),
        ];
        let mut stalled: Vec<_> = pages
            .iter()
            .flat_map(|page| newest(history.stalls.find(Key::Page(*page), from, to)))
            .collect();
        let by_start =
            matches!(input.stability, Stability::UnstableByDevice | Stability::StableByDevice);
        let mut evidence = rewrites.evidence;
        evidence.push(error.event.seq);
        evidence.extend(nearest(&mut same_sector, error.event.time_ns));
        evidence.extend(nearest(&mut stalled, error.event.time_ns));
        evidence.extend(losses.into_iter().take(2));
        evidence.extend(history.workload_failure(error.event.time_ns, to));
        evidence.extend(history.start_seq.filter(|_| by_start));
        evidence.truncate(MAX_EVIDENCE);

        Self {
            input,
            most_rewritten: rewrites.most_rewritten,
            pages_rewritten: rewrites.pages,
            missed_because,
            evidence,
            stalls: counts,
            error,
        }
    }
}

/// The rewrites of the failed pages and of their files.
#[derive(Default)]
struct Rewrites {
    on_pages: u64,
    on_files: u64,
    /// Number of pages that were rewritten.
    pages: u64,
    most_rewritten: Option<PageRewrites>,
    evidence: Vec<u64>,
}

impl Rewrites {
    /// Those of the pages since the first of two times, and those of their files since the second.
    fn collect(history: &History, pages: &[PageId], (since, from): (u64, u64), until: u64) -> Self {
        let mut all = Self::default();
        let mut events = Vec::new();
        for page in pages {
            let rewrites = history.rewrites.find(Key::Page(*page), since, until);
            let count = rewrites.count();
            if count == 0 {
                continue;
            }
            all.pages += 1;
            all.on_pages += count;
            if all.most_rewritten.is_none_or(|most| count > most.stores + most.writes) {
                let stores = rewrites.iter().filter(|event| event.store).count() as u64;
                let writes = count - stores;
                all.most_rewritten = Some(PageRewrites { page: *page, stores, writes });
            }
            events.extend(newest(rewrites));
        }
        for file in files(pages) {
            let rewrites = history.rewrites.find(Key::File(file), from, until);
            all.on_files += rewrites.count();
            if all.on_pages == 0 {
                events.extend(newest(rewrites));
            }
        }
        all.evidence = nearest(&mut events, until);
        all
    }
}

/// The files of sorted pages.
fn files(pages: &[PageId]) -> Vec<FileId> {
    let mut files: Vec<_> = pages.iter().map(|page| page.file).collect();
    files.dedup();
    files
}

fn newest(events: EventsInSpan<'_>) -> impl Iterator<Item = EventRef> {
    events.iter().rev().take(MAX_EVIDENCE_OF_A_KIND)
}

/// The `seq`s of the events nearest to a time, the nearest first.
fn nearest(events: &mut [EventRef], time_ns: u64) -> Vec<u64> {
    events.sort_by_key(|event| (event.time_ns.abs_diff(time_ns), Reverse(event.seq)));
    events.iter().take(MAX_EVIDENCE_OF_A_KIND).map(|event| event.seq).collect()
}

fn properties<'a>(history: &'a History, page: &FilePage) -> Option<&'a DiskProperties> {
    history.disk_properties.get(&page.disk?)
}

/// Whether the run traces every writer of all file pages.
fn traced(history: &History, error: &PendingError) -> bool {
    let on_disk = |page| properties(history, page).is_none_or(|properties| properties.traced);
    error.file_pages.iter().all(|page| page.writers_traced && on_disk(page))
}

/// The stability of the least stable page.
fn stability(history: &History, error: &PendingError) -> Stability {
    let of_page = |page: &FilePage| match page.stable {
        Some(true) => Stability::Stable,
        Some(false) => Stability::Unstable,
        None => match properties(history, page) {
            Some(disk) if disk.requires_stable_pages => Stability::StableByDevice,
            Some(_) => Stability::UnstableByDevice,
            None => Stability::Unknown,
        },
    };
    error.file_pages.iter().map(of_page).min().unwrap_or_default()
}
