//! The worker of a key manager's node. Source: `go/worker/keymanager/{worker,init,status}.go`.

use std::collections::HashSet;
use std::sync::Arc;

use base_codec::Bytes;
use base_crypto::blacklist::Blacklist;
use base_crypto::ed25519::SecretKey;
use base_metrics::table;
use base_prims::{Namespace, PublicKey};
use node_config::Config;
use node_workers::backoff::{Chance, seed_of};
use node_workers::registration::{Contribution, Slot};
use node_workers::runtime::RuntimeView;
use node_workers::{Blocks, Submission};
use p2p_net::api::P2p;
use p2p_net::rpc::Service;
use p2p_net::{PeerId, ids};
use parking_lot::Mutex;
use rt_host::RuntimeHost;
use rt_host::api::HostEvent;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::KeyManagerError;
use crate::access::peer_id;
use crate::churp::Churp;
use crate::secrets::Secrets;
use crate::serve::EnclaveCalls;
use crate::shared::Shared;
use crate::snapshot::{self, Snapshot};
use crate::status::{
    ChurpSchemeStatus, ChurpStatus, RuntimeAccessList, SecretsStatus, SecretsWorkerStatus, WorkerState, WorkerStatus,
};

const MODULE: &str = "worker/keymanager";

/// What a worker is made of.
pub struct Setup {
    /// The key manager.
    pub runtime: Namespace,
    /// The configuration.
    pub config: Arc<Config>,
    /// The consensus layer.
    pub chain: Arc<dyn Blocks>,
    /// Its context, hexadecimal.
    pub chain_context: String,
    /// Takes the worker's transactions.
    pub submission: Arc<Submission>,
    /// The network, where the enclave is offered.
    pub p2p: Arc<dyn P2p>,
    /// Signs the worker's transactions.
    pub node_key: SecretKey,
    /// The node's key on the network.
    pub p2p_key: PublicKey,
    /// The enclave. Whoever hosts it starts and stops it.
    pub host: Arc<dyn RuntimeHost>,
    /// The key manager's descriptor, at every block.
    pub view: watch::Receiver<RuntimeView>,
    /// Whether the enclave is said to run.
    pub ready: watch::Receiver<bool>,
    /// The enclave's version and capability in the node's descriptor.
    pub contribution: Contribution,
    /// Gives slots for the role of a key manager; two are taken.
    pub slots: Box<dyn Fn() -> Slot + Send + Sync>,
    /// Whether keys of insecure key managers are accepted; for tests and development only.
    pub allow_test_keys: bool,
}

/// Runs a key manager's node.
pub struct Worker {
    shared: Arc<Shared>,
    schemes: Vec<u8>,
    view: watch::Receiver<RuntimeView>,
    ready: watch::Receiver<bool>,
    contribution: Contribution,
    host_slot: Slot,
    secrets: Secrets,
    state: Mutex<WorkerState>,
    peers: watch::Sender<Vec<PeerId>>,
}

fn private_peers(keys: &[String]) -> Result<HashSet<PeerId>, KeyManagerError> {
    let parse = |text: &String| {
        let key: PublicKey = text.parse().map_err(|_| KeyManagerError::PrivatePeer(text.clone()))?;
        Ok(peer_id(&key))
    };
    keys.iter().map(parse).collect()
}

impl Worker {
    /// A worker that offers the enclave on the network already, though to nobody before [`Worker::run`].
    ///
    /// # Errors
    /// If the configuration is wrong or the protocol is served already.
    pub fn new(setup: Setup) -> Result<Arc<Self>, KeyManagerError> {
        let private = private_peers(&setup.config.keymanager.private_peer_pub_keys)?;
        let mut schemes: Vec<u8> = setup.config.keymanager.churp.schemes.iter().map(|scheme| scheme.id).collect();
        schemes.sort_unstable();
        schemes.dedup();
        let worker_status = SecretsWorkerStatus {
            status: WorkerState::STOPPED,
            private_peers: private.iter().map(|peer| Bytes(peer.to_bytes())).collect(),
            ..SecretsWorkerStatus::default()
        };
        let mut seed = [0; 8];
        if getrandom::fill(&mut seed).is_err() {
            seed = seed_of(&setup.node_key.public()).to_be_bytes();
        }
        let blacklist = if setup.allow_test_keys { Blacklist::allowing_test_keys() } else { Blacklist::production() };
        let shared = Arc::new(Shared {
            runtime: setup.runtime,
            label: setup.runtime.to_string(),
            node_id: setup.node_key.public().into(),
            node_key: setup.node_key,
            chain: setup.chain,
            submission: setup.submission,
            host: setup.host,
            blacklist,
            private,
            snapshot: Arc::new(watch::Sender::new(Arc::new(Snapshot::default()))),
            secrets: Mutex::new(SecretsStatus { status: None, worker: worker_status }),
            chance: Mutex::new(Chance::new(u64::from_be_bytes(seed))),
        });
        let protocol = ids::KEY_MANAGER.of_runtime(&setup.chain_context, &setup.runtime);
        setup.p2p.serve(protocol, Service::shared(EnclaveCalls::new(Arc::clone(&shared))))?;
        let host_slot = (setup.slots)();
        let secrets = Secrets::new(Arc::clone(&shared), (setup.slots)());
        Ok(Arc::new(Self {
            shared,
            schemes,
            view: setup.view,
            ready: setup.ready,
            contribution: setup.contribution,
            host_slot,
            secrets,
            state: Mutex::new(WorkerState::STARTING),
            peers: watch::Sender::new(Vec::new()),
        }))
    }

    /// Peers of the key manager's other nodes: links to them matter more than others.
    pub fn peers(&self) -> watch::Receiver<Vec<PeerId>> {
        self.peers.subscribe()
    }

    /// Runs until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        tracing::info!(module = MODULE, runtime_id = %self.shared.runtime, "starting key manager worker");
        let mut synced = self.shared.chain.synced();
        tokio::select! {
            synced = synced.wait_for(|synced| *synced) => if synced.is_err() { return },
            () = stop.cancelled() => return,
        }
        // Seen before anything acts upon it.
        let following = snapshot::follow(
            Arc::clone(&self.shared.chain),
            self.shared.runtime,
            self.schemes.clone(),
            Arc::clone(&self.shared.snapshot),
            stop.clone(),
        );
        let churp = Churp::new(Arc::clone(&self.shared), self.schemes.clone());
        tokio::join!(
            following,
            self.watch_host(&stop),
            self.watch_access(&stop),
            self.secrets.run(&stop),
            churp.run(&stop),
        );
        *self.state.lock() = WorkerState::STOPPED;
        tracing::info!(module = MODULE, runtime_id = %self.shared.runtime, "key manager worker stopped");
    }

    /// Registers the enclave's version and capability while it runs.
    async fn watch_host(&self, stop: &CancellationToken) {
        let mut events = self.shared.host.events();
        let mut ready = self.ready.clone();
        let mut view = self.view.clone();
        let mut runs = self.shared.host.info().is_some();
        let mut available = false;
        let mut renew = true;
        loop {
            if runs && (renew || !available) {
                self.host_slot.set_available(Arc::clone(&self.contribution));
            } else if !runs && available {
                // It can serve nobody.
                self.host_slot.set_unavailable();
            }
            (available, renew) = (runs, false);
            tokio::select! {
                event = events.recv() => match event {
                    Ok(HostEvent::Started { .. } | HostEvent::Updated { .. }) => (runs, renew) = (true, true),
                    Ok(HostEvent::ConfigUpdated) => renew = true,
                    Ok(HostEvent::FailedToStart { .. } | HostEvent::Stopped) => runs = false,
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        (runs, renew) = (self.shared.host.info().is_some(), true);
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                Ok(()) = ready.changed() => {
                    ready.borrow_and_update();
                    runs = self.shared.host.info().is_some();
                }
                Ok(()) = view.changed(), if !runs => {
                    // An event may have been missed before this began.
                    view.borrow_and_update();
                    runs = self.shared.host.info().is_some();
                }
                () = stop.cancelled() => return,
            }
        }
    }

    /// Notices runtimes that begin to use the key manager, and its other nodes.
    async fn watch_access(&self, stop: &CancellationToken) {
        let mut seen = self.shared.snapshot.subscribe();
        let mut known: HashSet<Namespace> = HashSet::new();
        loop {
            let access = Arc::clone(&seen.borrow_and_update().access);
            for id in &access.clients {
                if known.insert(*id) {
                    tracing::info!(module = "worker/keymanager/watcher", runtime_id = %id,
                        "seen new runtime using us as a key manager");
                    table::WORKER_KEYMANAGER_COMPUTE_RUNTIME_COUNT.with(&[&self.shared.label]).inc();
                }
            }
            let peers = access.by_runtime.get(&self.shared.runtime).cloned().unwrap_or_default();
            self.peers.send_if_modified(|now| {
                let differs = *now != peers;
                *now = peers;
                differs
            });
            tokio::select! {
                changed = seen.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    }

    /// How it is.
    pub fn status(&self) -> WorkerStatus {
        let seen = self.shared.seen();
        let secrets = self.shared.secrets.lock().clone();
        let status = match *self.state.lock() {
            WorkerState::STARTING if secrets.worker.last_registration.is_some() => WorkerState::READY,
            other => other,
        };
        let list = |(id, peers): (&Namespace, &Vec<PeerId>)| RuntimeAccessList {
            runtime_id: *id,
            peers: peers.iter().map(|peer| Bytes(peer.to_bytes())).collect(),
        };
        let scheme = |id: &u8| {
            let status = seen.churp.get(id).map(|status| (**status).clone());
            (*id, ChurpSchemeStatus { status })
        };
        WorkerStatus {
            status,
            active_version: self.shared.version(),
            runtime_id: Some(self.shared.runtime),
            client_runtimes: seen.access.clients.clone(),
            access_list: seen.access.by_runtime.iter().map(list).collect(),
            secrets: Some(secrets),
            churp: ChurpStatus { schemes: self.schemes.iter().map(scheme).collect() },
        }
    }
}

#[cfg(test)]
mod tests;
