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

/// Whatever decodes has one encoding, which decodes to itself. `null` for a message is none, and keeps only its name.
fn settles(frame: &[u8]) {
    if let Ok(message) = frame::decode(frame)
        && !matches!(&message.body, crate::Body::Unknown(name) if crate::Body::names().contains(&name.as_str()))
    {
        let bytes = cbor::to_vec(&message);
        let again = frame::decode(&bytes).unwrap();
        assert_eq!(cbor::to_vec(&again), bytes);
    }
}

/// A frame that holds a message of that name with those fields.
fn frame_of(name: &str, fields: &[u8]) -> Vec<u8> {
    let mut e = cbor::Encoder::with_capacity(128);
    e.map(3);
    e.text("id");
    e.uint(1);
    e.text("body");
    e.map(1);
    e.text(name);
    e.raw(fields);
    e.text("message_type");
    e.uint(2);
    e.into_vec()
}

/// CBOR of any shape, little of it.
fn any_cbor() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        any::<u64>().prop_map(|n| cbor::to_vec(&n)),
        prop::collection::vec(any::<u8>(), 0..70).prop_map(|b| cbor::to_vec(&base_codec::Bytes(b))),
        prop::sample::select(vec!["", "id", "data", "error", "height"]).prop_map(|t| cbor::to_vec(&t.to_owned())),
        Just(vec![0xf6]),
        Just(vec![0xf5]),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let keys = prop::sample::select(FIELDS.to_vec());
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| {
                let mut e = cbor::Encoder::with_capacity(64);
                e.array(items.len());
                items.iter().for_each(|item| e.raw(item));
                e.into_vec()
            }),
            prop::collection::btree_map(keys, inner, 0..5).prop_map(|fields| {
                let mut e = cbor::Encoder::with_capacity(64);
                e.map(fields.len());
                let mut fields: Vec<_> = fields.into_iter().collect();
                fields.sort_by_key(|(name, _)| (name.len(), *name));
                for (name, value) in fields {
                    e.text(name);
                    e.raw(&value);
                }
                e.into_vec()
            }),
        ]
    })
}

/// Field names that many messages have.
const FIELDS: &[&str] = &[
    "id",
    "v",
    "data",
    "value",
    "key",
    "request",
    "response",
    "height",
    "events",
    "results",
    "batch",
    "header",
    "inputs",
    "messages",
    "error",
    "code",
    "module",
    "message",
    "method",
    "args",
    "block",
    "meta",
    "validators",
    "proof",
    "root",
    "rak_pub",
    "report",
    "nonce",
    "signature",
    "runtime_version",
    "protocol_version",
    "features",
    "nodes",
    "kind",
    "endpoint",
    "io_root",
    "state_root",
    "tx",
    "txs",
    "hash",
    "round",
    "namespace",
    "rw_sets",
    "in_msgs_hash",
];

#[test]
fn every_message_survives_empty_and_absurd_fields() {
    let mut decoded = 0;
    for name in crate::Body::names() {
        for fields in [&b"\xa0"[..], b"\xf6", b"\x80", b"\x00", b"\x40", b"\x60", b"\xa1\x62id\xf6", b"\xff", b""] {
            let frame = frame_of(name, fields);
            settles(&frame);
            decoded += usize::from(frame::decode(&frame).is_ok());
        }
    }
    println!("{} messages, {decoded} frames decode", crate::Body::names().len());
    assert!(crate::Body::names().len() > 60 && decoded > crate::Body::names().len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_message_survives_arbitrary_fields(
        name in prop::sample::select(crate::Body::names().to_vec()),
        fields in any_cbor(),
    ) {
        settles(&frame_of(name, &fields));
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
