//! Where the runtime stands: what is read of the consensus layer with each runtime block.

use std::sync::Arc;
use std::time::Duration;

use apps_committees::{beacon, registry, roothash};
use base_prims::{Namespace, PublicKey};
use node_workers::{Blocks, ChainError};
use rt_executor::round::{Members, Round};
use rt_host::calls::ChainPosition;
use rt_host::services::Consensus;
use wire_consensus::roothash::{AnnotatedBlock, Event, IncomingMessage, RoundResults, RuntimeState};
use wire_consensus::scheduler::Committee;

use crate::status::Liveness;

/// How often a block's light block and state are asked for before the round is left to others.
const TRIES: u32 = 8;
/// The pause in between.
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// Everything that belongs to a runtime block.
#[derive(Debug)]
pub(crate) struct Position {
    /// What calls to the runtime say of the chain.
    pub(crate) chain: ChainPosition,
    /// Consensus height of the block.
    pub(crate) height: i64,
    /// Results of the last normal round's messages.
    pub(crate) results: RoundResults,
    /// The queue of incoming messages.
    pub(crate) incoming: Vec<IncomingMessage>,
    /// The round that begins.
    pub(crate) round: Round,
    /// Whether the runtime is suspended.
    pub(crate) suspended: bool,
    /// Liveness of the node, if it is a member of the committee.
    pub(crate) liveness: Option<Liveness>,
    /// A discrepancy that the round has already: height at which it was read, and rank.
    pub(crate) discrepancy: Option<(u64, u64)>,
}

/// Why a round cannot be taken part in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PositionError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("failed to get light block: {0}")]
    Light(String),
    #[error("the history has no block at height {0}")]
    NoBlock(i64),
    #[error("reading was given up: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Reads all of it, again for a while if something is not there yet.
pub(crate) async fn prepare(
    chain: Arc<dyn Blocks>,
    light_blocks: Arc<dyn Consensus>,
    runtime: Namespace,
    node: PublicKey,
    block: AnnotatedBlock,
) -> Result<Box<Position>, PositionError> {
    let mut tries = 0;
    loop {
        let error = match attempt(&chain, &*light_blocks, runtime, node, block.clone()).await {
            Ok(position) => return Ok(position),
            Err(error) => error,
        };
        tries += 1;
        if tries >= TRIES {
            return Err(error);
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

async fn attempt(
    chain: &Arc<dyn Blocks>,
    light_blocks: &dyn Consensus,
    runtime: Namespace,
    node: PublicKey,
    block: AnnotatedBlock,
) -> Result<Box<Position>, PositionError> {
    let height = block.consensus_height;
    let chain = Arc::clone(chain);
    let reading = tokio::task::spawn_blocking(move || read(&*chain, &runtime, &node, block));
    let mut position = reading.await??;
    let at = u64::try_from(height).unwrap_or(0);
    let light = light_blocks.light_block(at).await.map_err(|e| PositionError::Light(e.to_string()))?;
    position.chain.consensus_block = light;
    Ok(position)
}

/// Reads what is in the state.
fn read(
    chain: &dyn Blocks,
    runtime: &Namespace,
    node: &PublicKey,
    annotated: AnnotatedBlock,
) -> Result<Box<Position>, PositionError> {
    let height = annotated.consensus_height;
    let block = annotated.block.ok_or(PositionError::NoBlock(height))?;
    let failed = |e: apps_core::Error| PositionError::Chain(e.into());
    let state = chain.state(height)?;
    let rt = roothash::query::runtime_state(&*state, runtime).map_err(failed)?;
    let results = roothash::query::last_round_results(&*state, runtime).map_err(failed)?;
    let incoming = roothash::query::incoming_message_queue(&*state, runtime, 0, 0).map_err(failed)?;
    let (epoch, _) = beacon::state::epoch(&*state).map_err(failed)?;
    let committee = rt.committee.as_ref().filter(|_| !rt.suspended);
    let mut members = None;
    if let Some(committee) = committee {
        let mut nodes = Vec::new();
        for member in committee.members() {
            match registry::query::node(&*state, &member.public_key) {
                Ok(node) => nodes.push(node),
                // It expired: a member of whom nothing is known counts for nothing.
                Err(error) if error.is(&wire_consensus::errors::registry::NO_SUCH_NODE) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        members = Some(Arc::new(Members::new(committee.clone(), nodes)));
    }
    let liveness = committee.and_then(|committee| liveness(&rt, committee, node));
    let max_messages = rt.runtime.executor.max_messages;
    let round = Round {
        block: block.clone(),
        height: u64::try_from(height).unwrap_or(0),
        committee: members,
        last_normal_round: rt.last_normal_round,
        genesis_round: rt.genesis_block.header.round,
        has_message_results: !results.messages.is_empty(),
        has_incoming_messages: !incoming.is_empty(),
        descriptor: rt.runtime,
    };
    Ok(Box::new(Position {
        discrepancy: discrepancy(chain, runtime, &round)?,
        chain: ChainPosition { block, epoch, max_messages, ..ChainPosition::default() },
        height,
        results,
        incoming,
        round,
        suspended: rt.suspended,
        liveness,
    }))
}

/// A node that comes late finds the discrepancy in the newest state; its event has passed.
fn discrepancy(chain: &dyn Blocks, runtime: &Namespace, round: &Round) -> Result<Option<(u64, u64)>, PositionError> {
    let newest = chain.latest_height();
    let state = chain.state(newest)?;
    let rt = roothash::query::runtime_state(&*state, runtime).map_err(ChainError::from)?;
    let found =
        rt.commitment_pool.filter(|pool| pool.discrepancy && rt.last_block.header.round == round.block.header.round);
    Ok(found.map(|pool| (u64::try_from(newest).unwrap_or(0), pool.highest_rank)))
}

/// What the consensus layer says of the node's places in the committee.
fn liveness(rt: &RuntimeState, committee: &Committee, node: &PublicKey) -> Option<Liveness> {
    let stats = rt.liveness_stats.as_ref()?;
    let mut places = committee.members().iter().enumerate().filter(|(_, m)| m.public_key == *node).peekable();
    places.peek()?;
    let mut out = Liveness { total_rounds: stats.total_rounds, ..Liveness::default() };
    for (place, _) in places {
        let at = |list: &[u64]| list.get(place).copied().unwrap_or(0);
        out.live_rounds = out.live_rounds.saturating_add(at(&stats.live_rounds));
        out.finalized_proposals = out.finalized_proposals.saturating_add(at(&stats.finalized_proposals));
        out.missed_proposals = out.missed_proposals.saturating_add(at(&stats.missed_proposals));
    }
    Some(out)
}

/// What a consensus block brought.
#[derive(Debug)]
pub(crate) struct Height {
    /// Whether the next block begins an epoch.
    pub(crate) epoch_change_next: bool,
    /// Events of this runtime.
    pub(crate) events: Vec<Event>,
}

/// Reads what a consensus block brought. Reads disk.
pub(crate) fn read_height(chain: &dyn Blocks, runtime: &Namespace, height: i64) -> Result<Height, ChainError> {
    let mut events = chain.roothash_events(height)?;
    events.retain(|event| event.runtime_id == *runtime);
    let state = chain.state(height)?;
    let (epoch, _) = beacon::state::epoch(&*state)?;
    let next = beacon::query::next_epoch(&*state, height)?;
    Ok(Height { epoch_change_next: next != epoch, events })
}

#[cfg(test)]
mod tests {
    use wire_consensus::roothash::LivenessStatistics;
    use wire_consensus::scheduler::{CommitteeNode, Role};

    use super::*;

    #[test]
    fn liveness_adds_up_over_all_places() {
        let key = |n: u8| PublicKey::new([n; 32]);
        let member = |n: u8, role| CommitteeNode { role, public_key: key(n) };
        let members = vec![member(1, Role::WORKER), member(2, Role::WORKER), member(1, Role::BACKUP_WORKER)];
        let committee = Committee { members: Some(members), ..Committee::default() };
        let mut rt = RuntimeState::default();
        assert_eq!(liveness(&rt, &committee, &key(1)), None, "no statistics yet");
        rt.liveness_stats = Some(LivenessStatistics {
            total_rounds: 10,
            live_rounds: vec![3, 5, 4],
            finalized_proposals: vec![1, 2],
            missed_proposals: vec![0, 7, 2],
        });
        let one = liveness(&rt, &committee, &key(1)).unwrap();
        let wanted = Liveness { total_rounds: 10, live_rounds: 7, finalized_proposals: 1, missed_proposals: 2 };
        assert_eq!(one, wanted);
        assert_eq!(liveness(&rt, &committee, &key(3)), None, "no member");
    }
}
