//! Names of failures: an errno, or the signal that stands for one in a store to mapped memory.

/// Errno numbers of Linux end below this on every architecture that aya supports.
const ERRNOS: usize = 134;

/// How many distinct causes there are: usable as the length of an array of counters.
pub const CAUSES: usize = ERRNOS + 1;

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause(usize);

impl Cause {
    /// A store to mapped memory had no page to go to: what `ENOSPC` or `EIO` is to a `write()`.
    pub const SIGBUS: Self = Self(ERRNOS);

    /// The cause at `index`, for walking an array of counters.
    #[must_use]
    pub const fn at(index: usize) -> Self {
        Self(index)
    }

    /// Smaller than [`CAUSES`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }

    /// `ENOSPC`, `EIO`, `EILSEQ` …, `SIGBUS`, or `errno N` for a number without a name.
    #[must_use]
    pub fn name(self) -> String {
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
        // 0 is no errno: a number beyond the table, which no system call returns, reads `errno 0`.
        let index = usize::try_from(errno.raw_os_error()).ok().filter(|&n| n < ERRNOS);
        Self(index.unwrap_or(0))
    }
}

macro_rules! names {
    ($($name:ident)*) => { &[$((libc::$name, stringify!($name))),*] };
}

/// The numbers are the architecture's own; of two names for one number the first is used.
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
    fn the_names_that_matter() {
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
    fn every_name_has_its_place() {
        for &(number, name) in NAMES {
            let cause = Cause::from(Errno::from_raw_os_error(number));
            assert_eq!(cause.index(), usize::try_from(number).unwrap());
            assert!(cause.index() < CAUSES);
            assert_eq!(cause.name(), name);
        }
    }

    #[test]
    fn an_unknown_number_is_still_counted() {
        assert_eq!(Cause::at(41).name(), "errno 41");
        assert_eq!(Cause::from(Errno::from_raw_os_error(4000)).index(), 0);
    }
}
