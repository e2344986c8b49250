//! Performing effects.

use std::time::{Duration, Instant};

use comet_core::vote_set::VoteError;
use comet_core::{Effect, Failure, Input, PeerId, Refusal, Reply, Request};
use comet_net::DropPeer;
use comet_store::{Durability, GuardFileError};

use super::{Driver, StopReason};
use crate::status::Unsigned;

impl Driver {
    /// Performs one effect; gives the answer to be fed, if it has one.
    pub(super) fn perform(&mut self, effect: Effect) -> Result<Option<Input>, StopReason> {
        match effect {
            Effect::WriteWal { record, sync } => {
                self.wal.append(&record).map_err(|error| StopReason::failed("log", &error))?;
                self.unflushed = true;
                if sync {
                    self.sync_wal()?;
                }
            }
            Effect::SyncWal => self.sync_wal()?,
            Effect::SignVote(vote) => {
                let (height, round, kind) = (vote.height, vote.round, vote.kind);
                let Some(guard) = &mut self.guard else { return Ok(None) };
                let signed = guard.sign_vote(&self.chain_id, *vote);
                match self.signed(height, round, signed)? {
                    Ok(vote) => return Ok(Some(Input::VoteSigned(Box::new(vote)))),
                    Err(error) => tracing::warn!(height, round, kind = kind.0, %error, "vote not signed"),
                }
            }
            Effect::SignProposal(proposal) => {
                let (height, round) = (proposal.height, proposal.round);
                let Some(guard) = &mut self.guard else { return Ok(None) };
                let signed = guard.sign_proposal(&self.chain_id, *proposal);
                match self.signed(height, round, signed)? {
                    Ok(proposal) => return Ok(Some(Input::ProposalSigned(Box::new(proposal)))),
                    Err(error) => tracing::warn!(height, round, %error, "proposal not signed"),
                }
            }
            // Gossip sends own messages as any others: to each peer that has announced to be at that place.
            Effect::Broadcast(_) => {}
            Effect::Announce(message) => self.reactor.announce(*message),
            Effect::Send { peer, message } => self.reactor.answer(&peer, &message),
            Effect::ScheduleTimeout(timeout) => {
                let nanos = u64::try_from(timeout.duration.nanos()).unwrap_or(0);
                let now = Instant::now();
                self.timer = Some((now.checked_add(Duration::from_nanos(nanos)).unwrap_or(now), timeout));
            }
            Effect::Request(request) => return self.answer(request).map(|reply| Some(Input::Reply(reply))),
            Effect::SaveBlock { block, parts, seen_commit } => {
                let height = block.block().header.height;
                if self.blocks.height() < height {
                    self.blocks
                        .save(block.block(), &parts, &seen_commit, Durability::Synced)
                        .map_err(|error| StopReason::failed("block store", &error))?;
                }
            }
            Effect::ReportConflictingVotes(first, second) => {
                tracing::warn!(
                    height = first.height,
                    round = first.round,
                    index = first.validator_index,
                    "conflicting votes"
                );
                self.evidence.report_conflicting_votes(*first, *second);
            }
            Effect::SwitchToBlockSync { height } => {
                // If one is asked for already, that will do.
                let _ = self.sync_wanted.try_send(height);
            }
            Effect::StopPeer { peer, reason } => {
                self.reactor.stop_peer(&peer, DropPeer::new(format!("claim of two thirds: {reason}")));
            }
            Effect::Refused { peer, reason } => self.refused(peer.as_ref(), &reason),
            Effect::Halt(failure) => return Err(halted(&failure)),
        }
        Ok(None)
    }

    /// Remembers what was not signed, until something is again. A record that could not be written ends the node:
    /// nothing is signed any more, and others should see at once that it is gone.
    fn signed<T>(
        &self,
        height: i64,
        round: i32,
        signed: Result<T, GuardFileError>,
    ) -> Result<Result<T, GuardFileError>, StopReason> {
        if let Err(error @ (GuardFileError::Io { .. } | GuardFileError::Poisoned)) = &signed {
            return Err(StopReason::failed("guard file", error));
        }
        let failed = signed.as_ref().err();
        *self.unsigned.lock() = failed.map(|error| Unsigned { height, round, reason: error.to_string() });
        Ok(signed)
    }

    fn answer(&mut self, request: Request) -> Result<Reply, StopReason> {
        let state = self.core.state();
        match request {
            Request::BuildProposal { height, last_commit, proposer, round } => {
                let block = self
                    .executor
                    .propose(state, height, &last_commit, proposer)
                    .map_err(|error| StopReason::from(&error))?;
                tracing::debug!(height, round, built = block.is_some(), "proposal");
                Ok(Reply::Built(block.map(Box::new)))
            }
            Request::CheckEvidence(block) => {
                Ok(Reply::EvidenceChecked(self.executor.check_evidence(state, block.block())))
            }
            Request::ProcessProposal(block) => {
                let verdict =
                    self.executor.process_proposal(state, block.block()).map_err(|error| StopReason::from(&error))?;
                Ok(Reply::Processed(verdict))
            }
            Request::Apply { block, block_id } => {
                let began = Instant::now();
                let state = self
                    .executor
                    .apply_verified(state, block.block(), &block_id)
                    .map_err(|error| StopReason::from(&error))?;
                tracing::info!(
                    height = block.block().header.height,
                    round = self.round_state().commit_round,
                    txs = block.block().data.txs.len(),
                    millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                    "block committed"
                );
                Ok(Reply::Applied(Box::new(state)))
            }
        }
    }

    fn refused(&self, peer: Option<&PeerId>, reason: &Refusal) {
        let id = peer.map_or("", |peer| &*peer.0);
        match reason {
            Refusal::OwnConflictingVote { .. } | Refusal::InvalidBlock(_) | Refusal::Rejected => {
                tracing::error!(peer = id, %reason, "refused");
            }
            reason => tracing::debug!(peer = id, %reason, "refused"),
        }
        let signature = matches!(reason, Refusal::ProposalSignature | Refusal::Vote(VoteError::Signature(_)));
        if let Some(peer) = peer.filter(|_| signature) {
            self.reactor.bad_signature(peer);
        }
    }
}

fn halted(failure: &Failure) -> StopReason {
    StopReason::failed("consensus failure", failure)
}
