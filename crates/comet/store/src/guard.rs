//! The file by which a validator never signs two different things for one height, round and step.
//!
//! Reference: `oasis-core:go/consensus/cometbft/crypto/priv_val.go`. The file is the reference's
//! `oasis_priv_validator.json`, byte for byte: an object with `height`, `round`, `step` (1 proposal, 2 prevote,
//! 3 precommit) as numbers, `signature` (base64) and `signbytes` (upper-case hexadecimal) unless empty, and `public_key`
//! (base64).
//!
//! # Correctness
//! Steps of a signature: the rule is asked, the signer signs, the record is written to a new file, that file is synced,
//! it takes the old one's place, the folder is synced, the signature is released. After a crash before the last but one
//! the old or the new record is there and nothing was released; later the new record is there. Once a step has
//! failed nothing is signed until the file was opened again.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_crypto::context::{COMETBFT, sign_with_context};
use base_crypto::ed25519::SecretKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use comet_core::guard::{Decision, GuardError, LastSigned, SignRequest};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512_256};
use wire_cometbft::keys::SIGNATURE_CONTEXT;
use wire_cometbft::vote::{Proposal, Vote};

#[cfg(test)]
mod tests;

/// Name of the file in the consensus folder.
pub const GUARD_FILE: &str = "oasis_priv_validator.json";
/// A longer file is no guard file.
pub const MAX_GUARD_FILE_BYTES: u64 = 1 << 16;
/// Who may read and write the file: its owner.
const MODE: u32 = 0o600;

/// A signer failed to sign.
#[derive(Debug, thiserror::Error)]
#[error("signer: {0}")]
pub struct SignError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Whatever holds the consensus key: a file, a plugin, a remote signer.
pub trait ConsensusSigner: Send + Sync {
    /// The Ed25519 public key.
    fn public(&self) -> [u8; 32];
    /// Signs SHA-512/256 of context and message; may block.
    ///
    /// # Errors
    /// If there is no signature.
    fn sign(&self, context: &str, message: &[u8]) -> Result<[u8; 64], SignError>;
}

/// A key as the node's identity has it: read from a file, or held by a signer elsewhere.
pub struct FileSigner {
    key: SecretKey,
}

impl FileSigner {
    /// A signer with this key.
    pub fn new(key: SecretKey) -> Self {
        Self { key }
    }
}

impl std::fmt::Debug for FileSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSigner").finish_non_exhaustive()
    }
}

impl ConsensusSigner for FileSigner {
    fn public(&self) -> [u8; 32] {
        self.key.public()
    }

    fn sign(&self, context: &str, message: &[u8]) -> Result<[u8; 64], SignError> {
        if context == COMETBFT.name() {
            return sign_with_context(&self.key, &COMETBFT, None, None, message).map_err(|e| SignError(e.into()));
        }
        let digest: [u8; 32] = Sha512_256::new().chain_update(context).chain_update(message).finalize().into();
        Ok(self.key.sign(&digest))
    }
}

/// What to do if there is no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingGuard {
    /// Make one: the node is new.
    Create,
    /// Refuse: there is a chain, so there was a file.
    Refuse,
}

/// Why nothing is signed, or the file is refused.
#[derive(Debug, thiserror::Error)]
pub enum GuardFileError {
    /// The rule forbids it.
    #[error(transparent)]
    Rule(#[from] GuardError),
    /// The signer failed.
    #[error(transparent)]
    Signer(#[from] SignError),
    /// The file could not be read or written.
    #[error("failed to {action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The file is no guard file.
    #[error("guard file {path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file is of another key.
    #[error("guard file {path} is of another key")]
    OtherKey {
        /// The file.
        path: PathBuf,
    },
    /// There is no file although there is a chain.
    #[error("guard file {path} is missing although there is a chain; restore it, or make sure the key never signed")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A write failed before: what is on disk is not known, so nothing is signed until the file was opened again.
    #[error("guard file could not be written before; nothing is signed until restart")]
    Poisoned,
}

/// Signs votes and proposals, never two different ones for one height, round and step.
pub struct Guard {
    path: PathBuf,
    signer: Arc<dyn ConsensusSigner>,
    public: [u8; 32],
    context: String,
    last: LastSigned,
    poisoned: bool,
    /// The step of writing that fails, for tests.
    #[cfg(test)]
    fail_at: Option<usize>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Guard {
    /// Opens the guard file for a signer.
    ///
    /// # Errors
    /// If the file cannot be read or made, is of another key, or is missing and must not be.
    pub fn open(path: &Path, signer: Arc<dyn ConsensusSigner>, missing: MissingGuard) -> Result<Self, GuardFileError> {
        let mut guard = Self {
            path: path.to_owned(),
            public: signer.public(),
            signer,
            context: String::from_utf8_lossy(SIGNATURE_CONTEXT).into_owned(),
            last: LastSigned::default(),
            poisoned: false,
            #[cfg(test)]
            fail_at: None,
        };
        let text = match fs::metadata(path) {
            Ok(meta) if meta.len() > MAX_GUARD_FILE_BYTES => {
                return Err(guard.malformed(format!("{} bytes", meta.len())));
            }
            Ok(_) => Some(fs::read(path).map_err(guard.io("read"))?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(guard.io("read")(error)),
        };
        match text {
            Some(text) => {
                let (last, public) = parse(&text).map_err(|reason| guard.malformed(reason))?;
                if public != guard.public {
                    return Err(GuardFileError::OtherKey { path: guard.path });
                }
                guard.last = last;
            }
            None if missing == MissingGuard::Refuse => return Err(GuardFileError::Missing { path: guard.path }),
            None => guard.store()?,
        }
        Ok(guard)
    }

    fn io(&self, action: &'static str) -> impl FnOnce(std::io::Error) -> GuardFileError {
        let path = self.path.clone();
        move |source| GuardFileError::Io { action, path, source }
    }

    fn malformed(&self, reason: String) -> GuardFileError {
        GuardFileError::Malformed { path: self.path.clone(), reason }
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// What was signed last.
    pub fn last_signed(&self) -> &LastSigned {
        &self.last
    }

    /// Signs a vote, or gives the old signature with its old time.
    ///
    /// # Errors
    /// If the rule forbids it, the signer fails, or the record cannot be made durable.
    pub fn sign_vote(&mut self, chain_id: &str, mut vote: Vote) -> Result<Vote, GuardFileError> {
        if self.poisoned {
            return Err(GuardFileError::Poisoned);
        }
        match self.last.check_vote(chain_id, &vote)? {
            Decision::Sign(request) => vote.signature = self.sign(request)?,
            Decision::Reuse { timestamp, signature } => (vote.timestamp, vote.signature) = (timestamp, signature),
        }
        Ok(vote)
    }

    /// Signs a proposal, or gives the old signature with its old time.
    ///
    /// # Errors
    /// If the rule forbids it, the signer fails, or the record cannot be made durable.
    pub fn sign_proposal(&mut self, chain_id: &str, mut proposal: Proposal) -> Result<Proposal, GuardFileError> {
        if self.poisoned {
            return Err(GuardFileError::Poisoned);
        }
        match self.last.check_proposal(chain_id, &proposal)? {
            Decision::Sign(request) => proposal.signature = self.sign(request)?,
            Decision::Reuse { timestamp, signature } => {
                (proposal.timestamp, proposal.signature) = (timestamp, signature);
            }
        }
        Ok(proposal)
    }

    fn sign(&mut self, request: SignRequest) -> Result<Vec<u8>, GuardFileError> {
        let signature = self.signer.sign(&self.context, request.sign_bytes())?.to_vec();
        self.last = request.signed(signature.clone());
        self.poisoned = true;
        self.store()?;
        self.poisoned = false;
        Ok(signature)
    }

    /// Makes the record durable.
    fn store(&self) -> Result<(), GuardFileError> {
        let text = render(&self.last, &self.public);
        let dir = match self.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let new = self.path.with_extension("json.new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(MODE);
        self.point(0, "create")?;
        let mut file = options.open(&new).map_err(self.io("create new"))?;
        // A file left over by a crash keeps its mode.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(MODE)).map_err(self.io("restrict"))?;
        let (first, second) = text.split_at(text.len() / 2);
        file.write_all(first).map_err(self.io("write"))?;
        self.point(1, "write")?;
        file.write_all(second).map_err(self.io("write"))?;
        self.point(2, "sync")?;
        file.sync_all().map_err(self.io("sync"))?;
        self.point(3, "rename")?;
        fs::rename(&new, &self.path).map_err(self.io("replace"))?;
        self.point(4, "sync the folder of")?;
        fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(self.io("sync the folder of"))?;
        self.point(5, "release")
    }

    #[cfg(test)]
    fn point(&self, point: usize, action: &'static str) -> Result<(), GuardFileError> {
        if self.fail_at == Some(point) { Err(self.io(action)(std::io::Error::other("crash"))) } else { Ok(()) }
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "a test makes it fail")]
    fn point(&self, _: usize, _: &'static str) -> Result<(), GuardFileError> {
        Ok(())
    }
}

fn render(last: &LastSigned, public: &[u8; 32]) -> Vec<u8> {
    let mut object = Map::new();
    object.insert("height".into(), json!(last.height));
    object.insert("round".into(), json!(last.round));
    object.insert("step".into(), json!(last.step));
    if !last.signature.is_empty() {
        object.insert("signature".into(), json!(STANDARD.encode(&last.signature)));
    }
    if !last.sign_bytes.is_empty() {
        object.insert("signbytes".into(), json!(hex::encode_upper(&last.sign_bytes)));
    }
    object.insert("public_key".into(), json!(STANDARD.encode(public)));
    Value::Object(object).to_string().into_bytes()
}

fn parse(text: &[u8]) -> Result<(LastSigned, [u8; 32]), String> {
    let value: Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let object = value.as_object().ok_or("not an object")?;
    let number = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value.as_i64().ok_or(format!("{name} is not a number")),
    };
    let string = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(value) => value.as_str().ok_or(format!("{name} is not a string")),
    };
    let base64 = |name: &str| STANDARD.decode(string(name)?).map_err(|e| format!("{name}: {e}"));
    let last = LastSigned {
        height: number("height")?,
        round: number("round")?.try_into().map_err(|_| "round is out of range")?,
        step: number("step")?.try_into().map_err(|_| "step is out of range")?,
        signature: base64("signature")?,
        sign_bytes: hex::decode(string("signbytes")?).map_err(|e| format!("signbytes: {e}"))?,
    };
    if last.height < 0 || last.round < 0 || !(0..=3).contains(&last.step) {
        return Err("height, round or step is out of range".to_owned());
    }
    let public = base64("public_key")?.try_into().map_err(|_| "public_key is not 32 bytes")?;
    Ok((last, public))
}
