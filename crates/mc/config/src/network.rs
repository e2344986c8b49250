//! The network file: peers, sources of blocks, quorum set.

use std::collections::BTreeMap;

use serde::Deserialize;
use wire_mobilecoin::Ed25519Key;
use wire_mobilecoin::quorum::{Member, NodeId, QuorumSet, ResponderId};

use crate::uri::{Family, Uri};

/// Why a network file is refused. Names as in the reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither `.toml` nor `.json`.
    #[error("unrecognized extension of {0}")]
    UnrecognizedExtension(String),
    /// Not TOML of the expected shape.
    #[error("TOML: {0}")]
    Toml(String),
    /// Not JSON of the expected shape.
    #[error("JSON: {0}")]
    Json(String),
    /// The node itself is among the peers.
    #[error("peers contain this node")]
    KnownPeersContainsSelf,
    /// Two peers of one responder id.
    #[error("duplicate responder id {0}")]
    DuplicateResponderId(String),
    /// Peers, but nowhere to get blocks from.
    #[error("missing tx source URLs")]
    MissingTxSourceUrls,
    /// A quorum member that no peer is.
    #[error("unknown quorum member {0}")]
    UnknownQuorumMember(String),
    /// A peer without a message key.
    #[error("peer {0} has no message key")]
    MissingMessageKey(String),
    /// A threshold that cannot be reached.
    #[error("invalid quorum set")]
    InvalidQuorumSet,
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "args")]
enum RawMember {
    Node(String),
    InnerSet(RawQuorumSet),
}

#[derive(Deserialize)]
struct RawQuorumSet {
    threshold: u32,
    members: Vec<RawMember>,
}

#[derive(Deserialize)]
struct RawNetwork {
    broadcast_peers: Vec<String>,
    known_peers: Option<Vec<String>>,
    tx_source_urls: Vec<String>,
    quorum_set: RawQuorumSet,
}

/// A network file.
#[derive(Clone, Debug)]
pub struct Network {
    /// Peers that messages are sent to.
    pub broadcast_peers: Vec<Uri>,
    /// Peers that are only named in quorum sets.
    pub known_peers: Vec<Uri>,
    /// Where archives are.
    pub tx_source_urls: Vec<String>,
    /// The quorum set by names; keys are zero.
    pub quorum_set: QuorumSet,
}

fn unresolved(set: RawQuorumSet) -> QuorumSet {
    let member = |member: RawMember| match member {
        RawMember::Node(name) => {
            Member::Node(NodeId { responder_id: ResponderId { name }, public_key: Ed25519Key::default() })
        }
        RawMember::InnerSet(inner) => Member::InnerSet(unresolved(inner)),
    };
    QuorumSet::new(set.threshold, set.members.into_iter().map(member).collect())
}

impl Network {
    /// Reads the text of a file by its extension.
    ///
    /// # Errors
    /// If it has another shape or the peers do not go together.
    pub fn read(file_name: &str, text: &str, own_responder_id: &str) -> Result<Self, Error> {
        let (raw, error): (RawNetwork, fn(String) -> Error) = match file_name.rsplit_once('.').map(|(_, e)| e) {
            Some("toml") => (toml::from_str(text).map_err(|e| Error::Toml(e.to_string()))?, Error::Toml),
            Some("json") => (serde_json::from_str(text).map_err(|e| Error::Json(e.to_string()))?, Error::Json),
            _ => return Err(Error::UnrecognizedExtension(file_name.to_owned())),
        };
        let peers = |list: Vec<String>| -> Result<Vec<Uri>, Error> {
            list.iter().map(|text| Uri::parse(Family::Peer, text).map_err(|e| error(e.to_string()))).collect()
        };
        let network = Self {
            broadcast_peers: peers(raw.broadcast_peers)?,
            known_peers: peers(raw.known_peers.unwrap_or_default())?,
            tx_source_urls: raw.tx_source_urls,
            quorum_set: unresolved(raw.quorum_set),
        };
        network.check(own_responder_id)?;
        Ok(network)
    }

    fn peers(&self) -> impl Iterator<Item = &Uri> {
        self.broadcast_peers.iter().chain(&self.known_peers)
    }

    fn check(&self, own_responder_id: &str) -> Result<(), Error> {
        if self.peers().any(|peer| peer.responder_id() == own_responder_id) {
            return Err(Error::KnownPeersContainsSelf);
        }
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = self.peers().find(|peer| !seen.insert(peer.responder_id())) {
            return Err(Error::DuplicateResponderId(twice.responder_id()));
        }
        if !self.broadcast_peers.is_empty() && self.tx_source_urls.is_empty() {
            return Err(Error::MissingTxSourceUrls);
        }
        Ok(())
    }

    /// The quorum set with the peers' keys.
    ///
    /// # Errors
    /// If a member is not known or has no key, or a threshold cannot be reached.
    pub fn resolved_quorum_set(&self) -> Result<QuorumSet, Error> {
        let keys: BTreeMap<String, Option<Ed25519Key>> =
            self.peers().map(|peer| (peer.responder_id(), peer.message_key())).collect();
        let set = resolve(&self.quorum_set, &keys)?;
        if set.is_valid() { Ok(set) } else { Err(Error::InvalidQuorumSet) }
    }
}

fn resolve(set: &QuorumSet, keys: &BTreeMap<String, Option<Ed25519Key>>) -> Result<QuorumSet, Error> {
    let mut members = Vec::new();
    for member in set.members() {
        members.push(match member {
            Member::Node(node) => {
                let name = &node.responder_id.name;
                let key = keys.get(name).ok_or_else(|| Error::UnknownQuorumMember(name.clone()))?;
                let public_key = key.ok_or_else(|| Error::MissingMessageKey(name.clone()))?;
                Member::Node(NodeId { responder_id: node.responder_id.clone(), public_key })
            }
            Member::InnerSet(inner) => Member::InnerSet(resolve(inner, keys)?),
        });
    }
    Ok(QuorumSet::new(set.threshold, members))
}
