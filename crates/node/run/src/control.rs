//! What `control` commands see and do of this node.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use apps_governance::upgrade::Upgrades;
use base_codec::Bytes;
use base_crypto::blacklist::test_key;
use base_grpc::RpcError;
use base_identity::Identity;
use base_prims::Epoch;
use comet_engine::{EngineHandle, EngineStatus};
use node_config::Config;
use node_paratime::ParaTimes;
use node_rpc::status::{
    DebugStatus, IdentityStatus, LightClientStatus, P2pStatus, RegistrationStatus, SeedStatus, SignerStatus, Status,
};
use node_rpc::types::Timestamp;
use node_rpc::{BoxFuture, Control, NotImplemented};
use node_workers::registration::Registration;
use node_workers::{Submission, SubmissionError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wire_cometbft::Time;
use wire_consensus::beacon::METHOD_SET_EPOCH;
use wire_consensus::upgrade::Descriptor;

use crate::start::Options;
use crate::store::CommonStore;

/// What every kind of node has.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) config: Arc<Config>,
    pub(crate) options: Options,
    pub(crate) identity: Arc<Identity>,
    pub(crate) stop: CancellationToken,
}

impl Common {
    /// The part of the status that every kind of node has.
    pub(crate) fn status(&self) -> Status {
        let debug = self.options.dont_blame_oasis;
        Status {
            software_version: self.options.version.clone(),
            mode: self.config.mode.name().to_owned(),
            debug: debug.then(|| DebugStatus { enabled: true, allow_root: self.config.common.debug.allow_root }),
            identity: IdentityStatus {
                node: self.identity.node.public().into(),
                consensus: self.identity.consensus.public().into(),
                tls: self.identity.tls.public().into(),
            },
            ..Status::default()
        }
    }
}

/// Tells how a light client is.
pub(crate) type LightStatus = Box<dyn Fn() -> LightClientStatus + Send + Sync>;

/// A node with the consensus layer.
pub(crate) struct FullControl {
    pub(crate) common: Common,
    /// What takes part in the network, if it does.
    pub(crate) engine: Option<EngineHandle>,
    /// None on an archive.
    pub(crate) p2p: Option<p2p_net::Node>,
    /// A light client that the node lives on, as its status.
    pub(crate) light: Option<LightStatus>,
    pub(crate) registration: Registration,
    pub(crate) upgrades: Upgrades,
    pub(crate) store: CommonStore,
    pub(crate) synced: watch::Receiver<bool>,
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) submission: Arc<Submission>,
    pub(crate) paratimes: Option<Arc<ParaTimes>>,
}

/// The signer that is none but key files.
const FILE: &str = "file";
/// Name of the key that moves epochs in test networks. Source: `go/beacon/tests`.
const EPOCH_KEY: &str = "oasis-core epochtime mock key seed";

fn seconds(time: Option<SystemTime>) -> Timestamp {
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let seconds = since.and_then(|since| i64::try_from(since.as_secs()).ok());
    seconds.and_then(|seconds| Time::new(seconds, 0).ok()).map(Timestamp).unwrap_or_default()
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl FullControl {
    fn p2p_status(&self) -> Option<P2pStatus> {
        let status = self.p2p.as_ref()?.status();
        let counts = |map: std::collections::BTreeMap<String, usize>| {
            map.into_iter().map(|(name, n)| (name, count(n))).collect()
        };
        Some(P2pStatus {
            pub_key: self.common.identity.p2p.public().into(),
            peer_id: Bytes(status.peer_id.to_bytes()),
            addresses: Some(status.addresses),
            num_peers: count(status.num_peers),
            num_connections: count(status.num_connections),
            protocols: counts(status.protocols),
            topics: counts(status.topics),
        })
    }

    fn registration_status(&self) -> RegistrationStatus {
        let status = self.registration.status().unwrap_or_default();
        RegistrationStatus {
            last_attempt_successful: status.last_attempt_successful,
            last_attempt_error_message: status.last_attempt_error_message.unwrap_or_default(),
            last_attempt: seconds(status.last_attempt),
            last_registration: seconds(status.last_registration),
            descriptor: status.descriptor,
            node_status: status.node_status,
        }
    }

    /// Tells of a signer that is elsewhere, and of any that fails.
    fn signer_status(&self, engine: Option<&EngineStatus>) -> Option<SignerStatus> {
        let unsigned = engine.and_then(|engine| engine.unsigned.as_ref());
        let backend = match self.common.options.signer.backend.as_str() {
            "" => FILE,
            backend => backend,
        };
        (backend != FILE || unsigned.is_some()).then(|| SignerStatus {
            backend: backend.to_owned(),
            working: unsigned.is_none(),
            failed_height: unsigned.map(|unsigned| unsigned.height).unwrap_or_default(),
            error_message: unsigned.map(|unsigned| unsigned.reason.clone()).unwrap_or_default(),
        })
    }

    /// Applies a change of the pending upgrades and keeps it on disk.
    fn change_upgrades(&self, change: impl FnOnce(&Upgrades) -> apps_core::Result<()>) -> Result<(), RpcError> {
        change(&self.upgrades).map_err(|error| {
            let (module, code) = error.code();
            RpcError::service(module, code, error.to_string())
        })?;
        let saved = self.store.save_upgrades(&self.upgrades.pending());
        saved.map_err(|error| RpcError::unknown(format!("failed to persist pending upgrades: {error}")))
    }
}

impl Control for FullControl {
    fn status(&self) -> Status {
        let engine = self.engine.as_ref().map(EngineHandle::status);
        Status {
            signer: self.signer_status(engine.as_ref()),
            waits_for: engine.map(|engine| engine.waits_for).unwrap_or_default(),
            light_client: Some(self.light.as_ref().map(|light| light()).unwrap_or_default()),
            registration: Some(self.registration_status()),
            pending_upgrades: self.upgrades.pending(),
            p2p: self.p2p_status(),
            runtimes: self.paratimes.as_ref().map(|all| all.statuses()).unwrap_or_default(),
            keymanager: self.paratimes.as_ref().and_then(|all| all.key_manager_status()).unwrap_or_default(),
            ..self.common.status()
        }
    }

    fn request_shutdown(&self, wait: bool) -> BoxFuture<'_, Result<(), RpcError>> {
        Box::pin(async move {
            self.registration.request_deregistration().map_err(RpcError::unknown)?;
            if wait {
                self.common.stop.cancelled().await;
            }
            Ok(())
        })
    }

    fn synced(&self) -> Option<watch::Receiver<bool>> {
        Some(self.synced.clone())
    }

    fn ready(&self) -> Option<watch::Receiver<bool>> {
        Some(self.ready.clone())
    }

    fn is_debug(&self) -> bool {
        self.common.options.dont_blame_oasis
    }

    fn set_epoch(&self, epoch: Epoch) -> BoxFuture<'_, Result<(), RpcError>> {
        Box::pin(async move {
            let key = test_key(EPOCH_KEY);
            let submitted = self.submission.submit(&key, METHOD_SET_EPOCH, &epoch).await;
            submitted.map(|_| ()).map_err(|error| match error {
                SubmissionError::Failed { module, code, message } => {
                    RpcError::service(&module, code, format!("set epoch failed: {message}"))
                }
                error => RpcError::unknown(format!("set epoch failed: {error}")),
            })
        })
    }

    fn add_bundle(&self, path: String) -> BoxFuture<'_, Result<(), RpcError>> {
        let hosting = self.paratimes.as_ref().map(|all| Arc::clone(all.hosting()));
        Box::pin(async move {
            let hosting = hosting.ok_or(NotImplemented)?;
            let adding = tokio::task::spawn_blocking(move || hosting.add_bundle(Path::new(&path)));
            let added = adding.await.map_err(|error| RpcError::unknown(error.to_string()))?;
            added.map_err(|error| RpcError::unknown(error.to_string()))
        })
    }

    fn upgrade_binary(&self, descriptor: Descriptor) -> Result<(), RpcError> {
        self.change_upgrades(|upgrades| upgrades.submit(&descriptor))
    }

    fn cancel_upgrade(&self, descriptor: Descriptor) -> Result<(), RpcError> {
        self.change_upgrades(|upgrades| upgrades.cancel(&descriptor))
    }
}

/// A seed.
pub(crate) struct SeedControl {
    pub(crate) common: Common,
    pub(crate) chain_context: String,
    pub(crate) addresses: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    pub(crate) peers: Box<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl Control for SeedControl {
    fn status(&self) -> Status {
        let seed = SeedStatus {
            chain_context: self.chain_context.clone(),
            addresses: Some((self.addresses)()),
            node_peers: Some((self.peers)()),
        };
        // Seeds have no unsafe options.
        Status { seed: Some(seed), debug: None, ..self.common.status() }
    }

    fn request_shutdown(&self, _wait: bool) -> BoxFuture<'_, Result<(), RpcError>> {
        self.common.stop.cancel();
        Box::pin(async { Ok(()) })
    }
}
