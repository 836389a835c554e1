//! What the live view shows, from snapshots of the kernel's counts and from lines of the stream. Pure.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    time::Duration,
};

use stable_trace_analysis::{
    event::{Event, Line, Stall},
    sink::format::sanitize,
    statistics::quantile::quantile_ns,
};
use stable_trace_common::histogram::Histogram;

use super::controls::{Controls, Sort};
use crate::metrics::snapshot::{DeviceFs, Snapshot};

/// Integrity errors and verdicts that are kept.
const MAX_FINDINGS: usize = 100;

/// Files that are kept. The half with the least stalled time makes room.
const MAX_FILES: usize = 4_096;

/// The state of the view.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) hostname: String,
    /// Since the probes attached.
    pub(super) uptime: Duration,
    /// Tasks that wait at this moment, and the age of the oldest wait in ns.
    pub(super) waiting: u64,
    pub(super) oldest_ns: u64,
    pub(super) lost: u64,
    devices: Vec<DeviceRow>,
    processes: Vec<ProcessRow>,
    files: HashMap<FileKey, FileRow>,
    /// The newest first.
    pub(super) findings: VecDeque<Finding>,
    previous: Previous,
}

/// The counts of the snapshot before.
#[derive(Clone, Debug, Default)]
struct Previous {
    uptime: Duration,
    stalls: HashMap<DeviceFs, Histogram>,
    /// Stalled time in ns.
    processes: HashMap<String, u64>,
}

/// A device and file system: what happened between two snapshots, and what is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DeviceRow {
    pub(super) device: String,
    pub(super) fs: String,
    /// Stalls a second.
    pub(super) rate: f64,
    /// Stalled ns a second.
    pub(super) stalled: f64,
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
    /// Stalls since the probes attached.
    pub(super) count: u64,
    pub(super) waiting: u64,
    pub(super) oldest_ns: u64,
}

/// The processes of one name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ProcessRow {
    pub(super) name: String,
    /// Stalled ns a second.
    pub(super) stalled: f64,
    /// Stalled ns since the probes attached.
    pub(super) total_ns: u64,
}

type FileKey = (Option<String>, Option<u64>);

/// The streamed stalls of one file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FileRow {
    pub(super) name: String,
    pub(super) device: String,
    pub(super) count: u64,
    pub(super) total_ns: u64,
    pub(super) max_ns: u64,
}

/// An integrity error or a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The time of day.
    pub(super) time: String,
    pub(super) text: String,
}

impl Model {
    /// Takes the kernel's counts of this moment.
    pub(super) fn snapshot(&mut self, snapshot: &Snapshot) {
        let seconds = snapshot.uptime.saturating_sub(self.previous.uptime).as_secs_f64();
        self.uptime = snapshot.uptime;
        self.lost = snapshot.events_lost;
        self.waiting = snapshot.waiting.len() as u64;
        self.oldest_ns = snapshot.waiting.iter().map(|task| task.age_ns).max().unwrap_or(0);
        let mut stalls: HashMap<DeviceFs, Histogram> =
            snapshot.mounted.iter().map(|mounted| (mounted.clone(), Histogram::EMPTY)).collect();
        for entry in &snapshot.stalls {
            let sum = stalls.entry(entry.device_fs.clone()).or_insert(Histogram::EMPTY);
            sum.merge(&entry.histogram);
        }
        for task in &snapshot.waiting {
            stalls.entry(task.device_fs.clone()).or_insert(Histogram::EMPTY);
        }
        self.devices = stalls
            .iter()
            .map(|(device_fs, now)| {
                let before = self.previous.stalls.get(device_fs);
                let waiting = snapshot.waiting.iter().filter(|task| task.device_fs == *device_fs);
                let row = device_row(device_fs, now, before, seconds);
                DeviceRow {
                    waiting: waiting.clone().count() as u64,
                    oldest_ns: waiting.map(|task| task.age_ns).max().unwrap_or(0),
                    ..row
                }
            })
            .collect();
        let mut processes: HashMap<String, u64> = HashMap::new();
        for process in &snapshot.processes {
            let name = sanitize(process.name.as_deref().unwrap_or("other"));
            let sum_ns = processes.entry(name).or_default();
            *sum_ns = sum_ns.saturating_add(process.sum_ns);
        }
        self.processes = processes
            .iter()
            .map(|(name, total_ns)| {
                let before = self.previous.processes.get(name).copied().unwrap_or(0);
                ProcessRow {
                    name: name.clone(),
                    stalled: per_second(total_ns.saturating_sub(before), seconds),
                    total_ns: *total_ns,
                }
            })
            .collect();
        self.previous = Previous { uptime: snapshot.uptime, stalls, processes };
    }

    /// Takes a line of the stream.
    pub(super) fn line(&mut self, line: &Line) {
        let text = match &line.event {
            Event::Start(start) => {
                self.hostname = sanitize(&start.hostname);
                return;
            }
            Event::Stall(stall) => {
                self.stall(stall);
                return;
            }
            Event::Integrity(error) => format!(
                "{} {} of {} on {} ({} sectors)",
                error.check.name(),
                error.op.name(),
                error.path.as_deref().unwrap_or("unknown file"),
                error.device.as_deref().unwrap_or("-"),
                error.sectors,
            ),
            Event::Verdict(verdict) => {
                format!(
                    "{} ({:.2}): {}",
                    verdict.cause.name(),
                    verdict.confidence,
                    verdict.explanation
                )
            }
            _ => return,
        };
        self.findings.push_front(Finding { time: line.time.time_of_day(), text: sanitize(&text) });
        self.findings.truncate(MAX_FINDINGS);
    }

    fn stall(&mut self, stall: &Stall) {
        let dev = stall.subvolume_dev.or(stall.dev).map(|dev| dev.to_string());
        let key = (dev, stall.ino);
        if self.files.len() >= MAX_FILES && !self.files.contains_key(&key) {
            self.drop_smaller_half();
        }
        let row = self.files.entry(key).or_insert_with(|| FileRow {
            name: match (&stall.path, stall.ino) {
                (Some(path), _) => sanitize(path),
                (None, Some(ino)) => format!("inode {ino}"),
                (None, None) => "-".to_owned(),
            },
            device: sanitize(stall.device.as_deref().unwrap_or("-")),
            count: 0,
            total_ns: 0,
            max_ns: 0,
        });
        row.count += 1;
        row.total_ns = row.total_ns.saturating_add(stall.duration_ns);
        row.max_ns = row.max_ns.max(stall.duration_ns);
    }

    fn drop_smaller_half(&mut self) {
        let mut times: Vec<_> = self.files.values().map(|row| row.total_ns).collect();
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or(0);
        self.files.retain(|_, row| row.total_ns > median);
    }

    /// The devices to show, in order.
    pub(super) fn devices(&self, controls: &Controls) -> Vec<&DeviceRow> {
        let shown = |row: &&DeviceRow| controls.shows(&[&row.device, &row.fs]);
        let mut rows: Vec<_> = self.devices.iter().filter(shown).collect();
        rows.sort_by(|one, other| {
            let order = match controls.sort {
                Sort::Time => other.stalled.total_cmp(&one.stalled),
                Sort::Count => other.rate.total_cmp(&one.rate),
                Sort::Latency => (other.oldest_ns, other.p99_ns).cmp(&(one.oldest_ns, one.p99_ns)),
            };
            let names = || (&one.device, &one.fs).cmp(&(&other.device, &other.fs));
            order.then(other.count.cmp(&one.count)).then_with(names)
        });
        rows
    }

    /// The processes to show, in order.
    pub(super) fn processes(&self, controls: &Controls) -> Vec<&ProcessRow> {
        let shown = |row: &&ProcessRow| controls.shows(&[&row.name]);
        let mut rows: Vec<_> = self.processes.iter().filter(shown).collect();
        rows.sort_by(|one, other| {
            let order = other.stalled.total_cmp(&one.stalled);
            order.then(other.total_ns.cmp(&one.total_ns)).then_with(|| one.name.cmp(&other.name))
        });
        rows
    }

    /// The files to show, in order.
    pub(super) fn files(&self, controls: &Controls) -> Vec<&FileRow> {
        let shown = |row: &&FileRow| controls.shows(&[&row.name, &row.device]);
        let mut rows: Vec<_> = self.files.values().filter(shown).collect();
        rows.sort_by_key(|row| {
            let value = match controls.sort {
                Sort::Time => row.total_ns,
                Sort::Count => row.count,
                Sort::Latency => row.max_ns,
            };
            (Reverse(value), &row.name, &row.device)
        });
        rows
    }
}

fn device_row(
    device_fs: &DeviceFs,
    now: &Histogram,
    before: Option<&Histogram>,
    seconds: f64,
) -> DeviceRow {
    let since = before.map_or(*now, |before| now.since(before));
    let quantile = |part| quantile_ns(&since.buckets, since.max_ns, part);
    DeviceRow {
        device: sanitize(device_fs.device.as_deref().unwrap_or("-")),
        fs: sanitize(device_fs.fs.as_deref().unwrap_or("-")),
        rate: per_second(since.count(), seconds),
        stalled: per_second(since.sum_ns, seconds),
        p50_ns: quantile(0.5),
        p99_ns: quantile(0.99),
        count: now.count(),
        waiting: 0,
        oldest_ns: 0,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn per_second(amount: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { amount as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use stable_trace_analysis::event::Context;
    use stable_trace_common::{backing::Backing, histogram::HistogramKey};

    use super::*;
    use crate::metrics::snapshot::{Stalls, WaitingTask};

    fn device_fs(device: &str) -> DeviceFs {
        DeviceFs { device: Some(device.to_owned()), fs: Some("ext4".to_owned()) }
    }

    fn snapshot(seconds: u64, stalls: &[(&str, &[u64])]) -> Snapshot {
        let stalls = stalls.iter().map(|(device, durations)| Stalls {
            key: HistogramKey { backing: Backing::NONE, stack: 1 },
            context: Context::Sync,
            device_fs: device_fs(device),
            histogram: durations.iter().copied().collect(),
        });
        Snapshot {
            uptime: Duration::from_secs(seconds),
            stalls: stalls.collect(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn rates_are_of_the_time_between_two_snapshots() {
        let mut model = Model::default();
        model.snapshot(&snapshot(10, &[("sda", &[1_000_000; 30])]));
        let durations: Vec<_> = std::iter::repeat_n(1_000_000, 30).chain([8_000_000; 4]).collect();
        model.snapshot(&snapshot(12, &[("sda", &durations), ("sdb", &[5_000])]));
        let controls = Controls::default();
        let rows = model.devices(&controls);
        let [sda, sdb] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((sda.device.as_str(), sda.rate, sda.count), ("sda", 2.0, 34));
        assert!((sda.stalled - 16e6).abs() < 1.0, "{sda:?}");
        assert!(sda.p50_ns > 4_000_000, "not those of before: {sda:?}");
        assert_eq!((sdb.device.as_str(), sdb.rate), ("sdb", 0.5));
    }

    #[test]
    fn a_device_on_which_a_task_waits_is_shown_without_a_stall() {
        let mut model = Model::default();
        let waiting =
            |age_ns| WaitingTask { context: Context::Sync, device_fs: device_fs("sdc"), age_ns };
        let waiting = vec![waiting(5_000_000_000), waiting(7_000_000_000)];
        model.snapshot(&Snapshot { waiting, ..snapshot(1, &[("sda", &[9_000_000])]) });
        let controls = Controls { sort: Sort::Latency, ..Controls::default() };
        let first = model.devices(&controls)[0];
        assert_eq!((first.device.as_str(), first.waiting), ("sdc", 2));
        assert_eq!((first.oldest_ns, model.oldest_ns), (7_000_000_000, 7_000_000_000));
    }

    fn stall(ino: u64, duration_ns: u64) -> Line {
        let text = format!(
            r#"{{"seq":1,"time":"2026-11-30T00:00:00Z","type":"stall","context":"sync","function":"f","duration_ns":{duration_ns},"pid":1,"tid":2,"comm":"c","device":"sda","dev":"8:0","ino":{ino},"index":3}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_order_and_the_filter_apply_to_files() {
        let mut model = Model::default();
        for line in [stall(1, 5), stall(1, 5), stall(1, 5), stall(2, 9), stall(2, 9)] {
            model.line(&line);
        }
        let names = |sort, filter: &str| {
            let controls = Controls { sort, filter: filter.to_owned(), ..Controls::default() };
            model.files(&controls).iter().map(|row| row.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(Sort::Time, ""), ["inode 2", "inode 1"]);
        assert_eq!(names(Sort::Count, ""), ["inode 1", "inode 2"]);
        assert_eq!(names(Sort::Latency, "e 1"), ["inode 1"]);
    }

    #[test]
    fn the_number_of_files_is_bounded() {
        let mut model = Model::default();
        for ino in 0..20_000 {
            model.line(&stall(ino, ino));
        }
        assert!(model.files.len() <= MAX_FILES);
        assert_eq!(model.files(&Controls::default())[0].name, "inode 19999");
    }
}
