//! The protobuf message that carries a public key: `{1: type (varint), 2: data (bytes)}`.

use crate::DecodingError;

/// Number of the key type Ed25519.
pub(crate) const ED25519: u64 = 1;

/// Length of an encoded Ed25519 public key.
pub(crate) const ENCODED_LEN: usize = 36;

/// `08 01 12 20 ‖ key`.
pub(crate) fn encode(key: &[u8; 32]) -> [u8; ENCODED_LEN] {
    let mut out = [0; ENCODED_LEN];
    out[..4].copy_from_slice(&[0x08, ED25519 as u8, 0x12, 32]);
    out[4..].copy_from_slice(key);
    out
}

/// Reads a message; fields may come in any order, the last of a kind counts, unknown ones are skipped.
pub(crate) fn decode(mut bytes: &[u8]) -> Result<[u8; 32], DecodingError> {
    let mut kind = 0;
    let mut data: &[u8] = &[];
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match (tag >> 3, tag & 7) {
            (0, _) => return Err(DecodingError::Malformed),
            (1, 0) => kind = varint(&mut bytes)?,
            (2, 2) => data = block(&mut bytes)?,
            (1 | 2, _) => return Err(DecodingError::Malformed),
            (_, 0) => drop(varint(&mut bytes)?),
            (_, 1) => drop(take(&mut bytes, 8)?),
            (_, 2) => drop(block(&mut bytes)?),
            (_, 5) => drop(take(&mut bytes, 4)?),
            _ => return Err(DecodingError::Malformed),
        }
    }
    if kind != ED25519 {
        return Err(DecodingError::UnsupportedType(kind));
    }
    data.try_into().map_err(|_| DecodingError::Length(data.len()))
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], DecodingError> {
    let (head, rest) = bytes.split_at_checked(len).ok_or(DecodingError::Malformed)?;
    *bytes = rest;
    Ok(head)
}

fn block<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], DecodingError> {
    let len = usize::try_from(varint(bytes)?).map_err(|_| DecodingError::Malformed)?;
    take(bytes, len)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, DecodingError> {
    let mut value = 0u64;
    for (i, shift) in (0..64).step_by(7).enumerate() {
        let byte = take(bytes, 1)?[0];
        if i == 9 && byte > 1 {
            return Err(DecodingError::Malformed);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(DecodingError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_fields_in_any_order_and_skips_unknown_ones() {
        let key = [7; 32];
        let mut message = vec![0x18, 0x96, 0x01, 0x22, 0x01, 0xff, 0x2d, 1, 2, 3, 4, 0x12, 32];
        message.extend_from_slice(&key);
        message.extend_from_slice(&[0x08, 0x01]);
        assert_eq!(decode(&message), Ok(key));
        assert_eq!(decode(&encode(&key)), Ok(key));
    }

    #[test]
    fn refuses() {
        let good = encode(&[7; 32]);
        assert_eq!(decode(&[]), Err(DecodingError::UnsupportedType(0)));
        assert_eq!(decode(&good[..35]), Err(DecodingError::Malformed));
        assert_eq!(decode(&[0x08, 0x00, 0x12, 0x00]), Err(DecodingError::UnsupportedType(0)));
        assert_eq!(decode(&[0x08, 0x01, 0x12, 0x01, 9]), Err(DecodingError::Length(1)));
        assert_eq!(decode(&[0x08, 0x01]), Err(DecodingError::Length(0)));
        assert_eq!(decode(&[0x0a, 0x01]), Err(DecodingError::Malformed), "type as bytes");
        assert_eq!(decode(&[0x0b]), Err(DecodingError::Malformed), "group");
        assert_eq!(
            decode(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]),
            Err(DecodingError::Malformed)
        );
        let huge = [0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(decode(&huge), Err(DecodingError::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(key) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&key)), Ok(key));
            }
        }
    }
}
