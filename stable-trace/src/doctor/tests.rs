//! Reports of invented machines, and one of this machine.

use stable_trace_analysis::event::{Device, Protection, Risk};

use super::{
    examine::{examine, tracepoint_plan, with_trials},
    problems,
    report::{AttachMethod, Availability, BtrfsMount, Privileges, Report, Tracepoint},
    text::to_text,
};
use crate::kernel::{lockdown::Lockdown, privileges::Capability};

fn unavailable(name: &str) -> AttachMethod {
    AttachMethod {
        name: name.to_owned(),
        available: false,
        reason: Some(format!("no {name} here")),
        remedy: Some("use another kernel".to_owned()),
    }
}

fn available(name: &str) -> AttachMethod {
    AttachMethod { name: name.to_owned(), available: true, reason: None, remedy: None }
}

fn device(name: &str, dev: &str, stable_writes: bool, format: Option<&str>) -> Device {
    let integrity = format.map(|format| Protection {
        format: format.to_owned(),
        tag_size: 0,
        interval_bytes: Some(512),
    });
    Device {
        device: name.to_owned(),
        dev: dev.parse().unwrap(),
        stable_writes,
        integrity,
        risk: None,
    }
}

/// A machine that supports everything, with a PI disk.
fn machine() -> Report {
    Report {
        kernel: "6.12.95".to_owned(),
        arch: "x86_64".to_owned(),
        privileges: Privileges { uid: 0, held: Capability::ALL.into(), missing: Vec::new() },
        btf: Availability::yes("100 types"),
        lockdown: Lockdown::None,
        symbols: Availability::yes("100 functions"),
        tracefs: Availability::yes("/sys/kernel/tracing"),
        methods: ["fentry", "kprobe", "tracepoint", "raw_tracepoint"].map(available).into(),
        tracepoints: vec![Tracepoint {
            name: "writeback:folio_wait_writeback".to_owned(),
            fields: [("name", 8), ("index", 48), ("ino", 40)]
                .map(|(name, offset)| (name.to_owned(), offset))
                .into(),
            reason: None,
        }],
        probes: Vec::new(),
        devices: vec![
            device("loop0", "7:0", false, None),
            device("sda", "8:0", true, Some("T10-DIF-TYPE1-CRC")),
        ],
        btrfs: Vec::new(),
        problems: Vec::new(),
    }
}

fn finished(mut report: Report) -> Report {
    let plan = tracepoint_plan("folio_wait_writeback");
    report.probes = plan.iter().map(|probe| with_trials(probe, &report)).collect();
    report.problems = problems::find(&report);
    report
}

#[test]
fn a_machine_that_supports_everything_has_no_problems() {
    let report = finished(machine());
    assert_eq!(report.problems, []);
    assert!(report.can_trace());
    let expected = "\
SYSTEM
  kernel             6.12.95 x86_64
  privileges  yes  uid 0, all capabilities that tracing uses
  BTF         yes  100 types
  symbols     yes  100 functions
  tracefs     yes  /sys/kernel/tracing
  lockdown         none

METHODS
  fentry          yes  tested
  kprobe          yes  tested
  tracepoint      yes  tested
  raw tracepoint  yes  tested

TRACEPOINTS
  writeback:folio_wait_writeback  yes  name at 8, ino at 40, index at 48

PROBES
  writeback_wait  tracepoint  writeback:folio_wait_writeback  yes  would attach
  writeback_wait  tracepoint  sched:sched_switch              yes  would attach

DEVICES
  sda  8:0  stable pages  T10-DIF-TYPE1-CRC
  other devices, without stable pages or integrity: loop0

Tracing can work.
";
    // Compares the words only: columns have other widths.
    let text = to_text(&report);
    let squeeze = |text: &str| {
        text.lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    assert_eq!(squeeze(&text), squeeze(expected), "{text}");
}

#[test]
fn a_missing_capability_is_the_first_problem_and_prevents_tracing() {
    let mut report = machine();
    report.privileges.held.clear();
    report.privileges.missing = vec![Capability::CapBpf];
    report.methods =
        vec![unavailable("fentry"), unavailable("tracepoint"), unavailable("raw_tracepoint")];
    let report = finished(report);
    assert!(!report.can_trace());
    assert_eq!(report.problems[0].what, "missing CAP_BPF");
    assert!(report.problems[0].remedy.contains("setcap"));
    assert_eq!(report.problems[1].remedy, "use another kernel");
    assert!(to_text(&report).ends_with("Tracing cannot work: see the first problem.\n"));
}

#[test]
fn tracepoints_alone_suffice() {
    let mut report = machine();
    report.methods[0] = unavailable("fentry");
    report.methods[1] = unavailable("kprobe");
    report.btf = Availability::no("no BTF; use a kernel with it");
    let report = finished(report);
    assert!(report.can_trace());
    let what: Vec<_> = report.problems.iter().map(|problem| problem.what.as_str()).collect();
    assert_eq!(what, ["no BTF", "no fentry here", "no kprobe here"]);
    assert_eq!(report.problems[0].remedy, "use a kernel with it");
}

#[test]
fn without_tracefs_the_start_of_a_wait_is_not_observed() {
    let mut report = machine();
    report.tracefs = Availability::no("tracefs is not mounted; mount it");
    report.tracepoints[0].reason = Some("tracefs is not mounted; mount it".to_owned());
    let report = finished(report);
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert!(!report.probes[0].attached && report.probes[1].attached);
    assert!(!report.can_trace(), "only the end of a wait is observed");
    assert_eq!(report.probes[0].reason.as_deref(), Some("tracefs is not mounted; mount it"));
}

#[test]
fn a_pi_disk_without_stable_pages_is_a_problem() {
    let mut report = machine();
    report.devices = vec![
        device("sda", "8:0", false, Some("T10-DIF-TYPE1-CRC")),
        device("nvme0n1", "259:0", false, Some("nop")),
    ];
    let report = finished(report);
    let what: Vec<_> = report.problems.iter().map(|problem| problem.what.as_str()).collect();
    assert_eq!(
        what,
        [
            "sda checks integrity, but does not require stable pages",
            "no device requires stable pages"
        ]
    );
}

#[test]
fn confidentiality_lockdown_prevents_tracing() {
    let mut report = machine();
    report.lockdown = Lockdown::Confidentiality;
    let report = finished(report);
    assert!(!report.can_trace());
    assert!(report.problems[0].what.contains("confidentiality"));
}

#[test]
fn the_json_has_the_documented_fields() {
    let report = finished(machine());
    let json = serde_json::to_value(&report).unwrap();
    for field in
        ["kernel", "arch", "privileges", "btf", "lockdown", "probes", "devices", "problems"]
    {
        assert!(json.get(field).is_some(), "{field}");
    }
    assert_eq!(json["lockdown"], "none");
    assert_eq!(json["privileges"]["held"][0], "CAP_BPF");
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
}

#[test]
fn this_machine_can_be_examined() {
    let began = std::time::Instant::now();
    let report = examine(&tracepoint_plan("folio_wait_writeback"));
    eprintln!("{}in {:?}", to_text(&report), began.elapsed());
    assert!(!report.kernel.is_empty());
    assert_eq!(report.probes.len(), 2);
}

#[test]
fn devices_that_rest_on_unchanged_data_are_named() {
    let mut report = machine();
    let risky = |name: &str, dev: &str, stable, risk| Device {
        risk: Some(risk),
        ..device(name, dev, stable, None)
    };
    report.devices = vec![
        risky("dm-0", "253:0", false, Risk::Checksums),
        risky("md0", "9:0", false, Risk::Mirrors),
        risky("md1", "9:1", true, Risk::Mirrors),
    ];
    let report = finished(report);
    let what: Vec<_> = report.problems.iter().map(|problem| problem.what.as_str()).collect();
    assert_eq!(
        what[..2],
        [
            "dm-0 keeps checksums of its own, but does not require stable pages",
            "md0 keeps copies, but does not require stable pages",
        ]
    );
    assert!(report.can_trace());
    let text = to_text(&report);
    assert!(text.contains("checksums of its own") && text.contains("mirrors"), "{text}");
}

#[test]
fn unprotected_direct_writes_to_btrfs_are_named() {
    let mut report = machine();
    let mount = |path: &str, direct_writes_protected| BtrfsMount {
        path: path.to_owned(),
        direct_writes_protected,
    };
    report.btrfs =
        vec![mount("/pool", Some(false)), mount("/images", None), mount("/new", Some(true))];
    let report = finished(report);
    let what: Vec<_> = report.problems.iter().map(|problem| problem.what.as_str()).collect();
    assert_eq!(
        what[..2],
        [
            "btrfs on /pool does not protect direct writes on kernel 6.12.95",
            "btrfs on /images protects direct writes only if kernel 6.12.95 has a change of 6.15",
        ]
    );
    assert!(!what.iter().any(|what| what.contains("/new")));
    assert!(report.can_trace());
}
