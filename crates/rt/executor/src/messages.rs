//! What compute nodes and key managers say to one another in the peer-to-peer network: gossip, and remote calls.
//!
//! Names of topics and protocols are in `p2p_net::ids`, frames and errors of calls in `p2p_net::rpc`.

use base_codec::{Bytes, Codec, cbor};
use base_prims::{Epoch, Hash};
use wire_consensus::roothash::Proposal;
use wire_runtime::enclave_rpc::Kind;

use crate::txpool::Pool;

/// A message on a committee's topic. CBOR `{epoch?, Proposal?}`. Source: `go/p2p/api/types.go`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct CommitteeMessage {
    /// Epoch of the committee.
    #[codec(omitempty)]
    pub epoch: Epoch,
    /// A proposal.
    #[codec(omitempty, rename = "Proposal")]
    pub proposal: Option<Proposal>,
}

/// A message on a transaction topic: the transaction as a CBOR byte string. Source: `go/p2p/api/types.go`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxMessage(pub Vec<u8>);

impl TxMessage {
    /// The message's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::to_vec(&Bytes(self.0.clone()))
    }

    /// Reads a message.
    ///
    /// # Errors
    /// If it is no byte string.
    pub fn from_bytes(message: &[u8]) -> Result<Self, cbor::Error> {
        cbor::from_slice::<Bytes>(message).map(|bytes| Self(bytes.0))
    }
}

/// The protocol `txsync`: transactions by hash. Source: `go/worker/common/p2p/txsync`.
pub mod txsync {
    use std::collections::BTreeSet;

    use super::{Bytes, Codec, Hash, Pool};
    use crate::txpool::Tx;

    /// Method: [`GetTxsRequest`] to [`GetTxsResponse`].
    pub const GET_TXS: &str = "GetTxs";
    /// Most transactions of a call; more hashes are passed over.
    pub const MAX_TXS: usize = 128;
    /// Most bytes of an answer's transactions, so that it fits a frame.
    pub const MAX_BYTES: usize = 48 << 20;

    /// Asks for transactions.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
    #[codec(cbor_only)]
    pub struct GetTxsRequest {
        /// Their hashes.
        #[codec(rename = "txs")]
        pub hashes: Option<Vec<Hash>>,
    }

    /// Those that are known, in any order.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
    #[codec(cbor_only)]
    pub struct GetTxsResponse {
        /// The transactions.
        #[codec(omitempty)]
        pub txs: Vec<Bytes>,
    }

    /// Answers from a pool.
    pub fn answer(pool: &Pool, request: &GetTxsRequest) -> GetTxsResponse {
        let mut bytes = 0usize;
        let hashes = request.hashes.iter().flatten().take(MAX_TXS);
        let found = hashes.filter_map(|hash| pool.get(hash)).take_while(|tx| {
            bytes = bytes.saturating_add(tx.data.len());
            bytes <= MAX_BYTES
        });
        GetTxsResponse { txs: found.map(|tx| Bytes(tx.data.to_vec())).collect() }
    }

    /// The answer was not to the question.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
    pub enum Unasked {
        /// More transactions than hashes.
        #[error("{got} transactions to {asked} hashes")]
        TooMany {
            /// Hashes.
            asked: usize,
            /// Transactions.
            got: usize,
        },
        /// A transaction that was not asked for.
        #[error("transaction {0} was not asked for")]
        Other(Hash),
    }

    /// The transactions of an answer, each once. A peer whose answer is refused failed.
    ///
    /// # Errors
    /// If there is anything in it that was not asked for.
    pub fn verify(request: &GetTxsRequest, response: GetTxsResponse) -> Result<Vec<Tx>, Unasked> {
        let asked: BTreeSet<&Hash> = request.hashes.iter().flatten().collect();
        let (got, max) = (response.txs.len(), request.hashes.as_ref().map_or(0, Vec::len));
        if got > max {
            return Err(Unasked::TooMany { asked: max, got });
        }
        let mut seen = BTreeSet::new();
        let mut out = Vec::new();
        for data in response.txs {
            let tx = Tx::new(data.0);
            if !asked.contains(&tx.hash) {
                return Err(Unasked::Other(tx.hash));
            }
            if seen.insert(tx.hash) {
                out.push(tx);
            }
        }
        Ok(out)
    }
}

/// The protocol `keymanager`: calls into key manager enclaves. Source: `go/worker/keymanager/p2p`.
pub mod keymanager {
    use std::time::Duration;

    use super::{Bytes, Codec, Kind};

    /// Method: [`CallEnclaveRequest`] to [`CallEnclaveResponse`].
    pub const CALL_ENCLAVE: &str = "CallEnclave";
    /// How long an answer may take. Source: `MethodCallEnclaveTimeout`.
    pub const CALL_TIME: Duration = Duration::from_secs(3);
    /// Most bytes of a call or an answer: what a runtime takes in a frame.
    pub const MAX_BYTES: usize = 32 << 20;

    /// A frame or request for the enclave.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
    #[codec(cbor_only)]
    pub struct CallEnclaveRequest {
        /// The frame.
        pub data: Option<Bytes>,
        /// How it travels.
        #[codec(omitempty)]
        pub kind: Kind,
    }

    /// The enclave's answer.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
    #[codec(cbor_only)]
    pub struct CallEnclaveResponse {
        /// The frame.
        pub data: Option<Bytes>,
    }
}

#[cfg(test)]
mod tests;
