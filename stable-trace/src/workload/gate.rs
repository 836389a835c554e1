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
pub struct Gate {
    inner: Mutex<(usize, State)>,
    changed: Condvar,
}

impl Gate {
    /// A closed gate.
    pub const fn new() -> Self {
        Self { inner: Mutex::new((0, State::Closed)), changed: Condvar::new() }
    }

    /// Waits for the gate to open; false if the start was called off.
    pub fn pass(&self) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0 += 1;
        self.changed.notify_all();
        while inner.1 == State::Closed {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.1 == State::Open
    }

    /// Waits until `count` workers are at the gate.
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
            let gate = Gate::new();
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| gate.pass())).collect();
                if open {
                    gate.gather(4);
                    gate.open();
                } else {
                    gate.call_off();
                }
                assert!(workers.into_iter().all(|worker| worker.join().unwrap() == open));
            });
        }
    }
}
