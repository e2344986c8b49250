//! Values and keys of the state in encrypted form.
//!
//! A key is `01 | seal(key)`, a value `seal(value) | nonce`. The nonce is always zero, which is good for tests alone:
//! equal values are seen to be equal.

use base_crypto::mrae::{NONCE_LEN, SymmetricKey};
use mkvs_tree::KvRead;
use rt_guest::State;

/// Keeps encrypted keys apart from those of messages.
const PREFIX: u8 = 0x01;

const NONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn stored_key(key: &SymmetricKey, name: &[u8]) -> Result<Vec<u8>, String> {
    let sealed = key.seal(&NONCE, name, &[]).map_err(text)?;
    Ok([&[PREFIX], sealed.as_slice()].concat())
}

/// What does not open counts as absent.
fn open(key: &SymmetricKey, stored: Option<Vec<u8>>) -> Option<Vec<u8>> {
    let stored = stored?;
    let (sealed, nonce) = stored.split_last_chunk::<NONCE_LEN>()?;
    key.open(nonce, sealed, &[]).ok()
}

/// Sets a value and returns the one before.
pub(crate) fn insert(
    state: &mut State,
    key: &SymmetricKey,
    name: &[u8],
    value: &[u8],
) -> Result<Option<Vec<u8>>, String> {
    let mut sealed = key.seal(&NONCE, value, &[]).map_err(text)?;
    sealed.extend_from_slice(&NONCE);
    Ok(open(key, state.replace(&stored_key(key, name)?, &sealed).map_err(text)?))
}

/// A value.
pub(crate) fn get(state: &State, key: &SymmetricKey, name: &[u8]) -> Result<Option<Vec<u8>>, String> {
    Ok(open(key, state.get(&stored_key(key, name)?).map_err(text)?))
}

/// Removes a value and returns it.
pub(crate) fn remove(state: &mut State, key: &SymmetricKey, name: &[u8]) -> Result<Option<Vec<u8>>, String> {
    Ok(open(key, state.take(&stored_key(key, name)?).map_err(text)?))
}
