//! Starting from a stored state, replaying the log, taking over from block sync.
//!
//! Reference: `NewState`, `OnStart`, `reconstructLastCommit`, `readReplayMessage` (`consensus/replay.go`),
//! `Reactor.SwitchToConsensus`.

use std::collections::VecDeque;
use std::sync::Arc;

use comet_chain::state::State;
use wire_cometbft::Time;
use wire_cometbft::block::Commit;
use wire_cometbft::consensus::ConsensusMessageSum;
use wire_cometbft::keys::Address;
use wire_cometbft::wal::{EndHeight, TimedWalMessage, WalMessageSum};

use super::{Core, Mode};
use crate::config::Config;
use crate::effect::{Failure, Message, PeerId, Refusal, StartError};
use crate::height_votes::HeightVotes;
use crate::round_state::RoundState;
use crate::timeout::{Step, Ticker, Timeout};
use crate::vote_set::VoteSet;

impl Core {
    /// A machine for the height after `state`, waiting for [`Input::Replay`](crate::Input::Replay) and
    /// [`Input::Start`](crate::Input::Start).
    ///
    /// `address` is that of this node's key, if it has one. With a last block, `seen_commit` is the commit stored with
    /// it: every signature in it is checked. `last_header_app_hash` is from the last block's header, if stored.
    ///
    /// # Errors
    /// If the commit is missing or does not hold, or the state has no validators.
    pub fn new(
        config: Config,
        address: Option<Address>,
        state: State,
        seen_commit: Option<&Commit>,
        last_header_app_hash: Option<Vec<u8>>,
        now: Time,
    ) -> Result<Self, StartError> {
        let height = state.next_height();
        if state.validators.proposer().is_none() {
            return Err(StartError::NoValidators(height));
        }
        let chain_id: Arc<str> = Arc::from(state.chain_id.as_str());
        let last_validators = Arc::new(state.last_validators.clone());
        let last_height = state.last_block_height;
        let last_commit = if last_height > 0 {
            let commit = seen_commit.ok_or(StartError::MissingSeenCommit(last_height))?;
            let votes = VoteSet::from_commit(Arc::clone(&chain_id), commit, Arc::clone(&last_validators));
            Some(votes.map_err(|source| StartError::SeenCommit { height: last_height, source })?)
        } else {
            None
        };
        let validators = Arc::new(state.validators.clone());
        let rs = RoundState {
            height,
            round: 0,
            step: Step::NewHeight,
            start_time: now.saturating_add(config.timeout_commit),
            commit_time: None,
            votes: HeightVotes::new(Arc::clone(&chain_id), height, Arc::clone(&validators)),
            validators,
            proposal: None,
            proposal_block: None,
            proposal_block_parts: None,
            locked_round: -1,
            locked_block: None,
            locked_block_parts: None,
            valid_round: -1,
            valid_block: None,
            valid_block_parts: None,
            commit_round: -1,
            last_commit,
            last_validators,
            triggered_timeout_precommit: false,
        };
        Ok(Self {
            config,
            address,
            chain_id,
            state,
            last_header_app_hash,
            rs,
            mode: Mode::Replaying,
            now,
            ticker: Ticker::default(),
            tasks: Vec::new(),
            waiting: None,
            own: VecDeque::new(),
            unsigned: None,
            validated: None,
            out: Vec::new(),
        })
    }

    pub(super) fn start(&mut self) {
        self.mode = Mode::Running;
        self.schedule_round_0();
    }

    /// Takes a record of the log as if it happened now, without logging it again.
    pub(super) fn replay(&mut self, record: TimedWalMessage) {
        match record.msg.and_then(|message| message.sum) {
            Some(WalMessageSum::MsgInfo(info)) => {
                let peer = (!info.peer_id.is_empty()).then(|| PeerId::new(&info.peer_id));
                match info.msg.sum {
                    Some(ConsensusMessageSum::Proposal(message)) => {
                        self.handle_message(Message::Proposal(message.proposal), peer);
                    }
                    Some(ConsensusMessageSum::BlockPart(part)) => self.handle_message(Message::BlockPart(part), peer),
                    Some(ConsensusMessageSum::Vote(message)) => {
                        if let Some(vote) = message.vote {
                            self.handle_message(Message::Vote(vote), peer);
                        }
                    }
                    _ => self.refuse(peer, Refusal::Record),
                }
            }
            Some(WalMessageSum::Timeout(info)) => match Timeout::from_wire(&info) {
                Some(timeout) => self.handle_timeout(timeout),
                None => self.refuse(None, Refusal::TimeoutStep(info.step)),
            },
            Some(WalMessageSum::RoundState(_) | WalMessageSum::EndHeight(_)) | None => {}
        }
    }

    /// Block sync has moved the state on: begin at the height after it, as after a start.
    pub(super) fn handle_advanced(
        &mut self,
        state: State,
        seen_commit: &Commit,
        last_header_app_hash: Option<Vec<u8>>,
    ) {
        if state.last_block_height <= self.state.last_block_height {
            self.new_step();
            return;
        }
        let height = state.last_block_height;
        let validators = Arc::new(state.last_validators.clone());
        match VoteSet::from_commit(Arc::clone(&self.chain_id), seen_commit, validators) {
            Ok(votes) => self.rs.last_commit = Some(votes),
            Err(source) => return self.fail(Failure::SeenCommit { height, source }),
        }
        self.rs.commit_round = -1;
        self.rs.commit_time = None;
        self.last_header_app_hash = last_header_app_hash;
        self.unsigned = None;
        // So that a restart finds where this height begins in the log.
        self.write_wal(WalMessageSum::EndHeight(EndHeight { height }), true);
        self.update_to_state(state);
        self.schedule_round_0();
    }
}
