//! What a replay tells in the end.

use std::time::Duration;

use base_prims::Hash;
use serde_json::{Value, json};

/// Counts and times of a replay.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Chain context.
    pub chain: String,
    /// Blocks executed.
    pub blocks: u64,
    /// Transactions executed.
    pub transactions: u64,
    /// Of these failed.
    pub failed: u64,
    /// State roots compared with recorded ones.
    pub roots: u64,
    /// Blocks whose results and events were compared.
    pub results: u64,
    /// Heights whose state change was compared key by key.
    pub diffs: u64,
    /// Heights whose validator set was compared.
    pub validator_sets: u64,
    /// What could not be compared because it was not recorded.
    pub unchecked: u64,
    /// From the first block to the end of the last one's commit, comparing included.
    pub total: Duration,
    /// Time that comparing took.
    pub compare: Duration,
    /// Time on another thread for reading and decoding blocks.
    pub read: Duration,
    /// Time on another thread for opening transactions and verifying their signatures.
    pub open: Duration,
    /// Time on another thread for verifying the signatures of commits.
    pub commit_signatures: Duration,
    /// Time that execution had to wait for the next block to be opened.
    pub wait: Duration,
    /// Time for checking headers, and for waiting until the signatures of the commit are verified.
    pub verify: Duration,
    /// Time for executing, hashing the state included.
    pub execute: Duration,
    /// Time for committing the state, and for waiting until it is durable.
    pub commit: Duration,
    /// Upgrades that were made without being in a block: height and handler.
    pub upgrades: Vec<(i64, String)>,
    /// App hash of every height, if asked for with [`crate::Options::compare`] off.
    pub app_hashes: Vec<(i64, Hash)>,
}

impl Report {
    /// The report as one object, with rates. Comparing does not count.
    pub fn to_json(&self) -> Value {
        let total = self.total.saturating_sub(self.compare);
        let rate = |n: u64| {
            #[allow(clippy::cast_precision_loss)]
            let n = n as f64;
            (n / total.as_secs_f64().max(1e-9)).round()
        };
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        json!({
            "chain": self.chain,
            "blocks": self.blocks,
            "transactions": self.transactions,
            "failed_transactions": self.failed,
            "compared": {
                "roots": self.roots,
                "results": self.results,
                "state_diffs": self.diffs,
                "validator_sets": self.validator_sets,
            },
            "unchecked": self.unchecked,
            "upgrades": self.upgrades,
            "milliseconds": {
                "total": ms(total),
                "wait": ms(self.wait),
                "verify": ms(self.verify),
                "execute": ms(self.execute),
                "commit": ms(self.commit),
            },
            "other_threads_milliseconds": {
                "read": ms(self.read),
                "open": ms(self.open),
                "commit_signatures": ms(self.commit_signatures),
            },
            "blocks_per_second": rate(self.blocks),
            "transactions_per_second": rate(self.transactions),
        })
    }
}
