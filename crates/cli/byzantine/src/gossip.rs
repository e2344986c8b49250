//! What the committee's nodes tell each other, as this node hears it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base_codec::cbor;
use base_prims::{Hash, Namespace};
use p2p_net::api::{BoxFuture, P2p, P2pError, PeerId, Validate, Validation};
use p2p_net::ids;
use rt_executor::messages::{CommitteeMessage, TxMessage};
use tokio::sync::mpsc;
use wire_consensus::roothash::Proposal;

/// Messages that wait to be looked at; with more the network is told to try again.
const BACKLOG: usize = 1024;
/// Most transactions that are kept.
const MAX_TXS: usize = 4096;

/// A message.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // It lies in a short queue.
enum Heard {
    Tx(Vec<u8>),
    Proposal(Proposal),
}

/// Takes every message of a topic that can be decoded.
struct Listener {
    inbox: mpsc::Sender<Heard>,
    decode: fn(&[u8]) -> Result<Option<Heard>, cbor::Error>,
}

impl Validate for Listener {
    fn validate<'a>(&'a self, _: PeerId, own: bool, message: &'a [u8]) -> BoxFuture<'a, Validation> {
        Box::pin(async move {
            match (self.decode)(message) {
                Err(_) => Validation::Reject,
                Ok(Some(heard)) if !own => match self.inbox.try_send(heard) {
                    Ok(()) => Validation::Accept,
                    Err(_) => Validation::Retry,
                },
                Ok(_) => Validation::Accept,
            }
        })
    }
}

fn decode_tx(message: &[u8]) -> Result<Option<Heard>, cbor::Error> {
    TxMessage::from_bytes(message).map(|tx| Some(Heard::Tx(tx.0)))
}

fn decode_committee(message: &[u8]) -> Result<Option<Heard>, cbor::Error> {
    let message: CommitteeMessage = cbor::from_slice(message)?;
    Ok(message.proposal.map(Heard::Proposal))
}

/// The topics of a runtime.
pub(crate) struct Gossip {
    heard: mpsc::Receiver<Heard>,
    txs: BTreeMap<Hash, Vec<u8>>,
    /// Hashes in the order in which the transactions came.
    order: Vec<Hash>,
}

impl Gossip {
    /// Joins the topics.
    pub(crate) fn join(p2p: &dyn P2p, chain: &str, runtime: &Namespace) -> Result<Self, P2pError> {
        let (inbox, heard) = mpsc::channel(BACKLOG);
        let txs = Listener { inbox: inbox.clone(), decode: decode_tx };
        p2p.subscribe(&ids::tx_topic(chain, runtime), Arc::new(txs))?;
        let committee = Listener { inbox, decode: decode_committee };
        p2p.subscribe(&ids::committee_topic(chain, runtime), Arc::new(committee))?;
        Ok(Self { heard, txs: BTreeMap::new(), order: Vec::new() })
    }

    fn keep(&mut self, tx: Vec<u8>) {
        let hash = wire_runtime::transaction::hash(&tx);
        if self.txs.len() < MAX_TXS && self.txs.insert(hash, tx).is_none() {
            self.order.push(hash);
        }
    }

    /// All transactions that have come, once nothing has come for so long.
    pub(crate) async fn transactions(&mut self, quiet: Duration) -> Vec<Vec<u8>> {
        while let Ok(Some(heard)) = tokio::time::timeout(quiet, self.heard.recv()).await {
            if let Heard::Tx(tx) = heard {
                self.keep(tx);
            }
        }
        self.order.iter().filter_map(|hash| self.txs.get(hash)).cloned().collect()
    }

    /// The first proposal that `wanted` takes, with its transactions, once all have come. `None`: the network is closed.
    pub(crate) async fn proposal(&mut self, wanted: impl Fn(&Proposal) -> bool) -> Option<(Proposal, Vec<Vec<u8>>)> {
        let mut found: Option<Proposal> = None;
        loop {
            if let Some(proposal) = &found {
                let txs: Option<Vec<_>> = proposal.batch.iter().map(|hash| self.txs.get(hash).cloned()).collect();
                if let Some(txs) = txs {
                    return Some((proposal.clone(), txs));
                }
            }
            match self.heard.recv().await? {
                Heard::Tx(tx) => self.keep(tx),
                Heard::Proposal(proposal) if found.is_none() && wanted(&proposal) => found = Some(proposal),
                Heard::Proposal(_) => {}
            }
        }
    }
}
