//! Peer ids: multihashes of public keys.

use std::str::FromStr;

use crate::{PublicKey, proto};

/// Multihash code of data that stands for itself.
const IDENTITY: u64 = 0x00;
/// Multihash code of SHA2-256, for keys too long to stand for themselves.
const SHA2_256: u64 = 0x12;
/// Longest key that stands for itself, in bytes.
const MAX_INLINE: usize = 42;
/// Longest text: base58 of 44 bytes takes at most 61 characters.
const MAX_TEXT: usize = 61;

/// Identifies a peer. Of an Ed25519 key it is the key itself; ids of other keys can be named, not verified.
///
/// Bytes: code, length, digest. Text: base58 of the bytes (`12D3KooW…` for Ed25519 keys).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    code: u8,
    len: u8,
    digest: [u8; MAX_INLINE],
}

/// Why bytes or a text are no peer id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not base58.
    #[error("peer id is not base58")]
    Base58,
    /// Neither an inline key nor a SHA2-256 hash; carries the code.
    #[error("unsupported multihash code {0:#x}")]
    UnsupportedCode(u64),
    /// The length does not fit the bytes or the code.
    #[error("invalid multihash length")]
    Length,
}

impl PeerId {
    /// The id of a key.
    #[must_use]
    pub fn from_public_key(key: &PublicKey) -> Self {
        Self::inline(&proto::encode(key.as_bytes()))
    }

    fn inline<const N: usize>(data: &[u8; N]) -> Self {
        const { assert!(N <= MAX_INLINE) };
        let mut digest = [0; MAX_INLINE];
        digest[..N].copy_from_slice(data);
        Self { code: IDENTITY as u8, len: N as u8, digest }
    }

    /// The public key that the id holds, if it is an Ed25519 key.
    #[must_use]
    pub fn public_key(&self) -> Option<PublicKey> {
        if u64::from(self.code) != IDENTITY {
            return None;
        }
        let key = PublicKey::try_decode_protobuf(self.digest()).ok()?;
        // Only the canonical message names the key; any other spelling is another peer.
        (key.to_peer_id() == *self).then_some(key)
    }

    /// An id that belongs to nobody.
    ///
    /// # Panics
    ///
    /// If the operating system gives no randomness.
    #[must_use]
    pub fn random() -> Self {
        let mut digest = [0; 32];
        getrandom::fill(&mut digest).expect("the operating system provides randomness");
        Self::inline(&digest)
    }

    fn digest(&self) -> &[u8] {
        &self.digest[..usize::from(self.len).min(MAX_INLINE)]
    }

    /// Reads code, length and digest; nothing may follow.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        let (&[code, len], data) = bytes.split_first_chunk::<2>().ok_or(ParseError::Length)?;
        // Codes and lengths of a byte with the high bit set go on; no supported one does.
        if !matches!(u64::from(code), IDENTITY | SHA2_256) {
            return Err(ParseError::UnsupportedCode(code.into()));
        }
        let fits = if u64::from(code) == SHA2_256 { data.len() == 32 } else { data.len() <= MAX_INLINE };
        if !fits || data.len() != usize::from(len) {
            return Err(ParseError::Length);
        }
        let mut digest = [0; MAX_INLINE];
        digest[..data.len()].copy_from_slice(data);
        Ok(Self { code, len, digest })
    }

    /// Code, length and digest.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        [&[self.code, self.len], self.digest()].concat()
    }

    /// The text form.
    #[must_use]
    pub fn to_base58(self) -> String {
        bs58::encode(self.to_bytes()).into_string()
    }
}

impl std::fmt::Debug for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerId({self})")
    }
}

impl std::fmt::Display for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_base58())
    }
}

impl FromStr for PeerId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_TEXT {
            return Err(ParseError::Base58);
        }
        Self::from_bytes(&bs58::decode(text).into_vec().map_err(|_| ParseError::Base58)?)
    }
}

impl From<PublicKey> for PeerId {
    fn from(key: PublicKey) -> Self {
        key.to_peer_id()
    }
}

impl From<&PublicKey> for PeerId {
    fn from(key: &PublicKey) -> Self {
        key.to_peer_id()
    }
}

impl TryFrom<Vec<u8>> for PeerId {
    type Error = Vec<u8>;

    fn try_from(bytes: Vec<u8>) -> Result<Self, Vec<u8>> {
        Self::from_bytes(&bytes).map_err(|_| bytes)
    }
}

impl From<PeerId> for Vec<u8> {
    fn from(id: PeerId) -> Self {
        id.to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A peer id that libp2p's description of its peer ids gives as an example.
    const PUBLISHED: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

    #[test]
    fn published_text() {
        let id: PeerId = PUBLISHED.parse().unwrap();
        assert_eq!(id.to_string(), PUBLISHED);
        let key = id.public_key().unwrap();
        assert_eq!(hex::encode(id.to_bytes()), format!("002408011220{}", hex::encode(key.as_bytes())));
        assert_eq!(PublicKey::from_bytes(*key.as_bytes()).to_peer_id(), id);
    }

    #[test]
    fn recorded_from_the_reference() {
        // A validator of a local network: its key and the id that it reports.
        let key = "dcd6a25e844cdb883f20298a206dff50ed0e4317beda2ac6519eeb5a1f09f930";
        let key: [u8; 32] = hex::decode(key).unwrap().try_into().unwrap();
        let id = PublicKey::from_bytes(key).to_peer_id();
        assert_eq!(id.to_string(), "12D3KooWQgRgjkvs2zdCHCWQhfVTKUqccbqNwNJeradHbT6VGYK9");
    }

    #[test]
    fn hashed_ids_have_no_key() {
        let text = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";
        let id: PeerId = text.parse().unwrap();
        assert_eq!((id.to_string().as_str(), id.public_key()), (text, None));
    }

    #[test]
    fn refuses() {
        let err = |hex_text: &str| PeerId::from_bytes(&hex::decode(hex_text).unwrap()).unwrap_err();
        assert_eq!(err(""), ParseError::Length);
        assert_eq!(err("00"), ParseError::Length);
        assert_eq!(err("0002ff"), ParseError::Length);
        assert_eq!(err("0001ffff"), ParseError::Length);
        assert_eq!(err("1201ff"), ParseError::Length);
        assert_eq!(err("1301ff"), ParseError::UnsupportedCode(0x13));
        assert_eq!(err(&format!("002b{}", "00".repeat(43))), ParseError::Length);
        assert_eq!("0OIl".parse::<PeerId>(), Err(ParseError::Base58));
        assert_eq!("1".repeat(10_000).parse::<PeerId>(), Err(ParseError::Base58));
    }

    #[test]
    fn another_spelling_of_a_key_is_no_key() {
        // The fields swapped: decodes to a key, but that key's peer has another id.
        let bytes = [&[0x00, 36, 0x12, 32][..], &[7; 32], &[0x08, 0x01]].concat();
        assert_eq!(PeerId::from_bytes(&bytes).unwrap().public_key(), None);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(id) = PeerId::from_bytes(&bytes) {
                prop_assert_eq!(id.to_bytes(), bytes);
                prop_assert_eq!(id.to_string().parse::<PeerId>().unwrap(), id);
                let _ = id.public_key();
            }
        }

        #[test]
        fn any_text(text in ".{0,70}") {
            let _ = text.parse::<PeerId>();
        }
    }
}
