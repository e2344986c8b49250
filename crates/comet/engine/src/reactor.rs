//! The consensus reactor: what peers are told about this node's place, what is learnt of theirs, and gossip.
//!
//! Reference: `cometbft:consensus/reactor.go`. DEVIATION: gossip is woken by changes instead of looking every 100 ms; a
//! change is acted on at most every [`PACE`], and [`FALLBACK`] bounds how long a missed one can matter.
//!
//! # Security
//! Messages that cannot matter (other heights, votes and parts held already) are dropped before they reach the machine
//! and its log. A peer whose votes or proposals carry wrong signatures [`MAX_BAD_SIGNATURES`] times within one height is
//! dropped. DEVIATION: the reference keeps such peers.

mod gossip;
pub(crate) mod pick;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use comet_core::{Input, Message, PeerId, RoundState, Step};
use comet_net::{ChannelDescriptor, DropPeer, Peer, Reactor, SwitchHandle};
use comet_store::BlockStore;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire_cometbft::Message as _;
use wire_cometbft::consensus::{BlockPart, ConsensusMessage, ConsensusMessageSum as Sum, VoteSetBits, VoteSetMaj23};
use wire_cometbft::limits::MAX_CONSENSUS_MESSAGE_BYTES;
use wire_cometbft::vote::{Proposal, SignedMsgType, Vote};

use crate::intake::Intake;
use crate::peer_state::PeerRound;

/// Channel of steps, claims and what others have.
pub const STATE_CHANNEL: u8 = 0x20;
/// Channel of proposals and block parts.
pub const DATA_CHANNEL: u8 = 0x21;
/// Channel of votes.
pub const VOTE_CHANNEL: u8 = 0x22;
/// Channel of answers to claims.
pub const VOTE_SET_BITS_CHANNEL: u8 = 0x23;

/// Least time between two looks at what a peer lacks, when the first found nothing.
pub const PACE: Duration = Duration::from_millis(5);
/// Longest time between two looks at what a peer lacks.
pub const FALLBACK: Duration = Duration::from_millis(500);
/// Time between claims of two thirds to one peer.
pub const CLAIM_INTERVAL: Duration = Duration::from_secs(2);
/// Wrong signatures of one peer within one height that cost it the connection.
pub const MAX_BAD_SIGNATURES: u32 = 64;
/// For how long a peer dropped for wrong signatures is not dialed.
pub const BAD_SIGNATURES_BAN: Duration = Duration::from_secs(600);
/// New votes, and again new block parts, after which a peer counts as good.
pub const GOOD_PEER_MESSAGES: u64 = 10_000;

/// What is kept for a peer.
pub(crate) struct PeerEntry {
    peer: Peer,
    round: Mutex<PeerRound>,
    /// Wakes the data task.
    data: Notify,
    /// Wakes the votes task.
    votes: Notify,
    /// Whether the peer is to be told this node's step (again).
    tell_step: AtomicBool,
    stop: CancellationToken,
    new_votes: AtomicU64,
    new_parts: AtomicU64,
    bad_signatures: AtomicU32,
}

impl PeerEntry {
    fn wake(&self) {
        self.data.notify_one();
        self.votes.notify_one();
    }
}

/// What the reactor's tasks share.
pub(crate) struct Shared {
    initial_height: i64,
    intake: Arc<Intake>,
    place: watch::Sender<Option<Arc<RoundState>>>,
    syncing: AtomicBool,
    blocks: Arc<BlockStore>,
    peers: Mutex<BTreeMap<PeerId, Arc<PeerEntry>>>,
    /// Given up on stop: the switch holds its reactors.
    switch: Mutex<Option<SwitchHandle>>,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The reactor of channels 0x20 to 0x23. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ConsensusReactor(Arc<Shared>);

pub(crate) fn encode(message: Sum) -> Bytes {
    Bytes::from(ConsensusMessage::from(message).encode_to_vec())
}

impl ConsensusReactor {
    /// A reactor that ignores data and votes until [`ConsensusReactor::set_syncing`] says otherwise. To be made within
    /// the runtime.
    pub(crate) fn new(
        initial_height: i64,
        intake: Arc<Intake>,
        blocks: Arc<BlockStore>,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Shared {
            initial_height,
            intake,
            place: watch::channel(None).0,
            syncing: AtomicBool::new(true),
            blocks,
            peers: Mutex::default(),
            switch: Mutex::new(None),
            runtime: tokio::runtime::Handle::current(),
            tasks: TaskTracker::new(),
            stop,
        }))
    }

    /// Ends all tasks; to be called when the switch has stopped.
    pub(crate) async fn join(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.switch.lock().take();
        self.0.peers.lock().clear();
    }

    /// Whether data and votes are ignored, because blocks are fetched otherwise.
    pub(crate) fn set_syncing(&self, syncing: bool) {
        self.0.syncing.store(syncing, Ordering::SeqCst);
        if !syncing {
            for entry in self.entries() {
                entry.tell_step.store(true, Ordering::SeqCst);
                entry.wake();
            }
        }
    }

    pub(crate) fn is_syncing(&self) -> bool {
        self.0.syncing.load(Ordering::SeqCst)
    }

    /// Shows where the machine stands.
    pub(crate) fn publish(&self, place: Arc<RoundState>) {
        let height = place.height;
        let last = self.0.place.send_replace(Some(place));
        if last.is_none_or(|last| last.height != height) {
            for entry in self.entries() {
                entry.bad_signatures.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Where the machine stands; `None`: it does not run yet.
    pub(crate) fn place(&self) -> Option<Arc<RoundState>> {
        self.0.place.borrow().clone()
    }

    fn entries(&self) -> Vec<Arc<PeerEntry>> {
        self.0.peers.lock().values().cloned().collect()
    }

    fn entry(&self, peer: &PeerId) -> Option<Arc<PeerEntry>> {
        self.0.peers.lock().get(peer).cloned()
    }

    /// The height that a peer has announced; `None`: none yet, or no such peer.
    pub(crate) fn peer_height(&self, peer: &PeerId) -> Option<i64> {
        let height = self.entry(peer)?.round.lock().height;
        (height > 0).then_some(height)
    }

    /// The heights that peers have announced; 0: none yet.
    pub(crate) fn peer_heights(&self) -> Vec<i64> {
        self.entries().iter().map(|entry| entry.round.lock().height).collect()
    }

    /// Tells all peers; who cannot be told a step now is told later.
    pub(crate) fn announce(&self, message: ConsensusMessage) {
        let step = matches!(message.sum, Some(Sum::NewRoundStep(_) | Sum::NewValidBlock(_)));
        let bytes = Bytes::from(message.encode_to_vec());
        for entry in self.entries() {
            if !entry.peer.try_send(STATE_CHANNEL, bytes.clone()) && step {
                entry.tell_step.store(true, Ordering::SeqCst);
                entry.votes.notify_one();
            }
        }
    }

    /// Sends an answer to a claim; if there is no room it is lost, as the reference's.
    pub(crate) fn answer(&self, peer: &PeerId, message: &ConsensusMessage) {
        if let Some(entry) = self.entry(peer) {
            entry.peer.try_send(VOTE_SET_BITS_CHANNEL, Bytes::from(message.encode_to_vec()));
        }
    }

    /// Drops a peer.
    pub(crate) fn stop_peer(&self, peer: &PeerId, reason: DropPeer) {
        if let Some(entry) = self.entry(peer) {
            entry.peer.stop(reason);
        }
    }

    /// Notes that a peer brought a new vote (or else a new part).
    pub(crate) fn brought(&self, peer: &PeerId, vote: bool) {
        let Some(entry) = self.entry(peer) else { return };
        let counter = if vote { &entry.new_votes } else { &entry.new_parts };
        let count = counter.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_multiple_of(GOOD_PEER_MESSAGES)
            && let Some(switch) = self.0.switch.lock().clone()
        {
            switch.mark_good(peer);
        }
    }

    /// Notes that a peer sent something with a wrong signature.
    pub(crate) fn bad_signature(&self, peer: &PeerId) {
        let Some(entry) = self.entry(peer) else { return };
        if entry.bad_signatures.fetch_add(1, Ordering::Relaxed) + 1 == MAX_BAD_SIGNATURES {
            let reason = format!("{MAX_BAD_SIGNATURES} wrong signatures within one height");
            entry.peer.stop(DropPeer::banned(reason, BAD_SIGNATURES_BAN));
        }
    }

    async fn take(&self, channel: u8, peer: &Peer, bytes: Bytes) -> Result<(), DropPeer> {
        let message = ConsensusMessage::decode_checked(&bytes, MAX_CONSENSUS_MESSAGE_BYTES)
            .map_err(|error| DropPeer::new(format!("consensus message: {error}")))?;
        let Some(entry) = self.entry(peer.id()) else { return Ok(()) };
        let Some(sum) = message.sum else { return Ok(()) };
        if channel != STATE_CHANNEL && self.is_syncing() {
            return Ok(());
        }
        match (channel, sum) {
            (STATE_CHANNEL, Sum::NewRoundStep(message)) => {
                message
                    .validate_height(self.0.initial_height)
                    .map_err(|error| DropPeer::new(format!("new round step: {error}")))?;
                entry.round.lock().apply_new_round_step(&message);
            }
            (STATE_CHANNEL, Sum::NewValidBlock(message)) => entry.round.lock().apply_new_valid_block(&message),
            (STATE_CHANNEL, Sum::HasVote(message)) => {
                // What it has need not be sent: nobody is woken.
                entry.round.lock().set_has_vote(message.height, message.round, message.kind, message.index);
                return Ok(());
            }
            (STATE_CHANNEL, Sum::VoteSetMaj23(message)) => return self.take_claim(peer.id(), message).await,
            (DATA_CHANNEL, Sum::Proposal(message)) => {
                entry.round.lock().set_has_proposal(&message.proposal);
                return self.take_proposal(peer.id(), message.proposal).await;
            }
            (DATA_CHANNEL, Sum::ProposalPol(message)) => entry.round.lock().apply_proposal_pol(message),
            (DATA_CHANNEL, Sum::BlockPart(message)) => {
                entry.round.lock().set_has_part(message.height, message.round, message.part.index);
                return self.take_part(peer.id(), message).await;
            }
            (VOTE_CHANNEL, Sum::Vote(message)) => {
                let Some(vote) = message.vote else { return Ok(()) };
                return self.take_vote(&entry, vote).await;
            }
            (VOTE_SET_BITS_CHANNEL, Sum::VoteSetBits(message)) => self.take_bits(&entry, &message),
            (_, sum) => {
                // As the reference: room for later versions.
                tracing::debug!(peer = %peer.id().0, channel, kind = kind(&sum), "message on the wrong channel");
                return Ok(());
            }
        }
        entry.wake();
        Ok(())
    }

    async fn take_claim(&self, peer: &PeerId, message: VoteSetMaj23) -> Result<(), DropPeer> {
        let VoteSetMaj23 { height, round, kind, block_id } = message;
        if self.is_syncing() || self.place().is_none_or(|place| place.height != height) {
            return Ok(());
        }
        self.0.intake.put(peer, Input::Claim { peer: peer.clone(), height, round, kind, block_id }).await;
        Ok(())
    }

    async fn take_proposal(&self, peer: &PeerId, proposal: Proposal) -> Result<(), DropPeer> {
        let Some(place) = self.place() else { return Ok(()) };
        let known = place.proposal.as_ref() == Some(&proposal);
        if !known && (place.height..=place.height.saturating_add(1)).contains(&proposal.height) {
            self.put(peer, Message::Proposal(proposal)).await;
        }
        Ok(())
    }

    async fn take_part(&self, peer: &PeerId, message: BlockPart) -> Result<(), DropPeer> {
        let Some(place) = self.place() else { return Ok(()) };
        let held = place.proposal_block_parts.as_ref().and_then(|parts| parts.part(message.part.index as usize));
        // A part of another set differs, at least in its proof.
        let known = held == Some(&message.part);
        if !known && (place.height..=place.height.saturating_add(1)).contains(&message.height) {
            self.put(peer, Message::BlockPart(message)).await;
        }
        Ok(())
    }

    async fn take_vote(&self, entry: &PeerEntry, vote: Vote) -> Result<(), DropPeer> {
        let Some(place) = self.place() else { return Ok(()) };
        {
            let mut round = entry.round.lock();
            round.ensure_vote_bits(place.height, place.validators.len());
            if place.last_commit.is_some() {
                round.ensure_vote_bits(place.height.saturating_sub(1), place.last_validators.len());
            }
            round.set_has_vote(vote.height, vote.round, vote.kind, vote.validator_index);
        }
        if is_wanted(&place, &vote) {
            self.put(entry.peer.id(), Message::Vote(vote)).await;
        }
        Ok(())
    }

    async fn put(&self, peer: &PeerId, message: Message) {
        self.0.intake.put(peer, Input::Message { peer: peer.clone(), message: Box::new(message) }).await;
    }

    fn take_bits(&self, entry: &PeerEntry, message: &VoteSetBits) {
        let place = self.place().filter(|place| place.height == message.height);
        let ours = place.as_ref().map(|place| {
            let votes = place.votes.get(message.round, message.kind);
            votes.and_then(|votes| votes.bits_for(&message.block_id)).unwrap_or_default()
        });
        entry.round.lock().apply_vote_set_bits(message, ours.as_ref());
    }
}

/// Whether the machine may have use for a vote. It may be ahead of `place`, never behind.
fn is_wanted(place: &RoundState, vote: &Vote) -> bool {
    let index = usize::try_from(vote.validator_index).unwrap_or(usize::MAX);
    let set = if vote.height == place.height {
        place.votes.get(vote.round, vote.kind)
    } else if vote.height.checked_add(1) == Some(place.height) {
        if vote.kind != SignedMsgType::PRECOMMIT || place.step > Step::NewHeight {
            return false;
        }
        place.last_commit.as_ref()
    } else {
        return place.height.checked_add(1) == Some(vote.height);
    };
    set.and_then(|set| set.get(index)).is_none_or(|held| held.as_ref() != vote)
}

fn kind(sum: &Sum) -> &'static str {
    match sum {
        Sum::NewRoundStep(_) => "new round step",
        Sum::NewValidBlock(_) => "new valid block",
        Sum::Proposal(_) => "proposal",
        Sum::ProposalPol(_) => "proposal proof of lock",
        Sum::BlockPart(_) => "block part",
        Sum::Vote(_) => "vote",
        Sum::HasVote(_) => "has vote",
        Sum::VoteSetMaj23(_) => "claim of two thirds",
        Sum::VoteSetBits(_) => "vote set bits",
    }
}

impl Reactor for ConsensusReactor {
    fn channels(&self) -> Vec<ChannelDescriptor> {
        let channel = |id, priority, send_queue| ChannelDescriptor {
            id,
            priority,
            send_queue,
            max_message: MAX_CONSENSUS_MESSAGE_BYTES,
        };
        vec![
            channel(STATE_CHANNEL, 6, 100),
            channel(DATA_CHANNEL, 10, 100),
            channel(VOTE_CHANNEL, 7, 100),
            channel(VOTE_SET_BITS_CHANNEL, 1, 2),
        ]
    }

    fn start(&self, switch: &SwitchHandle) {
        *self.0.switch.lock() = Some(switch.clone());
    }

    fn init_peer(&self, peer: &Peer) {
        let entry = PeerEntry {
            peer: peer.clone(),
            round: Mutex::default(),
            data: Notify::new(),
            votes: Notify::new(),
            tell_step: AtomicBool::new(!self.is_syncing()),
            stop: self.0.stop.child_token(),
            new_votes: AtomicU64::new(0),
            new_parts: AtomicU64::new(0),
            bad_signatures: AtomicU32::new(0),
        };
        let mut peers = self.0.peers.lock();
        self.0.intake.add_peer(peer.id());
        if let Some(old) = peers.insert(peer.id().clone(), Arc::new(entry)) {
            old.stop.cancel();
        }
    }

    fn add_peer(&self, peer: &Peer) {
        let Some(entry) = self.entry(peer.id()) else { return };
        if !peer.has_channel(STATE_CHANNEL) {
            return;
        }
        let shared = &self.0;
        shared.tasks.spawn_on(gossip::data(Arc::clone(shared), Arc::clone(&entry)), &shared.runtime);
        shared.tasks.spawn_on(gossip::votes(Arc::clone(shared), entry), &shared.runtime);
    }

    fn remove_peer(&self, peer: &Peer, _reason: &str) {
        let mut peers = self.0.peers.lock();
        // Another connection of the same node may have taken its place.
        if peers.get(peer.id()).is_some_and(|entry| entry.peer == *peer) {
            self.0.intake.remove_peer(peer.id());
            if let Some(entry) = peers.remove(peer.id()) {
                entry.stop.cancel();
            }
        }
    }

    fn receive<'a>(&'a self, channel: u8, peer: &'a Peer, message: Bytes) -> BoxFuture<'a, Result<(), DropPeer>> {
        Box::pin(self.take(channel, peer, message))
    }
}
