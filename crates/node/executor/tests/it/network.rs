//! A network in memory: every peer hears every other at once, unless it is deaf.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use p2p_net::PeerId;
use p2p_net::api::{
    BoxFuture, CallLimits, P2p, P2pError, PeerInfo, PeerVerdict, ProtocolId, Serve, Topic, Validate, Validation,
};
use parking_lot::Mutex;

/// Times that a message is offered again to a peer that wants it later.
const RETRIES: usize = 5;

#[derive(Default)]
pub(crate) struct Hub {
    peers: Mutex<Vec<Arc<Peer>>>,
}

pub(crate) struct Peer {
    hub: Weak<Hub>,
    pub(crate) id: PeerId,
    topics: Mutex<HashMap<Topic, Arc<dyn Validate>>>,
    served: Mutex<HashMap<ProtocolId, Arc<dyn Serve>>>,
    /// Does not hear gossip of transactions.
    pub(crate) deaf: AtomicBool,
    /// Never answers calls.
    pub(crate) mute: AtomicBool,
    /// Answers to calls of this peer.
    pub(crate) answers: AtomicU64,
}

impl Hub {
    /// A peer joins, in place of one of the same id.
    pub(crate) fn join(self: &Arc<Self>, id: PeerId) -> Arc<Peer> {
        let peer = Arc::new(Peer {
            hub: Arc::downgrade(self),
            id,
            topics: Mutex::default(),
            served: Mutex::default(),
            deaf: AtomicBool::new(false),
            mute: AtomicBool::new(false),
            answers: AtomicU64::new(0),
        });
        let mut peers = self.peers.lock();
        peers.retain(|p| p.id != id);
        peers.push(Arc::clone(&peer));
        peer
    }

    pub(crate) fn leave(&self, id: &PeerId) {
        self.peers.lock().retain(|p| p.id != *id);
    }
}

impl Peer {
    fn others(&self) -> Vec<Arc<Peer>> {
        let Some(hub) = self.hub.upgrade() else { return Vec::new() };
        let peers = hub.peers.lock();
        let mut others: Vec<_> = peers.iter().filter(|p| p.id != self.id).cloned().collect();
        // Whoever does not answer seems the most promising.
        others.sort_by_key(|p| !p.mute.load(Ordering::Relaxed));
        others
    }

    /// What this peer makes of a message.
    pub(crate) async fn hear(&self, author: PeerId, own: bool, topic: &Topic, message: &[u8]) -> Option<Validation> {
        let validator = self.topics.lock().get(topic).cloned()?;
        if self.deaf.load(Ordering::Relaxed) && topic.as_str().contains("/tx/") {
            return None;
        }
        Some(validator.validate(author, own, message).await)
    }
}

impl P2p for Peer {
    fn publish(&self, topic: &Topic, message: Vec<u8>) -> Result<(), P2pError> {
        if !self.topics.lock().contains_key(topic) {
            return Err(P2pError::Name(topic.to_string()));
        }
        let message: Arc<[u8]> = message.into();
        let hub = self.hub.upgrade();
        let me = hub.and_then(|hub| hub.peers.lock().iter().find(|p| p.id == self.id).cloned());
        for peer in self.others().into_iter().chain(me) {
            let (author, topic, message) = (self.id, topic.clone(), Arc::clone(&message));
            tokio::spawn(async move {
                for _ in 0..RETRIES {
                    match peer.hear(author, peer.id == author, &topic, &message).await {
                        Some(Validation::Retry) => tokio::time::sleep(Duration::from_millis(100)).await,
                        _ => return,
                    }
                }
            });
        }
        Ok(())
    }

    fn subscribe(&self, topic: &Topic, validate: Arc<dyn Validate>) -> Result<(), P2pError> {
        match self.topics.lock().insert(topic.clone(), validate) {
            None => Ok(()),
            Some(_) => Err(P2pError::Duplicate(topic.to_string())),
        }
    }

    fn call(
        &self,
        peer: &PeerId,
        protocol: &ProtocolId,
        request: Vec<u8>,
        limits: CallLimits,
    ) -> BoxFuture<'_, Result<Vec<u8>, P2pError>> {
        let other = self.others().into_iter().find(|p| p.id == *peer);
        let mute = other.as_ref().is_some_and(|p| p.mute.load(Ordering::Relaxed));
        let server = other.and_then(|p| p.served.lock().get(protocol).cloned());
        let (protocol, peer) = (protocol.clone(), *peer);
        Box::pin(async move {
            if mute {
                tokio::time::sleep(limits.response_time).await;
                return Err(P2pError::Timeout { what: "answer", limit: limits.response_time });
            }
            let server = server.ok_or(P2pError::Unsupported(protocol))?;
            let answer = server.serve(self.id, request).await;
            self.answers.fetch_add(1, Ordering::Relaxed);
            answer.ok_or_else(|| P2pError::Stream(peer.to_string()))
        })
    }

    fn serve(&self, protocol: ProtocolId, handler: Arc<dyn Serve>) -> Result<(), P2pError> {
        self.served.lock().insert(protocol, handler);
        Ok(())
    }

    fn track(&self, _protocol: &ProtocolId, _min: usize, _total: usize) {}

    fn peers(&self, protocol: &ProtocolId) -> Vec<PeerInfo> {
        let serving = self.others().into_iter().filter(|p| p.served.lock().contains_key(protocol));
        serving.map(|p| PeerInfo { id: p.id, agent: "test".to_owned(), latency: None }).collect()
    }

    fn feedback(&self, _peer: &PeerId, _verdict: PeerVerdict) {}
}
