//! Transfers, burns, allowances and withdrawals between a few accounts, whose balances are reckoned along.

use std::collections::BTreeMap;

use base_crypto::ed25519::SecretKey;
use base_prims::{Address, Quantity};
use wire_consensus::staking::{
    Allow, Burn, METHOD_ALLOW, METHOD_BURN, METHOD_TRANSFER, METHOD_WITHDRAW, Transfer, Withdraw,
};

use crate::Job;
use crate::base::address;
use crate::node::{LATEST, WorkloadError, violated};

const ACCOUNTS: usize = 10;
const TRANSFER: u64 = 1;
const BURN: u64 = 10;
const MAX_ALLOWANCE_CHANGE: u64 = 20;

struct Account {
    key: SecretKey,
    address: Address,
    balance: Quantity,
}

struct Transfers {
    job: Job,
    accounts: Vec<Account>,
    /// By owner and beneficiary, as places of accounts.
    allowances: BTreeMap<(usize, usize), Quantity>,
}

pub(crate) async fn run(mut job: Job) -> Result<(), WorkloadError> {
    let mut accounts = Vec::new();
    for _ in 0..ACCOUNTS {
        let key = job.random.key();
        let address = address(&key);
        job.base.give(address, TRANSFER).await?;
        accounts.push(Account { key, address, balance: job.node().balance(address).await? });
    }
    let mut all = Transfers { job, accounts, allowances: BTreeMap::new() };
    loop {
        match all.job.random.below(4) {
            0 => all.transfer().await?,
            1 => all.burn().await?,
            2 => all.allow().await?,
            _ => all.withdraw().await?,
        }
        all.check().await?;
        if !all.job.deadline.pause(std::time::Duration::ZERO).await {
            return Ok(());
        }
    }
}

impl Transfers {
    /// Two different accounts, of which the first has something left.
    fn pair(&mut self, least: u64) -> Result<(usize, usize), WorkloadError> {
        let order = self.job.random.order(ACCOUNTS);
        let rich = order.iter().position(|place| self.accounts[*place].balance >= Quantity::from(least));
        let Some(from) = rich else { return violated("all accounts have gone broke") };
        Ok((order[from], order[(from + 1) % ACCOUNTS]))
    }

    /// Books a payment.
    fn moved(&mut self, from: usize, to: usize, amount: &Quantity) -> Result<(), WorkloadError> {
        let paid = self.accounts[from].balance.sub_assign(amount);
        paid.map_err(|_| WorkloadError::Violated("an account paid more than it has".to_owned()))?;
        self.accounts[to].balance.add_assign(amount);
        Ok(())
    }

    async fn transfer(&mut self) -> Result<(), WorkloadError> {
        let (from, to) = self.pair(TRANSFER)?;
        let body = Transfer { to: self.accounts[to].address, amount: TRANSFER.into() };
        self.job.base.funded(&self.accounts[from].key, METHOD_TRANSFER, &body).await?;
        self.moved(from, to, &TRANSFER.into())
    }

    async fn burn(&mut self) -> Result<(), WorkloadError> {
        let place = self.job.random.index(ACCOUNTS);
        // What is burned was given for it.
        self.job.base.give(self.accounts[place].address, BURN).await?;
        self.job.base.funded(&self.accounts[place].key, METHOD_BURN, &Burn { amount: BURN.into() }).await
    }

    async fn allow(&mut self) -> Result<(), WorkloadError> {
        let (owner, beneficiary) = self.pair(0)?;
        let change = Quantity::from(self.job.random.below(MAX_ALLOWANCE_CHANGE));
        let body = Allow {
            beneficiary: self.accounts[beneficiary].address,
            negative: self.job.random.coin(),
            amount_change: change.clone(),
        };
        self.job.base.funded(&self.accounts[owner].key, METHOD_ALLOW, &body).await?;
        let allowance = self.allowances.entry((owner, beneficiary)).or_default();
        if body.negative {
            allowance.sub_up_to(&change);
        } else {
            allowance.add_assign(&change);
        }
        Ok(())
    }

    async fn withdraw(&mut self) -> Result<(), WorkloadError> {
        let (from, to) = self.pair(TRANSFER)?;
        let Some(allowance) = self.allowances.get(&(from, to)).filter(|allowance| !allowance.is_zero()) else {
            return Ok(());
        };
        let most = allowance.min(&self.accounts[from].balance).to_u64().unwrap_or(u64::MAX);
        let amount = Quantity::from(self.job.random.below(most));
        let body = Withdraw { from: self.accounts[from].address, amount: amount.clone() };
        self.job.base.funded(&self.accounts[to].key, METHOD_WITHDRAW, &body).await?;
        self.moved(from, to, &amount)?;
        let allowance = self.allowances.entry((from, to)).or_default();
        allowance.sub_up_to(&amount);
        Ok(())
    }

    /// What one account has is what was reckoned.
    async fn check(&mut self) -> Result<(), WorkloadError> {
        let place = self.job.random.index(ACCOUNTS);
        let Account { address, balance, .. } = &self.accounts[place];
        let found = self.job.node().account(*address, LATEST).await?.general.balance;
        if found == *balance { Ok(()) } else { violated(format!("{address} has {found}, not {balance}")) }
    }
}
