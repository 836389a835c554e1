//! Properties of the plan that hold for every kernel. The tests derive kernels from real ones by
//! removing or changing facts.

use proptest::{
    prelude::{Just, ProptestConfig, Strategy, any},
    prop_assert, prop_assert_eq, proptest, sample,
};
use stable_trace::probes::{
    facts::Facts,
    plan::{Plan, Point, plan},
};
use stable_trace_analysis::event::{Group, Method};

use super::{KERNELS, facts};

/// A change to the facts.
#[derive(Clone, Copy, Debug)]
enum Change {
    Function,
    Parameters,
    AllParameters,
    RenamedParameter,
    IntoModule,
    BuiltIn,
    Suffix,
    Member,
    Constant,
    Tracepoint,
    Field,
    FieldSize,
    Refused,
    Allowed,
    Btf,
    Release,
}

const CHANGES: [Change; 16] = [
    Change::Function,
    Change::Parameters,
    Change::AllParameters,
    Change::RenamedParameter,
    Change::IntoModule,
    Change::BuiltIn,
    Change::Suffix,
    Change::Member,
    Change::Constant,
    Change::Tracepoint,
    Change::Field,
    Change::FieldSize,
    Change::Refused,
    Change::Allowed,
    Change::Btf,
    Change::Release,
];

/// The key that `at` selects.
fn key<V>(map: &std::collections::BTreeMap<String, V>, at: sample::Index) -> Option<String> {
    (!map.is_empty()).then(|| at.get(&map.keys().cloned().collect::<Vec<_>>()).clone())
}

fn apply(facts: &mut Facts, change: Change, at: sample::Index) {
    let function = key(&facts.functions, at);
    let function = function.and_then(|name| facts.functions.get_mut(&name));
    match change {
        Change::Function => {
            drop(key(&facts.functions, at).map(|name| facts.functions.remove(&name)));
        }
        Change::Parameters => drop(function.map(|function| function.parameters = None)),
        Change::AllParameters => drop(function.map(|function| function.parameters = Some(vec![]))),
        Change::RenamedParameter => {
            let parameters = function.and_then(|function| function.parameters.as_mut());
            if let Some(parameters) = parameters.filter(|parameters| !parameters.is_empty()) {
                let at = at.index(parameters.len());
                parameters[at] = "renamed".into();
            }
        }
        Change::IntoModule => drop(function.map(|function| function.module = Some("other".into()))),
        Change::BuiltIn => drop(function.map(|function| function.module = None)),
        Change::Suffix => drop(function.map(|function| function.symbol.push_str(".isra.0"))),
        Change::Member => drop(key(&facts.members, at).map(|name| facts.members.remove(&name))),
        Change::Constant => {
            if let Some(name) = key(&facts.constants, at) {
                facts.constants.remove(&name);
            }
        }
        Change::Tracepoint => {
            drop(key(&facts.tracepoints, at).map(|name| facts.tracepoints.remove(&name)));
        }
        Change::Field | Change::FieldSize => {
            let name = key(&facts.tracepoints, at);
            let Some(fields) = name.and_then(|name| facts.tracepoints.get_mut(&name)) else {
                return;
            };
            match key(fields, at) {
                Some(field) if matches!(change, Change::Field) => drop(fields.remove(&field)),
                Some(field) => drop(fields.insert(field, (0, 3))),
                None => {}
            }
        }
        Change::Refused => {
            let methods = ["fentry", "kprobe", "tracepoint", "raw_tracepoint", "btf"];
            facts.refused.insert((*at.get(&methods)).into(), "not here".into());
        }
        Change::Allowed => facts.refused.clear(),
        Change::Btf => {
            facts.refused.insert("btf".into(), "no types here".into());
            facts.members.clear();
            facts.constants.clear();
            facts.sizes.clear();
            facts.functions.values_mut().for_each(|function| function.parameters = None);
        }
        Change::Release => {
            facts.release = (*at.get(&["", "4.19.0", "5.15.0", "6.5", "99.1", "next"])).into();
        }
    }
}

/// The facts of a real kernel with fewer than twelve changes.
fn kernels() -> impl Strategy<Value = Facts> {
    let changes = (sample::select(&CHANGES[..]), any::<sample::Index>());
    let changes = proptest::collection::vec(changes, 0..12);
    (sample::select(&KERNELS[..]), changes).prop_map(|(kernel, changes)| {
        let mut facts = facts(kernel);
        for (change, at) in changes {
            apply(&mut facts, change, at);
        }
        facts
    })
}

fn methods() -> impl Strategy<Value = Option<Method>> {
    let one = sample::select(&[Method::Fentry, Method::Kprobe, Method::Tracepoint][..]);
    proptest::prop_oneof![Just(None), one.prop_map(Some)]
}

/// The functions with fentry or fexit.
fn trampolines(plan: &Plan) -> impl Iterator<Item = &'static str> {
    plan.steps.iter().filter_map(|step| match step.point {
        Point::Fentry(function) | Point::Fexit(function) => Some(function),
        _ => None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        // proptest shrinks a failing case and prints its facts.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn fentry_is_planned_only_where_it_reaches(facts in kernels(), only in methods()) {
        let plan = plan(&facts, only);
        for name in trampolines(&plan) {
            let function = &facts.functions[name];
            prop_assert_eq!(&function.module, &None, "{} is a module's", name);
            prop_assert_eq!(&function.symbol, name);
            let parameters = function.parameters.as_deref();
            prop_assert!(parameters.is_some(), "BTF does not have {}", name);
            prop_assert!(!facts.refused.contains_key("fentry"));
        }
    }

    /// The name of a write-end program ends with the index of the argument that it reads.
    #[test]
    fn fentry_reads_an_argument_that_is_there(facts in kernels(), only in methods()) {
        let steps = plan(&facts, only).steps.into_iter();
        for step in steps.filter(|step| step.group == Group::WriteBegin) {
            let Point::Fentry(name) = step.point else { continue };
            let index: usize = step.program.rsplit('_').next().unwrap().parse().unwrap();
            let parameters = facts.functions[name].parameters.as_deref().unwrap_or_default();
            let read = parameters.get(index).map(String::as_str);
            prop_assert!(matches!(read, Some("folio" | "page")), "{} reads {:?}", step.program, read);
        }
    }

    #[test]
    fn refused_or_missing_hooks_are_not_planned(facts in kernels(), only in methods()) {
        for step in plan(&facts, only).steps {
            match &step.point {
                Point::Kprobe { function, symbol } | Point::Kretprobe { function, symbol } => {
                    prop_assert!(!facts.refused.contains_key("kprobe"));
                    prop_assert_eq!(symbol, &facts.functions[*function].symbol);
                }
                Point::Fentry(function) | Point::Fexit(function) => {
                    prop_assert!(facts.functions.contains_key(*function));
                }
                Point::Tracepoint { .. } => prop_assert!(!facts.refused.contains_key("tracepoint")),
                Point::RawTracepoint { .. } => {
                    prop_assert!(!facts.refused.contains_key("raw_tracepoint"));
                }
            }
        }
    }

    #[test]
    fn the_begin_and_the_end_of_a_wait_attach_together(facts in kernels(), only in methods()) {
        let plan = plan(&facts, only);
        let has = |part: &str| {
            plan.steps.iter().any(|step| {
                step.program.starts_with("writeback_wait") && step.program.contains(part)
            })
        };
        let ends = has("end") || has("return") || has("switch");
        prop_assert_eq!(has("begin"), ends, "{:?}", plan.steps);
    }

    #[test]
    fn every_group_attaches_or_has_a_reason(facts in kernels(), only in methods()) {
        let probes = plan(&facts, only).probes();
        for group in ["writeback_wait", "write_begin", "page_mkwrite", "integrity"] {
            prop_assert!(probes.iter().any(|probe| probe.group.name() == group), "{}", group);
        }
        for probe in probes {
            prop_assert_eq!(probe.attached, probe.reason.is_none(), "{:?}", probe);
        }
    }

    #[test]
    fn every_existing_write_end_attaches_or_has_a_reason(
        facts in kernels(), only in methods(),
    ) {
        let probes = plan(&facts, only).probes();
        for name in facts.functions.keys().filter(|name| {
            name.ends_with("write_end") || name.starts_with("btrfs_dirty")
        }) {
            prop_assert!(probes.iter().any(|probe| probe.function == *name), "{} has no probe", name);
        }
    }
}
