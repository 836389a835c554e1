//! Builds a report from the lines of a recording.

use std::{collections::BTreeMap, time::Duration};

use super::{
    interner::Interner,
    timeline::Timeline,
    top::{Top, TopFile, TopProcess},
    totals::Totals,
    verdict_check::VerdictCheck,
};
use crate::{
    correlate::tally::Tally,
    event::{Event, IntegrityError, Line, Stall, Start, Summary, Verdict, Workload, WorkloadState},
    units::{DeviceId, Timestamp},
};

/// The limit of verdicts that are kept. All are counted.
const MAX_VERDICTS: usize = 500;

/// The limit of integrity errors that are kept for their verdicts.
const MAX_PENDING_ERRORS: usize = 4096;

/// The limit of workload phases.
const MAX_PHASES: usize = 64;

/// A verdict with its integrity error.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct VerdictEntry {
    pub(super) verdict: Verdict,
    /// The time of the error, and the error. `None` if its line is missing.
    pub(super) error: Option<(Timestamp, IntegrityError)>,
}

/// A workload from its start to its end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WorkloadPhase {
    /// The time of its start, in ns since 1970.
    pub(super) from_ns: u64,
    /// The time of its end, in ns since 1970. `None` if it has not ended.
    pub(super) to_ns: Option<u64>,
    /// Its last report.
    pub(super) workload: Workload,
}

/// Builds a [`Report`] line by line.
pub struct ReportBuilder {
    report: Report,
    totals: Totals,
    verdict_check: VerdictCheck,
    /// Integrity errors without a verdict so far, by sequence number.
    pending_errors: BTreeMap<u64, (Timestamp, IntegrityError)>,
    names: Interner,
    last_line: (u64, Timestamp),
}

/// The contents of a recording in bounded size.
#[derive(Default)]
pub struct Report {
    /// The first line.
    pub start: Option<Start>,
    /// The time of the first line.
    pub(super) began: Timestamp,
    /// The times of the earliest and the latest event, in ns since 1970.
    pub(super) span_ns: (u64, u64),
    /// The recorded summary, or one computed from the other lines.
    pub(super) summary: Summary,
    /// The summary as a line of the stream.
    pub last: Option<Line>,
    /// Events over time.
    pub(super) timeline: Timeline,
    /// The streamed stalls by context, device and file system.
    pub(super) streamed: Tally,
    /// The most stalled files, by device number (of the subvolume, where there is one) and inode.
    pub(super) files: Top<(Option<DeviceId>, Option<u64>), TopFile>,
    /// The most stalled processes, by pid.
    pub(super) processes: Top<u32, TopProcess>,
    /// The workloads of the run.
    pub(super) phases: Vec<WorkloadPhase>,
    /// The first verdicts.
    pub(super) verdicts: Vec<VerdictEntry>,
    /// The number of verdicts.
    pub(super) verdicts_total: u64,
    /// Verdicts that the recording lacks because it is truncated, as lines of the stream.
    pub added: Vec<Line>,
    /// The number of recorded verdicts that differ from those that this version computes.
    pub verdicts_different: u64,
    /// Whether the verdicts are computed with another correlation window than the run's.
    pub recomputed: bool,
}

impl ReportBuilder {
    /// Starts an empty report. `window` overrides the correlation window of the run.
    pub fn new(window: Option<Duration>) -> Self {
        Self {
            report: Report::default(),
            totals: Totals::default(),
            verdict_check: VerdictCheck::new(window),
            pending_errors: BTreeMap::new(),
            names: Interner::default(),
            last_line: (0, Timestamp::default()),
        }
    }

    /// Adds the next line. Returns the verdicts that are now due and replace recorded ones.
    pub fn line(&mut self, line: &Line) -> Vec<Line> {
        self.last_line = (line.seq, line.time);
        let time_ns = line.time.unix_ns();
        let span = &mut self.report.span_ns;
        span.0 = if span.0 == 0 { time_ns } else { span.0.min(time_ns) };
        span.1 = span.1.max(time_ns);
        self.totals.add(&line.event);
        let due = self.verdict_check.line(line);
        self.event(line, time_ns);
        let as_line = |verdict: Verdict| {
            self.add_verdict(&verdict);
            Line {
                seq: line.seq,
                time: line.time,
                monotonic_ns: line.monotonic_ns,
                event: Event::Verdict(verdict),
            }
        };
        due.into_iter().map(as_line).collect()
    }

    /// Whether a line is valid as recorded. Verdicts are not if they are computed again with another
    /// window.
    pub fn is_valid(&self, line: &Line) -> bool {
        !(self.verdict_check.recomputes && matches!(line.event, Event::Verdict(_)))
    }

    fn event(&mut self, line: &Line, time_ns: u64) {
        let report = &mut self.report;
        match &line.event {
            Event::Start(start) => {
                report.start = Some(start.clone());
                report.began = line.time;
                report.timeline.at(time_ns);
            }
            Event::Stall(stall) => {
                report.timeline.stall(time_ns, stall.duration_ns);
                report.stall(stall, &mut self.names);
            }
            Event::Lost(lost) => report.timeline.at(time_ns).lost += lost.events(),
            Event::Integrity(error) => {
                report.timeline.at(time_ns).errors += 1;
                self.pending_errors.insert(line.seq, (line.time, error.clone()));
                if self.pending_errors.len() > MAX_PENDING_ERRORS {
                    self.pending_errors.pop_first();
                }
            }
            Event::Verdict(verdict) if !self.verdict_check.recomputes => {
                self.add_verdict(verdict);
            }
            Event::Verdict(_) | Event::UnstableWrite(_) | Event::Waiting(_) => {}
            Event::Workload(workload) => report.workload(workload, time_ns),
            Event::Summary(summary) => {
                report.summary = summary.clone();
                report.last = Some(line.clone());
            }
        }
    }

    fn add_verdict(&mut self, verdict: &Verdict) {
        let report = &mut self.report;
        report.verdicts_total += 1;
        let error = self.pending_errors.remove(&verdict.integrity_seq);
        if report.verdicts.len() < MAX_VERDICTS {
            report.verdicts.push(VerdictEntry { verdict: verdict.clone(), error });
        }
    }

    /// Completes the report. Computes a summary if the recording has none.
    pub fn finish(mut self) -> Report {
        let (first, last) = self.report.span_ns;
        let ended = self.report.last.is_some();
        let mut summary = if ended {
            std::mem::take(&mut self.report.summary)
        } else {
            self.totals.summary(last.saturating_sub(first))
        };
        self.report.recomputed = self.verdict_check.recomputes;
        let check = std::mem::replace(&mut self.verdict_check, VerdictCheck::new(None));
        let (added, different) = check.finish(&mut summary, ended);
        self.report.verdicts_different = different;
        let (mut seq, time) = self.last_line;
        if ended {
            // The sequence numbers before the summary.
            seq = seq.saturating_sub(1);
        }
        for verdict in added {
            self.add_verdict(&verdict);
            seq = seq.saturating_add(1);
            let event = Event::Verdict(verdict);
            self.report.added.push(Line { seq, time, monotonic_ns: None, event });
        }
        if !ended && let Some(count) = summary.counts.get_mut("verdict") {
            *count += self.report.added.len() as u64;
        }
        let event = Event::Summary(summary.clone());
        self.report.streamed = self.totals.tally();
        self.report.summary = summary;
        self.report.last = Some(match self.report.last.take() {
            Some(line) => Line { event, ..line },
            None => Line { seq: seq.saturating_add(1), time, monotonic_ns: None, event },
        });
        self.report
    }
}

impl Report {
    fn stall(&mut self, stall: &Stall, names: &mut Interner) {
        let file = || TopFile {
            device: stall.device.as_deref().map(|device| names.intern(device)),
            fs: stall.fs.as_deref().map(|fs| names.intern(fs)),
            ino: stall.ino,
            path: stall.path.clone(),
        };
        let key = (stall.subvolume_dev.or(stall.dev), stall.ino);
        self.files.add(key, stall.duration_ns, file, |_| {});
        let process = || TopProcess {
            pid: stall.pid,
            process: stall.process.clone(),
            comm: stall.comm.clone(),
            container: stall.container.clone().or_else(|| stall.cgroup.clone()),
        };
        self.processes
            .add(stall.pid, stall.duration_ns, process, |process| process.add_thread(&stall.comm));
    }

    fn workload(&mut self, workload: &Workload, time_ns: u64) {
        let ended = workload.state == WorkloadState::Finished;
        let has_room = self.phases.len() < MAX_PHASES;
        let open = self
            .phases
            .iter_mut()
            .rev()
            .find(|phase| phase.to_ns.is_none() && phase.workload.profile == workload.profile);
        match open {
            Some(phase) if workload.state != WorkloadState::Started => {
                phase.workload = workload.clone();
                phase.to_ns = ended.then_some(time_ns);
            }
            _ if has_room => self.phases.push(WorkloadPhase {
                from_ns: time_ns,
                to_ns: ended.then_some(time_ns),
                workload: workload.clone(),
            }),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Reader;

    const RECORDED: &str = include_str!("../../tests/fixtures/recordings/format-1.jsonl");

    fn report(text: &str) -> Report {
        let mut builder = ReportBuilder::new(None);
        for line in Reader::new(text.as_bytes()).flatten() {
            builder.line(&line);
        }
        builder.finish()
    }

    #[test]
    fn a_recorded_summary_is_unchanged() {
        let report = report(RECORDED);
        let last: Line = serde_json::from_str(RECORDED.lines().last().unwrap()).unwrap();
        assert_eq!(report.last, Some(last));
        assert!(!report.summary.incomplete);
        assert_eq!(report.phases.len(), 2);
        assert!(report.phases.iter().all(|phase| phase.to_ns > Some(phase.from_ns)));
    }

    #[test]
    fn a_missing_summary_is_computed_from_the_lines() {
        let (lines, summary) = RECORDED.trim_end().rsplit_once('\n').unwrap();
        let report = report(lines);
        let Event::Summary(mut recorded) = serde_json::from_str::<Line>(summary).unwrap().event
        else {
            panic!("no summary")
        };
        assert!(report.summary.incomplete);
        // The recording is older than this kind.
        recorded.counts.insert("waiting".into(), 0);
        assert_eq!(report.summary.counts, recorded.counts);
        assert_eq!(report.summary.stalls_total, recorded.counts["stall"]);
        assert_eq!(report.summary.workload, recorded.workload);
        let longest = |summary: &Summary| summary.stalls.iter().map(|line| line.max_ns).max();
        assert_eq!(longest(&report.summary), longest(&recorded), "the longest stall was streamed");
        let seq = report.last.unwrap().seq;
        assert_eq!(seq, lines.lines().count() as u64 + 1);
    }

    #[test]
    fn the_files_and_processes_are_those_of_the_stalls() {
        let report = report(RECORDED);
        let files = report.files.first(9);
        let sum: u64 = files.iter().map(|(_, stalled)| stalled.count).sum();
        assert_eq!(sum, report.summary.counts["stall"]);
        assert!(files.iter().any(|(file, _)| file.device.as_deref() == Some("loop0")));
        assert!(report.processes.first(1)[0].0.comm.starts_with("wac-"));
    }
}
