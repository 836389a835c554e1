//! `--pid`, `run` and `wac`: a process and its descendants, as the kernel creates them.
//!
//! The agent names processes in [`SEEDS`]. The fork probe adds each process that a followed one
//! creates to [`FOLLOWED`], so a descendant stays followed when its parent exits.

use aya_ebpf::{
    Global,
    bindings::BPF_ANY,
    macros::{map, raw_tracepoint},
    maps::HashMap,
    programs::RawTracePointContext,
};
use stable_trace_common::{
    counter::Counter,
    follow::{MAX_FOLLOWED, Seed},
};

use crate::{
    maps::count,
    members::{member, offset, offsets},
};

/// Followed processes that were created since the start: the `signal_struct`, by `tgid`.
#[map]
static FOLLOWED: HashMap<u32, u64> = HashMap::with_max_entries(MAX_FOLLOWED, 0);

/// The processes that the agent names, by the pid in the agent's PID namespace.
#[map]
static SEEDS: HashMap<u32, Seed> = HashMap::with_max_entries(MAX_FOLLOWED, 0);

/// 1: only followed processes.
#[unsafe(no_mangle)]
static FOLLOW: Global<u32> = Global::new(0);

/// The agent's PID namespace, by inode number; 0 for the initial one, whose pids are those that
/// `task_struct` holds.
#[unsafe(no_mangle)]
static PIDNS_INUM: Global<u32> = Global::new(0);

/// PID namespaces above a process, at most: `MAX_PID_NS_LEVEL`, `include/linux/pid_namespace.h`,
/// 5.10 to 7.3.
const MAX_LEVEL: u64 = 32;

/// Whether only followed processes are traced.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    FOLLOW.load() != 0
}

/// Whether a task's process is followed.
#[inline(always)]
pub(crate) fn follows(task: u64, tgid: u32) -> bool {
    FOLLOWED.get_ptr(tgid).is_some() || seed(task, tgid) == Some(Seed::PROCESS)
}

/// What the agent asked for a task's process.
#[inline(always)]
fn seed(task: u64, tgid: u32) -> Option<Seed> {
    // SAFETY: a word that the agent replaces as a whole.
    unsafe { SEEDS.get(own_pid(task, tgid)) }.copied()
}

/// The pid of a task's process in the agent's PID namespace; 0 if it has none there.
#[inline(always)]
fn own_pid(task: u64, tgid: u32) -> u32 {
    if PIDNS_INUM.load() == 0 { tgid } else { pid_in_namespace(task) }
}

/// Searches the numbers of a process (`struct pid`, include/linux/pid.h, 5.10 to 7.3) for that of the
/// agent's namespace. The namespace's level cannot be seen from inside it.
///
/// Not inlined: a loop that its callers would repeat.
#[inline(never)]
fn pid_in_namespace(task: u64) -> u32 {
    let leader: u64 = member(task, &offsets().task_group_leader).unwrap_or(0);
    let pid: u64 = member(leader, &offsets().task_thread_pid).unwrap_or(0);
    let Some(level) = member::<u32>(pid, &offsets().pid_level) else {
        return 0;
    };
    let numbers = pid + u64::from(offset(&offsets().pid_numbers));
    for at in 0..=MAX_LEVEL {
        if at > u64::from(level) {
            break;
        }
        let upid = numbers + at * u64::from(offset(&offsets().upid_bytes));
        let namespace: u64 = member(upid, &offsets().upid_ns).unwrap_or(0);
        if member::<u32>(namespace, &offsets().pidns_inum) == Some(PIDNS_INUM.load()) {
            return member(upid, &offsets().upid_nr).unwrap_or(0);
        }
    }
    0
}

/// Makes the programs at a fork. Where raw tracepoints can be preempted (7.x) all three attach: see
/// `writeback_wait`. One after another they do the same again.
macro_rules! fork_probes {
    ($($name:ident)*) => {
        $(
            /// `TP_PROTO(struct task_struct *parent, struct task_struct *child)` of
            /// `sched:sched_process_fork` (5.10 to 7.3), which fires before the child first runs
            /// (`kernel_clone`, kernel/fork.c). The child may be a thread.
            #[raw_tracepoint(tracepoint = "sched_process_fork")]
            fn $name(ctx: RawTracePointContext) -> i32 {
                forked(ctx.arg(0), ctx.arg(1));
                0
            }
        )*
    };
}

fork_probes!(follow_fork follow_fork_again follow_fork_again_again);

#[inline(always)]
fn forked(parent: u64, child: u64) {
    let parent_tgid = member::<u32>(parent, &offsets().task_tgid);
    let (Some(parent_tgid), Some(tgid)) = (parent_tgid, member(child, &offsets().task_tgid)) else {
        return;
    };
    if parent_tgid == tgid {
        return;
    }
    // Cannot fail: the plan requires the member, and the address is that of a task.
    let signal: u64 = member(child, &offsets().task_signal).unwrap_or(0);
    if FOLLOWED.get_ptr(parent_tgid).is_some() || seed(parent, parent_tgid).is_some() {
        if FOLLOWED.insert(tgid, signal, u64::from(BPF_ANY)).is_err() {
            count(Counter::FollowedFull);
        }
    } else {
        // A new process with the pid of an earlier one that was followed. Mostly there is none.
        let _ = FOLLOWED.remove(tgid);
        let _ = SEEDS.remove(own_pid(child, tgid));
    }
}

/// `TP_PROTO(struct task_struct *p)` of `sched:sched_process_free` (5.10 to 7.3), which fires when
/// nothing refers to the task any more (`delayed_put_task_struct`, kernel/exit.c), unlike
/// `sched_process_exit`: after that one, closing files may still wait for writeback. It runs in a soft
/// interrupt. An entry that a skipped run leaves is removed when the pid is used again.
#[raw_tracepoint(tracepoint = "sched_process_free")]
fn follow_free(ctx: RawTracePointContext) -> i32 {
    freed(ctx.arg(0));
    0
}

#[inline(always)]
fn freed(task: u64) {
    let pid = member::<u32>(task, &offsets().task_pid);
    let (Some(pid), Some(tgid)) = (pid, member(task, &offsets().task_tgid)) else {
        return;
    };
    // The leader that another thread's `execve` replaces has that thread's pid (`de_thread`, fs/exec.c,
    // and `exchange_tids`, kernel/pid.c): the process lives on.
    if pid != tgid {
        return;
    }
    // The pid is free already, and may belong to a new process: then the entry is that one's.
    let signal: u64 = member(task, &offsets().task_signal).unwrap_or(0);
    // SAFETY: a word that the fork probe replaces as a whole.
    if unsafe { FOLLOWED.get(tgid) }.copied() == Some(signal) {
        let _ = FOLLOWED.remove(tgid);
    }
}
