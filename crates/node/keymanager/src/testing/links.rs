//! Links between nodes of one process.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use p2p_net::PeerId;
use p2p_net::api::{BoxFuture, CallLimits, P2p, P2pError, PeerInfo, PeerVerdict, ProtocolId, Serve, Topic, Validate};
use parking_lot::Mutex;

/// All nodes.
#[derive(Default)]
pub(crate) struct Links {
    served: Mutex<HashMap<PeerId, HashMap<ProtocolId, Arc<dyn Serve>>>>,
    /// Who cannot be reached.
    pub(crate) cut: Mutex<HashSet<PeerId>>,
}

/// One node's side.
pub(crate) struct Link {
    me: PeerId,
    links: Arc<Links>,
    /// Whom it called, in order.
    pub(crate) called: Mutex<Vec<PeerId>>,
    /// What it made of whom.
    pub(crate) verdicts: Mutex<Vec<(PeerId, &'static str)>>,
    pub(crate) tracked: Mutex<Vec<ProtocolId>>,
}

impl Links {
    pub(crate) fn join(links: &Arc<Self>, me: PeerId) -> Arc<Link> {
        Arc::new(Link {
            me,
            links: Arc::clone(links),
            called: Mutex::default(),
            verdicts: Mutex::default(),
            tracked: Mutex::default(),
        })
    }
}

impl P2p for Link {
    fn publish(&self, _: &Topic, _: Vec<u8>) -> Result<(), P2pError> {
        Err(P2pError::Closed)
    }

    fn subscribe(&self, _: &Topic, _: Arc<dyn Validate>) -> Result<(), P2pError> {
        Err(P2pError::Closed)
    }

    fn call(
        &self,
        peer: &PeerId,
        protocol: &ProtocolId,
        request: Vec<u8>,
        limits: CallLimits,
    ) -> BoxFuture<'_, Result<Vec<u8>, P2pError>> {
        self.called.lock().push(*peer);
        let served = self.links.served.lock().get(peer).and_then(|served| served.get(protocol).cloned());
        let cut = self.links.cut.lock().contains(peer);
        let (peer, protocol) = (*peer, protocol.clone());
        Box::pin(async move {
            if cut {
                return Err(P2pError::Unreachable { peer, reason: "cut".to_owned() });
            }
            let served = served.ok_or(P2pError::Unsupported(protocol))?;
            let answer = tokio::time::timeout(limits.response_time, served.serve(self.me, request)).await;
            let answer = answer.map_err(|_| P2pError::Timeout { what: "answer", limit: limits.response_time })?;
            answer.ok_or(P2pError::Stream("closed".to_owned()))
        })
    }

    fn serve(&self, protocol: ProtocolId, handler: Arc<dyn Serve>) -> Result<(), P2pError> {
        let mut served = self.links.served.lock();
        match served.entry(self.me).or_default().insert(protocol.clone(), handler) {
            None => Ok(()),
            Some(_) => Err(P2pError::Duplicate(protocol.to_string())),
        }
    }

    fn track(&self, protocol: &ProtocolId, _: usize, _: usize) {
        self.tracked.lock().push(protocol.clone());
    }

    fn peers(&self, protocol: &ProtocolId) -> Vec<PeerInfo> {
        let served = self.links.served.lock();
        let speaks = served.iter().filter(|(peer, served)| **peer != self.me && served.contains_key(protocol));
        let mut peers: Vec<PeerInfo> =
            speaks.map(|(peer, _)| PeerInfo { id: *peer, agent: String::new(), latency: None }).collect();
        peers.sort_by_key(|peer| peer.id);
        peers
    }

    fn feedback(&self, peer: &PeerId, verdict: PeerVerdict) {
        let verdict = match verdict {
            PeerVerdict::Success { .. } => "success",
            PeerVerdict::Failure { .. } => "failure",
            PeerVerdict::Bad => "bad",
        };
        self.verdicts.lock().push((*peer, verdict));
    }
}
