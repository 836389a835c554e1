//! What ends a run, other than its command: a signal or the time.

use std::time::Duration;

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::{hangup::Hangup, service_manager};

/// What is asked of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    End,
    /// To read its configuration again.
    Reload,
}

/// Waits for what ends the run.
#[derive(Debug)]
pub(super) struct Ending {
    interrupt: Signal,
    terminate: Signal,
    hangup: Hangup,
    /// Whether SIGHUP means to reload, as for services (daemon(7)), and not that the terminal is gone.
    hangup_reloads: bool,
    /// The end of `--duration`; `None` without one, or once it has passed.
    deadline: Option<Instant>,
}

impl Ending {
    /// Handles the signals from now on.
    pub(super) fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot handle SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("cannot handle SIGTERM")?,
            hangup: Hangup::listen().context("cannot handle SIGHUP")?,
            hangup_reloads: service_manager::is_present() && !has_terminal(),
            deadline: None,
        })
    }

    /// `--duration`, from now on.
    pub(super) fn set_duration(&mut self, duration: Option<Duration>) {
        self.deadline = duration.and_then(|duration| Instant::now().checked_add(duration));
    }

    /// Waits until something is asked of the run. Cancel safe.
    pub(super) async fn requested(&mut self) -> Request {
        let deadline = self.deadline;
        tokio::select! {
            _ = self.interrupt.recv() => Request::End,
            _ = self.terminate.recv() => Request::End,
            () = self.hangup.received() => {
                if self.hangup_reloads { Request::Reload } else { Request::End }
            }
            () = wait_until(deadline) => {
                self.deadline = None;
                Request::End
            }
        }
    }
}

/// Whether this process has a controlling terminal (tty(4)).
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
