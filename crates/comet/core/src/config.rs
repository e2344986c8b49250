//! Times and switches of the round machine.
//!
//! Reference: `cometbft:config/config.go` (`ConsensusConfig`), as `oasis-core:go/consensus/cometbft/full/full.go` sets it.

use wire_cometbft::Duration;

/// Times and switches of the round machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Wait for a proposal in round 0.
    pub timeout_propose: Duration,
    /// More of it with each round.
    pub timeout_propose_delta: Duration,
    /// Wait for more prevotes, once two thirds have voted for anything, in round 0.
    pub timeout_prevote: Duration,
    /// More of it with each round.
    pub timeout_prevote_delta: Duration,
    /// Wait for more precommits, once two thirds have voted for anything, in round 0.
    pub timeout_precommit: Duration,
    /// More of it with each round.
    pub timeout_precommit_delta: Duration,
    /// Wait for more precommits after a commit; from the genesis document.
    pub timeout_commit: Duration,
    /// Whether to go on at once when every precommit is there; from the genesis document.
    pub skip_timeout_commit: bool,
    /// Whether blocks without transactions are made at all; always so on this network.
    pub create_empty_blocks: bool,
    /// Wait for transactions before an empty block; zero: do not wait. From the genesis document.
    pub create_empty_blocks_interval: Duration,
    /// How far the network may be ahead before block sync is asked for; the reference never does (`None`).
    pub block_sync_lag: Option<u32>,
}

impl Default for Config {
    /// The network's values, with the main network's genesis document.
    fn default() -> Self {
        Self {
            timeout_propose: Duration::from_millis(3000),
            timeout_propose_delta: Duration::from_millis(500),
            timeout_prevote: Duration::from_millis(1000),
            timeout_prevote_delta: Duration::from_millis(500),
            timeout_precommit: Duration::from_millis(1000),
            timeout_precommit_delta: Duration::from_millis(500),
            timeout_commit: Duration::from_millis(5000),
            skip_timeout_commit: false,
            create_empty_blocks: true,
            create_empty_blocks_interval: Duration::from_nanos(0),
            block_sync_lag: None,
        }
    }
}

fn growing(base: Duration, delta: Duration, round: i32) -> Duration {
    Duration::from_nanos(base.nanos().saturating_add(delta.nanos().saturating_mul(i64::from(round))))
}

impl Config {
    /// Wait for the proposal of a round.
    pub fn propose(&self, round: i32) -> Duration {
        growing(self.timeout_propose, self.timeout_propose_delta, round)
    }

    /// Wait for more prevotes of a round.
    pub fn prevote(&self, round: i32) -> Duration {
        growing(self.timeout_prevote, self.timeout_prevote_delta, round)
    }

    /// Wait for more precommits of a round.
    pub fn precommit(&self, round: i32) -> Duration {
        growing(self.timeout_precommit, self.timeout_precommit_delta, round)
    }

    /// Whether round 0 waits for transactions before its proposal.
    pub fn waits_for_txs(&self) -> bool {
        !self.create_empty_blocks || self.create_empty_blocks_interval.nanos() > 0
    }
}
