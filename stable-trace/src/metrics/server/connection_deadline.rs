//! Tracks what a connection waits for, and when its time limit expires.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::client_limits::ClientLimits;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No byte of the next request has arrived.
    Idle,
    /// A request's header is arriving.
    Receiving,
    /// A request is being answered.
    Answering,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    phase: Phase,
    /// When the phase began.
    since: Instant,
    /// Since when the client has read nothing of what was written; `None` while it reads. Independent
    /// of the phase: with pipelined requests the next one is answered while the previous response is
    /// still being sent.
    write_blocked: Option<Instant>,
}

/// The deadline of one connection, shared by the task that serves it and the list of connections.
#[derive(Clone, Debug)]
pub(super) struct ConnectionDeadline {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    /// Notified whenever the connection begins to wait for its client.
    waits_for_client: Arc<Notify>,
    limits: ClientLimits,
}

impl ConnectionDeadline {
    pub(super) fn new(limits: ClientLimits, waits_for_client: Arc<Notify>) -> Self {
        let state = State { phase: Phase::Idle, since: Instant::now(), write_blocked: None };
        let state = Arc::new(Mutex::new(state));
        Self { state, changed: Arc::new(Notify::new()), waits_for_client, limits }
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
        if self.waiting_since().is_some() {
            self.waits_for_client.notify_one();
        }
    }

    fn enter(&self, phase: Phase) {
        self.change(|state| (state.phase, state.since) = (phase, Instant::now()));
    }

    pub(super) fn bytes_received(&self) {
        if self.state().phase == Phase::Idle {
            self.enter(Phase::Receiving);
        }
    }

    /// The header of a request is complete.
    pub(super) fn start_answer(&self) {
        self.enter(Phase::Answering);
    }

    /// The response was written, or given up.
    pub(super) fn end_answer(&self) {
        self.enter(Phase::Idle);
    }

    /// A write made progress, or the socket's buffer was full.
    pub(super) fn write_polled(&self, progress: bool) {
        match (progress, self.state().write_blocked) {
            (true, Some(_)) => self.change(|state| state.write_blocked = None),
            (false, None) => self.change(|state| state.write_blocked = Some(Instant::now())),
            _ => {}
        }
    }

    /// Since when the connection has waited for its client to send a request or to read a response;
    /// `None` while the client waits.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let state = self.state();
        state.write_blocked.or_else(|| (state.phase != Phase::Answering).then_some(state.since))
    }

    /// Returns when the current phase, or a blocked write, has exceeded its limit.
    pub(super) async fn expired(&self) {
        loop {
            let state = self.state();
            let limit = match state.phase {
                Phase::Idle => self.limits.idle,
                Phase::Receiving => self.limits.header,
                Phase::Answering => self.limits.answer,
            };
            let end = state.since + limit;
            let end = state.write_blocked.map_or(end, |since| end.min(since + self.limits.answer));
            tokio::select! {
                () = sleep_until(end) => {
                    if self.state() == state {
                        return;
                    }
                }
                () = self.changed.notified() => {}
            }
        }
    }
}
