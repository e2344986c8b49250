//! What the parts of the worker share.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use apps_keymanager::common;
use base_codec::cbor::{Decode, Encode};
use base_codec::{Raw, cbor};
use base_crypto::blacklist::Blacklist;
use base_crypto::ed25519::SecretKey;
use base_prims::{Namespace, PublicKey, Version};
use node_workers::backoff::Chance;
use node_workers::{Blocks, ChainError, Submission, SubmissionError};
use p2p_net::PeerId;
use parking_lot::Mutex;
use rt_host::{HostError, RuntimeHost, calls};
use tokio::sync::watch;
use wire_consensus::Invalid;
use wire_consensus::node::{TeeHardware, X25519PublicKey};

use crate::access::{Denied, Rules};
use crate::snapshot::Snapshot;
use crate::status::{SecretsStatus, WorkerState};
use wire_runtime::enclave_rpc::Kind;

/// Why something about the enclave failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    /// The call.
    #[error(transparent)]
    Host(#[from] HostError),
    /// What it answered.
    #[error("malformed answer of the enclave: {0}")]
    Malformed(#[from] cbor::Error),
    /// What it signed.
    #[error("failed to validate what the enclave made: {0}")]
    Invalid(#[from] Invalid),
    /// The enclave's key.
    #[error("{0}")]
    Key(&'static str),
    /// The consensus layer.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The transaction.
    #[error(transparent)]
    Submission(#[from] SubmissionError),
    /// Nodes have not delivered enough.
    #[error("failed to complete")]
    Incomplete,
}

/// Shared by all parts.
pub(crate) struct Shared {
    pub(crate) runtime: Namespace,
    /// The runtime, as a label of metrics.
    pub(crate) label: String,
    pub(crate) node_id: PublicKey,
    pub(crate) node_key: SecretKey,
    pub(crate) chain: Arc<dyn Blocks>,
    pub(crate) submission: Arc<Submission>,
    pub(crate) host: Arc<dyn RuntimeHost>,
    pub(crate) blacklist: Blacklist,
    pub(crate) private: HashSet<PeerId>,
    pub(crate) snapshot: Arc<watch::Sender<Arc<Snapshot>>>,
    pub(crate) secrets: Mutex<SecretsStatus>,
    pub(crate) chance: Mutex<Chance>,
}

impl Shared {
    /// The newest state.
    pub(crate) fn seen(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// A number by chance.
    pub(crate) fn draw(&self) -> u64 {
        self.chance.lock().draw()
    }

    /// Whether a peer may call a method.
    pub(crate) fn authorize(&self, method: &str, kind: Kind, peer: &PeerId) -> Result<(), Denied> {
        let seen = self.seen();
        let ready = self.secrets.lock().worker.status == WorkerState::READY;
        let rules = Rules {
            key_manager: self.runtime,
            descriptor: seen.descriptor.as_deref(),
            access: &seen.access,
            private: &self.private,
            status: seen.status.as_deref().filter(|_| ready),
            churp: seen.churp.values().map(|status| &**status).collect(),
        };
        rules.authorize(method, kind, peer)
    }

    /// The version that runs.
    pub(crate) fn version(&self) -> Option<Version> {
        self.host.info().map(|info| info.runtime_version)
    }

    /// Calls a method that only the node may call.
    pub(crate) async fn local<T: Decode>(&self, method: &str, args: &impl Encode) -> Result<T, TaskError> {
        let answer = calls::local_rpc(&*self.host, method, Raw(cbor::to_vec(args))).await?;
        Ok(cbor::from_slice(&answer.0)?)
    }

    /// The key with which the enclave signs.
    pub(crate) fn attestation_key(&self) -> Result<PublicKey, TaskError> {
        let seen = self.seen();
        let descriptor = seen.descriptor.as_ref().ok_or(TaskError::Key("runtime is not registered"))?;
        match descriptor.tee_hardware {
            TeeHardware::INVALID => Ok(*common::INSECURE_RAK),
            TeeHardware::INTEL_SGX => {
                let tee = self.host.capability_tee();
                tee.map(|tee| tee.rak).ok_or(TaskError::Key("runtime is not running inside a TEE"))
            }
            _ => Err(TaskError::Key("TEE hardware mismatch")),
        }
    }

    /// The keys to which secrets for these nodes' enclaves are encrypted.
    pub(crate) fn encryption_keys(&self, nodes: &[PublicKey]) -> Result<BTreeSet<X25519PublicKey>, TaskError> {
        let seen = self.seen();
        let descriptor = seen.descriptor.as_ref().ok_or(TaskError::Key("runtime is not registered"))?;
        let state = self.chain.state(0)?;
        let mut found = Vec::new();
        for id in nodes {
            found.extend(apps_committees::registry::state::node(&*state, id).map_err(ChainError::from)?);
        }
        Ok(common::encryption_keys(&found, descriptor))
    }
}
