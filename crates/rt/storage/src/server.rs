//! Answering peers: differences, checkpoints and proofs. Source: the servers of `go/worker/storage/p2p`.

use base_codec::cbor::{self, Decode, Encode};
use base_codec::{Bytes, Raw};
use mkvs_db::DbError;
use mkvs_db::checkpoint::{CheckpointError, Files, VERSION};
use mkvs_tree::sync::{ReadSyncer, Server as ProofServer, TreeId};
use mkvs_tree::{Proof, Tree};
use wire_consensus::errors::checkpoint as codes;

use crate::error::StorageError;
use crate::messages::*;
use crate::storage::Storage;

/// Most bytes of an answer, with room left in the frame for what is around it.
pub const MAX_ANSWER: usize = (64 << 20) - 1024;
/// Most bytes of a proof.
pub const MAX_PROOF: usize = 8 << 20;
/// Most pairs that a proof of a range or of prefixes has.
pub const MAX_PREFETCH: u16 = 10_000;
/// Most prefixes of a request.
const MAX_PREFIXES: usize = 1024;

/// Module of the node database's errors.
const DB_MODULE: &str = "storage/mkvs/db";

/// An error as it goes to the peer; what it is made of is that of `p2p_net::rpc::RpcError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (module {module:?}, code {code})")]
pub struct ServeError {
    /// The module that defines the code; `unknown` if none does.
    pub module: &'static str,
    /// The code within the module.
    pub code: u32,
    /// Text for people.
    pub message: String,
}

impl ServeError {
    fn new(module: &'static str, code: u32, message: impl Into<String>) -> Self {
        Self { module, code, message: message.into() }
    }

    fn unknown(message: impl Into<String>) -> Self {
        Self::new("unknown", 1, message)
    }

    /// The argument is malformed or asks for too much.
    fn bad_request() -> Self {
        Self::new("p2p/rpc", 2, "rpc: bad request")
    }

    fn unsupported() -> Self {
        Self::new("p2p/rpc", 1, "rpc: method not supported")
    }
}

impl From<StorageError> for ServeError {
    fn from(e: StorageError) -> Self {
        let db = |code, text: &str| Self::new(DB_MODULE, code, text);
        match e {
            StorageError::Db(DbError::WriteLogNotFound { .. }) => db(2, "mkvs: write log not found in node db"),
            StorageError::Db(DbError::VersionNotFound(_)) => db(5, "mkvs: version not found"),
            StorageError::Db(DbError::RootNotFound(_)) => db(8, "mkvs: root not found"),
            StorageError::Db(DbError::MustFollow { .. }) => db(9, "mkvs: root must follow old root"),
            StorageError::Db(DbError::OtherNamespace { .. }) => db(10, "mkvs: bad namespace"),
            StorageError::Checkpoint(CheckpointError::NotFound(_)) => coded(&codes::NOT_FOUND),
            StorageError::Checkpoint(CheckpointError::ChunkNotFound(_)) => coded(&codes::CHUNK_NOT_FOUND),
            // What went wrong inside is nobody else's business.
            _ => Self::unknown("storage failed"),
        }
    }
}

fn coded(code: &'static wire_consensus::errors::ErrorCode) -> ServeError {
    ServeError::new(code.module, code.code, code.message)
}

fn decode<T: Decode>(body: &Raw) -> Result<T, ServeError> {
    cbor::from_slice(body).map_err(|_| ServeError::bad_request())
}

fn encode<T: Encode>(value: &T) -> Result<Raw, ServeError> {
    let bytes = cbor::to_vec(value);
    if bytes.len() > MAX_ANSWER {
        return Err(ServeError::unknown("answer is too large"));
    }
    Ok(Raw(bytes))
}

/// Answers requests. Calls block on the disk.
#[derive(Clone, Debug)]
pub struct Server {
    storage: Storage,
    /// Checkpoints that are offered.
    files: Option<Files>,
}

impl Server {
    /// Serves a storage, and the checkpoints in a folder if they are to be offered.
    pub fn new(storage: Storage, files: Option<Files>) -> Self {
        Self { storage, files }
    }

    /// Answers a method of `diffsync`.
    ///
    /// # Errors
    /// As the peer gets it.
    pub fn diff_sync(&self, method: &str, body: &Raw) -> Result<Raw, ServeError> {
        match method {
            GET_DIFF => self.get_diff(&decode(body)?),
            _ => Err(ServeError::unsupported()),
        }
    }

    /// Answers a method of `checkpointsync`.
    ///
    /// # Errors
    /// As the peer gets it.
    pub fn checkpoint_sync(&self, method: &str, body: &Raw) -> Result<Raw, ServeError> {
        match method {
            GET_CHECKPOINTS => self.get_checkpoints(&decode(body)?),
            GET_CHECKPOINT_CHUNK => self.get_chunk(&decode(body)?),
            _ => Err(ServeError::unsupported()),
        }
    }

    /// Answers a method of the old protocol `storagesync`.
    ///
    /// # Errors
    /// As the peer gets it.
    pub fn storage_sync(&self, method: &str, body: &Raw) -> Result<Raw, ServeError> {
        match method {
            GET_DIFF => self.diff_sync(method, body),
            _ => self.checkpoint_sync(method, body),
        }
    }

    /// Answers a method of `storagepub`.
    ///
    /// # Errors
    /// As the peer gets it.
    pub fn storage_pub(&self, method: &str, body: &Raw) -> Result<Raw, ServeError> {
        match method {
            GET => encode(&self.get(&decode(body)?)?),
            GET_PREFIXES => encode(&self.get_prefixes(&decode(body)?)?),
            ITERATE => encode(&self.iterate(&decode(body)?)?),
            _ => Err(ServeError::unsupported()),
        }
    }

    /// Proves a value, or that there is none.
    ///
    /// # Errors
    /// As the peer gets it.
    pub fn get(&self, request: &GetRequest) -> Result<ProofResponse, ServeError> {
        self.prove(&request.tree, |syncer| syncer.get(request))
    }

    /// Proves what lies under prefixes.
    ///
    /// # Errors
    /// As the peer gets it.
    pub fn get_prefixes(&self, request: &GetPrefixesRequest) -> Result<ProofResponse, ServeError> {
        if request.prefixes.len() > MAX_PREFIXES || request.limit > MAX_PREFETCH {
            return Err(ServeError::bad_request());
        }
        self.prove(&request.tree, |syncer| syncer.get_prefixes(request))
    }

    /// Proves pairs in order.
    ///
    /// # Errors
    /// As the peer gets it.
    pub fn iterate(&self, request: &IterateRequest) -> Result<ProofResponse, ServeError> {
        if request.prefetch > MAX_PREFETCH {
            return Err(ServeError::bad_request());
        }
        self.prove(&request.tree, |syncer| syncer.iterate(request))
    }

    fn get_diff(&self, request: &GetDiffRequest) -> Result<Raw, ServeError> {
        let write_log = self.storage.diff(&request.start_root, &request.end_root)?;
        encode(&GetDiffResponse { write_log })
    }

    fn files(&self) -> Result<&Files, ServeError> {
        self.files.as_ref().ok_or_else(|| coded(&codes::NOT_FOUND))
    }

    fn get_checkpoints(&self, request: &GetCheckpointsRequest) -> Result<Raw, ServeError> {
        let checkpoints = match (request.version, &self.files) {
            (VERSION, Some(files)) => files.list(None).map_err(StorageError::from)?,
            _ => Vec::new(),
        };
        encode(&GetCheckpointsResponse { checkpoints })
    }

    fn get_chunk(&self, request: &ChunkMetadata) -> Result<Raw, ServeError> {
        let files = self.files()?;
        if request.root.namespace != self.storage.db().namespace() {
            return Err(coded(&codes::CHUNK_NOT_FOUND));
        }
        let chunk = files.chunk(request).map_err(StorageError::from)?;
        encode(&GetChunkResponse { chunk: Bytes(chunk) })
    }

    fn prove(
        &self,
        tree: &TreeId,
        ask: impl FnOnce(&ProofServer<'_>) -> Result<Proof, String>,
    ) -> Result<ProofResponse, ServeError> {
        let at: Tree = self.storage.db().read(&tree.root).map_err(StorageError::from)?;
        let proof = ask(&ProofServer::new(&at, tree.root, MAX_PROOF)).map_err(ServeError::unknown)?;
        Ok(ProofResponse { proof })
    }
}

#[cfg(test)]
mod tests;
