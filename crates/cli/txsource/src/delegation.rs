//! Delegations and their end.

use std::collections::BTreeMap;
use std::time::Duration;

use base_crypto::ed25519::SecretKey;
use base_prims::{Address, Epoch};
use wire_consensus::staking::{
    DebondingDelegation, Delegation, Escrow, METHOD_ADD_ESCROW, METHOD_RECLAIM_ESCROW, OwnerQuery, ReclaimEscrow,
};

use crate::Job;
use crate::base::address;
use crate::node::{LATEST, MODULE, WorkloadError, violated};

const ACCOUNTS: usize = 10;
const AMOUNT: u64 = 100;
const PAUSE: Duration = Duration::from_secs(1);

struct Account {
    key: SecretKey,
    address: Address,
    /// To whom it delegates now.
    delegated_to: Option<Address>,
    /// When what it delegated last comes back.
    debonded_at: Epoch,
}

pub(crate) async fn run(mut job: Job) -> Result<(), WorkloadError> {
    let mut accounts = Vec::new();
    for _ in 0..ACCOUNTS {
        let key = job.random.key();
        let address = address(&key);
        job.base.give(address, AMOUNT).await?;
        accounts.push(Account { key, address, delegated_to: None, debonded_at: 0 });
    }
    loop {
        if job.random.coin() {
            delegate(&mut job, &mut accounts).await?;
        } else {
            reclaim(&mut job, &mut accounts).await?;
        }
        if !job.deadline.pause(PAUSE).await {
            return Ok(());
        }
    }
}

async fn delegate(job: &mut Job, accounts: &mut [Account]) -> Result<(), WorkloadError> {
    let epoch = job.node().epoch(LATEST).await?;
    let order = job.random.order(ACCOUNTS);
    // A delegator has again what it delegated before.
    let free =
        |account: &Account| account.delegated_to.is_none() && (account.debonded_at == 0 || account.debonded_at < epoch);
    let Some(from) = order.into_iter().find(|place| free(&accounts[*place])) else {
        tracing::debug!(module = MODULE, "all accounts already delegating or debonding, skipping delegation");
        return Ok(());
    };
    let to = accounts[job.random.index(ACCOUNTS)].address;
    let body = Escrow { account: to, amount: AMOUNT.into() };
    job.base.funded(&accounts[from].key, METHOD_ADD_ESCROW, &body).await?;
    accounts[from].delegated_to = Some(to);
    Ok(())
}

async fn reclaim(job: &mut Job, accounts: &mut [Account]) -> Result<(), WorkloadError> {
    let order = job.random.order(ACCOUNTS);
    let found = order.into_iter().find_map(|place| Some((place, accounts[place].delegated_to?)));
    let Some((from, to)) = found else {
        tracing::debug!(module = MODULE, "no accounts delegating, skipping reclaim");
        return Ok(());
    };
    let account = &mut accounts[from];
    let query = OwnerQuery { height: LATEST, owner: account.address };
    let delegations: BTreeMap<Address, Delegation> = job.node().ask("Staking", "DelegationsFor", query.clone()).await?;
    let Some(delegation) = delegations.get(&to) else {
        return violated(format!("missing expected delegation by {} to {to}", account.address));
    };
    let body = ReclaimEscrow { account: to, shares: delegation.shares.clone() };
    job.base.funded(&account.key, METHOD_RECLAIM_ESCROW, &body).await?;
    let debonding: BTreeMap<Address, Option<Vec<DebondingDelegation>>> =
        job.node().ask("Staking", "DebondingDelegationsFor", query).await?;
    let Some(first) = debonding.get(&to).and_then(|list| list.as_ref()?.first()) else {
        return violated(format!("missing expected debonding delegation by {} from {to}", account.address));
    };
    account.delegated_to = None;
    account.debonded_at = first.debond_end_time;
    Ok(())
}
