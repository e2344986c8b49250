//! Account keys, subaddresses, the burn address (reference: `account-keys`).

use std::fmt;

use blake2::Digest as _;
use curve25519_dalek_4::constants::RISTRETTO_BASEPOINT_TABLE;
use curve25519_dalek_4::scalar::Scalar;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;
use wire_mobilecoin::address::PublicAddress;
use wire_mobilecoin::{Point, Scalar32};
use zeroize::Zeroize as _;

use crate::curve::{compress, decompress, h512, hash_to_scalar, scalar};
use crate::schnorrkel;

/// The coin's number in key paths: `m/44'/866'/i'`.
const COIN_TYPE: u32 = 866;

/// The subaddress whose use is refused.
pub const INVALID_SUBADDRESS: u64 = u64::MAX;

/// The subaddress that change goes to.
pub const CHANGE_SUBADDRESS: u64 = u64::MAX - 1;

/// The subaddress that gift codes are paid to.
pub const GIFT_CODE_SUBADDRESS: u64 = u64::MAX - 2;

/// What a fog authority signs for under this context: its key, by the subaddress.
pub const FOG_AUTHORITY_CONTEXT: &[u8] = b"Fog authority signature";

/// The private keys of an account.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    view: Scalar32,
    spend: Scalar32,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Account")
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.view.0.zeroize();
        self.spend.0.zeroize();
    }
}

/// The private keys of a subaddress.
pub type Subaddress = Account;

fn hmac_sha512(key: &[u8], parts: &[&[u8]]) -> [u8; 64] {
    let mut mac = <Hmac<Sha512> as KeyInit>::new_from_slice(key).expect("any key length is allowed");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The SLIP-10 Ed25519 key of an account of a BIP-39 phrase without passphrase: 32 bytes.
pub fn slip10_key(phrase: &str, account_index: u32) -> [u8; 32] {
    let mut round = hmac_sha512(phrase.as_bytes(), &[b"mnemonic", &1u32.to_be_bytes()]);
    let mut seed = round;
    for _ in 1..2048 {
        round = hmac_sha512(phrase.as_bytes(), &[&round]);
        seed.iter_mut().zip(round).for_each(|(s, r)| *s ^= r);
    }
    let mut node = hmac_sha512(b"ed25519 seed", &[&seed]);
    for index in [44, COIN_TYPE, account_index] {
        let (key, chain_code) = node.split_at(32);
        let hardened = index | 0x8000_0000;
        node = hmac_sha512(chain_code, &[&[0], key, &hardened.to_be_bytes()]);
    }
    seed.zeroize();
    std::array::from_fn(|i| node[i])
}

/// HKDF with HMAC over BLAKE2b of 32 bytes (blocks of 128), without salt, one block of output.
fn hkdf_blake2b(ikm: &[u8], info: &[u8]) -> [u8; 32] {
    type Blake2b256 = blake2::Blake2b<blake2::digest::consts::U32>;
    let hmac = |key: &[u8], parts: &[&[u8]]| -> [u8; 32] {
        let mut padded = [0u8; 128];
        padded[..key.len()].copy_from_slice(key);
        let mut inner = Blake2b256::new().chain_update(padded.map(|b| b ^ 0x36));
        parts.iter().for_each(|part| inner.update(part));
        Blake2b256::new().chain_update(padded.map(|b| b ^ 0x5c)).chain_update(inner.finalize()).finalize().into()
    };
    let prk = hmac(&[0; 32], &[ikm]);
    hmac(&prk, &[info, &[1]])
}

impl Account {
    /// An account of its private keys.
    pub fn new(view: Scalar32, spend: Scalar32) -> Self {
        Self { view, spend }
    }

    /// The account of a SLIP-10 key.
    pub fn from_slip10(key: &[u8; 32]) -> Self {
        let derive = |salt: &[u8]| {
            let mut wide = [0u8; 64];
            Hkdf::<Sha512>::new(Some(salt), key).expand(&[], &mut wide).expect("64 bytes are one block");
            Scalar32(Scalar::from_bytes_mod_order_wide(&wide).to_bytes())
        };
        Self { view: derive(b"mobilecoin-ristretto255-view"), spend: derive(b"mobilecoin-ristretto255-spend") }
    }

    /// The account of a root entropy, as accounts were made before phrases.
    pub fn from_root_entropy(entropy: &[u8; 32]) -> Self {
        let derive = |info| crate::curve::reduce(hkdf_blake2b(entropy, info));
        Self { view: derive(b"view"), spend: derive(b"spend") }
    }

    /// The private view key.
    pub fn view_private(&self) -> &Scalar32 {
        &self.view
    }

    /// The private spend key.
    pub fn spend_private(&self) -> &Scalar32 {
        &self.spend
    }

    /// The private keys of a subaddress.
    pub fn subaddress(&self, index: u64) -> Subaddress {
        let a = scalar(&self.view);
        let offset = hash_to_scalar(&[b"mc_subaddress", a.as_bytes(), Scalar::from(index).as_bytes()]);
        let spend = offset + scalar(&self.spend);
        Self { view: Scalar32((a * spend).to_bytes()), spend: Scalar32(spend.to_bytes()) }
    }

    /// `view·G`, `spend·G`.
    pub fn public(&self) -> (Point, Point) {
        (crate::curve::public_key(&self.view), crate::curve::public_key(&self.spend))
    }

    /// The public address of a subaddress without fog.
    pub fn address(&self, index: u64) -> PublicAddress {
        let (view_public_key, spend_public_key) = self.subaddress(index).public();
        PublicAddress { view_public_key, spend_public_key, ..PublicAddress::default() }
    }

    /// The public address of a subaddress with fog: the authority's key (DER) is signed with the subaddress view key.
    ///
    /// # Errors
    /// If the view key is not one that can sign.
    pub fn fog_address(
        &self,
        index: u64,
        url: &str,
        report_id: &str,
        authority: &[u8],
    ) -> Result<PublicAddress, schnorrkel::Error> {
        let signature = schnorrkel::sign(self.subaddress(index).view_private(), FOG_AUTHORITY_CONTEXT, authority)?;
        Ok(PublicAddress {
            fog_report_url: url.to_owned(),
            fog_report_id: report_id.to_owned(),
            fog_authority_sig: signature.to_vec(),
            ..self.address(index)
        })
    }
}

/// The public keys of the subaddress whose private view key and public spend key are given: view is `view·spend`.
fn view_key_of(view_private: &Scalar32, spend_public: &Point) -> Option<Point> {
    Some(compress(&(scalar(view_private) * decompress(spend_public)?)))
}

/// The private view key of the burn address.
pub const BURN_VIEW_PRIVATE: Scalar32 = Scalar32([1; 32]);

/// The address that nobody can spend from: its spend key is a hash.
pub fn burn_address() -> PublicAddress {
    let spend =
        curve25519_dalek_4::ristretto::RistrettoPoint::from_uniform_bytes(&h512(&[b"mc_burn_address_spend_public"]));
    let spend_public_key = compress(&spend);
    let view_public_key = view_key_of(&BURN_VIEW_PRIVATE, &spend_public_key).unwrap_or_default();
    PublicAddress { view_public_key, spend_public_key, ..PublicAddress::default() }
}

/// An address as logs show it: `MOB`, then spend and view key in capital hex.
pub fn display(address: &PublicAddress) -> String {
    format!("MOB{}{}", address.spend_public_key, address.view_public_key).to_uppercase()
}

/// `r·G` for an output key made from a secret.
pub(crate) fn base_mul(secret: &Scalar) -> curve25519_dalek_4::ristretto::RistrettoPoint {
    secret * RISTRETTO_BASEPOINT_TABLE
}
