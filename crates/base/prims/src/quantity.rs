//! Non-negative amounts of any size.

use std::{cmp::Ordering, fmt, str::FromStr};

use base_codec::cbor;
use num_bigint::BigUint;
use num_traits::{Num, ToPrimitive, Zero};

use crate::ParseError;

/// An amount of tokens or shares: a non-negative integer without an upper bound.
///
/// Small values (below `2^128`) are held in place; anything larger on the heap. CBOR: byte string with the big-endian
/// magnitude, no leading zeros (they are accepted), empty for zero. JSON: decimal string; hexadecimal, octal and
/// binary prefixes are accepted. Source: `go/common/quantity`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Quantity(Repr);

// Invariant: `Big` holds only values of 2^128 and above, so equality of representations is equality of values.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Small(u128),
    Big(Box<BigUint>),
}

/// The reasons why arithmetic on quantities fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// A subtraction would go below zero.
    #[error("insufficient balance")]
    InsufficientBalance,
    /// Division by zero, or a malformed amount.
    #[error("invalid quantity")]
    Invalid,
}

impl Quantity {
    /// Zero.
    pub const ZERO: Self = Self(Repr::Small(0));

    /// An amount from a machine integer.
    pub const fn from_u128(v: u128) -> Self {
        Self(Repr::Small(v))
    }

    fn from_big(v: BigUint) -> Self {
        match v.to_u128() {
            Some(small) => Self(Repr::Small(small)),
            None => Self(Repr::Big(Box::new(v))),
        }
    }

    /// The amount as a big integer.
    pub fn to_big(&self) -> BigUint {
        match &self.0 {
            Repr::Small(v) => BigUint::from(*v),
            Repr::Big(b) => (**b).clone(),
        }
    }

    /// The amount from its big-endian magnitude.
    pub fn from_be_bytes(bytes: &[u8]) -> Self {
        let significant = match bytes.iter().position(|b| *b != 0) {
            Some(start) => &bytes[start..],
            None => return Self::ZERO,
        };
        if significant.len() <= 16 {
            let mut buf = [0; 16];
            buf[16 - significant.len()..].copy_from_slice(significant);
            return Self::from_u128(u128::from_be_bytes(buf));
        }
        Self::from_big(BigUint::from_bytes_be(significant))
    }

    /// The big-endian magnitude without leading zeros; empty for zero.
    pub fn to_be_bytes(&self) -> Vec<u8> {
        match &self.0 {
            Repr::Small(v) => v.to_be_bytes()[v.leading_zeros() as usize / 8..].to_vec(),
            Repr::Big(b) => b.to_bytes_be(),
        }
    }

    /// The amount as `u64`, if it fits.
    pub fn to_u64(&self) -> Option<u64> {
        match &self.0 {
            Repr::Small(v) => u64::try_from(*v).ok(),
            Repr::Big(_) => None,
        }
    }

    /// The amount as `u128`, if it fits.
    pub fn to_u128(&self) -> Option<u128> {
        match &self.0 {
            Repr::Small(v) => Some(*v),
            Repr::Big(_) => None,
        }
    }

    /// Whether the amount is zero.
    pub fn is_zero(&self) -> bool {
        matches!(self.0, Repr::Small(0))
    }

    /// Sum.
    #[must_use]
    pub fn add(&self, n: &Self) -> Self {
        if let (Repr::Small(a), Repr::Small(b)) = (&self.0, &n.0)
            && let Some(sum) = a.checked_add(*b)
        {
            return Self::from_u128(sum);
        }
        Self::from_big(self.to_big() + n.to_big())
    }

    /// Adds in place.
    pub fn add_assign(&mut self, n: &Self) {
        *self = self.add(n);
    }

    /// Difference.
    ///
    /// # Errors
    /// [`QuantityError::InsufficientBalance`] if `n` is larger.
    pub fn sub(&self, n: &Self) -> Result<Self, QuantityError> {
        match (&self.0, &n.0) {
            (Repr::Small(a), Repr::Small(b)) => {
                a.checked_sub(*b).map(Self::from_u128).ok_or(QuantityError::InsufficientBalance)
            }
            _ if *self < *n => Err(QuantityError::InsufficientBalance),
            _ => Ok(Self::from_big(self.to_big() - n.to_big())),
        }
    }

    /// Subtracts in place; on error nothing changes.
    ///
    /// # Errors
    /// [`QuantityError::InsufficientBalance`] if `n` is larger.
    pub fn sub_assign(&mut self, n: &Self) -> Result<(), QuantityError> {
        *self = self.sub(n)?;
        Ok(())
    }

    /// Subtracts `n` or all there is, and returns what was subtracted.
    pub fn sub_up_to(&mut self, n: &Self) -> Self {
        let taken = if *self < *n { self.clone() } else { n.clone() };
        *self = self.sub(&taken).unwrap_or_default();
        taken
    }

    /// Product.
    #[must_use]
    pub fn mul(&self, n: &Self) -> Self {
        if let (Repr::Small(a), Repr::Small(b)) = (&self.0, &n.0)
            && let Some(product) = a.checked_mul(*b)
        {
            return Self::from_u128(product);
        }
        Self::from_big(self.to_big() * n.to_big())
    }

    /// Quotient, rounded down.
    ///
    /// # Errors
    /// [`QuantityError::Invalid`] if `n` is zero.
    pub fn quo(&self, n: &Self) -> Result<Self, QuantityError> {
        if n.is_zero() {
            return Err(QuantityError::Invalid);
        }
        if let (Repr::Small(a), Repr::Small(b)) = (&self.0, &n.0) {
            return Ok(Self::from_u128(a / b));
        }
        Ok(Self::from_big(self.to_big() / n.to_big()))
    }

    /// Floor of the square root.
    #[must_use]
    pub fn sqrt(&self) -> Self {
        Self::from_big(self.to_big().sqrt())
    }

    /// Moves `n` from `src` to `dst`; on error neither changes. Source: `quantity.Move`.
    ///
    /// # Errors
    /// [`QuantityError::InsufficientBalance`] if `src` holds less.
    pub fn transfer(dst: &mut Self, src: &mut Self, n: &Self) -> Result<(), QuantityError> {
        src.sub_assign(n)?;
        dst.add_assign(n);
        Ok(())
    }

    /// Moves `n` or all there is from `src` to `dst`, and returns what was moved. Source: `quantity.MoveUpTo`.
    pub fn transfer_up_to(dst: &mut Self, src: &mut Self, n: &Self) -> Self {
        let moved = src.sub_up_to(n);
        dst.add_assign(&moved);
        moved
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self::ZERO
    }
}

impl From<u64> for Quantity {
    fn from(v: u64) -> Self {
        Self::from_u128(u128::from(v))
    }
}

impl From<u128> for Quantity {
    fn from(v: u128) -> Self {
        Self::from_u128(v)
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Repr::Small(a), Repr::Small(b)) => a.cmp(b),
            (Repr::Small(_), Repr::Big(_)) => Ordering::Less,
            (Repr::Big(_), Repr::Small(_)) => Ordering::Greater,
            (Repr::Big(a), Repr::Big(b)) => a.cmp(b),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Small(v) => v.fmt(f),
            Repr::Big(b) => b.fmt(f),
        }
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Longest text that is read as an amount, in characters; longer ones cost time that grows with their square.
pub const MAX_TEXT_CHARS: usize = 20_000;

impl FromStr for Quantity {
    type Err = ParseError;

    /// Reads the forms that Go's `big.Int` text unmarshaler reads: an optional sign, an optional base prefix
    /// (`0x`, `0o`, `0b`, or a leading `0` for octal), and single underscores between digits of a prefixed or decimal
    /// number in automatic base. Negative values other than `-0` are refused.
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let err = || ParseError::new("a non-negative amount as a decimal string", s);
        if s.len() > MAX_TEXT_CHARS {
            return Err(err());
        }
        let (negative, digits) = match s.as_bytes().first() {
            Some(b'-') => (true, &s[1..]),
            Some(b'+') => (false, &s[1..]),
            _ => (false, s),
        };
        let (radix, body, prefixed) = match digits.as_bytes() {
            [b'0', b'x' | b'X', ..] => (16, &digits[2..], true),
            [b'0', b'o' | b'O', ..] => (8, &digits[2..], true),
            [b'0', b'b' | b'B', ..] => (2, &digits[2..], true),
            [b'0', _, ..] => (8, &digits[1..], true),
            _ => (10, digits, false),
        };
        // An underscore may stand after a prefix and between digits, never doubled, first (unprefixed) or last.
        let mut previous_is_digit = prefixed;
        for c in body.chars() {
            if c == '_' && !previous_is_digit {
                return Err(err());
            }
            previous_is_digit = c != '_';
        }
        let plain: String = body.chars().filter(|c| *c != '_').collect();
        if plain.is_empty() || !previous_is_digit || !plain.chars().all(|c| c.is_digit(radix)) {
            return Err(err());
        }
        let value = BigUint::from_str_radix(&plain, radix).map_err(|_| err())?;
        if negative && !value.is_zero() { Err(err()) } else { Ok(Self::from_big(value)) }
    }
}

crate::json_as_text!(Quantity, "an amount as a decimal string");

impl cbor::Encode for Quantity {
    fn encode(&self, e: &mut cbor::Encoder) {
        match &self.0 {
            Repr::Small(v) => e.bytes(&v.to_be_bytes()[v.leading_zeros() as usize / 8..]),
            Repr::Big(b) => e.bytes(&b.to_bytes_be()),
        }
    }
    fn is_empty(&self) -> bool {
        self.is_zero()
    }
}

impl cbor::Decode for Quantity {
    fn decode(d: &mut cbor::Decoder<'_>) -> Result<Self, cbor::Error> {
        // The reference's type is a struct without exported fields: an empty map decodes into it unchanged.
        match d.kind()? {
            cbor::Kind::Bytes => Ok(Self::from_be_bytes(d.bytes()?)),
            _ => cbor::decode_no_fields(d).map(|()| Self::ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use base_codec::{cbor, json};
    use proptest::prelude::*;

    use super::*;

    fn q(s: &str) -> Quantity {
        s.parse().unwrap()
    }

    #[test]
    fn cbor_forms() {
        assert_eq!(cbor::to_vec(&Quantity::ZERO), [0x40]);
        assert_eq!(cbor::to_vec(&Quantity::from(256u64)), [0x42, 1, 0]);
        for (bytes, value) in [
            (&[0x40][..], "0"),
            (&[0x43, 0, 0, 7], "7"),
            (&[0xa0], "0"),
            (&[0xf6], "0"),
            (&[0x51, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "340282366920938463463374607431768211456"),
        ] {
            assert_eq!(cbor::from_slice::<Quantity>(bytes).unwrap(), q(value), "{bytes:?}");
        }
        for bad in [&[0x01][..], &[0x61, 0x31], &[0xa1, 0x61, 0x61, 0x01]] {
            assert!(cbor::from_slice::<Quantity>(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn text_forms() {
        for (text, value) in [("10", 10), ("0x10", 16), ("010", 8), ("0b11", 3), ("1_000", 1000), ("-0", 0), ("+5", 5)]
        {
            assert_eq!(q(text), Quantity::from(value as u64), "{text}");
        }
        for bad in ["", "-1", "1__0", "_1", "1_", "0x", "a", "1.0", " 1"] {
            assert!(bad.parse::<Quantity>().is_err(), "{bad}");
        }
        assert_eq!(json::to_string(&q("12")), "\"12\"");
        assert!(json::from_str::<Quantity>("12").is_err());
    }

    #[test]
    fn subtraction_stops_at_zero() {
        let mut a = Quantity::from(5u64);
        assert_eq!(a.sub(&Quantity::from(6u64)), Err(QuantityError::InsufficientBalance));
        assert_eq!(a.sub_up_to(&Quantity::from(6u64)), Quantity::from(5u64));
        assert!(a.is_zero());
        assert_eq!(a.quo(&Quantity::ZERO), Err(QuantityError::Invalid));
    }

    proptest! {
        #[test]
        fn agrees_with_big_integers(a in any::<[u8; 24]>(), b in any::<[u8; 17]>(), cut in 0usize..24) {
            let (x, y) = (Quantity::from_be_bytes(&a[cut..]), Quantity::from_be_bytes(&b));
            prop_assert_eq!(x.add(&y).to_big(), x.to_big() + y.to_big());
            prop_assert_eq!(x.mul(&y).to_big(), x.to_big() * y.to_big());
            if !y.is_zero() {
                prop_assert_eq!(x.quo(&y).unwrap().to_big(), x.to_big() / y.to_big());
            }
            prop_assert_eq!(x.cmp(&y), x.to_big().cmp(&y.to_big()));
            prop_assert_eq!(x.add(&y).sub(&y).unwrap(), x.clone());
            prop_assert_eq!(q(&x.to_string()), x.clone());
            prop_assert_eq!(cbor::from_slice::<Quantity>(&cbor::to_vec(&x)).unwrap(), x);
        }
    }
}
