//! The order of a crate's top-level modules ("rooms"): each one uses only those below it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

use super::tree::{Resolved, Tree};

/// Where the order is written.
pub(super) const DOCUMENT: &str = "docs/architecture.md";

/// Crates that count as a room of the crates that depend on them.
const CRATES: [(&str, &str); 2] =
    [("stable_trace_analysis", "analysis"), ("stable_trace_common", "common")];

/// The level of each room; 0 is the top.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order(BTreeMap<String, usize>);

impl Order {
    /// Reads the fenced block whose fence has `info` behind its backticks. Each line is a level, the
    /// top one first.
    pub(super) fn parse(document: &str, info: &str) -> Result<Self> {
        let mut lines = document.lines().map(str::trim);
        if !lines.any(|line| line.strip_prefix("```").is_some_and(|text| text.trim() == info)) {
            bail!("{DOCUMENT} has no block that starts with ```{info}");
        }
        let mut levels = BTreeMap::new();
        for (level, line) in lines.take_while(|line| !line.starts_with("```")).enumerate() {
            for room in line.split([' ', ',']).filter(|room| !room.is_empty()) {
                if levels.insert(room.to_owned(), level).is_some() {
                    bail!("{DOCUMENT} names room {room} twice in the block ```{info}");
                }
            }
        }
        Ok(Self(levels))
    }

    /// One line for each use of a room from below or from beside it, and for each room that the order
    /// does not name. Paths are checked as they are written: a room may re-export what lies below.
    pub(super) fn violations(&self, tree: &Tree) -> BTreeSet<String> {
        let mut violations = BTreeSet::new();
        // The import itself is checked.
        for named in tree.named().filter(|named| !named.starts_imported) {
            let Some(room) = named.module.first() else { continue };
            let Some(level) = self.0.get(room) else {
                violations.insert(format!("room {room} is not in the order in {DOCUMENT}"));
                continue;
            };
            let Some(target) = room_of(tree, &named.target) else { continue };
            let Some(target_level) = self.0.get(&target) else { continue };
            let relation = match target_level.cmp(level) {
                std::cmp::Ordering::Less => "above",
                std::cmp::Ordering::Equal if target != *room => "beside",
                _ => continue,
            };
            violations.insert(format!(
                "{}: room {room} uses room {target}, which stands {relation} it in {DOCUMENT} ({})",
                named.file.display(),
                named.text
            ));
        }
        violations
    }
}

/// The room that a path leads to; none for the crate's root and for crates that are no rooms.
fn room_of(tree: &Tree, target: &Resolved) -> Option<String> {
    match target {
        Resolved::External(path) => {
            let name = path.first()?;
            CRATES
                .iter()
                .find(|(crate_name, _)| crate_name == name)
                .map(|(_, room)| (*room).to_owned())
        }
        Resolved::Local(path) => match path.first() {
            Some(first) if tree.has(std::slice::from_ref(first)) => Some(first.clone()),
            // `lib.rs` may re-export it.
            _ => tree.owner(path, 0)?.0.into_iter().next(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::tree;
    use super::*;

    const ORDER: &str =
        "text\n```order\ntop\nleft right\nbottom\nanalysis\n```\n```order other\na\n```\n";

    fn violations(files: &[(&str, &str)]) -> Vec<String> {
        let order = Order::parse(ORDER, "order").unwrap();
        order.violations(&tree(files)).into_iter().collect()
    }

    #[test]
    fn the_block_is_found_by_its_fence() {
        assert_eq!(Order::parse(ORDER, "order").unwrap().0["right"], 1);
        assert_eq!(Order::parse(ORDER, "order other").unwrap().0["a"], 0);
        let error = Order::parse(ORDER, "order third").unwrap_err().to_string();
        assert_eq!(error, "docs/architecture.md has no block that starts with ```order third");
        assert!(Order::parse("```order\na\nb a\n```", "order").is_err());
    }

    #[test]
    fn a_room_may_use_rooms_below_it() {
        let files = [
            ("lib.rs", "mod top; mod left; mod bottom; use top::f;"),
            ("top.rs", "use crate::{left::A, bottom}; use stable_trace_analysis::B;"),
            ("left/mod.rs", "mod inner; pub struct A;"),
            ("left/inner.rs", "use super::A; use crate::bottom::C;"),
            ("bottom.rs", "pub struct C;"),
        ];
        assert_eq!(violations(&files), [""; 0]);
    }

    #[test]
    fn a_reversed_arrow_fails() {
        let files = [
            ("lib.rs", "mod top; mod bottom;"),
            ("top.rs", "pub struct A;"),
            ("bottom/mod.rs", "mod inner;"),
            ("bottom/inner.rs", "use crate::top::A;"),
        ];
        assert_eq!(
            violations(&files),
            ["bottom/inner.rs: room bottom uses room top, which stands above it in \
              docs/architecture.md (crate::top::A)"]
        );
    }

    #[test]
    fn an_inline_path_and_a_re_export_of_the_root_fail_too() {
        let inline = [
            ("lib.rs", "mod top; mod bottom; pub use top::A;"),
            ("top.rs", "pub struct A; pub fn f() {}"),
            ("bottom.rs", "fn g() { super::top::f(); } use crate::A;"),
        ];
        let found = violations(&inline);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn rooms_of_one_level_do_not_use_each_other() {
        let files = [
            ("lib.rs", "mod left; mod right;"),
            ("left.rs", "use crate::right::A;"),
            ("right.rs", "pub struct A;"),
        ];
        let found = violations(&files);
        assert!(found.len() == 1 && found[0].contains("which stands beside it"), "{found:?}");
    }

    #[test]
    fn a_room_without_a_level_fails() {
        let files = [("lib.rs", "mod cellar;"), ("cellar.rs", "use std::fs;")];
        assert_eq!(violations(&files), ["room cellar is not in the order in docs/architecture.md"]);
    }
}
