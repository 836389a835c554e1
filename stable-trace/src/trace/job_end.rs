//! Ends all processes that this process and its descendants have created.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use stable_trace_analysis::error_chain::ErrorChain;

use crate::kernel::process_tree;

/// Processes that are left after this time are killed.
const KILL_AFTER: Duration = Duration::from_secs(5);

/// Processes that are left this long after that, such as those that wait for a disk, are left alone.
const GIVE_UP_AFTER: Duration = Duration::from_secs(2);

/// How often processes are looked for that were created meanwhile, or have exited.
const INTERVAL: Duration = Duration::from_millis(20);

/// Sends SIGTERM to every process below this one, and SIGKILL to those that are left after some seconds. Returns when
/// all have exited. `command`: the child that must not be missed, even if `/proc` cannot be read.
pub(super) fn end(command: Option<u32>) {
    let mut members =
        Members { proc: Path::new("/proc"), own: std::process::id(), found: BTreeMap::new() };
    let began = Instant::now();
    let mut kill_told = false;
    loop {
        let kill = began.elapsed() >= KILL_AFTER;
        members.find(command);
        let left = members.signal(if kill { Signal::KILL } else { Signal::TERM });
        if left == 0 {
            return;
        }
        if kill && !std::mem::replace(&mut kill_told, true) {
            log::warn!("killed the processes of the command that did not end on SIGTERM: {left}");
        }
        if began.elapsed() >= KILL_AFTER + GIVE_UP_AFTER {
            log::warn!("processes of the command are left that cannot be killed now: {left}");
            return;
        }
        sleep(INTERVAL);
    }
}

struct Members<'a> {
    proc: &'a Path,
    /// The process whose descendants are to end.
    own: u32,
    /// Each with the last signal that it got.
    found: BTreeMap<u32, Member>,
}

struct Member {
    process: OwnedFd,
    sent: Option<Signal>,
}

impl Members<'_> {
    /// Looks for processes, parents first.
    fn find(&mut self, command: Option<u32>) {
        let descendants = process_tree::with_descendants(self.proc, self.own);
        let descendants = descendants.unwrap_or_else(|error| {
            log::debug!("cannot look for processes of the command: {}", ErrorChain(&error));
            Vec::new()
        });
        let below = descendants.into_iter().filter(|pid| *pid != self.own);
        for pid in command.into_iter().chain(below) {
            if self.found.get(&pid).is_some_and(|member| !has_exited(&member.process)) {
                continue;
            }
            let open =
                |pid: u32| pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok();
            let Some(process) = open(pid) else { continue };
            // The pid is that process's as long as it has not exited: it is not another one by now.
            let parent = process_tree::parent(self.proc, pid);
            let is_below = command == Some(pid)
                || parent
                    .is_some_and(|parent| parent == self.own || self.found.contains_key(&parent));
            if is_below && !has_exited(&process) {
                self.found.insert(pid, Member { process, sent: None });
            }
        }
    }

    /// Sends a signal to every process that has not got it. Returns how many have not exited.
    fn signal(&mut self, signal: Signal) -> usize {
        self.found.retain(|_, member| !has_exited(&member.process));
        for member in self.found.values_mut() {
            if member.sent != Some(signal) {
                member.sent = Some(signal);
                // An error means that it has exited meanwhile. A stopped process handles no signal before it goes on.
                let _ = pidfd_send_signal(&member.process, signal);
                let _ = pidfd_send_signal(&member.process, Signal::CONT);
            }
        }
        self.found.len()
    }
}

/// Whether a process has exited, reaped or not.
fn has_exited(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
}
