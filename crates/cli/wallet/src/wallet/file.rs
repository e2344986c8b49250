//! Wallet files: `NAME.wallet` beside the configuration, JSON around a box sealed under a passphrase.
//!
//! Form: `{"kdf":{"argon2":{"salt","time","memory","threads"}},"nonce","data"}`, bytes in base64. The key of 32 bytes is
//! Argon2id of the passphrase; `data` is Deoxys-II-256-128 of `{"algorithm","data"}` under the first 15 bytes of the nonce.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use base_crypto::mrae::{NONCE_LEN, SymmetricKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Secret;
use crate::error::{CliError, Result};

/// Kind of accounts that are files.
pub(crate) const FILE_KIND: &str = "file";
const SALT_LEN: usize = 32;
/// Bytes of the nonce in the file; the cipher takes the first 15.
const STORED_NONCE_LEN: usize = 32;
/// Costs of new files: passes, KiB, lanes.
const COSTS: (u32, u32, u32) = (1, 64 * 1024, 4);
/// Most that a file may ask for, so that a hostile one cannot exhaust the machine: passes, KiB, lanes.
const MAX_COSTS: (u32, u32, u32) = (64, 1024 * 1024, 64);
/// No wallet file is anywhere near this long.
const MAX_FILE: u64 = 64 * 1024;

#[derive(Serialize, Deserialize)]
struct Envelope {
    kdf: Kdf,
    nonce: String,
    data: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    #[serde(skip_serializing_if = "Option::is_none")]
    argon2: Option<Costs>,
}

#[derive(Serialize, Deserialize)]
struct Costs {
    salt: String,
    time: u32,
    memory: u32,
    threads: u32,
}

#[derive(Serialize, Deserialize)]
struct State {
    algorithm: String,
    data: String,
}

fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.wallet"))
}

fn key(passphrase: &str, salt: &[u8], (time, memory, threads): (u32, u32, u32)) -> Result<SymmetricKey> {
    let wrong = |error: argon2::Error| CliError::new(format!("key derivation: {error}"));
    let params = Params::new(memory, time, threads, Some(32)).map_err(wrong)?;
    let mut key = Zeroizing::new([0; 32]);
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon.hash_password_into(passphrase.as_bytes(), salt, key.as_mut_slice()).map_err(wrong)?;
    Ok(SymmetricKey::from_bytes(&key))
}

fn short_nonce(nonce: &[u8]) -> Option<&[u8; NONCE_LEN]> {
    nonce.first_chunk()
}

/// The text of a file.
pub(super) fn seal(
    secret: &Secret,
    passphrase: &str,
    salt: &[u8; SALT_LEN],
    nonce: &[u8; STORED_NONCE_LEN],
) -> Result<String> {
    let state = State { algorithm: secret.algorithm.clone(), data: secret.data.as_str().to_owned() };
    let json = |error: serde_json::Error| CliError::new(error.to_string());
    let plain = Zeroizing::new(serde_json::to_vec(&state).map_err(json)?);
    let short = short_nonce(nonce).ok_or("the stored nonce is longer than the cipher's")?;
    let sealed = key(passphrase, salt, COSTS)?.seal(short, &plain, &[]);
    let sealed = sealed.map_err(|error| CliError::new(error.to_string()))?;
    let (time, memory, threads) = COSTS;
    let argon2 = Some(Costs { salt: BASE64_STANDARD.encode(salt), time, memory, threads });
    let envelope =
        Envelope { kdf: Kdf { argon2 }, nonce: BASE64_STANDARD.encode(nonce), data: BASE64_STANDARD.encode(sealed) };
    serde_json::to_string(&envelope).map_err(json)
}

/// What a file holds.
pub(super) fn open(text: &str, passphrase: &str) -> Result<Secret> {
    let malformed = |what: String| CliError::new(format!("malformed wallet file: {what}"));
    let envelope: Envelope = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    let bytes =
        |what: &str, text: &str| BASE64_STANDARD.decode(text).map_err(|error| malformed(format!("{what}: {error}")));
    let costs = envelope.kdf.argon2.ok_or_else(|| malformed("unsupported key derivation".to_owned()))?;
    let wanted = (costs.time, costs.memory, costs.threads);
    if wanted.0 > MAX_COSTS.0 || wanted.1 > MAX_COSTS.1 || wanted.2 > MAX_COSTS.2 {
        return Err(malformed(format!(
            "key derivation asks for {wanted:?} passes, KiB and lanes, at most {MAX_COSTS:?}"
        )));
    }
    let nonce = bytes("nonce", &envelope.nonce)?;
    let short = short_nonce(&nonce).ok_or_else(|| malformed(format!("nonce of {} bytes", nonce.len())))?;
    let opened =
        key(passphrase, &bytes("salt", &costs.salt)?, wanted)?.open(short, &bytes("data", &envelope.data)?, &[]);
    let plain = opened
        .map(Zeroizing::new)
        .map_err(|_| CliError::new("failed to open account state (maybe incorrect passphrase?)"))?;
    let state: State = serde_json::from_slice(&plain).map_err(|error| malformed(error.to_string()))?;
    Ok(Secret { algorithm: state.algorithm, data: Zeroizing::new(state.data) })
}

/// Writes a new file; one that exists is never replaced.
pub(super) fn save(dir: &Path, name: &str, secret: &Secret, passphrase: &str) -> Result<()> {
    let (mut salt, mut nonce) = ([0; SALT_LEN], [0; STORED_NONCE_LEN]);
    for bytes in [salt.as_mut_slice(), nonce.as_mut_slice()] {
        getrandom::fill(bytes).map_err(|error| CliError::new(format!("no randomness: {error}")))?;
    }
    let text = seal(secret, passphrase, &salt, &nonce)?;
    let path = path(dir, name);
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(CliError::file("write in", dir))?;
    let write = |file: &mut tempfile::NamedTempFile| {
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()
    };
    write(&mut file).map_err(CliError::file("write", &path))?;
    file.persist_noclobber(&path).map(|_| ()).map_err(|error| CliError::file("write", &path)(error.error))
}

/// Reads a file.
pub(super) fn load(dir: &Path, name: &str, passphrase: &str) -> Result<Secret> {
    let path = path(dir, name);
    let failed = |error| CliError::file("read", &path)(error);
    let length = std::fs::metadata(&path).map_err(failed)?.len();
    if length > MAX_FILE {
        return Err(format!("{}: {length} bytes: a wallet file has at most {MAX_FILE}", path.display()).into());
    }
    let text = std::fs::read_to_string(&path).map_err(|error| CliError::file("read", &path)(error))?;
    open(&text, passphrase).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Removes a file.
pub(super) fn remove(dir: &Path, name: &str) -> Result<()> {
    let path = path(dir, name);
    std::fs::remove_file(&path).map_err(CliError::file("remove", &path))
}

/// Gives a file another name; one that exists is never replaced.
pub(super) fn rename(dir: &Path, old: &str, new: &str) -> Result<()> {
    let (from, to) = (path(dir, old), path(dir, new));
    if to.exists() {
        return Err(format!("{} exists already", to.display()).into());
    }
    std::fs::rename(&from, &to).map_err(CliError::file("rename", &from))
}
