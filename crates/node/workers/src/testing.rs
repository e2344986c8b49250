//! A consensus layer in memory, for tests of workers.

use std::collections::BTreeMap;
use std::time::Duration;

use apps_committees::{beacon, registry};
use apps_core::submit::{BoxFuture, Included, SubmitError};
use base_codec::cbor;
use base_crypto::context::ChainContext;
use base_crypto::ed25519::SecretKey;
use base_prims::{Epoch, PublicKey};
use comet_chain::app::TxResult;
use mkvs_tree::{KvRead, KvWrite, TreeError, Visit};
use parking_lot::Mutex;
use tokio::sync::watch;
use wire_consensus::beacon::{BACKEND_INSECURE, Parameters};
use wire_consensus::entity::{self, Entity};
use wire_consensus::errors::transaction::INVALID_NONCE;
use wire_consensus::node::{Node, REGISTER_CONTEXT};
use wire_consensus::registry::METHOD_REGISTER_NODE;
use wire_consensus::signed::{MultiSigned, Signed};
use wire_consensus::transaction::{SignedTransaction, Transaction};

use crate::chain::{Chain, ChainError};

/// A key that tests know by number.
pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

/// State as a plain map.
#[derive(Clone, Default)]
pub(crate) struct MapState(BTreeMap<Vec<u8>, Vec<u8>>);

/// The layer.
pub(crate) struct MemoryChain {
    context: ChainContext,
    state: Mutex<Inner>,
    heights: watch::Sender<i64>,
    synced: watch::Sender<bool>,
}

#[derive(Default)]
struct Inner {
    height: i64,
    map: MapState,
    registered: Vec<Node>,
    refuse: u32,
}

impl KvRead for MapState {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        Ok(self.0.get(key).cloned())
    }

    fn iterate(&self, from: &[u8], visit: Visit<'_>) -> Result<(), TreeError> {
        for (key, value) in self.0.range(from.to_vec()..) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl KvWrite for MapState {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
        self.0.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), TreeError> {
        self.0.remove(key);
        Ok(())
    }
}

impl MemoryChain {
    /// A chain at height 1, with an insecure beacon at epoch 0.
    pub(crate) fn new() -> Self {
        let mut inner = Inner { height: 1, ..Inner::default() };
        let parameters = Parameters { backend: BACKEND_INSECURE.to_owned(), ..Parameters::default() };
        beacon::state::set_parameters(&mut inner.map, &parameters).expect("a map takes everything");
        beacon::state::set_epoch(&mut inner.map, 0, 1).expect("a map takes everything");
        Self {
            context: ChainContext::from_hash(&[7; 32]),
            state: Mutex::new(inner),
            heights: watch::Sender::new(1),
            synced: watch::Sender::new(false),
        }
    }

    /// Makes blocks, with time for the workers after each.
    pub(crate) async fn advance(&self, blocks: i64) {
        for _ in 0..blocks {
            let height = {
                let mut inner = self.state.lock();
                inner.height += 1;
                inner.height
            };
            self.heights.send_replace(height);
            tokio::time::sleep(Duration::from_secs(120)).await;
        }
    }

    pub(crate) fn set_synced(&self) {
        self.synced.send_replace(true);
    }

    pub(crate) fn set_epoch(&self, epoch: Epoch) {
        let mut inner = self.state.lock();
        let height = inner.height;
        beacon::state::set_epoch(&mut inner.map, epoch, height).expect("a map takes everything");
    }

    /// Registers an entity with its list of nodes; its secret key is number 9.
    pub(crate) fn set_owner(&self, id: PublicKey, nodes: &[PublicKey]) {
        let entity = Entity { v: 2, id, nodes: nodes.to_vec() };
        let signed = Signed::sign(&key(9), entity::REGISTER_CONTEXT, None, &entity).expect("signs");
        registry::state::set_entity(&mut self.state.lock().map, &id, &signed).expect("a map takes everything");
    }

    /// Refuses that many transactions because of their nonce.
    pub(crate) fn refuse(&self, times: u32) {
        self.state.lock().refuse = times;
    }

    /// Every descriptor registered so far.
    pub(crate) fn registered(&self) -> Vec<Node> {
        self.state.lock().registered.clone()
    }

    /// Removes a node, as its expiration does.
    pub(crate) fn forget_node(&self, id: &PublicKey) {
        let mut inner = self.state.lock();
        let node = apps_staking::nodes::node(&inner.map, id).expect("readable").expect("registered");
        registry::state::remove_node(&mut inner.map, &node).expect("a map takes everything");
    }

    fn take(&self, raw: &[u8]) -> Result<Included, SubmitError> {
        let mut inner = self.state.lock();
        let signed: SignedTransaction = cbor::from_slice(raw).expect("a transaction");
        let tx: Transaction = signed.open(&self.context).expect("signed for this chain");
        if inner.refuse > 0 {
            inner.refuse -= 1;
            let (module, code) = (INVALID_NONCE.module.to_owned(), INVALID_NONCE.code);
            return Err(SubmitError::Refused { module, code, message: "nonce".to_owned() });
        }
        assert_eq!(tx.method, METHOD_REGISTER_NODE);
        let descriptor: MultiSigned = tx.body.decode_as().expect("signed by several keys");
        let node: Node = descriptor.open(REGISTER_CONTEXT, None).expect("valid signatures");
        assert_eq!(descriptor.signatures().len(), 5);
        let existing = apps_staking::nodes::node(&inner.map, &node.id).expect("readable");
        registry::state::set_node(&mut inner.map, existing.as_ref(), &node, &descriptor)
            .expect("a map takes everything");
        inner.registered.push(node);
        Ok(Included { height: inner.height + 1, index: 0, result: TxResult::default() })
    }
}

impl Chain for MemoryChain {
    fn latest_height(&self) -> i64 {
        self.state.lock().height
    }

    fn state(&self, _height: i64) -> Result<Box<dyn KvRead + Send>, ChainError> {
        Ok(Box::new(self.state.lock().map.clone()))
    }

    fn estimate_gas(&self, _signer: PublicKey, _tx: &Transaction) -> Result<u64, ChainError> {
        Ok(1000)
    }

    fn submit(&self, tx: Vec<u8>) -> BoxFuture<'_, Result<Included, SubmitError>> {
        let outcome = self.take(&tx);
        Box::pin(async move { outcome })
    }

    fn heights(&self) -> watch::Receiver<i64> {
        self.heights.subscribe()
    }

    fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    fn context(&self) -> &ChainContext {
        &self.context
    }
}
