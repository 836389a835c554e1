//! The processes of this machine: which created which, and what they do.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use stable_trace_analysis::event::TaskState;

/// A process and its descendants, each after its parent. A process whose parent has exited belongs to
/// init or to a subreaper, so it is not found.
pub(crate) fn with_descendants(proc: &Path, root: u32) -> io::Result<Vec<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir(proc)? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that has exited meanwhile is skipped.
        if let Some(parent) = parent(proc, pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut seen = BTreeSet::from([root]);
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        let new = children.remove(pid).unwrap_or_default();
        found.extend(new.into_iter().filter(|child| seen.insert(*child)));
        at += 1;
    }
    Ok(found)
}

/// The parent's pid.
pub(crate) fn parent(proc: &Path, pid: u32) -> Option<u32> {
    field(&proc.join(pid.to_string()), "PPid:")?.parse().ok()
}

/// What a thread does; `None` if it has ended.
pub(crate) fn state(proc: &Path, pid: u32, tid: u32) -> Option<TaskState> {
    let folder = proc.join(pid.to_string()).join("task").join(tid.to_string());
    TaskState::of_letter(field(&folder, "State:")?.chars().next()?)
}

/// The folder with the descriptors of a process; `None` if to look into it may block.
///
/// On some kernels (seen on 6.18.44) reads of `fd`, `stat`, `wchan` and `stack` block while the process executes another
/// program. The process closes files in that system call, so it may wait for a server that does not answer. It has one
/// thread then, in an uninterruptible sleep.
pub(crate) fn descriptors(proc: &Path, pid: u32) -> Option<PathBuf> {
    let folder = proc.join(pid.to_string());
    let is = |name, value| field(&folder, name).is_some_and(|found| found == value);
    let may_execute = is("State:", "D") && is("Threads:", "1");
    (!may_execute).then(|| folder.join("fd"))
}

/// The first word of a line of `status` (`proc_pid_status`, fs/proc/array.c), which can always be read.
fn field(folder: &Path, name: &str) -> Option<String> {
    let status = fs::read(folder.join("status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_ascii_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_come_after_their_parents() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, name, parent) in
            [(1, "init", 0), (9, "PPid: 1", 30), (20, "sh", 1), (30, "wac", 20), (40, "other", 1)]
        {
            let folder = proc.path().join(pid.to_string());
            fs::create_dir(&folder).unwrap();
            let status =
                format!("Name:\t{name}\nState:\tS (sleeping)\nPid:\t{pid}\nPPid:\t{parent}\n");
            fs::write(folder.join("status"), status).unwrap();
        }
        fs::create_dir(proc.path().join("self")).unwrap();
        assert_eq!(with_descendants(proc.path(), 20).unwrap(), [20, 30, 9]);
        assert_eq!(with_descendants(proc.path(), 40).unwrap(), [40]);
        assert_eq!(with_descendants(proc.path(), 1).unwrap(), [1, 20, 40, 30, 9]);
    }

    #[test]
    fn descriptors_of_a_process_that_may_execute_another_program_are_not_read() {
        let proc = tempfile::tempdir().unwrap();
        let folder = proc.path().join("7");
        fs::create_dir(&folder).unwrap();
        let is_read = |state: &str, threads: u32| {
            let status = format!("Name:\tdd\nState:\t{state}\nThreads:\t{threads}\n");
            fs::write(folder.join("status"), status).unwrap();
            descriptors(proc.path(), 7).is_some()
        };
        assert!(!is_read("D (disk sleep)", 1));
        assert!(is_read("D (disk sleep)", 2) && is_read("S (sleeping)", 1));
    }

    #[test]
    fn the_state_of_a_thread_is_a_letter() {
        let proc = tempfile::tempdir().unwrap();
        let folder = proc.path().join("7/task/8");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("status"), "Name:\tState: R\nState:\tT (stopped)\n").unwrap();
        assert_eq!(state(proc.path(), 7, 8), Some(TaskState::Stopped));
        assert_eq!(state(proc.path(), 7, 9), None);
    }
}
