//! Claims on stake: what an account's escrow must cover while something of its is registered.
//!
//! Source: `go/consensus/cometbft/apps/staking/state/accumulator.go`.

use std::collections::{BTreeMap, btree_map::Entry};

use apps_core::{
    Context, Error, Result,
    kv::{KvRead, KvWrite},
};
use base_prims::{Address, Quantity};
use wire_consensus::{
    errors::staking as codes,
    staking::{Account, ClaimError, StakeThreshold, ThresholdKind},
};

use crate::state;

fn claim_error(e: ClaimError) -> Error {
    match e {
        ClaimError::InsufficientStake => Error::from(&codes::INSUFFICIENT_STAKE),
        other => Error::Uncoded(other.to_string()),
    }
}

/// Checks and changes claims on several accounts, reading parameters and accounts once.
#[derive(Clone, Debug)]
pub struct StakeAccumulator {
    thresholds: BTreeMap<ThresholdKind, Quantity>,
    accounts: BTreeMap<Address, Account>,
}

impl StakeAccumulator {
    /// An accumulator with the thresholds of the state.
    ///
    /// # Errors
    /// [`Error::Fatal`] if the state is unavailable.
    pub fn new(kv: &dyn KvRead) -> Result<Self> {
        Ok(Self { thresholds: state::thresholds(kv)?, accounts: BTreeMap::new() })
    }

    fn account(&mut self, kv: &dyn KvRead, address: &Address) -> Result<&mut Account> {
        match self.accounts.entry(*address) {
            Entry::Occupied(e) => Ok(e.into_mut()),
            Entry::Vacant(e) => Ok(e.insert(state::account(kv, address)?)),
        }
    }

    /// Fails with [`codes::INSUFFICIENT_STAKE`] if an account's active stake does not cover its claims.
    ///
    /// # Errors
    /// That, or if a claim is malformed.
    pub fn require_claims(&mut self, kv: &dyn KvRead, address: &Address) -> Result<()> {
        self.account(kv, address)?;
        let Self { thresholds, accounts } = self;
        accounts.get(address).map_or(Ok(()), |a| a.escrow.check_stake_claims(thresholds).map_err(claim_error))
    }

    /// Whether an account's active stake covers its claims.
    ///
    /// # Errors
    /// [`Error::Fatal`] if the state is unavailable.
    pub fn check_claims(&mut self, kv: &dyn KvRead, address: &Address) -> Result<bool> {
        match self.require_claims(kv, address) {
            Ok(()) => Ok(true),
            Err(e) if e.is_fatal() => Err(e),
            Err(_) => Ok(false),
        }
    }

    /// Sets a claim. On error nothing changes.
    ///
    /// # Errors
    /// [`codes::INSUFFICIENT_STAKE`] if the stake does not cover all claims then.
    pub fn add_claim(
        &mut self,
        kv: &dyn KvRead,
        address: &Address,
        claim: &str,
        thresholds: &[StakeThreshold],
    ) -> Result<()> {
        self.account(kv, address)?;
        let Self { thresholds: known, accounts } = self;
        match accounts.get_mut(address) {
            Some(a) => a.escrow.add_stake_claim(known, claim, thresholds).map_err(claim_error),
            None => Ok(()),
        }
    }

    /// Removes a claim.
    ///
    /// # Errors
    /// If there is no such claim.
    pub fn remove_claim(&mut self, kv: &dyn KvRead, address: &Address, claim: &str) -> Result<()> {
        self.account(kv, address)?.escrow.remove_stake_claim(claim).map_err(claim_error)
    }

    /// Active stake of an account.
    ///
    /// # Errors
    /// [`Error::Fatal`] if the state is unavailable.
    pub fn escrow_balance(&mut self, kv: &dyn KvRead, address: &Address) -> Result<Quantity> {
        Ok(self.account(kv, address)?.escrow.active.balance.clone())
    }

    /// Writes all accounts that were looked at. They must not have changed meanwhile.
    ///
    /// # Errors
    /// [`Error::Fatal`] if the store fails.
    pub fn commit(&self, kv: &mut dyn KvWrite) -> Result<()> {
        self.accounts.iter().try_for_each(|(address, account)| state::set_account(kv, address, account))
    }
}

/// Sets one claim and writes the account.
///
/// # Errors
/// [`codes::INSUFFICIENT_STAKE`] if the stake does not cover all claims then.
pub fn add_stake_claim(
    ctx: &mut Context<'_>,
    address: &Address,
    claim: &str,
    thresholds: &[StakeThreshold],
) -> Result<()> {
    let mut acc = StakeAccumulator::new(&ctx.state())?;
    acc.add_claim(&ctx.state(), address, claim, thresholds)?;
    acc.commit(&mut ctx.state())
}

/// Removes one claim and writes the account.
///
/// # Errors
/// If there is no such claim.
pub fn remove_stake_claim(ctx: &mut Context<'_>, address: &Address, claim: &str) -> Result<()> {
    let mut acc = StakeAccumulator::new(&ctx.state())?;
    acc.remove_claim(&ctx.state(), address, claim)?;
    acc.commit(&mut ctx.state())
}

/// Fails with [`codes::INSUFFICIENT_STAKE`] if an account's active stake does not cover its claims.
///
/// # Errors
/// That, or if a claim is malformed.
pub fn check_stake_claims(ctx: &mut Context<'_>, address: &Address) -> Result<()> {
    StakeAccumulator::new(&ctx.state())?.require_claims(&ctx.state(), address)
}
