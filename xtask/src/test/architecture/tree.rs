//! The module tree of one compile target, and which file each path leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path as FilePath, PathBuf};

use anyhow::{Context as _, Result, anyhow};

use super::source::{self, Module, Path};

/// Imports that are followed before a path counts as another crate's.
const MAX_IMPORTS: usize = 16;

/// Returns the text of a file, or `None` if it does not exist.
pub(super) type ReadFile<'a> = &'a dyn Fn(&FilePath) -> Result<Option<String>>;

/// The modules of a library or a binary that are compiled outside of tests.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<Path, Node>,
}

#[derive(Debug)]
struct Node {
    file: PathBuf,
    /// The path of the module that is the whole file.
    file_module: Path,
    module: Module,
}

/// A path with its start resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    /// In this crate, from its root on.
    Local(Path),
    /// In the crate that the first segment names.
    External(Path),
}

/// One use of a name in another place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub(super) from: PathBuf,
    pub(super) to: PathBuf,
    pub(super) name: String,
}

/// A path that a module names.
pub(super) struct Named<'a> {
    pub(super) file: &'a FilePath,
    pub(super) module: &'a [String],
    /// As it is written.
    pub(super) text: String,
    /// Whether it starts with a name that the module imports.
    pub(super) starts_imported: bool,
    pub(super) target: Resolved,
}

impl Tree {
    /// Reads the tree below `root`, which is `lib.rs` or `main.rs`.
    pub(super) fn load(root: &FilePath, read: ReadFile<'_>) -> Result<Self> {
        let text = read(root)?.ok_or_else(|| anyhow!("{} does not exist", root.display()))?;
        let mut tree = Self::default();
        let folder = root.parent().unwrap_or(root).to_path_buf();
        tree.add_file(root, &folder, &text, &Path::new(), read)?;
        Ok(tree)
    }

    /// Adds a file; its modules have their files in `folder`.
    fn add_file(
        &mut self,
        file: &FilePath,
        folder: &FilePath,
        text: &str,
        path: &Path,
        read: ReadFile<'_>,
    ) -> Result<()> {
        let module =
            source::parse(text).with_context(|| format!("{} does not parse", file.display()))?;
        self.add_module(file, folder, path.clone(), path, module, read)
    }

    fn add_module(
        &mut self,
        file: &FilePath,
        folder: &FilePath,
        path: Path,
        file_module: &Path,
        mut module: Module,
        read: ReadFile<'_>,
    ) -> Result<()> {
        for (name, inner) in std::mem::take(&mut module.inline) {
            let folder = folder.join(&name);
            self.add_module(file, &folder, child(&path, &name), file_module, inner, read)?;
        }
        for (name, attribute) in &module.declared {
            let candidates = match attribute {
                Some(relative) => vec![file.with_file_name(relative)],
                None => vec![folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")],
            };
            let mut found = None;
            for candidate in candidates {
                if let Some(text) = read(&candidate)? {
                    found = Some((candidate, text));
                    break;
                }
            }
            let (child_file, text) = found.with_context(|| {
                format!("{} declares `mod {name}`: no file has it", file.display())
            })?;
            self.add_file(&child_file, &folder.join(name), &text, &child(&path, name), read)?;
        }
        let node = Node { file: file.to_path_buf(), file_module: file_module.clone(), module };
        self.nodes.insert(path, node);
        Ok(())
    }

    /// Whether this is a module of the tree.
    pub(super) fn has(&self, path: &[String]) -> bool {
        self.nodes.contains_key(path)
    }

    /// Every path that a module names, with its target.
    pub(super) fn named(&self) -> impl Iterator<Item = Named<'_>> {
        self.nodes.iter().flat_map(|(module, node)| {
            let imports = &node.module.imports;
            let paths = imports.iter().map(|import| &import.path).chain(&node.module.paths);
            paths.map(|path| Named {
                file: &node.file,
                module,
                text: path.join("::"),
                starts_imported: imports.iter().any(|import| import.name.as_ref() == path.first()),
                target: self.resolve(module, path, 0),
            })
        })
    }

    /// The uses between files; a file that uses its own submodules is left out.
    pub(super) fn edges(&self) -> BTreeSet<Edge> {
        let mut edges = BTreeSet::new();
        for named in self.named() {
            let Resolved::Local(path) = named.target else { continue };
            let Some((module, name)) = self.owner(&path, 0) else { continue };
            let (Some(from), Some(to)) = (self.nodes.get(named.module), self.nodes.get(&module))
            else {
                continue;
            };
            if !to.file_module.starts_with(&from.file_module) {
                edges.insert(Edge { from: from.file.clone(), to: to.file.clone(), name });
            }
        }
        edges
    }

    /// The module that defines what a path from the crate's root names, and the name in it.
    pub(super) fn owner(&self, path: &[String], depth: usize) -> Option<(Path, String)> {
        let length = (0..=path.len()).rev().find(|length| self.has(&path[..*length]))?;
        let (module, rest) = path.split_at(length);
        let Some((name, beyond)) = rest.split_first() else {
            return Some((module.to_vec(), module.last().cloned().unwrap_or_default()));
        };
        let here = Some((module.to_vec(), name.clone()));
        let node = &self.nodes.get(module)?.module;
        if node.items.contains(name) || depth > MAX_IMPORTS {
            return here;
        }
        for import in &node.imports {
            let Resolved::Local(mut target) = self.resolve(module, &import.path, 0) else {
                continue;
            };
            if import.name.as_ref() == Some(name) {
                target.extend_from_slice(beyond);
                // An import of itself has no other origin.
                return if target == path { here } else { self.owner(&target, depth + 1) };
            }
            let exports = |node: &Node| node.module.items.contains(name);
            if import.name.is_none() && self.nodes.get(&target).is_some_and(exports) {
                return Some((target, name.clone()));
            }
        }
        here
    }

    /// Resolves the start of a path as the module at `scope` sees it.
    fn resolve(&self, scope: &[String], path: &[String], depth: usize) -> Resolved {
        let external = || Resolved::External(path.to_vec());
        let Some((first, rest)) = path.split_first() else { return external() };
        let local = |scope: &[String]| Resolved::Local([scope, rest].concat());
        match first.as_str() {
            "crate" => return local(&[]),
            "self" => return local(scope),
            "super" => {
                let mut scope = scope;
                let mut path = path;
                while let Some(("super", rest)) =
                    path.split_first().map(|(first, rest)| (first.as_str(), rest))
                {
                    path = rest;
                    scope = scope.split_last().map_or(scope, |(_, above)| above);
                }
                return Resolved::Local([scope, path].concat());
            }
            _ => {}
        }
        if self.has(&child(scope, first)) {
            return Resolved::Local([scope, path].concat());
        }
        let imports = self.nodes.get(scope).map_or(&[][..], |node| &node.module.imports);
        let import = imports.iter().find(|import| {
            import.name.as_ref() == Some(first) && import.path.first() != Some(first)
        });
        match import {
            Some(import) if depth < MAX_IMPORTS => {
                match self.resolve(scope, &import.path, depth + 1) {
                    Resolved::Local(target) => Resolved::Local([&target, rest].concat()),
                    Resolved::External(target) => Resolved::External([&target, rest].concat()),
                }
            }
            _ => external(),
        }
    }
}

fn child(path: &[String], name: &str) -> Path {
    let mut path = path.to_vec();
    path.push(name.to_owned());
    path
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A tree of files given as texts; the first one is the root.
    pub(in super::super) fn tree(files: &[(&str, &str)]) -> Tree {
        let read = |path: &FilePath| {
            let found = files.iter().find(|(name, _)| FilePath::new(name) == path);
            Ok(found.map(|(_, text)| (*text).to_owned()))
        };
        Tree::load(FilePath::new(files[0].0), &read).unwrap()
    }

    fn edges(files: &[(&str, &str)]) -> Vec<String> {
        let text =
            |edge: Edge| format!("{} -> {}: {}", edge.from.display(), edge.to.display(), edge.name);
        tree(files).edges().into_iter().map(text).collect()
    }

    #[test]
    fn files_are_found_beside_and_below_their_parents() {
        let tree = tree(&[
            ("src/lib.rs", "mod a; mod b; #[cfg(test)] mod missing;"),
            ("src/a.rs", "mod c;"),
            ("src/a/c.rs", ""),
            ("src/b/mod.rs", "#[path = \"other.rs\"] mod d;"),
            ("src/b/other.rs", ""),
        ]);
        let paths: Vec<_> = tree.nodes.keys().map(|path| path.join("::")).collect();
        assert_eq!(paths, ["", "a", "a::c", "b", "b::d"]);
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let read = |path: &FilePath| Ok((path == "lib.rs").then(|| "mod a;".to_owned()));
        let error = Tree::load(FilePath::new("lib.rs"), &read).unwrap_err().to_string();
        assert_eq!(error, "lib.rs declares `mod a`: no file has it");
    }

    #[test]
    fn a_path_leads_to_the_file_that_defines_its_name() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::{D, E}; use super::b as other; fn f() { other::c::g(); }"),
            ("b/mod.rs", "mod c; mod e; pub use c::D; pub use e::*;"),
            ("b/c.rs", "pub struct D; pub fn g() {}"),
            ("b/e.rs", "pub struct E;"),
        ];
        assert_eq!(
            edges(&files),
            ["a.rs -> b/c.rs: D", "a.rs -> b/c.rs: g", "a.rs -> b/e.rs: E", "a.rs -> b/mod.rs: b"]
        );
    }

    #[test]
    fn a_parent_does_not_use_its_children_but_they_may_use_it() {
        let files = [
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "mod b; use b::C; pub struct D;"),
            ("a/b.rs", "use super::D; pub struct C;"),
        ];
        assert_eq!(edges(&files), ["a/b.rs -> a/mod.rs: D"]);
    }

    #[test]
    fn other_crates_are_external() {
        let tree = tree(&[("lib.rs", "use log; use std::fs; fn f() { fs::read(); log::max(); }")]);
        assert!(tree.named().all(|named| matches!(named.target, Resolved::External(_))));
        assert!(tree.named().any(|named| {
            named.target == Resolved::External(["std", "fs", "read"].map(str::to_owned).to_vec())
        }));
    }
}
