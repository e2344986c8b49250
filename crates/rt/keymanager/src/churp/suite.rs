//! The curve: NIST P-384 with hashing by SHA3-384 (RFC 9380), and numbers and points as bytes.
//!
//! Numbers are 48 bytes, big-endian; points 49 bytes, compressed, zeros for the neutral one.

use p384::{
    FieldBytes, NistP384, ProjectivePoint,
    elliptic_curve::{
        Error as CurveError, PrimeField as _,
        group::GroupEncoding as _,
        hash2curve::{ExpandMsg, Expander, GroupDigest as _},
    },
};
use sha3::{Digest as _, Sha3_384};

use super::ChurpError;

/// A number modulo the order of the curve.
pub type Scalar = p384::Scalar;
/// A point of the curve.
pub type Point = ProjectivePoint;

/// Bytes of a number.
pub const SCALAR_BYTES: usize = 48;
/// Bytes of a point.
pub const POINT_BYTES: usize = 49;
/// Bytes of a SHA3-384 hash.
const HASH_BYTES: usize = 48;
/// Bytes that SHA3-384 takes in at once.
const HASH_BLOCK_BYTES: usize = 104;

/// `expand_message_xmd` over SHA3-384.
struct Xmd;

struct Expanded(std::vec::IntoIter<u8>);

impl Expander for Expanded {
    fn fill_bytes(&mut self, okm: &mut [u8]) {
        for (to, from) in okm.iter_mut().zip(&mut self.0) {
            *to = from;
        }
    }
}

impl<'a> ExpandMsg<'a> for Xmd {
    type Expander = Expanded;

    fn expand_message(msgs: &[&[u8]], dsts: &'a [&'a [u8]], len: usize) -> Result<Expanded, CurveError> {
        let mut dst = dsts.concat();
        dst.push(u8::try_from(dst.len()).map_err(|_| CurveError)?);
        let total = u16::try_from(len).map_err(|_| CurveError)?;
        let blocks = u8::try_from(len.div_ceil(HASH_BYTES)).map_err(|_| CurveError)?;
        let mut first = Sha3_384::new_with_prefix([0; HASH_BLOCK_BYTES]);
        msgs.iter().for_each(|msg| first.update(msg));
        first.update(total.to_be_bytes());
        first.update([0]);
        let first = first.chain_update(&dst).finalize();
        let (mut out, mut last) = (Vec::new(), [0; HASH_BYTES]);
        for block in 1..=blocks {
            let mixed: Vec<u8> = first.iter().zip(last).map(|(a, b)| a ^ b).collect();
            last = Sha3_384::new_with_prefix(mixed).chain_update([block]).chain_update(&dst).finalize().into();
            out.extend_from_slice(&last);
        }
        out.truncate(len);
        Ok(Expanded(out.into_iter()))
    }
}

/// A number from a message, in the domain `dst`.
///
/// # Errors
/// If the domain is longer than 255 bytes.
pub fn hash_to_scalar(message: &[u8], dst: &[u8]) -> Result<Scalar, ChurpError> {
    NistP384::hash_to_scalar::<Xmd>(&[message], &[dst]).map_err(|_| ChurpError::Encoding)
}

/// A point from a message, in the domain `dst`.
///
/// # Errors
/// If the domain is longer than 255 bytes.
pub fn hash_to_point(message: &[u8], dst: &[u8]) -> Result<Point, ChurpError> {
    NistP384::hash_from_bytes::<Xmd>(&[message], &[dst]).map_err(|_| ChurpError::Encoding)
}

/// The number that stands for a node.
///
/// # Errors
/// If it would be zero, which is where the secret is.
pub fn shareholder(id: &[u8], dst: &[u8]) -> Result<Scalar, ChurpError> {
    let x = hash_to_scalar(id, dst)?;
    if bool::from(x.is_zero()) { Err(ChurpError::Encoding) } else { Ok(x) }
}

/// A random number.
///
/// # Errors
/// If there is no randomness.
pub fn random_scalar() -> Result<Scalar, ChurpError> {
    loop {
        let mut bytes = FieldBytes::default();
        getrandom::fill(&mut bytes).map_err(|_| ChurpError::Random)?;
        if let Some(scalar) = Option::<Scalar>::from(Scalar::from_repr(bytes)) {
            return Ok(scalar);
        }
    }
}

/// A number's bytes.
pub fn scalar_to_bytes(scalar: &Scalar) -> Vec<u8> {
    scalar.to_repr().to_vec()
}

/// A number from its bytes.
///
/// # Errors
/// If they are none.
pub fn scalar_from_bytes(bytes: &[u8]) -> Result<Scalar, ChurpError> {
    let repr: [u8; SCALAR_BYTES] = bytes.try_into().map_err(|_| ChurpError::Decoding)?;
    Option::from(Scalar::from_repr(repr.into())).ok_or(ChurpError::Decoding)
}

/// A point's bytes.
pub fn point_to_bytes(point: &Point) -> Vec<u8> {
    point.to_bytes().to_vec()
}

/// A point from its bytes.
///
/// # Errors
/// If they are none.
pub fn point_from_bytes(bytes: &[u8]) -> Result<Point, ChurpError> {
    let mut repr = <Point as p384::elliptic_curve::group::GroupEncoding>::Repr::default();
    if bytes.len() != repr.len() {
        return Err(ChurpError::Decoding);
    }
    repr.copy_from_slice(bytes);
    Option::from(Point::from_bytes(&repr)).ok_or(ChurpError::Decoding)
}
