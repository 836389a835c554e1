//! When workers end.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The end of a profile, for which every worker looks by itself before each write.
///
/// Nobody has to tell them: where 64 threads store to mapped memory and a slow disk keeps them in
/// their page faults, a thread that allocates may wait a minute and more for the address space
/// (`mmap_lock`; seen on 5.10, xfs, profile b), and the one that watches the workers allocates.
#[derive(Debug)]
pub struct Halt<'a> {
    stop: &'a AtomicBool,
    over: AtomicBool,
    deadline: OnceLock<Instant>,
}

impl<'a> Halt<'a> {
    /// Workers go on until `stop` is true, or [`Halt::now`] is called.
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
        let halt = Halt::new(&stop);
        assert!(!halt.is_due());
        halt.after(start, Duration::MAX);
        assert!(!halt.is_due(), "a time that no clock reaches");
        halt.after(start, Duration::ZERO);
        assert!(halt.is_due());

        let told = Halt::new(&stop);
        told.now();
        assert!(told.is_due());

        let stopped = Halt::new(&stop);
        stop.store(true, Relaxed);
        assert!(stopped.is_due());
    }
}
