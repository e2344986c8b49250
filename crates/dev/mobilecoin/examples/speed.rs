//! Times of validating recorded transactions: `cargo run --release -p dev-mobilecoin --example speed`.

use std::time::{Duration, Instant};

use dev_mobilecoin::case::Case;
use mc_tx::validate::{Context, validate, validate_batch};
use serde_json::Value;
use wire_mobilecoin::tx::{MembershipProof, Tx};

fn best(runs: u32, mut work: impl FnMut()) -> Duration {
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..runs).map(time).min().unwrap_or_default()
}

fn main() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors/mobilecoin/transactions.json");
    let text = std::fs::read(path).expect("recorded data is in the tree");
    let root: Value = serde_json::from_slice(&text).expect("recorded data is JSON");
    for value in root["groups"]["valid"]["cases"].as_array().expect("cases") {
        let case = Case { value, root: &root };
        let tx: Tx = case.message("tx_pb").expect("a transaction");
        let proof: Vec<MembershipProof> = case.messages("root_proofs_pb").expect("proofs");
        let proofs = vec![proof[0].clone(); case.number("root_proofs_count").expect("a count") as usize];
        let context = Context {
            current_block_index: case.number("current_block_index").expect("an index"),
            block_version: case.number32("block_version").expect("a version"),
            root_proofs: &proofs,
            minimum_fee: case.number("minimum_fee").expect("a fee"),
        };
        let alone = best(30, || validate(&tx, &context).expect("a valid transaction"));
        let many: Vec<_> = (0..32).map(|_| (&tx, context)).collect();
        let batch = best(3, || assert!(validate_batch(&many).iter().all(Result::is_ok)));
        println!(
            "version {} {}: alone {alone:?}, each of 32 {:?}",
            context.block_version,
            case.field("note"),
            batch / 32
        );
    }
}
