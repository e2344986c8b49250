//! `FORMATS.md`: every byte format has its row, and what the row names exists.

use std::collections::BTreeSet;

use super::Problem;
use crate::source::code_only;
use crate::tree::Tree;

const FILE: &str = "FORMATS.md";
const COLUMNS: [&str; 7] = ["Format", "Reference", "Module", "Limits", "Vectors", "Fuzz", "Status"];

/// One row: the cells, by column.
struct Row<'a> {
    line: usize,
    cells: Vec<&'a str>,
}

impl<'a> Row<'a> {
    fn cell(&self, column: &str) -> &'a str {
        COLUMNS.iter().position(|c| *c == column).and_then(|i| self.cells.get(i)).copied().unwrap_or("")
    }

    /// What stands in backticks in that cell.
    fn quoted(&self, column: &str) -> impl Iterator<Item = &'a str> {
        self.cell(column).split('`').skip(1).step_by(2)
    }
}

/// The rows of the tables with the known columns; other tables of the file are prose.
fn rows(text: &str) -> Vec<Row<'_>> {
    let mut out = Vec::new();
    let mut inside = false;
    for (line, number) in text.lines().zip(1..) {
        let Some(cells) = line.trim().strip_prefix('|').and_then(|l| l.strip_suffix('|')) else {
            inside = false;
            continue;
        };
        let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
        if cells == COLUMNS {
            inside = true;
        } else if inside && !cells.iter().all(|c| c.chars().all(|c| c == '-')) {
            out.push(Row { line: number, cells });
        }
    }
    out
}

/// Does the path name a file, or (ending in `/`) a folder with files?
fn exists(tree: &Tree, path: &str) -> bool {
    if path.ends_with('/') { tree.files.keys().any(|f| f.starts_with(path)) } else { tree.files.contains_key(path) }
}

/// Each row names a module, vectors (or the test that pins it) and a fuzz target that exist.
pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let Some(text) = tree.text(FILE) else {
        return vec![format!("{FILE}: missing")];
    };
    let rows = rows(text);
    let mut out = Vec::new();
    if rows.is_empty() {
        out.push(format!("{FILE}: no table with the columns {}", COLUMNS.join(", ")));
    }
    for row in rows {
        let mut fail = |what: String| out.push(format!("{FILE}:{}: {}: {what}", row.line, row.cell("Format")));
        if row.cells.len() != COLUMNS.len() {
            fail(format!("{} cells, not {}", row.cells.len(), COLUMNS.len()));
            continue;
        }
        for column in ["Format", "Reference", "Limits"] {
            if row.cell(column).is_empty() {
                fail(format!("{column} is empty"));
            }
        }
        let status = row.cell("Status");
        let partial = status.strip_prefix("partial: ").is_some_and(|what| !what.is_empty());
        for column in ["Module", "Vectors", "Fuzz"] {
            // A format may wait for its vectors or fuzz target, but then it is not done.
            let waits = column != "Module" && partial && row.cell(column) == "none";
            if row.quoted(column).next().is_none() && !waits {
                fail(format!("{column} names nothing"));
            }
        }
        for path in row.quoted("Module").chain(row.quoted("Vectors")) {
            // What the reference publishes is not part of the project.
            if !path.starts_with("published/") && !exists(tree, path) {
                fail(format!("{path} does not exist"));
            }
        }
        let recorded = row.quoted("Vectors").any(|p| p.starts_with("vectors/") || p.starts_with("published/"));
        let labelled = ["self-pinned", "published"].iter().any(|word| row.cell("Vectors").starts_with(word));
        if !recorded && !labelled && row.cell("Vectors") != "none" {
            fail("Vectors names neither recorded files nor says `published` or `self-pinned`".into());
        }
        for path in row.quoted("Vectors").filter(|path| path.ends_with(".rs")) {
            if tree.text(path).is_some_and(|text| !text.contains("#[test]")) {
                fail(format!("{path} has no test that could pin anything"));
            }
        }
        for target in row.quoted("Fuzz") {
            if !exists(tree, &format!("fuzz/fuzz_targets/{target}.rs")) {
                fail(format!("fuzz/fuzz_targets/{target}.rs does not exist"));
            }
        }
        if status != "done" && !partial {
            fail(format!("status is `{status}`, neither `done` nor `partial: …`"));
        }
    }
    out
}

/// Every file of the wire family that defines encoded types belongs to a row.
pub(super) fn coverage(tree: &Tree) -> Vec<Problem> {
    let rows = tree.text(FILE).map(rows).unwrap_or_default();
    let modules: Vec<&str> = rows.iter().flat_map(|row| row.quoted("Module")).collect();
    let covered = |path: &str| {
        modules.iter().any(|module| {
            let folder = module.strip_suffix(".rs").map(|stem| format!("{stem}/"));
            path == *module
                || (module.ends_with('/') && path.starts_with(module))
                || folder.is_some_and(|folder| path.starts_with(&folder))
        })
    };
    let wire = |path: &str| path.starts_with("crates/wire/") && path.contains("/src/");
    let mut out = Vec::new();
    for (path, text) in tree.rust().filter(|(path, _)| wire(path)) {
        let code = code_only(text);
        let derives = code.split("#[derive(").skip(1).filter_map(|rest| rest.split_once(')')).map(|(list, _)| list);
        let derived =
            derives.flat_map(|list| list.split(',')).any(|name| name.trim().rsplit("::").next() == Some("Codec"));
        // The protobuf messages have macros of their own.
        let declared = ["messages! {", "oneofs! {"].iter().any(|m| code.contains(m));
        if (derived || declared) && !covered(path) {
            out.push(format!("{path}: defines encoded types, but no row of {FILE} names it"));
        }
    }
    out
}

/// Every folder of recorded data says where it comes from: in a README of its own or a row of the common one.
pub(super) fn provenance(tree: &Tree) -> Vec<Problem> {
    let common = tree.text("vectors/README.md").unwrap_or_default();
    let inside = tree.files.keys().filter_map(|f| f.strip_prefix("vectors/")?.split_once('/'));
    let folders: BTreeSet<&str> = inside.map(|(folder, _)| folder).collect();
    let known = |folder: &str| {
        common.contains(&format!("| `{folder}/` |")) || tree.files.contains_key(&format!("vectors/{folder}/README.md"))
    };
    let unknown = folders.into_iter().filter(|folder| !known(folder));
    unknown.map(|f| format!("vectors/{f}/: neither a README of its own nor a row in vectors/README.md")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "| Format | Reference | Module | Limits | Vectors | Fuzz | Status |\n|---|---|---|---|---|---|---|\n";

    fn tree(row: &str) -> Tree {
        Tree::of(&[
            (FILE, &format!("{HEAD}{row}\n")),
            ("crates/wire/a/src/tx.rs", "#[test]"),
            ("crates/wire/a/src/no.rs", ""),
            ("vectors/transactions/a.json.gz", ""),
            ("fuzz/fuzz_targets/tx.rs", ""),
        ])
    }

    #[test]
    fn rows_name_what_exists() {
        let problems = |row: &str| check(&tree(row)).len();
        let m = "`crates/wire/a/src/tx.rs`";
        assert_eq!(problems(&format!("| tx | x.go | {m} | 1 | `vectors/transactions/` | `tx` | done |")), 0);
        assert_eq!(problems(&format!("| tx | x.go | {m} | 1 | self-pinned {m} | `tx` | partial: v2 |")), 0);
        assert_eq!(problems(&format!("| tx | x.go | {m} | 1 | {m} | `tx` | done |")), 1);
        assert_eq!(problems("| tx | x.go | `no.rs` | 1 | `vectors/transactions/` | `tx` | done |"), 1);
        assert_eq!(problems(&format!("| tx | x.go | {m} | 1 | `vectors/none/` | `tx` | done |")), 1);
        assert_eq!(problems(&format!("| tx | x.go | {m} | 1 | `vectors/transactions/` | `none` | done |")), 1);
        assert_eq!(problems(&format!("| tx | x.go | {m} | 1 | `vectors/transactions/` | | done |")), 1);
        assert_eq!(problems(&format!("| tx | x.go | {m} | 1 | `vectors/transactions/` | `tx` | soon |")), 1);
        let no_test = "`crates/wire/a/src/no.rs`";
        assert_eq!(problems(&format!("| tx | x.go | {m} | 1 | self-pinned {no_test} | `tx` | done |")), 1);
        assert_eq!(problems(&format!("| tx | x.go | {m} | 1 | none | `tx` | partial: vectors |")), 0);
        assert_eq!(problems(&format!("| tx | x.go | {m} | 1 | none | `tx` | done |")), 1);
        let row = format!("| tx | x.go | {m} | 1 | `vectors/transactions/` | none |");
        assert_eq!(problems(&format!("{row} partial: fuzz |")), 0);
        assert_eq!(problems(&format!("{row} done |")), 1);
        assert_eq!(problems(&format!("| tx | | {m} | | `vectors/transactions/` | `tx` | done |")), 2);
        assert_eq!(problems("| tx |"), 1);
        assert_eq!(check(&Tree::of(&[(FILE, "no table")])).len(), 1);
        assert_eq!(check(&Tree::default()).len(), 1);
    }

    #[test]
    fn encoded_types_have_a_row() {
        let row = format!("{HEAD}| t | r | `crates/wire/a/src/tx.rs` | l | v | f | done |\n");
        let check = |path: &str, text: &str| coverage(&Tree::of(&[(FILE, &row), (path, text)])).len();
        assert_eq!(check("crates/wire/a/src/tx.rs", "#[derive(Clone, Codec)]\nstruct A;"), 0);
        assert_eq!(check("crates/wire/a/src/tx/body.rs", "#[derive(Codec)]\nstruct A;"), 0);
        assert_eq!(check("crates/wire/a/src/other.rs", "#[derive(Clone, Codec)]\nstruct A;"), 1);
        assert_eq!(check("crates/wire/a/src/other.rs", "messages! {\n}"), 1);
        assert_eq!(check("crates/wire/a/src/other.rs", "// #[derive(Codec)]\nstruct A;"), 0);
        assert_eq!(check("crates/apps/a/src/other.rs", "#[derive(Codec)]\nstruct A;"), 0);
    }

    #[test]
    fn folders_say_where_they_come_from() {
        let check = |files: &[(&str, &str)]| provenance(&Tree::of(files)).len();
        assert_eq!(check(&[("vectors/a/x.json", ""), ("vectors/README.md", "| `b/` | x |")]), 1);
        assert_eq!(check(&[("vectors/a/x.json", ""), ("vectors/README.md", "| `a/` | x |")]), 0);
        assert_eq!(check(&[("vectors/a/x.json", ""), ("vectors/a/README.md", "")]), 0);
    }
}
