//! The state of a runtime, of which this node keeps nothing: peers are asked for proofs.

use std::sync::Arc;

use base_codec::cbor::{Decode, Encode};
use base_prims::{Hash, Namespace};
use mkvs_tree::sync::{GetPrefixesRequest, GetRequest, IterateRequest, ProofResponse, ReadSyncer, Remote};
use mkvs_tree::{KvWrite as _, Proof, Retention, Root, Sequential, Tree};
use p2p_net::api::P2p;
use p2p_net::ids;
use p2p_net::rpc::{CallOptions, Client, Feedback};
use rt_storage::messages::{GET, GET_PREFIXES, ITERATE};

use crate::actor::ActError;

/// How often all peers are asked again, a second apart.
const RETRIES: u32 = 30;
/// Bytes of fetched nodes that are kept.
const CACHE: usize = 8 << 20;

/// Peers that prove parts of the state to everybody.
struct Peers {
    client: Client,
    tokio: tokio::runtime::Handle,
}

impl Peers {
    fn ask<T: Encode + Decode + Sync>(&self, method: &str, request: &T) -> Result<Proof, String> {
        let options = CallOptions { retries: RETRIES, ..CallOptions::default() };
        let any = |_: &ProofResponse, _: &Feedback| Ok(());
        let call = self.client.call_one(None, method, request, options, any);
        let (answer, feedback): (ProofResponse, _) = self.tokio.block_on(call).map_err(|error| error.to_string())?;
        feedback.success();
        Ok(answer.proof)
    }
}

impl ReadSyncer for Peers {
    fn get(&self, request: &GetRequest) -> Result<Proof, String> {
        self.ask(GET, request)
    }

    fn get_prefixes(&self, request: &GetPrefixesRequest) -> Result<Proof, String> {
        self.ask(GET_PREFIXES, request)
    }

    fn iterate(&self, request: &IterateRequest) -> Result<Proof, String> {
        self.ask(ITERATE, request)
    }
}

/// Where states come from.
pub(crate) struct States {
    client: Client,
}

impl States {
    /// Keeps peers that prove states connected.
    pub(crate) fn new(p2p: Arc<dyn P2p>, chain: &str, runtime: &Namespace) -> Self {
        let protocol = ids::STORAGE_PUB.of_runtime(chain, runtime);
        p2p.track(&protocol, ids::STORAGE_PUB.min_peers, ids::STORAGE_PUB.total_peers);
        Self { client: Client::new(p2p, protocol) }
    }

    /// The root of a state with some keys set anew.
    pub(crate) async fn changed(&self, root: Root, changes: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Hash, ActError> {
        let peers = Peers { client: self.client.clone(), tokio: tokio::runtime::Handle::current() };
        let worked = tokio::task::spawn_blocking(move || {
            let mut tree = match root.hash {
                Hash::EMPTY => Tree::in_memory(),
                _ => Tree::remote(Arc::new(Remote::new(peers, root, CACHE)), Retention::All),
            };
            for (key, value) in &changes {
                tree.insert(key, value)?;
            }
            Ok::<_, mkvs_tree::TreeError>(tree.root_hash(&Sequential))
        });
        let done = worked.await.map_err(|error| ActError::Compute(error.to_string()))?;
        done.map_err(|error| ActError::Compute(format!("state: {error}")))
    }
}
