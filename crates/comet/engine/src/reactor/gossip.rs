//! The tasks that send each peer what it lacks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use comet_core::RoundState;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use wire_cometbft::Time;
use wire_cometbft::block::{Commit, PartSetHeader};
use wire_cometbft::consensus::{BlockPart, ConsensusMessageSum as Sum, ProposalMessage, VoteMessage, VoteSetMaj23};
use wire_cometbft::part_set::Part;
use wire_cometbft::vote::{SignedMsgType, Vote};

use super::pick::{NextData, NextVote, claims, next_data, next_vote};
use super::{CLAIM_INTERVAL, DATA_CHANNEL, FALLBACK, PACE, PeerEntry, STATE_CHANNEL, Shared, VOTE_CHANNEL, encode};
use crate::clock::now;
use crate::peer_state::VoteSource;
use crate::random::Random;

/// Waits for something to change, here or at the peer.
async fn change(place: &mut watch::Receiver<Option<Arc<RoundState>>>, woken: &Notify) {
    sleep(PACE).await;
    let either = async {
        tokio::select! {
            changed = place.changed() => if changed.is_err() { std::future::pending().await },
            () = woken.notified() => {}
        }
    };
    let _ = timeout(FALLBACK, either).await;
}

/// Sends proposals and block parts as long as the peer is there.
pub(super) async fn data(shared: Arc<Shared>, entry: Arc<PeerEntry>) {
    let stop = entry.stop.clone();
    let work = async {
        let mut place = shared.place.subscribe();
        let mut random = Random::new(1);
        loop {
            let now_at = place.borrow_and_update().clone();
            let sent = match now_at {
                Some(rs) => send_data(&shared, &entry, &rs, &mut random).await,
                None => false,
            };
            if !sent {
                change(&mut place, &entry.data).await;
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn send_data(shared: &Arc<Shared>, entry: &PeerEntry, rs: &RoundState, random: &mut Random) -> bool {
    let base = shared.blocks.base();
    let (next, height, round) = {
        let peer = entry.round.lock();
        (next_data(rs, &peer, base, random), peer.height, peer.round)
    };
    match next {
        NextData::Part(part) => send_part(entry, part, (height, round)).await,
        NextData::Proposal(proposal, pol) => {
            let message = Sum::Proposal(ProposalMessage { proposal: proposal.as_ref().clone() });
            if !entry.peer.send(DATA_CHANNEL, encode(message)).await {
                return false;
            }
            entry.round.lock().set_has_proposal(&proposal);
            if let Some(pol) = pol {
                entry.peer.send(DATA_CHANNEL, encode(Sum::ProposalPol(pol))).await;
            }
            true
        }
        NextData::FromStore { height } => send_stored_part(shared, entry, height, round, random).await,
        NextData::Nothing => false,
    }
}

async fn send_part(entry: &PeerEntry, part: BlockPart, place: (i64, i32)) -> bool {
    let index = part.part.index;
    let sent = entry.peer.send(DATA_CHANNEL, encode(Sum::BlockPart(part))).await;
    if sent {
        entry.round.lock().set_has_part(place.0, place.1, index);
    }
    sent
}

/// Sends a part of a stored block to a peer that is behind, if it collects that block's parts.
async fn send_stored_part(
    shared: &Arc<Shared>,
    entry: &PeerEntry,
    height: i64,
    round: i32,
    random: &mut Random,
) -> bool {
    let header = {
        let peer = entry.round.lock();
        peer.parts.is_some().then(|| peer.parts_header.clone())
    };
    let Some(header) = header else {
        let Some(stored) = load_header(shared, height).await else { return false };
        let mut peer = entry.round.lock();
        if peer.height == height {
            peer.init_parts(&stored);
        }
        return peer.parts.is_some();
    };
    let missing = {
        let peer = entry.round.lock();
        let Some(parts) = peer.parts.as_ref().filter(|_| peer.height == height) else { return false };
        random.choose((0..parts.len()).filter(|&index| !parts.get(index)))
    };
    let Some(index) = missing.and_then(|index| u32::try_from(index).ok()) else { return false };
    let Some(part) = load_part(shared, height, header, index).await else { return false };
    send_part(entry, BlockPart { height, round, part }, (height, round)).await
}

async fn load_header(shared: &Arc<Shared>, height: i64) -> Option<PartSetHeader> {
    let blocks = Arc::clone(&shared.blocks);
    let load = move || blocks.meta(height).ok().flatten().map(|meta| meta.block_id.part_set_header);
    tokio::task::spawn_blocking(load).await.ok().flatten()
}

/// The part of a stored block, if its parts are those of the header.
async fn load_part(shared: &Arc<Shared>, height: i64, header: PartSetHeader, index: u32) -> Option<Part> {
    let blocks = Arc::clone(&shared.blocks);
    let load = move || {
        let meta = blocks.meta(height).ok().flatten()?;
        if meta.block_id.part_set_header != header {
            return None;
        }
        blocks.part(height, index).ok().flatten()
    };
    tokio::task::spawn_blocking(load).await.ok().flatten()
}

/// Sends votes and claims, and this node's step where that could not be sent at once, as long as the peer is there.
pub(super) async fn votes(shared: Arc<Shared>, entry: Arc<PeerEntry>) {
    let stop = entry.stop.clone();
    let work = async {
        let mut place = shared.place.subscribe();
        let mut random = Random::new(2);
        let mut stored = None;
        let mut claim = interval(CLAIM_INTERVAL);
        claim.set_missed_tick_behavior(MissedTickBehavior::Delay);
        claim.reset_at(Instant::now() + CLAIM_INTERVAL);
        loop {
            let now_at = place.borrow_and_update().clone();
            let sent = match &now_at {
                Some(rs) => send_vote(&shared, &entry, rs, &mut stored, &mut random).await,
                None => false,
            };
            if !sent {
                tokio::select! {
                    () = change(&mut place, &entry.votes) => {}
                    _ = claim.tick() => if let Some(rs) = place.borrow().clone() {
                        send_claims(&entry, &rs, stored.as_ref());
                    }
                }
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn send_vote(
    shared: &Arc<Shared>,
    entry: &PeerEntry,
    rs: &RoundState,
    stored: &mut Option<Commit>,
    random: &mut Random,
) -> bool {
    if entry.tell_step.swap(false, Ordering::SeqCst) && !tell_step(entry, rs).await {
        entry.tell_step.store(true, Ordering::SeqCst);
        return false;
    }
    let base = shared.blocks.base();
    let next = next_vote(rs, &mut entry.round.lock(), base, random);
    let vote = match next {
        NextVote::Vote(vote) => *vote,
        NextVote::FromStore { height } => {
            if stored.as_ref().is_none_or(|commit| commit.height != height) {
                let blocks = Arc::clone(&shared.blocks);
                let load = move || blocks.commit(height).ok().flatten();
                *stored = tokio::task::spawn_blocking(load).await.ok().flatten();
            }
            let Some(commit) = stored.as_ref() else { return false };
            match entry.round.lock().pick_vote(VoteSource::Commit(commit), random) {
                Some(vote) => vote,
                None => return false,
            }
        }
        NextVote::Nothing => return false,
    };
    let Vote { height, round, kind, validator_index, .. } = vote;
    let sent = entry.peer.send(VOTE_CHANNEL, encode(Sum::Vote(VoteMessage { vote: Some(vote) }))).await;
    if sent {
        entry.round.lock().set_has_vote(height, round, kind, validator_index);
    }
    sent
}

async fn tell_step(entry: &PeerEntry, rs: &RoundState) -> bool {
    let step = rs.new_round_step(now_or_start(rs));
    if !entry.peer.send(STATE_CHANNEL, encode(Sum::NewRoundStep(step))).await {
        return false;
    }
    // Without the step of a commit the parts would be taken for those of a proposal.
    match rs.new_valid_block().filter(|message| message.is_commit) {
        Some(message) => entry.peer.send(STATE_CHANNEL, encode(Sum::NewValidBlock(message))).await,
        None => true,
    }
}

fn now_or_start(rs: &RoundState) -> Time {
    now().unwrap_or(rs.start_time)
}

fn send_claims(entry: &PeerEntry, rs: &RoundState, stored: Option<&Commit>) {
    let (mut claims, catchup) = {
        let peer = entry.round.lock();
        let catchup = stored.filter(|commit| peer.catchup_round >= 0 && commit.height == peer.height);
        (claims(rs, &peer), catchup)
    };
    claims.extend(catchup.map(|commit| VoteSetMaj23 {
        height: commit.height,
        round: commit.round,
        kind: SignedMsgType::PRECOMMIT,
        block_id: commit.block_id.clone(),
    }));
    for claim in claims {
        entry.peer.try_send(STATE_CHANNEL, encode(Sum::VoteSetMaj23(claim)));
    }
}
