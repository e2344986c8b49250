//! Beginning a round.
//!
//! Reference: `enterNewRound`, `needProofBlock`.

use std::sync::Arc;

use super::{Core, Task};
use crate::effect::Failure;
use crate::timeout::{Step, Timeout};

impl Core {
    /// # Consensus
    /// Only for a later round of this height, or for the current one while the step is still `NewHeight`. Proposers
    /// rotate from the current round's set by the difference, in one call. A proposal for round 0 may have come
    /// before; for others nothing of the round before stays.
    pub(super) fn enter_new_round(&mut self, height: i64, round: i32) {
        let rs = &mut self.rs;
        let stale = round < rs.round || (round == rs.round && rs.step != Step::NewHeight);
        if height != rs.height || stale {
            return;
        }
        let Some(next_round) = round.checked_add(1) else {
            return self.fail(Failure::RoundOverflow(height));
        };
        let ahead = u32::try_from(i64::from(round) - i64::from(rs.round)).unwrap_or(0);
        if ahead > 0 {
            match rs.validators.incremented(ahead) {
                Ok(validators) => rs.validators = Arc::new(validators),
                Err(_) => return self.fail(Failure::NoValidators(height)),
            }
        }
        rs.round = round;
        rs.step = Step::NewRound;
        if round != 0 {
            rs.proposal = None;
            rs.proposal_block = None;
            rs.proposal_block_parts = None;
        }
        // The next round too, so that it can be skipped to.
        rs.votes.set_round(next_round);
        rs.triggered_timeout_precommit = false;

        if self.config.waits_for_txs() && round == 0 && !self.needs_proof_block(height) {
            let duration = self.config.create_empty_blocks_interval;
            if duration.nanos() > 0 {
                self.schedule(Timeout { duration, height, round, step: Step::NewRound });
            }
        } else {
            self.tasks.push(Task::Propose { height, round });
        }
    }

    /// Whether a block is due at once, empty or not: at the initial height, and where the last block changed the
    /// application's hash.
    pub(super) fn needs_proof_block(&self, height: i64) -> bool {
        if height == self.state.initial_height {
            return true;
        }
        self.last_header_app_hash.as_ref().is_none_or(|last| *last != self.state.app_hash)
    }
}
