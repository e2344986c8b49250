//! The table of metrics against the reference's list and against the code that sets them.

use std::collections::BTreeSet;
use std::path::Path;

use base_metrics::table::{self, Row};

/// Name, type and labels of every metric of the reference.
const REFERENCE: &str = include_str!("reference.txt");

#[test]
fn names_types_and_labels_are_the_references() {
    let ours: Vec<String> = table::OASIS
        .iter()
        .map(|row| {
            let labels = if row.labels.is_empty() { "-".to_owned() } else { row.labels.join(",") };
            format!("{} {} {labels}", row.name, row.kind)
        })
        .collect();
    let theirs: Vec<&str> = REFERENCE.lines().collect();
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 104);
}

#[test]
fn handles_are_named_after_metrics() {
    for row in table::OASIS {
        assert_eq!(format!("oasis_{}", row.handle.to_lowercase()), row.name);
    }
    let names: BTreeSet<&str> = table::all().map(|row| row.name).collect();
    assert_eq!(names.len(), table::all().count());
}

#[test]
fn what_nothing_sets_is_not_exposed() {
    let page = base_metrics::render();
    for row in table::all().filter(|row| row.labels.is_empty()) {
        let shown = page.contains(&format!("# TYPE {} {}\n", row.name, row.kind));
        assert_eq!(shown, row.fed, "{}", row.name);
    }
}

fn sources(folder: &Path, out: &mut String) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("base/metrics/tests") {
            sources(&path, out);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("base/metrics/src/table.rs") {
            // Other crates may be in the middle of a change.
            out.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
        }
    }
}

/// A metric that the table calls fed is set by some code, and one that is set is called fed.
#[test]
fn what_is_fed_is_set_somewhere() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut text = String::new();
    sources(&crates, &mut text);
    let words: BTreeSet<&str> = text
        .match_indices("table::")
        .map(|(at, _)| {
            let rest = &text[at + "table::".len()..];
            rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
        })
        .collect();
    let wrong: Vec<&Row> = table::all().filter(|row| words.contains(row.handle) != row.fed).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
