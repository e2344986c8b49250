//! Keys from words: BIP 39, then SLIP 10 along the path of ADR 8, `m/44'/474'/N'`.

use base_crypto::ed25519::SecretKey;
use bip39::{Language, Mnemonic};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha512;
use zeroize::Zeroizing;

use crate::error::{CliError, Result};

/// Purpose and coin type of the network's keys.
const PATH: [u32; 2] = [44, 474];
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

/// The key with that number.
pub(super) fn adr8(words: &str, number: u32) -> Result<SecretKey> {
    let mnemonic = Mnemonic::parse_in(Language::English, words)
        .map_err(|error| CliError::new(format!("malformed mnemonic: {error}")))?;
    if number >= HARDENED {
        return Err(format!("key number {number} is too large: at most {}", HARDENED - 1).into());
    }
    let seed = Zeroizing::new(mnemonic.to_seed(""));
    let mut node = hmac(b"ed25519 seed", &[seed.as_slice()]);
    for index in PATH.into_iter().chain([number]) {
        let (key, chain) = node.split_at(32);
        node = hmac(chain, &[&[0], key, &(index | HARDENED).to_be_bytes()]);
    }
    let mut seed = Zeroizing::new([0; 32]);
    seed.copy_from_slice(&node[..32]);
    Ok(SecretKey::from_seed(&seed))
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 64]> {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}
