//! Reports of machines that are not this one.

use stable_trace_analysis::event::Protection;

use super::*;

fn found(detail: &str) -> Found {
    Found::from(Ok(detail.to_owned()))
}

fn refused(name: &str) -> MethodFound {
    MethodFound {
        name: name.to_owned(),
        available: false,
        reason: Some(format!("no {name} here")),
        remedy: Some("use another kernel".to_owned()),
    }
}

fn offered(name: &str) -> MethodFound {
    MethodFound { name: name.to_owned(), available: true, reason: None, remedy: None }
}

fn device(name: &str, dev: &str, stable_writes: bool, format: Option<&str>) -> Device {
    let integrity = format.map(|format| Protection {
        format: format.to_owned(),
        tag_size: 0,
        interval_bytes: Some(512),
    });
    Device { device: name.to_owned(), dev: dev.parse().unwrap(), stable_writes, integrity }
}

/// A machine with all that there is, and a disk with PI.
fn machine() -> Report {
    Report {
        kernel: "6.12.95".to_owned(),
        arch: "x86_64".to_owned(),
        privileges: PrivilegesFound { uid: 0, held: Capability::ALL.into(), missing: Vec::new() },
        btf: found("100 types"),
        lockdown: Lockdown::None,
        symbols: found("100 functions"),
        tracefs: found("/sys/kernel/tracing"),
        methods: ["fentry", "kprobe", "tracepoint", "raw_tracepoint"].map(offered).into(),
        tracepoints: vec![TracepointFound {
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
        problems: Vec::new(),
    }
}

fn finished(mut report: Report) -> Report {
    let plan = tracepoint_plan("folio_wait_writeback");
    report.probes = plan.iter().map(|probe| judge(probe, &report)).collect();
    report.problems = problems::of(&report);
    report
}

#[test]
fn a_machine_with_everything_has_no_problems() {
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
  fentry          yes  tried
  kprobe          yes  tried
  tracepoint      yes  tried
  raw tracepoint  yes  tried

TRACEPOINTS
  writeback:folio_wait_writeback  yes  name at 8, ino at 40, index at 48

PROBES
  writeback_wait  tracepoint  writeback:folio_wait_writeback  yes  would attach
  writeback_wait  tracepoint  sched:sched_switch              yes  would attach

DEVICES
  sda  8:0  stable pages  T10-DIF-TYPE1-CRC
  others ask for nothing: loop0

Tracing can work.
";
    // The column of answers has none for the kernel.
    let text = report.to_text();
    let squeeze = |text: &str| {
        text.lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    assert_eq!(squeeze(&text), squeeze(expected), "{text}");
}

#[test]
fn a_missing_capability_comes_first_and_ends_it() {
    let mut report = machine();
    report.privileges.held.clear();
    report.privileges.missing = vec![Capability::CapBpf];
    report.methods = vec![refused("fentry"), refused("tracepoint"), refused("raw_tracepoint")];
    let report = finished(report);
    assert!(!report.can_trace());
    assert_eq!(report.problems[0].what, "missing CAP_BPF");
    assert!(report.problems[0].remedy.contains("setcap"));
    assert_eq!(report.problems[1].remedy, "use another kernel");
    assert!(report.to_text().ends_with("Tracing cannot work: see the first problem.\n"));
}

#[test]
fn tracepoints_alone_are_enough() {
    let mut report = machine();
    report.methods[0] = refused("fentry");
    report.methods[1] = refused("kprobe");
    report.btf = Found::from(Err("no BTF; use a kernel with it".to_owned()));
    let report = finished(report);
    assert!(report.can_trace());
    let what: Vec<_> = report.problems.iter().map(|problem| problem.what.as_str()).collect();
    assert_eq!(what, ["no BTF", "no fentry here", "no kprobe here"]);
    assert_eq!(report.problems[0].remedy, "use a kernel with it");
}

#[test]
fn without_tracefs_the_wait_is_not_seen() {
    let mut report = machine();
    report.tracefs = Found::from(Err("tracefs is not mounted; mount it".to_owned()));
    report.tracepoints[0].reason = Some("tracefs is not mounted; mount it".to_owned());
    let report = finished(report);
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert!(!report.probes[0].attached && report.probes[1].attached);
    assert!(!report.can_trace(), "an end without a beginning");
    assert_eq!(report.probes[0].reason.as_deref(), Some("tracefs is not mounted; mount it"));
}

#[test]
fn a_disk_that_checks_and_does_not_hold_is_a_hole() {
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
            "sda checks its data, and does not ask for stable pages",
            "no device asks for stable pages"
        ]
    );
}

#[test]
fn confidentiality_ends_it() {
    let mut report = machine();
    report.lockdown = Lockdown::Confidentiality;
    let report = finished(report);
    assert!(!report.can_trace());
    assert!(report.problems[0].what.contains("confidentiality"));
}

#[test]
fn the_json_has_the_contracts_fields() {
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
fn this_machine_is_examined() {
    let began = std::time::Instant::now();
    let report = examine(&tracepoint_plan("folio_wait_writeback"));
    eprintln!("{}in {:?}", report.to_text(), began.elapsed());
    assert!(!report.kernel.is_empty());
    assert_eq!(report.probes.len(), 2);
}
