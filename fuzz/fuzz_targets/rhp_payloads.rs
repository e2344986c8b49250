//! What travels inside the host protocol: calls between enclaves, messages of ROFL components, transactions of a round.
#![no_main]

use base_codec::cbor::{self, Decode, Encode};
use libfuzzer_sys::fuzz_target;
use wire_runtime::{
    enclave_rpc, rofl,
    transaction::{Collector, InputArtifacts, Key, OutputArtifacts},
};

fn stable<T: Decode + Encode>(data: &[u8]) {
    if let Ok(value) = cbor::from_slice::<T>(data) {
        let bytes = cbor::to_vec(&value);
        let again: T = cbor::from_slice(&bytes).expect("what was encoded decodes");
        assert_eq!(cbor::to_vec(&again), bytes);
    }
}

fuzz_target!(|data: &[u8]| {
    stable::<enclave_rpc::Message>(data);
    stable::<enclave_rpc::Frame>(data);
    stable::<enclave_rpc::RakBinding>(data);
    stable::<rofl::Config>(data);
    stable::<rofl::AttestLabelsRequest>(data);
    stable::<rofl::AttestLabelsResponse>(data);
    stable::<rofl::LabelAttestation>(data);
    stable::<rofl::BundleWriteRequest>(data);
    stable::<rofl::BundleAddRequest>(data);
    stable::<rofl::BundleListResponse>(data);
    stable::<rofl::VolumeListResponse>(data);
    stable::<rofl::LogGetRequest>(data);
    stable::<rofl::LogGetResponse>(data);
    stable::<InputArtifacts>(data);
    stable::<OutputArtifacts>(data);
    if let Some(key) = Key::parse(data) {
        // Bytes after the kind of a transaction's key do not count.
        let bytes = key.to_bytes();
        assert!(data.starts_with(&bytes));
        assert_eq!(Key::parse(&bytes).map(Key::to_bytes), Some(bytes.clone()));
    }
    let (key, value) = data.split_at(data.len().min(34));
    let _ = Collector::default().push(key, value);
});
