//! A node that does nothing but help others to find each other.
//!
//! Source: `go/p2p/seed.go`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p_identity::Keypair;
use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::api::{P2p, P2pError};
use crate::backup::PeerBackup;
use crate::bootstrap::Server;
use crate::config::Config;
use crate::ids;
use crate::manager::{self, BACKUP_INTERVAL};
use crate::node::{Node, StartError};
use crate::rpc::Service;
use crate::store::{Store, StoreLimits};

/// How often expired registrations are removed.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(60);

/// Why a seed could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The network.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The discovery protocol.
    #[error("serving discovery: {0}")]
    Serve(#[from] P2pError),
}

/// A running seed. Cheap to clone.
#[derive(Clone)]
pub struct SeedNode {
    node: Node,
    store: Arc<Mutex<Store>>,
}

impl SeedNode {
    /// Restores the register from the backup, listens and serves discovery.
    pub async fn start(config: Config, key: Keypair, stop: CancellationToken) -> Result<Self, SeedError> {
        let (bootstrap, allow_private_ips, backup) =
            (config.bootstrap, config.allow_private_ips, config.backup.clone());
        let node = Node::start(config.into_seed(), key, stop).await?;
        let store = Arc::new(Mutex::new(Store::new(StoreLimits::default())));
        let seed = Self { node, store };
        if let Some(backup) = &backup {
            seed.restore(backup.clone()).await;
        }
        if bootstrap {
            let server = Server { table: seed.node.shared.table.clone(), store: seed.store.clone(), allow_private_ips };
            seed.node.serve(ids::bootstrap(), Service::shared(server))?;
        }
        let store = seed.store.clone();
        seed.node.shared.spawn(async move {
            loop {
                store.lock().expire(Instant::now());
                sleep(CLEANUP_INTERVAL).await;
            }
        });
        if let Some(backup) = backup {
            let store = seed.store.clone();
            seed.node.shared.spawn(async move {
                loop {
                    sleep(BACKUP_INTERVAL).await;
                    let peers = store.lock().by_namespace();
                    manager::save(backup.clone(), peers).await;
                }
            });
        }
        Ok(seed)
    }

    async fn restore(&self, backup: Arc<dyn PeerBackup>) {
        match manager::load(backup).await {
            Ok(peers) => {
                let mut store = self.store.lock();
                for (namespace, infos) in peers {
                    for info in infos {
                        if let Err(error) = store.add(&namespace, info, Instant::now()) {
                            warn!(%error, "cannot restore a registration");
                            return;
                        }
                    }
                }
            }
            Err(error) => warn!(%error, "cannot restore registrations"),
        }
    }

    /// The seed's network.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The addresses of registered peers, sorted.
    #[must_use]
    pub fn peers(&self) -> Vec<String> {
        let peers = self.store.lock().peers(Instant::now());
        let mut texts: Vec<String> = peers.iter().flat_map(crate::address::AddrInfo::texts).collect();
        texts.sort_unstable();
        texts
    }

    /// The seed as one text, `{<peer id>: [<addresses>]}`.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let info = self.node.addr_info();
        let addrs: Vec<String> = info.addrs.iter().map(ToString::to_string).collect();
        vec![format!("{{{}: [{}]}}", info.id, addrs.join(" "))]
    }

    /// Ends all tasks and waits for them.
    pub async fn stop(&self) {
        self.node.stop().await;
    }
}
