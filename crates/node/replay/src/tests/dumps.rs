//! Exported genesis documents equal those that the reference dumps at the same heights of the same chains.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use node_app::export_genesis;
use parking_lot::Mutex;
use wire_consensus::genesis::Document;

use super::*;

fn recorded(path: &Path) -> BTreeMap<i64, String> {
    dev_testkit::note_read(path).unwrap();
    let lines = lines(path);
    let text = |v: &Value, field: &str| v[field].as_str().expect("a text").to_owned();
    lines.iter().map(|v| (v["height"].as_i64().expect("a height"), text(v, "document"))).collect()
}

/// The first line that differs, with its number.
fn first_difference(ours: &str, theirs: &str) -> Option<(usize, String, String)> {
    let (mut a, mut b) = (ours.lines(), theirs.lines());
    for number in 1.. {
        match (a.next(), b.next()) {
            (None, None) => break,
            (ours, theirs) if ours == theirs => {}
            (ours, theirs) => {
                return Some((number, ours.unwrap_or("(end)").to_owned(), theirs.unwrap_or("(end)").to_owned()));
            }
        }
    }
    (ours != theirs).then(|| (0, "(line ends)".to_owned(), "(line ends)".to_owned()))
}

#[test]
fn exported_documents_equal_the_reference_s_dumps() {
    let vectors = chains().parent().unwrap().to_owned();
    let mut compared = 0;
    let differing = Arc::new(Mutex::new(Vec::new()));
    for file in fs::read_dir(vectors.join("dumps")).unwrap() {
        let path = file.unwrap().path();
        let name =
            path.file_name().unwrap().to_str().unwrap().strip_suffix(".jsonl.gz").expect("a gzip file").to_owned();
        let dir = [chains(), vectors.join("chains-recorded")].into_iter().map(|d| d.join(&name)).find(|d| d.exists());
        let dir = dir.expect("a recorded chain of the name");
        let base = Document::from_json(&fs::read_to_string(dir.join("genesis.json")).unwrap()).unwrap();
        let expected = recorded(&path);
        let last = *expected.keys().last().unwrap();
        let found = Arc::new(Mutex::new(BTreeSet::new()));
        let (wanted, collected, chain) = (expected.clone(), found.clone(), name.clone());
        let differences = differing.clone();
        let mut options = Options { to: Some(last), ..options(&dir, false) };
        options.observer = Some(Box::new(move |block, _, app| {
            let height = block.header.height;
            let Some(theirs) = wanted.get(&height) else { return };
            let state = app.store().state();
            let doc = export_genesis(app.mux().services(), state, height, block.header.time, &base).unwrap();
            let ours = doc.to_canonical_json();
            if let Some(difference) = first_difference(&ours, theirs) {
                differences.lock().push(format!("{chain} at height {height}: {difference:?}"));
            }
            collected.lock().insert(height);
        }));
        replay(options).unwrap();
        assert!(found.lock().iter().eq(expected.keys()), "{name}");
        compared += expected.len();
    }
    assert_eq!(differing.lock().join("\n"), "");
    assert!(compared >= 200, "{compared} dumps");
}
