//! Many transactions at once.

use std::time::Duration;

use base_crypto::ed25519::SecretKey;
use futures_util::future::try_join_all;
use wire_consensus::staking::{METHOD_TRANSFER, Transfer};
use wire_consensus::transaction::{Fee, Transaction};

use crate::Job;
use crate::base::address;
use crate::node::{MODULE, WorkloadError};

/// How many at once.
const ACCOUNTS: usize = 200;
/// What each sends itself.
const AMOUNT: u64 = 100;
/// For how many rounds an account is given gas.
const FUNDED_ROUNDS: u64 = 10;
/// How long a round may take.
const ROUND_TIME: Duration = Duration::from_secs(120);
/// The pause between rounds.
const PAUSE: Duration = Duration::from_secs(60);

pub(crate) async fn run(mut job: Job) -> Result<(), WorkloadError> {
    let body = Transfer { to: job.base.funding_address(), amount: AMOUNT.into() };
    let example = Transaction::new(0, None, METHOD_TRANSFER, &body);
    let gas = job.base.gas(job.base.funding_key(), &example).await?;
    let fee = Fee { amount: job.base.cost(gas), gas };
    let round_costs = gas.saturating_mul(job.base.gas_price).saturating_mul(FUNDED_ROUNDS);
    let mut accounts = Vec::with_capacity(ACCOUNTS);
    for _ in 0..ACCOUNTS {
        let key = job.random.key();
        job.base.give(address(&key), AMOUNT.saturating_add(round_costs)).await?;
        accounts.push(key);
    }
    for nonce in 0.. {
        let sending = try_join_all(accounts.iter().map(|key| send(&job, key, nonce, &fee)));
        let sent = tokio::time::timeout(ROUND_TIME, sending).await;
        sent.map_err(|_| WorkloadError::Timeout { what: "parallel transactions", limit: ROUND_TIME })??;
        tracing::debug!(module = MODULE, concurrency = ACCOUNTS, "all transfers successful");
        if (nonce + 1) % FUNDED_ROUNDS == 0 {
            for key in &accounts {
                job.base.give(address(key), round_costs).await?;
            }
        }
        if !job.deadline.pause(PAUSE).await {
            break;
        }
    }
    Ok(())
}

async fn send(job: &Job, key: &SecretKey, nonce: u64, fee: &Fee) -> Result<(), WorkloadError> {
    let body = Transfer { to: address(key), amount: AMOUNT.into() };
    let tx = Transaction::new(nonce, Some(fee.clone()), METHOD_TRANSFER, &body);
    job.base.send(job.base.sign(key, &tx)?).await
}
