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

/// The decoded JSON of a recorded file.
fn root(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(recorded().join(name)).unwrap()).unwrap()
}

#[test]
fn a_transaction_with_any_byte_changed_is_refused() {
    use mc_tx::validate::{Context, validate};
    use wire_mobilecoin::tx::{MembershipProof, Tx};

    let root = root("transactions.json");
    let cases = root["groups"]["valid"]["cases"].as_array().unwrap();
    let mut refused = 0;
    for case in [&cases[0], cases.last().unwrap()].map(|value| Case { value, root: &root }) {
        let bytes = case.hex("tx_pb").unwrap();
        let original: Tx = case.message("tx_pb").unwrap();
        let proof: Vec<MembershipProof> = case.messages("root_proofs_pb").unwrap();
        let proofs = vec![proof[0].clone(); case.number("root_proofs_count").unwrap() as usize];
        let context = Context {
            current_block_index: case.number("current_block_index").unwrap(),
            block_version: case.number32("block_version").unwrap(),
            root_proofs: &proofs,
            minimum_fee: case.number("minimum_fee").unwrap(),
        };
        for at in (0..bytes.len()).step_by(211) {
            let mut altered = bytes.clone();
            altered[at] ^= 1 << (at % 8);
            let accepted = <Tx as wire_mobilecoin::Message>::decode(altered.as_slice())
                .is_ok_and(|tx| tx != original && validate(&tx, &context).is_ok());
            assert!(!accepted, "{}: byte {at} was changed and nobody saw it", case.field("note"));
            refused += 1;
        }
    }
    assert!(refused > 80);
}

#[test]
fn a_block_with_any_byte_changed_is_refused() {
    use wire_mobilecoin::Message as _;
    use wire_mobilecoin::block::{Block, BlockContents, BlockSignature};

    let root = root("blocks.json");
    let blocks = root["groups"]["chain"]["cases"][0]["blocks"].as_array().unwrap();
    for value in &blocks[1..] {
        let case = Case { value, root: &root };
        let (block, contents): (Block, BlockContents) =
            (case.message("block_pb").unwrap(), case.message("contents_pb").unwrap());
        let signature: BlockSignature = case.message("signature_pb").unwrap();
        let header = case.hex("block_pb").unwrap();
        for at in 0..header.len() {
            let mut altered = header.clone();
            altered[at] ^= 1 << (at % 8);
            let accepted = Block::decode(altered.as_slice()).is_ok_and(|b| {
                b != block && b.computed_id() == b.id && mc_tx::form::verify_block_signature(&b, &signature)
            });
            assert!(!accepted, "header byte {at}");
        }
        let body = case.hex("contents_pb").unwrap();
        for at in (0..body.len()).step_by(29) {
            let mut altered = body.clone();
            altered[at] ^= 1 << (at % 8);
            let accepted = BlockContents::decode(altered.as_slice())
                .is_ok_and(|c| c != contents && c.hash() == block.contents_hash);
            assert!(!accepted, "contents byte {at}");
        }
    }
}

#[test]
fn a_peer_message_with_any_byte_changed_is_refused() {
    use wire_mobilecoin::peer::ConsensusMsg;

    let root = root("consensus_msg.json");
    for value in root["groups"]["message"]["cases"].as_array().unwrap() {
        let case = Case { value, root: &root };
        let bytes = case.hex("payload_cbor").unwrap();
        let original = ConsensusMsg::from_cbor(&bytes).unwrap();
        for at in (0..bytes.len()).step_by(3) {
            let mut altered = bytes.clone();
            altered[at] ^= 1 << (at % 8);
            let accepted = ConsensusMsg::from_cbor(&altered).is_ok_and(|msg| {
                let key = &msg.scp_msg.sender_id.public_key;
                msg != original && mc_crypto::ed25519::verify(key, &msg.signed_digest(), &msg.signature)
            });
            assert!(!accepted, "byte {at}");
        }
    }
}

#[test]
fn altered_expectations_are_seen() {
    let mut root = root("curve.json");
    let value = &mut root["groups"]["commitment"]["cases"][0]["commitment"];
    *value = Value::String(value.as_str().unwrap().replace(['0', '1'], "2"));
    assert!(check_value(&root, &mut Counts::default()).is_err());
    root["groups"] = serde_json::json!({"unheard-of": {"cases": []}});
    assert!(check_value(&root, &mut Counts::default()).is_err());
}
