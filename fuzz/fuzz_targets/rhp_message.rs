//! Each message of the host protocol by its name, with arbitrary fields.
#![no_main]

use base_codec::cbor;
use libfuzzer_sys::fuzz_target;
use wire_runtime::{Body, frame};

fuzz_target!(|data: &[u8]| {
    let Some((which, fields)) = data.split_first() else { return };
    let names = Body::names();
    let name = names[usize::from(*which) % names.len()];
    let mut e = cbor::Encoder::with_capacity(64 + fields.len());
    e.map(3);
    e.text("id");
    e.uint(1);
    e.text("body");
    e.map(1);
    e.text(name);
    e.raw(fields);
    e.text("message_type");
    e.uint(2);
    if let Ok(message) = frame::decode(&e.into_vec())
        && !matches!(message.body, Body::Unknown(_))
    {
        let bytes = cbor::to_vec(&message);
        let again = frame::decode(&bytes).expect("what was encoded decodes");
        assert_eq!(cbor::to_vec(&again), bytes);
    }
});
