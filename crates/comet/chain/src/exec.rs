//! From blocks to what the application is told, and from its results to what is hashed and stored.
//!
//! Reference: `cometbft:state/execution.go`, `types/protobuf.go`, `types/evidence.go` (`ABCI`).

use wire_cometbft::abci as wire;
use wire_cometbft::block::{BasicError, Block, Commit};
use wire_cometbft::evidence::{Evidence, EvidenceSum};
use wire_cometbft::keys::{Address, PublicKey};
use wire_cometbft::merkle::Hash;

use crate::app::{
    BlockResults, Event, EventAttribute, LastCommitInfo, Misbehavior, MisbehaviorKind, ProposedBlock, TxResult,
    ValidatorUpdate, VoteInfo,
};
use crate::commit::CommitError;
use crate::validators::ValidatorSet;

/// Who signed the last block: validators of the height before in order, and whether their vote (for the block or for
/// none) is there. Empty for the first block.
pub fn last_commit_info(commit: &Commit, last_validators: &ValidatorSet) -> Result<LastCommitInfo, CommitError> {
    if commit.signatures.len() != last_validators.len() {
        let (expected, got) = (last_validators.len(), commit.signatures.len());
        return Err(CommitError::SignatureCount { expected, got });
    }
    let votes = last_validators
        .validators()
        .iter()
        .zip(&commit.signatures)
        .map(|(validator, entry)| VoteInfo {
            address: validator.address,
            power: validator.voting_power,
            signed_last_block: !entry.is_absent(),
        })
        .collect();
    Ok(LastCommitInfo { round: commit.round, votes })
}

/// What the application is told of evidence: one item per validator at fault.
pub fn misbehavior(evidence: &[Evidence]) -> Vec<Misbehavior> {
    let mut items = Vec::new();
    for evidence in evidence {
        match &evidence.sum {
            Some(EvidenceSum::DuplicateVote(duplicate)) => {
                let Some(vote) = &duplicate.vote_a else {
                    continue;
                };
                items.push(Misbehavior {
                    kind: MisbehaviorKind::DuplicateVote,
                    address: Address::from_slice(&vote.validator_address).unwrap_or_default(),
                    power: duplicate.validator_power,
                    height: vote.height,
                    time: duplicate.timestamp,
                    total_voting_power: duplicate.total_voting_power,
                });
            }
            Some(EvidenceSum::LightClientAttack(attack)) => {
                items.extend(attack.byzantine_validators.iter().map(|validator| Misbehavior {
                    kind: MisbehaviorKind::LightClientAttack,
                    address: Address::from_slice(&validator.address).unwrap_or_default(),
                    power: validator.voting_power,
                    height: attack.common_height,
                    time: attack.timestamp,
                    total_voting_power: attack.total_voting_power,
                }));
            }
            None => {}
        }
    }
    items
}

/// Why a block cannot be handed to the application; never so for one that was validated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandOverError {
    /// The block breaks a stateless rule.
    #[error(transparent)]
    Basic(#[from] BasicError),
    /// The last commit does not fit the validators of the height before.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// A block as the application sees it; `last_validators` are those of the height before.
pub fn proposed_block(
    block: &Block,
    last_validators: &ValidatorSet,
    initial_height: i64,
) -> Result<ProposedBlock, HandOverError> {
    let header = &block.header;
    let last_commit = if header.height == initial_height {
        LastCommitInfo::default()
    } else {
        let commit = block.last_commit.as_ref().ok_or(BasicError::Missing("last commit"))?;
        last_commit_info(commit, last_validators)?
    };
    let proposer_address =
        Address::from_slice(&header.proposer_address).ok_or(BasicError::AddressSize(header.proposer_address.len()))?;
    Ok(ProposedBlock {
        hash: block.hash().map_or_else(Vec::new, |hash| hash.to_vec()),
        header: header.clone(),
        height: header.height,
        time: header.time,
        proposer_address,
        txs: block.data.txs.clone(),
        last_commit,
        misbehavior: misbehavior(&block.evidence.evidence),
    })
}

/// The next header's `last_results_hash`.
pub fn results_hash(results: &[TxResult]) -> Hash {
    let leaves: Vec<wire::DeliverTx> = results
        .iter()
        .map(|result| wire::DeliverTx {
            code: result.code,
            data: result.data.clone(),
            gas_wanted: result.gas_wanted,
            gas_used: result.gas_used,
            ..wire::DeliverTx::default()
        })
        .collect();
    wire::results_hash(&leaves)
}

fn events_to_wire(events: &[Event]) -> Vec<wire::Event> {
    let attribute = |attribute: &EventAttribute| wire::EventAttribute {
        key: attribute.key.clone(),
        value: attribute.value.clone(),
        index: attribute.index,
    };
    let event = |event: &Event| wire::Event {
        kind: event.kind.clone(),
        attributes: event.attributes.iter().map(attribute).collect(),
    };
    events.iter().map(event).collect()
}

fn events_from_wire(events: Vec<wire::Event>) -> Vec<Event> {
    let attribute = |attribute: wire::EventAttribute| EventAttribute {
        key: attribute.key,
        value: attribute.value,
        index: attribute.index,
    };
    let event = |event: wire::Event| Event {
        kind: event.kind,
        attributes: event.attributes.into_iter().map(attribute).collect(),
    };
    events.into_iter().map(event).collect()
}

/// The message by which results are stored.
pub fn results_to_wire(results: &BlockResults) -> wire::AbciResponses {
    let tx = |result: &TxResult| wire::DeliverTx {
        code: result.code,
        data: result.data.clone(),
        log: result.log.clone(),
        info: result.info.clone(),
        gas_wanted: result.gas_wanted,
        gas_used: result.gas_used,
        events: events_to_wire(&result.events),
        codespace: result.codespace.clone(),
    };
    let update = |update: &ValidatorUpdate| wire::ValidatorUpdate {
        pub_key: PublicKey::ed25519(&update.pub_key),
        power: update.power,
    };
    wire::AbciResponses {
        deliver_txs: results.tx_results.iter().map(tx).collect(),
        end_block: Some(wire::EndBlock {
            validator_updates: results.validator_updates.iter().map(update).collect(),
            consensus_param_updates: results.consensus_param_updates.clone(),
            events: events_to_wire(&results.end_events),
        }),
        begin_block: Some(wire::BeginBlock { events: events_to_wire(&results.begin_events) }),
    }
}

/// Results from the message by which they are stored; `None` if a validator's key is not Ed25519.
pub fn results_from_wire(responses: wire::AbciResponses) -> Option<BlockResults> {
    let tx = |result: wire::DeliverTx| TxResult {
        code: result.code,
        data: result.data,
        log: result.log,
        info: result.info,
        gas_wanted: result.gas_wanted,
        gas_used: result.gas_used,
        events: events_from_wire(result.events),
        codespace: result.codespace,
    };
    let update = |update: wire::ValidatorUpdate| {
        Some(ValidatorUpdate { pub_key: update.pub_key.as_ed25519()?, power: update.power })
    };
    let end_block = responses.end_block.unwrap_or_default();
    Some(BlockResults {
        begin_events: events_from_wire(responses.begin_block.unwrap_or_default().events),
        tx_results: responses.deliver_txs.into_iter().map(tx).collect(),
        end_events: events_from_wire(end_block.events),
        validator_updates: end_block.validator_updates.into_iter().map(update).collect::<Option<_>>()?,
        consensus_param_updates: end_block.consensus_param_updates,
    })
}
