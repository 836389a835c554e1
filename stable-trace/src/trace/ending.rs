//! What ends a run, other than its command: a signal, the time, or a reader that wants no more.

use std::time::Duration;

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::hangup::Hangup;

/// Waits for what ends the run.
#[derive(Debug)]
pub(super) struct Ending {
    interrupt: Signal,
    terminate: Signal,
    hangup: Hangup,
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
            deadline: None,
        })
    }

    /// `--duration`, from now on.
    pub(super) fn set_duration(&mut self, duration: Option<Duration>) {
        self.deadline = duration.and_then(|duration| Instant::now().checked_add(duration));
    }

    /// Waits until the run shall end. Cancel safe.
    pub(super) async fn requested(&mut self) {
        let deadline = self.deadline;
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = self.hangup.received() => {}
            () = wait_until(deadline) => self.deadline = None,
        }
    }
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
