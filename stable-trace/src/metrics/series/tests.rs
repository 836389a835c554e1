mod oversized;

use std::collections::{BTreeMap, BTreeSet};

use prometheus::proto::MetricType;
use stable_trace_analysis::{
    event::{Device, Group, Method, ModeCount, Output, Probe, Protection},
    units::DeviceId,
};
use stable_trace_common::backing::{BY_DEV, Backing, dev_t};

use self::oversized::oversized;
use super::*;
use crate::{
    collect::map_fill::MapFill,
    metrics::{
        exposition::{ExpositionFormat, encode},
        snapshot::{
            IntegrityCount, ProcessTime, Program, ProofCount, Stalls, UnstableCount, VerdictCount,
        },
    },
};

fn registry() -> Registry {
    let text = str::to_owned;
    Registry::new(Build { version: text("0.1.0"), revision: text("abc"), kernel: text("6.12") })
}

fn backing(number: u32) -> Backing {
    Backing { kind: BY_DEV, dev: dev_t(8, number), ..Backing::NONE }
}

fn device_fs(number: u32) -> DeviceFs {
    DeviceFs { device: Some(format!("sd{number}")), fs: Some("ext4".to_owned()) }
}

fn stalls(number: u32, stack: u64, context: Context, durations: &[u64]) -> Stalls {
    let mut histogram = Histogram::EMPTY;
    for &duration in durations {
        histogram.record(duration);
    }
    let key = HistogramKey { backing: backing(number), stack };
    Stalls { key, context, device_fs: device_fs(number), histogram }
}

fn process(name: &str, context: Context, sum_ns: u64) -> ProcessTime {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    let key = ProcessKey { process: comm, cgroup_id: 0, stack: context as u64 + 1 };
    ProcessTime { key, name: Some(name.to_owned()), cgroup: None, context, sum_ns }
}

/// Series with their values, parsed from an encoded scrape.
fn scrape(registry: &mut Registry, snapshot: &Snapshot) -> BTreeMap<String, f64> {
    let text = encode(&registry.families(snapshot), ExpositionFormat::Text);
    let mut series = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let twice = series.insert(name.to_owned(), value.parse().unwrap());
        assert!(twice.is_none(), "{name} occurs twice");
    }
    series
}

fn count(of: u32) -> Vec<u64> {
    vec![2_000; of as usize]
}

#[test]
fn stacks_with_the_same_context_share_a_series() {
    let snapshot = Snapshot {
        stalls: vec![
            stalls(1, 7, Context::WriteBegin, &[2_000, 3_000]),
            stalls(1, 8, Context::WriteBegin, &[2_000]),
            stalls(1, 9, Context::Sync, &[5_000_000]),
        ],
        ..Snapshot::default()
    };
    let series = scrape(&mut registry(), &snapshot);
    let of = |context: &str| {
        series[&format!(
            "stable_trace_stall_seconds_count{{context=\"{context}\",device=\"sd1\",fs=\"ext4\"}}"
        )]
    };
    assert_eq!(
        [of("write_begin").to_bits(), of("sync").to_bits()],
        [3.0_f64, 1.0].map(f64::to_bits)
    );
}

#[test]
fn known_series_start_at_zero() {
    let device = Device {
        device: "nvme0n1".to_owned(),
        dev: DeviceId::new(259, 0),
        stable_writes: true,
        integrity: Some(Protection {
            format: "T10-DIF-TYPE1-CRC".to_owned(),
            tag_size: 0,
            interval_bytes: Some(512),
        }),
        risk: None,
    };
    let plain = Device { integrity: None, device: "loop0".to_owned(), ..device.clone() };
    let on =
        |device: &str| DeviceFs { device: Some(device.to_owned()), fs: Some("xfs".to_owned()) };
    let snapshot = Snapshot {
        devices: vec![device, plain],
        mounted: vec![device_fs(1), on("nvme0n1"), on("loop0")],
        ..Snapshot::default()
    };
    let series = scrape(&mut registry(), &snapshot);
    for name in [
        "stable_trace_stall_seconds_count{context=\"write_begin\",device=\"sd1\",fs=\"ext4\"}",
        "stable_trace_integrity_errors_total{device=\"nvme0n1\",op=\"read\",check=\"guard\",source=\"nvme\"}",
        "stable_trace_verdicts_total{device=\"nvme0n1\",cause=\"direct_io_buffer\"}",
        "stable_trace_unstable_writes_total{device=\"nvme0n1\",fs=\"xfs\",context=\"write_begin\",grade=\"hole\"}",
        "stable_trace_unstable_writes_total{device=\"loop0\",fs=\"xfs\",context=\"page_mkwrite\",grade=\"violation\"}",
        "stable_trace_events_lost_total",
    ] {
        assert_eq!(series.get(name).copied().map(f64::to_bits), Some(0), "{name}: {series:#?}");
    }
    // The device below does not check integrity.
    let holes = |name: &&String| name.contains("loop0") && name.contains("hole");
    assert_eq!(series.keys().find(holes), None);
}

#[test]
fn the_number_of_series_is_bounded() {
    let mut registry = registry();
    for round in 1..4 {
        let series = scrape(&mut registry, &oversized(round));
        assert!(series.len() <= limits::SERIES, "{} series", series.len());
        // Enough to reach the limits.
        assert!(series.len() > 2_000, "{} series", series.len());
        let sets: BTreeSet<_> = series
            .keys()
            .filter(|name| name.starts_with("stable_trace_stall_seconds_count"))
            .collect();
        assert!(sets.len() <= 64, "{} label sets", sets.len());
        let names: BTreeSet<_> = series
            .keys()
            .filter_map(|name| name.strip_prefix("stable_trace_process_stall_seconds_total"))
            .filter_map(|labels| labels.split('"').nth(1))
            .collect();
        assert_eq!(names.len(), limits::PROCESSES + 1, "{names:?}");
        assert!(names.contains("other"));
    }
}

#[test]
fn events_without_series_of_their_own_are_counted_as_other() {
    let mut registry = registry();
    let snapshot = oversized(2);
    let series = scrape(&mut registry, &snapshot);
    let sum = |prefix: &str| -> f64 {
        series.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, value)| value).sum()
    };
    let stalls: u64 = snapshot.stalls.iter().map(|stalls| stalls.histogram.count()).sum();
    let errors: u64 = snapshot.integrity.iter().map(|errors| errors.count).sum();
    let unstable: u64 = snapshot.unstable.iter().map(|unstable| unstable.count).sum();
    let verdicts: u64 = snapshot.verdicts.iter().map(|verdicts| verdicts.count).sum();
    let process_ns: u64 = snapshot.processes.iter().map(|process| process.sum_ns).sum();
    let near = |one: f64, other: f64| (one - other).abs() <= 1e-9 * other.abs();
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    for (prefix, expected) in [
        ("stable_trace_stall_seconds_count", stalls as f64),
        ("stable_trace_integrity_errors_total", errors as f64),
        ("stable_trace_unstable_writes_total", unstable as f64),
        ("stable_trace_verdicts_total", verdicts as f64),
        ("stable_trace_process_stall_seconds_total", process_ns as f64 / 1e9),
    ] {
        assert!(near(sum(prefix), expected), "{prefix}: {} and not {expected}", sum(prefix));
    }
}

#[test]
fn no_counter_decreases_and_no_series_disappears() {
    let mut registry = registry();
    let counters = |registry: &mut Registry, snapshot: &Snapshot| {
        let families = registry.families(snapshot);
        let families: Vec<_> = families
            .into_iter()
            .filter(|family| family.get_field_type() != MetricType::GAUGE)
            .filter(|family| family.name().starts_with("stable_trace"))
            .collect();
        let text = encode(&families, ExpositionFormat::Text);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.map(|line| line.rsplit_once(' ').unwrap());
        pairs
            .map(|(name, value)| (name.to_owned(), value.parse::<f64>().unwrap()))
            .collect::<BTreeMap<_, _>>()
    };
    let mut before = counters(&mut registry, &oversized(1));
    for round in 2..6 {
        let mut snapshot = oversized(round);
        // The labels of keys change, or become unknown.
        for (index, stalls) in snapshot.stalls.iter_mut().enumerate() {
            match index % 3 {
                0 => stalls.device_fs = DeviceFs::default(),
                1 => stalls.context = Context::Other,
                _ => {}
            }
        }
        for unstable in &mut snapshot.unstable {
            unstable.grade = Grade::Hole;
        }
        for process in &mut snapshot.processes {
            process.context = Context::Sync;
        }
        let after = counters(&mut registry, &snapshot);
        for (name, value) in &before {
            assert!(after.get(name).is_some_and(|now| now >= value), "{name}: {value}");
        }
        before = after;
    }
}

#[test]
fn all_metric_names_are_the_documented_ones() {
    let families = registry().families(&oversized(1));
    let names: Vec<_> = families.iter().map(MetricFamily::name).collect();
    assert_eq!(
        names,
        [
            "process_cpu_seconds_total",
            "process_max_fds",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_threads",
            "process_virtual_memory_bytes",
            "stable_trace_build_info",
            "stable_trace_device_integrity_info",
            "stable_trace_device_stable_writes",
            "stable_trace_events_lost_total",
            "stable_trace_events_received_total",
            "stable_trace_evidence_skipped_total",
            "stable_trace_integrity_errors_total",
            "stable_trace_integrity_repeated_total",
            "stable_trace_map_bytes",
            "stable_trace_map_capacity",
            "stable_trace_map_entries",
            "stable_trace_oldest_wait_seconds",
            "stable_trace_output_lost_total",
            "stable_trace_probe_attached",
            "stable_trace_probe_missed_total",
            "stable_trace_process_stall_seconds_total",
            "stable_trace_program_run_seconds_total",
            "stable_trace_program_runs_total",
            "stable_trace_stack_walks_total",
            "stable_trace_stall_seconds",
            "stable_trace_unstable_writes_total",
            "stable_trace_verdict_proofs_total",
            "stable_trace_verdicts_total",
            "stable_trace_waiting_tasks",
            "stable_trace_workload_bytes_total",
            "stable_trace_workload_errors_total",
            "stable_trace_workload_operations_total",
        ]
    );
}

/// The sum of the series of a metric that have this label.
fn labelled(series: &BTreeMap<String, f64>, metric: &str, label: &str) -> Option<f64> {
    let all = series.iter().filter(|(name, _)| name.starts_with(metric) && name.contains(label));
    all.map(|(_, value)| *value).reduce(|one, other| one + other)
}

#[test]
fn file_systems_that_are_gone_give_their_series_to_others() {
    const COUNT: &str = "stable_trace_stall_seconds_count";
    let mut registry = registry();
    let mut all = Vec::new();
    let mut before = 0.0;
    for round in 0..201 {
        all.push(stalls(round, 7, Context::WriteBegin, &[2_000]));
        let snapshot = Snapshot {
            uptime: Duration::from_secs(round.into()),
            stalls: all.clone(),
            mounted: vec![device_fs(round)],
            ..Snapshot::default()
        };
        let series = scrape(&mut registry, &snapshot);
        let own = labelled(&series, COUNT, &format!("device=\"sd{round}\""));
        assert_eq!(own.map(f64::to_bits), Some(1.0_f64.to_bits()), "sd{round}");
        let total = labelled(&series, COUNT, "context").unwrap();
        assert!(total > before, "{total} after {before}");
        before = total;
    }
    assert_eq!(before.to_bits(), 201.0_f64.to_bits());
}

#[test]
fn a_process_that_has_not_stalled_for_an_hour_gives_its_series_to_another() {
    const METRIC: &str = "stable_trace_process_stall_seconds_total";
    let mut registry = registry();
    let pool: Vec<_> = (0..limits::PROCESSES)
        .map(|number| process(&format!("pool-{number}"), Context::Sync, 1_000_000_000))
        .collect();
    let later = |extra: &[ProcessTime], minutes| Snapshot {
        uptime: Duration::from_mins(minutes),
        processes: pool.iter().chain(extra).cloned().collect(),
        ..Snapshot::default()
    };
    scrape(&mut registry, &later(&[], 0));
    let early = process("early", Context::Sync, 1_000_000_000);
    let series = scrape(&mut registry, &later(std::slice::from_ref(&early), 59));
    assert_eq!(labelled(&series, METRIC, "early"), None);
    let late = process("late", Context::Sync, 2_000_000_000);
    let series = scrape(&mut registry, &later(&[early, late], 60));
    let value = |label| labelled(&series, METRIC, label).unwrap().to_bits();
    assert_eq!(value("late"), 2.0_f64.to_bits());
    // That of `early`, and that of the one which gave its place.
    assert_eq!(value("other"), 2.0_f64.to_bits());
    assert_eq!(value("context"), 53.0_f64.to_bits());
}

#[test]
fn the_same_process_in_two_cgroups_has_two_series_on_request() {
    const METRIC: &str = "stable_trace_process_stall_seconds_total";
    let in_cgroup = |cgroup_id, path: &str, sum_ns| {
        let mut time = process("worker", Context::Sync, sum_ns);
        time.key.cgroup_id = cgroup_id;
        time.cgroup = Some(path.to_owned());
        time
    };
    let crowd = (0..50).map(|number| in_cgroup(100 + number, &format!("/pod-{number}"), 9));
    let mut snapshot = Snapshot {
        processes: vec![in_cgroup(1, "/a", 1_000_000_000), in_cgroup(2, "", 2_000_000_000)],
        ..Snapshot::default()
    };
    let mut registry = registry();
    let series = scrape(&mut registry, &snapshot);
    let value = |series, label| labelled(series, METRIC, label).map(f64::to_bits);
    assert_eq!(value(&series, "cgroup=\"/a\""), Some(1.0_f64.to_bits()), "{series:#?}");
    assert_eq!(value(&series, "cgroup=\"unknown\""), Some(2.0_f64.to_bits()), "{series:#?}");
    snapshot.processes.extend(crowd);
    let series = scrape(&mut registry, &snapshot);
    let all = series.keys().filter(|name| name.starts_with(METRIC)).count();
    assert_eq!(all, limits::PROCESSES + 1, "{series:#?}");
    assert_eq!(
        value(&series, "comm=\"other\""),
        labelled(&series, METRIC, "cgroup=\"other\"").map(f64::to_bits)
    );
}

#[test]
fn labels_have_no_control_characters() {
    let mut device = stalls(1, 1, Context::Sync, &[5]);
    device.device_fs.device = Some("a\u{1b}[31mb\nc".into());
    let snapshot = Snapshot {
        stalls: vec![device],
        processes: vec![process("\u{202e}mc", Context::Sync, 1)],
        ..Snapshot::default()
    };
    let series = scrape(&mut registry(), &snapshot);
    assert!(!series.keys().any(|name| name.contains(|char: char| char.is_control())), "{series:?}");
    for label in [r#"device="a\\u{1b}[31mb\\nc""#, r#"comm="\\u{202e}mc""#] {
        assert!(series.keys().any(|name| name.contains(label)), "{label}: {series:?}");
    }
}

#[test]
fn workers_share_a_series() {
    const METRIC: &str = "stable_trace_process_stall_seconds_total";
    let workers = ["kworker/0:1", "kworker/u8:3", "iou-wrk-12", "iou-wrk-13"];
    let snapshot = Snapshot {
        processes: workers.map(|name| process(name, Context::Sync, 1_000_000_000)).into(),
        ..Snapshot::default()
    };
    let series = scrape(&mut registry(), &snapshot);
    for label in ["comm=\"kworker\"", "comm=\"iou-wrk\""] {
        assert_eq!(labelled(&series, METRIC, label).map(f64::to_bits), Some(2.0_f64.to_bits()));
    }
}
