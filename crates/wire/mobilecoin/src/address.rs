//! Public addresses and the text that carries them (reference: packages `external` and `printable`).

use merlin::Transcript;
use prost::{Message, Oneof};

use crate::bytes::{Point, Scalar32};
use crate::digest::{Digestible, Label, aggregate, digest32};

/// The longest text that is decoded; base 58 takes time in the square of the length.
pub const MAX_TEXT_LEN: usize = 16 * 1024;

/// Why a text is not a printable wrapper.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Longer than [`MAX_TEXT_LEN`].
    #[error("text of {0} characters is too long")]
    TooLong(usize),
    /// Characters outside the alphabet.
    #[error("not base 58")]
    B58,
    /// Shorter than a checksum.
    #[error("insufficient bytes: {0}")]
    InsufficientBytes(usize),
    /// The checksum is not that of the rest.
    #[error("checksum mismatch")]
    ChecksumMismatch,
    /// The rest is not the message.
    #[error("wrapper does not decode: {0}")]
    Decode(#[from] prost::DecodeError),
}

/// A place to send to: a subaddress and, where there is one, its fog server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct PublicAddress {
    /// View key of the subaddress.
    #[prost(message, required, tag = "1")]
    pub view_public_key: Point,
    /// Spend key of the subaddress.
    #[prost(message, required, tag = "2")]
    pub spend_public_key: Point,
    /// Fog report server, or empty.
    #[prost(string, tag = "3")]
    pub fog_report_url: String,
    /// Which report, or empty.
    #[prost(string, tag = "4")]
    pub fog_report_id: String,
    /// Signature of the fog authority's key, or empty.
    #[prost(bytes = "vec", tag = "5")]
    pub fog_authority_sig: Vec<u8>,
}

impl PublicAddress {
    /// First 16 bytes of the digest under `mc-address`.
    pub fn short_hash(&self) -> [u8; 16] {
        let digest = digest32(b"mc-address", self);
        std::array::from_fn(|i| digest[i])
    }
}

impl Digestible for PublicAddress {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "PublicAddress", transcript, |fields| {
            fields
                .field("view_public_key", &self.view_public_key)
                .field("spend_public_key", &self.spend_public_key)
                .always("fog_report_url", &self.fog_report_url)
                .always("fog_report_id", &self.fog_report_id)
                .always("fog_authority_sig", &self.fog_authority_sig);
        });
    }
}

/// The private keys of an account. A secret: nothing but tests and tools of a wallet holds one.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AccountKey {
    /// View key.
    #[prost(message, required, tag = "1")]
    pub view_private_key: Scalar32,
    /// Spend key.
    #[prost(message, required, tag = "2")]
    pub spend_private_key: Scalar32,
    /// Fog report server, or empty.
    #[prost(string, tag = "3")]
    pub fog_report_url: String,
    /// Which report, or empty.
    #[prost(string, tag = "4")]
    pub fog_report_id: String,
    /// The fog authority's public key, DER, or empty.
    #[prost(bytes = "vec", tag = "5")]
    pub fog_authority_spki: Vec<u8>,
}

/// A request to be paid.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PaymentRequest {
    /// Where to.
    #[prost(message, optional, tag = "1")]
    pub public_address: Option<PublicAddress>,
    /// How much, 0 for any.
    #[prost(uint64, tag = "2")]
    pub value: u64,
    /// What for.
    #[prost(string, tag = "3")]
    pub memo: String,
    /// Of which token.
    #[prost(uint64, tag = "4")]
    pub token_id: u64,
    /// Name of the payment.
    #[prost(uint64, tag = "5")]
    pub payment_id: u64,
}

/// What a wrapper holds. Other kinds exist that no validator meets.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Printable {
    /// An address.
    #[prost(message, tag = "1")]
    PublicAddress(PublicAddress),
    /// A request to be paid.
    #[prost(message, tag = "2")]
    PaymentRequest(PaymentRequest),
}

/// What is printed in base 58.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PrintableWrapper {
    /// The content.
    #[prost(oneof = "Printable", tags = "1, 2")]
    pub wrapper: Option<Printable>,
}

impl PrintableWrapper {
    /// The text: base 58 of the checksum (CRC-32, 4 bytes little-endian) and the encoded message.
    pub fn to_b58(&self) -> String {
        let message = self.encode_to_vec();
        let mut bytes = crc32fast::hash(&message).to_le_bytes().to_vec();
        bytes.extend_from_slice(&message);
        bs58::encode(bytes).into_string()
    }

    /// Reads the text.
    ///
    /// # Errors
    /// If it is too long, not base 58, cut, damaged or another message.
    pub fn from_b58(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_TEXT_LEN {
            return Err(Error::TooLong(text.len()));
        }
        let bytes = bs58::decode(text).into_vec().map_err(|_| Error::B58)?;
        let (checksum, message) = bytes.split_first_chunk::<4>().ok_or(Error::InsufficientBytes(bytes.len()))?;
        if crc32fast::hash(message).to_le_bytes() != *checksum {
            return Err(Error::ChecksumMismatch);
        }
        Ok(Self::decode(message)?)
    }
}
