//! The recorded data, and altered data.

use std::path::{Path, PathBuf};

use super::*;

fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../vectors/mobilecoin")
}

/// Files below a folder.
fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_none_or(|e| e != "md") {
            out.push(path);
        }
    }
}

fn check(wanted: impl Fn(&str) -> bool) {
    let mut all = Vec::new();
    files(&recorded(), &mut all);
    let mut failed = Vec::new();
    let mut checked = 0;
    for path in all.iter().filter(|p| wanted(&p.strip_prefix(recorded()).unwrap().to_string_lossy())) {
        let mut counts = Counts::default();
        if let Err(difference) = check_file(path, &mut counts) {
            failed.push(format!("{}: {difference}", path.display()));
        }
        checked += counts.0.values().sum::<u64>();
        println!("{}: {:?}", path.file_name().unwrap().to_string_lossy(), counts.0);
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(checked > 0);
}

macro_rules! recorded_files {
    ($($test:ident: $name:literal),* $(,)?) => {$(
        #[test]
        fn $test() {
            check(|name| name.starts_with($name));
        }
    )*};
}

recorded_files! {
    curve: "curve.json",
    account_keys: "account_keys.json",
    b58: "b58.json",
    tx_out: "tx_out.json",
    digestible: "digestible.json",
    ring_signature: "ring_signature.json",
    merkle: "merkle.json",
    fee_map: "fee_map.json",
    transactions: "transactions.json",
    mint: "mint.json",
    form_block: "form_block.json",
    blocks: "blocks.json",
    blockchain_config: "blockchain_config.json",
    consensus_msg: "consensus_msg.json",
    scp: "scp.json",
    noise: "noise.json",
    attested_client: "attested_client.json",
    report_data: "report_data.json",
    node_config: "node_config.json",
    auth_token: "auth_token.json",
    archive_paths: "archive_paths.json",
    archive: "archive/",
    ledger: "ledger/",
}
