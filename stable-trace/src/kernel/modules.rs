//! Detects that modules were loaded or removed: their functions come and go with them.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// A number that changes when a module is loaded, removed, or loaded at another address.
pub fn fingerprint() -> u64 {
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
