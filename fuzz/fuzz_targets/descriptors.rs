//! Entity, node, runtime and upgrade descriptors.
#![no_main]

use base_codec::cbor::{self, Decode, Encode};
use libfuzzer_sys::fuzz_target;
use wire_consensus::{entity::Entity, node::Node, registry::Runtime, upgrade::Descriptor};

fn stable<T: Decode + Encode>(data: &[u8]) {
    if let Ok(value) = cbor::from_slice::<T>(data) {
        let bytes = cbor::to_vec(&value);
        let again: T = cbor::from_slice(&bytes).expect("what was encoded decodes");
        assert_eq!(cbor::to_vec(&again), bytes);
    }
}

fuzz_target!(|data: &[u8]| {
    stable::<Entity>(data);
    stable::<Node>(data);
    stable::<Runtime>(data);
    stable::<Descriptor>(data);
});
