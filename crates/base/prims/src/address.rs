//! Account addresses of the staking ledger.

use std::{fmt, str::FromStr, sync::LazyLock};

use bech32::{Bech32, Hrp};

use crate::{Hash, Namespace, ParseError, PublicKey, keys::RESERVED_KEYS};

base_codec::fixed_bytes! {
    /// An account's address: one byte of version, 20 bytes of truncated hash.
    ///
    /// CBOR: byte string of 21. Text and JSON: bech32 with the prefix `oasis`.
    /// Source: `go/staking/api/address.go`, `go/common/crypto/address`.
    pub struct Address([u8; 21]);
}

/// Length of an address in bytes.
pub const ADDRESS_BYTES: usize = 21;
/// Human-readable prefix of the text form.
pub const ADDRESS_PREFIX: Hrp = Hrp::parse_unchecked("oasis");
const VERSION: u8 = 0;
const EXPECTED: &str = "an address in bech32 with the prefix oasis";

static RESERVED: LazyLock<[Address; 4]> = LazyLock::new(|| RESERVED_KEYS.map(|k| Address::of_key(&k)));

impl Address {
    fn derive(context: &str, data: &[u8]) -> Self {
        let hash = Hash::of(&[context.as_bytes(), &[VERSION], data]);
        let mut out = [0; ADDRESS_BYTES];
        out[0] = VERSION;
        out[1..].copy_from_slice(&hash.as_bytes()[..20]);
        Self::new(out)
    }

    /// Address of the account that a key controls.
    pub fn of_key(key: &PublicKey) -> Self {
        Self::derive("oasis-core/address: staking", key.as_bytes())
    }

    /// Address of a runtime's own account.
    pub fn of_runtime(id: &Namespace) -> Self {
        Self::derive("oasis-core/address: runtime", id.as_bytes())
    }

    /// Address of an account that belongs to a module; the data is `<module>.<kind>`.
    pub fn of_module(module: &str, kind: &str) -> Self {
        Self::derive("oasis-core/address: module", format!("{module}.{kind}").as_bytes())
    }

    /// Address of the vault that `creator` made with the number `id`.
    pub fn of_vault(creator: &Address, id: u64) -> Self {
        Self::of_module("vault", &format!("vault.{creator}.{id}"))
    }

    /// The pool from which rewards are paid.
    pub fn common_pool() -> Self {
        RESERVED[0]
    }

    /// Where fees are collected while a block executes.
    pub fn fee_accumulator() -> Self {
        RESERVED[1]
    }

    /// Where deposits of governance proposals are held.
    pub fn governance_deposits() -> Self {
        RESERVED[2]
    }

    /// Transfers to this address destroy the tokens.
    pub fn burn() -> Self {
        RESERVED[3]
    }

    /// Whether the address may neither sign nor own anything.
    pub fn is_reserved(&self) -> bool {
        RESERVED.contains(self)
    }

    /// Whether the address may be used by an ordinary account (the zero address is allowed).
    pub fn is_valid(&self) -> bool {
        !self.is_reserved()
    }
}

impl From<&PublicKey> for Address {
    fn from(k: &PublicKey) -> Self {
        Self::of_key(k)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32::encode_lower_to_fmt::<Bech32, _>(f, ADDRESS_PREFIX, self.as_bytes()).map_err(|_| fmt::Error)
    }
}

impl FromStr for Address {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let err = || ParseError::new(EXPECTED, s);
        let checked = bech32::primitives::decode::CheckedHrpstring::new::<Bech32>(s).map_err(|_| err())?;
        if checked.hrp() != ADDRESS_PREFIX {
            return Err(err());
        }
        let bytes: Vec<u8> = checked.byte_iter().take(ADDRESS_BYTES + 1).collect();
        <[u8; ADDRESS_BYTES]>::try_from(bytes.as_slice()).map(Self::new).map_err(|_| err())
    }
}

crate::json_as_text!(Address, EXPECTED);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_addresses() {
        for (address, text) in [
            (Address::common_pool(), "oasis1qrmufhkkyyf79s5za2r8yga9gnk4t446dcy3a5zm"),
            (Address::fee_accumulator(), "oasis1qqnv3peudzvekhulf8v3ht29z4cthkhy7gkxmph5"),
            (Address::governance_deposits(), "oasis1qp65laz8zsa9a305wxeslpnkh9x4dv2h2qhjz0ec"),
            (Address::burn(), "oasis1qzq8u7xs328puu2jy524w3fygzs63rv3u5967970"),
            (
                Address::of_runtime(
                    &"000000000000000000000000000000000000000000000000f80306c9858e7279".parse().unwrap(),
                ),
                "oasis1qrd3mnzhhgst26hsp96uf45yhq6zlax0cuzdgcfc",
            ),
        ] {
            assert_eq!(address.to_string(), text);
            assert_eq!(text.parse(), Ok(address));
        }
    }

    #[test]
    fn refuses_bad_text() {
        for bad in [
            "",
            "oasis1qrmufhkkyyf79s5za2r8yga9gnk4t446dcy3a5zn",
            "cosmos1qrmufhkkyyf79s5za2r8yga9gnk4t446dcy3a5zm",
            "oasis1qqqqqqqqqqqq",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
        assert!(!Address::burn().is_valid());
        assert!(Address::default().is_valid());
    }

    /// The valid and invalid strings of BIP-173, section "Test vectors". The checksum of Bech32m strings is not valid
    /// here, and the length limit of 90 characters holds.
    #[test]
    fn published_bech32_strings() {
        let decodes = |s: &str| bech32::primitives::decode::CheckedHrpstring::new::<Bech32>(s).is_ok();
        for valid in [
            "A12UEL5L",
            "a12uel5l",
            "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
            "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw",
            "11qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqc8247j",
            "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
            "?1ezyfcl",
        ] {
            assert!(decodes(valid), "{valid}");
            assert!(valid.parse::<Address>().is_err(), "{valid} is no address");
        }
        for invalid in [
            "\u{20}1nwldj5",
            "\u{7f}1axkwrx",
            "pzry9x0s0muk",
            "1pzry9x0s0muk",
            "x1b4n0q5v",
            "li1dgmt3",
            "A1G7SGD8",
            "10a06t8",
            "1qzzfhee",
            "a1lqfn3a",
        ] {
            assert!(!decodes(invalid), "{invalid}");
        }
    }
}
