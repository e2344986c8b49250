//! Public keys whose signatures never count.
//!
//! The pseudo keys of reserved accounts are always refused. Keys whose secret is public knowledge because tests use
//! them are refused unless a debug setting allows them. The set is a plain value that the caller passes along.
//! Reference: `go/staking/api/address.go`, `go/common/crypto/signature/signature.go` and the packages of the node that
//! register test keys when they are loaded.

use crate::{ed25519::SecretKey, hash::sha512_256};
use std::collections::BTreeSet;

/// Fills the rest of a pseudo key with `ff`.
const fn pseudo(prefix: &[u8]) -> [u8; 32] {
    let mut key = [0xff; 32];
    let mut i = 0;
    while i < prefix.len() {
        key[i] = prefix[i];
        i += 1;
    }
    key
}

/// Pseudo key of the common pool.
pub const COMMON_POOL: [u8; 32] = pseudo(&[0x1a, 0xbe, 0x11, 0xed, 0xc0, 0x01]);
/// Pseudo key of the fee accumulator.
pub const FEE_ACCUMULATOR: [u8; 32] = pseudo(&[0x1a, 0xbe, 0x11, 0xed, 0xfe, 0xea, 0xcc]);
/// Pseudo key of the governance deposits.
pub const GOVERNANCE_DEPOSITS: [u8; 32] = pseudo(&[0x1a, 0xbe, 0x11, 0xed, 0xde, 0xac, 0xcf]);
/// Pseudo key of the burn account, a hash to the curve ([`crate::h2c`]).
pub const BURN: [u8; 32] = [
    0x8a, 0x4a, 0x49, 0xaf, 0xa3, 0x34, 0xbd, 0x61, 0xda, 0x65, 0x76, 0x6d, 0x9b, 0x2c, 0xc8, 0xe7, 0xc2, 0x63, 0xba,
    0x9a, 0x44, 0x6f, 0x36, 0xe5, 0x22, 0x7f, 0x3e, 0xc5, 0xc0, 0x98, 0x88, 0x25,
];
/// All pseudo keys.
pub const RESERVED: [[u8; 32]; 4] = [COMMON_POOL, FEE_ACCUMULATOR, GOVERNANCE_DEPOSITS, BURN];

/// A test key that is known by its public half only.
const OLD_KEY_MANAGER: [u8; 32] = [
    0x9d, 0x41, 0xa8, 0x74, 0xb8, 0x0e, 0x39, 0xa4, 0x0c, 0x96, 0x44, 0xe9, 0x64, 0xf0, 0xe4, 0xf9, 0x67, 0x10, 0x0c,
    0x91, 0x65, 0x4b, 0xfd, 0x76, 0x66, 0x43, 0x5f, 0xe9, 0x06, 0xaf, 0x06, 0x0f,
];

/// Names of the test keys that a node registers.
const TEST_KEY_NAMES: [&str; 7] = [
    "ekiden test key manager RAK seed",
    "ekiden key manager test multisig key 0",
    "ekiden key manager test multisig key 1",
    "ekiden key manager test multisig key 2",
    "ekiden test entity key seed",
    "__e2e-test-migration-entity",
    "oasis-core epochtime mock key seed",
];

/// The secret test key of a name: its seed is the name's SHA-512/256.
#[must_use]
pub fn test_key(name: &str) -> SecretKey {
    SecretKey::from_seed(&sha512_256(&[name.as_bytes()]))
}

/// A set of refused public keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blacklist {
    keys: BTreeSet<[u8; 32]>,
}

impl Blacklist {
    /// What a node refuses: reserved keys and well-known test keys.
    #[must_use]
    pub fn production() -> Self {
        let mut list = Self::allowing_test_keys();
        list.keys.insert(OLD_KEY_MANAGER);
        list.keys.extend(TEST_KEY_NAMES.iter().map(|n| test_key(n).public()));
        list
    }

    /// What a node refuses when a debug setting allows test keys: reserved keys only.
    #[must_use]
    pub fn allowing_test_keys() -> Self {
        Self { keys: RESERVED.into_iter().collect() }
    }

    /// Adds a key.
    pub fn insert(&mut self, key: [u8; 32]) {
        self.keys.insert(key);
    }

    /// Whether a key is refused.
    #[must_use]
    pub fn contains(&self, key: &[u8; 32]) -> bool {
        self.keys.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_keys_in_hexadecimal() {
        let check = |key: [u8; 32], start: &str| {
            assert_eq!(hex::encode(key), format!("{start:f<64}"));
        };
        check(COMMON_POOL, "1abe11edc001");
        check(FEE_ACCUMULATOR, "1abe11edfeeacc");
        check(GOVERNANCE_DEPOSITS, "1abe11eddeacc");
        assert_eq!(hex::encode(BURN), "8a4a49afa334bd61da65766d9b2cc8e7c263ba9a446f36e5227f3ec5c0988825");
    }

    #[test]
    fn test_keys_depend_on_the_setting() {
        let (strict, lax) = (Blacklist::production(), Blacklist::allowing_test_keys());
        for name in TEST_KEY_NAMES {
            let key = test_key(name).public();
            assert!(strict.contains(&key) && !lax.contains(&key), "{name}");
        }
        assert!(strict.contains(&OLD_KEY_MANAGER) && !lax.contains(&OLD_KEY_MANAGER));
        for key in RESERVED {
            assert!(strict.contains(&key) && lax.contains(&key));
        }
        assert!(!strict.contains(&test_key("some other key").public()));
    }
}
