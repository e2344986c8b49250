//! Messages of `oasis-core.Consensus` that recording needs (`go/consensus/api`, `go/consensus/cometbft/api`).
//!
//! Answers are decoded leniently: fields that recording has no use for are left out.

use base_codec::{Bytes, Codec, cbor};
use base_prims::Hash;
use mkvs_tree::{
    Proof, Root,
    sync::{GetPrefixesRequest, IterateRequest, ProofResponse},
};
use wire_cometbft::abci;
use wire_consensus::genesis::Document;

use crate::{Error, Node};

/// A block without transactions. CBOR: `{height, hash, time, state_root, size?, meta}`.
#[derive(Clone, Debug, Default, Codec)]
pub(crate) struct Block {
    pub(crate) height: i64,
    pub(crate) hash: Hash,
    pub(crate) state_root: Root,
    pub(crate) meta: BlockMeta,
}

/// Both fields are protobuf messages of CometBFT.
#[derive(Clone, Debug, Default, Codec)]
pub(crate) struct BlockMeta {
    pub(crate) header: Bytes,
    pub(crate) last_commit: Bytes,
}

/// Results of a block.
#[derive(Clone, Debug, Default, Codec)]
pub(crate) struct BlockResults {
    pub(crate) height: i64,
    pub(crate) meta: ResultsMeta,
}

/// CometBFT's results without validator and parameter updates.
#[derive(Clone, Debug, Default, Codec)]
pub(crate) struct ResultsMeta {
    pub(crate) txs_results: Option<Vec<TxResult>>,
    pub(crate) begin_block_events: Option<Vec<Event>>,
    pub(crate) end_block_events: Option<Vec<Event>>,
}

/// Result of a transaction.
#[derive(Clone, Debug, Default, Codec)]
pub(crate) struct TxResult {
    #[codec(omitempty)]
    pub(crate) code: u32,
    #[codec(omitempty)]
    pub(crate) data: Bytes,
    #[codec(omitempty)]
    pub(crate) log: String,
    #[codec(omitempty)]
    pub(crate) info: String,
    #[codec(omitempty)]
    pub(crate) gas_wanted: i64,
    #[codec(omitempty)]
    pub(crate) gas_used: i64,
    #[codec(omitempty)]
    pub(crate) events: Vec<Event>,
    #[codec(omitempty)]
    pub(crate) codespace: String,
}

/// An event.
#[derive(Clone, Debug, Default, Codec)]
pub(crate) struct Event {
    #[codec(rename = "type", omitempty)]
    pub(crate) kind: String,
    #[codec(omitempty)]
    pub(crate) attributes: Vec<Attribute>,
}

/// A key and value of an event.
#[derive(Clone, Debug, Default, Codec)]
pub(crate) struct Attribute {
    #[codec(omitempty)]
    pub(crate) key: String,
    #[codec(omitempty)]
    pub(crate) value: String,
    #[codec(omitempty)]
    pub(crate) index: bool,
}

/// Light blocks, validator sets: a height and a protobuf message.
#[derive(Clone, Debug, Default, Codec)]
pub(crate) struct AtHeight {
    pub(crate) height: i64,
    pub(crate) meta: Bytes,
}

impl From<TxResult> for abci::DeliverTx {
    fn from(r: TxResult) -> Self {
        Self {
            code: r.code,
            data: r.data.0,
            log: r.log,
            info: r.info,
            gas_wanted: r.gas_wanted,
            gas_used: r.gas_used,
            events: events(r.events),
            codespace: r.codespace,
        }
    }
}

/// Events as they are stored.
pub(crate) fn events(events: Vec<Event>) -> Vec<abci::Event> {
    let attribute = |a: Attribute| abci::EventAttribute { key: a.key, value: a.value, index: a.index };
    events
        .into_iter()
        .map(|e| abci::Event { kind: e.kind, attributes: e.attributes.into_iter().map(attribute).collect() })
        .collect()
}

/// The typed methods of a [`Node`].
pub(crate) struct Api<'n> {
    node: &'n mut dyn Node,
    /// Calls made.
    pub(crate) calls: u64,
}

impl<'n> Api<'n> {
    pub(crate) fn new(node: &'n mut dyn Node) -> Self {
        Self { node, calls: 0 }
    }

    fn raw(&mut self, method: &'static str, request: &[u8]) -> Result<Vec<u8>, Error> {
        self.calls += 1;
        self.node.call(method, request)
    }

    fn ask<T: cbor::Decode>(&mut self, method: &'static str, request: &[u8]) -> Result<T, Error> {
        let answer = self.raw(method, request)?;
        cbor::from_slice_relaxed(&answer).map_err(|e| Error::Answer { method, reason: e.to_string() })
    }

    fn at<T: cbor::Decode>(&mut self, method: &'static str, height: i64) -> Result<T, Error> {
        self.ask(method, &cbor::to_vec(&height))
    }

    pub(crate) fn genesis(&mut self) -> Result<Document, Error> {
        self.ask("GetGenesisDocument", &[])
    }

    pub(crate) fn chain_context(&mut self) -> Result<String, Error> {
        self.ask("GetChainContext", &[])
    }

    pub(crate) fn latest_height(&mut self) -> Result<i64, Error> {
        self.ask("GetLatestHeight", &[])
    }

    pub(crate) fn last_retained_height(&mut self) -> Result<i64, Error> {
        self.ask("GetLastRetainedHeight", &[])
    }

    pub(crate) fn block(&mut self, height: i64) -> Result<Block, Error> {
        let block: Block = self.at("GetBlock", height)?;
        same_height("GetBlock", height, block.height)?;
        Ok(block)
    }

    pub(crate) fn transactions(&mut self, height: i64) -> Result<Vec<Vec<u8>>, Error> {
        let txs: Option<Vec<Bytes>> = self.at("GetTransactions", height)?;
        Ok(txs.unwrap_or_default().into_iter().map(|tx| tx.0).collect())
    }

    pub(crate) fn block_results(&mut self, height: i64) -> Result<ResultsMeta, Error> {
        let results: BlockResults = self.at("GetBlockResults", height)?;
        same_height("GetBlockResults", height, results.height)?;
        Ok(results.meta)
    }

    pub(crate) fn validators(&mut self, height: i64) -> Result<Vec<u8>, Error> {
        let validators: AtHeight = self.at("GetValidators", height)?;
        same_height("GetValidators", height, validators.height)?;
        Ok(validators.meta.0)
    }

    pub(crate) fn light_block(&mut self, height: i64) -> Result<Vec<u8>, Error> {
        let block: AtHeight = self.at("GetLightBlock", height)?;
        same_height("GetLightBlock", height, block.height)?;
        Ok(block.meta.0)
    }
}

/// Where proofs of state come from.
pub(crate) trait Proofs {
    /// Proves all pairs under some prefixes.
    fn prefixes(&mut self, request: &GetPrefixesRequest) -> Result<Proof, Error>;
    /// Proves pairs in key order.
    fn iterate(&mut self, request: &IterateRequest) -> Result<Proof, Error>;
}

impl Proofs for Api<'_> {
    fn prefixes(&mut self, request: &GetPrefixesRequest) -> Result<Proof, Error> {
        let answer: ProofResponse = self.ask("StateSyncGetPrefixes", &cbor::to_vec(request))?;
        Ok(answer.proof)
    }

    fn iterate(&mut self, request: &IterateRequest) -> Result<Proof, Error> {
        let answer: ProofResponse = self.ask("StateSyncIterate", &cbor::to_vec(request))?;
        Ok(answer.proof)
    }
}

fn same_height(method: &'static str, asked: i64, got: i64) -> Result<(), Error> {
    if asked == got {
        return Ok(());
    }
    Err(Error::Answer { method, reason: format!("height {got} instead of {asked}") })
}
