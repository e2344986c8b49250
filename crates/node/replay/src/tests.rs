//! All recorded chains replay to their end with nothing different, and single changed values are found.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use apps_core::LocalConfig;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use mkvs_tree::Sequential;
use node_app::{MemoryStore, NodeOptions};
use rt_tee::VerifyOptions;
use serde_json::Value;
use wire_cometbft::{Message as _, block::Block};

use crate::{Options, ReplayError, Report, replay};

fn chains() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors/chains"))
}

fn options(dir: &Path, compare: bool) -> Options {
    let local =
        LocalConfig { allow_debug: true, allow_test_keys: true, tee: VerifyOptions::mock(), ..LocalConfig::default() };
    Options {
        dir: dir.to_owned(),
        to: None,
        compare,
        node: NodeOptions { local, upgrades: Some(Default::default()) },
        store: Box::new(MemoryStore::new(Box::new(Sequential))),
        observer: None,
    }
}

/// Blocks and transactions of a chain, as the README of the recordings states them.
fn stated(name: &str) -> (u64, u64, u64) {
    let readme = fs::read_to_string(chains().join("README.md")).unwrap();
    let row = readme.lines().find(|l| l.starts_with(&format!("| `{name}` |"))).expect("a row for the chain");
    let cells: Vec<_> = row.split('|').map(str::trim).collect();
    (cells[2].parse().unwrap(), cells[3].parse().unwrap(), cells[4].parse().unwrap())
}

fn replays(name: &str) {
    for file in ["genesis.json", "blocks.jsonl.gz", "state_diffs.jsonl.gz"] {
        dev_testkit::note_read(&chains().join(name).join(file)).unwrap();
    }
    let report = replay(options(&chains().join(name), true)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let Report { blocks, transactions, failed, unchecked, roots, results, diffs, validator_sets, .. } = report;
    assert_eq!((blocks, transactions, failed), stated(name), "{name}");
    assert_eq!((roots, results, diffs, validator_sets), (blocks, blocks, blocks, blocks), "{name}");
    assert_eq!(unchecked, 0, "{name}");
}

macro_rules! chain_tests {
    ($($test:ident = $name:literal;)*) => {
        $(#[test]
        fn $test() {
            replays($name);
        })*

        /// A chain that is recorded but not replayed here would go unnoticed.
        #[test]
        fn every_recorded_chain_has_a_test() {
            let known = [$($name),*];
            for entry in fs::read_dir(chains()).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    let name = entry.file_name().into_string().unwrap();
                    assert!(known.contains(&name.as_str()), "{name}");
                }
            }
        }
    };
}

chain_tests! {
    byzantine_beacon_vrf_honest = "byzantine-beacon-vrf-honest";
    change_parameters_min_commission_rate = "change-parameters-min-commission-rate";
    debond = "debond";
    gas_fees_staking = "gas-fees-staking";
    insecure_beacon_rewards = "insecure-beacon-rewards";
    byzantine_primary_worker =
        "runtime-byzantine-primary-worker-primary-scheduler-invalid-batch-hash";
    keymanager_churp = "runtime-keymanager-churp-txs-short";
    runtime_governance = "runtime-runtime-governance";
    runtime = "runtime-runtime";
    txsource_multi = "runtime-txsource-multi-short";
    vault = "vault";
}

/// Chains recorded by this project's own recorder: faults, upgrades, freezing, policies and older features.
#[test]
fn our_own_recordings() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors/chains-recorded"));
    let (mut chains, mut upgrades) = (0, 0);
    for entry in fs::read_dir(folder).unwrap() {
        let dir = entry.unwrap().path();
        if !dir.is_dir() {
            continue;
        }
        for file in ["genesis.json", "blocks.jsonl.gz", "state_diffs.jsonl.gz"] {
            dev_testkit::note_read(&dir.join(file)).unwrap();
        }
        let report = replay(options(&dir, true)).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        assert_eq!(report.unchecked, 0, "{}", dir.display());
        assert_eq!(report.blocks, report.diffs, "{}", dir.display());
        let meta = dir.join("meta.json");
        if meta.exists() {
            let meta: Value = serde_json::from_slice(&dev_testkit::read(&meta).unwrap()).unwrap();
            let stated: Vec<_> = meta["upgrades"]
                .as_array()
                .unwrap()
                .iter()
                .map(|u| (u["height"].as_i64().unwrap(), u["descriptor"]["handler"].as_str().unwrap().to_owned()))
                .collect();
            assert_eq!(report.upgrades, stated, "{}", dir.display());
        }
        upgrades += report.upgrades.len();
        chains += 1;
    }
    assert_eq!((chains, upgrades), (13, 3));
}

/// Lines of a recorded file.
fn lines(path: &Path) -> Vec<Value> {
    let raw = fs::read(path).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(raw.as_slice()), &mut text).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn write_lines(path: &Path, lines: &[Value]) {
    let mut out = GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast());
    for line in lines {
        writeln!(out, "{line}").unwrap();
    }
    out.finish().unwrap();
}

/// A copy of a short chain in which `edit` changed the lines of blocks and state differences.
fn edited(edit: impl FnOnce(&mut Vec<Value>, &mut Vec<Value>)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let source = chains().join("gas-fees-staking");
    fs::copy(source.join("genesis.json"), dir.path().join("genesis.json")).unwrap();
    let mut blocks = lines(&source.join("blocks.jsonl.gz"));
    let mut diffs = lines(&source.join("state_diffs.jsonl.gz"));
    edit(&mut blocks, &mut diffs);
    write_lines(&dir.path().join("blocks.jsonl.gz"), &blocks);
    write_lines(&dir.path().join("state_diffs.jsonl.gz"), &diffs);
    dir
}

fn mismatch(dir: &tempfile::TempDir) -> crate::Mismatch {
    match replay(options(dir.path(), true)) {
        Err(ReplayError::Mismatch(m)) => *m,
        other => panic!("expected a mismatch, found {other:?}"),
    }
}

#[test]
fn a_changed_state_value_is_named() {
    let dir = edited(|_, diffs| diffs[6]["diff"][0][1] = Value::String("00".into()));
    let found = mismatch(&dir);
    assert_eq!((found.height, found.what.as_str()), (7, "state"));
    assert!(found.key.is_some() && found.expected == "00", "{found}");
}

#[test]
fn a_missing_state_change_is_named() {
    let dir = edited(|_, diffs| {
        diffs[6]["diff"].as_array_mut().unwrap().pop();
    });
    let found = mismatch(&dir);
    assert_eq!((found.height, found.expected.as_str()), (7, "unchanged"));
}

#[test]
fn changed_results_are_named() {
    // The recorded results of height 8 in the place of those of height 7.
    let dir = edited(|blocks, _| blocks[6]["abci_responses"] = blocks[7]["abci_responses"].clone());
    assert_eq!(mismatch(&dir).height, 7);
}

#[test]
fn a_changed_root_is_named() {
    let dir = edited(|_, diffs| diffs[4]["root"] = diffs[3]["root"].clone());
    let found = mismatch(&dir);
    assert_eq!((found.height, found.what.as_str()), (5, "state root"));
}

#[test]
fn a_block_out_of_order_is_refused() {
    let dir = edited(|blocks, _| blocks.swap(4, 5));
    assert!(replay(options(dir.path(), true)).is_err());
}

/// The last block, with a wrong signature in its last commit and everything else in order.
#[test]
fn a_forged_commit_is_refused_whenever_its_verdict_comes() {
    let dir = edited(|blocks, _| {
        let last = blocks.last_mut().unwrap();
        let raw = STANDARD.decode(last["block"].as_str().unwrap()).unwrap();
        let mut block = Block::decode_checked(&raw).unwrap();
        let commit = block.last_commit.as_mut().unwrap();
        commit.signatures[0].signature[3] ^= 1;
        block.header.last_commit_hash = commit.hash().to_vec();
        last["block"] = STANDARD.encode(block.encode_to_vec()).into();
    });
    match replay(options(dir.path(), false)) {
        Err(ReplayError::Block { height, reason }) => {
            assert_eq!((height, reason.starts_with("last commit: ")), (21, true), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_recorded_counts_as_unchecked() {
    let dir = edited(|blocks, _| {
        blocks[3].as_object_mut().unwrap().remove("validators");
        blocks[4].as_object_mut().unwrap().remove("abci_responses");
    });
    assert_eq!(replay(options(dir.path(), true)).unwrap().unchecked, 2);
}

#[test]
fn execution_needs_genesis_and_blocks_only() {
    let dir = edited(|blocks, _| {
        for block in blocks {
            block.as_object_mut().unwrap().retain(|k, _| k == "height" || k == "block");
        }
    });
    fs::remove_file(dir.path().join("state_diffs.jsonl.gz")).unwrap();
    let report = replay(options(dir.path(), false)).unwrap();
    let recorded = lines(&chains().join("gas-fees-staking/state_diffs.jsonl.gz"));
    let expected: Vec<_> = recorded.iter().map(|d| d["root"].as_str().unwrap().to_owned()).collect();
    let found: Vec<_> = report.app_hashes.iter().map(|(_, h)| h.to_string()).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_truncated_file_is_an_error() {
    let dir = edited(|_, _| {});
    let path = dir.path().join("blocks.jsonl.gz");
    let raw = fs::read(&path).unwrap();
    fs::write(&path, &raw[..raw.len() / 2]).unwrap();
    assert!(matches!(replay(options(dir.path(), true)), Err(ReplayError::File(_))));
}

mod dumps;
mod queries;
mod supplementary;
