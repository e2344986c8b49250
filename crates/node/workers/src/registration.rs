//! Registration of the node: who contributes what to its descriptor, when it is sent, and how it ends.
//!
//! Reference: `go/worker/registration/worker.go`.

use std::sync::Arc;
use std::time::SystemTime;

use apps_core::submit::BoxFuture;
use base_crypto::ed25519::SecretKey;
use base_prims::{Epoch, PublicKey};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wire_consensus::node::{ConsensusAddress, NetAddress, Node, REGISTER_CONTEXT, Roles};
use wire_consensus::registry::{METHOD_REGISTER_NODE, NodeStatus};
use wire_consensus::signed::MultiSigned;

use crate::backoff::{Backoff, LONGEST, seed_of};
use crate::chain::{Chain, ChainError};
use crate::submission::{Submission, SubmissionError};

mod schedule;
#[cfg(test)]
mod tests;

pub use schedule::{Schedule, Seen};

/// Epochs that a registration lasts beyond the present one.
const EXPIRATION_EPOCHS: Epoch = 2;

/// Adds to the descriptor; an error puts the registration off.
pub type Contribution = Arc<dyn Fn(&mut Node) -> Result<(), String> + Send + Sync>;

/// A part of the node that contributes to its descriptor. While it has nothing to contribute, the node does not
/// register.
#[derive(Clone)]
pub struct Slot {
    shared: Arc<Shared>,
    index: usize,
}

struct SlotState {
    role: Roles,
    contribution: Option<Contribution>,
    /// Told once after the next registration that contains the contribution.
    registered: Option<tokio::sync::oneshot::Sender<()>>,
    version: u64,
}

struct Shared {
    slots: Mutex<Vec<SlotState>>,
    changed: Notify,
    status: Mutex<Status>,
    deregister: CancellationToken,
}

impl Slot {
    /// Contributes from now on.
    pub fn set_available(&self, contribution: Contribution) {
        self.set(Some(contribution), None);
    }

    /// Contributes from now on; what is returned becomes ready when a registration with it succeeded.
    pub fn set_available_and_watch(&self, contribution: Contribution) -> tokio::sync::oneshot::Receiver<()> {
        let (told, registered) = tokio::sync::oneshot::channel();
        self.set(Some(contribution), Some(told));
        registered
    }

    /// Has nothing to contribute for now: the node does not register until it has.
    pub fn set_unavailable(&self) {
        self.set(None, None);
    }

    /// Whether it contributes.
    pub fn is_available(&self) -> bool {
        self.shared.slots.lock()[self.index].contribution.is_some()
    }

    fn set(&self, contribution: Option<Contribution>, registered: Option<tokio::sync::oneshot::Sender<()>>) {
        let mut slots = self.shared.slots.lock();
        let slot = &mut slots[self.index];
        slot.contribution = contribution;
        slot.registered = registered;
        slot.version += 1;
        drop(slots);
        self.shared.changed.notify_one();
    }
}

/// How the registration stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// Whether the last attempt succeeded.
    pub last_attempt_successful: bool,
    /// Why it did not.
    pub last_attempt_error_message: Option<String>,
    /// When it was.
    pub last_attempt: Option<SystemTime>,
    /// When one succeeded last.
    pub last_registration: Option<SystemTime>,
    /// What was registered.
    pub descriptor: Option<Node>,
    /// How the registry sees the node.
    pub node_status: Option<NodeStatus>,
}

/// The keys that sign a descriptor.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The node's own.
    pub node: SecretKey,
    /// Of peer-to-peer links.
    pub p2p: SecretKey,
    /// Of votes.
    pub consensus: SecretKey,
    /// Of randomness.
    pub vrf: SecretKey,
    /// Of TLS.
    pub tls: SecretKey,
}

/// Where the node, or its sentries, can be reached.
pub trait Addresses: Send + Sync {
    /// For consensus peers; may ask sentries.
    fn consensus(&self) -> BoxFuture<'_, Result<Vec<ConsensusAddress>, String>>;
    /// For peers of the runtime layer.
    fn p2p(&self) -> Vec<NetAddress>;
}

/// Remembers across restarts that the operator wants the node to leave.
pub trait DeregisterFlag: Send + Sync {
    /// Whether it is set.
    fn get(&self) -> bool;
    /// Sets or clears it, durably.
    fn set(&self, value: bool) -> Result<(), String>;
}

/// What a registration needs.
pub struct Setup {
    /// Whose node it is; without an owner it never registers.
    pub entity: Option<PublicKey>,
    /// Keys.
    pub keys: Keys,
    /// Addresses.
    pub addresses: Arc<dyn Addresses>,
    /// Whether addresses that are not routable are registered (for tests).
    pub allow_unroutable: bool,
    /// Version of this software.
    pub software_version: String,
    /// The flag.
    pub flag: Arc<dyn DeregisterFlag>,
}

/// Registers the node and renews that.
#[derive(Clone)]
pub struct Registration {
    shared: Arc<Shared>,
    setup: Arc<Setup>,
    submission: Arc<Submission>,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error("hook failed: {0}")]
    Contribution(String),
    #[error("registration: no roles to register for")]
    NoRoles,
    #[error("registration: no runtimes provided while runtimes are required")]
    NoRuntimes,
    #[error("error gathering consensus addresses: {0}")]
    Addresses(String),
    #[error("unable to sign node descriptor: {0}")]
    Sign(String),
    #[error(transparent)]
    Submission(#[from] SubmissionError),
}

/// Whether the owner lets the node register.
enum Admission {
    Yes,
    NoEntity,
    NotListed,
}

impl Registration {
    /// A registration that is not running yet.
    pub fn new(setup: Setup, submission: Arc<Submission>) -> Self {
        let shared = Shared {
            slots: Mutex::new(Vec::new()),
            changed: Notify::new(),
            status: Mutex::new(Status::default()),
            deregister: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared), setup: Arc::new(setup), submission }
    }

    /// A slot for a part of the node that has `role` (one, or none); unavailable at first.
    pub fn slot(&self, role: Roles) -> Slot {
        let mut slots = self.shared.slots.lock();
        slots.push(SlotState { role, contribution: None, registered: None, version: 0 });
        Slot { shared: self.shared.clone(), index: slots.len() - 1 }
    }

    /// How the registration stands, with the registry's view of the node.
    pub fn status(&self) -> Result<Status, ChainError> {
        let mut status = self.shared.status.lock().clone();
        if let Some(descriptor) = &status.descriptor {
            let state = self.chain().state(0)?;
            status.node_status = apps_staking::nodes::find_node_status(&*state, &descriptor.id)?;
        }
        Ok(status)
    }

    /// Has the node not renew its registration, and end when it expired; survives a restart.
    pub fn request_deregistration(&self) -> Result<(), String> {
        if !self.shared.deregister.is_cancelled() {
            self.setup.flag.set(true)?;
            self.shared.deregister.cancel();
        }
        Ok(())
    }

    fn chain(&self) -> &Arc<dyn Chain> {
        self.submission.chain()
    }

    fn id(&self) -> PublicKey {
        self.setup.keys.node.public().into()
    }

    /// Runs until stopped (`false`), or until the node has left as requested (`true`): then it should end.
    pub async fn run(&self, stop: CancellationToken) -> bool {
        tokio::select! {
            () = self.work() => true,
            () = stop.cancelled() => false,
        }
    }

    async fn work(&self) {
        if let Some(entity) = self.setup.entity
            && !self.setup.flag.get()
        {
            tokio::select! {
                () = self.register_forever(entity) => {}
                () = self.shared.deregister.cancelled() => {}
            }
        } else if self.setup.entity.is_none() {
            self.shared.deregister.cancelled().await;
        }
        if self.setup.entity.is_some() {
            tracing::info!(module = "worker/registration", "waiting for node to deregister");
            self.wait_until_gone().await;
        }
        tracing::info!(module = "worker/registration", "registration stopped, shutting down");
        if let Err(error) = self.setup.flag.set(false) {
            tracing::error!(module = "worker/registration", err = %error, "failed to clear persisted force-deregister");
        }
    }

    async fn wait_until_gone(&self) {
        let mut heights = self.chain().heights();
        let mut synced = self.chain().synced();
        if synced.wait_for(|synced| *synced).await.is_err() {
            return;
        }
        loop {
            let registered =
                self.chain().state(0).and_then(|state| Ok(apps_staking::nodes::node(&*state, &self.id())?.is_some()));
            if matches!(registered, Ok(false)) || heights.changed().await.is_err() {
                return;
            }
        }
    }

    async fn register_forever(&self, entity: PublicKey) {
        let mut synced = self.chain().synced();
        if synced.wait_for(|synced| *synced).await.is_err() {
            return;
        }
        let mut heights = self.chain().heights();
        let mut schedule = Schedule::new(seed_of(&self.setup.keys.node.public()));
        let mut first = true;
        // Versions of the contributions in the last registration: being told of those again is no reason for another.
        let mut registered = None;
        loop {
            let due = match self.look(&entity) {
                Ok(Some(seen)) => schedule.block(&seen),
                Ok(None) => false,
                Err(error) => {
                    tracing::error!(module = "worker/registration", err = %error, "failed to query consensus state");
                    false
                }
            };
            if due {
                let versions = self.versions();
                if let Some(epoch) = schedule.epoch()
                    && self.try_register(entity, epoch, first).await
                {
                    first = false;
                    registered = Some(versions);
                }
                schedule.attempted();
            }
            tokio::select! {
                changed = heights.changed() => if changed.is_err() { return },
                () = self.shared.changed.notified() => if registered.as_ref() != Some(&self.versions()) {
                    schedule.contributions_changed();
                },
            }
        }
    }

    fn look(&self, entity: &PublicKey) -> Result<Option<Seen>, ChainError> {
        let height = self.chain().latest_height();
        if height == 0 {
            return Ok(None);
        }
        let state = self.chain().state(height)?;
        let (epoch, epoch_height) = apps_committees::beacon::state::epoch(&*state)?;
        let parameters = apps_committees::beacon::state::parameters(&*state)?;
        let vrf_interval = parameters.vrf_parameters.as_ref().map(|vrf| vrf.interval);
        let owner = apps_committees::registry::state::entity(&*state, entity)?;
        let owner = owner.map(|owner| base_prims::Hash::of_cbor(&owner));
        Ok(Some(Seen { height, epoch, epoch_height, vrf_interval, owner }))
    }

    fn admission(&self, entity: &PublicKey) -> Result<Admission, ChainError> {
        let state = self.chain().state(0)?;
        Ok(match apps_committees::registry::state::entity(&*state, entity)? {
            None => Admission::NoEntity,
            Some(entity) if entity.nodes.contains(&self.id()) => Admission::Yes,
            Some(_) => Admission::NotListed,
        })
    }

    /// Registers if everything is ready; the first registration is tried until it succeeds.
    async fn try_register(&self, entity: PublicKey, mut epoch: Epoch, first: bool) -> bool {
        let Some(contributions) = self.contributions() else {
            tracing::debug!(module = "worker/registration", "not registering, no role provider hooks");
            return false;
        };
        let node_id = self.id();
        match self.admission(&entity) {
            Ok(Admission::Yes) => {}
            Ok(Admission::NoEntity) => {
                tracing::warn!(module = "worker/registration", entity_id = %entity,
                    "deferring registration as the owning entity does not exist");
                return false;
            }
            Ok(Admission::NotListed) => {
                tracing::warn!(module = "worker/registration", entity_id = %entity, node_id = %node_id,
                    "deferring registration as the owning entity does not have us in its node list");
                return false;
            }
            Err(error) => {
                tracing::error!(module = "worker/registration", entity_id = %entity, err = %error,
                    "failed to query owning entity");
                return false;
            }
        }
        let mut backoff = Backoff::new(LONGEST, epoch);
        loop {
            tracing::info!(module = "worker/registration", epoch, node_id = %node_id,
                "performing node (re-)registration");
            let outcome = self.attempt(entity, epoch, &contributions).await;
            let error = match outcome {
                Ok(()) => break,
                Err(error) => error,
            };
            tracing::error!(module = "worker/registration", err = %error, "failed to register node");
            if !first {
                return false;
            }
            tokio::time::sleep(backoff.wait()).await;
            if let Ok(Some(seen)) = self.look(&entity) {
                epoch = seen.epoch;
            }
        }
        tracing::info!(module = "worker/registration", "node registered with the registry");
        self.tell(&contributions);
        true
    }

    /// All contributions with their versions; `None` if one is missing or there is none at all.
    fn contributions(&self) -> Option<Vec<(Roles, Contribution, u64)>> {
        let slots = self.shared.slots.lock();
        let all: Option<Vec<_>> = slots
            .iter()
            .map(|slot| slot.contribution.clone().map(|contribution| (slot.role, contribution, slot.version)))
            .collect();
        all.filter(|all| !all.is_empty())
    }

    fn versions(&self) -> Vec<u64> {
        self.shared.slots.lock().iter().map(|slot| slot.version).collect()
    }

    fn tell(&self, contributions: &[(Roles, Contribution, u64)]) {
        let mut slots = self.shared.slots.lock();
        for (slot, (_, _, version)) in slots.iter_mut().zip(contributions) {
            if slot.version == *version
                && let Some(registered) = slot.registered.take()
            {
                // Whoever wanted to know may have gone.
                let _ = registered.send(());
            }
        }
    }

    async fn attempt(
        &self,
        entity: PublicKey,
        epoch: Epoch,
        contributions: &[(Roles, Contribution, u64)],
    ) -> Result<(), AttemptError> {
        let outcome = self.attempt_inner(entity, epoch, contributions).await;
        let mut status = self.shared.status.lock();
        let now = SystemTime::now();
        status.last_attempt = Some(now);
        status.last_attempt_successful = outcome.is_ok();
        match outcome {
            Ok(descriptor) => {
                status.last_attempt_error_message = None;
                status.last_registration = Some(now);
                status.descriptor = Some(descriptor);
                Ok(())
            }
            Err(error) => {
                status.last_attempt_error_message = Some(error.to_string());
                if status.descriptor.as_ref().is_some_and(|descriptor| descriptor.expiration < epoch) {
                    status.descriptor = None;
                }
                Err(error)
            }
        }
    }

    async fn attempt_inner(
        &self,
        entity: PublicKey,
        epoch: Epoch,
        contributions: &[(Roles, Contribution, u64)],
    ) -> Result<Node, AttemptError> {
        let descriptor = self.describe(entity, epoch, contributions).await?;
        let keys = &self.setup.keys;
        let signers = [&keys.node, &keys.p2p, &keys.consensus, &keys.vrf, &keys.tls];
        let signed = MultiSigned::sign(&signers, REGISTER_CONTEXT, None, &descriptor)
            .map_err(|error| AttemptError::Sign(error.to_string()))?;
        self.submission.submit(&keys.node, METHOD_REGISTER_NODE, &signed).await?;
        Ok(descriptor)
    }

    async fn describe(
        &self,
        entity: PublicKey,
        epoch: Epoch,
        contributions: &[(Roles, Contribution, u64)],
    ) -> Result<Node, AttemptError> {
        let keys = &self.setup.keys;
        let mut node = Node {
            v: wire_consensus::node::LATEST_VERSION,
            id: self.id(),
            entity_id: entity,
            expiration: epoch.saturating_add(EXPIRATION_EPOCHS),
            software_version: self.setup.software_version.clone(),
            ..Node::default()
        };
        node.tls.pub_key = keys.tls.public().into();
        node.p2p.id = keys.p2p.public().into();
        node.consensus.id = keys.consensus.public().into();
        node.vrf.id = keys.vrf.public().into();
        for (role, contribution, _) in contributions {
            node.roles = node.roles.with(*role);
            contribution(&mut node).map_err(AttemptError::Contribution)?;
        }
        if node.roles == Roles::default() {
            return Err(AttemptError::NoRoles);
        }
        let any = |roles: &[Roles]| roles.iter().any(|role| node.has_roles(*role));
        let needs_runtimes = any(&[Roles::COMPUTE, Roles::OBSERVER, Roles::KEY_MANAGER, Roles::STORAGE_RPC]);
        if needs_runtimes && node.runtimes().is_empty() {
            return Err(AttemptError::NoRuntimes);
        }
        if any(&[Roles::COMPUTE, Roles::KEY_MANAGER, Roles::VALIDATOR, Roles::STORAGE_RPC]) {
            node.p2p.addresses = Some(self.setup.addresses.p2p());
        }
        if node.has_roles(Roles::VALIDATOR) {
            node.consensus.addresses = Some(self.consensus_addresses().await?);
        }
        Ok(node)
    }

    async fn consensus_addresses(&self) -> Result<Vec<ConsensusAddress>, AttemptError> {
        let mut addresses = self.setup.addresses.consensus().await.map_err(AttemptError::Addresses)?;
        addresses.retain(|address| {
            let usable =
                self.setup.allow_unroutable || (address.address.is_global_unicast() && address.address.is_routable());
            if !usable {
                tracing::error!(module = "worker/registration", addr = %address.address,
                    "skipping validator address: it is not routable; set consensus.external_address");
            }
            usable
        });
        if addresses.is_empty() {
            return Err(AttemptError::Addresses(
                "worker/registration: node has no valid consensus addresses; set consensus.external_address".to_owned(),
            ));
        }
        Ok(addresses)
    }
}
