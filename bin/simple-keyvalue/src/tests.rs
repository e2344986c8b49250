//! Recorded traffic of the reference's runtime, replayed: what the host asked then is asked again, what it answered
//! then is answered again, and what comes back must be the same bytes.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use base_codec::cbor;
use base_prims::Hash;
use dev_testkit::rhp::{Direction, load};
use mkvs_tree::{Link, NodeRef, Proof, Side, proof, sync::ProofResponse};
use rt_guest::{
    Config,
    testing::{RecordedAnswers, replay},
};
use wire_runtime::{Body, Error as WireError, host::StorageSyncResponse};

use super::*;

fn frames(name: &str) -> Vec<(bool, Vec<u8>)> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/rhp"));
    let records = load(&path.join(format!("{name}.bin"))).unwrap();
    records.into_iter().map(|record| (record.direction == Direction::Host, record.body)).collect()
}

/// The nodes of all recorded proofs, each with a proof that it is in.
///
/// This runtime's iterations stop elsewhere than the reference's, so it asks for the same nodes under other keys.
fn proven_nodes(recorded: &RecordedAnswers) -> HashMap<Hash, Proof> {
    let mut nodes = HashMap::new();
    for answer in recorded.all() {
        let Body::HostStorageSyncResponse(response) = answer else { continue };
        let Some(ProofResponse { proof }) = &response.proof_response else { continue };
        let mut todo = vec![proof::verify(&proof.untrusted_root, proof).unwrap().root];
        while let Some(link) = todo.pop() {
            let (Some(hash), Some(node)) = (link.hash(), link.node()) else { continue };
            nodes.insert(hash, proof.clone());
            if let NodeRef::Inner(inner) = node {
                todo.extend(Side::ALL.map(|side| Link::clone(inner.child(side))));
            }
        }
    }
    nodes
}

/// Every answer is the recorded one.
fn replay_all(name: &str) -> BTreeMap<&'static str, usize> {
    let recorded = RecordedAnswers::new(frames(name)).unwrap();
    let nodes = proven_nodes(&recorded);
    let answers = |request: &Body, place: usize| {
        if let Some(answer) = recorded.answer(request, place) {
            return Ok(answer);
        }
        let position = match request {
            Body::HostStorageSyncRequest(request) => request.iterate.as_ref().map(|r| r.tree.position),
            _ => None,
        };
        let proof = position.and_then(|position| nodes.get(&position)).cloned();
        let proof = proof.ok_or_else(|| WireError {
            module: "replay".into(),
            code: 1,
            message: format!("not recorded: {request:?}"),
        })?;
        let proof_response = Some(ProofResponse { proof });
        Ok(Body::HostStorageSyncResponse(StorageSyncResponse { proof_response }))
    };
    let config = Config { schedule: Some(MAX_BATCH_SIZE as u32), ..Config::default() };
    let init = |env: &rt_guest::Env| init(env, MAX_BATCH_SIZE);
    let replayed = replay(frames(name), config, Box::new(init), answers).unwrap();
    let mut same = BTreeMap::new();
    for (request, expected, got) in &replayed.calls {
        assert_eq!(got, expected, "{name} {}", request.name());
        assert_eq!(cbor::to_vec(got), cbor::to_vec(expected), "{name} {}", request.name());
        *same.entry(request.answer_name().unwrap()).or_default() += 1;
    }
    println!(
        "{name}: {} equal answers {same:?}; {} equal requests to the host at the same places, {} not made, {} others",
        replayed.calls.len(),
        replayed.requests,
        replayed.missing.len(),
        replayed.others.len()
    );
    for other in &replayed.others {
        println!("  {}", format!("{other:?}").chars().take(200).collect::<String>());
    }
    same
}

#[test]
fn compute_node_traffic_is_answered_byte_for_byte() {
    let same = replay_all("keyvalue-compute");
    assert_eq!(same["RuntimeExecuteTxBatchResponse"], 14);
    assert_eq!(same["RuntimeCheckTxBatchResponse"], 10);
    assert_eq!(same.values().sum::<usize>(), 1 + 57 + 3 + 5 + 14 + 10);
}

#[test]
fn client_node_traffic_is_answered_byte_for_byte() {
    let same = replay_all("keyvalue-client");
    assert_eq!(same["RuntimeCheckTxBatchResponse"], 10);
    assert_eq!(same.values().sum::<usize>(), 1 + 3 + 49 + 4 + 10);
}
