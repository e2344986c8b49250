//! Keys from words: BIP 39, then SLIP 10 along the path of ADR 8, `m/44'/474'/N'`, or BIP 32 along Ethereum's of BIP 44,
//! `m/44'/60'/0'/0/N`.

use base_crypto::ed25519::SecretKey;
use bip39::{Language, Mnemonic};
use hmac::{Hmac, KeyInit as _, Mac as _};
use k256::elliptic_curve::PrimeField as _;
use k256::{NonZeroScalar, Scalar};
use sha2::Sha512;
use zeroize::Zeroizing;

use crate::error::{CliError, Result};

/// Purpose and coin type of the network's keys.
const ADR8: [u32; 2] = [44, 474];
/// Purpose, coin type, account and change of Ethereum's keys; all but the last are hardened.
const BIP44: [u32; 4] = [44 | HARDENED, 60 | HARDENED, HARDENED, 0];
/// What marks an index as hardened; Ed25519 knows no others.
const HARDENED: u32 = 1 << 31;
/// Bytes of entropy of a new mnemonic: 24 words.
const ENTROPY: usize = 32;

/// New words from the system's randomness.
pub(super) fn new_mnemonic() -> Result<Zeroizing<String>> {
    let mut entropy = Zeroizing::new([0; ENTROPY]);
    getrandom::fill(entropy.as_mut_slice()).map_err(|error| CliError::new(format!("no randomness: {error}")))?;
    let words = Mnemonic::from_entropy_in(Language::English, entropy.as_slice());
    let words = words.map_err(|error| CliError::new(format!("could not make a mnemonic: {error}")))?;
    Ok(Zeroizing::new(words.to_string()))
}

fn seed(words: &str, number: u32) -> Result<Zeroizing<[u8; 64]>> {
    let mnemonic = Mnemonic::parse_in(Language::English, words)
        .map_err(|error| CliError::new(format!("malformed mnemonic: {error}")))?;
    if number >= HARDENED {
        return Err(format!("key number {number} is too large: at most {}", HARDENED - 1).into());
    }
    Ok(Zeroizing::new(mnemonic.to_seed("")))
}

/// The last secret of the path of ADR 8.
fn adr8(words: &str, number: u32) -> Result<Zeroizing<[u8; 32]>> {
    let mut node = hmac(b"ed25519 seed", &[seed(words, number)?.as_slice()]);
    for index in ADR8.into_iter().chain([number]) {
        let (key, chain) = node.split_at(32);
        node = hmac(chain, &[&[0], key, &(index | HARDENED).to_be_bytes()]);
    }
    let mut secret = Zeroizing::new([0; 32]);
    secret.copy_from_slice(&node[..32]);
    Ok(secret)
}

/// The Ed25519 key with that number.
pub(super) fn ed25519(words: &str, number: u32) -> Result<SecretKey> {
    Ok(SecretKey::from_seed(&*adr8(words, number)?))
}

/// The Sr25519 key with that number: the secret that would be the Ed25519 seed, expanded evenly.
pub(super) fn sr25519(words: &str, number: u32) -> Result<schnorrkel::Keypair> {
    let secret = schnorrkel::MiniSecretKey::from_bytes(adr8(words, number)?.as_slice())
        .map_err(|error| CliError::new(format!("could not derive a key: {error}")))?;
    Ok(secret.expand(schnorrkel::ExpansionMode::Uniform).to_keypair())
}

/// The secp256k1 key with that number.
pub(super) fn secp256k1(words: &str, number: u32) -> Result<k256::ecdsa::SigningKey> {
    // The chance of a secret that is no scalar is 2^-127.
    let unlucky = || CliError::new(format!("key number {number} does not exist for this mnemonic; use another number"));
    let scalar = |bytes: &[u8]| {
        let mut repr = Zeroizing::new(k256::FieldBytes::default());
        repr.copy_from_slice(bytes);
        Option::<Scalar>::from(Scalar::from_repr(*repr)).ok_or_else(unlucky)
    };
    let key = |scalar: Scalar| Option::<NonZeroScalar>::from(NonZeroScalar::new(scalar)).ok_or_else(unlucky);
    let mut node = hmac(b"Bitcoin seed", &[seed(words, number)?.as_slice()]);
    let mut secret = key(scalar(&node[..32])?)?;
    for index in BIP44.into_iter().chain([number]) {
        let chain = &node[32..];
        let next = if index & HARDENED == 0 {
            let public = k256::ecdsa::SigningKey::from(secret).verifying_key().to_encoded_point(true);
            hmac(chain, &[public.as_bytes(), &index.to_be_bytes()])
        } else {
            let bytes = Zeroizing::new(secret.to_repr());
            hmac(chain, &[&[0], &bytes[..], &index.to_be_bytes()])
        };
        secret = key(scalar(&next[..32])? + *secret.as_ref())?;
        node = next;
    }
    Ok(secret.into())
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 64]> {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}
