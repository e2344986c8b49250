//! Golden hashes, proofs and operation scripts of the reference, and the recorded chains.

use std::path::PathBuf;
use std::sync::Arc;

use base_prims::Hash;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Model, pairs, tree_of};
use crate::node::{Inner, Label, Leaf, Link, NodePtr, NodeRef};
use crate::proof::{Builder, Proof, ProofError, Verifier, verify};
use crate::sync::{GetPrefixesRequest, GetRequest, IterateRequest, ProofResponse, ReadSyncer, Server};
use crate::{KvRead, KvWrite, Sequential, Tree};

fn root_dir() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.."))
}

fn hash(hex_text: &str) -> Hash {
    Hash::new(hex::decode(hex_text).unwrap().try_into().unwrap())
}

fn numbered(n: usize) -> Tree {
    tree_of((0..n).map(|i| (format!("key {i}"), format!("value {i}"))))
}

#[test]
fn golden_roots() {
    let root = |mut t: Tree| t.root_hash(&Sequential).to_string();
    assert_eq!(root(numbered(1000)), "2187c55627819b60069888ba86f83dc2a9f50c827624b0e31e31261806300ede");
    assert_eq!(root(numbered(500)), "cf6e9b6a26e10a8218b8658ac9302af1a4c1ae4e1b1a7633860a0f81fb759495");
    assert_eq!(root(numbered(10)), "59e67c2fdc08b8e10dd08bb6b8efe614fcc965ecb89625f97f17f87f07104613");
    assert_eq!(root(Tree::in_memory()), Hash::EMPTY.to_string());
    let key = "Unlock the potential of your data without compromising security or privacy";
    let value = "The platform that puts data privacy first. From sharing medical records, to analyzing personal \
                 financial information, to training machine learning models, the Oasis platform supports applications \
                 that use even the most sensitive data without compromising privacy or performance.";
    let prefixes = (1..=key.len()).map(|n| (key.get(..n).unwrap(), value));
    assert_eq!(root(tree_of(prefixes)), "d829bb244a709bacf33bc2d8b4a016592e5310a10910aa980ef91cb3b4347dcb");
}

#[test]
fn golden_node_hashes() {
    let leaf = Leaf::new(b"a golden key", b"value");
    assert_eq!(leaf.hash().to_string(), "5c05183d4158b5920b16833acb78ccda464da83f720f824177b3a55a75f9fd88");
    let stub = |text: &str| Link::stub(NodePtr::from_hash(Hash::of(&[text.as_bytes()])));
    // The reference's example has a set bit beyond its 23-bit label, so the hash is computed from parts.
    let inner = Inner {
        label: Label::from_bytes(b"ab\x62", 23).unwrap(),
        leaf: Some(Box::new(stub("everyone stop here"))),
        left: stub("everyone move to the left"),
        right: stub("everyone move to the right"),
    };
    let parts = |last: u8| {
        let of = |t: &str| *Hash::of(&[t.as_bytes()]).as_bytes();
        Hash::of(&[
            &[1, 23, 0, b'a', b'b', last],
            &of("everyone stop here"),
            &of("everyone move to the left"),
            &of("everyone move to the right"),
        ])
    };
    assert_eq!(parts(b'c').to_string(), "75c37c67c265e2c836f76dec35173fa336e976938ea46f088390a983e46efced");
    assert_eq!(NodeRef::Inner(Arc::new(inner)).hash(), Some(parts(b'b')));
}

fn proof_from_cbor(text: &str) -> Proof {
    let bytes = STANDARD.decode(text).unwrap();
    let proof: Proof = base_codec::cbor::from_slice(&bytes).unwrap();
    assert_eq!(base_codec::cbor::to_vec(&proof), bytes);
    proof
}

const PROOF_V0: &str = "omdlbnRyaWVzhUoBASQAa2V5IDACRgEBAQAAAlghAsFltYRhD4dAwHOdOmEigY1r02pJH6InhiibKlh9neYlWCECpsJnkjOnIgc4+yfvpsqCcIYHh5eld1hNMWTT7arAfHFYIQLhNTLWRbks1RBf52ulnlOTO+7D5EZNMYFzTx8U46sCnm51bnRydXN0ZWRfcm9vdFggWeZ8L9wIuOEN0Iu2uO/mFPzJZey4liX5fxf4fwcQRhM=";
const PROOF_V1: &str = "o2F2AWdlbnRyaWVzh0oBASQAa2V5IDAC9kYBAQEAAAL2WCECwWW1hGEPh0DAc506YSKBjWvTakkfoieGKJsqWH2d5iVYIQKmwmeSM6ciBzj7J++myoJwhgeHl6V3WE0xZNPtqsB8cVghAuE1MtZFuSzVEF/na6WeU5M77sPkRk0xgXNPHxTjqwKebnVudHJ1c3RlZF9yb290WCBZ5nwv3Ai44Q3Qi7a47+YU/Mll7LiWJfl/F/h/BxBGEw==";

#[test]
fn published_proofs_verify_and_altered_ones_do_not() {
    let root = hash("59e67c2fdc08b8e10dd08bb6b8efe614fcc965ecb89625f97f17f87f07104613");
    // What a verifier has seen, good or bad, changes nothing.
    let mut verifier = Verifier::new(4);
    for text in [PROOF_V0, PROOF_V1] {
        let proof = proof_from_cbor(text);
        assert!(verify(&root, &proof).unwrap().into_write_log().is_empty());
        assert!(verifier.pairs(&root, &proof).unwrap().is_empty());
        let mut extra = proof.clone();
        extra.entries.push(proof.entries[0].clone());
        assert_eq!(verify(&root, &extra).unwrap_err(), ProofError::Unused(1));
        let mut short = proof.clone();
        short.entries.pop();
        assert_eq!(verify(&root, &short).unwrap_err(), ProofError::Truncated);
        for (i, entry) in proof.entries.iter().enumerate() {
            for bit in 0..entry.as_ref().map_or(0, |e| e.len() * 8) {
                let mut bad = proof.clone();
                bad.entries[i].as_mut().unwrap()[bit / 8] ^= 0x80 >> (bit % 8);
                let error = verify(&root, &bad).map(drop).unwrap_err();
                assert_eq!(verifier.verify(&root, &bad).map(drop), Err(error.clone()), "entry {i} bit {bit}");
                assert_eq!(verifier.pairs(&root, &bad).map(drop), Err(error), "entry {i} bit {bit}");
            }
        }
    }
    // A lookup that ends at the first branch below "key " shows just what the published proof shows.
    let tree = numbered(10);
    assert_eq!(tree.prove_get(b"key ", false, Builder::new(0).unwrap()).unwrap().untrusted_root, root);
}

#[test]
fn published_operation_scripts() {
    let dir = root_dir().join("../shared/vectors/published/oasis-core/go/storage/mkvs/testdata");
    let mut run = 0;
    for n in 1..=6 {
        let Ok(text) = std::fs::read_to_string(dir.join(format!("case-{n}.json"))) else { continue };
        run += 1;
        let ops: Vec<Value> = serde_json::from_str(&text).unwrap();
        let (mut tree, mut model) = (Tree::in_memory(), Model::new());
        for op in ops {
            let bytes = |name: &str| op[name].as_str().map(|s| STANDARD.decode(s).unwrap());
            let key = bytes("key").unwrap_or_default();
            match op["op"].as_str().unwrap() {
                "Insert" => {
                    tree.insert(&key, &bytes("value").unwrap_or_default()).unwrap();
                    model.insert(key, bytes("value").unwrap_or_default());
                }
                "Remove" => {
                    tree.remove(&key).unwrap();
                    model.remove(&key);
                }
                "Get" => assert_eq!(tree.get(&key).unwrap(), bytes("value")),
                "IteratorSeek" => {
                    let first = pairs(&tree, &key).into_iter().next();
                    assert_eq!(first.as_ref().map(|p| p.0.clone()), bytes("expected_key"));
                    assert_eq!(first.map(|p| p.1), bytes("value"));
                }
                other => panic!("unknown operation {other}"),
            }
            let mut again = tree_of(&model);
            assert_eq!(tree.root_hash(&Sequential), again.root_hash(&Sequential));
            tree.commit(1, 0, &Sequential);
        }
    }
    if run < 6 {
        dev_testkit::skip(6 - run, "published operation scripts are missing");
    }
}

/// Every recorded chain: applying each height's difference gives the recorded root and number of keys.
#[test]
fn recorded_chains() {
    let (mut chains, mut versions) = (0, 0);
    for dir in std::fs::read_dir(root_dir().join("vectors/chains")).unwrap() {
        let path = dir.unwrap().path().join("state_diffs.jsonl.gz");
        if !path.exists() {
            continue;
        }
        let text = String::from_utf8(dev_testkit::read(&path).unwrap()).unwrap();
        let mut tree = Tree::in_memory();
        let mut model = Model::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            for change in line["diff"].as_array().unwrap() {
                let key = hex::decode(change[0].as_str().unwrap()).unwrap();
                match change[1].as_str() {
                    Some(value) => {
                        let value = hex::decode(value).unwrap();
                        tree.insert(&key, &value).unwrap();
                        model.insert(key, value);
                    }
                    None => {
                        tree.remove(&key).unwrap();
                        model.remove(&key);
                    }
                }
            }
            let version = line["version"].as_u64().unwrap();
            let expected = hash(line["root"].as_str().unwrap());
            tree.commit_known(expected, version, 0, &Sequential).unwrap_or_else(|e| panic!("{path:?} {version}: {e}"));
            assert_eq!(line["keys"].as_u64().unwrap() as usize, model.len());
            versions += 1;
        }
        assert_eq!(pairs(&tree, b""), model.into_iter().collect::<Vec<_>>());
        chains += 1;
    }
    println!("{chains} chains, {versions} versions");
    assert!(chains >= 11 && versions > 1000);
}

fn gunzip_json(path: &str) -> Value {
    serde_json::from_slice(&dev_testkit::read(&root_dir().join(path)).unwrap()).unwrap()
}

/// Requests recorded from the reference: the response must be the same bytes.
#[test]
fn recorded_proofs() {
    let mut compared = 0;
    for case in gunzip_json("vectors/mkvs/proofs.json.gz").as_array().unwrap() {
        let unhex = |v: &Value| hex::decode(v.as_str().unwrap()).unwrap();
        let pairs: Vec<_> = case["pairs"].as_array().iter().flat_map(|p| p.iter()).collect();
        let mut tree = tree_of(pairs.iter().map(|p| (unhex(&p[0]), unhex(&p[1]))));
        let root = hash(case["root"].as_str().unwrap());
        assert_eq!(tree.root_hash(&Sequential), root);
        for query in case["queries"].as_array().unwrap() {
            let request = STANDARD.decode(query["request"].as_str().unwrap()).unwrap();
            let response = STANDARD.decode(query["response"].as_str().unwrap()).unwrap();
            let (again, answer) = match query["kind"].as_str().unwrap() {
                "get" => {
                    let r: GetRequest = base_codec::cbor::from_slice(&request).unwrap();
                    (base_codec::cbor::to_vec(&r), Server::new(&tree, r.tree.root, 1 << 20).get(&r))
                }
                "prefixes" => {
                    let r: GetPrefixesRequest = base_codec::cbor::from_slice(&request).unwrap();
                    (base_codec::cbor::to_vec(&r), Server::new(&tree, r.tree.root, 1 << 20).get_prefixes(&r))
                }
                _ => {
                    let r: IterateRequest = base_codec::cbor::from_slice(&request).unwrap();
                    (base_codec::cbor::to_vec(&r), Server::new(&tree, r.tree.root, 1 << 20).iterate(&r))
                }
            };
            assert_eq!(again, request);
            let answer = ProofResponse { proof: answer.unwrap() };
            assert_eq!(base_codec::cbor::to_vec(&answer), response, "{query}");
            let recorded: ProofResponse = base_codec::cbor::from_slice(&response).unwrap();
            verify(&recorded.proof.untrusted_root, &recorded.proof).unwrap();
            compared += 1;
        }
    }
    println!("{compared} recorded responses");
    assert_eq!(compared, 60 * 24);
}
