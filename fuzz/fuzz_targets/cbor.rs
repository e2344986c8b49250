//! The CBOR decoder on arbitrary bytes: well-formedness, skipping and byte strings.
#![no_main]

use base_codec::{Bytes, Raw, cbor};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(raw) = cbor::from_slice::<Raw>(data) {
        assert_eq!(cbor::to_vec(&raw), raw.0);
    }
    let _ = cbor::from_slice::<Bytes>(data);
    let _ = cbor::from_slice::<Option<Vec<u64>>>(data);
    let _ = cbor::from_slice::<std::collections::BTreeMap<String, i64>>(data);
});
