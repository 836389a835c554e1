//! Detects that modules were loaded or removed: their functions come and go with them.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::fs::MetadataExt as _,
};

/// A module from its loading to its removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoadedModule {
    name: String,
    /// The inode number of its folder in `/sys/module`, which sysfs gives only once (`__kernfs_new_node`,
    /// fs/kernfs/dir.c, 5.10 to 7.3); `None` if it is not loaded.
    folder: Option<u64>,
}

impl LoadedModule {
    /// The module of this name, loaded or not.
    pub(crate) fn find(name: &str) -> Self {
        Self { name: name.to_owned(), folder: folder(name) }
    }

    /// Whether it is still loaded. False also if it was loaded again.
    pub(crate) fn is_loaded(&self) -> bool {
        self.folder.is_some() && folder(&self.name) == self.folder
    }
}

fn folder(module: &str) -> Option<u64> {
    Some(std::fs::metadata(format!("/sys/module/{module}")).ok()?.ino())
}

/// A number that changes when a module is loaded, removed, or loaded at another address.
pub(crate) fn fingerprint() -> u64 {
    hash_of(&std::fs::read_to_string("/proc/modules").unwrap_or_default())
}

/// Hashes names and addresses of `/proc/modules` (`m_show`, kernel/module/procfs.c, 6.12), but not
/// the use counts, which change all the time.
fn hash_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        words.next().hash(&mut hasher);
        words.nth(4).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_change_the_fingerprint_but_use_counts_do_not() {
        let now = hash_of(
            "xfs 1699840 1 - Live 0xffffffffc0a00000\next4 1 0 - Live 0xffffffffc0100000\n",
        );
        let used = hash_of(
            "xfs 1699840 2 - Live 0xffffffffc0a00000\next4 1 9 - Live 0xffffffffc0100000\n",
        );
        assert_eq!(now, used);
        assert_ne!(now, hash_of("xfs 1699840 1 - Live 0xffffffffc0a00000\n"));
        assert_ne!(
            now,
            hash_of(
                "xfs 1699840 1 - Live 0xffffffffc0b00000\next4 1 0 - Live 0xffffffffc0100000\n"
            )
        );
    }
}
