//! Results of block execution: messages and the hash over them.
//!
//! Reference: `cometbft:proto/tendermint/abci/types.proto`, `types/results.go`, `proto/tendermint/state/types.proto`.

use crate::codec::{Message, messages};
use crate::keys::PublicKey;
use crate::merkle::{self, Hash};
use crate::params::ConsensusParamsUpdate;

messages! {
    /// One key and value of an event.
    pub struct EventAttribute {
        /// Key.
        1 => key: String,
        /// Value.
        2 => value: String,
        /// Whether an indexer should index it.
        3 => index: bool,
    }

    /// An event emitted during execution.
    pub struct Event {
        /// Type.
        1 => kind: String,
        /// Attributes in order.
        2 => attributes: Vec<EventAttribute>,
    }

    /// Result of one transaction (`ResponseDeliverTx`).
    pub struct DeliverTx [at most 1 << 23] {
        /// 0: success.
        1 => code: u32,
        /// Result data.
        2 => data: Vec<u8>,
        /// Message for humans; not hashed.
        3 => log: String,
        /// More text; not hashed.
        4 => info: String,
        /// Gas asked for.
        5 => gas_wanted: i64,
        /// Gas used.
        6 => gas_used: i64,
        /// Events; not hashed.
        7 => events: Vec<Event>,
        /// Namespace of the code; not hashed.
        8 => codespace: String,
    }

    /// Result of beginning a block (`ResponseBeginBlock`).
    pub struct BeginBlock {
        /// Events.
        1 => events: Vec<Event>,
    }

    /// A validator's new power; 0 removes it.
    pub struct ValidatorUpdate [at most 10_000] {
        /// Consensus key.
        1 => pub_key: PublicKey,
        /// Voting power.
        2 => power: i64,
    }

    /// Result of ending a block (`ResponseEndBlock`).
    pub struct EndBlock {
        /// Changes of the validator set.
        1 => validator_updates: Vec<ValidatorUpdate>,
        /// Changes of the parameters.
        2 => consensus_param_updates: Option<ConsensusParamsUpdate>,
        /// Events.
        3 => events: Vec<Event>,
    }

    /// All results of a block (`tendermint.state.ABCIResponses`).
    pub struct AbciResponses {
        /// One result per transaction.
        1 => deliver_txs: Vec<DeliverTx>,
        /// Result of the end.
        2 => end_block: Option<EndBlock>,
        /// Result of the beginning.
        3 => begin_block: Option<BeginBlock>,
    }

    /// The results of a height as state stores keep them (`tendermint.state.ABCIResponsesInfo`).
    pub struct AbciResponsesInfo {
        /// Results.
        1 => abci_responses: Option<AbciResponses>,
        /// Height.
        2 => height: i64,
    }

    /// A snapshot as applications offer it (`tendermint.abci.Snapshot`).
    pub struct Snapshot {
        /// Height.
        1 => height: u64,
        /// Format.
        2 => format: u32,
        /// Number of chunks.
        3 => chunks: u32,
        /// Hash that tells snapshots apart.
        4 => hash: Vec<u8>,
        /// Whatever the application needs to restore it.
        5 => metadata: Vec<u8>,
    }
}

impl DeliverTx {
    /// The leaf for the results' hash: code, data and gas alone.
    pub fn hash_leaf(&self) -> Vec<u8> {
        Self {
            code: self.code,
            data: self.data.clone(),
            gas_wanted: self.gas_wanted,
            gas_used: self.gas_used,
            ..Self::default()
        }
        .encode_to_vec()
    }
}

/// The next header's `last_results_hash`: root over the deterministic part of each result.
pub fn results_hash(results: &[DeliverTx]) -> Hash {
    merkle::root(&results.iter().map(DeliverTx::hash_leaf).collect::<Vec<_>>())
}
