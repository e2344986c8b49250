//! Proofs in CBOR: no panic, what verifies against its own root shows the same pairs again, and a verifier that has seen
//! other proofs judges as one that has not.
#![no_main]

use std::cell::RefCell;

use mkvs_tree::proof::{Proof, Verifier, verify};

thread_local! {
    static VERIFIER: RefCell<Verifier> = RefCell::new(Verifier::new(6));
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(mut proof) = base_codec::cbor::from_slice::<Proof>(data) else { return };
    let first = verify(&proof.untrusted_root, &proof).map(drop);
    // Random bytes do not hash to their root: take the one that they have.
    if let Err(mkvs_tree::proof::ProofError::BadRoot { got, .. }) = first {
        proof.untrusted_root = got;
    }
    let root = proof.untrusted_root;
    let verified = verify(&root, &proof);
    VERIFIER.with_borrow_mut(|verifier| {
        for _ in 0..2 {
            let pairs = verifier.pairs(&root, &proof);
            match (&verified, pairs, verifier.verify(&root, &proof)) {
                (Ok(a), Ok(pairs), Ok(b)) => {
                    assert_eq!((a.root.hash(), b.root.hash()), (Some(root), Some(root)));
                    assert!(a.leaves().iter().map(|l| (l.key(), l.value())).eq(pairs.iter().copied()));
                    assert!(b.leaves().iter().map(|l| (l.key(), l.value())).eq(pairs));
                }
                (Err(a), Err(b), Err(c)) => assert!(*a == b && b == c),
                _ => panic!("a verifier that remembers judges otherwise"),
            }
        }
    });
    if let Ok(verified) = verified {
        let pairs = verified.leaves().len();
        assert_eq!(verified.into_write_log().len(), pairs);
    }
});
