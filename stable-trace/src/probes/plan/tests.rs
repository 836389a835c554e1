//! With constructed facts, without group `integrity`. `tests/plan` tests the saved facts of real
//! kernels with all groups.

use stable_trace_analysis::event::Preemption;

use super::{writeback_wait::IDENTIFY, *};

/// The facts of a kernel like 6.12.
fn facts() -> Facts {
    let mut facts =
        Facts { release: "6.12.0".into(), preemption: Preemption::Voluntary, ..Facts::default() };
    for (function, module, parameters) in [
        ("folio_wait_writeback", None, "folio"),
        ("folio_wait_writeback_killable", None, "folio"),
        ("do_page_mkwrite", None, "vmf folio"),
        ("generic_write_end", None, "file mapping pos len copied folio fsdata"),
        ("block_write_end", None, "file mapping pos len copied folio fsdata"),
        ("iomap_write_end", None, "iter pos len copied folio"),
        ("btrfs_dirty_pages", Some("btrfs"), "inode pages num_pages"),
    ] {
        let function_found = crate::probes::facts::Function {
            symbol: function.into(),
            module: module.map(Into::into),
            type_id: None,
            parameters: Some(parameters.split(' ').map(Into::into).collect()),
        };
        facts.functions.insert(function.into(), function_found);
    }
    for (offset, member) in (0..).zip(crate::probes::table::members()) {
        facts.members.insert(member.into(), offset * 8);
    }
    facts.constants = [("PG_writeback".into(), 1), ("AS_STABLE_WRITES".into(), 7)].into();
    let record = [("name".into(), (8, 32)), ("ino".into(), (40, 8)), ("index".into(), (48, 8))];
    facts.tracepoints.insert("writeback:folio_wait_writeback".into(), record.into());
    facts.tracepoints.insert("sched:sched_switch".into(), [].into());
    facts
}

fn refusing(mut facts: Facts, method: &str) -> Facts {
    facts.refused.insert(method.into(), format!("no {method} here"));
    facts
}

fn programs(plan: &Plan) -> Vec<&str> {
    let steps = plan.steps.iter().filter(|step| step.group != Group::Integrity);
    steps.map(|step| step.program).collect()
}

fn gaps(plan: &Plan) -> Vec<(String, &str)> {
    let gaps = plan.gaps.iter().filter(|gap| gap.group != Group::Integrity);
    gaps.map(|gap| (gap.function.clone(), gap.reason.as_deref().unwrap_or_default())).collect()
}

#[test]
fn fentry_is_preferred_for_functions_of_the_kernel() {
    let plan = plan(&facts(), None);
    assert_eq!(
        programs(&plan),
        [
            "writeback_wait_end",
            "writeback_wait_end_killable",
            "writeback_wait_begin_typed",
            "generic_write_end_5",
            "block_write_end_5",
            "iomap_write_end_4",
            "btrfs_dirty_pages",
            "page_mkwrite_exit_2",
        ]
    );
    assert!(plan.probes_returns() && gaps(&plan).is_empty());
}

#[test]
fn without_fentry_waits_use_tracepoints_and_the_rest_kprobes() {
    let plan = plan(&refusing(facts(), "fentry"), None);
    assert_eq!(
        programs(&plan),
        [
            "writeback_wait_switch",
            "writeback_wait_begin_typed",
            "generic_write_end_5_kprobe",
            "block_write_end_5_kprobe",
            "iomap_write_end_4_kprobe",
            "btrfs_dirty_pages",
            "page_mkwrite_return",
            "page_mkwrite_enter_2",
        ]
    );
    assert!(!plan.probes_returns());
    let gaps = gaps(&plan);
    assert_eq!(gaps[0], ("folio_wait_writeback".into(), "no fentry here"));
    assert_eq!(gaps.len(), 2, "both wait functions, and nothing else: {gaps:?}");
}

#[test]
fn without_fentry_and_kprobes_only_tracepoints_attach() {
    let plan = plan(&refusing(refusing(facts(), "fentry"), "kprobe"), None);
    assert_eq!(programs(&plan), ["writeback_wait_switch", "writeback_wait_begin_typed"]);
    assert!(gaps(&plan).contains(&("do_page_mkwrite".into(), "no kprobe here")));
}

#[test]
fn without_addresses_the_end_of_a_wait_is_seen_at_its_return() {
    let hidden = || refusing(facts(), "addresses");
    assert_eq!(plan(&hidden(), None), plan(&facts(), None));
    let returns = plan(&refusing(hidden(), "fentry"), None);
    let expected = ["writeback_wait_return", "writeback_wait_return", "writeback_wait_free"];
    assert_eq!(programs(&returns)[..3], expected);
    let nothing = plan(&hidden(), Some(Method::Tracepoint));
    assert!(!programs(&nothing).iter().any(|program| program.starts_with("writeback_wait")));
    assert!(gaps(&nothing).contains(&("sched:sched_switch".into(), "no addresses here")));
}

#[test]
fn a_kretprobe_is_used_only_on_request() {
    let plan = plan(&facts(), Some(Method::Kprobe));
    assert_eq!(
        programs(&plan)[..4],
        [
            "writeback_wait_return",
            "writeback_wait_return",
            "writeback_wait_free",
            "writeback_wait_begin_typed",
        ]
    );
    assert!(plan.probes_returns());
    let methods: Vec<_> = plan.steps.iter().map(|step| step.point.method()).collect();
    assert!(!methods.contains(&Method::Fentry));
}

#[test]
fn with_preempted_programs_no_run_may_be_missed() {
    let seven = Facts { release: "7.3.4".into(), preemption: Preemption::Full, ..facts() };
    let auto = plan(&seven, None);
    let identifies = IDENTIFY.iter().copied();
    let begin: Vec<_> = identifies.chain(["writeback_wait_begin"]).collect();
    assert_eq!(programs(&auto)[0], "writeback_wait_switch");
    assert_eq!(programs(&auto)[1..=begin.len()], begin);
    let plan = plan(&seven, Some(Method::Fentry));
    assert_eq!(
        programs(&plan)[..7],
        [
            "writeback_wait_end",
            "writeback_wait_end_again",
            "writeback_wait_end_time",
            "writeback_wait_end_killable",
            "writeback_wait_end_killable_again",
            "writeback_wait_end_killable_time",
            "writeback_wait_free",
        ]
    );
    assert_eq!(programs(&plan)[7..7 + begin.len()], begin);
    assert!(plan.probes_returns());
}

#[test]
fn before_5_16_a_kretprobe_would_hide_the_callers() {
    let mut facts = facts();
    facts.release = "5.10.0-46-amd64".into();
    let plan = plan(&facts, Some(Method::Kprobe));
    assert_eq!(programs(&plan)[..2], ["writeback_wait_switch", "writeback_wait_begin_typed"]);
    assert!(!plan.probes_returns());
}

#[test]
fn neither_end_of_a_wait_attaches_without_the_other() {
    let plan = plan(&refusing(facts(), "raw_tracepoint"), Some(Method::Tracepoint));
    assert!(!plan.can_trace());
    assert_eq!(
        gaps(&plan)[..2],
        [
            ("writeback:folio_wait_writeback".into(), "of no use without sched:sched_switch"),
            ("sched:sched_switch".into(), "no raw_tracepoint here"),
        ]
    );
}

#[test]
fn a_field_of_another_size_is_not_read() {
    let mut facts = refusing(refusing(facts(), "btf"), "fentry");
    facts.members.clear();
    let record = facts.tracepoints.get_mut("writeback:folio_wait_writeback").unwrap();
    record.insert("ino".into(), (40, 4));
    let plan = plan(&facts, Some(Method::Tracepoint));
    assert!(!plan.can_trace());
    assert!(gaps(&plan)[0].1.contains("has 4 bytes here, not 8"), "{:?}", gaps(&plan));
}

#[test]
fn without_btf_no_offset_is_guessed() {
    let mut facts = refusing(refusing(facts(), "btf"), "fentry");
    facts.members.clear();
    facts.constants.clear();
    facts.functions.values_mut().for_each(|function| function.parameters = None);
    let plan = plan(&facts, None);
    assert_eq!(programs(&plan), ["writeback_wait_switch", "writeback_wait_begin"]);
    for (function, reason) in gaps(&plan) {
        if function.ends_with("write_end") || function == "do_page_mkwrite" {
            assert!(
                reason.contains("no btf here") || reason.contains("no fentry here"),
                "{reason}"
            );
        }
    }
}

#[test]
fn before_6_6_a_trampoline_supports_six_arguments() {
    let mut facts = facts();
    facts.release = "6.1.0-56-amd64".into();
    let auto = plan(&facts, None);
    assert!(programs(&auto).contains(&"block_write_end_5_kprobe"));
    assert!(programs(&auto).contains(&"iomap_write_end_4"), "that one has five");
    let fentry = plan(&facts, Some(Method::Fentry));
    let reason =
        "fentry takes functions of up to 6 arguments before 6.6, and block_write_end has 7";
    assert!(gaps(&fentry).contains(&("block_write_end".into(), reason)), "{:?}", gaps(&fentry));
}

#[test]
fn a_module_that_is_not_loaded_is_one_gap() {
    let mut facts = facts();
    facts.functions.remove("btrfs_dirty_pages");
    let plan = plan(&facts, None);
    let gaps = gaps(&plan);
    assert_eq!(gaps.len(), 1);
    assert_eq!(
        gaps[0],
        (
            "btrfs_dirty_pages".into(),
            "module btrfs is not loaded, or has no function btrfs_dirty_pages"
        )
    );
}

#[test]
fn entry_and_return_of_one_function_are_one_probe() {
    let plan = plan(&facts(), Some(Method::Kprobe));
    let of_mkwrite: Vec<_> =
        plan.probes().into_iter().filter(|probe| probe.function == "do_page_mkwrite").collect();
    assert_eq!(of_mkwrite.len(), 1);
    assert!(of_mkwrite[0].attached);
}
