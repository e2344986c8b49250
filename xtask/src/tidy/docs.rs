//! Every file says what it is, and the generated parts of the documents are fresh.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Problem;
use crate::layers::layer_of;
use crate::tree::{Package, Tree};

const ARCHITECTURE: &str = "ARCHITECTURE.md";
const BEGIN: &str = "<!-- crates: written by `cargo run -p xtask -- tidy --write` -->\n";
const END: &str = "<!-- end of crates -->";
/// The least number of lines of a crate's own documentation.
const CRATE_DOC_LINES: usize = 5;

/// Files open with `//!`, and a crate's opens with its purpose and layer.
pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut out = Vec::new();
    for (path, text) in tree.rust() {
        if !text.starts_with("//! ") {
            out.push(format!("{path}: does not open with a `//!` line"));
        }
    }
    for package in &tree.packages {
        let Some((path, text)) = root_file(tree, package) else {
            out.push(format!("{}: neither src/lib.rs nor src/main.rs", package.dir));
            continue;
        };
        let doc: Vec<&str> = text.lines().take_while(|l| l.starts_with("//!")).collect();
        if doc.len() < CRATE_DOC_LINES {
            out.push(format!(
                "{path}: crate documentation has {} lines, at least {CRATE_DOC_LINES} say what it is",
                doc.len()
            ));
        }
        if !doc.iter().any(|l| l.to_lowercase().contains("layer")) {
            out.push(format!("{path}: crate documentation does not name its layer"));
        }
    }
    out
}

fn root_file<'a>(tree: &'a Tree, package: &Package) -> Option<(String, &'a str)> {
    ["lib", "main"].iter().find_map(|name| {
        let path = format!("{}/src/{name}.rs", package.dir);
        tree.text(&path).map(|text| (path, text))
    })
}

/// The first paragraph of the crate's documentation, as one line.
fn purpose(tree: &Tree, package: &Package) -> String {
    let text = root_file(tree, package).map(|(_, text)| text).unwrap_or_default();
    let lines = text.lines().map_while(|l| l.strip_prefix("//!")).map(str::trim);
    lines.take_while(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The crate table, by layer and folder.
fn crate_table(tree: &Tree) -> String {
    let mut packages: Vec<&Package> = tree.packages.iter().collect();
    packages.sort_by_key(|p| (layer_of(&p.dir), &p.dir));
    let mut out = String::from("\n| Crate | Layer | Purpose |\n|---|---|---|\n");
    for package in packages {
        let layer = layer_of(&package.dir).map(|l| format!("{l:?}")).unwrap_or_default();
        let line = format!("| [`{}`]({}) | {layer} | {} |\n", package.name, package.dir, purpose(tree, package));
        out.push_str(&line);
    }
    out.push('\n');
    out
}

/// The text with its generated part replaced, if it has the markers.
fn refreshed(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{table}{END}{after}"))
}

/// The committed table is what would be written now.
pub(super) fn generated(tree: &Tree) -> Vec<Problem> {
    let Some(text) = tree.text(ARCHITECTURE) else {
        return vec![format!("{ARCHITECTURE}: missing")];
    };
    match refreshed(text, &crate_table(tree)) {
        None => vec![format!("{ARCHITECTURE}: the markers of the crate table are missing")],
        Some(fresh) if fresh != text => {
            vec![format!("{ARCHITECTURE}: the crate table is stale; run `cargo run -p xtask -- tidy --write`")]
        }
        Some(_) => Vec::new(),
    }
}

/// Writes the generated parts anew.
pub(super) fn write(tree: &Tree, root: &Path) -> Result<()> {
    let text = tree.text(ARCHITECTURE).context(ARCHITECTURE)?;
    let fresh = refreshed(text, &crate_table(tree)).context("the markers of the crate table are missing")?;
    fs::write(root.join(ARCHITECTURE), fresh).context(ARCHITECTURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(lib: &str, architecture: &str) -> Tree {
        let mut tree = Tree::of(&[("crates/base/prims/src/lib.rs", lib), (ARCHITECTURE, architecture)]);
        let (name, dir) = ("base-prims".into(), "crates/base/prims".into());
        tree.packages.push(Package { name, dir, ..Package::default() });
        tree
    }

    #[test]
    fn wants_documentation() {
        let good = "//! Purpose.\n//!\n//! Layer: L0.\n//! a\n//! b\n";
        assert!(check(&tree(good, "")).is_empty());
        assert_eq!(check(&tree("//! Purpose.\n//! Layer: L0.\n", "")).len(), 1);
        assert_eq!(check(&tree("//! Purpose.\n//!\n//! a\n//! b\n//! c\n", "")).len(), 1);
        assert_eq!(check(&tree("fn a() {}\n", "")).len(), 3);
    }

    #[test]
    fn sees_stale_tables() {
        let lib = "//! Keys and\n//! addresses.\n//!\n";
        let stale = format!("# A\n{BEGIN}old\n{END}\nrest\n");
        assert_eq!(generated(&tree(lib, &stale)).len(), 1);
        let fresh = refreshed(&stale, &crate_table(&tree(lib, ""))).unwrap();
        assert!(fresh.contains("| [`base-prims`](crates/base/prims) | L0 | Keys and addresses. |\n"));
        assert!(fresh.ends_with("rest\n"));
        assert!(generated(&tree(lib, &fresh)).is_empty());
        assert_eq!(generated(&tree("//! Keys.\n", &fresh)).len(), 1);
        assert_eq!(generated(&tree(lib, "no markers")).len(), 1);
    }
}
