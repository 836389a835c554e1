//! From a recording's lines to a report.

use std::{collections::BTreeMap, time::Duration};

use super::{
    names::Names,
    timeline::Timeline,
    top::{Top, TopFile, TopProcess},
    totals::Totals,
    verdicts::{Agreement, Verdicts},
};
use crate::{
    correlate::tally::Tally,
    event::{Event, IntegrityError, Line, Stall, Start, Summary, Verdict, Workload, WorkloadState},
    units::{DeviceId, Timestamp},
};

/// The most verdicts that are listed one by one; the others are counted.
const LISTED: usize = 500;

/// The most errors that wait for their verdict.
const WAITING: usize = 4096;

/// The most workload phases that are kept.
const PHASES: usize = 64;

/// A verdict with the error that it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// What it says.
    pub verdict: Verdict,
    /// When the error was, as the recording has it; and the error. Nothing if the recording lacks
    /// its line.
    pub error: Option<(Timestamp, IntegrityError)>,
}

/// A workload from start to end.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// Its profile.
    pub profile: String,
    /// When it began, in ns since 1970.
    pub from_ns: u64,
    /// When it ended, if it did.
    pub to_ns: Option<u64>,
    /// The last that it said.
    pub workload: Workload,
}

/// Takes lines.
pub struct ReportBuilder {
    report: Report,
    totals: Totals,
    verdicts: Verdicts,
    waiting: BTreeMap<u64, (Timestamp, IntegrityError)>,
    names: Names,
    last_line: (u64, Timestamp),
}

/// What a recording tells.
#[derive(Default)]
pub struct Report {
    /// Its first line.
    pub start: Option<Start>,
    /// When that was, as the recording has it.
    pub began: Timestamp,
    /// The first and the last time, in ns since 1970.
    pub span_ns: (u64, u64),
    /// Its last line, or one made from the others.
    pub summary: Summary,
    /// That as a line of the stream.
    pub last: Option<Line>,
    /// Stalls over time.
    pub heat: Timeline,
    /// Those that were streamed, by place.
    pub streamed: Tally,
    /// Files by device number and inode.
    pub files: Top<(Option<DeviceId>, u64), TopFile>,
    /// Processes.
    pub processes: Top<u32, TopProcess>,
    /// Workloads.
    pub phases: Vec<Phase>,
    /// The first verdicts.
    pub verdicts: Vec<Listed>,
    /// How many there are.
    pub verdicts_total: u64,
    /// Verdicts that the recording should have and has not: it was cut before them. As lines of the
    /// stream.
    pub added: Vec<Line>,
    /// How the recorded verdicts compare with what this program makes of the other lines.
    pub agreement: Agreement,
    /// Whether the verdicts are of another window than the run's.
    pub anew: bool,
}

impl ReportBuilder {
    /// Has seen nothing; with a window for the verdicts, if not the run's own.
    #[must_use]
    pub fn new(window: Option<Duration>) -> Self {
        Self {
            report: Report::default(),
            totals: Totals::default(),
            verdicts: Verdicts::new(window),
            waiting: BTreeMap::new(),
            names: Names::default(),
            last_line: (0, Timestamp::default()),
        }
    }

    /// Takes the next line. Gives the verdicts that are due now and stand in place of the recorded
    /// ones, if those do not count.
    pub fn line(&mut self, line: &Line) -> Vec<Line> {
        self.last_line = (line.seq, line.time);
        let time_ns = line.time.unix_ns();
        let span = &mut self.report.span_ns;
        span.0 = if span.0 == 0 { time_ns } else { span.0.min(time_ns) };
        span.1 = span.1.max(time_ns);
        self.totals.add(&line.event);
        let due = self.verdicts.line(line);
        self.event(line, time_ns);
        let as_line = |verdict: Verdict| {
            self.list(&verdict);
            Line { seq: line.seq, time: line.time, event: Event::Verdict(verdict) }
        };
        due.into_iter().map(as_line).collect()
    }

    /// Whether a line counts as it stands in the recording.
    #[must_use]
    pub fn counts(&self, line: &Line) -> bool {
        !(self.verdicts.anew && matches!(line.event, Event::Verdict(_)))
    }

    fn event(&mut self, line: &Line, time_ns: u64) {
        let report = &mut self.report;
        match &line.event {
            Event::Start(start) => {
                report.start = Some(start.clone());
                report.began = line.time;
                report.heat.at(time_ns);
            }
            Event::Stall(stall) => {
                report.heat.stall(time_ns, stall.duration_ns);
                report.stall(stall, &mut self.names);
            }
            Event::UnstableWrite(_) => report.heat.at(time_ns).unstable += 1,
            Event::Lost(lost) => report.heat.at(time_ns).lost += lost.count,
            Event::Integrity(error) => {
                report.heat.at(time_ns).errors += 1;
                self.waiting.insert(line.seq, (line.time, error.clone()));
                if self.waiting.len() > WAITING {
                    self.waiting.pop_first();
                }
            }
            Event::Verdict(verdict) if !self.verdicts.anew => self.list(verdict),
            Event::Verdict(_) => {}
            Event::Workload(workload) => report.workload(workload, time_ns),
            Event::Summary(summary) => {
                report.summary = summary.clone();
                report.last = Some(line.clone());
            }
        }
    }

    fn list(&mut self, verdict: &Verdict) {
        let report = &mut self.report;
        report.verdicts_total += 1;
        let error = self.waiting.remove(&verdict.integrity_seq);
        if report.verdicts.len() < LISTED {
            report.verdicts.push(Listed { verdict: verdict.clone(), error });
        }
    }

    /// Ends. Where the recording had no summary, one is made from its lines.
    #[must_use]
    pub fn finish(mut self) -> Report {
        let (first, last) = self.report.span_ns;
        let ended = self.report.last.is_some();
        let mut summary = if ended {
            std::mem::take(&mut self.report.summary)
        } else {
            self.totals.summary(last.saturating_sub(first))
        };
        self.report.anew = self.verdicts.anew;
        let verdicts = std::mem::replace(&mut self.verdicts, Verdicts::new(None));
        let (left, agreement) = verdicts.finish(&mut summary, ended);
        self.report.agreement = agreement;
        let (mut seq, time) = self.last_line;
        if ended {
            // Before the summary.
            seq = seq.saturating_sub(1);
        }
        for verdict in left {
            self.list(&verdict);
            seq = seq.saturating_add(1);
            let event = Event::Verdict(verdict);
            self.report.added.push(Line { seq, time, event });
        }
        if !ended && let Some(count) = summary.counts.get_mut("verdict") {
            *count += self.report.added.len() as u64;
        }
        let event = Event::Summary(summary.clone());
        self.report.streamed = self.totals.tally();
        self.report.summary = summary;
        self.report.last = Some(match self.report.last.take() {
            Some(line) => Line { event, ..line },
            None => Line { seq: seq.saturating_add(1), time, event },
        });
        self.report
    }
}

impl Report {
    fn stall(&mut self, stall: &Stall, names: &mut Names) {
        let file = || TopFile {
            device: stall.device.as_deref().map(|device| names.share(device)),
            fs: stall.fs.as_deref().map(|fs| names.share(fs)),
            ino: stall.ino,
            path: stall.path.clone(),
        };
        let key = (stall.dev, stall.ino);
        self.files.add(key, stall.duration_ns, file, |_| {});
        let process = || TopProcess { pid: stall.pid, comm: stall.comm.clone() };
        self.processes.add(stall.pid, stall.duration_ns, process, |known| known.also(&stall.comm));
    }

    fn workload(&mut self, workload: &Workload, time_ns: u64) {
        let ended = workload.state == WorkloadState::Finished;
        let room = self.phases.len() < PHASES;
        let open = self
            .phases
            .iter_mut()
            .rev()
            .find(|phase| phase.to_ns.is_none() && phase.profile == workload.profile);
        match open {
            Some(phase) if workload.state != WorkloadState::Started => {
                phase.workload = workload.clone();
                phase.to_ns = ended.then_some(time_ns);
            }
            _ if room => self.phases.push(Phase {
                profile: workload.profile.clone(),
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

    fn fold(text: &str) -> Report {
        let mut fold = ReportBuilder::new(None);
        for line in Reader::new(text.as_bytes()).flatten() {
            fold.line(&line);
        }
        fold.finish()
    }

    #[test]
    fn a_summary_is_passed_on_as_it_was() {
        let report = fold(RECORDED);
        let last: Line = serde_json::from_str(RECORDED.lines().last().unwrap()).unwrap();
        assert_eq!(report.last, Some(last));
        assert!(!report.summary.incomplete);
        assert_eq!(report.phases.len(), 2);
        assert!(report.phases.iter().all(|phase| phase.to_ns > Some(phase.from_ns)));
    }

    #[test]
    fn without_one_it_is_made_from_the_lines() {
        let (lines, summary) = RECORDED.trim_end().rsplit_once('\n').unwrap();
        let report = fold(lines);
        let Event::Summary(recorded) = serde_json::from_str::<Line>(summary).unwrap().event else {
            panic!("no summary")
        };
        assert!(report.summary.incomplete);
        assert_eq!(report.summary.counts, recorded.counts);
        assert_eq!(report.summary.stalls_total, recorded.counts["stall"]);
        assert_eq!(report.summary.workload, recorded.workload);
        let longest = |summary: &Summary| summary.stalls.iter().map(|line| line.max_ns).max();
        assert_eq!(longest(&report.summary), longest(&recorded), "the longest was streamed");
        let seq = report.last.unwrap().seq;
        assert_eq!(seq, lines.lines().count() as u64 + 1);
    }

    #[test]
    fn the_files_and_processes_are_those_of_the_stalls() {
        let report = fold(RECORDED);
        let files = report.files.first(9);
        let sum: u64 = files.iter().map(|(_, stalled)| stalled.count).sum();
        assert_eq!(sum, report.summary.counts["stall"]);
        assert!(files.iter().any(|(file, _)| file.device.as_deref() == Some("loop0")));
        assert!(report.processes.first(1)[0].0.comm.starts_with("wac-"));
    }
}
