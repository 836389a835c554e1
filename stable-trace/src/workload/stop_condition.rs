//! When workers stop.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The end of a profile. Each worker checks it before each write.
///
/// Workers check the deadline themselves because the thread that watches them may be blocked until
/// they end. Up to 5.10, where 64 threads store to mapped memory, a thread that allocates memory
/// may wait as long as they run: page faults take `mmap_lock` for reading and spin for it, ahead of
/// a queued writer, which is woken only by the last reader (`rwsem_optimistic_spin`,
/// `kernel/locking/rwsem.c`, 5.10; seen there on xfs with profile b).
#[derive(Debug)]
pub(super) struct StopCondition<'a> {
    stop: &'a AtomicBool,
    stopped: AtomicBool,
    deadline: OnceLock<Instant>,
}

impl<'a> StopCondition<'a> {
    /// A condition that is met once `stop` is true.
    pub(super) const fn new(stop: &'a AtomicBool) -> Self {
        Self { stop, stopped: AtomicBool::new(false), deadline: OnceLock::new() }
    }

    /// Sets the deadline to `duration` after `start`, unless one is set. A deadline that `Instant`
    /// cannot represent is ignored.
    pub(super) fn set_deadline(&self, start: Instant, duration: Duration) {
        if let Some(deadline) = start.checked_add(duration) {
            self.deadline.get_or_init(|| deadline);
        }
    }

    pub(super) fn stop_now(&self) {
        self.stopped.store(true, Relaxed);
    }

    pub(super) fn is_met(&self) -> bool {
        self.stop.load(Relaxed)
            || self.stopped.load(Relaxed)
            || self.deadline.get().is_some_and(|deadline| Instant::now() >= *deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_signal_deadline_and_stop_meets_it() {
        let stop = AtomicBool::new(false);
        let start = Instant::now();
        let stop_condition = StopCondition::new(&stop);
        assert!(!stop_condition.is_met());
        stop_condition.set_deadline(start, Duration::MAX);
        assert!(!stop_condition.is_met(), "the deadline is beyond the range of Instant");
        stop_condition.set_deadline(start, Duration::ZERO);
        assert!(stop_condition.is_met());

        let stopped = StopCondition::new(&stop);
        stopped.stop_now();
        assert!(stopped.is_met());

        let signalled = StopCondition::new(&stop);
        stop.store(true, Relaxed);
        assert!(signalled.is_met());
    }
}
