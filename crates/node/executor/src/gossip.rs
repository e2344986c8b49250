//! What peers send: gossip on two topics, and requests for transactions.

use std::sync::Arc;

use base_codec::{Raw, cbor};
use base_prims::PublicKey;
use p2p_net::PeerId;
use p2p_net::api::{BoxFuture, Validate, Validation};
use p2p_net::ids;
use p2p_net::rpc::{Handler, RpcError, Service};
use rt_executor::messages::txsync::{self, GET_TXS, GetTxsRequest};
use rt_executor::messages::{CommitteeMessage, TxMessage};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::client::Shared;
use crate::setup::{ExecutorError, Setup};

/// Transactions from the network that wait for the task; with more the network is told to try again.
const TX_BACKLOG: usize = 256;
/// Messages of the committee that wait for the task.
const COMMITTEE_BACKLOG: usize = 64;
/// Requests for transactions that are answered at once: each may take as much memory as a frame.
const MAX_SERVED: usize = 4;

/// A transaction from the network.
pub(crate) struct GossipTx {
    pub(crate) data: Vec<u8>,
    pub(crate) reply: oneshot::Sender<Validation>,
}

/// A message of the committee.
pub(crate) struct CommitteeGossip {
    pub(crate) author: PublicKey,
    pub(crate) own: bool,
    pub(crate) message: CommitteeMessage,
    pub(crate) reply: oneshot::Sender<Validation>,
}

/// What comes from the network.
pub(crate) struct Inboxes {
    pub(crate) txs: mpsc::Receiver<GossipTx>,
    pub(crate) committee: mpsc::Receiver<CommitteeGossip>,
}

impl Inboxes {
    /// Joins the topics and serves transactions.
    pub(crate) fn join(setup: &Setup, shared: &Arc<Shared>) -> Result<Self, ExecutorError> {
        let (chain, runtime) = (&setup.chain_context, &setup.runtime);
        let (tx_sender, txs) = mpsc::channel(TX_BACKLOG);
        let (committee_sender, committee) = mpsc::channel(COMMITTEE_BACKLOG);
        let inbox = setup.config.consensus.local_storage.then_some(tx_sender);
        setup.p2p.subscribe(&ids::tx_topic(chain, runtime), Arc::new(TxTopic { inbox }))?;
        let sync = ids::TX_SYNC.of_runtime(chain, runtime);
        let server = TxServer { shared: Arc::clone(shared), busy: Semaphore::new(MAX_SERVED) };
        setup.p2p.serve(sync.clone(), Service::shared(server))?;
        if setup.is_compute() {
            let validator = CommitteeTopic { inbox: committee_sender };
            setup.p2p.subscribe(&ids::committee_topic(chain, runtime), Arc::new(validator))?;
            setup.p2p.track(&sync, ids::TX_SYNC.min_peers, ids::TX_SYNC.total_peers);
        }
        Ok(Self { txs, committee })
    }
}

/// Hands a message over and waits for the verdict. A task that is busy or gone may do better later.
async fn hand_over<T>(inbox: &mpsc::Sender<T>, message: T, verdict: oneshot::Receiver<Validation>) -> Validation {
    if inbox.try_send(message).is_err() {
        return Validation::Retry;
    }
    verdict.await.unwrap_or(Validation::Retry)
}

/// Takes transactions. Without an inbox they are only passed on.
struct TxTopic {
    inbox: Option<mpsc::Sender<GossipTx>>,
}

impl Validate for TxTopic {
    fn validate<'a>(&'a self, _author: PeerId, own: bool, message: &'a [u8]) -> BoxFuture<'a, Validation> {
        Box::pin(async move {
            let Ok(tx) = TxMessage::from_bytes(message) else { return Validation::Reject };
            let Some(inbox) = self.inbox.as_ref().filter(|_| !own) else { return Validation::Accept };
            let (reply, verdict) = oneshot::channel();
            hand_over(inbox, GossipTx { data: tx.0, reply }, verdict).await
        })
    }
}

/// Takes proposals.
struct CommitteeTopic {
    inbox: mpsc::Sender<CommitteeGossip>,
}

impl Validate for CommitteeTopic {
    fn validate<'a>(&'a self, author: PeerId, own: bool, message: &'a [u8]) -> BoxFuture<'a, Validation> {
        Box::pin(async move {
            let Ok(message) = cbor::from_slice::<CommitteeMessage>(message) else { return Validation::Reject };
            let Some(key) = author.public_key() else { return Validation::Reject };
            let author = PublicKey::new(*key.as_bytes());
            let (reply, verdict) = oneshot::channel();
            hand_over(&self.inbox, CommitteeGossip { author, own, message, reply }, verdict).await
        })
    }
}

/// Serves `txsync` from the pool.
struct TxServer {
    shared: Arc<Shared>,
    busy: Semaphore,
}

impl Handler for TxServer {
    fn handle<'a>(&'a self, _from: PeerId, method: &'a str, body: &'a Raw) -> BoxFuture<'a, Result<Raw, RpcError>> {
        Box::pin(async move {
            if method != GET_TXS {
                return Err(RpcError::unsupported_method());
            }
            let request: GetTxsRequest = cbor::from_slice(body).map_err(|_| RpcError::bad_request())?;
            let _turn = self.busy.acquire().await.map_err(|_| RpcError::unknown("closed"))?;
            let answer = txsync::answer(&self.shared.pool.lock(), &request);
            Ok(Raw(cbor::to_vec(&answer)))
        })
    }
}

#[cfg(test)]
mod tests {
    use rt_executor::txpool::{Config, Origin, Pool};
    use tokio::sync::watch;

    use super::*;
    use crate::status::ExecutorStatus;

    fn author() -> PeerId {
        p2p_net::PublicKey::from_bytes([7; 32]).to_peer_id()
    }

    #[tokio::test]
    async fn a_flood_is_put_off_and_garbage_rejected() {
        let (sender, _never_read) = mpsc::channel(1);
        let topic = TxTopic { inbox: Some(sender) };
        assert_eq!(topic.validate(author(), false, b"\xff").await, Validation::Reject);
        let message = TxMessage(b"tx".to_vec()).to_bytes();
        assert_eq!(topic.validate(author(), true, &message).await, Validation::Accept, "own ones are known");
        let first = topic.validate(author(), false, &message);
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(10), first).await;
        assert!(waiting.is_err(), "it waits for its check");
        assert_eq!(topic.validate(author(), false, &message).await, Validation::Retry, "the queue is full");
        let nobody = TxTopic { inbox: None };
        assert_eq!(nobody.validate(author(), false, &message).await, Validation::Accept);

        let (sender, inbox) = mpsc::channel(1);
        let topic = CommitteeTopic { inbox: sender };
        assert_eq!(topic.validate(author(), false, b"\xa1\x01").await, Validation::Reject);
        drop(inbox);
        let empty = cbor::to_vec(&CommitteeMessage::default());
        assert_eq!(topic.validate(author(), false, &empty).await, Validation::Retry, "the task is gone");
    }

    #[tokio::test]
    async fn transactions_are_served_by_hash() {
        let mut pool = Pool::new(Config::default());
        let hash = pool.submit(b"tx".to_vec(), Origin::default(), None).unwrap();
        let shared = Shared {
            pool: parking_lot::Mutex::new(pool),
            ready: watch::Sender::new(false),
            status: parking_lot::Mutex::new(ExecutorStatus::default()),
        };
        let server = TxServer { shared: Arc::new(shared), busy: Semaphore::new(1) };
        let ask = GetTxsRequest { hashes: Some(vec![hash, base_prims::Hash::of(&[b"other"])]) };
        let answer = server.handle(author(), GET_TXS, &Raw(cbor::to_vec(&ask))).await.unwrap();
        let answer: txsync::GetTxsResponse = cbor::from_slice(&answer).unwrap();
        assert_eq!(txsync::verify(&ask, answer).unwrap().len(), 1);
        assert_eq!(server.handle(author(), GET_TXS, &Raw(vec![1])).await, Err(RpcError::bad_request()));
        assert_eq!(server.handle(author(), "Other", &Raw(vec![])).await, Err(RpcError::unsupported_method()));
    }
}
