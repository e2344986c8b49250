//! The honest part: a node of the consensus layer and of the peer-to-peer network, which registers by itself.

use std::sync::Arc;

use base_crypto::blacklist::test_key;
use base_crypto::ed25519::SecretKey;
use base_prims::{Epoch, PublicKey};
use mkvs_tree::KvRead;
use node_config::Mode;
use node_run::{LocalChain, Node};
use node_workers::{Chain as _, Submission};
use tokio_util::sync::CancellationToken;
use wire_consensus::node::{LATEST_VERSION, Node as Descriptor, REGISTER_CONTEXT, Roles};
use wire_consensus::registry::METHOD_REGISTER_NODE;
use wire_consensus::signed::MultiSigned;

use crate::{Behaviour, Launch, MODULE};

/// Epoch until which the node is registered: longer than any test.
const EXPIRATION: Epoch = 1000;
/// Name of the test entity's key. Source: `go/common/entity`.
const TEST_ENTITY: &str = "ekiden test entity key seed";

/// Why the node could not play its part.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// Unsafe options are not allowed.
    #[error("needs --debug.dont_blame_oasis: such a node harms a network")]
    NotAllowed,
    /// The honest part cannot start.
    #[error("error initializing node: {0}")]
    Start(String),
    /// The entity is not configured.
    #[error("error initializing node: registration.entity_id is needed: {0}")]
    Entity(String),
    /// The consensus layer does not say what it should.
    #[error("consensus layer: {0}")]
    Chain(String),
    /// A transaction failed.
    #[error("{what}: {reason}")]
    Submit {
        /// Which.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The node is not where the scenario wants it.
    #[error("{0}")]
    Scenario(String),
    /// State or batch cannot be computed.
    #[error("{0}")]
    Compute(String),
    /// The network of peers.
    #[error("peer-to-peer: {0}")]
    P2p(#[from] p2p_net::api::P2pError),
}

/// Turns errors of the consensus layer into [`ActError::Chain`].
pub(crate) fn chain_error(error: impl std::fmt::Display) -> ActError {
    ActError::Chain(error.to_string())
}

/// The running node, and what it needs of its keys.
pub(crate) struct Actor {
    pub(crate) chain: Arc<LocalChain>,
    pub(crate) submission: Submission,
    /// Keys: node, peer-to-peer, consensus, VRF, TLS.
    pub(crate) keys: [SecretKey; 5],
    pub(crate) entity: PublicKey,
    pub(crate) p2p: p2p_net::Node,
    /// Where consensus peers reach the node.
    pub(crate) external_address: String,
    pub(crate) stop: CancellationToken,
}

impl Actor {
    /// Starts the honest part.
    pub(crate) async fn start(behaviour: &Behaviour, launch: Launch) -> Result<(Node, Self), ActError> {
        let Launch { mut config, options, test_entity } = launch;
        let entity = if test_entity {
            PublicKey::from(test_key(TEST_ENTITY).public())
        } else {
            let parsed: Result<PublicKey, _> = config.registration.entity_id.parse();
            parsed.map_err(|error| ActError::Entity(error.to_string()))?
        };
        config.genesis.file = behaviour.genesis.display().to_string();
        // The node registers by itself and hosts nothing, in its own way.
        config.registration.entity_id.clear();
        config.registration.entity.clear();
        if matches!(config.mode, Mode::Compute | Mode::Observer | Mode::KeyManager) {
            config.mode = Mode::Client;
        }
        config.runtime = node_config::Config::default().runtime;
        let external_address = config.consensus.external_address.clone();
        let stop = base_service::signals::stop_token().map_err(|error| ActError::Start(error.to_string()))?;
        let node = Box::pin(Node::start(config, options, stop.clone())).await;
        let node = node.map_err(|error| ActError::Start(error.to_string()))?;
        let chain = node.chain().ok_or_else(|| ActError::Start("no consensus layer in this mode".to_owned()))?.clone();
        let identity = node.identity();
        let keys = [
            identity.node.clone(),
            identity.p2p.clone(),
            identity.consensus.clone(),
            identity.vrf.clone(),
            identity.tls.key().clone(),
        ];
        let submission = Submission::new(chain.clone(), 0, 0);
        let p2p = node.p2p().cloned().ok_or_else(|| ActError::Start("no network in this mode".to_owned()))?;
        Ok((node, Self { chain, submission, keys, entity, p2p, external_address, stop }))
    }

    /// The key of the node.
    pub(crate) fn key(&self) -> &SecretKey {
        &self.keys[0]
    }

    /// The node.
    pub(crate) fn id(&self) -> PublicKey {
        self.key().public().into()
    }

    /// A descriptor with everything that does not depend on the role.
    pub(crate) fn descriptor(&self, roles: Roles) -> Descriptor {
        let [id, p2p, consensus, vrf, tls] = [0, 1, 2, 3, 4].map(|at: usize| PublicKey::from(self.keys[at].public()));
        let mut descriptor = Descriptor {
            v: LATEST_VERSION,
            id,
            entity_id: self.entity,
            expiration: EXPIRATION,
            roles,
            ..Descriptor::default()
        };
        descriptor.tls.pub_key = tls;
        descriptor.p2p.id = p2p;
        descriptor.p2p.addresses = Some(self.p2p.addresses());
        descriptor.consensus.id = consensus;
        descriptor.vrf.id = vrf;
        descriptor
    }

    /// The newest state.
    pub(crate) fn state(&self) -> Result<Box<dyn KvRead + Send>, ActError> {
        self.chain.state(0).map_err(chain_error)
    }

    /// Waits until `look` finds something in the newest state.
    pub(crate) async fn wait<T>(
        &self,
        mut look: impl FnMut(&dyn KvRead) -> Result<Option<T>, ActError>,
    ) -> Result<T, ActError> {
        let mut heights = self.chain.heights();
        loop {
            heights.borrow_and_update();
            // Before the first block there is no state.
            if self.chain.latest_height() > 0
                && let Some(found) = look(&*self.state()?)?
            {
                return Ok(found);
            }
            heights.changed().await.map_err(chain_error)?;
        }
    }

    /// Waits until the node has caught up and an epoch has come.
    pub(crate) async fn wait_epoch(&self, wanted: Epoch) -> Result<(), ActError> {
        let mut synced = self.chain.synced();
        synced.wait_for(|synced| *synced).await.map_err(chain_error)?;
        self.wait(|state| {
            let (epoch, _) = apps_committees::beacon::state::epoch(state).map_err(chain_error)?;
            Ok((epoch >= wanted).then_some(()))
        })
        .await
    }

    /// Registers the node.
    pub(crate) async fn register(&self, descriptor: &Descriptor) -> Result<(), ActError> {
        let what = "node registration";
        let keys: Vec<&SecretKey> = self.keys.iter().collect();
        let signed = MultiSigned::sign(&keys, REGISTER_CONTEXT, None, descriptor);
        let signed = signed.map_err(|error| ActError::Submit { what, reason: error.to_string() })?;
        let sent = self.submission.submit(self.key(), METHOD_REGISTER_NODE, &signed).await;
        sent.map_err(|error| ActError::Submit { what, reason: error.to_string() })?;
        tracing::info!(module = MODULE, entity_id = %self.entity, node_id = %descriptor.id, "node registered");
        Ok(())
    }
}

/// Runs a node until its part is over, then ends it. What `acting` says is what counts.
pub(crate) async fn play(
    node: Node,
    stop: CancellationToken,
    acting: impl Future<Output = Result<(), ActError>>,
) -> Result<(), ActError> {
    let running = node.run();
    tokio::pin!(running);
    let done = tokio::select! {
        done = acting => done,
        // Ends when the test does.
        _ = &mut running => return Ok(()),
    };
    stop.cancel();
    running.await;
    done
}
