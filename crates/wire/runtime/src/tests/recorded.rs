//! The recorded traffic: every frame decodes, encodes to the same bytes, and requests pair up with answers.

use std::{collections::BTreeMap, path::PathBuf};

use base_codec::cbor;
use dev_testkit::rhp::{Direction, Record, load};

use crate::{Body, Message, MessageType, enclave_rpc, frame, transaction};

const TRACES: [&str; 3] = ["keymanager", "keyvalue-client", "keyvalue-compute"];

fn trace(name: &str) -> Vec<Record> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors/rhp"));
    load(&path.join(format!("{name}.bin"))).unwrap()
}

#[test]
fn frames_decode_and_encode_to_the_same_bytes() {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for name in TRACES {
        for (i, record) in trace(name).iter().enumerate() {
            let message = frame::decode(&record.body).unwrap_or_else(|e| panic!("{name} {i}: {e}"));
            let body = message.body.name().to_owned();
            assert!(!matches!(message.body, Body::Unknown(_)), "{name} {i}: {body}");
            assert_eq!(hex::encode(cbor::to_vec(&message)), hex::encode(&record.body), "{name} {i}: {body}");
            let framed = frame::encode(&message, frame::MAX_RUNTIME_FRAME_BYTES).unwrap();
            assert_eq!(framed[frame::LENGTH_BYTES..], record.body);
            *kinds.entry(body).or_default() += 1;
        }
    }
    let frames: usize = kinds.values().sum();
    println!("{frames} frames of {} kinds: {kinds:?}", kinds.len());
    assert_eq!(frames, 568 + 276 + 376);
    assert!(kinds.len() > 25, "{kinds:?}");
}

/// Nothing the runtimes or the reference's host send has fields that the types do not know.
#[test]
fn frames_have_no_unknown_fields() {
    for name in TRACES {
        for record in trace(name) {
            assert!(cbor::from_slice::<Message>(&record.body).is_ok());
        }
    }
}

#[test]
fn requests_and_responses_pair_up() {
    let mut paired = 0;
    for name in TRACES {
        // By who asked: requests not answered yet, and the next id.
        let mut open: BTreeMap<(bool, u64), Body> = BTreeMap::new();
        let mut next = [0u64; 2];
        for (i, record) in trace(name).into_iter().enumerate() {
            let message = frame::decode(&record.body).unwrap();
            let from_host = record.direction == Direction::Host;
            match message.message_type {
                MessageType::REQUEST => {
                    let expected = &mut next[usize::from(from_host)];
                    assert_eq!(message.id, *expected, "{name} {i}");
                    *expected += 1;
                    assert!(message.body.is_request(), "{name} {i}");
                    let side = if from_host { "Runtime" } else { "Host" };
                    assert!(message.body.name().starts_with(side), "{name} {i}");
                    assert!(open.insert((from_host, message.id), message.body).is_none());
                }
                MessageType::RESPONSE => {
                    let request = open
                        .remove(&(!from_host, message.id))
                        .unwrap_or_else(|| panic!("{name} {i}: answer without request"));
                    assert!(
                        message.body.answers(&request),
                        "{name} {i}: {} answers {}",
                        message.body.name(),
                        request.name()
                    );
                    paired += 1;
                }
                other => panic!("{name} {i}: type {other}"),
            }
        }
        // The recording ends while the runtime runs.
        println!("{name}: {} without answer", open.len());
        assert!(open.len() <= 2, "{name}: {open:?}");
    }
    println!("{paired} pairs");
    assert!(paired > 500);
}

#[test]
fn enclave_frames_and_local_calls_decode() {
    let (mut frames, mut locals) = (0, 0);
    for name in TRACES {
        for record in trace(name) {
            match frame::decode(&record.body).unwrap().body {
                Body::HostRPCCallRequest(r) if r.kind == Some(enclave_rpc::Kind::NOISE_SESSION) => {
                    let bytes = r.request.unwrap();
                    let inner: enclave_rpc::Frame = cbor::from_slice(&bytes).unwrap();
                    assert_eq!(cbor::to_vec(&inner), bytes.0);
                    frames += 1;
                }
                Body::RuntimeLocalRPCCallRequest(r) => {
                    let bytes = r.request.unwrap();
                    let inner: enclave_rpc::Request = cbor::from_slice(&bytes).unwrap();
                    assert_eq!(cbor::to_vec(&inner), bytes.0);
                    locals += 1;
                }
                Body::RuntimeLocalRPCCallResponse(r) => {
                    let bytes = r.response.unwrap();
                    let inner: enclave_rpc::Message = cbor::from_slice(&bytes).unwrap();
                    assert_eq!(cbor::to_vec(&inner), bytes.0);
                    locals += 1;
                }
                _ => {}
            }
        }
    }
    println!("{frames} frames, {locals} local messages");
    assert!(frames > 0 && locals > 0);
}

#[test]
fn recorded_batches_are_trees_of_known_form() {
    let (mut inputs, mut outputs, mut tags) = (0, 0, 0);
    for record in trace("keyvalue-compute") {
        let Body::RuntimeExecuteTxBatchResponse(response) = frame::decode(&record.body).unwrap().body else {
            continue;
        };
        let input_log = response.tx_input_write_log.as_option().into_iter().flatten();
        let io_log = response.batch.io_write_log.iter().flatten();
        for entry in input_log.chain(io_log) {
            let key = transaction::Key::parse(&entry.key).unwrap();
            assert_eq!(key.to_bytes(), entry.key.0);
            let value = entry.value.as_ref().unwrap();
            match key {
                transaction::Key::Transaction { hash, kind: transaction::ArtifactKind::Input } => {
                    let artifacts: transaction::InputArtifacts = cbor::from_slice(value).unwrap();
                    assert_eq!(cbor::to_vec(&artifacts), value.0);
                    assert_eq!(transaction::hash(&artifacts.input.unwrap()), hash);
                    inputs += 1;
                }
                transaction::Key::Transaction { .. } => {
                    let artifacts: transaction::OutputArtifacts = cbor::from_slice(value).unwrap();
                    assert_eq!(cbor::to_vec(&artifacts), value.0);
                    outputs += 1;
                }
                transaction::Key::Tag { .. } => tags += 1,
            }
        }
        // Hashes in schedule mode are those of the inputs.
        let hashes = response.tx_hashes.as_option().map_or(0, Vec::len);
        let log = response.tx_input_write_log.as_option().map_or(0, Vec::len);
        assert_eq!(hashes, log);
    }
    println!("{inputs} inputs, {outputs} outputs, {tags} tags");
    assert!(inputs > 0 && outputs > 0);
}
