//! SIGHUP: the terminal of the run is gone, as when an ssh connection drops.

use std::{io, mem::MaybeUninit, ptr};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for SIGHUP, unless it was ignored at the start, as `nohup` does.
#[derive(Debug)]
pub(super) struct Hangup(Option<Signal>);

impl Hangup {
    pub(super) fn listen() -> io::Result<Self> {
        if is_ignored(libc::SIGHUP)? {
            return Ok(Self(None));
        }
        signal(SignalKind::hangup()).map(|signal| Self(Some(signal)))
    }

    /// Cancel safe.
    pub(super) async fn received(&mut self) {
        match &mut self.0 {
            Some(signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        }
    }
}

/// Whether this process ignores a signal.
fn is_ignored(signal: i32) -> io::Result<bool> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: the call changes nothing without a new action, and writes the present one to a local variable.
    if unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded.
    Ok(unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_known() {
        // Rust's runtime ignores SIGPIPE (library/std/src/sys/pal/unix/mod.rs).
        assert!(is_ignored(libc::SIGPIPE).unwrap());
        assert!(!is_ignored(libc::SIGWINCH).unwrap());
        assert!(is_ignored(-1).is_err());
    }
}
