//! What the worker follows of the consensus layer, read together after each block.

use std::collections::BTreeMap;
use std::sync::Arc;

use apps_keymanager::{churp, secrets};
use base_prims::{Epoch, Namespace};
use node_workers::{Blocks, ChainError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wire_consensus::churp::{Identity, Status as ChurpStatus};
use wire_consensus::errors::registry::NO_SUCH_RUNTIME;
use wire_consensus::keymanager::{SignedEncryptedEphemeralSecret, SignedEncryptedMasterSecret, Status};
use wire_consensus::registry::Runtime;

use crate::access::Access;

/// The state after a block, as far as it matters here. Parts that did not change are shared with the one before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// Height of the block; 0: none yet.
    pub(crate) height: i64,
    /// Its epoch.
    pub(crate) epoch: Epoch,
    /// Height at which the epoch began.
    pub(crate) epoch_height: i64,
    /// Blocks per epoch; 0 where epochs are moved by hand.
    pub(crate) interval: i64,
    /// The key manager's descriptor.
    pub(crate) descriptor: Option<Arc<Runtime>>,
    /// The key manager's status.
    pub(crate) status: Option<Arc<Status>>,
    /// The last proposed master secret.
    pub(crate) master: Option<Arc<SignedEncryptedMasterSecret>>,
    /// The last ephemeral secret.
    pub(crate) ephemeral: Option<Arc<SignedEncryptedEphemeralSecret>>,
    /// Schemes that the node takes part in.
    pub(crate) churp: BTreeMap<u8, Arc<ChurpStatus>>,
    /// Who may call.
    pub(crate) access: Arc<Access>,
}

fn shared<T: PartialEq>(new: Option<T>, known: &Option<Arc<T>>) -> Option<Arc<T>> {
    match (new, known) {
        (Some(new), Some(known)) if new == **known => Some(Arc::clone(known)),
        (new, _) => new.map(Arc::new),
    }
}

impl Snapshot {
    /// Reads the newest state.
    pub(crate) fn read(chain: &dyn Blocks, id: &Namespace, schemes: &[u8], known: &Self) -> Result<Self, ChainError> {
        let height = chain.latest_height();
        if height == 0 {
            return Err(ChainError::NoBlocks);
        }
        let state = chain.state(height)?;
        let state = &*state;
        let (epoch, epoch_height) = apps_committees::beacon::state::epoch(state)?;
        let beacon = apps_committees::beacon::state::parameters(state)?;
        let descriptor = match apps_committees::registry::query::runtime(state, id, true) {
            Ok(descriptor) => Some(descriptor),
            Err(error) if error.is(&NO_SUCH_RUNTIME) => None,
            Err(error) => return Err(error.into()),
        };
        let mut statuses = BTreeMap::new();
        for scheme in schemes {
            let identity = Identity { id: *scheme, runtime_id: *id };
            let known = known.churp.get(scheme).cloned();
            if let Some(status) = shared(churp::state::status(state, &identity)?, &known) {
                statuses.insert(*scheme, status);
            }
        }
        let access = Access::read(state, id)?;
        let access = if access == *known.access { Arc::clone(&known.access) } else { Arc::new(access) };
        Ok(Self {
            height,
            epoch,
            epoch_height,
            interval: if beacon.debug_mock_backend { 0 } else { beacon.interval().max(0) },
            descriptor: shared(descriptor, &known.descriptor),
            status: shared(secrets::state::status(state, id)?, &known.status),
            master: shared(secrets::state::master_secret(state, id)?, &known.master),
            ephemeral: shared(secrets::state::ephemeral_secret(state, id)?, &known.ephemeral),
            churp: statuses,
            access,
        })
    }

    /// Height at which a part of the present epoch has passed.
    pub(crate) fn height_at(&self, percent: i64) -> i64 {
        self.epoch_height.saturating_add(self.interval.saturating_mul(percent) / 100)
    }

    /// A height within a part of the present epoch, by chance.
    pub(crate) fn random_height(&self, from: i64, to: i64, chance: u64) -> i64 {
        let span = (self.interval.saturating_mul(to - from) / 100).max(1);
        let offset = i64::try_from(chance % span.unsigned_abs()).unwrap_or(0);
        self.height_at(from).saturating_add(offset)
    }
}

/// Keeps `told` at the newest state until stopped.
pub(crate) async fn follow(
    chain: Arc<dyn Blocks>,
    id: Namespace,
    schemes: Vec<u8>,
    told: Arc<watch::Sender<Arc<Snapshot>>>,
    stop: CancellationToken,
) {
    let mut heights = chain.heights();
    loop {
        heights.borrow_and_update();
        let (chain, schemes, known) = (Arc::clone(&chain), schemes.clone(), Arc::clone(&told.borrow()));
        // All nodes are read, which may take a while.
        let read = tokio::task::spawn_blocking(move || Snapshot::read(&*chain, &id, &schemes, &known)).await;
        match read {
            Ok(Ok(new)) if new.height > told.borrow().height => {
                told.send_replace(Arc::new(new));
            }
            Ok(Ok(_) | Err(ChainError::NoBlocks)) => {}
            Ok(Err(error)) => tracing::warn!(module = "worker/keymanager", err = %error, "state cannot be read"),
            Err(error) => tracing::warn!(module = "worker/keymanager", err = %error, "reading the state failed"),
        }
        tokio::select! {
            changed = heights.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}
