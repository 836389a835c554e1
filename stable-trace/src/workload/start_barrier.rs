//! A start barrier for worker threads. Unlike `std::sync::Barrier` it can be cancelled, which is
//! needed when one of the threads cannot be spawned.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Copy, PartialEq)]
enum State {
    Closed,
    Open,
    Cancelled,
}

struct Inner {
    state: State,
    /// Number of threads that have called [`StartBarrier::wait`].
    arrived: usize,
}

pub(super) struct StartBarrier {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl StartBarrier {
    pub(super) const fn new() -> Self {
        Self {
            inner: Mutex::new(Inner { state: State::Closed, arrived: 0 }),
            changed: Condvar::new(),
        }
    }

    /// Waits until the barrier opens; returns `false` if the start is cancelled.
    pub(super) fn wait(&self) -> bool {
        let mut inner = self.lock();
        inner.arrived += 1;
        self.changed.notify_all();
        while inner.state == State::Closed {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.state == State::Open
    }

    /// Waits until `count` threads have arrived.
    pub(super) fn wait_for_arrivals(&self, count: usize) {
        let mut inner = self.lock();
        while inner.arrived < count {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Releases all waiters at once.
    pub(super) fn open(&self) {
        self.set(State::Open);
    }

    /// Cancels the start; current and future waiters return `false`.
    pub(super) fn cancel(&self) {
        self.set(State::Cancelled);
    }

    fn set(&self, state: State) {
        self.lock().state = state;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_waiters_start_or_none_does() {
        for open in [true, false] {
            let start_barrier = StartBarrier::new();
            std::thread::scope(|scope| {
                let workers: Vec<_> =
                    (0..4).map(|_| scope.spawn(|| start_barrier.wait())).collect();
                if open {
                    start_barrier.wait_for_arrivals(4);
                    start_barrier.open();
                } else {
                    start_barrier.cancel();
                }
                assert!(workers.into_iter().all(|worker| worker.join().unwrap() == open));
            });
        }
    }
}
