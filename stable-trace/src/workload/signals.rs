//! The signals that ask the workload to end.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use libc::{SIGHUP, SIGINT, SIGTERM, sigset_t};

/// Sets `stop` at the first of SIGINT, SIGTERM and SIGHUP; more of them change nothing, so that the
/// agent's SIGTERM after a Ctrl-C for both does not cost the last event.
///
/// Call it from the main thread before any other exists: from then on these signals are blocked in
/// every thread, and one thread waits for them. The kernel would hand one to the main thread first,
/// which may be held for as long as the workers run; see [`StopCondition`](super::stop_condition::StopCondition).
///
/// # Errors
/// If the thread cannot be started, or signals cannot be blocked.
pub fn stop_on_signals(stop: Arc<AtomicBool>) -> io::Result<()> {
    let signals = blocked(&[SIGINT, SIGTERM, SIGHUP])?;
    let wait = move || {
        let mut signal = 0;
        // SAFETY: the set is initialised, and the number is ours.
        while unsafe { libc::sigwait(&raw const signals, &raw mut signal) } == 0 {
            stop.store(true, Relaxed);
        }
    };
    thread::Builder::new().name("wac-signals".to_owned()).spawn(wait).map(|_| ())
}

/// Blocks signals in this thread and in all that it starts.
fn blocked(signals: &[i32]) -> io::Result<sigset_t> {
    let mut set = MaybeUninit::<sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set, which the others then have.
    let (set, errno) = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        let mut set = set.assume_init();
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        (set, libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()))
    };
    if errno == 0 { Ok(set) } else { Err(io::Error::from_raw_os_error(errno)) }
}
