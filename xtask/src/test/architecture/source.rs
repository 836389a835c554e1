//! Parses one source file into its modules and the paths that each module names.
//!
//! Items under `#[cfg(test)]` are left out.

use std::collections::BTreeSet;
use std::mem;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, Meta, Token, UseTree};

/// A path, segment by segment.
pub(super) type Path = Vec<String>;

/// A module: a whole file, or an inline `mod name { … }`.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// Each `mod name;`, with the value of its `#[path]`.
    pub(super) declared: Vec<(String, Option<String>)>,
    pub(super) inline: Vec<(String, Module)>,
    pub(super) imports: Vec<Import>,
    /// The names of the items that the module defines.
    pub(super) items: BTreeSet<String>,
    /// The paths outside of `use` declarations that have two segments or more.
    pub(super) paths: BTreeSet<Path>,
}

/// One name that a `use` declaration imports.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) path: Path,
    /// The name that the module knows it by; `None` for a glob.
    pub(super) name: Option<String>,
}

/// Parses the text of a file.
pub(super) fn parse(text: &str) -> syn::Result<Module> {
    let file = syn::parse_file(text)?;
    if is_test_only(&file.attrs) {
        return Ok(Module::default());
    }
    let mut reader = Reader::default();
    reader.visit_file(&file);
    Ok(reader.module)
}

#[derive(Default)]
struct Reader {
    module: Module,
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_test_only(attributes(item)) {
            return;
        }
        self.module.items.extend(name(item));
        match item {
            Item::Mod(module) => {
                let name = module.ident.to_string();
                match &module.content {
                    None => self.module.declared.push((name, path_attribute(&module.attrs))),
                    Some((_, items)) => {
                        let outer = mem::take(&mut self.module);
                        for item in items {
                            self.visit_item(item);
                        }
                        let inner = mem::replace(&mut self.module, outer);
                        self.module.inline.push((name, inner));
                    }
                }
            }
            Item::Use(item) => flatten(&item.tree, &mut Vec::new(), &mut self.module.imports),
            item => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            _ => return visit::visit_impl_item(self, item),
        };
        if !is_test_only(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Path =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.module.paths.insert(segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        scan(call.tokens.clone(), &mut self.module.paths);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            scan(list.tokens.clone(), &mut self.module.paths);
        }
    }
}

/// Collects the paths in the tokens of a macro call or an attribute, which may have any syntax.
fn scan(tokens: TokenStream, paths: &mut BTreeSet<Path>) {
    let mut path = Path::new();
    // Colons since the last identifier of `path`.
    let mut colons = 0;
    let mut end = |path: &mut Path| {
        let path = mem::take(path);
        if path.len() > 1 {
            paths.insert(path);
        }
    };
    let mut groups = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                if colons != 2 {
                    end(&mut path);
                }
                path.push(ident.to_string());
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Group(group) => {
                end(&mut path);
                groups.push(group.stream());
            }
            TokenTree::Literal(literal) => {
                end(&mut path);
                // `#[serde(with = "crate::module")]`
                let text = literal.to_string();
                let text = text.trim_matches('"');
                if text.starts_with("crate::") || text.starts_with("super::") {
                    path.extend(text.split("::").map(str::to_owned));
                    end(&mut path);
                }
            }
            TokenTree::Punct(_) => end(&mut path),
        }
    }
    end(&mut path);
    for group in groups {
        scan(group, paths);
    }
}

/// Adds the imports of a `use` tree below `prefix`.
fn flatten(tree: &UseTree, prefix: &mut Path, imports: &mut Vec<Import>) {
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            flatten(&path.tree, prefix, imports);
            prefix.pop();
        }
        UseTree::Name(name) => {
            let mut path = prefix.clone();
            // `use module::{self}` imports the module.
            if name.ident != "self" {
                path.push(name.ident.to_string());
            }
            let name = path.last().cloned();
            imports.push(Import { path, name });
        }
        UseTree::Rename(rename) => {
            let mut path = prefix.clone();
            if rename.ident != "self" {
                path.push(rename.ident.to_string());
            }
            imports.push(Import { path, name: Some(rename.rename.to_string()) });
        }
        UseTree::Glob(_) => imports.push(Import { path: prefix.clone(), name: None }),
        UseTree::Group(group) => {
            group.items.iter().for_each(|tree| flatten(tree, prefix, imports));
        }
    }
}

/// Whether an item exists in test builds only: `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn is_test_only(attributes: &[Attribute]) -> bool {
    let conditions = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    conditions
        .filter_map(|attribute| attribute.parse_args::<Meta>().ok())
        .any(|meta| needs_test(&meta))
}

fn needs_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => list
            .parse_args_with(syn::punctuated::Punctuated::<Meta, Token![,]>::parse_terminated)
            .is_ok_and(|all| all.iter().any(needs_test)),
        _ => false,
    }
}

/// The value of `#[path = "…"]`.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        text.split("::").map(str::to_owned).collect()
    }

    fn import(text: &str, name: Option<&str>) -> Import {
        Import { path: path(text), name: name.map(str::to_owned) }
    }

    #[test]
    fn use_trees_become_one_import_per_name() {
        let module = parse("pub use crate::a::{self, b::C as D, e::*}; use f;").unwrap();
        assert_eq!(
            module.imports,
            [
                import("crate::a", Some("a")),
                import("crate::a::b::C", Some("D")),
                import("crate::a::e", None),
                import("f", Some("f")),
            ]
        );
    }

    #[test]
    fn paths_in_code_macros_and_attributes_are_found() {
        let module = parse(
            "#[serde(with = \"crate::text\")] struct A { a: crate::b::C }
             fn f() { crate::d::e(); println!(\"{}\", super::g::H.len()); }",
        )
        .unwrap();
        for expected in ["crate::text", "crate::b::C", "crate::d::e", "super::g::H"] {
            assert!(module.paths.contains(&path(expected)), "{expected}: {:?}", module.paths);
        }
    }

    #[test]
    fn test_only_items_are_left_out() {
        let module = parse(
            "#[cfg(test)] mod tests;
             #[cfg(all(test, unix))] mod more { use crate::a::B; }
             #[cfg(test)] use crate::c::D;
             struct E;
             impl E { #[cfg(test)] fn f() { crate::g::h(); } }",
        )
        .unwrap();
        assert!(module.declared.is_empty() && module.inline.is_empty());
        assert!(module.imports.is_empty() && module.paths.is_empty(), "{module:?}");
        assert!(parse("#![cfg(test)] use crate::a::B;").unwrap().imports.is_empty());
    }

    #[test]
    fn inline_modules_keep_their_own_imports() {
        let module = parse("mod a { use super::B; mod c; } #[path = \"x.rs\"] mod d;").unwrap();
        assert_eq!(module.declared, [("d".to_owned(), Some("x.rs".to_owned()))]);
        let (name, inner) = &module.inline[0];
        assert_eq!(
            (name.as_str(), &inner.imports[..]),
            ("a", &[import("super::B", Some("B"))][..])
        );
        assert_eq!(inner.declared, [("c".to_owned(), None)]);
    }
}
