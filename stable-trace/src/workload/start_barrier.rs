//! The start barrier. Unlike `std::sync::Barrier` it can be called off, for when a worker that the
//! others wait for cannot be started.

use std::sync::{Condvar, Mutex, PoisonError};

#[derive(Clone, Copy, PartialEq)]
enum State {
    Closed,
    Open,
    CalledOff,
}

/// Holds workers back until all of them are there.
pub struct StartBarrier {
    inner: Mutex<(usize, State)>,
    changed: Condvar,
}

impl StartBarrier {
    /// A closed barrier.
    pub const fn new() -> Self {
        Self { inner: Mutex::new((0, State::Closed)), changed: Condvar::new() }
    }

    /// Waits for the barrier to open; false if the start was called off.
    pub fn pass(&self) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0 += 1;
        self.changed.notify_all();
        while inner.1 == State::Closed {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.1 == State::Open
    }

    /// Waits until `count` workers are at the barrier.
    pub fn gather(&self, count: usize) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        while inner.0 < count {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets all of them go at once.
    pub fn open(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).1 = State::Open;
        self.changed.notify_all();
    }

    /// Sends whoever waits, or comes later, home.
    pub fn call_off(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).1 = State::CalledOff;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_for_all_or_for_none() {
        for open in [true, false] {
            let start_barrier = StartBarrier::new();
            std::thread::scope(|scope| {
                let workers: Vec<_> =
                    (0..4).map(|_| scope.spawn(|| start_barrier.pass())).collect();
                if open {
                    start_barrier.gather(4);
                    start_barrier.open();
                } else {
                    start_barrier.call_off();
                }
                assert!(workers.into_iter().all(|worker| worker.join().unwrap() == open));
            });
        }
    }
}
