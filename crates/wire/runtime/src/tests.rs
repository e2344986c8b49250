//! Recorded traffic, known values, and properties.

mod properties;
mod recorded;

use std::collections::BTreeMap;

use base_codec::{Bytes, Raw, cbor};
use base_crypto::context;
use base_prims::{Hash, Namespace, PublicKey, RawSignature, Version};
use mkvs_tree::LogEntry;

use crate::{
    Body, BoundedList, Empty, Error, Field, Message, MessageType,
    bundle::{self, ComponentId, Manifest},
    enclave_rpc::{self, Frame, RakBinding, ResponseBody},
    error,
    frame::{self, FrameError, FrameReader},
    host, rofl, runtime,
    transaction::{self, ArtifactKind, Collector, Key, Transaction, TreeError},
};

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

#[test]
fn label_attestation_is_the_reference_s() {
    let attestation = rofl::LabelAttestation {
        labels: Some([("foo".to_owned(), "bar".to_owned())].into()),
        rak: PublicKey::new([0x42; 32]),
    };
    let encoded = cbor::to_vec(&attestation);
    assert_eq!(
        encoded,
        hex(
            "a26372616b58204242424242424242424242424242424242424242424242424242424242424242666c6162656c73a163666f6f63626172"
        )
    );
    assert_eq!(cbor::from_slice(&encoded), Ok(attestation));
}

#[test]
fn protocol_version_is_5_1_0() {
    assert_eq!(crate::PROTOCOL_VERSION, Version::new(5, 1, 0));
}

#[test]
fn forms_of_absence_survive() {
    for (bytes, meta) in [
        ("a1656572726f72a0", Field::Absent),
        ("a2646d657461f6656572726f72a0", Field::Null),
        ("a2646d657461a0656572726f72a0", Field::Is(runtime::CheckTxMetadata::default())),
    ] {
        let result: runtime::CheckTxResult = cbor::from_slice(&hex(bytes)).unwrap();
        assert_eq!(result.meta, meta);
        assert_eq!(cbor::to_vec(&result), hex(bytes));
    }
    // A runtime sends `endpoint` 0, a Go node would leave it out.
    let explicit = host::StorageSyncRequest { endpoint: Some(host::StorageEndpoint::RUNTIME), ..Default::default() };
    assert_eq!(cbor::to_vec(&explicit), hex("a168656e64706f696e7400"));
    assert_eq!(cbor::to_vec(&host::StorageSyncRequest::default()), [0xa0]);
}

#[test]
fn bodies_that_are_not_one_message() {
    let body = |text: &str| cbor::from_slice_relaxed::<Body>(&hex(text));
    assert_eq!(body("a0"), Ok(Body::default()));
    assert_eq!(body("f6"), Ok(Body::default()));
    // {"New": {}}
    assert_eq!(body("a1634e6577a0"), Ok(Body::Unknown("New".into())));
    // {"Empty": null} is none, {"empty": {}} is one.
    assert_eq!(body("a165456d707479f6"), Ok(Body::Unknown("Empty".into())));
    assert_eq!(body("a165656d707479a0"), Ok(Body::Empty(Empty {})));
    // {"Empty": {}, "Error": {}}
    assert!(body("a265456d707479a0654572726f72a0").is_err());
    // {1: {}}
    assert_eq!(body("a101a0"), Ok(Body::default()));
    // Unknown fields within a message are passed over.
    assert_eq!(body("a165456d707479a1617801"), Ok(Body::Empty(Empty {})));
    let long = Body::Unknown("n".repeat(1000));
    let back: Body = cbor::from_slice_relaxed(&cbor::to_vec(&long)).unwrap();
    assert_eq!(back, Body::Unknown("n".repeat(64)));
}

#[test]
fn every_request_names_its_answer() {
    let ping = Body::RuntimePingRequest(Empty {});
    assert!(ping.is_request());
    assert!(Body::Empty(Empty {}).answers(&ping));
    assert!(Body::Error(Error::method_not_supported()).answers(&ping));
    assert!(!Body::RuntimeAbortResponse(Empty {}).answers(&ping));
    let notify = Body::RuntimeNotifyRequest(Box::default());
    assert!(Body::Empty(Empty {}).answers(&notify));
    assert!(Body::RuntimeNotifyResponse(Empty {}).answers(&notify));
    let abort = Body::RuntimeAbortRequest(Empty {});
    assert!(!Body::Empty(Empty {}).answers(&abort));
    assert!(!Body::Empty(Empty {}).answers(&Body::Empty(Empty {})));
    let failed: Body = Err(Error::new(error::NOT_READY, "rhp: not ready")).into();
    let error = failed.into_result().unwrap_err();
    assert!(error.is(error::NOT_READY) && !error.is_success());
    assert_eq!(error.to_string(), "runtime error: module: rhp/internal code: 1 message: rhp: not ready");
}

#[test]
fn frames_have_limits() {
    let message = Message::request(7, Body::RuntimePingRequest(Empty {}));
    let framed = frame::encode(&message, 1000).unwrap();
    let (header, body) = framed.split_first_chunk::<4>().unwrap();
    assert_eq!(frame::frame_length(*header, 1000), Ok(body.len()));
    assert_eq!(frame::decode(body), Ok(message.clone()));
    let too_large = FrameError::TooLarge { length: body.len(), limit: body.len() - 1 };
    assert_eq!(frame::encode(&message, body.len() - 1), Err(too_large.clone()));
    assert_eq!(frame::frame_length(*header, body.len() - 1), Err(too_large));
    let trailing = [body, &[0]].concat();
    assert!(matches!(frame::decode(&trailing), Err(FrameError::Malformed(_))));
    assert!(matches!(frame::decode(&[]), Err(FrameError::Malformed(_))));

    // One item too many: nulls as transaction hashes.
    let count = frame::MAX_FRAME_ITEMS;
    let mut list = vec![0x9a];
    list.extend_from_slice(&u32::try_from(count).unwrap().to_be_bytes());
    list.resize(5 + count, 0xf6);
    let mut nulls = vec![0xa1, 0x64];
    nulls.extend_from_slice(b"body");
    nulls.extend_from_slice(&[0xa1, 0x78, 29]);
    nulls.extend_from_slice(b"RuntimeExecuteTxBatchResponse");
    nulls.extend_from_slice(&[0xa1, 0x69]);
    nulls.extend_from_slice(b"tx_hashes");
    nulls.extend_from_slice(&list);
    assert_eq!(frame::decode(&nulls), Err(FrameError::TooManyItems { limit: count }));
}

#[test]
fn lists_of_large_elements_are_bounded() {
    type List = BoundedList<Error, 3>;
    assert_eq!(cbor::from_slice::<List>(&[0x83, 0xa0, 0xa0, 0xf6]).unwrap().as_slice().len(), 3);
    assert!(cbor::from_slice::<List>(&[0x84, 0xa0, 0xa0, 0xa0, 0xa0]).is_err());
    assert_eq!(cbor::from_slice::<List>(&[0xf6]), Ok(BoundedList(None)));
    for list in [BoundedList(None), BoundedList(Some(vec![])), vec![Error::default()].into()] {
        let list: List = list;
        assert_eq!(cbor::from_slice(&cbor::to_vec(&list)), Ok(list));
    }
}

#[test]
fn reader_cuts_frames_at_any_chunk_size() {
    let messages: Vec<Message> = (0..5)
        .map(|id| Message {
            id,
            message_type: MessageType::RESPONSE,
            body: Body::HostLocalStorageGetResponse(host::LocalStorageGetResponse {
                value: Some(Bytes(vec![7; usize::try_from(id).unwrap() * 50])),
            }),
        })
        .collect();
    let stream: Vec<u8> =
        messages.iter().flat_map(|m| frame::encode(m, frame::MAX_RUNTIME_FRAME_BYTES).unwrap()).collect();
    for size in [1, 2, 3, 7, 64, stream.len()] {
        let mut reader = FrameReader::new(1000);
        let mut found = Vec::new();
        for chunk in stream.chunks(size) {
            reader.push(chunk);
            while let Some(frame) = reader.next_frame().unwrap() {
                found.push(frame::decode(frame).unwrap());
            }
        }
        assert_eq!(found, messages);
        assert_eq!(reader.pending(), 0);
    }
    let mut reader = FrameReader::new(10);
    reader.push(&[0, 0, 0, 11]);
    assert!(reader.next_frame().is_err() && reader.next_frame().is_err());
}

#[test]
fn enclave_calls() {
    let frame = Frame::default();
    let bytes = cbor::to_vec(&frame);
    // All three fields, however empty.
    assert_eq!(bytes[0], 0xa3);
    assert_eq!(cbor::from_slice(&bytes), Ok(frame));
    for (message, start) in [
        (enclave_rpc::Message::Close, "65436c6f7365"),
        (
            enclave_rpc::Message::Response(enclave_rpc::Response { body: ResponseBody::Success(Raw(vec![0xf6])) }),
            "a168526573706f6e7365a164626f6479a16753756363657373f6",
        ),
        (
            enclave_rpc::Message::Request(enclave_rpc::Request { method: "m".into(), args: Raw(vec![1]) }),
            "a16752657175657374a26461726773016",
        ),
    ] {
        let bytes = cbor::to_vec(&message);
        assert!(hex::encode(&bytes).starts_with(start), "{message:?}");
        assert_eq!(cbor::from_slice(&bytes), Ok(message));
    }
    // A node of the reference writes the name in lower case.
    let lower: enclave_rpc::Message =
        cbor::from_slice(&hex("a168726573706f6e7365a164626f6479a1654572726f726178")).unwrap();
    assert_eq!(lower, enclave_rpc::Message::Response(enclave_rpc::Response { body: ResponseBody::Error("x".into()) }));
    for bad in ["a0", "6443616c6c", "a168526573706f6e7365a164626f6479a0", "01"] {
        assert!(cbor::from_slice::<enclave_rpc::Message>(&hex(bad)).is_err(), "{bad}");
    }
}

#[test]
fn key_bindings_of_all_versions() {
    let (rak_pub, binding) = (PublicKey::new([1; 32]), RawSignature::new([2; 64]));
    for (version, binding) in [
        RakBinding::V0 { rak_pub, binding, avr: rt_tee::ias::AvrBundle::default() },
        RakBinding::V1 { rak_pub, binding, quote: rt_tee::Quote::default() },
        RakBinding::V2 { ect: Box::default(), binding },
    ]
    .into_iter()
    .enumerate()
    {
        let bytes = cbor::to_vec(&binding);
        // The version is the first key, being the shortest.
        let expected: &[u8] = match version {
            0 => &[0xa3, 0x63],
            1 => &[0xa4, 0x61, b'v', 1],
            _ => &[0xa3, 0x61, b'v', 2],
        };
        assert!(bytes.starts_with(expected));
        assert_eq!(cbor::from_slice(&bytes), Ok(binding));
    }
    // {v: 3}, {v: 2}, {}
    for bad in ["a1617603", "a1617602", "a0"] {
        assert!(cbor::from_slice::<RakBinding>(&hex(bad)).is_err(), "{bad}");
    }
}

#[test]
fn transaction_keys() {
    let hash = transaction::hash(b"tx");
    for kind in [ArtifactKind::Input, ArtifactKind::Output] {
        let key = transaction::transaction_key(&hash, kind);
        assert_eq!((key[0], key.len(), key[33]), (b'T', 34, kind as u8));
        assert_eq!(Key::parse(&key), Some(Key::Transaction { hash, kind }));
        // As in the reference, what follows does not count.
        assert_eq!(Key::parse(&[key.as_slice(), b"more"].concat()).map(Key::to_bytes), Some(key));
    }
    for tag in [&b""[..], b"k", &[0; 100]] {
        let key = transaction::tag_key(tag, &hash);
        assert_eq!(Key::parse(&key), Some(Key::Tag { tag, hash }));
        assert_eq!(Key::Tag { tag, hash }.to_bytes(), key);
    }
    for bad in [&b""[..], b"T", b"E", &[b'T'; 33], &[b'E'; 32], &[b'X'; 34], &[b'T'; 34]] {
        assert_eq!(Key::parse(bad), None, "{bad:?}");
    }
}

#[test]
fn batches_pass_through_pairs() {
    let batch: Vec<Bytes> = [&b"one"[..], b"two", b"three"].map(Bytes::from).into();
    let mut pairs = transaction::input_pairs(&batch).unwrap();
    let hash = transaction::hash(b"two");
    let output = cbor::to_vec(&transaction::OutputArtifacts { output: Some(Bytes::from(&b"out"[..])) });
    pairs.push((transaction::transaction_key(&hash, ArtifactKind::Output), output.clone()));
    pairs.sort();
    let mut collector = Collector::default();
    for (key, value) in &pairs {
        assert_eq!(collector.push(key, value), Ok(true));
    }
    assert_eq!(collector.push(&transaction::tag_key(b"x", &hash), b""), Ok(false));
    assert_eq!((collector.len(), collector.is_empty()), (3, false));
    assert_eq!(collector.clone().into_batch().unwrap(), batch);
    assert_eq!(
        collector.into_transactions()[1],
        Transaction { input: b"two".to_vec(), output: Some(b"out".to_vec()), batch_order: 1 }
    );

    let mut orphan = Collector::default();
    let key = transaction::transaction_key(&hash, ArtifactKind::Output);
    assert_eq!(orphan.push(&key, &output), Err(TreeError::OutputWithoutInput { hash }));
    assert_eq!(transaction::input_pairs(&[Bytes::default()]), Err(TreeError::EmptyInput));
    let mut gap = Collector::default();
    let key = transaction::transaction_key(&hash, ArtifactKind::Input);
    gap.push(&key, &hex("824374776f01")).unwrap();
    assert_eq!(gap.into_batch(), Err(TreeError::Order { position: 0, order: 1 }));
    assert!(matches!(Collector::default().push(&key, &[0xff]), Err(TreeError::Artifacts { .. })));
}

#[test]
fn write_logs_have_limits() {
    let log: Vec<LogEntry> = transaction::input_pairs(&[Bytes::from(&b"one"[..]), Bytes::from(&b"two"[..])])
        .unwrap()
        .into_iter()
        .map(|(key, value)| LogEntry { key: key.into(), value: Some(value.into()) })
        .collect();
    let bytes: u64 = log.iter().map(|e| e.value.as_ref().unwrap().len() as u64).sum();
    assert_eq!(transaction::validate_io_write_log(&log, 2, bytes), Ok(()));
    assert_eq!(transaction::validate_io_write_log(&log, 1, bytes), Err(TreeError::TooMany { max: 1 }));
    assert_eq!(transaction::validate_io_write_log(&log, 2, bytes - 1), Err(TreeError::TooLarge { max: bytes - 1 }));
    let foreign = [LogEntry::default()];
    assert_eq!(transaction::validate_io_write_log(&foreign, 1, 1), Err(TreeError::Key));
}

#[test]
fn component_ids() {
    for (text, id) in [
        ("ronl", ComponentId::Ronl),
        ("rofl", ComponentId::Rofl(String::new())),
        ("rofl.a", ComponentId::Rofl("a".into())),
        ("rofl.a.b", ComponentId::Rofl("a.b".into())),
    ] {
        assert_eq!(text.parse(), Ok(id.clone()));
        assert_eq!(id.to_string(), text);
    }
    for bad in ["", "x", "ronl.a", "ronl.", "rofl.", "RONL"] {
        assert!(bad.parse::<ComponentId>().is_err(), "{bad}");
    }
}

#[test]
fn labels_are_limited_and_matched() {
    let label = |k: &str, v: &str| -> BTreeMap<String, String> { [(k.to_owned(), v.to_owned())].into() };
    assert!(bundle::validate_labels(&label(&"k".repeat(1024), &"v".repeat(1024))).is_ok());
    assert!(bundle::validate_labels(&label(&"k".repeat(1025), "")).is_err());
    assert!(bundle::validate_labels(&label("", &"v".repeat(1025))).is_err());
    let many = (0..1025).map(|i| (i.to_string(), String::new())).collect();
    assert!(bundle::validate_labels(&many).is_err());
    assert!(bundle::has_labels(&label("a", "b"), &BTreeMap::new()));
    assert!(!bundle::has_labels(&label("a", "b"), &label("a", "c")));
    assert!(!bundle::has_labels(&BTreeMap::new(), &label("a", "b")));
}

/// The reference's own test of a manifest's hash.
#[test]
fn manifest_without_components() {
    let manifest = Manifest { id: Namespace::default(), ..Default::default() };
    assert!(manifest.is_detached() && !manifest.is_legacy());
    assert_eq!(manifest.to_json().matches("\"digests\":null").count(), 1);
    assert_eq!(Manifest::from_json(&manifest.to_json()), Ok(manifest.clone()));
    assert_eq!(manifest.hash(), Hash::of_cbor(&manifest));
}

#[test]
fn context_of_label_attestations_signs_as_the_reference() {
    // Key and signature that the reference's test expects for the attestation above.
    let key = hex("4b386050bd904dbe4de4f6f0040ab64a18f8a305c9609231bcf90aa1dbd14a3c");
    let signature = hex(
        "6e7103250a95ed0b560dfabddec022bcd5416b96db1a999c725373e7d033dbfa14b8af29572fbe4b5cb2d30ac839ff4a465bb967169e5dcf888d06af90a3c809",
    );
    let message = hex(
        "a26372616b58204242424242424242424242424242424242424242424242424242424242424242666c6162656c73a163666f6f63626172",
    );
    let prepared = context::prepare(&context::ATTEST_LABELS, None, None, &message).unwrap();
    let key = PublicKey::try_from(key.as_slice()).unwrap();
    let signature = RawSignature::try_from(signature.as_slice()).unwrap();
    assert!(key.verify_prepared(&prepared, &signature));
}
