//! When workers end.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The end of a profile, for which every worker looks by itself before each write.
///
/// Nobody has to tell them: up to 5.10, where 64 threads store to mapped memory, a thread that
/// allocates may wait for as long as they run, and the one that watches them allocates. Page faults
/// take `mmap_lock` for reading and spin for it, past whoever queues for writing, who gets no turn
/// before it has been woken, and is woken by the last reader (`rwsem_optimistic_spin`,
/// `kernel/locking/rwsem.c`, 5.10; seen there on xfs with profile b).
#[derive(Debug)]
pub struct StopCondition<'a> {
    stop: &'a AtomicBool,
    over: AtomicBool,
    deadline: OnceLock<Instant>,
}

impl<'a> StopCondition<'a> {
    /// Workers go on until `stop` is true, or [`StopCondition::now`] is called.
    pub const fn new(stop: &'a AtomicBool) -> Self {
        Self { stop, over: AtomicBool::new(false), deadline: OnceLock::new() }
    }

    /// Has them end `duration` after `start`, too. Counts once; a time that no clock reaches is none.
    pub fn after(&self, start: Instant, duration: Duration) {
        if let Some(deadline) = start.checked_add(duration) {
            self.deadline.get_or_init(|| deadline);
        }
    }

    /// Has them end now.
    pub fn now(&self) {
        self.over.store(true, Relaxed);
    }

    /// Whether it is time.
    pub fn is_due(&self) -> bool {
        self.stop.load(Relaxed)
            || self.over.load(Relaxed)
            || self.deadline.get().is_some_and(|deadline| Instant::now() >= *deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_comes_first_ends_it() {
        let stop = AtomicBool::new(false);
        let start = Instant::now();
        let stop_condition = StopCondition::new(&stop);
        assert!(!stop_condition.is_due());
        stop_condition.after(start, Duration::MAX);
        assert!(!stop_condition.is_due(), "a time that no clock reaches");
        stop_condition.after(start, Duration::ZERO);
        assert!(stop_condition.is_due());

        let told = StopCondition::new(&stop);
        told.now();
        assert!(told.is_due());

        let stopped = StopCondition::new(&stop);
        stop.store(true, Relaxed);
        assert!(stopped.is_due());
    }
}
