//! The recorded genesis documents: each must give the chain context that the recording states.

use std::path::{Path, PathBuf};

use base_codec::{cbor, json};

use super::Document;

fn chains() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors/chains"))
}

fn text(path: &Path) -> String {
    String::from_utf8(dev_testkit::read(path).unwrap()).unwrap()
}

fn stated_contexts() -> Vec<(String, String)> {
    let readme = std::fs::read_to_string(chains().join("README.md")).expect("recorded chains have a README");
    readme
        .lines()
        .filter_map(|line| {
            let cells: Vec<_> = line.split('|').map(|c| c.trim().trim_matches('`')).collect();
            let context = cells.iter().find(|c| c.len() == 64 && c.bytes().all(|b| b.is_ascii_hexdigit()))?;
            Some(((*cells.get(1)?).to_owned(), (*context).to_owned()))
        })
        .collect()
}

#[test]
fn recorded_documents_hash_to_their_chain_context() {
    let stated = stated_contexts();
    assert!(stated.len() >= 11, "found {} rows", stated.len());
    for (chain, context) in stated {
        let text = text(&chains().join(&chain).join("genesis.json"));
        let (doc, unknown) = Document::from_json_with_unknown(&text).unwrap_or_else(|e| panic!("{chain}: {e}"));
        assert_eq!(unknown, Vec::<String>::new(), "{chain}");
        assert_eq!(doc.chain_context().as_str(), context, "{chain}");
        let bytes = cbor::to_vec(&doc);
        let decoded: Document = cbor::from_slice(&bytes).unwrap();
        assert_eq!(cbor::to_vec(&decoded), bytes, "{chain}: CBOR round trip");
        let written = doc.to_canonical_json();
        if chain == "vault" {
            // Written by hand: its sections stand in another order.
            let (ours, theirs): (json::Value, json::Value) = (parse(&written), parse(&text));
            assert_eq!(ours, theirs, "{chain}");
            continue;
        }
        let differing = written.lines().zip(text.lines()).enumerate().find(|(_, (a, b))| a != b);
        assert_eq!(differing, None, "{chain}: canonical JSON");
        assert_eq!(written, text, "{chain}: canonical JSON");
    }
}

/// A JSON value as it is.
#[derive(Default)]
struct AnyJson(json::Value);

impl json::FromJson for AnyJson {
    fn from_json(v: &json::Value, _: &mut json::Context) -> Result<Self, json::Error> {
        Ok(Self(v.clone()))
    }
}

fn parse(text: &str) -> json::Value {
    json::from_str::<AnyJson>(text).unwrap().0
}
