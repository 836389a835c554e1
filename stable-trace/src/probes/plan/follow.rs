//! `--pid`, `run` and `wac`: following a process and its descendants. No group of its own: without such
//! a filter nothing of it attaches.

use stable_trace_analysis::event::Group;
use stable_trace_common::offsets::{ABSENT, Offsets};

use super::{Plan, Point, Step, writeback_wait::preempts_raw_tracepoints};
use crate::probes::facts::Facts;

/// The program at a fork.
const FORK: &str = "follow_fork";

impl Plan {
    /// Plans the probes that follow processes. `nested`: the agent is in a PID namespace of its own, so
    /// pids must be translated. An error, which changes nothing, has the reason.
    pub(crate) fn follow(&mut self, facts: &Facts, nested: bool) -> Result<(), String> {
        if let Some(reason) = facts.refused.get("raw_tracepoint") {
            return Err(reason.clone());
        }
        check_members(facts, &self.offsets, nested)?;
        let mut programs =
            vec![("sched_process_free", "follow_free"), ("sched_process_fork", FORK)];
        if preempts_raw_tracepoints(facts) {
            let again = ["follow_fork_again", "follow_fork_again_again"];
            programs.extend(again.map(|program| ("sched_process_fork", program)));
        }
        // Before the beginning of waits.
        self.steps.splice(
            0..0,
            programs.into_iter().map(|(name, program)| Step {
                group: Group::WritebackWait,
                program,
                point: Point::RawTracepoint { system: "sched", name },
            }),
        );
        Ok(())
    }

    /// Whether processes are followed.
    pub(crate) fn follows(&self) -> bool {
        self.steps.iter().any(|step| step.program == FORK)
    }
}

/// Checks that the programs can read a task and, in a PID namespace, its pids.
fn check_members(facts: &Facts, offsets: &Offsets, nested: bool) -> Result<(), String> {
    if let Some(reason) = facts.refused.get("btf") {
        return Err(reason.clone());
    }
    let task = [
        (offsets.task_pid, "task_struct.pid"),
        (offsets.task_tgid, "task_struct.tgid"),
        (offsets.task_signal, "task_struct.signal"),
    ];
    let namespace = [
        (offsets.task_group_leader, "task_struct.group_leader"),
        (offsets.task_thread_pid, "task_struct.thread_pid"),
        (offsets.pid_level, "pid.level"),
        (offsets.pid_numbers, "pid.numbers"),
        (offsets.upid_bytes, "upid"),
        (offsets.upid_nr, "upid.nr"),
        (offsets.upid_ns, "upid.ns"),
        (offsets.pidns_inum, "pid_namespace.ns.inum"),
    ];
    let needed = task.into_iter().chain(namespace.into_iter().filter(|_| nested));
    match needed.into_iter().find(|(offset, _)| *offset == ABSENT) {
        Some((_, name)) => Err(format!("this kernel's BTF has no {name}")),
        None => Ok(()),
    }
}
