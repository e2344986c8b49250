//! Attestation evidence: quotes, constraints and attestations.
#![no_main]

use base_codec::cbor;
use libfuzzer_sys::fuzz_target;
use rt_tee::{SgxAttestation, SgxConstraints, pcs};

fuzz_target!(|data: &[u8]| {
    let _ = pcs::Quote::parse(data);
    if let Ok(v) = cbor::from_slice::<SgxConstraints>(data) {
        let bytes = cbor::to_vec(&v);
        assert_eq!(cbor::to_vec(&cbor::from_slice::<SgxConstraints>(&bytes).expect("decodes")), bytes);
    }
    let _ = cbor::from_slice::<SgxAttestation>(data);
});
