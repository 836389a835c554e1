//! Under `sudo` the workload runs as the user who called `sudo`, because it does not need root.

use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid, getgroups};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::error::WorkloadError;
use super::plan::Target;

/// The user who called `sudo`: `SUDO_UID` and `SUDO_GID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SudoUser {
    pub(super) uid: u32,
    gid: u32,
}

/// The outcome of [`drop_privileges`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PrivilegeDrop {
    /// The process is not root, or root without `sudo`.
    NotNeeded,
    /// The process runs as this user and cannot become root again.
    Dropped(SudoUser),
    /// This user cannot write to the target, so the process stays root.
    StillRoot(SudoUser),
}

impl SudoUser {
    /// Parses the values of `SUDO_UID` and `SUDO_GID`; `None` if they are invalid or name root.
    fn new(uid: Option<&str>, gid: Option<&str>) -> Option<Self> {
        let uid = uid?.parse().ok()?;
        let gid = gid?.parse().ok()?;
        // To setresuid(2) the largest number means "leave unchanged".
        (uid != 0 && uid != u32::MAX && gid != u32::MAX).then_some(Self { uid, gid })
    }

    fn from_environment() -> Option<Self> {
        let (uid, gid) = (std::env::var("SUDO_UID").ok(), std::env::var("SUDO_GID").ok());
        Self::new(uid.as_deref(), gid.as_deref())
    }
}

/// Switches from root to the user who called `sudo`, if that user can write to `target`.
///
/// The kernel keeps credentials per thread, so this must be called before a second thread exists.
/// Of the user's groups it sets only the primary one. It clears the parent-death signal.
pub(super) fn drop_privileges(target: &Target) -> Result<PrivilegeDrop, WorkloadError> {
    let Some(user) = SudoUser::from_environment().filter(|_| geteuid().is_root()) else {
        return Ok(PrivilegeDrop::NotNeeded);
    };
    become_user(user, target)
        .map_err(|source| WorkloadError::DropPrivileges { uid: user.uid, source })
}

fn become_user(user: SudoUser, target: &Target) -> Result<PrivilegeDrop, Errno> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let groups = getgroups()?;
    // Root stays the saved uid until it is known that the user can write to the target.
    set_thread_groups(&[gid])?;
    set_thread_res_gid(None, gid, None)?;
    set_thread_res_uid(None, uid, None)?;
    if can_write(target) {
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        Ok(PrivilegeDrop::Dropped(user))
    } else {
        set_thread_res_uid(None, Uid::ROOT, None)?;
        set_thread_res_gid(None, Gid::ROOT, None)?;
        set_thread_groups(&groups)?;
        Ok(PrivilegeDrop::StillRoot(user))
    }
}

fn can_write(target: &Target) -> bool {
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
    fn invalid_ids_and_root_are_ignored() {
        assert_eq!(
            SudoUser::new(Some("1000"), Some("100")),
            Some(SudoUser { uid: 1000, gid: 100 })
        );
        for (uid, gid) in [
            (None, None),
            (Some("1000"), None),
            (Some("0"), Some("0")),
            (Some("me"), Some("100")),
            (Some("4294967295"), Some("100")),
            (Some("-1"), Some("100")),
        ] {
            assert_eq!(SudoUser::new(uid, gid), None, "{uid:?} {gid:?}");
        }
    }
}
