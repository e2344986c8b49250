//! Messages between nodes: CBOR payloads and their digests (reference: `mc-peers`).

use merlin::Transcript;
use prost::Message;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bytes::{Ed25519Sig, Hash, TxHash};
use crate::digest::{Digestible, Label, aggregate, digest32, finish, variant};
use crate::mint::{MintConfigTx, MintTx};
use crate::quorum::{NodeId, ResponderId};
use crate::scp::Msg;

/// How deep a payload may nest; quorum sets are the only recursive part.
const MAX_CBOR_DEPTH: usize = 128;

/// Why a payload does not decode.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not CBOR of the expected shape.
    #[error("payload does not decode: {0}")]
    Decode(String),
    /// Bytes after the value.
    #[error("{0} bytes after the payload")]
    Trailing(usize),
}

/// What nodes agree on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConsensusValue {
    /// A transaction by its hash.
    TxHash(TxHash),
    /// A change of mint configurations.
    MintConfigTx(MintConfigTx),
    /// A mint.
    MintTx(MintTx),
}

impl Digestible for ConsensusValue {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        const NAME: &str = "ConsensusValue";
        match self {
            Self::TxHash(hash) => {
                variant(context, NAME, 0, transcript);
                hash.digest_under(b"TxHash", transcript);
            }
            Self::MintConfigTx(tx) => {
                variant(context, NAME, 1, transcript);
                tx.digest_under(b"MintConfigTx", transcript);
            }
            Self::MintTx(tx) => {
                variant(context, NAME, 2, transcript);
                tx.digest_under(b"MintTx", transcript);
            }
        }
    }
}

/// A signed message of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsensusMsg {
    /// The statement.
    pub scp_msg: Msg<ConsensusValue>,
    /// The sender's last block.
    pub prev_block_id: Hash,
    /// Of the sender over [`ConsensusMsg::signed_digest`].
    pub signature: Ed25519Sig,
}

impl ConsensusMsg {
    /// What the sender signs: a transcript labelled `peer-message` of statement and block id.
    pub fn signed_digest(&self) -> [u8; 32] {
        let mut transcript = Transcript::new(b"peer-message");
        self.scp_msg.digest_under(b"scp_msg", &mut transcript);
        self.prev_block_id.digest_under(b"prev_block_id", &mut transcript);
        finish(transcript)
    }

    /// By which a message is known that was seen before: the digest of it all under `broadcast`.
    pub fn broadcast_digest(&self) -> [u8; 32] {
        digest32(b"broadcast", self)
    }

    /// The payload.
    pub fn to_cbor(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// If the bytes are not one message.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        from_cbor(bytes)
    }
}

impl Digestible for ConsensusMsg {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "ConsensusMsg", transcript, |fields| {
            fields
                .field("scp_msg", &self.scp_msg)
                .field("prev_block_id", &self.prev_block_id)
                .field("signature", &self.signature);
        });
    }
}

/// A message as the peer service carries it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConsensusMsgEnvelope {
    /// Who delivers it.
    #[prost(string, tag = "1")]
    pub from_responder_id: String,
    /// A [`ConsensusMsg`] in CBOR.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// What goes unencrypted, but authenticated, with transactions that nodes pass on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxProposeAad {
    /// The node that a client gave them to.
    pub origin_node: NodeId,
    /// The node that passes them on.
    pub relayed_by: ResponderId,
}

impl TxProposeAad {
    /// The bytes.
    pub fn to_cbor(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// If they are not one such value.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        from_cbor(bytes)
    }
}

fn to_cbor<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).expect("a vector takes all bytes, and these types always serialize");
    out
}

fn from_cbor<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<T, Error> {
    let value = ciborium::de::from_reader_with_recursion_limit(&mut bytes, MAX_CBOR_DEPTH)
        .map_err(|e| Error::Decode(e.to_string()))?;
    if bytes.is_empty() { Ok(value) } else { Err(Error::Trailing(bytes.len())) }
}
