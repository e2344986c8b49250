//! Proofs in CBOR: no panic, and what verifies against its own root shows the same pairs again.
#![no_main]

use mkvs_tree::proof::{Proof, verify};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(proof) = base_codec::cbor::from_slice::<Proof>(data) else { return };
    let root = proof.untrusted_root;
    if let Ok(verified) = verify(&root, &proof) {
        assert_eq!(verified.root.hash(), Some(root));
        let pairs = verified.leaves().len();
        assert_eq!(verified.into_write_log().len(), pairs);
    }
});
