//! Properties of every decoder of this crate that takes bytes from outside.

use std::fmt::Debug;

use base_codec::cbor::{self, Decode, Encode};
use dev_testkit::{paths, transactions};
use proptest::{prelude::*, sample::Index};

use crate::{
    beacon, churp, entity::Entity, genesis::Document, governance, keymanager, meta, node::Node, registry, roothash,
    signed, staking, transaction, upgrade, vault,
};

/// What decodes encodes to bytes that decode to the same value and encode to the same bytes.
fn stable<T: Decode + Encode + PartialEq + Debug>(data: &[u8]) {
    if let Ok(value) = cbor::from_slice::<T>(data) {
        let bytes = cbor::to_vec(&value);
        let again: T = cbor::from_slice(&bytes).expect("what was encoded decodes");
        assert_eq!(again, value);
        assert_eq!(cbor::to_vec(&again), bytes);
    }
}

fn every_type(data: &[u8]) {
    stable::<transaction::SignedTransaction>(data);
    stable::<transaction::Transaction>(data);
    stable::<signed::MultiSigned>(data);
    stable::<meta::BlockMetadata>(data);
    stable::<staking::Transfer>(data);
    stable::<staking::AmendCommissionSchedule>(data);
    stable::<staking::Account>(data);
    stable::<staking::ParameterChanges>(data);
    stable::<Entity>(data);
    stable::<Node>(data);
    stable::<registry::Runtime>(data);
    stable::<beacon::VrfState>(data);
    stable::<beacon::VrfProve>(data);
    stable::<roothash::ExecutorCommit>(data);
    stable::<roothash::Evidence>(data);
    stable::<governance::ProposalContent>(data);
    stable::<upgrade::Descriptor>(data);
    stable::<vault::AuthorizeAction>(data);
    stable::<keymanager::Status>(data);
    stable::<churp::CreateRequest>(data);
}

/// Blobs to mutate: every kind of transaction, and the descriptors inside.
fn corpus() -> Vec<Vec<u8>> {
    let mut blobs = Vec::new();
    for name in ["staking", "registry", "governance"] {
        let file = paths::vectors_dir().join(format!("transactions/{name}.json.gz"));
        for entry in transactions::load(&file).expect("recorded transactions").iter().step_by(97) {
            blobs.push(entry.encoded_signed_tx.clone());
            blobs.push(entry.encoded_tx.clone());
        }
    }
    let genesis = paths::vectors_dir().join("chains/runtime-runtime/genesis.json");
    let text = dev_testkit::read(&genesis).expect("recorded genesis");
    let doc = Document::from_json(&String::from_utf8(text).expect("JSON is text")).expect("recorded genesis reads");
    blobs.extend(doc.registry.nodes.iter().map(|n| n.blob().to_vec()));
    blobs.extend(doc.registry.entities.iter().map(|n| n.blob().to_vec()));
    blobs.extend(doc.registry.runtimes.iter().map(cbor::to_vec));
    blobs
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        every_type(&data);
    }

    #[test]
    fn mutated_recordings_never_panic(
        which in any::<Index>(),
        edits in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<Index>()),
    ) {
        thread_local!(static CORPUS: Vec<Vec<u8>> = corpus());
        CORPUS.with(|corpus| {
            let mut data = which.get(corpus).clone();
            for (at, value) in &edits {
                let at = at.index(data.len());
                data[at] = *value;
            }
            if let Some(cut) = cut {
                data.truncate(cut.index(data.len()));
            }
            every_type(&data);
        });
    }

    #[test]
    fn mutated_genesis_documents_never_panic(
        edits in proptest::collection::vec((any::<Index>(), 0x20u8..0x7f), 1..4),
    ) {
        thread_local!(static TEXT: Vec<u8> = dev_testkit::read(
            &paths::vectors_dir().join("chains/debond/genesis.json"),
        ).expect("recorded genesis"));
        TEXT.with(|text| {
            let mut text = text.clone();
            for (at, value) in &edits {
                let at = at.index(text.len());
                text[at] = *value;
            }
            let text = String::from_utf8(text).expect("printable characters only");
            if let Ok(doc) = Document::from_json(&text) {
                let canonical = doc.to_canonical_json();
                let again = Document::from_json(&canonical).expect("what was written reads");
                assert_eq!(again.hash(), doc.hash());
                // Whatever it says, it says it without panicking.
                let _ = doc.sanity_check(true);
            }
        });
    }
}
