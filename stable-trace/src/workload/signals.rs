//! The signals that stop the workload.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use libc::{SIGHUP, SIGINT, SIGTERM, sigset_t};

/// Sets `stop` at the first of SIGINT, SIGTERM and SIGHUP. Further signals have no effect, so that
/// the agent's SIGTERM after a Ctrl-C for both processes does not cost the last event.
///
/// Blocks these signals in every thread and waits for them in one thread: the kernel would deliver
/// them to the main thread first, which may be blocked as long as the workers run (see
/// [`StopCondition`](super::stop_condition::StopCondition)). For the same reason a signal handler,
/// such as those of the crate `signal-hook`, might not run in time. Must be called from the main
/// thread before any other thread exists.
pub(super) fn stop_on_signals(stop: Arc<AtomicBool>) -> io::Result<()> {
    let signals = block(&[SIGINT, SIGTERM, SIGHUP])?;
    let wait = move || {
        let mut signal = 0;
        // SAFETY: the set is initialised, and the kernel writes the number to a local variable.
        while unsafe { libc::sigwait(&raw const signals, &raw mut signal) } == 0 {
            stop.store(true, Relaxed);
        }
    };
    thread::Builder::new().name("wac-signals".to_owned()).spawn(wait).map(|_| ())
}

/// Blocks signals in this thread and in all threads that it starts later.
fn block(signals: &[i32]) -> io::Result<sigset_t> {
    let mut set = MaybeUninit::<sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set before the other calls use it.
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
