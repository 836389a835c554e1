//! What was found around one error.

use std::cmp::Reverse;

use super::{
    error::PendingError,
    history::History,
    moments::{Moment, Within},
    rules::{Findings, Stability},
    topics::{File, Page, Topic},
};

/// `seq`s that a verdict names at most.
pub const MAX_EVIDENCE: usize = 16;

/// `seq`s of one kind that a verdict names at most.
const MAX_EVIDENCE_OF_A_KIND: usize = 6;

/// How much the wall-clock times of two lines may be off against each other: each is computed from
/// the kernel's clock by itself. A rewrite so much after the error still counts as before it.
const CLOCK_ERROR_NS: u64 = 50_000_000;

/// Everything about one error that its verdict and its explanation need.
#[derive(Debug)]
pub struct ErrorContext {
    /// The error.
    pub error: PendingError,
    /// What the rules look at.
    pub findings: Findings,
    /// The page that was rewritten most, with its stores to mapped memory and its writes.
    pub worst: Option<(Page, u64, u64)>,
    /// Pages of the failed part that were rewritten.
    pub pages_rewritten: u64,
    /// Why something may be hidden.
    pub hidden_because: Option<&'static str>,
    /// `seq`s of the events that the verdict rests on.
    pub evidence: Vec<u64>,
    /// Stalls on its pages, its files and its disks.
    pub stalls: [u64; 3],
}

impl ErrorContext {
    /// Looks from one time to another.
    pub fn look(memory: &History, error: PendingError, span: (u64, u64), hurried: bool) -> Self {
        let (from, to) = span;
        let pages = error.pages();
        let until = error.moment.time_ns.saturating_add(CLOCK_ERROR_NS).min(to);
        let rewrites = Rewrites::of(memory, &pages, from, until);

        let sector = error.disk.map(|disk| (disk, error.sector));
        let others: Vec<_> = sector
            .into_iter()
            .map(|(disk, sector)| memory.errors.about(Topic::Sector(disk, sector), from, to))
            .flat_map(Within::iter)
            .filter(|other| other.seq != error.moment.seq)
            .collect();
        let bad_sector = sector.is_some_and(|(disk, sector)| {
            memory.errors.about(Topic::BadSector(disk, sector), from, to).count() > 0
        });

        let (losses, losses_forgotten) = memory.losses(from, to);
        let watched = memory.watched
            && error
                .file_pages
                .iter()
                .filter_map(|page| page.disk)
                .all(|disk| memory.asked.get(&disk).is_none_or(|asked| asked.watched));
        let unmatched = error.file_pages.iter().any(|page| page.page.is_none());
        let hidden_because = if !losses.is_empty() || losses_forgotten {
            Some("lines were lost")
        } else if memory.rewrites.forgot_since(from) {
            Some("there was no room to remember all rewrites")
        } else if hurried {
            Some("there was no room to wait for all lines")
        } else if unmatched {
            Some("it is not known which pages of which file they are")
        } else if !watched {
            Some("the probes did not see every writer")
        } else {
            None
        };
        let asked = error.disk.and_then(|disk| memory.asked.get(&disk));
        let findings = Findings {
            op: error.op,
            check: error.check,
            source: error.source,
            file_pages: error.file_pages.len() as u64,
            anonymous_pages: error.anonymous_pages,
            unseen_pages: error.unseen_pages,
            stability: stability(memory, &error),
            rewrites: rewrites.on_pages,
            rewrites_beside: rewrites.on_files.saturating_sub(rewrites.on_pages),
            watched,
            hidden: hidden_because.is_some(),
            same_sector: others.len() as u64,
            bad_sector,
            disk_checks: asked.is_some_and(|asked| asked.checks),
        };

        let stalls = |topics: Vec<Topic>| {
            topics.into_iter().map(|topic| memory.stalls.about(topic, from, to).count()).sum()
        };
        let counts = [
            stalls(pages.iter().map(|page| Topic::Page(*page)).collect()),
            stalls(files(&pages).into_iter().map(Topic::File).collect()),
            stalls(error.disks().into_iter().map(Topic::Disk).collect()),
        ];
        let mut stalled: Vec<_> = pages
            .iter()
            .flat_map(|page| newest(memory.stalls.about(Topic::Page(*page), from, to)))
            .collect();
        let by_start = matches!(findings.stability, Stability::NotByDevice | Stability::ByDevice);
        let mut evidence = rewrites.evidence;
        evidence.push(error.moment.seq);
        evidence.extend(nearest(&mut others.clone(), error.moment.time_ns));
        evidence.extend(nearest(&mut stalled, error.moment.time_ns));
        evidence.extend(losses.into_iter().take(2));
        evidence.extend(memory.workload_failed(error.moment.time_ns, to));
        evidence.extend(memory.start.filter(|_| by_start));
        evidence.truncate(MAX_EVIDENCE);

        Self {
            findings,
            worst: rewrites.worst,
            pages_rewritten: rewrites.pages,
            hidden_because,
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
    pages: u64,
    worst: Option<(Page, u64, u64)>,
    evidence: Vec<u64>,
}

impl Rewrites {
    fn of(memory: &History, pages: &[Page], from: u64, until: u64) -> Self {
        let mut found = Self::default();
        let mut moments = Vec::new();
        for page in pages {
            let rewrites = memory.rewrites.about(Topic::Page(*page), from, until);
            let count = rewrites.count();
            if count == 0 {
                continue;
            }
            found.pages += 1;
            found.on_pages += count;
            if found.worst.is_none_or(|(_, stores, writes)| count > stores + writes) {
                let stores = rewrites.iter().filter(|moment| moment.store).count() as u64;
                found.worst = Some((*page, stores, count - stores));
            }
            moments.extend(newest(rewrites));
        }
        for file in files(pages) {
            let rewrites = memory.rewrites.about(Topic::File(file), from, until);
            found.on_files += rewrites.count();
            if found.on_pages == 0 {
                moments.extend(newest(rewrites));
            }
        }
        found.evidence = nearest(&mut moments, until);
        found
    }
}

/// The files of sorted pages.
fn files(pages: &[Page]) -> Vec<File> {
    let mut files: Vec<_> = pages.iter().map(|(file, _)| *file).collect();
    files.dedup();
    files
}

/// The last few of them.
fn newest(moments: Within<'_>) -> impl Iterator<Item = Moment> {
    moments.iter().rev().take(MAX_EVIDENCE_OF_A_KIND)
}

/// `seq`s of the few that are nearest to a time, the nearest first.
fn nearest(moments: &mut [Moment], time_ns: u64) -> Vec<u64> {
    moments.sort_by_key(|moment| (moment.time_ns.abs_diff(time_ns), Reverse(moment.seq)));
    moments.iter().take(MAX_EVIDENCE_OF_A_KIND).map(|moment| moment.seq).collect()
}

/// What is known of the least stable page.
fn stability(memory: &History, error: &PendingError) -> Stability {
    let of_page = |page: &super::error::FilePage| match page.stable {
        Some(true) => Stability::Yes,
        Some(false) => Stability::Not,
        None => match page.disk.and_then(|disk| memory.asked.get(&disk)) {
            Some(asked) if asked.stable => Stability::ByDevice,
            Some(_) => Stability::NotByDevice,
            None => Stability::Unknown,
        },
    };
    error.file_pages.iter().map(of_page).min().unwrap_or_default()
}
