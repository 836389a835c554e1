//! Under `sudo` the workload needs no root: it goes back to the user who typed the command.

use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid, getgroups};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::error::WorkloadError;
use super::plan::Target;

/// The user who called `sudo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invoker {
    /// `SUDO_UID`.
    pub uid: u32,
    /// `SUDO_GID`.
    pub gid: u32,
}

/// What became of root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// There was nothing to give up: not root, or root without `sudo`.
    Unchanged,
    /// This process is the invoking user's now, for good.
    Dropped(Invoker),
    /// The invoking user cannot write there, so this process stays root.
    StillRoot(Invoker),
}

impl Invoker {
    /// From the values of `SUDO_UID` and `SUDO_GID`; `None` if they name root or nobody.
    #[must_use]
    pub fn new(uid: Option<&str>, gid: Option<&str>) -> Option<Self> {
        let uid = uid?.parse().ok()?;
        let gid = gid?.parse().ok()?;
        // The largest number means "leave as it is" to the kernel.
        (uid != 0 && uid != u32::MAX && gid != u32::MAX).then_some(Self { uid, gid })
    }

    fn from_environment() -> Option<Self> {
        let (uid, gid) = (std::env::var("SUDO_UID").ok(), std::env::var("SUDO_GID").ok());
        Self::new(uid.as_deref(), gid.as_deref())
    }
}

/// Gives up root for the user who called `sudo`, if that user can write to `target`.
///
/// The kernel keeps identity per thread: call this before the process has a second one. Of the
/// user's groups only the primary one is taken on. The parent-death signal is lost on the way.
///
/// # Errors
/// [`WorkloadError::Identity`] if the process can neither go on as the user nor stay root.
pub fn give_up_root(target: &Target) -> Result<Identity, WorkloadError> {
    let Some(user) = Invoker::from_environment().filter(|_| geteuid().is_root()) else {
        return Ok(Identity::Unchanged);
    };
    become_user(user, target).map_err(|errno| WorkloadError::Identity { uid: user.uid, errno })
}

fn become_user(user: Invoker, target: &Target) -> Result<Identity, Errno> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let groups = getgroups()?;
    // Root stays the saved identity until it is clear that the user can write there.
    set_thread_groups(&[gid])?;
    set_thread_res_gid(None, gid, None)?;
    set_thread_res_uid(None, uid, None)?;
    if may_write(target) {
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        Ok(Identity::Dropped(user))
    } else {
        set_thread_res_uid(None, Uid::ROOT, None)?;
        set_thread_res_gid(None, Gid::ROOT, None)?;
        set_thread_groups(&groups)?;
        Ok(Identity::StillRoot(user))
    }
}

fn may_write(target: &Target) -> bool {
    let (path, access): (&Path, _) = match target {
        Target::Directory(path) => (path, Access::WRITE_OK | Access::EXEC_OK),
        Target::Device(path) => (path, Access::READ_OK | Access::WRITE_OK),
    };
    accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_real_user_counts() {
        assert_eq!(Invoker::new(Some("1000"), Some("100")), Some(Invoker { uid: 1000, gid: 100 }));
        for (uid, gid) in [
            (None, None),
            (Some("1000"), None),
            (Some("0"), Some("0")),
            (Some("me"), Some("100")),
            (Some("4294967295"), Some("100")),
            (Some("-1"), Some("100")),
        ] {
            assert_eq!(Invoker::new(uid, gid), None, "{uid:?} {gid:?}");
        }
    }
}
