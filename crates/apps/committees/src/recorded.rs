//! Every value that recorded chains hold under the keys of beacon, scheduler and root hash reads and writes unchanged.

use std::collections::BTreeMap;

use base_codec::cbor::{Decode, Encode, from_slice, to_vec};
use dev_testkit::chains::Chain;
use wire_consensus::{
    beacon::{self, EpochTimeState, VrfState},
    roothash::{self, IncomingMessage, IncomingMessageQueueMeta, RoundResults, RoundRoots, RuntimeState},
    scheduler::{self, Committee},
};

use crate::scheduler::state::Validators;

fn same<T: Decode + Encode>(value: &[u8]) -> bool {
    from_slice::<T>(value).is_ok_and(|v| to_vec(&v) == value)
}

fn check(prefix: u8, value: &[u8]) -> bool {
    match prefix {
        0x20 => same::<RuntimeState>(value),
        0x21 => same::<roothash::Parameters>(value),
        0x22 | 0x25 | 0x26 | 0x42 => value.len() == 32,
        0x24 => value.is_empty(),
        0x27 => same::<RoundResults>(value),
        0x28 => same::<IncomingMessageQueueMeta>(value),
        0x29 => same::<IncomingMessage>(value),
        0x2a => same::<RoundRoots>(value),
        0x40 | 0x41 => same::<EpochTimeState>(value),
        0x43 => same::<beacon::Parameters>(value),
        0x45 => same::<u64>(value),
        0x46 => same::<VrfState>(value),
        0x60 => same::<Committee>(value),
        0x61 | 0x62 => same::<Validators>(value),
        0x63 => same::<scheduler::Parameters>(value),
        _ => false,
    }
}

#[test]
fn recorded_state_reads_and_writes_unchanged() {
    let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
    for chain in Chain::all().unwrap() {
        for diff in chain.state_diffs().unwrap() {
            for (key, value) in diff.diff {
                let prefix = key[0];
                if let Some(value) = value.filter(|_| matches!(prefix, 0x20..=0x2f | 0x40..=0x4f | 0x60..=0x6f)) {
                    let name = &chain.name;
                    assert!(check(prefix, &value), "{name}: key {}: {}", hex::encode(key), hex::encode(value));
                    *counts.entry(prefix).or_default() += 1;
                }
            }
        }
    }
    let seen: Vec<u8> = counts.keys().copied().collect();
    let expected =
        [0x20, 0x21, 0x22, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x40, 0x41, 0x42, 0x43, 0x45, 0x46, 0x60, 0x61, 0x63];
    assert_eq!(seen, expected, "{counts:?}");
}
