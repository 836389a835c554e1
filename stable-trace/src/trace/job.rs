//! The command of a run with all processes that it has created.

use std::{ffi::OsString, io, mem::MaybeUninit, process::ExitStatus, time::Duration};

use rustix::process::{getpid, set_child_subreaper};
use tokio::{
    process::{Child, Command},
    sync::oneshot,
    time::{Interval, MissedTickBehavior, interval},
};

use super::job_end;
use crate::kernel::limits;

/// How often processes are reaped whose parents have exited.
const REAP_INTERVAL: Duration = Duration::from_secs(1);

/// A command that was started.
#[derive(Debug)]
pub(crate) struct Job {
    child: Child,
    reap: Interval,
    /// Resolves when no process of the job is left. `None` unless it was told to end.
    gone: Option<oneshot::Receiver<()>>,
    told_to_end: bool,
}

impl Job {
    /// Starts a command with its arguments.
    pub(super) fn start(command: &OsString, arguments: &[OsString]) -> io::Result<Self> {
        // Processes whose parents have exited become children of this process, and not of init: so they are found.
        if let Err(error) = set_child_subreaper(Some(getpid())) {
            log::debug!(
                "processes whose parents have exited are not ended with the command: {error}"
            );
        }
        let mut process = Command::new(command);
        // SAFETY: between fork and exec the function makes system calls only.
        unsafe { process.pre_exec(limits::restore) };
        let child = process.args(arguments).spawn()?;
        let mut reap = interval(REAP_INTERVAL);
        reap.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { child, reap, gone: None, told_to_end: false })
    }

    /// Waits until the command has exited, and if it was told to end until none of its processes is left. Cancel safe.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status?,
                _ = self.reap.tick() => reap_orphans(self.child.id()),
            }
        };
        if let Some(gone) = &mut self.gone {
            // An error means that the thread has ended, too.
            let _ = gone.await;
            self.gone = None;
        }
        Ok(status)
    }

    /// Tells all processes of the job to end, and kills those that do not. Has an effect once.
    pub(super) fn end(&mut self) {
        if std::mem::replace(&mut self.told_to_end, true) {
            return;
        }
        let command = self.child.id();
        let (ended, gone) = oneshot::channel();
        // `/proc` and the processes may be slow.
        let thread = std::thread::Builder::new().name("end-job".to_owned()).spawn(move || {
            job_end::end(command);
            // An error means that the run has ended.
            let _ = ended.send(());
        });
        match thread {
            Ok(_) => self.gone = Some(gone),
            Err(error) => {
                log::warn!("cannot start a thread, so only the command is killed: {error}");
                if let Err(error) = self.child.start_kill() {
                    log::debug!("cannot kill the command: {error}");
                }
            }
        }
    }
}

/// Reaps the children of this process that have exited, other than the command. Stops at the command, for which the
/// runtime waits.
fn reap_orphans(command: Option<u32>) {
    while let Some(pid) = exited_child() {
        if command == u32::try_from(pid).ok() {
            return;
        }
        // SAFETY: without a place for the status nothing is written.
        if unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) } != pid {
            return;
        }
    }
}

/// A child that has exited and was not reaped.
fn exited_child() -> Option<i32> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the call writes to a local variable only.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) };
    if result != 0 {
        return None;
    }
    // SAFETY: zeroes are valid, and `waitid` sets the pid, or leaves 0 where no child has exited.
    let pid = unsafe { info.assume_init().si_pid() };
    (pid > 0).then_some(pid)
}
