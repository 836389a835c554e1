//! The processes of this machine, and which created which.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

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

/// The parent's pid: the second field after the name, which may have parentheses and spaces
/// (`do_task_stat`, fs/proc/array.c).
pub(crate) fn parent(proc: &Path, pid: u32) -> Option<u32> {
    let stat = fs::read(proc.join(pid.to_string()).join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_come_after_their_parents() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, name, parent) in
            [(1, "init", 0), (9, "a) S 1 (b", 30), (20, "sh", 1), (30, "wac", 20), (40, "other", 1)]
        {
            let folder = proc.path().join(pid.to_string());
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("stat"), format!("{pid} ({name}) S {parent} 1 1\n")).unwrap();
        }
        fs::create_dir(proc.path().join("self")).unwrap();
        assert_eq!(with_descendants(proc.path(), 20).unwrap(), [20, 30, 9]);
        assert_eq!(with_descendants(proc.path(), 40).unwrap(), [40]);
        assert_eq!(with_descendants(proc.path(), 1).unwrap(), [1, 20, 40, 30, 9]);
    }
}
