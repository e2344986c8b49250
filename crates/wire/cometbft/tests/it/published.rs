//! A block of the main network as published with the reference, and the byte vectors of its test tables.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use wire_cometbft::Message;
use wire_cometbft::block::{Block, Commit, Data, Header, LightBlock};
use wire_cometbft::evidence::EvidenceList;

const DIR: &str = "oasis-core/go/consensus/cometbft/stateless/testdata";

fn published(name: &str) -> Option<Value> {
    let Some(path) = dev_testkit::paths::published(&format!("{DIR}/{name}.json")) else {
        dev_testkit::skip(1, "published main network block is absent");
        return None;
    };
    Some(serde_json::from_slice(&dev_testkit::read(&path).unwrap()).unwrap())
}

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

/// The byte string under a key of a CBOR map of texts to byte strings.
fn cbor_field(map: &[u8], key: &str) -> Vec<u8> {
    let mark = [&[0x60 | key.len() as u8][..], key.as_bytes()].concat();
    let at = map.windows(mark.len()).position(|window| window == mark).unwrap() + mark.len();
    assert_eq!(map[at], 0x59);
    let len = usize::from(u16::from_be_bytes([map[at + 1], map[at + 2]]));
    map[at + 3..at + 3 + len].to_vec()
}

#[test]
fn main_network_block() {
    let (Some(recorded), Some(txs)) = (published("block_25300000"), published("txs_25300000")) else {
        return;
    };
    let meta = bytes(&recorded["meta"]);
    let header_bytes = cbor_field(&meta, "header");
    let header = Header::decode(&header_bytes).unwrap();
    assert_eq!(header.encode_to_vec(), header_bytes);
    let commit_bytes = cbor_field(&meta, "last_commit");
    let commit = Commit::decode(&commit_bytes).unwrap();
    assert_eq!(commit.encode_to_vec(), commit_bytes);
    assert_eq!(commit.signatures.len(), 107);
    assert_eq!(hex::encode(header.hash().unwrap()), recorded["hash"].as_str().unwrap());
    let block = Block {
        header,
        data: Data { txs: txs.as_array().unwrap().iter().map(bytes).collect() },
        evidence: EvidenceList::default(),
        last_commit: Some(commit),
    };
    block.validate_basic().unwrap();
    assert_eq!(block.encoded_len() as u64, recorded["size"].as_u64().unwrap());
    assert_eq!(Block::decode_checked(&block.encode_to_vec()).unwrap(), block);

    let Some(next) = published("light_block_25300001") else {
        return;
    };
    let next = LightBlock::decode(&bytes(&next["meta"])).unwrap();
    assert_eq!(next.signed_header.unwrap().header.unwrap().last_block_id, block.id().unwrap());
}

#[test]
fn main_network_light_blocks() {
    for name in ["light_block_25300000", "light_block_25300001"] {
        let Some(recorded) = published(name) else {
            return;
        };
        let bytes = bytes(&recorded["meta"]);
        let block = LightBlock::decode(&bytes).unwrap();
        assert_eq!(block.encode_to_vec(), bytes);
        let chain_id = block.signed_header.as_ref().unwrap().header.as_ref().unwrap().chain_id.clone();
        let (header, commit, validators) = block.validate_basic(&chain_id).unwrap();
        assert_eq!(header.height, recorded["height"].as_i64().unwrap());
        assert_eq!((commit.signatures.len(), validators.validators.len()), (107, 107));
        assert!(block.validate_basic("another").is_err());
    }
}
