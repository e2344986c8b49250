//! Reading and writing typed values, and building keys.

use std::ops::ControlFlow;

use base_codec::cbor::{self, Decode, Encode};
use base_prims::{Address, Hash, Namespace, PublicKey};
pub use mkvs_tree::{KvRead, KvWrite};

use crate::{Error, Result};

/// The value of a key.
///
/// # Errors
/// [`Error::Fatal`] if the store fails or the value is malformed.
pub fn get<T: Decode>(kv: &dyn KvRead, key: &[u8]) -> Result<Option<T>> {
    get_raw(kv, key)?.map(|raw| decode(key, &raw)).transpose()
}

/// Decodes a value of the state.
///
/// # Errors
/// [`Error::Fatal`] if it is malformed.
pub fn decode<T: Decode>(key: &[u8], raw: &[u8]) -> Result<T> {
    cbor::from_slice(raw).map_err(|e| Error::Fatal(format!("corrupted state at key {}: {e}", Hex(key))))
}

/// The bytes of a key.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn get_raw(kv: &dyn KvRead, key: &[u8]) -> Result<Option<Vec<u8>>> {
    Ok(kv.get(key)?)
}

/// Sets a key.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn put<T: Encode + ?Sized>(kv: &mut dyn KvWrite, key: &[u8], value: &T) -> Result<()> {
    put_raw(kv, key, &cbor::to_vec(value))
}

/// Sets the bytes of a key.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn put_raw(kv: &mut dyn KvWrite, key: &[u8], value: &[u8]) -> Result<()> {
    Ok(kv.insert(key, value)?)
}

/// Removes a key.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn remove(kv: &mut dyn KvWrite, key: &[u8]) -> Result<()> {
    Ok(kv.remove(key)?)
}

/// Calls `visit` with every pair whose key has the prefix, in key order, until it says stop.
///
/// # Errors
/// What `visit` returns, or [`Error::Fatal`] if the store fails.
pub fn iterate(
    kv: &dyn KvRead,
    prefix: &[u8],
    visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut outcome = Ok(());
    kv.iterate(prefix, &mut |key, value| {
        if !key.starts_with(prefix) {
            return ControlFlow::Break(());
        }
        match visit(key, value) {
            Ok(flow) => flow,
            Err(e) => {
                outcome = Err(e);
                ControlFlow::Break(())
            }
        }
    })?;
    outcome
}

/// All pairs whose key has the prefix, in key order.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn collect(kv: &dyn KvRead, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut pairs = Vec::new();
    iterate(kv, prefix, &mut |k, v| {
        pairs.push((k.to_vec(), v.to_vec()));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(pairs)
}

/// All values whose key has the prefix, decoded, in key order.
///
/// # Errors
/// [`Error::Fatal`] if the store fails or a value is malformed.
pub fn collect_values<T: Decode>(kv: &dyn KvRead, prefix: &[u8]) -> Result<Vec<T>> {
    let mut values = Vec::new();
    iterate(kv, prefix, &mut |k, v| {
        values.push(decode(k, v)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(values)
}

/// A key under construction: a prefix byte, then parts of fixed size. Source: `go/common/keyformat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// A key of the prefix alone.
    pub fn new(prefix: u8) -> Self {
        let mut bytes = Vec::with_capacity(72);
        bytes.push(prefix);
        Self(bytes)
    }

    /// Appends bytes.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends one byte.
    #[must_use]
    pub fn u8(self, v: u8) -> Self {
        self.raw(&[v])
    }

    /// Appends an integer, big-endian.
    #[must_use]
    pub fn u64(self, v: u64) -> Self {
        self.raw(&v.to_be_bytes())
    }

    /// Appends a signed integer, big-endian two's complement.
    #[must_use]
    pub fn i64(self, v: i64) -> Self {
        self.raw(&v.to_be_bytes())
    }

    /// Appends an address.
    #[must_use]
    pub fn address(self, a: &Address) -> Self {
        self.raw(a.as_bytes())
    }

    /// Appends a hash.
    #[must_use]
    pub fn hash(self, h: &Hash) -> Self {
        self.raw(h.as_bytes())
    }

    /// Appends the hash of a public key.
    #[must_use]
    pub fn key_hash(self, k: &PublicKey) -> Self {
        self.hash(&k.hash())
    }

    /// Appends the hash of a namespace.
    #[must_use]
    pub fn namespace_hash(self, ns: &Namespace) -> Self {
        self.hash(&ns.hash())
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl std::ops::Deref for Key {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Key> for Vec<u8> {
    fn from(k: Key) -> Self {
        k.0
    }
}

/// Takes keys apart: the counterpart of [`Key`].
#[derive(Clone, Copy, Debug)]
pub struct KeyReader<'a>(&'a [u8]);

impl<'a> KeyReader<'a> {
    /// Reads a key behind its prefix byte.
    ///
    /// # Errors
    /// [`Error::Fatal`] if the key is empty.
    pub fn new(key: &'a [u8]) -> Result<Self> {
        key.get(1..).map(Self).ok_or_else(|| Error::fatal("corrupted state: empty key"))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or_else(|| Error::fatal("corrupted state: short key"))?;
        self.0 = rest;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Error::Fatal`] if the key is too short.
    pub fn u8(&mut self) -> Result<u8> {
        self.take().map(|[b]| b)
    }

    /// An integer.
    ///
    /// # Errors
    /// [`Error::Fatal`] if the key is too short.
    pub fn u64(&mut self) -> Result<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// A signed integer.
    ///
    /// # Errors
    /// [`Error::Fatal`] if the key is too short.
    pub fn i64(&mut self) -> Result<i64> {
        self.take().map(i64::from_be_bytes)
    }

    /// An address.
    ///
    /// # Errors
    /// [`Error::Fatal`] if the key is too short.
    pub fn address(&mut self) -> Result<Address> {
        self.take().map(Address::new)
    }

    /// A hash.
    ///
    /// # Errors
    /// [`Error::Fatal`] if the key is too short.
    pub fn hash(&mut self) -> Result<Hash> {
        self.take().map(Hash::new)
    }
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
