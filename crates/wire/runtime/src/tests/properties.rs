//! Arbitrary and damaged input.

use std::path::PathBuf;

use base_codec::cbor;
use proptest::prelude::*;

use crate::{
    bundle::Manifest,
    enclave_rpc,
    frame::{self, FrameReader},
    transaction::{Collector, Key},
};

fn frames() -> &'static [Vec<u8>] {
    static FRAMES: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    FRAMES.get_or_init(|| {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors/rhp"));
        ["keymanager", "keyvalue-client", "keyvalue-compute"]
            .iter()
            .flat_map(|name| dev_testkit::rhp::load(&path.join(format!("{name}.bin"))).unwrap())
            .map(|record| record.body)
            .filter(|body| body.len() < 4096)
            .collect()
    })
}

/// Whatever decodes has one encoding, which decodes to itself.
fn settles(frame: &[u8]) {
    if let Ok(message) = frame::decode(frame) {
        let bytes = cbor::to_vec(&message);
        let again = frame::decode(&bytes).unwrap();
        assert_eq!(cbor::to_vec(&again), bytes);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        settles(&bytes);
        let _ = cbor::from_slice::<enclave_rpc::Message>(&bytes);
        let _ = cbor::from_slice::<enclave_rpc::Frame>(&bytes);
        let _ = cbor::from_slice::<enclave_rpc::RakBinding>(&bytes);
        let _ = Key::parse(&bytes);
        let _ = Collector::default().push(&bytes, &bytes);
        let mut reader = FrameReader::new(100);
        reader.push(&bytes);
        while let Ok(Some(_)) = reader.next_frame() {}
    }

    #[test]
    fn damaged_frames_never_panic(
        index in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let mut frame = index.get(frames()).clone();
        for (at, byte) in damage {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        if let Some(cut) = cut {
            let cut = cut.index(frame.len());
            frame.truncate(cut);
        }
        settles(&frame);
    }

    #[test]
    fn arbitrary_manifests_never_panic(text in "\\PC{0,200}") {
        if let Ok(manifest) = Manifest::from_json(&text) {
            let _ = manifest.validate();
        }
    }

    #[test]
    fn manifest_like_text_never_panics(parts in prop::collection::vec(prop::sample::select(vec![
        "{", "}", "[", "]", ":", ",", "null", "1", "\"id\"", "\"components\"", "\"kind\"", "\"ronl\"", "\"sgx\"",
        "\"digests\"", "\"version\"", "\"major\"", "\"tdx\"", "\"00\"",
    ]), 0..40)) {
        if let Ok(manifest) = Manifest::from_json(&parts.concat()) {
            let _ = (manifest.validate(), manifest.hash(), manifest.available_components());
            prop_assert_eq!(Manifest::from_json(&manifest.to_json()).map(|m| m.hash()), Ok(manifest.hash()));
        }
    }
}
