//! Signatures of enclaves: nothing verifies that does not come out the same when written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rt_bundle::sigstruct;

fuzz_target!(|data: &[u8]| {
    if let Ok((parsed, _)) = sigstruct::verify(data) {
        assert_eq!(data.len(), sigstruct::BYTES);
        let _ = (parsed.unsigned_bytes(), parsed.hash_for_signature());
    }
});
