//! Files and functions stay short; those that are not may not grow.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Problem;
use crate::source::{code_only, functions, lines_without_tests, without_tests};
use crate::tree::Tree;

/// Lines of a file without its tests.
const FILE_LINES: usize = 800;
/// Lines of a function.
const FUNCTION_LINES: usize = 100;
/// Known offenders with their size: `PATH LINES` or `PATH::FUNCTION LINES`.
const BASELINE: &str = "xtask/sizes.txt";

const HEADER: &str = "\
# Files over 800 lines without tests and functions over 100 lines; none may grow.
# Written by `cargo run -p xtask -- tidy --accept-sizes`; adding a line wants a reason in the change's description.
";

/// Everything over its ceiling.
fn offenders(tree: &Tree) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for (path, text) in tree.production() {
        let lines = lines_without_tests(text);
        if lines > FILE_LINES {
            out.insert(path.to_owned(), lines);
        }
        for (name, _, lines) in functions(&without_tests(&code_only(text))) {
            if lines > FUNCTION_LINES {
                let worst = out.entry(format!("{path}::{name}")).or_insert(0);
                *worst = lines.max(*worst);
            }
        }
    }
    out
}

fn baseline(tree: &Tree) -> BTreeMap<&str, usize> {
    let lines = tree.text(BASELINE).unwrap_or_default().lines().filter(|l| !l.starts_with('#'));
    lines.filter_map(|l| l.rsplit_once(' ')).filter_map(|(name, size)| Some((name, size.parse().ok()?))).collect()
}

/// Reports new and growing offenders.
pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let known = baseline(tree);
    let mut out = Vec::new();
    for (name, lines) in offenders(tree) {
        let ceiling = if name.contains("::") { FUNCTION_LINES } else { FILE_LINES };
        match known.get(name.as_str()) {
            None => out.push(format!("{name}: {lines} lines, the ceiling is {ceiling}")),
            Some(before) if lines > *before => {
                out.push(format!("{name}: grew from {before} to {lines} lines, the ceiling is {ceiling}"));
            }
            Some(_) => {}
        }
    }
    out
}

/// Writes the baseline anew.
pub(super) fn write(tree: &Tree, root: &Path) -> Result<()> {
    let mut text = HEADER.to_owned();
    for (name, lines) in offenders(tree) {
        text.push_str(&format!("{name} {lines}\n"));
    }
    fs::write(root.join(BASELINE), text).context(BASELINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_and_growing_offenders_fail() {
        let long = "const A: u8 = 1;\n".repeat(801);
        let check = |source: &str, known: &str| check(&Tree::of(&[("crates/a/src/b.rs", source), (BASELINE, known)]));
        assert!(check(&"const A: u8 = 1;\n".repeat(800), "").is_empty());
        assert_eq!(check(&long, "").len(), 1);
        assert_eq!(check(&long, "crates/a/src/b.rs 800\n").len(), 1);
        assert!(check(&long, "# known\ncrates/a/src/b.rs 801\n").is_empty());
    }

    #[test]
    fn measures_functions_but_not_tests() {
        let body = "x();\n".repeat(100);
        let source = format!("fn long() {{\n{body}}}\n");
        assert_eq!(check(&Tree::of(&[("a/src/b.rs", &source)])), ["a/src/b.rs::long: 102 lines, the ceiling is 100"]);
        let source = format!("#[cfg(test)]\nmod tests {{\nfn long() {{\n{body}}}\n}}\n");
        assert!(check(&Tree::of(&[("a/src/b.rs", &source)])).is_empty());
        assert!(check(&Tree::of(&[("a/src/b/tests.rs", &format!("fn long() {{\n{body}}}\n"))])).is_empty());
        // A field for tests ends with its comma.
        let source = format!("struct A {{\n#[cfg(test)]\nb: Option<u8>,\n}}\nfn long() {{\n{body}}}\n");
        assert_eq!(check(&Tree::of(&[("a/src/b.rs", &source)])), ["a/src/b.rs::long: 102 lines, the ceiling is 100"]);
    }
}
