//! Keys of the three kinds that accounts have: addresses, signatures, text forms.

use std::sync::Arc;

use base_codec::Bytes;
use base_crypto::ed25519::SecretKey;
use base_prims::{Address, Hash, PublicKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use k256::ecdsa::signature::hazmat::PrehashSigner as _;
use merlin::Transcript;
use rand_core::SeedableRng as _;
use schnorrkel::context::attach_rng;
use sha3::{Digest as _, Keccak256};
use zeroize::Zeroizing;

use super::ledger;
use crate::error::{CliError, Result};
use crate::sdk::{self, SignatureSpec, SigningContext};

/// Whoever signs.
pub(crate) enum Keys {
    Ed25519(SecretKey),
    Secp256k1(k256::ecdsa::SigningKey),
    Sr25519(Box<schnorrkel::Keypair>),
    /// A key on a device; Ed25519 ones sign for the consensus layer as well.
    Ledger(Arc<ledger::Account>, Option<SecretKey>),
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.public())
    }
}

/// A public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Public {
    Ed25519([u8; 32]),
    /// Compressed, and the Ethereum address that follows from it.
    Secp256k1([u8; 33], [u8; 20]),
    Sr25519([u8; 32]),
}

impl std::fmt::Display for Public {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.bytes()))
    }
}

impl Public {
    /// A compressed key of the curve secp256k1.
    pub(crate) fn secp256k1(bytes: &[u8]) -> Result<Self> {
        let key = k256::ecdsa::VerifyingKey::from_sec1_bytes(bytes)
            .map_err(|error| CliError::new(format!("malformed public key: {error}")))?;
        Ok(Self::of_secp256k1(&key))
    }

    fn of_secp256k1(key: &k256::ecdsa::VerifyingKey) -> Self {
        let mut compressed = [0; 33];
        compressed.copy_from_slice(key.to_encoded_point(true).as_bytes());
        let whole = key.to_encoded_point(false);
        let hash = Keccak256::digest(&whole.as_bytes()[1..]);
        let mut ethereum = [0; 20];
        ethereum.copy_from_slice(&hash[12..]);
        Self::Secp256k1(compressed, ethereum)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(key) | Self::Sr25519(key) => key,
            Self::Secp256k1(key, _) => key,
        }
    }

    /// The address on the network.
    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Ed25519(key) => Address::of_key(&PublicKey::new(*key)),
            Self::Secp256k1(_, ethereum) => sdk::address::of_ethereum(ethereum),
            Self::Sr25519(key) => sdk::address::of_sr25519(key),
        }
    }

    /// The Ethereum address, if the kind of key has one.
    pub(crate) fn ethereum(&self) -> Option<[u8; 20]> {
        match self {
            Self::Secp256k1(_, ethereum) => Some(*ethereum),
            _ => None,
        }
    }

    /// How transactions of ParaTimes name the key.
    pub(crate) fn spec(&self) -> SignatureSpec {
        let key = Some(Bytes::from(self.bytes()));
        match self {
            Self::Ed25519(_) => SignatureSpec { ed25519: key, ..SignatureSpec::default() },
            Self::Secp256k1(..) => SignatureSpec { secp256k1eth: key, ..SignatureSpec::default() },
            Self::Sr25519(_) => SignatureSpec { sr25519: key, ..SignatureSpec::default() },
        }
    }
}

/// An Ethereum address with the capital letters that are its checksum (EIP 55).
pub(crate) fn ethereum_text(address: &[u8; 20]) -> String {
    let digits = hex::encode(address);
    let hash = hex::encode(Keccak256::digest(digits.as_bytes()));
    let pairs = digits.chars().zip(hash.chars());
    let checked = pairs.map(|(digit, mark)| if mark >= '8' { digit.to_ascii_uppercase() } else { digit });
    format!("0x{}", checked.collect::<String>())
}

/// Reads an Ethereum address: `0x` and 40 hexadecimal digits of any case.
pub(crate) fn ethereum_address(text: &str) -> Option<[u8; 20]> {
    let mut bytes = [0; 20];
    hex::decode_to_slice(text.strip_prefix("0x")?, &mut bytes).ok()?;
    Some(bytes)
}

/// A secret key of 32 bytes in hexadecimal.
pub(crate) fn secp256k1_key(text: &str) -> Result<k256::ecdsa::SigningKey> {
    let text = text.trim();
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), bytes.as_mut_slice())
        .map_err(|error| CliError::new(format!("malformed private key: expected 64 hexadecimal digits: {error}")))?;
    k256::ecdsa::SigningKey::from_slice(bytes.as_slice())
        .map_err(|error| CliError::new(format!("malformed private key: {error}")))
}

/// A secret key of 64 bytes, scalar and nonce.
pub(crate) fn sr25519_key(text: &str) -> Result<schnorrkel::Keypair> {
    let bytes = BASE64_STANDARD.decode(text.trim()).map(Zeroizing::new);
    let bytes = bytes.map_err(|error| CliError::new(format!("malformed private key: expected base64: {error}")))?;
    let key = schnorrkel::SecretKey::from_bytes(&bytes)
        .map_err(|error| CliError::new(format!("malformed private key: {error}")))?;
    Ok(key.to_keypair())
}

impl Keys {
    pub(crate) fn public(&self) -> Public {
        match self {
            Self::Ed25519(key) => Public::Ed25519(key.public()),
            Self::Secp256k1(key) => Public::of_secp256k1(key.verifying_key()),
            Self::Sr25519(key) => Public::Sr25519(key.public.to_bytes()),
            Self::Ledger(account, _) => account.public,
        }
    }

    /// The key for the consensus layer, if it is one.
    pub(crate) fn consensus(&self) -> Option<&SecretKey> {
        match self {
            Self::Ed25519(key) => Some(key),
            Self::Ledger(_, key) => key.as_ref(),
            Self::Secp256k1(_) | Self::Sr25519(_) => None,
        }
    }

    /// Signs the body of a ParaTime's transaction.
    pub(crate) fn sign_paratime(&self, context: &SigningContext, body: &[u8]) -> Result<Vec<u8>> {
        let text = context.text();
        let digest = || Hash::of(&[text.as_bytes(), body]);
        match self {
            Self::Ed25519(key) => Ok(key.sign(digest().as_bytes()).to_vec()),
            Self::Secp256k1(key) => {
                let signed = key.sign_prehash(digest().as_bytes());
                let signature: k256::ecdsa::Signature =
                    signed.map_err(|error| CliError::new(format!("failed to sign transaction: {error}")))?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
            Self::Sr25519(key) => {
                let mut seed = Zeroizing::new([0; 32]);
                getrandom::fill(seed.as_mut_slice())
                    .map_err(|error| CliError::new(format!("no randomness: {error}")))?;
                let transcript = sr25519_transcript(text.as_bytes(), body);
                let signed = key.sign(attach_rng(transcript, rand_hc::Hc128Rng::from_seed(*seed)));
                Ok(signed.to_bytes().to_vec())
            }
            Self::Ledger(account, _) => account.sign_paratime(context, body),
        }
    }

    /// The secret key as text; a key on a device has none.
    pub(crate) fn secret_text(&self) -> Option<Zeroizing<String>> {
        let text = match self {
            Self::Ed25519(key) => BASE64_STANDARD.encode(key.to_bytes().as_slice()),
            Self::Secp256k1(key) => hex::encode(&Zeroizing::new(key.to_bytes())[..]),
            Self::Sr25519(key) => BASE64_STANDARD.encode(Zeroizing::new(key.secret.to_bytes()).as_slice()),
            Self::Ledger(..) => return None,
        };
        Some(Zeroizing::new(text))
    }
}

/// What an Sr25519 signature covers: the message by its SHA-512/256 hash, within the context.
fn sr25519_transcript(context: &[u8], message: &[u8]) -> Transcript {
    let mut transcript = Transcript::new(b"SigningContext");
    transcript.append_message(b"", context);
    transcript.append_message(b"sign-256", Hash::of(&[message]).as_bytes());
    transcript
}

/// Whether that key made the signature over a ParaTime's transaction.
pub(crate) fn verifies(spec: &SignatureSpec, context: &SigningContext, body: &[u8], signature: &[u8]) -> bool {
    use k256::ecdsa::signature::hazmat::PrehashVerifier as _;
    let text = context.text();
    let digest = Hash::of(&[text.as_bytes(), body]);
    match spec.key() {
        Some(("ed25519", key)) => {
            let (Ok(key), Ok(signature)) = (<&[u8; 32]>::try_from(key.as_slice()), <&[u8; 64]>::try_from(signature))
            else {
                return false;
            };
            base_crypto::ed25519::verify(key, digest.as_bytes(), signature)
        }
        Some(("secp256k1eth", key)) => {
            let key = k256::ecdsa::VerifyingKey::from_sec1_bytes(key);
            let signature = k256::ecdsa::Signature::from_der(signature);
            let (Ok(key), Ok(signature)) = (key, signature) else { return false };
            key.verify_prehash(digest.as_bytes(), &signature).is_ok()
        }
        Some((_, key)) => {
            let (Ok(key), Ok(signature)) =
                (schnorrkel::PublicKey::from_bytes(key), schnorrkel::Signature::from_bytes(signature))
            else {
                return false;
            };
            key.verify(sr25519_transcript(text.as_bytes(), body), &signature).is_ok()
        }
        None => false,
    }
}
