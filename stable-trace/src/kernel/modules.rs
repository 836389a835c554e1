//! Which modules are loaded, as far as a change matters: their functions come and go with them.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// A number that changes when a module is loaded, removed, or loaded at another address.
#[must_use]
pub fn fingerprint() -> u64 {
    of(&std::fs::read_to_string("/proc/modules").unwrap_or_default())
}

/// Names and addresses of `/proc/modules` (`m_show`, kernel/module/procfs.c, 6.12), without the use
/// counts between them, which change all the time.
fn of(text: &str) -> u64 {
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
    fn uses_do_not_count_but_names_and_addresses_do() {
        let now =
            of("xfs 1699840 1 - Live 0xffffffffc0a00000\next4 1 0 - Live 0xffffffffc0100000\n");
        let used =
            of("xfs 1699840 2 - Live 0xffffffffc0a00000\next4 1 9 - Live 0xffffffffc0100000\n");
        assert_eq!(now, used);
        assert_ne!(now, of("xfs 1699840 1 - Live 0xffffffffc0a00000\n"));
        assert_ne!(
            now,
            of("xfs 1699840 1 - Live 0xffffffffc0b00000\next4 1 0 - Live 0xffffffffc0100000\n")
        );
    }
}
