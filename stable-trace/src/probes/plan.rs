//! The plan: from what this kernel has to what attaches, how, and what does not, and why. Pure.

use super::facts::{Facts, WaitRecord};
use crate::{
    event::{Group, Method, Probe},
    kernel::tracepoint::WAIT_SYSTEM,
};

/// Where a program attaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// A classic tracepoint, whose record the program reads.
    Tracepoint {
        /// Its system.
        system: &'static str,
        /// Its name.
        name: String,
        /// Where its fields are.
        record: WaitRecord,
    },
    /// A raw tracepoint, whose arguments the program gets.
    RawTracepoint {
        /// Its name, without a system.
        name: &'static str,
    },
}

/// One probe that is to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The question it helps to answer.
    pub group: Group,
    /// How.
    pub method: Method,
    /// The program, by its name in the object.
    pub program: &'static str,
    /// Where.
    pub point: Point,
}

impl Step {
    /// The probed function, or `system:name` of the tracepoint.
    #[must_use]
    pub fn function(&self) -> String {
        match &self.point {
            Point::Tracepoint { system, name, .. } => format!("{system}:{name}"),
            Point::RawTracepoint { name } => format!("sched:{name}"),
        }
    }
}

/// What attaches on this kernel, and what does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In the order of attaching: what ends a wait comes before what begins one.
    pub steps: Vec<Step>,
    /// What cannot attach, each with its reason.
    pub gaps: Vec<Probe>,
}

impl Plan {
    /// Whether anything would be seen.
    #[must_use]
    pub fn can_trace(&self) -> bool {
        !self.steps.is_empty()
    }

    /// Every probe, as `doctor` shows it before anything attaches: the steps as if they will.
    #[must_use]
    pub fn probes(&self) -> Vec<Probe> {
        let steps = self.steps.iter().map(|step| Probe {
            group: step.group,
            function: step.function(),
            method: step.method,
            attached: true,
            reason: None,
        });
        steps.chain(self.gaps.iter().cloned()).collect()
    }
}

/// Makes the plan; `only` is `--attach`.
#[must_use]
pub fn plan(facts: &Facts, only: Option<Method>) -> Plan {
    match only {
        None | Some(Method::Tracepoint) => tracepoints(facts),
        Some(method) => Plan {
            steps: Vec::new(),
            gaps: vec![gap(
                Group::WritebackWait,
                WAIT_SYSTEM.to_owned() + ":folio_wait_writeback",
                method,
                format!("this version has no {} form of this probe", method.name()),
            )],
        },
    }
}

/// The wait tracepoint begins, `sched_switch` ends: one is of no use without the other.
fn tracepoints(facts: &Facts) -> Plan {
    let wait_name = facts.wait_tracepoint.as_ref().map_or("folio_wait_writeback", |(name, _)| name);
    let wait = format!("{WAIT_SYSTEM}:{wait_name}");
    let switch = "sched:sched_switch".to_owned();
    let begin = facts.wait_tracepoint.clone();
    let end = facts.sched_switch.clone().and(facts.wait_text.clone().map(drop));
    match (begin, end) {
        (Ok((name, record)), Ok(())) => Plan {
            steps: vec![
                Step {
                    group: Group::WritebackWait,
                    method: Method::Tracepoint,
                    program: "writeback_wait_switch",
                    point: Point::RawTracepoint { name: "sched_switch" },
                },
                Step {
                    group: Group::WritebackWait,
                    method: Method::Tracepoint,
                    program: "writeback_wait_begin",
                    point: Point::Tracepoint { system: WAIT_SYSTEM, name, record },
                },
            ],
            gaps: Vec::new(),
        },
        (begin, end) => {
            let useless = |other: &str| format!("of no use without {other}");
            let begin = begin.err().unwrap_or_else(|| useless(&switch));
            let end = end.err().unwrap_or_else(|| useless(&wait));
            Plan {
                steps: Vec::new(),
                gaps: vec![
                    gap(Group::WritebackWait, wait, Method::Tracepoint, begin),
                    gap(Group::WritebackWait, switch, Method::Tracepoint, end),
                ],
            }
        }
    }
}

fn gap(group: Group, function: String, method: Method, reason: String) -> Probe {
    Probe { group, function, method, attached: false, reason: Some(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let record = WaitRecord { name_at: 8, ino_at: 40, index_at: 48 };
        Facts {
            wait_tracepoint: Ok(("folio_wait_writeback".into(), record)),
            sched_switch: Ok(()),
            wait_text: Ok(std::iter::once(16..32).collect()),
        }
    }

    #[test]
    fn what_ends_a_wait_attaches_first() {
        let plan = plan(&facts(), None);
        let programs: Vec<_> = plan.steps.iter().map(|step| step.program).collect();
        assert_eq!(programs, ["writeback_wait_switch", "writeback_wait_begin"]);
        assert!(plan.can_trace() && plan.gaps.is_empty());
    }

    #[test]
    fn half_a_wait_is_not_attached() {
        let without = Facts { sched_switch: Err("no scheduler here".into()), ..facts() };
        let plan = plan(&without, Some(Method::Tracepoint));
        assert!(!plan.can_trace());
        let reasons: Vec<_> = plan.gaps.iter().filter_map(|gap| gap.reason.as_deref()).collect();
        assert_eq!(reasons, ["of no use without sched:sched_switch", "no scheduler here"]);
    }

    #[test]
    fn a_method_without_a_probe_says_so() {
        let plan = plan(&facts(), Some(Method::Kprobe));
        assert!(!plan.can_trace());
        assert!(plan.gaps[0].reason.as_deref().unwrap().contains("kprobe"));
    }
}
