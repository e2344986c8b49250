//! Transactions and every method's body.
#![no_main]

use base_codec::cbor::{self, Decode, Encode};
use libfuzzer_sys::fuzz_target;
use wire_consensus::{beacon, governance, registry, roothash, staking, transaction, vault};

fn stable<T: Decode + Encode>(data: &[u8]) {
    if let Ok(value) = cbor::from_slice::<T>(data) {
        let bytes = cbor::to_vec(&value);
        let again: T = cbor::from_slice(&bytes).expect("what was encoded decodes");
        assert_eq!(cbor::to_vec(&again), bytes);
    }
}

fuzz_target!(|data: &[u8]| {
    stable::<transaction::SignedTransaction>(data);
    stable::<transaction::Transaction>(data);
    stable::<staking::Transfer>(data);
    stable::<staking::AmendCommissionSchedule>(data);
    stable::<beacon::VrfProve>(data);
    stable::<registry::UnfreezeNode>(data);
    stable::<roothash::ExecutorCommit>(data);
    stable::<roothash::Evidence>(data);
    stable::<governance::ProposalContent>(data);
    stable::<vault::AuthorizeAction>(data);
});
