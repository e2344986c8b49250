//! Calls that only the ParaTime can read: X25519 for the key, Deoxys-II for the data.
//!
//! Source: `client-sdk/go/callformat`.

use base_codec::{Bytes, Codec, Raw, cbor};
use base_crypto::mrae::{self, BoxSecretKey, NONCE_LEN};

use super::{Call, CallDataKey, CallResult};
use crate::error::{CliError, Result};

/// How encrypted calls are marked.
pub(crate) const ENCRYPTED: u8 = 1;

#[derive(Debug, Clone, Default, Codec)]
#[codec(cbor_only)]
struct CallEnvelope {
    pk: [u8; 32],
    nonce: [u8; NONCE_LEN],
    #[codec(omitempty)]
    epoch: u64,
    data: Bytes,
}

#[derive(Debug, Clone, Default, Codec)]
#[codec(cbor_only)]
struct ResultEnvelope {
    nonce: [u8; NONCE_LEN],
    data: Bytes,
}

/// What opens the result of an encrypted call.
#[derive(Debug)]
pub(crate) struct Opener {
    secret: BoxSecretKey,
    peer: [u8; 32],
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| CliError::new(format!("no randomness: {error}")))?;
    Ok(bytes)
}

/// Encrypts a call for the ParaTime that has this key. The epoch of the key is left out, as the reference's command does.
pub(crate) fn encrypt(call: &Call, key: &CallDataKey) -> Result<(Call, Opener)> {
    let secret = BoxSecretKey::from_bytes(&random()?);
    let nonce = random()?;
    let data = mrae::seal(&secret, &key.public_key.key, &nonce, &cbor::to_vec(call), &[])
        .map_err(|error| CliError::new(format!("failed to encrypt call: {error}")))?;
    let envelope = CallEnvelope { pk: secret.public(), nonce, epoch: 0, data: data.into() };
    let call = Call { format: ENCRYPTED, method: String::new(), body: Raw::of(&envelope), read_only: call.read_only };
    Ok((call, Opener { secret, peer: key.public_key.key }))
}

impl Opener {
    /// The result within a result.
    pub(crate) fn open(&self, result: CallResult) -> Result<CallResult> {
        if result.failed.is_some() {
            // Refused before it was decrypted.
            return Ok(result);
        }
        let sealed = if result.unknown.is_empty() { &result.ok } else { &result.unknown };
        let malformed = |error: &dyn std::fmt::Display| CliError::new(format!("malformed result envelope: {error}"));
        let envelope: ResultEnvelope = cbor::from_slice(sealed).map_err(|error| malformed(&error))?;
        let plain = mrae::open(&self.secret, &self.peer, &envelope.nonce, &envelope.data, &[])
            .map_err(|error| malformed(&error))?;
        cbor::from_slice(&plain).map_err(|error| malformed(&error))
    }
}
