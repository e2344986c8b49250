//! Keys on Ledger devices with the Oasis application: its commands, over USB or to an emulator.
//!
//! Protocol: class 0x05; version 0, public keys 1 (Ed25519), 3 (Sr25519), 4 (secp256k1), signatures 2 (consensus layer),
//! 5, 6, 7 (ParaTimes, same order as above). A path is its indices of 32 bits, least significant byte first. What is to be
//! signed is sent in parts: first the path, then context (or metadata) and message in pieces of 250 bytes, each marked as
//! first, further or last. Source: `wallet/ledger` of `oasisprotocol/cli`, the application's own description.

mod transport;

use base_codec::{Codec, cbor};
use base_crypto::ed25519::{KeyHolder, SecretKey};
use base_prims::Address;
use parking_lot::Mutex;
use std::sync::Arc;

use super::keys::{Keys, Public, ethereum_address};
use super::{ED25519_ADR8, ED25519_LEGACY, SECP256K1_BIP44, SR25519_ADR8};
use crate::error::{CliError, Result};
use crate::sdk::SigningContext;
use transport::Transport;

/// Kind of accounts whose key is on a device.
pub(crate) const LEDGER_KIND: &str = "ledger";
/// Algorithms that the application has.
pub(crate) const ALGORITHMS: [&str; 4] = [ED25519_LEGACY, ED25519_ADR8, SECP256K1_BIP44, SR25519_ADR8];

const CLASS: u8 = 0x05;
const HARDENED: u32 = 1 << 31;
/// Bytes of a piece of what is to be signed.
const PIECE: usize = 250;
/// Longest context: its length is one byte.
const MAX_CONTEXT: usize = 255;

/// Status words.
const OK: u16 = 0x9000;
const DATA_INVALID: u16 = 0x6984;
const NOT_ALLOWED: u16 = 0x6986;
const BAD_DATA: u16 = 0x6a80;
const NO_APPLICATION: [u16; 4] = [0x6e00, 0x6d00, 0x6e01, 0x6511];
const LOCKED: [u16; 3] = [0x5515, 0x6804, 0x6982];

/// What ParaTime transactions are signed for, as the device shows it (ADR 14).
#[derive(Debug, Clone, Default, Codec)]
#[codec(cbor_only)]
struct Metadata {
    runtime_id: String,
    chain_context: String,
    #[codec(omitempty)]
    orig_to: String,
}

/// A key on a device.
pub(crate) struct Account {
    device: Mutex<Box<dyn Transport>>,
    path: Vec<u8>,
    algorithm: Algorithm,
    pub(crate) public: Public,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Ed25519,
    Secp256k1,
    Sr25519,
}

/// Commands that give a public key and sign for a ParaTime.
impl Algorithm {
    const fn address_command(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::Sr25519 => 3,
            Self::Secp256k1 => 4,
        }
    }

    const fn sign_command(self) -> u8 {
        match self {
            Self::Ed25519 => 5,
            Self::Sr25519 => 6,
            Self::Secp256k1 => 7,
        }
    }
}

const SIGN_CONSENSUS: u8 = 2;

fn path(algorithm: &str, number: u32) -> Result<(Algorithm, Vec<u32>)> {
    let hard = |index: u32| index | HARDENED;
    if number >= HARDENED {
        return Err(format!("key number {number} is too large: at most {}", HARDENED - 1).into());
    }
    match algorithm {
        ED25519_ADR8 | "" => Ok((Algorithm::Ed25519, vec![hard(44), hard(474), hard(number)])),
        SR25519_ADR8 => Ok((Algorithm::Sr25519, vec![hard(44), hard(474), hard(number)])),
        ED25519_LEGACY => Ok((Algorithm::Ed25519, vec![hard(44), hard(474), hard(0), hard(0), hard(number)])),
        SECP256K1_BIP44 => Ok((Algorithm::Secp256k1, vec![hard(44), hard(60), hard(0), 0, number])),
        other => Err(format!("unsupported algorithm '{other}': expected one of {}", ALGORITHMS.join(", ")).into()),
    }
}

/// Sends a command and gives the data of the answer.
fn ask(device: &mut dyn Transport, command: u8, parameter: u8, data: &[u8]) -> Result<Vec<u8>> {
    let length = u8::try_from(data.len()).map_err(|_| "ledger: a command has at most 255 bytes of data")?;
    let mut request = vec![CLASS, command, parameter, 0, length];
    request.extend_from_slice(data);
    let mut answer = device.exchange(&request)?;
    let Some((rest, status)) = answer.split_last_chunk::<2>() else {
        return Err("ledger: the answer has no status".into());
    };
    let (status, length) = (u16::from_be_bytes(*status), rest.len());
    answer.truncate(length);
    if status == OK {
        return Ok(answer);
    }
    let said: String =
        answer.iter().filter(|byte| byte.is_ascii_graphic() || **byte == b' ').map(|b| char::from(*b)).collect();
    Err(match status {
        NOT_ALLOWED => "ledger: signing request rejected by user".into(),
        DATA_INVALID | BAD_DATA => format!("ledger: failed to sign: {said}").into(),
        _ if NO_APPLICATION.contains(&status) => {
            "ledger: the Oasis application is not open; open it on the device".into()
        }
        _ if LOCKED.contains(&status) => {
            "ledger: the device is locked; unlock it and open the Oasis application".into()
        }
        _ => CliError::new(format!("ledger: status {status:#06x} {said}")),
    })
}

fn public_key(device: &mut dyn Transport, algorithm: Algorithm, path: &[u8]) -> Result<Public> {
    let answer = ask(device, algorithm.address_command(), 0, path)?;
    let truncated = || CliError::new("ledger: truncated answer with a public key");
    let length = if algorithm == Algorithm::Secp256k1 { 33 } else { 32 };
    let (key, shown) = answer.split_at_checked(length).ok_or_else(truncated)?;
    let shown = std::str::from_utf8(shown).map_err(|_| "ledger: device returned malformed account address")?;
    let key32 = || <[u8; 32]>::try_from(key).map_err(|_| truncated());
    let public = match algorithm {
        Algorithm::Ed25519 => Public::Ed25519(key32()?),
        Algorithm::Sr25519 => Public::Sr25519(key32()?),
        Algorithm::Secp256k1 => Public::secp256k1(key)?,
    };
    // What the device shows to the person must be what this program works with.
    let (same, own) = match public.ethereum() {
        Some(own) => {
            let prefixed = if shown.starts_with("0x") { shown.to_owned() } else { format!("0x{shown}") };
            (ethereum_address(&prefixed) == Some(own), super::keys::ethereum_text(&own))
        }
        None => (shown.parse::<Address>().ok() == Some(public.address()), public.address().to_string()),
    };
    if same {
        return Ok(public);
    }
    Err(format!(
        "ledger: account address computed on device ({shown}) doesn't match internally computed account address ({own})"
    )
    .into())
}

/// Sends the path, then the rest in pieces, and gives what the device answers to the last.
fn sign(device: &mut dyn Transport, command: u8, path: &[u8], rest: &[u8]) -> Result<Vec<u8>> {
    const FIRST: u8 = 0;
    const FURTHER: u8 = 1;
    const LAST: u8 = 2;
    ask(device, command, FIRST, path)?;
    let mut answer = Vec::new();
    let mut pieces = rest.chunks(PIECE).peekable();
    while let Some(piece) = pieces.next() {
        answer = ask(device, command, if pieces.peek().is_some() { FURTHER } else { LAST }, piece)?;
    }
    Ok(answer)
}

impl Account {
    fn on(mut device: Box<dyn Transport>, algorithm: &str, number: u32) -> Result<Self> {
        let (algorithm, path) = path(algorithm, number)?;
        let path: Vec<u8> = path.into_iter().flat_map(u32::to_le_bytes).collect();
        let public = public_key(&mut *device, algorithm, &path)?;
        Ok(Self { device: Mutex::new(device), path, algorithm, public })
    }

    /// Signs the body of a ParaTime's transaction.
    pub(crate) fn sign_paratime(&self, context: &SigningContext, body: &[u8]) -> Result<Vec<u8>> {
        let metadata = Metadata {
            runtime_id: context.runtime.to_string(),
            chain_context: context.chain_context.clone(),
            orig_to: context.original_to.map(hex::encode).unwrap_or_default(),
        };
        let rest = [cbor::to_vec(&metadata).as_slice(), body].concat();
        let answer = sign(&mut **self.device.lock(), self.algorithm.sign_command(), &self.path, &rest)?;
        if self.algorithm != Algorithm::Secp256k1 {
            return Ok(answer);
        }
        let numbers = answer.get(..64).ok_or("ledger: the signature has fewer than 64 bytes")?;
        let signature = k256::ecdsa::Signature::from_slice(numbers)
            .map_err(|error| CliError::new(format!("ledger: malformed signature: {error}")))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

/// Signs for the consensus layer.
struct Holder(Arc<Account>);

impl KeyHolder for Holder {
    fn sign(&self, context: &[u8], message: &[u8]) -> std::result::Result<[u8; 64], String> {
        let length =
            u8::try_from(context.len()).map_err(|_| format!("ledger: contexts have at most {MAX_CONTEXT} bytes"))?;
        let rest = [&[length], context, message].concat();
        let answer = sign(&mut **self.0.device.lock(), SIGN_CONSENSUS, &self.0.path, &rest);
        let answer = answer.map_err(|error| error.to_string())?;
        <[u8; 64]>::try_from(answer.as_slice()).map_err(|_| "ledger: the signature has not 64 bytes".to_owned())
    }

    fn prove(&self, _alpha: &[u8]) -> std::result::Result<[u8; 80], String> {
        Err("ledger: the device has no verifiable random function".to_owned())
    }
}

/// The key with that number on the one device that is connected.
pub(crate) fn unlock(algorithm: &str, number: u32) -> Result<Keys> {
    keys(Account::on(transport::connect()?, algorithm, number)?)
}

fn keys(account: Account) -> Result<Keys> {
    let account = Arc::new(account);
    let consensus = match account.public {
        Public::Ed25519(public) => Some(SecretKey::held(public, Arc::new(Holder(account.clone())))),
        Public::Secp256k1(..) | Public::Sr25519(_) => None,
    };
    Ok(Keys::Ledger(account, consensus))
}

#[cfg(test)]
mod tests;
