//! The processes that serve FUSE file systems.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use stable_trace_analysis::{event::TaskState, units::DeviceId};
use stable_trace_common::backing::dev_t;

use crate::kernel::{mountinfo::Mount, process_tree};

/// A file system without a known server is searched for again after this time: the search opens every
/// process's list of files.
const SEARCH_INTERVAL: Duration = Duration::from_secs(10);

/// A server that was found is taken for the server for this time.
const TRUST: Duration = Duration::from_secs(1);

/// File systems that are remembered. Beyond that all are searched for again.
const REMEMBERED: usize = 64;

/// Finds servers, and remembers them.
pub(crate) struct FuseServers {
    proc: PathBuf,
    known: HashMap<DeviceId, Known>,
}

struct Known {
    /// Its pid, and the descriptor of its connection.
    server: Option<(u32, PathBuf)>,
    checked_at: Instant,
}

impl FuseServers {
    pub(crate) fn new(proc: &Path) -> Self {
        Self { proc: proc.to_owned(), known: HashMap::new() }
    }

    /// The process that has the connection of this file system open. `None` if there is none, or if it cannot
    /// be told from others.
    pub(crate) fn get(&mut self, dev: DeviceId, mounts: &[Mount]) -> Option<u32> {
        let now = Instant::now();
        if let Some(known) = self.known.get_mut(&dev) {
            let age = now.saturating_duration_since(known.checked_at);
            match &known.server {
                Some((pid, _)) if age < TRUST => return Some(*pid),
                Some((pid, descriptor))
                    if process_tree::descriptors(&self.proc, *pid).is_some()
                        && is_connection(descriptor) =>
                {
                    known.checked_at = now;
                    return Some(*pid);
                }
                None if age < SEARCH_INTERVAL => return None,
                _ => {}
            }
        }
        let server = self.search(dev, mounts);
        let pid = server.as_ref().map(|(pid, _)| *pid);
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(dev, Known { server, checked_at: now });
        pid
    }

    /// What a process does; `None` if it has ended.
    pub(crate) fn state(&self, pid: u32) -> Option<TaskState> {
        process_tree::state(&self.proc, pid, pid)
    }

    /// The lowest pid whose descriptor belongs to the connection: a server may have forked.
    fn search(&self, dev: DeviceId, mounts: &[Mount]) -> Option<(u32, PathBuf)> {
        let mut unnamed = Vec::new();
        let mut pids: Vec<u32> = numbers(&self.proc).collect();
        pids.sort_unstable();
        for pid in pids {
            let Some(folder) = process_tree::descriptors(&self.proc, pid) else {
                continue;
            };
            for number in numbers(&folder) {
                let descriptor = folder.join(number.to_string());
                if !is_connection(&descriptor) {
                    continue;
                }
                let info = folder.with_file_name("fdinfo").join(number.to_string());
                match connection(&fs::read_to_string(info).unwrap_or_default()) {
                    Some(number) if number == dev_t(dev.major, dev.minor) => {
                        return Some((pid, descriptor));
                    }
                    Some(_) => {}
                    None => unnamed.push((pid, descriptor)),
                }
            }
        }
        // The kernel does not say whose connection it is: certain only if there is one.
        let file_systems = mounts.iter().filter(|mount| is_fuse(&mount.fs));
        let file_systems: HashSet<_> = file_systems.map(|mount| mount.dev).collect();
        let processes: HashSet<_> = unnamed.iter().map(|(pid, _)| *pid).collect();
        let certain = file_systems.len() == 1 && processes.len() == 1;
        unnamed.into_iter().next().filter(|_| certain)
    }
}

/// Whether a file system type is served through `/dev/fuse`.
pub(crate) fn is_fuse(fs: &str) -> bool {
    fs == "fuse" || fs == "fuseblk" || fs.starts_with("fuse.") || fs.starts_with("fuseblk.")
}

fn is_connection(descriptor: &Path) -> bool {
    fs::read_link(descriptor).is_ok_and(|target| target == Path::new("/dev/fuse"))
}

/// The connection of a descriptor of `/dev/fuse`: the number of the file system's device, in the kernel's
/// form (`fuse_dev_show_fdinfo`, fs/fuse/dev.c, 6.18; not in 6.12).
fn connection(info: &str) -> Option<u32> {
    info.lines().find_map(|line| line.strip_prefix("fuse_connection:")?.trim().parse().ok())
}

/// The names in a folder that are numbers.
fn numbers(folder: &Path) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::kernel::mountinfo::parse;

    /// `/proc` with a process for each entry: its pid, and what the kernel says of its connection.
    fn proc(processes: &[(u32, &str)]) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        for (pid, info) in processes {
            let folder = proc.path().join(pid.to_string());
            for name in ["fd", "fdinfo"] {
                fs::create_dir_all(folder.join(name)).unwrap();
            }
            symlink("/dev/null", folder.join("fd/0")).unwrap();
            symlink("/dev/fuse", folder.join("fd/3")).unwrap();
            fs::write(folder.join("fdinfo/3"), info).unwrap();
        }
        proc
    }

    fn mounts(lines: &[&str]) -> Vec<Mount> {
        parse(&lines.concat())
    }

    const ONE: &str = "40 1 0:39 / /a rw - fuse.one one rw\n";
    const TWO: &str = "41 1 0:40 / /b rw - fuse two rw\n";

    #[test]
    fn the_connection_tells_the_server() {
        let proc = proc(&[(7, "fuse_connection:\t40\n"), (9, "fuse_connection:\t39\n")]);
        let mut servers = FuseServers::new(proc.path());
        let mounts = mounts(&[ONE, TWO]);
        assert_eq!(servers.get(DeviceId::new(0, 39), &mounts), Some(9));
        assert_eq!(servers.get(DeviceId::new(0, 40), &mounts), Some(7));
        assert_eq!(servers.get(DeviceId::new(0, 41), &mounts), None);
    }

    #[test]
    fn without_connections_only_a_single_server_is_certain() {
        let single = proc(&[(7, "pos:\t0\n")]);
        let dev = DeviceId::new(0, 39);
        assert_eq!(FuseServers::new(single.path()).get(dev, &mounts(&[ONE])), Some(7));
        assert_eq!(FuseServers::new(single.path()).get(dev, &mounts(&[ONE, TWO])), None);
        let double = proc(&[(7, ""), (8, "")]);
        assert_eq!(FuseServers::new(double.path()).get(dev, &mounts(&[ONE])), None);
    }

    #[test]
    fn a_block_device_has_major_and_minor() {
        let proc = proc(&[(7, "fuse_connection:\t8388609\n")]);
        let mounts = mounts(&["40 1 8:1 / /a rw - fuseblk /dev/sda1 rw\n"]);
        assert_eq!(FuseServers::new(proc.path()).get(DeviceId::new(8, 1), &mounts), Some(7));
    }

    #[test]
    fn types_of_fuse_are_known() {
        for (fs, expected) in [
            ("fuse", true),
            ("fuse.sshfs", true),
            ("fuseblk", true),
            ("fusectl", false),
            ("ext4", false),
        ] {
            assert_eq!(is_fuse(fs), expected, "{fs}");
        }
    }
}
