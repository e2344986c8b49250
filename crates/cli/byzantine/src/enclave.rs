//! An enclave that does not exist, with evidence that only networks without verification take.

use base_codec::{Bytes, cbor};
use base_crypto::context::{self, sign_with_context};
use base_crypto::ed25519::SecretKey;
use base_prims::{PublicKey, RawSignature};
use rt_tee::{SgxAttestation, VerifyOptions, ias};
use wire_consensus::node::{Capabilities, CapabilityTee, TeeHardware};

use crate::actor::ActError;

/// Bytes of an enclave identity: measurement of the enclave, then of its signer.
const IDENTITY_BYTES: usize = 64;
/// Bytes of a quote's head and of the whole, without its signature.
const HEAD_BYTES: usize = 48;
const QUOTE_BYTES: usize = 432;
/// Places of fields, from the start of the quote.
const FLAGS_AT: usize = HEAD_BYTES + 48;
const MR_ENCLAVE_AT: usize = HEAD_BYTES + 64;
const MR_SIGNER_AT: usize = HEAD_BYTES + 128;
const REPORT_DATA_AT: usize = HEAD_BYTES + 320;
/// Attribute of enclaves that can be looked into.
const FLAG_DEBUG: u8 = 0x02;
/// Consensus height of the evidence.
const HEIGHT: u64 = 1;

fn wrong(reason: impl std::fmt::Display) -> ActError {
    ActError::Start(format!("fake enclave: {reason}"))
}

/// A quote, version 1, of an enclave in debug mode with that identity, which is bound to a key.
fn quote(identity: &[u8; IDENTITY_BYTES], rak: &PublicKey) -> [u8; QUOTE_BYTES] {
    let mut quote = [0; QUOTE_BYTES];
    quote[0] = 1;
    quote[FLAGS_AT] = FLAG_DEBUG;
    quote[MR_ENCLAVE_AT..MR_ENCLAVE_AT + 32].copy_from_slice(&identity[..32]);
    quote[MR_SIGNER_AT..MR_SIGNER_AT + 32].copy_from_slice(&identity[32..]);
    quote[REPORT_DATA_AT..REPORT_DATA_AT + 32].copy_from_slice(&rt_tee::hash_rak(rak));
    quote
}

/// The enclave's key and what the node claims of it. `identity` is hexadecimal; empty: zeros. `now` is in seconds since 1970.
pub(crate) fn fake(
    node: &PublicKey,
    identity: &str,
    rak: SecretKey,
    now: i64,
) -> Result<(SecretKey, Capabilities), ActError> {
    let mut bytes = [0; IDENTITY_BYTES];
    if !identity.is_empty() {
        let parsed: rt_tee::EnclaveIdentity = identity.parse().map_err(wrong)?;
        bytes[..32].copy_from_slice(parsed.mr_enclave.as_bytes());
        bytes[32..].copy_from_slice(parsed.mr_signer.as_bytes());
    }
    let public = PublicKey::from(rak.public());
    let quote = quote(&bytes, &public);
    let options = VerifyOptions { allow_debug_enclaves: true, allow_test_signer: true, ..VerifyOptions::default() };
    let now = rt_tee::UnixTime::new(now, 0);
    let body = ias::mock_avr(&quote, "", now, &options).map_err(wrong)?;
    let report_data = &quote[REPORT_DATA_AT..];
    let digest = rt_tee::hash_attestation(report_data, node, HEIGHT, None);
    let signature = sign_with_context(&rak, &context::TEE_ATTESTATION, None, None, &digest).map_err(wrong)?;
    let bundle = ias::AvrBundle { body: Some(Bytes(body)), ..ias::AvrBundle::default() };
    let attestation = SgxAttestation {
        v: 1,
        quote: rt_tee::Quote { ias: Some(bundle), pcs: None },
        height: HEIGHT,
        signature: RawSignature::new(signature),
    };
    let tee = CapabilityTee {
        hardware: TeeHardware::INTEL_SGX,
        rak: public,
        rek: None,
        attestation: Some(Bytes(cbor::to_vec(&attestation))),
    };
    Ok((rak, Capabilities { tee: Some(tee) }))
}
