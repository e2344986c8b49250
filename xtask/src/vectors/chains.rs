//! Family `chains`: genesis, blocks, state differences and write-ahead logs of recorded networks.

mod blocks;
mod state;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use base_codec::json;
use base_crypto::context::ChainContext;
use dev_testkit::chains::Chain;
use serde_json::Value;
use wire_cometbft::wal::{WalReader, encode_record};
use wire_consensus::genesis::Document;

use super::bodies::{Checked, from_json, same_bytes};
use super::{Counts, Difference, Family};

/// See the module.
pub(super) struct Chains;

impl Family for Chains {
    fn name(&self) -> &'static str {
        "chains"
    }

    fn about(&self) -> &'static str {
        "recorded networks: genesis hash; blocks, transactions, descriptors, signatures, proofs; state; log records"
    }

    fn check_file(&self, path: &Path, counts: &mut Counts) -> Result<(), Difference> {
        let chain = Chain::open(path.parent().unwrap_or(Path::new(".")));
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let checked = match name.as_str() {
            "genesis.json" => check_genesis(&chain, counts),
            "blocks.jsonl.gz" => blocks::check(&chain, counts),
            "state_diffs.jsonl.gz" => state::check(&chain, counts),
            "cs.wal.gz" => check_wal(&chain, counts),
            _ => Err("unknown kind of file".to_owned()),
        };
        checked.map_err(|what| Difference::new(&chain.name, what))
    }
}

/// What the table of recorded chains says about one of them.
struct Stated {
    blocks: u64,
    transactions: u64,
    failed: u64,
    context: String,
    /// `method count` pairs.
    methods: Vec<(String, u64)>,
}

/// The chain's row in the README beside its folder, if there is one.
fn stated(chain: &Chain) -> Checked<Option<Stated>> {
    let readme: PathBuf = chain.dir().join("../README.md");
    let Ok(text) = fs::read_to_string(&readme) else {
        return Ok(None);
    };
    let start = format!("| `{}` |", chain.name);
    let Some(line) = text.lines().find(|l| l.starts_with(&start)) else {
        return Ok(None);
    };
    let bad = || format!("{}: the row of {} has another shape", readme.display(), chain.name);
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let [_, _, blocks, transactions, failed, _evidence, context, methods, _] = cells.as_slice() else {
        return Err(bad());
    };
    let number = |text: &str| text.parse::<u64>().map_err(|_| bad());
    let method = |text: &str| {
        let (name, count) = text.trim().rsplit_once(' ').ok_or_else(bad)?;
        Ok((name.to_owned(), number(count)?))
    };
    Ok(Some(Stated {
        blocks: number(blocks)?,
        transactions: number(transactions)?,
        failed: number(failed)?,
        context: context.trim_matches('`').to_owned(),
        methods: methods.split(',').map(method).collect::<Checked<_>>()?,
    }))
}

/// Reads the genesis document and computes the chain context.
fn genesis(chain: &Chain) -> Checked<(Document, ChainContext)> {
    let bytes = chain.genesis().map_err(|e| e.to_string())?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    let document: Document = from_json(&value)?;
    let context = document.chain_context();
    Ok((document, context))
}

fn check_genesis(chain: &Chain, counts: &mut Counts) -> Checked<()> {
    let (document, context) = genesis(chain)?;
    // Recorded on test networks: unsafe settings and test keys are part of them.
    document.sanity_check(true).map_err(|e| format!("sanity check: {e}"))?;
    let bytes = chain.genesis().map_err(|e| e.to_string())?;
    let recorded: Value = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    let again = json::ToJson::to_json(&document);
    if let Some(place) = first_difference(&again, &recorded, "document") {
        return Err(format!("written as JSON again: {place}"));
    }
    // Documents that were edited by hand have another order of fields.
    if document.to_canonical_json().as_bytes() == bytes {
        counts.add("genesis_documents_in_canonical_form");
    }
    counts.add("genesis_documents");
    if let Some(stated) = stated(chain)? {
        if stated.context != context.as_str() {
            return Err(format!("chain context is {context}, stated {}", stated.context));
        }
        counts.add("chain_contexts_as_stated");
    }
    // The network's own word: every header names the first 50 characters.
    let header = blocks::first_header(chain)?;
    if header.chain_id != context.as_str()[..50] {
        return Err(format!("chain context is {context}, the first block is of {}", header.chain_id));
    }
    counts.add("chain_contexts_as_in_blocks");
    Ok(())
}

/// The path of the first field that differs, with both values.
fn first_difference(ours: &Value, recorded: &Value, path: &str) -> Option<String> {
    match (ours, recorded) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|key| {
                let null = Value::Null;
                let (x, y) = (a.get(key), b.get(key));
                let path = format!("{path}.{key}");
                match (x, y) {
                    (Some(x), Some(y)) => first_difference(x, y, &path),
                    _ => Some(format!("{path}: ours is {}, recorded {}", x.unwrap_or(&null), y.unwrap_or(&null))),
                }
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(index, (x, y))| first_difference(x, y, &format!("{path}[{index}]")))
        }
        _ if ours == recorded => None,
        _ => Some(format!("{path}: ours is {ours}, recorded {recorded}")),
    }
}

/// Each log record decodes and encodes again.
fn check_wal(chain: &Chain, counts: &mut Counts) -> Checked<()> {
    let log = chain.wal().map_err(|e| e.to_string())?.ok_or("no log")?;
    let mut reader = WalReader::new(&log);
    loop {
        let start = reader.offset();
        let Some(record) = reader.next() else { break };
        let record = record.map_err(|e| e.to_string())?;
        let again = encode_record(&record).ok_or_else(|| format!("the record at {start} is too long to be written"))?;
        same_bytes("log record", &again, &log[start..reader.offset()])?;
        counts.add("log_records");
    }
    if reader.offset() != log.len() {
        return Err(format!("log read up to byte {} of {}", reader.offset(), log.len()));
    }
    Ok(())
}

/// Decodes a protobuf message that encodes to the same bytes again.
fn message<M: wire_cometbft::codec::Message>(what: &str, bytes: &[u8]) -> Checked<M> {
    let message = M::decode(bytes).map_err(|e| format!("{what}: {e}"))?;
    same_bytes(what, &message.encode_to_vec(), bytes)?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_the_first_difference() {
        let ours = json!({"a": [1, {"b": 2}], "c": 3});
        assert_eq!(first_difference(&ours, &json!({"c": 3, "a": [1, {"b": 2}]}), "d"), None);
        let check = |other: Value| first_difference(&ours, &other, "d").unwrap();
        assert_eq!(check(json!({"a": [1, {"b": 4}], "c": 3})), "d.a[1].b: ours is 2, recorded 4");
        assert_eq!(check(json!({"a": [1, {"b": 2}]})), "d.c: ours is 3, recorded null");
        assert_eq!(check(json!({"a": [1], "c": 3})), "d.a: ours is [1,{\"b\":2}], recorded [1]");
    }

    #[test]
    fn altered_recordings_are_seen() {
        let source = Chain::all().unwrap().into_iter().find(|c| c.name == "debond").expect("debond was recorded");
        let dir = std::env::temp_dir().join(format!("xtask-chains-{}", std::process::id())).join("debond");
        fs::create_dir_all(&dir).unwrap();
        let genesis = String::from_utf8(source.genesis().unwrap()).unwrap();
        for file in ["blocks.jsonl.gz", "state_diffs.jsonl.gz"] {
            fs::copy(source.dir().join(file), dir.join(file)).unwrap();
        }
        let check = |file: &str, text: &str| {
            fs::write(dir.join("genesis.json"), text).unwrap();
            Chains.check_file(&dir.join(file), &mut Counts::default())
        };
        for file in ["genesis.json", "blocks.jsonl.gz", "state_diffs.jsonl.gz"] {
            assert_eq!(check(file, &genesis), Ok(()), "{file}");
            // Another chain id is another network: contexts and signatures no longer fit.
            let other = genesis.replacen("\"chain_id\": \"", "\"chain_id\": \"x", 1);
            assert_ne!(other, genesis);
            assert!(check(file, &other).is_err(), "{file}");
        }
        assert!(check("unheard-of.json", &genesis).is_err());
        fs::remove_dir_all(dir.parent().unwrap()).unwrap();
    }
}
