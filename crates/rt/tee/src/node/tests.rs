//! Constraints, attestations and their binding, on published encodings and quotes.

use base_codec::{Bytes, json};
use base_crypto::{blacklist, ed25519::SecretKey};
use proptest::prelude::*;

use super::*;
use crate::{
    identity::{MrEnclave, MrSigner},
    pcs::{self, TdxQuotePolicy},
    testdata::{SGX_NOW, options, read, sgx_bundle},
};

const AT: &str = "go/common/node/testdata";

fn with_pcs() -> TeeFeatures {
    TeeFeatures { sgx: TeeFeaturesSgx { pcs: true, ..Default::default() }, ..Default::default() }
}

fn decode<T: Decode>(raw: &[u8]) -> T {
    cbor::from_slice_exact(raw).unwrap()
}

#[test]
fn published_constraints() {
    let names = [format!("{AT}/sgx_constraints_v0.bin"), format!("{AT}/sgx_constraints_v1.bin")];
    let Some([v0, v1]) = read(names.each_ref().map(String::as_str)) else {
        return;
    };
    let old: SgxConstraints = decode(&v0);
    assert_eq!(old.v, 0);
    assert_eq!(old.validate_basic(&TeeFeatures::default(), true), Ok(()));
    assert_eq!(cbor::to_vec(&old), v0);
    assert!(old.policy.as_ref().is_some_and(|p| p.ias.is_some() && p.pcs.is_none()));
    let new: SgxConstraints = decode(&v1);
    assert_eq!(new.v, 1);
    assert_eq!(cbor::to_vec(&new), v1);
    assert_eq!(new.validate_basic(&with_pcs(), true), Ok(()));
}

#[test]
fn published_attestations() {
    let names = [format!("{AT}/sgx_attestation_v0.bin"), format!("{AT}/sgx_attestation_v1.bin")];
    let Some([v0, v1]) = read(names.each_ref().map(String::as_str)) else {
        return;
    };
    let old: SgxAttestation = decode(&v0);
    assert_eq!(old.validate_basic(&TeeFeatures::default()), Ok(()));
    assert!(old.quote.ias.is_some() && old.quote.pcs.is_none());
    assert_eq!(cbor::to_vec(&old), v0);
    let new: SgxAttestation = decode(&v1);
    assert!(new.validate_basic(&TeeFeatures::default()).is_err());
    assert_eq!(new.validate_basic(&with_pcs()), Ok(()));
    assert_eq!(cbor::to_vec(&new), v1);
}

#[test]
fn versions() {
    let constraints = |raw: &[u8]| cbor::from_slice::<SgxConstraints>(raw).map(|c| c.v);
    let attestation = |raw: &[u8]| cbor::from_slice::<SgxAttestation>(raw).map(|c| c.v);
    // {}: the old shape, empty.
    assert_eq!(constraints(&[0xa0]), Ok(0));
    assert_eq!(attestation(&[0xa0]), Ok(0));
    // null is the old shape too.
    assert_eq!(constraints(&[0xf6]), Ok(0));
    assert_eq!(attestation(&[0xf6]), Ok(0));
    // {v: 1}, also in another case and with a long integer.
    assert_eq!(constraints(&[0xa1, 0x61, b'v', 1]), Ok(1));
    assert_eq!(constraints(&[0xa1, 0x61, b'V', 0x19, 0, 1]), Ok(1));
    assert_eq!(attestation(&[0xa1, 0x61, b'v', 1]), Ok(1));
    // The old shape has no v: 0, null and "no version" are unknown fields there.
    for v in [&[0][..], &[0xf6], &[0x19, 0xff, 0xff], &[0x60]] {
        assert!(constraints(&[&[0xa1, 0x61, b'v'], v].concat()).is_err());
        assert!(attestation(&[&[0xa1, 0x61, b'v'], v].concat()).is_err());
    }
    assert!(constraints(&[0xa1, 0x61, b'v', 2]).is_err());
    assert!(attestation(&[0xa1, 0x61, b'v', 2]).is_err());
    // {v: 1, x: 0}: unknown field.
    assert!(constraints(&[0xa2, 0x61, b'v', 1, 0x61, b'x', 0]).is_err());
    assert!(constraints(&[]).is_err());
    assert!(constraints(&[0x80]).is_err());
}

fn constraints(policy: Option<Policy>) -> SgxConstraints {
    let enclave = EnclaveIdentity { mr_enclave: MrEnclave::new([1; 32]), mr_signer: MrSigner::new([2; 32]) };
    SgxConstraints { v: 1, enclaves: vec![enclave], policy, max_attestation_age: 0 }
}

#[test]
fn basic_validity() {
    let pcs = |pcs| constraints(Some(Policy { ias: Some(Default::default()), pcs: Some(pcs) }));
    let plain = pcs(pcs::QuotePolicy::builtin());
    let unsupported = Err(Error::UnsupportedVersion { what: "constraints", version: 1 });
    assert_eq!(plain.validate_basic(&TeeFeatures::default(), true), unsupported);
    assert_eq!(plain.validate_basic(&with_pcs(), true), Ok(()));
    assert_eq!(constraints(None).validate_basic(&with_pcs(), true), Ok(()));
    let newer = SgxConstraints { v: 2, ..plain };
    assert!(newer.validate_basic(&with_pcs(), true).is_err());

    let tdx = pcs(pcs::QuotePolicy { tdx: Some(TdxQuotePolicy::default()), ..Default::default() });
    assert_eq!(tdx.validate_basic(&with_pcs(), true), Err(Error::TdxNotSupported));
    let mut features = with_pcs();
    features.sgx.tdx = true;
    assert_eq!(tdx.validate_basic(&features, true), Ok(()));

    let list = pcs(pcs::QuotePolicy { fmspc_whitelist: vec!["00606A000000".into()], ..Default::default() });
    assert_eq!(list.validate_basic(&with_pcs(), false), Err(Error::WhitelistNotSupported));
    assert_eq!(list.validate_basic(&with_pcs(), true), Ok(()));
}

#[test]
fn defaults() {
    let ias = ias::QuotePolicy::default();
    let network = pcs::QuotePolicy { tcb_validity_period: 10, min_tcb_evaluation_data_number: 7, ..Default::default() };
    let apply = |features: &TeeFeaturesSgx, policy: Option<Policy>| {
        let mut constraints = SgxConstraints { policy, ..Default::default() };
        features.apply_default_constraints(&mut constraints);
        constraints
    };
    let none = TeeFeaturesSgx { pcs: true, ..Default::default() };
    assert_eq!(apply(&none, None).policy, None);

    let features = TeeFeaturesSgx {
        pcs: true,
        default_policy: Some(Policy { ias: Some(ias.clone()), pcs: Some(network.clone()) }),
        default_max_attestation_age: 100,
        ..Default::default()
    };
    let filled = apply(&features, None);
    assert_eq!(filled.policy, features.default_policy);
    assert_eq!(filled.max_attestation_age, 100);

    let own = pcs::QuotePolicy { tcb_validity_period: 20, ..Default::default() };
    let kept = apply(&features, Some(Policy { ias: None, pcs: Some(own.clone()) }));
    assert_eq!(kept.policy, Some(Policy { ias: Some(ias.clone()), pcs: Some(own) }));

    let without_pcs = TeeFeaturesSgx { pcs: false, ..features };
    assert_eq!(apply(&without_pcs, None).policy, Some(Policy { ias: Some(ias), pcs: None }));
}

#[test]
fn features_forms() {
    let text = r#"{"sgx":{"pcs":true,"signed_attestations":true,"default_policy":{"pcs":{"tcb_validity_period":30,"min_tcb_evaluation_data_number":18}},"max_attestation_age":1200},"freshness_proofs":true}"#;
    let features: TeeFeatures = json::from_str(text).unwrap();
    assert_eq!(features.sgx.default_max_attestation_age, 1200);
    assert_eq!(json::to_string(&features), text);
    assert_eq!(decode::<TeeFeatures>(&cbor::to_vec(&features)), features);
}

#[test]
fn attestation_hash() {
    let hash = |rek| {
        let mut node = [0; 32];
        hex::decode_to_slice("47aadd91516ac548decdb436fde957992610facc09ba2f850da0fe1b2be96119", &mut node).unwrap();
        hex::encode(hash_attestation(b"foo bar", &PublicKey::new(node), 42, rek))
    };
    assert_eq!(hash(None), "0f01a5084bbf432427873cbce5f8c3bff76bc22b9d1e0674b852e43698abb195");
    let mut rek = [0; 32];
    hex::decode_to_slice("7992610facc09ba2f850da0fe1b2be9611947aadd91516ac548decdb436fde95", &mut rek).unwrap();
    assert_eq!(hash(Some(&rek)), "9a288bd33ba7a4c2eefdee68e4c08c1a34c369302ef8176a3bfdb4fedcec333e");
}

/// A mock attestation for `rak` at height 100, with what it is checked against.
struct Case {
    attestation: SgxAttestation,
    constraints: SgxConstraints,
    features: TeeFeatures,
    options: VerifyOptions,
    rak: PublicKey,
    rek: Option<[u8; 32]>,
    node_id: PublicKey,
    height: u64,
}

impl Case {
    fn new(key: &SecretKey) -> Self {
        let rak = PublicKey::new(key.public());
        let (rek, node_id) = (Some([3; 32]), PublicKey::new([4; 32]));
        let mut report = [0; 384];
        report[320..352].copy_from_slice(&hash_rak(&rak));
        report[352..].copy_from_slice(&[9; 32]);
        report[64..96].copy_from_slice(&[1; 32]);
        report[128..160].copy_from_slice(&[2; 32]);
        let quote = pcs::QuoteBundle { quote: Some(Bytes(pcs::mock_quote(&report).unwrap())), ..Default::default() };
        let digest = hash_attestation(&report[320..], &node_id, 100, rek.as_ref());
        let signature = context::sign_with_context(key, &context::TEE_ATTESTATION, None, None, &digest).unwrap();
        let attestation = SgxAttestation {
            v: 1,
            quote: Quote { ias: None, pcs: Some(quote) },
            height: 100,
            signature: RawSignature::new(signature),
        };
        let mut features = with_pcs();
        features.sgx.signed_attestations = true;
        features.sgx.default_max_attestation_age = 10;
        let options = VerifyOptions { skip_pcs_verify: true, ..VerifyOptions::default() };
        Self { attestation, constraints: constraints(None), features, options, rak, rek, node_id, height: 105 }
    }

    fn verdict(&self) -> Result<(), Error> {
        let binding = Binding {
            rak: &self.rak,
            rek: self.rek.as_ref(),
            node_id: &self.node_id,
            now: SGX_NOW.into(),
            height: self.height,
        };
        let capability = NodeTeeCapability {
            hardware: HARDWARE_INTEL_SGX,
            attestation: &cbor::to_vec(&self.attestation),
            constraints: &cbor::to_vec(&self.constraints),
        };
        verify_node_tee_capability(&capability, &binding, &self.features, true, &self.options).map(|_| ())
    }
}

fn verdict(change: impl FnOnce(&mut Case)) -> Result<(), Error> {
    let mut case = Case::new(&SecretKey::from_seed(&[7; 32]));
    change(&mut case);
    case.verdict()
}

#[test]
fn binding() {
    assert_eq!(verdict(|_| ()), Ok(()));
    assert_eq!(verdict(|c| c.rak = PublicKey::new([8; 32])), Err(Error::RakHashMismatch));
    assert_eq!(verdict(|c| c.node_id = PublicKey::new([8; 32])), Err(Error::InvalidSignature));
    assert_eq!(verdict(|c| c.rek = None), Err(Error::InvalidSignature));
    assert_eq!(verdict(|c| c.rek = Some([8; 32])), Err(Error::InvalidSignature));
    assert_eq!(verdict(|c| c.attestation.height = 101), Err(Error::InvalidSignature));
    assert!(matches!(verdict(|c| c.constraints.enclaves.clear()), Err(Error::BadEnclaveIdentity { .. })));
    assert!(verdict(|c| c.options.skip_pcs_verify = false).is_err());
    assert!(verdict(|c| c.features.sgx.pcs = false).is_err());
    assert!(verdict(|c| c.attestation.quote.ias = Some(Default::default())).is_err());
    assert!(verdict(|c| c.attestation.quote.pcs = None).is_err());
}

#[test]
fn freshness() {
    assert_eq!(verdict(|c| c.height = 100), Ok(()));
    assert_eq!(verdict(|c| c.height = 110), Ok(()));
    assert_eq!(verdict(|c| c.height = 111), Err(Error::NotFresh { age: 11, most: 10 }));
    assert_eq!(verdict(|c| c.height = 99), Err(Error::FromFuture { attested: 100, height: 99 }));
    assert_eq!(verdict(|c| (c.height, c.constraints.max_attestation_age) = (111, 11)), Ok(()));
    let unsigned = |c: &mut Case| {
        c.features.sgx.signed_attestations = false;
        c.attestation.signature = RawSignature::default();
        c.height = 99;
    };
    assert_eq!(verdict(unsigned), Ok(()), "neither signature nor height count");
}

#[test]
fn blacklisted_attestation_key() {
    let mut case = Case::new(&blacklist::test_key("ekiden test key manager RAK seed"));
    assert_eq!(case.verdict(), Err(Error::InvalidSignature));
    case.options.key_blacklist = blacklist::Blacklist::allowing_test_keys();
    assert_eq!(case.verdict(), Ok(()));
}

#[test]
fn other_hardware() {
    let capability = NodeTeeCapability { hardware: 0, attestation: &[], constraints: &[] };
    let (rak, node_id) = (PublicKey::default(), PublicKey::default());
    let binding = Binding { rak: &rak, rek: None, node_id: &node_id, now: 0.into(), height: 0 };
    let verify = |capability: NodeTeeCapability<'_>| {
        verify_node_tee_capability(&capability, &binding, &with_pcs(), true, &VerifyOptions::default())
    };
    assert_eq!(verify(capability), Err(Error::InvalidHardware { hardware: 0 }));
    assert_eq!(verify(NodeTeeCapability { hardware: 2, ..capability }), Err(Error::InvalidHardware { hardware: 2 }));
    let empty = NodeTeeCapability { hardware: 1, ..capability };
    assert!(matches!(verify(empty), Err(Error::MalformedAttestation(_))));
    let no_constraints = NodeTeeCapability { attestation: &[0xa0], ..empty };
    assert!(matches!(verify(no_constraints), Err(Error::MalformedConstraints(_))));
    let nothing = NodeTeeCapability { constraints: &[0xa0], ..no_constraints };
    assert!(matches!(verify(nothing), Err(Error::Quote(_))));
}

#[test]
fn published_quote_end_to_end() {
    let Some(bundle) = sgx_bundle() else { return };
    let identity = pcs::Quote::parse(bundle.quote.as_ref().unwrap()).unwrap().body.identity();
    let attestation = SgxAttestation { v: 1, quote: Quote { ias: None, pcs: Some(bundle) }, ..Default::default() };
    let rak = PublicKey::default();
    let binding = Binding { rak: &rak, rek: None, node_id: &rak, now: SGX_NOW.into(), height: 1 };
    let verify = |c: &SgxConstraints| attestation.verify(c, &with_pcs(), &binding, &options());
    assert!(matches!(verify(&constraints(None)), Err(Error::BadEnclaveIdentity { .. })));
    let mut right = constraints(None);
    right.enclaves.push(identity);
    // Whose key it is about is not known, so this is as far as it goes.
    assert_eq!(verify(&right), Err(Error::RakHashMismatch));
    right.policy = Some(Policy { ias: None, pcs: Some(pcs::QuotePolicy { disabled: true, ..Default::default() }) });
    assert!(matches!(verify(&right), Err(Error::Quote(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn mutated_encodings(at in any::<prop::sample::Index>(), byte in any::<u8>(), version in 0..2, cut in any::<bool>()) {
        let names = [format!("{AT}/sgx_constraints_v{version}.bin"), format!("{AT}/sgx_attestation_v{version}.bin")];
        let Some(files) = read(names.each_ref().map(String::as_str)) else { return Ok(()) };
        let [constraints, attestation] = files.map(|mut raw| {
            // Most of an attestation is opaque; its head is where the structure is.
            let index = at.index(raw.len().min(200));
            if cut { raw.truncate(index) } else { raw[index] = byte }
            raw
        });
        if let Ok(value) = cbor::from_slice::<SgxConstraints>(&constraints) {
            prop_assert_eq!(cbor::from_slice::<SgxConstraints>(&cbor::to_vec(&value)), Ok(value));
        }
        if let Ok(value) = cbor::from_slice::<SgxAttestation>(&attestation) {
            prop_assert_eq!(cbor::from_slice::<SgxAttestation>(&cbor::to_vec(&value)), Ok(value));
        }
        let (rak, node_id) = (PublicKey::default(), PublicKey::default());
        let binding = Binding { rak: &rak, rek: None, node_id: &node_id, now: SGX_NOW.into(), height: 0 };
        let capability = NodeTeeCapability { hardware: 1, attestation: &attestation, constraints: &constraints };
        let verdict = verify_node_tee_capability(&capability, &binding, &with_pcs(), true, &VerifyOptions::default());
        prop_assert!(verdict.is_err());
    }
}
