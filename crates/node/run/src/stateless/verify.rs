//! Whether what a provider says follows from verified headers.
//!
//! Reference: `go/consensus/cometbft/stateless/core.go`.

use base_codec::{Bytes, cbor};
use base_prims::{Hash, Namespace};
use comet_chain::app::{self, BlockResults};
use comet_chain::exec::results_hash;
use comet_chain::light::LightBlock;
use comet_chain::validators::ValidatorSet;
use mkvs_tree::{Root, RootType};
use node_rpc::types;
use wire_cometbft::block::{Block, Commit, Data, Header};
use wire_cometbft::codec::Message as _;
use wire_cometbft::params::ConsensusParams;
use wire_cometbft::validators::ValidatorSet as WireValidators;
use wire_consensus::meta::BlockMetadata;
use wire_consensus::transaction::{SignedTransaction, Transaction};

/// What a provider says does not follow from verified headers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lie {
    /// It is of another height.
    #[error("of height {got} instead of {asked}")]
    Height {
        /// What was asked for.
        asked: i64,
        /// What came.
        got: i64,
    },
    /// It cannot be decoded.
    #[error("malformed {what}: {reason}")]
    Malformed {
        /// What.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// It is not what the header says.
    #[error("{0} differs from the verified header's")]
    Differs(&'static str),
    /// There are not as many results as transactions.
    #[error("{results} results of {txs} transactions")]
    Count {
        /// Results.
        results: usize,
        /// Transactions.
        txs: usize,
    },
    /// A proof of state does not hold.
    #[error("proof of state: {0}")]
    Proof(String),
}

fn malformed(what: &'static str, reason: &dyn std::fmt::Display) -> Lie {
    Lie::Malformed { what, reason: reason.to_string() }
}

fn same_height(asked: i64, got: i64) -> Result<(), Lie> {
    if got == asked { Ok(()) } else { Err(Lie::Height { asked, got }) }
}

fn same<T: PartialEq>(what: &'static str, got: T, verified: T) -> Result<(), Lie> {
    if got == verified { Ok(()) } else { Err(Lie::Differs(what)) }
}

/// The state root before the block.
fn state_before(header: &Header) -> Option<Hash> {
    if header.app_hash.is_empty() {
        return Some(Hash::EMPTY);
    }
    <[u8; 32]>::try_from(header.app_hash.as_slice()).ok().map(Hash::new)
}

/// A block's commit for the one before, out of an answer of which everything but the size is verified.
pub(crate) fn block(answer: &types::Block, light: &LightBlock) -> Result<Commit, Lie> {
    let header = &light.header;
    same_height(header.height, answer.height)?;
    same("hash", Some(answer.hash), header.hash().map(Hash::new))?;
    same("time", answer.time, types::Timestamp::whole(header.time))?;
    let root = state_before(header).map(|hash| Root {
        namespace: Namespace::ZERO,
        version: header.height.saturating_sub(1).unsigned_abs(),
        root_type: RootType::STATE,
        hash,
    });
    same("state root", Some(answer.state_root), root)?;
    let meta: types::BlockMeta = answer.meta.decode_as().map_err(|error| malformed("block", &error))?;
    same("header", meta.header.as_slice(), &header.encode_to_vec())?;
    let commit = Commit::decode(&meta.last_commit).map_err(|error| malformed("last commit", &error))?;
    same("last commit", commit.hash().as_slice(), &header.last_commit_hash)?;
    same("block of the last commit", &commit.block_id, &header.last_block_id)?;
    Ok(commit)
}

/// A block's transactions.
pub(crate) fn transactions(answer: Vec<Bytes>, light: &LightBlock) -> Result<Vec<Vec<u8>>, Lie> {
    let data = Data { txs: answer.into_iter().map(|tx| tx.0).collect() };
    same("list of transactions", data.hash().as_slice(), &light.header.data_hash)?;
    Ok(data.txs)
}

/// The block that these make. Evidence, which nobody serves, is not in it.
pub(crate) fn assemble(light: &LightBlock, commit: Commit, txs: Vec<Vec<u8>>) -> Block {
    Block {
        header: light.header.clone(),
        data: Data { txs },
        last_commit: (light.header.height > 0).then_some(commit),
        ..Block::default()
    }
}

/// A block's results. `hash` is that of the next header, which covers all but events and texts; without a next header
/// nothing is verified but the number.
pub(crate) fn results(
    answer: &types::BlockResults,
    height: i64,
    txs: usize,
    hash: Option<&[u8]>,
) -> Result<BlockResults, Lie> {
    same_height(height, answer.height)?;
    let meta: types::BlockResultsMeta = answer.meta.decode_as().map_err(|error| malformed("results", &error))?;
    let tx_results: Vec<_> = meta.txs_results.into_iter().flatten().map(result).collect();
    if tx_results.len() != txs {
        return Err(Lie::Count { results: tx_results.len(), txs });
    }
    if let Some(hash) = hash {
        same("hash of the results", results_hash(&tx_results).as_slice(), hash)?;
    }
    Ok(BlockResults {
        begin_events: meta.begin_block_events.into_iter().flatten().map(event).collect(),
        tx_results,
        end_events: meta.end_block_events.into_iter().flatten().map(event).collect(),
        ..BlockResults::default()
    })
}

fn result(r: types::TxResult) -> app::TxResult {
    app::TxResult {
        code: r.code,
        data: r.data.0,
        log: r.log,
        info: r.info,
        gas_wanted: r.gas_wanted,
        gas_used: r.gas_used,
        events: r.events.into_iter().map(event).collect(),
        codespace: r.codespace,
    }
}

fn event(event: types::Event) -> app::Event {
    let attributes = event.attributes.into_iter();
    app::Event {
        kind: event.kind,
        attributes: attributes.map(|a| app::EventAttribute { key: a.key, value: a.value, index: a.index }).collect(),
    }
}

/// CometBFT's parameters of a height.
pub(crate) fn params(answer: &types::Parameters, light: &LightBlock) -> Result<ConsensusParams, Lie> {
    same_height(light.header.height, answer.height)?;
    let params = ConsensusParams::decode(&answer.meta).map_err(|error| malformed("parameters", &error))?;
    same("hash of the parameters", params.hash().as_slice(), &light.header.consensus_hash)?;
    Ok(params)
}

/// The validators of the height after a verified one.
pub(crate) fn next_validators(answer: &types::AtHeight, light: &LightBlock) -> Result<ValidatorSet, Lie> {
    same_height(light.header.height.saturating_add(1), answer.height)?;
    let wire = WireValidators::decode(&answer.meta).map_err(|error| malformed("validators", &error))?;
    let set = ValidatorSet::from_wire(&wire).map_err(|error| malformed("validators", &error))?;
    same("hash of the next validators", set.hash().as_slice(), &light.header.next_validators_hash)?;
    Ok(set)
}

/// The state root after a block: its last transaction, which the validators have checked, names it.
pub(crate) fn state_after(txs: &[Vec<u8>]) -> Result<Hash, Lie> {
    let wrong = |error: &dyn std::fmt::Display| malformed("block metadata", error);
    let last = txs.last().ok_or_else(|| wrong(&"there are no transactions"))?;
    let signed: SignedTransaction = cbor::from_slice(last).map_err(|error| wrong(&error))?;
    let tx: Transaction = cbor::from_slice(signed.0.blob()).map_err(|error| wrong(&error))?;
    if tx.method != wire_consensus::meta::METHOD_META {
        return Err(wrong(&"the last transaction is another one"));
    }
    let meta: BlockMetadata = tx.body.decode_as().map_err(|error| wrong(&error))?;
    Ok(meta.state_root)
}
