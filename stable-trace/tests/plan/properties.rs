//! Whatever a kernel has or lacks, the plan holds to some rules. Kernels are made from real ones by
//! taking away, or bending, what nobody can promise.

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

/// How a fact is lost or bent.
#[derive(Clone, Copy, Debug)]
enum Loss {
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

const LOSSES: [Loss; 16] = [
    Loss::Function,
    Loss::Parameters,
    Loss::AllParameters,
    Loss::RenamedParameter,
    Loss::IntoModule,
    Loss::BuiltIn,
    Loss::Suffix,
    Loss::Member,
    Loss::Constant,
    Loss::Tracepoint,
    Loss::Field,
    Loss::FieldSize,
    Loss::Refused,
    Loss::Allowed,
    Loss::Btf,
    Loss::Release,
];

/// The `at`th key of those that there are.
fn key<V>(map: &std::collections::BTreeMap<String, V>, at: sample::Index) -> Option<String> {
    (!map.is_empty()).then(|| at.get(&map.keys().cloned().collect::<Vec<_>>()).clone())
}

fn lose(facts: &mut Facts, loss: Loss, at: sample::Index) {
    let function = key(&facts.functions, at);
    let function = function.and_then(|name| facts.functions.get_mut(&name));
    match loss {
        Loss::Function => drop(key(&facts.functions, at).map(|name| facts.functions.remove(&name))),
        Loss::Parameters => drop(function.map(|function| function.parameters = None)),
        Loss::AllParameters => drop(function.map(|function| function.parameters = Some(vec![]))),
        Loss::RenamedParameter => {
            let parameters = function.and_then(|function| function.parameters.as_mut());
            if let Some(parameters) = parameters.filter(|parameters| !parameters.is_empty()) {
                let at = at.index(parameters.len());
                parameters[at] = "renamed".into();
            }
        }
        Loss::IntoModule => drop(function.map(|function| function.module = Some("other".into()))),
        Loss::BuiltIn => drop(function.map(|function| function.module = None)),
        Loss::Suffix => drop(function.map(|function| function.symbol.push_str(".isra.0"))),
        Loss::Member => drop(key(&facts.members, at).map(|name| facts.members.remove(&name))),
        Loss::Constant => drop(key(&facts.constants, at).map(|name| facts.constants.remove(&name))),
        Loss::Tracepoint => {
            drop(key(&facts.tracepoints, at).map(|name| facts.tracepoints.remove(&name)));
        }
        Loss::Field | Loss::FieldSize => {
            let name = key(&facts.tracepoints, at);
            let Some(fields) = name.and_then(|name| facts.tracepoints.get_mut(&name)) else {
                return;
            };
            match key(fields, at) {
                Some(field) if matches!(loss, Loss::Field) => drop(fields.remove(&field)),
                Some(field) => drop(fields.insert(field, (0, 3))),
                None => {}
            }
        }
        Loss::Refused => {
            let methods = ["fentry", "kprobe", "tracepoint", "raw_tracepoint", "btf"];
            facts.refused.insert((*at.get(&methods)).into(), "not here".into());
        }
        Loss::Allowed => facts.refused.clear(),
        Loss::Btf => {
            facts.refused.insert("btf".into(), "no types here".into());
            facts.members.clear();
            facts.constants.clear();
            facts.sizes.clear();
            facts.functions.values_mut().for_each(|function| function.parameters = None);
        }
        Loss::Release => {
            facts.release = (*at.get(&["", "4.19.0", "5.15.0", "6.5", "99.1", "next"])).into();
        }
    }
}

/// A real kernel that has lost up to twelve things.
fn kernels() -> impl Strategy<Value = Facts> {
    let losses = (sample::select(&LOSSES[..]), any::<sample::Index>());
    let losses = proptest::collection::vec(losses, 0..12);
    (sample::select(&KERNELS[..]), losses).prop_map(|(kernel, losses)| {
        let mut facts = facts(kernel);
        for (loss, at) in losses {
            lose(&mut facts, loss, at);
        }
        facts
    })
}

fn methods() -> impl Strategy<Value = Option<Method>> {
    let one = sample::select(&[Method::Fentry, Method::Kprobe, Method::Tracepoint][..]);
    proptest::prop_oneof![Just(None), one.prop_map(Some)]
}

/// What attaches by trampoline.
fn trampolines(plan: &Plan) -> impl Iterator<Item = &'static str> {
    plan.steps.iter().filter_map(|step| match step.point {
        Point::Fentry(function) | Point::Fexit(function) => Some(function),
        _ => None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        // A case that fails is minimal, and its facts are printed.
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
            prop_assert!(parameters.is_some(), "the types do not have {}", name);
            prop_assert!(!facts.refused.contains_key("fentry"));
        }
    }

    /// A write end's program is named by the argument that it reads.
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
    fn nothing_is_planned_that_is_refused_or_not_there(facts in kernels(), only in methods()) {
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
    fn a_wait_that_begins_also_ends(facts in kernels(), only in methods()) {
        let plan = plan(&facts, only);
        let has = |part: &str| {
            plan.steps.iter().any(|step| {
                step.program.starts_with("writeback_wait") && step.program.contains(part)
            })
        };
        let ends = has("end") || has("return") || has("switch");
        prop_assert_eq!(has("begin"), ends, "{:?}", plan.steps);
    }

    /// Not seeing something is one thing; not saying so would be another.
    #[test]
    fn every_group_attaches_or_says_why_not(facts in kernels(), only in methods()) {
        let probes = plan(&facts, only).probes();
        for group in ["writeback_wait", "write_begin", "page_mkwrite", "integrity"] {
            prop_assert!(probes.iter().any(|probe| probe.group.name() == group), "{}", group);
        }
        for probe in probes {
            prop_assert_eq!(probe.attached, probe.reason.is_none(), "{:?}", probe);
        }
    }

    #[test]
    fn every_write_end_that_is_there_attaches_or_says_why_not(
        facts in kernels(), only in methods(),
    ) {
        let probes = plan(&facts, only).probes();
        for name in facts.functions.keys().filter(|name| {
            name.ends_with("write_end") || name.starts_with("btrfs_dirty")
        }) {
            prop_assert!(probes.iter().any(|probe| probe.function == *name), "{} is silent", name);
        }
    }
}
