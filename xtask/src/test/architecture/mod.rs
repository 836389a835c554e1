//! Checks the workspace's code against `docs/architecture.md`: rooms use only rooms below them, and
//! files do not use each other in circles.

mod circles;
mod rooms;
mod source;
mod tree;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};

use self::circles::circles;
use self::rooms::{DOCUMENT, Order};
use self::tree::Tree;

/// The crates whose rooms have an order, each with the block of the document that states it.
const ORDERED: [(&str, &str); 2] =
    [("stable-trace", "order"), ("stable-trace-analysis", "order analysis")];

/// One line for each violation in the workspace at `root`.
pub(super) fn violations(root: &Path) -> Result<BTreeSet<String>> {
    let read = |path: &Path| read(&root.join(path));
    let mut violations = BTreeSet::new();
    for package in packages(root)? {
        let source = Path::new(&package).join("src");
        for target in ["lib.rs", "main.rs"].map(|name| source.join(name)) {
            if !root.join(&target).exists() {
                continue;
            }
            let tree = Tree::load(&target, &read)?;
            if let Some((_, block)) = ORDERED.iter().find(|(name, _)| *name == package) {
                let document = read(Path::new(DOCUMENT))?.unwrap_or_default();
                match Order::parse(&document, block) {
                    Ok(order) => violations.extend(order.violations(&tree)),
                    Err(error) => {
                        violations.insert(error.to_string());
                    }
                }
            }
            violations.extend(circles(&tree.edges()));
        }
    }
    Ok(violations)
}

/// The folders of the workspace that have a `Cargo.toml`.
fn packages(root: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(root).with_context(|| format!("cannot list {}", root.display()))?;
    let mut packages: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    packages.sort();
    Ok(packages)
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        text => text.map(Some).with_context(|| format!("cannot read {}", path.display())),
    }
}
