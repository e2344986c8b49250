//! Frames of the host protocol, cut anywhere: no panic, and whatever decodes has one encoding.
#![no_main]

use base_codec::cbor;
use libfuzzer_sys::fuzz_target;
use wire_runtime::{
    Body,
    frame::{self, FrameReader},
};

fn settles(frame: &[u8]) {
    // `null` for a message is none, and keeps only its name.
    if let Ok(message) = frame::decode(frame)
        && !matches!(&message.body, Body::Unknown(name) if Body::names().contains(&name.as_str()))
    {
        let bytes = cbor::to_vec(&message);
        let again = frame::decode(&bytes).expect("what was encoded decodes");
        assert_eq!(cbor::to_vec(&again), bytes);
    }
}

fuzz_target!(|data: &[u8]| {
    settles(data);
    let Some((cut, stream)) = data.split_first() else { return };
    let mut reader = FrameReader::new(1 << 16);
    for piece in stream.chunks(usize::from(*cut).max(1)) {
        reader.push(piece);
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => settles(frame),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(reader.pending() <= (1 << 16) + 4 + piece.len());
    }
});
