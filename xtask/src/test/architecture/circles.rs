//! Files that use each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::tree::Edge;

/// Names that are shown for each pair of files.
const MAX_NAMES: usize = 6;

/// One line for each group of files in which every file reaches every other one.
pub(super) fn circles(edges: &BTreeSet<Edge>) -> Vec<String> {
    let mut next: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
    for edge in edges {
        next.entry(&edge.from).or_default().insert(&edge.to);
    }
    let reach: BTreeMap<_, _> = next.keys().map(|file| (*file, reachable(&next, file))).collect();
    let mut circles = Vec::new();
    let mut seen = BTreeSet::new();
    for (file, targets) in &reach {
        if !targets.contains(file) || seen.contains(file) {
            continue;
        }
        let returns = |other: &&Path| reach.get(other).is_some_and(|back| back.contains(file));
        let members: BTreeSet<&Path> = targets.iter().copied().filter(returns).collect();
        circles.push(describe(edges, &members));
        seen.extend(members);
    }
    circles
}

fn reachable<'a>(next: &BTreeMap<&'a Path, BTreeSet<&'a Path>>, from: &Path) -> BTreeSet<&'a Path> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&Path> = next.get(from).into_iter().flatten().copied().collect();
    while let Some(file) = open.pop() {
        if found.insert(file) {
            open.extend(next.get(file).into_iter().flatten());
        }
    }
    found
}

fn describe(edges: &BTreeSet<Edge>, members: &BTreeSet<&Path>) -> String {
    let mut pairs: BTreeMap<(&Path, &Path), Vec<&str>> = BTreeMap::new();
    for Edge { from, to, name } in edges {
        if members.contains(from.as_path()) && members.contains(to.as_path()) {
            pairs.entry((from, to)).or_default().push(name);
        }
    }
    let pairs = pairs.into_iter().map(|((from, to), names)| {
        let more = if names.len() > MAX_NAMES { ", …" } else { "" };
        let names = names[..names.len().min(MAX_NAMES)].join(", ");
        format!("{} uses {} ({names}{more})", from.display(), to.display())
    });
    format!("circle of {} files: {}", members.len(), pairs.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::tree;
    use super::*;

    #[test]
    fn a_circle_is_named_with_what_ties_it() {
        let tree = tree(&[
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "use crate::c::C; pub struct B;"),
            ("c.rs", "use crate::a::A; use crate::d::D; pub struct C;"),
            ("d.rs", "pub struct D;"),
        ]);
        assert_eq!(
            circles(&tree.edges()),
            ["circle of 3 files: a.rs uses b.rs (B); b.rs uses c.rs (C); c.rs uses a.rs (A)"]
        );
    }

    #[test]
    fn a_tree_without_circles_is_accepted() {
        let tree = tree(&[
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "mod c; pub use c::C; pub struct A;"),
            ("a/c.rs", "use super::A; use crate::b::B; pub struct C;"),
            ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::a::C; }"),
        ]);
        assert_eq!(circles(&tree.edges()), [""; 0]);
    }
}
