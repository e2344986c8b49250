//! Decoded public keys, kept because validators sign again and again.

use super::PublicKey;
use std::collections::HashMap;

/// A bounded cache of decoded public keys, refused ones included.
///
/// Holds at most about the chosen number of keys: when the young half is full it becomes the old half, and the former
/// old half is forgotten. A key in use moves back to the young half.
#[derive(Debug)]
pub struct PublicKeyCache {
    young: HashMap<[u8; 32], Option<PublicKey>>,
    old: HashMap<[u8; 32], Option<PublicKey>>,
    half: usize,
}

impl PublicKeyCache {
    /// A cache of up to `capacity` keys (at least 2), about 250 bytes each.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: (capacity / 2).max(1) }
    }

    /// The decoded key; nothing if it is unfit for verification ([`PublicKey::decode`]).
    pub fn get(&mut self, bytes: &[u8; 32]) -> Option<PublicKey> {
        if let Some(key) = self.young.get(bytes) {
            return *key;
        }
        let key = self.old.remove(bytes).unwrap_or_else(|| PublicKey::decode(bytes));
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(*bytes, key);
        key
    }

    /// [`super::verify`] with the key from this cache.
    pub fn verify(&mut self, public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        self.get(public_key).is_some_and(|k| k.verify(message, signature))
    }

    /// Number of keys held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether no key is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
