//! Paths of cgroups of the unified hierarchy (v2), and the containers that they belong to.

use std::{
    collections::HashMap,
    ffi::{c_int, c_uint},
    fs::File,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    rc::Rc,
};

use smol_str::SmolStr;

use crate::kernel::mountinfo::Mount;

/// Cgroups that are remembered. Beyond that all are looked up again.
const CACHED: usize = 4_096;

/// The type of a file handle that is a node's id: `FILEID_KERNFS`, include/linux/exportfs.h, 5.5 to 7.3.
/// The id is what `bpf_get_current_cgroup_id` returns.
const FILEID_KERNFS: c_int = 0xfe;

/// A cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cgroup {
    /// Its path from the root of the hierarchy, as the mount shows it.
    pub(crate) path: Option<SmolStr>,
    /// Container id, or uid of a pod, from the path.
    pub(crate) container: Option<SmolStr>,
}

/// Looks cgroups up by their ids.
pub(crate) struct Cgroups {
    /// Whether the kernel has a unified hierarchy: otherwise every task is in its root.
    is_unified: bool,
    /// Where it is mounted.
    mount: Option<(PathBuf, File)>,
    cache: HashMap<u64, Rc<Cgroup>>,
}

/// `struct file_handle` of `open_by_handle_at(2)`, with room for one id.
#[repr(C)]
struct Handle {
    bytes: c_uint,
    kind: c_int,
    id: [u8; 8],
}

impl Cgroups {
    /// Takes the mounts of this process, and its `/proc/self/cgroup`.
    pub(crate) fn new(mounts: &[Mount], own: &str) -> Self {
        let mut all: Vec<_> = mounts.iter().filter(|mount| mount.fs == "cgroup2").collect();
        // One of the whole hierarchy first.
        all.sort_by_key(|mount| mount.root != "/");
        let mount = all.into_iter().find_map(|mount| {
            let point = PathBuf::from(&mount.point);
            File::open(&point).ok().map(|folder| (point, folder))
        });
        // The kernel lists the unified hierarchy once it has been mounted
        // (`proc_cgroup_show`, kernel/cgroup/cgroup.c, 5.10 to 7.3).
        let is_unified = mount.is_some() || own.lines().any(|line| line.starts_with("0::"));
        Self { is_unified, mount, cache: HashMap::new() }
    }

    /// The cgroup with this id. Without a unified hierarchy `None`: there the id is no task's.
    pub(crate) fn get(&mut self, id: u64) -> Option<Rc<Cgroup>> {
        if !self.is_unified {
            return None;
        }
        if let Some(known) = self.cache.get(&id) {
            return Some(Rc::clone(known));
        }
        let path = self.mount.as_ref().and_then(|(point, folder)| path_of(point, folder, id));
        let container = path.as_deref().and_then(container).map(SmolStr::new);
        let found = Rc::new(Cgroup { path: path.map(SmolStr::new), container });
        if self.cache.len() >= CACHED {
            self.cache.clear();
        }
        self.cache.insert(id, Rc::clone(&found));
        Some(found)
    }
}

/// The path of a cgroup below the mount of its hierarchy. `None` if it is gone, or outside the mount, or
/// without `CAP_DAC_READ_SEARCH`.
fn path_of(point: &Path, folder: &File, id: u64) -> Option<String> {
    let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id: id.to_ne_bytes() };
    // SAFETY: the handle has as many bytes as it says, and lives as long as the call, which only reads it.
    let opened = unsafe {
        libc::open_by_handle_at(
            folder.as_raw_fd(),
            (&raw mut handle).cast(),
            libc::O_PATH | libc::O_CLOEXEC,
        )
    };
    if opened < 0 {
        return None;
    }
    // SAFETY: the call has just opened it, and nothing else owns it.
    let opened = unsafe { OwnedFd::from_raw_fd(opened) };
    let path = std::fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).ok()?;
    let below = path.strip_prefix(point).ok()?;
    Some(format!("/{}", below.display()))
}

/// The container id in a cgroup's path, or the uid of the pod if no container is named: the last part of
/// the path that has one, because containers nest. Runtimes name their cgroups `ID`, or `RUNTIME-ID.scope`
/// with systemd: Docker, Podman, containerd and CRI-O with 64 hexadecimal digits. The kubelet names a pod's
/// `podUID`, or `…-podUID.slice` with `_` for each `-`.
fn container(path: &str) -> Option<&str> {
    let names = || path.split('/').rev().map(|name| name.split('.').next().unwrap_or(name));
    let mut ids = names().map(|name| name.rsplit_once('-').map_or(name, |(_, id)| id));
    let mut uids = names().filter_map(|name| name.rsplit_once("pod").map(|(_, uid)| uid));
    let id = ids.find(|id| is_container_id(id));
    id.or_else(|| uids.find(|uid| is_pod_uid(uid)))
}

fn is_container_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A UUID; a static pod's is the hash of its manifest, 32 hexadecimal digits.
fn is_pod_uid(uid: &str) -> bool {
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    digits == 32
        && matches!(uid.len(), 32 | 36)
        && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4e1d2c3b4a59687766554433221100ffeeddccbbaa99887766554433221100";

    #[test]
    fn the_cgroups_of_runtimes_name_a_container() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
            format!("/kubepods/burstable/pod0c1f2a3b-1111-2222-3333-444455556666/{ID}"),
            format!(
                "/kubepods.slice/kubepods-pod0c1f2a3b_1111_2222_3333_444455556666.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods.slice/kubepods-besteffort.slice/crio-{ID}.scope/init.scope"),
        ] {
            assert_eq!(container(&path), Some(ID), "{path}");
        }
    }

    #[test]
    fn the_innermost_container_counts() {
        let inner = ID.replace("3f4e", "aaaa");
        let path = format!("/docker/{ID}/kubelet/kubepods/besteffort/{inner}");
        assert_eq!(container(&path), Some(inner.as_str()));
    }

    #[test]
    fn a_pod_without_a_container_has_its_uid() {
        for (path, uid) in [
            (
                "/kubepods/burstable/pod0c1f2a3b-1111-2222-3333-444455556666",
                "0c1f2a3b-1111-2222-3333-444455556666",
            ),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod0c1f2a3b_1111_2222_3333_444455556666.slice",
                "0c1f2a3b_1111_2222_3333_444455556666",
            ),
            ("/kubepods/pod0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef"),
        ] {
            assert_eq!(container(path), Some(uid), "{path}");
        }
    }

    #[test]
    fn other_cgroups_name_none() {
        for path in [
            "/",
            "",
            "/system.slice/ssh.service",
            "/user.slice/user-0.slice/session-1.scope",
            "/kubepods/burstable",
            "/podman",
            "/a/deadbeef",
            "/größe/☃-1",
        ] {
            assert_eq!(container(path), None, "{path}");
        }
    }

    #[test]
    fn without_a_unified_hierarchy_there_is_no_cgroup() {
        let mut cgroups = Cgroups::new(&[], "4:memory:/a\n1:cpu:/a\n");
        assert_eq!(cgroups.get(1), None);
        let mut unmounted = Cgroups::new(&[], "4:memory:/a\n0::/a\n");
        assert_eq!(unmounted.get(1).as_deref(), Some(&Cgroup::default()));
    }
}
