//! Names of failures: an errno, or SIGBUS for a store to mapped memory.
//!
//! libc's `strerrorname_np` would replace the table, but musl does not have it.

/// All errno numbers of Linux are below this on every architecture that aya supports.
const ERRNO_LIMIT: usize = 134;

/// Number of causes: the length of an array of counters by cause.
pub(super) const CAUSE_COUNT: usize = ERRNO_LIMIT + 1;

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cause(usize);

impl Cause {
    /// The kernel could not provide a page for a store to mapped memory; a `write()` would fail
    /// with `ENOSPC` or `EIO`.
    pub(super) const SIGBUS: Self = Self(ERRNO_LIMIT);

    /// The cause of the counter at `index`.
    pub(super) const fn at(index: usize) -> Self {
        Self(index)
    }

    /// Less than [`CAUSE_COUNT`].
    pub(super) const fn index(self) -> usize {
        self.0
    }

    /// `ENOSPC`, `EIO`, `EILSEQ` …, `SIGBUS`, or `errno N` for a number without a name.
    pub(super) fn name(self) -> String {
        if self == Self::SIGBUS {
            return "SIGBUS".to_owned();
        }
        NAMES
            .iter()
            .find(|(number, _)| usize::try_from(*number) == Ok(self.0))
            .map_or_else(|| format!("errno {}", self.0), |(_, name)| (*name).to_owned())
    }
}

impl From<rustix::io::Errno> for Cause {
    fn from(errno: rustix::io::Errno) -> Self {
        // No system call returns a number beyond the limit; if one did, it is counted as `errno 0`.
        let index = usize::try_from(errno.raw_os_error()).ok().filter(|&n| n < ERRNO_LIMIT);
        Self(index.unwrap_or(0))
    }
}

macro_rules! names {
    ($($name:ident)*) => { &[$((libc::$name, stringify!($name))),*] };
}

/// Numbers depend on the architecture. Where two names have one number, the first is used.
static NAMES: &[(i32, &str)] = names! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT
    ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG
    ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY
    ELOOP ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG EUNATCH ENOCSI EL2HLT EBADE EBADR
    EXFULL ENOANO EBADRQC EBADSLT EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE ENOLINK
    EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC
    ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ
    EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT
    EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET
    ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH
    EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM
    EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE
    ERFKILL EHWPOISON
};

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn common_errnos_have_names() {
        for (errno, name) in [
            (Errno::NOSPC, "ENOSPC"),
            (Errno::IO, "EIO"),
            (Errno::ILSEQ, "EILSEQ"),
            (Errno::AGAIN, "EAGAIN"),
            (Errno::ROFS, "EROFS"),
            (Errno::DQUOT, "EDQUOT"),
            (Errno::HWPOISON, "EHWPOISON"),
        ] {
            assert_eq!(Cause::from(errno).name(), name);
        }
        assert_eq!(Cause::SIGBUS.name(), "SIGBUS");
    }

    #[test]
    fn every_named_errno_has_a_counter() {
        for &(number, name) in NAMES {
            let cause = Cause::from(Errno::from_raw_os_error(number));
            assert_eq!(cause.index(), usize::try_from(number).unwrap());
            assert!(cause.index() < CAUSE_COUNT);
            assert_eq!(cause.name(), name);
        }
    }

    #[test]
    fn an_unnamed_number_is_counted() {
        assert_eq!(Cause::at(41).name(), "errno 41");
        assert_eq!(Cause::from(Errno::from_raw_os_error(4000)).index(), 0);
    }
}
