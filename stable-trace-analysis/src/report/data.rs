//! What the HTML report shows, as data.

use serde::Serialize;

use super::{
    Report,
    builder::WorkloadPhase,
    top::{StallTotals, TopFile, TopProcess},
};
use crate::{
    event::{IntegrityError, StallSummary, Verdict, Workload},
    units::Timestamp,
};

/// Files and processes, at most.
const MAX_ROWS: usize = 1_000;

/// Bins of time, at most.
const MAX_BINS: usize = 480;

/// One object of type `report`. What the HTML report has beside it is in the lines `start`, `verdict` and `summary`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "report")]
pub struct Data<'a> {
    /// The streamed stalls.
    streamed: Vec<StallSummary>,
    over_time: OverTime,
    /// The files with the most stalled time, of streamed stalls.
    files: Vec<File<'a>>,
    /// The processes with the most stalled time, of streamed stalls.
    processes: Vec<Process<'a>>,
    /// There were so many files or processes that the smallest were dropped: their times are lower bounds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    approximate: bool,
    workloads: Vec<Phase<'a>>,
    /// Verdicts of the recording, and those that it lacks.
    verdicts_total: u64,
    /// The first of them, with their errors.
    verdicts: Vec<Judged<'a>>,
}

/// Streamed events by the time when they ended.
#[derive(Debug, Serialize)]
struct OverTime {
    from: Timestamp,
    /// Width of each bin.
    bin_ns: u64,
    bins: Vec<Bin>,
}

#[derive(Debug, Serialize)]
struct Bin {
    stalls: u64,
    integrity_errors: u64,
    lost: u64,
    /// Stalls by duration, as in a summary.
    buckets: Vec<u64>,
}

/// Stalls and stalled time in ns.
#[derive(Debug, Serialize)]
struct Totals {
    count: u64,
    total_ns: u64,
    max_ns: u64,
}

#[derive(Debug, Serialize)]
struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fs: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ino: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(flatten)]
    totals: Totals,
}

#[derive(Debug, Serialize)]
struct Process<'a> {
    pid: u32,
    #[serde(rename = "process", skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    /// The common part of its threads' names.
    comm: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a str>,
    #[serde(flatten)]
    totals: Totals,
}

/// A workload from its start to its end; without an end if it had not ended.
#[derive(Debug, Serialize)]
struct Phase<'a> {
    from: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Timestamp>,
    workload: &'a Workload,
}

/// A verdict with its error; without one if the recording lacks its line.
#[derive(Debug, Serialize)]
struct Judged<'a> {
    verdict: &'a Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a IntegrityError>,
}

impl<'a> Data<'a> {
    /// The data of a report.
    pub fn of(report: &'a Report) -> Self {
        let verdicts = report.verdicts.iter().map(|entry| Judged {
            verdict: &entry.verdict,
            time: entry.error.as_ref().map(|(time, _)| *time),
            error: entry.error.as_ref().map(|(_, error)| error),
        });
        Self {
            streamed: report.streamed.summaries(),
            over_time: OverTime::of(report),
            files: report.files.first(MAX_ROWS).into_iter().map(File::of).collect(),
            processes: report.processes.first(MAX_ROWS).into_iter().map(Process::of).collect(),
            approximate: report.files.is_approximate() || report.processes.is_approximate(),
            workloads: report.phases.iter().map(Phase::of).collect(),
            verdicts_total: report.verdicts_total,
            verdicts: verdicts.collect(),
        }
    }
}

impl OverTime {
    fn of(report: &Report) -> Self {
        let (bin_ns, bins) = report.timeline.bins(MAX_BINS, report.span_ns.1);
        let bins = bins.into_iter().map(|bin| {
            let last = bin.stalls.iter().rposition(|count| *count > 0);
            Bin {
                stalls: bin.stalls.iter().sum(),
                integrity_errors: bin.errors,
                lost: bin.lost,
                buckets: bin.stalls.iter().take(last.map_or(0, |last| last + 1)).copied().collect(),
            }
        });
        Self {
            from: Timestamp::from_unix_ns(report.timeline.origin_ns()),
            bin_ns,
            bins: bins.collect(),
        }
    }
}

impl From<StallTotals> for Totals {
    fn from(StallTotals { count, total_ns, max_ns }: StallTotals) -> Self {
        Self { count, total_ns, max_ns }
    }
}

impl<'a> File<'a> {
    fn of((file, totals): (&'a TopFile, StallTotals)) -> Self {
        Self {
            device: file.device.as_deref(),
            fs: file.fs.as_deref(),
            ino: file.ino,
            path: file.path.as_deref(),
            totals: totals.into(),
        }
    }
}

impl<'a> Process<'a> {
    fn of((process, totals): (&'a TopProcess, StallTotals)) -> Self {
        Self {
            pid: process.pid,
            name: process.process.as_deref(),
            comm: &process.comm,
            container: process.container.as_deref(),
            totals: totals.into(),
        }
    }
}

impl<'a> Phase<'a> {
    fn of(phase: &'a WorkloadPhase) -> Self {
        Self {
            from: Timestamp::from_unix_ns(phase.from_ns),
            to: phase.to_ns.map(Timestamp::from_unix_ns),
            workload: &phase.workload,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{recording::Reader, report::ReportBuilder};

    #[test]
    fn the_sums_of_a_recording_are_those_of_its_lines() {
        let recorded = include_str!("../../tests/fixtures/recordings/format-1.jsonl");
        let lines: Vec<Value> =
            recorded.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut builder = ReportBuilder::new(None);
        for line in Reader::new(recorded.as_bytes()) {
            builder.line(&line.unwrap());
        }
        let report = builder.finish();
        let data = serde_json::to_value(Data::of(&report)).unwrap();

        let stalls: Vec<_> = lines.iter().filter(|line| line["type"] == "stall").collect();
        let time: u64 = stalls.iter().map(|stall| stall["duration_ns"].as_u64().unwrap()).sum();
        let sum = |list: &Value, field: &str| -> u64 {
            list.as_array().unwrap().iter().map(|item| item[field].as_u64().unwrap()).sum()
        };
        assert_eq!(data["type"], "report");
        for list in ["streamed", "files", "processes"] {
            assert_eq!(sum(&data[list], "count"), stalls.len() as u64, "{list}");
            assert_eq!(sum(&data[list], "total_ns"), time, "{list}");
        }
        assert_eq!(sum(&data["over_time"]["bins"], "stalls"), stalls.len() as u64);
        assert_eq!(data["over_time"]["from"], lines[0]["time"]);
        let started = lines.iter().find(|line| line["state"] == "started").unwrap();
        assert_eq!(data["workloads"][0]["from"], started["time"]);
    }
}
