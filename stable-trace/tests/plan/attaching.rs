//! The probes that attach on each kernel by each method, in `tables/`. A line has a group, a
//! function or tracepoint, and either the kind of attachment and the program's name, in the order
//! of attaching, or `not by METHOD:` and the reason that the agent reports.

use std::collections::BTreeMap;

use stable_trace::probes::plan::{Plan, Point, plan, replan};
use stable_trace_analysis::event::Method;

use super::facts;

/// The values of `--attach`.
const METHODS: [(&str, Option<Method>); 4] = [
    ("auto", None),
    ("fentry", Some(Method::Fentry)),
    ("kprobe", Some(Method::Kprobe)),
    ("tracepoint", Some(Method::Tracepoint)),
];

#[test]
fn on_5_10_fentry_has_few_arguments_and_kretprobes_hide_callers() {
    check("5.10", include_str!("tables/5.10.txt"));
}

#[test]
fn on_6_1_fentry_has_few_arguments() {
    check("6.1", include_str!("tables/6.1.txt"));
}

#[test]
fn on_6_12_only_functions_of_modules_need_kprobes() {
    check("6.12", include_str!("tables/6.12.txt"));
}

#[test]
fn on_7_3_programs_are_preempted_and_write_ends_have_new_arguments() {
    check("7.3", include_str!("tables/7.3.txt"));
}

#[test]
fn without_kprobes_and_fentry_only_tracepoints_attach() {
    check("6.18", include_str!("tables/6.18.txt"));
}

/// A driver is probed only where the programs lack the offsets to read its data behind a request.
/// Loading a driver later does not change the offsets of loaded programs.
#[test]
fn drivers_are_probed_where_their_requests_cannot_be_read() {
    let drivers = |plan: &Plan| {
        let steps = plan.steps.iter().map(|step| step.program);
        steps.filter(|name| ["integrity_sense", "integrity_nvme_status"].contains(name)).collect()
    };
    for kernel in ["6.1", "6.12", "7.3"] {
        let complete = facts(kernel);
        let probed: Vec<_> = drivers(&plan(&complete, None));
        assert!(probed.is_empty(), "{kernel}: {probed:?}");
        let mut without = complete.clone();
        without.members.remove("nvme_request.status");
        let loaded = plan(&without, None);
        let nvme = ["integrity_nvme_status"];
        assert_eq!(drivers(&loaded), nvme, "{kernel}");
        assert_eq!(drivers(&replan(&complete, None, &loaded.offsets)), nvme, "{kernel}");
        // Without the size of a request the offset of either driver's data is unknown.
        let mut without = complete;
        without.sizes.remove("request");
        let both = ["integrity_sense", "integrity_nvme_status"];
        assert_eq!(drivers(&plan(&without, None)), both, "{kernel}");
    }
}

/// Compares the plan with its table, except for the spaces that align columns.
fn check(kernel: &str, table: &str) {
    let facts = facts(kernel);
    let mut expected = parse(table);
    for (name, only) in METHODS {
        let planned = lines(&plan(&facts, only));
        let listed = expected.remove(name).unwrap_or_default();
        let only_in = |these: &[String], those: &[String]| {
            these.iter().filter(|line| !those.contains(line)).cloned().collect::<Vec<_>>()
        };
        assert_eq!(
            planned,
            listed,
            "{kernel} --attach {name}: planned but not in the table: {:#?}; in the table but not \
             planned: {:#?}; if none, the order differs",
            only_in(&planned, &listed),
            only_in(&listed, &planned),
        );
    }
    assert!(expected.is_empty(), "{kernel}: the table has an unknown method");
}

fn lines(plan: &Plan) -> Vec<String> {
    let steps = plan.steps.iter().map(|step| {
        let how = match step.point {
            Point::Fentry(_) => "fentry",
            Point::Fexit(_) => "fexit",
            Point::Kprobe { .. } => "kprobe",
            Point::Kretprobe { .. } => "kretprobe",
            Point::Tracepoint { .. } => "tracepoint",
            Point::RawTracepoint { .. } => "raw_tracepoint",
        };
        format!("{} {} {how} {}", step.group.name(), step.point.function(), step.program)
    });
    let gaps = plan.gaps.iter().map(|gap| {
        let reason = gap.reason.as_deref().unwrap_or("without a reason");
        format!("{} {} not by {}: {reason}", gap.group.name(), gap.function, gap.method.name())
    });
    steps.chain(gaps).collect()
}

/// Returns the lines of each `--attach METHOD`.
fn parse(table: &str) -> BTreeMap<&str, Vec<String>> {
    let mut parts: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut method = "";
    for line in table.lines().filter(|line| !line.trim().is_empty()) {
        if let Some(name) = line.strip_prefix("--attach ") {
            method = name;
        } else {
            let words: Vec<_> = line.split_whitespace().collect();
            parts.entry(method).or_default().push(words.join(" "));
        }
    }
    parts
}
