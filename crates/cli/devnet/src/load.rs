//! Load on the ParaTime of a network: many senders, each of which waits for its transaction before the next.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;

use crate::DevnetError;
use crate::keyvalue::KeyValue;
use crate::plan::Node;

/// What came of the load.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Transactions that were executed.
    pub executed: usize,
    /// Those that were refused or not executed in time, with the first reason.
    pub failed: usize,
    /// Why the first of those failed.
    pub first_failure: Option<String>,
    /// How long it took from the first submission to the last answer.
    pub took: Duration,
    /// Rounds from the first transaction's to the last one's.
    pub rounds: u64,
    /// Times from submission to result, ascending.
    pub latencies: Vec<Duration>,
}

impl Outcome {
    /// Transactions per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        // Counts are far below 2^52.
        #[allow(clippy::cast_precision_loss)]
        let executed = self.executed as f64;
        executed / self.took.as_secs_f64().max(f64::EPSILON)
    }

    /// The time within which that part of the transactions had its result.
    #[must_use]
    pub fn within(&self, percent: usize) -> Duration {
        let place = (self.latencies.len() * percent / 100).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(place).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} transactions in {:.1} s: {:.0} per second, in {} rounds; result after {:.2} s (half), {:.2} s (9 of 10), \
             {:.2} s (99 of 100); {} failed",
            self.executed,
            self.took.as_secs_f64(),
            self.rate(),
            self.rounds,
            self.within(50).as_secs_f64(),
            self.within(90).as_secs_f64(),
            self.within(99).as_secs_f64(),
            self.failed,
        )
    }
}

struct Sender {
    executed: Vec<(Duration, u64)>,
    failed: Vec<String>,
}

/// Lets `senders` senders submit through a node for a time, with values of `value_bytes` bytes.
///
/// # Errors
/// If the node does not answer.
pub async fn run(node: &Node, senders: usize, seconds: u64, value_bytes: usize) -> Result<Outcome, DevnetError> {
    let paratime = KeyValue::connect(node).await?;
    // Senders of an earlier load have used up their first nonces.
    let salt = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let began = Instant::now();
    let end = began + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for number in 0..senders {
        let paratime = paratime.clone();
        tasks.spawn(async move {
            let sender = format!("{salt}-{number}");
            let value = "v".repeat(value_bytes);
            let mut seen = Sender { executed: Vec::new(), failed: Vec::new() };
            let mut nonce = 0;
            while Instant::now() < end {
                let key = format!("{sender}/{nonce}");
                let at = Instant::now();
                match paratime.submit(paratime.insertion(sender.as_bytes(), nonce, &key, &value)).await {
                    Ok(meta) => match meta.check_tx_error {
                        None => seen.executed.push((at.elapsed(), meta.round)),
                        Some(error) => seen.failed.push(error.to_string()),
                    },
                    Err(error) => {
                        // Whether it is executed later is not known: the next one might come too early.
                        seen.failed.push(error.to_string());
                        return seen;
                    }
                }
                nonce += 1;
            }
            seen
        });
    }
    let mut outcome = Outcome::default();
    let (mut first, mut last) = (u64::MAX, 0);
    while let Some(ended) = tasks.join_next().await {
        let Ok(sender) = ended else { continue };
        outcome.executed += sender.executed.len();
        outcome.failed += sender.failed.len();
        outcome.first_failure = outcome.first_failure.or_else(|| sender.failed.into_iter().next());
        for (latency, round) in sender.executed {
            outcome.latencies.push(latency);
            (first, last) = (first.min(round), last.max(round));
        }
    }
    outcome.took = began.elapsed();
    outcome.rounds = last.saturating_sub(first).saturating_add(u64::from(outcome.executed > 0));
    outcome.latencies.sort();
    Ok(outcome)
}
