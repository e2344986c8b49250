//! Recorded traffic of the reference's key manager, replayed. What it chose at random differs; all else must not.

use std::{collections::BTreeMap, path::PathBuf};

use base_codec::cbor;
use base_crypto::blacklist::Blacklist;
use dev_testkit::rhp::{Direction, load};
use rt_guest::{
    Config,
    testing::{RecordedAnswers, replay},
};
use rt_keymanager::{key_manager, policy::TrustedSigners};
use wire_consensus::keymanager::rpc::{
    GenerateEphemeralSecretResponse, GenerateMasterSecretResponse, METHOD_GENERATE_EPHEMERAL_SECRET,
    METHOD_GENERATE_MASTER_SECRET,
};
use wire_runtime::{
    Body, Empty, Error as WireError,
    enclave_rpc::{Message, Request, Response, ResponseBody},
};

fn frames() -> Vec<(bool, Vec<u8>)> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/rhp/keymanager.bin"));
    let records = load(&path).unwrap();
    records.into_iter().map(|record| (record.direction == Direction::Host, record.body)).collect()
}

/// The value in an answer to a local call.
fn value(body: &Body) -> ResponseBody {
    let Body::RuntimeLocalRPCCallResponse(response) = body else { panic!("{}", body.name()) };
    match cbor::from_slice(response.response.as_ref().unwrap()).unwrap() {
        Message::Response(Response { body }) => body,
        other => panic!("{other:?}"),
    }
}

fn method(body: &Body) -> Option<String> {
    let Body::RuntimeLocalRPCCallRequest(request) = body else { return None };
    Some(cbor::from_slice::<Request>(request.request.as_ref().unwrap()).unwrap().method)
}

#[test]
fn recorded_secrets_are_opened_and_everything_that_follows_from_them_is_the_same() {
    let recorded = RecordedAnswers::new(frames()).unwrap();
    // What is stored is sealed with random nonces; what is read back is what the reference stored.
    let answers = |request: &Body, place: usize| match request {
        Body::HostLocalStorageSetRequest(_) => Ok(Body::HostLocalStorageSetResponse(Empty {})),
        _ => recorded.answer(request, place).ok_or_else(|| WireError {
            module: "replay".into(),
            code: 1,
            message: format!("not recorded: {request:?}"),
        }),
    };
    let replayed = replay(frames(), Config::default(), key_manager(TrustedSigners::test()), answers).unwrap();
    let (mut same, mut random) = (BTreeMap::<String, usize>::new(), 0);
    for (request, expected, got) in &replayed.calls {
        let name = method(request).unwrap_or_else(|| request.name().to_owned());
        if [METHOD_GENERATE_MASTER_SECRET, METHOD_GENERATE_EPHEMERAL_SECRET].contains(&name.as_str()) {
            same_but_for_randomness(&name, &value(got), &value(expected));
            random += 1;
            continue;
        }
        if method(request).is_some() {
            assert_eq!(value(got), value(expected), "{name}");
        }
        assert_eq!(cbor::to_vec(got), cbor::to_vec(expected), "{name}");
        *same.entry(name).or_default() += 1;
    }
    println!(
        "equal answers: {same:?}; {random} new secrets; {} equal requests at the same places, {} not made, {} others",
        replayed.requests,
        replayed.missing.len(),
        replayed.others.len()
    );
    assert!(same["init"] >= 5 && same["load_master_secret"] >= 1 && same["load_ephemeral_secret"] >= 1);
    assert!(random >= 2);
    // The stored keys are those that the reference used.
    let keys = |bodies: &[Body]| -> Vec<Vec<u8>> {
        let sets = bodies.iter().filter_map(|body| match body {
            Body::HostLocalStorageSetRequest(request) => Some(request.key.clone().unwrap_or_default().0),
            _ => None,
        });
        sets.collect()
    };
    assert!(keys(&replayed.missing).iter().all(|key| keys(&replayed.others).contains(key)));
}

/// Of the same shape, for the same enclaves, and signed by the same key.
fn same_but_for_randomness(name: &str, answer: &ResponseBody, expected: &ResponseBody) {
    let (ResponseBody::Success(answer), ResponseBody::Success(expected)) = (answer, expected) else {
        assert_eq!(answer, expected, "{name}");
        return;
    };
    assert_eq!(answer.len(), expected.len());
    let rak = rt_guest::identity::Identity::new(rt_guest::tee::Tee::None).unwrap().rak();
    let blacklist = Blacklist::allowing_test_keys();
    if name == METHOD_GENERATE_MASTER_SECRET {
        let (a, b): (GenerateMasterSecretResponse, GenerateMasterSecretResponse) =
            (answer.decode_as().unwrap(), expected.decode_as().unwrap());
        let (a, b) = (a.signed_secret, b.signed_secret);
        assert_eq!(
            (a.secret.id, a.secret.generation, a.secret.epoch),
            (b.secret.id, b.secret.generation, b.secret.epoch)
        );
        for secret in [&a, &b] {
            let raw = cbor::to_vec(&secret.secret);
            let context = &base_crypto::context::KEYMANAGER_MASTER_SECRET;
            let signature = secret.signature.as_bytes();
            assert!(wire_consensus::keymanager::verify_raw(&rak, context, &raw, signature, &blacklist));
        }
    } else {
        let (a, b): (GenerateEphemeralSecretResponse, GenerateEphemeralSecretResponse) =
            (answer.decode_as().unwrap(), expected.decode_as().unwrap());
        let (a, b) = (a.signed_secret.secret, b.signed_secret.secret);
        assert_eq!((a.id, a.epoch), (b.id, b.epoch));
        let reks = |s: &wire_consensus::keymanager::EncryptedSecret| -> Vec<_> {
            s.ciphertexts.iter().flatten().map(|(key, _)| *key).collect()
        };
        assert_eq!(reks(&a.secret), reks(&b.secret));
    }
}
