//! Checkpoint chunks against a fixed root: arbitrary bytes are refused with a reason, and nothing panics or grows.
#![no_main]

use base_codec::Bytes;
use base_prims::Hash;
use mkvs_db::checkpoint::{decode_chunk, encode_chunk};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let root = Hash::of(&[b"a root nobody has the tree of"]);
    assert!(decode_chunk(data, &root).is_err());
    // The same bytes as the only entry of a well-formed chunk reach the node decoder.
    let (chunk, _) = encode_chunk(&[Some(Bytes(data.to_vec())), None, None]);
    assert!(decode_chunk(&chunk, &root).is_err());
});
