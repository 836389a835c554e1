//! The socket that the service manager listens on for the agent: `sd_listen_fds(3)`.

use std::{
    ffi::OsStr,
    io,
    net::TcpListener,
    os::fd::{BorrowedFd, FromRawFd as _, RawFd},
};

use rustix::io::{FdFlags, fcntl_setfd};

/// `SD_LISTEN_FDS_START`, systemd/sd-daemon.h.
const FIRST: RawFd = 3;

/// Why the inherited socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InheritedSocketError {
    #[error("the service manager passed {0} sockets (give the unit one `ListenStream=`)")]
    Many(u32),
    #[error(
        "the socket of the service manager is not TCP (give `ListenStream=` an address and a port)"
    )]
    NotTcp(#[source] io::Error),
}

/// Takes the socket, if the service manager passed one to this process. Call it once: the caller owns
/// the socket from then on.
pub(super) fn take() -> Result<Option<TcpListener>, InheritedSocketError> {
    let variable = |name| std::env::var_os(name);
    let count = passed(
        variable("LISTEN_FDS").as_deref(),
        variable("LISTEN_PID").as_deref(),
        std::process::id(),
    );
    match count {
        0 => return Ok(None),
        1 => {}
        many => return Err(InheritedSocketError::Many(many)),
    }
    // SAFETY: the variables name this process, so the descriptor is one that it was started with, and
    // nothing has closed it. It is borrowed for one call, which fails where it is not open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(FIRST) };
    // Not for the command of `run`.
    fcntl_setfd(descriptor, FdFlags::CLOEXEC)
        .map_err(|error| InheritedSocketError::NotTcp(error.into()))?;
    // SAFETY: it is open, as the call before has shown, and nothing else owns it.
    let listener = unsafe { TcpListener::from_raw_fd(FIRST) };
    listener.local_addr().map_err(InheritedSocketError::NotTcp)?;
    Ok(Some(listener))
}

/// How many sockets the manager passed to the process `own`.
fn passed(count: Option<&OsStr>, pid: Option<&OsStr>, own: u32) -> u32 {
    let number = |text: Option<&OsStr>| text?.to_str()?.parse::<u32>().ok();
    if number(pid) == Some(own) { number(count).unwrap_or(0) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_other_processes_are_not_taken() {
        let passed = |count: &str, pid: &str| passed(Some(count.as_ref()), Some(pid.as_ref()), 7);
        assert_eq!(passed("1", "7"), 1);
        assert_eq!(passed("1", "8"), 0);
        assert_eq!(passed("one", "7"), 0);
        assert_eq!(super::passed(Some("1".as_ref()), None, 7), 0);
        assert_eq!(super::passed(None, Some("7".as_ref()), 7), 0);
    }
}
