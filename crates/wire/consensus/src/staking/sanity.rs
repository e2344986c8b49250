//! Sanity checks of the staking section of a genesis document, of accounts, and of staking parameters.
//!
//! Source: `go/staking/api/sanity_check.go`.

use std::collections::BTreeMap;

use base_prims::{Address, EPOCH_INVALID, Epoch, Quantity};

use super::{
    Account, COMMISSION_RATE_DENOMINATOR, DebondingDelegation, Delegation, EscrowAccount, Genesis, ParameterChanges,
    Parameters, REQUIRED_THRESHOLDS, REWARD_AMOUNT_DENOMINATOR, TOKEN_SYMBOL_MAX_CHARS, TOKEN_VALUE_EXPONENT_MAX,
    claims::Thresholds,
};
use crate::{Invalid, invalid};

impl Parameters {
    /// Checks the parameters. `allow_debug`: unsafe debug options are allowed.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn sanity_check(&self, allow_debug: bool) -> Result<(), Invalid> {
        if self.debug_bypass_stake && !allow_debug {
            invalid!("one or more unsafe debug flags set");
        }
        for kind in REQUIRED_THRESHOLDS {
            if !self.thresholds.contains_key(&kind) {
                invalid!("threshold for kind '{kind}' not defined");
            }
        }
        let weights =
            [&self.fee_split_weight_propose, &self.fee_split_weight_vote, &self.fee_split_weight_next_propose];
        if weights.iter().all(|w| w.is_zero()) {
            invalid!("fee split proportions are all zero");
        }
        let lowest = &self.commission_schedule_rules.min_commission_rate;
        if *lowest > COMMISSION_RATE_DENOMINATOR.into() {
            invalid!("minimum commission {lowest}/{COMMISSION_RATE_DENOMINATOR} over unity");
        }
        let mut previous = 0;
        for step in &self.reward_schedule {
            if step.scale > REWARD_AMOUNT_DENOMINATOR.into() {
                invalid!("reward scale must not be greater than {REWARD_AMOUNT_DENOMINATOR}");
            }
            if step.until == EPOCH_INVALID {
                invalid!("reward until field must be a valid epoch");
            }
            if step.until <= previous {
                invalid!(
                    "reward schedule steps must be sequential (previous is {previous}, current is {})",
                    step.until
                );
            }
            previous = step.until;
        }
        if self.signing_reward_threshold_numerator > self.signing_reward_threshold_denominator {
            invalid!("signing reward threshold numerator must be less than or equal to denominator");
        }
        Ok(())
    }
}

impl ParameterChanges {
    /// Checks that something changes.
    ///
    /// # Errors
    /// If nothing does.
    pub fn sanity_check(&self) -> Result<(), Invalid> {
        if *self == Self::default() {
            invalid!("consensus parameter changes should not be empty");
        }
        Ok(())
    }

    /// Applies the changes.
    pub fn apply(&self, params: &mut Parameters) {
        fn set<T: Clone>(target: &mut T, change: &Option<T>) {
            if let Some(value) = change {
                target.clone_from(value);
            }
        }
        set(&mut params.debonding_interval, &self.debonding_interval);
        if let Some(schedule) = &self.reward_schedule {
            params.reward_schedule = schedule.as_ref().clone().unwrap_or_default();
        }
        set(&mut params.gas_costs, &self.gas_costs);
        set(&mut params.min_delegation_amount, &self.min_delegation_amount);
        set(&mut params.min_transfer_amount, &self.min_transfer_amount);
        set(&mut params.min_transact_balance, &self.min_transact_balance);
        set(&mut params.commission_schedule_rules.min_commission_rate, &self.min_commission_rate);
        set(&mut params.disable_transfers, &self.disable_transfers);
        set(&mut params.disable_delegation, &self.disable_delegation);
        set(&mut params.allow_escrow_messages, &self.allow_escrow_messages);
        set(&mut params.max_allowances, &self.max_allowances);
        set(&mut params.fee_split_weight_propose, &self.fee_split_weight_propose);
        set(&mut params.fee_split_weight_vote, &self.fee_split_weight_vote);
        set(&mut params.fee_split_weight_next_propose, &self.fee_split_weight_next_propose);
        set(&mut params.reward_factor_epoch_signed, &self.reward_factor_epoch_signed);
        set(&mut params.reward_factor_block_proposed, &self.reward_factor_block_proposed);
    }
}

/// Checks an account and adds its balances to `total`.
///
/// # Errors
/// Names what is wrong.
pub fn check_account(
    total: &mut Quantity,
    params: &Parameters,
    now: Epoch,
    address: &Address,
    account: &Account,
    supply: &Quantity,
) -> Result<(), Invalid> {
    if address.is_reserved() {
        invalid!("staking: sanity check failed: account has invalid address: {address}");
    }
    for balance in [&account.general.balance, &account.escrow.active.balance, &account.escrow.debonding.balance] {
        total.add_assign(balance);
    }
    let mut schedule = account.escrow.commission_schedule.clone();
    if let Err(e) = schedule.prune_and_validate(&params.commission_schedule_rules, now) {
        invalid!("staking: sanity check failed: commission schedule for account {address} is invalid: {e}");
    }
    for (beneficiary, allowance) in &account.general.allowances {
        if beneficiary.is_reserved() {
            invalid!(
                "staking: sanity check failed: account {address} allowance has invalid beneficiary address {beneficiary}"
            );
        }
        if allowance > supply {
            invalid!(
                "staking: sanity check failed: account {address} allowance is greater than total supply for beneficiary \
                 {beneficiary}"
            );
        }
    }
    Ok(())
}

fn check_pool<'a>(
    address: &Address,
    what: &str,
    balance: &Quantity,
    expected: &Quantity,
    shares: impl Iterator<Item = &'a Quantity>,
) -> Result<(), Invalid> {
    let (mut total, mut count) = (Quantity::ZERO, 0u64);
    for s in shares {
        total.add_assign(s);
        count = count.saturating_add(1);
    }
    if total != *expected {
        invalid!(
            "staking: sanity check failed: {what} delegations ({total}) for account {address} don't match account's total \
             {what} shares in escrow ({expected})"
        );
    }
    if count == 0 && !balance.is_zero() {
        invalid!(
            "staking: sanity check failed: account {address} has no {what} delegations, but non-zero {what} escrow balance"
        );
    }
    Ok(())
}

fn check_delegators<'a>(address: &Address, mut delegators: impl Iterator<Item = &'a Address>) -> Result<(), Invalid> {
    if address.is_reserved() {
        invalid!("staking: sanity check failed: delegation to {address}: address is invalid");
    }
    if let Some(delegator) = delegators.find(|d| d.is_reserved()) {
        invalid!(
            "staking: sanity check failed: delegation from {delegator} to {address}: delegator address is invalid"
        );
    }
    Ok(())
}

/// Checks that delegations to an account are those of its active pool.
///
/// # Errors
/// Names what is wrong.
pub fn check_delegations(
    address: &Address,
    account: &Account,
    delegations: &BTreeMap<Address, Delegation>,
) -> Result<(), Invalid> {
    check_delegators(address, delegations.keys())?;
    let pool = &account.escrow.active;
    check_pool(address, "active", &pool.balance, &pool.total_shares, delegations.values().map(|d| &d.shares))
}

/// Debonding delegations to one account, by delegator.
pub type DebondingTo = BTreeMap<Address, Option<Vec<DebondingDelegation>>>;

/// Checks that debonding delegations to an account are those of its debonding pool.
///
/// # Errors
/// Names what is wrong.
pub fn check_debonding_delegations(
    address: &Address,
    account: &Account,
    delegations: &DebondingTo,
) -> Result<(), Invalid> {
    check_delegators(address, delegations.keys())?;
    let pool = &account.escrow.debonding;
    let shares = delegations.values().flatten().flatten().map(|d| &d.shares);
    check_pool(address, "debonding", &pool.balance, &pool.total_shares, shares)
}

/// Checks both pools of an account against the delegations to it, which may be none.
///
/// # Errors
/// Names what is wrong.
pub fn check_account_shares(
    address: &Address,
    account: &Account,
    delegations: Option<&BTreeMap<Address, Delegation>>,
    debonding: Option<&DebondingTo>,
) -> Result<(), Invalid> {
    let EscrowAccount { active, debonding: pool, .. } = &account.escrow;
    let shares = delegations.into_iter().flatten().map(|(_, d)| &d.shares);
    check_pool(address, "active", &active.balance, &active.total_shares, shares)?;
    let shares = debonding.into_iter().flatten().flat_map(|(_, l)| l.iter().flatten()).map(|d| &d.shares);
    check_pool(address, "debonding", &pool.balance, &pool.total_shares, shares)
}

impl Genesis {
    /// Checks the whole section. `now`: the base epoch; `allow_debug`: unsafe debug options are allowed.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn sanity_check(&self, now: Epoch, allow_debug: bool) -> Result<(), Invalid> {
        self.parameters.sanity_check(allow_debug).map_err(|e| Invalid(format!("staking: sanity check failed: {e}")))?;
        check_token(&self.token_symbol, self.token_value_exponent)?;

        let mut total = self.governance_deposits.add(&self.common_pool).add(&self.last_block_fees);
        for (address, account) in &self.ledger {
            check_account(&mut total, &self.parameters, now, address, account, &self.total_supply)?;
            if !account.escrow.stake_accumulator.claims.is_empty() {
                invalid!("staking: non-empty stake accumulator in genesis");
            }
        }
        if total != self.total_supply {
            invalid!(
                "staking: sanity check failed: balances in accounts, plus governance deposits, plus common pool, plus last \
                 block fees ({total}), does not add up to total supply ({})",
                self.total_supply
            );
        }
        for (address, delegations) in &self.delegations {
            check_delegations(address, self.existing(address)?, delegations)?;
        }
        for (address, delegations) in &self.debonding_delegations {
            check_debonding_delegations(address, self.existing(address)?, delegations)?;
        }
        for (address, account) in &self.ledger {
            let (active, debonding) = (self.delegations.get(address), self.debonding_delegations.get(address));
            check_account_shares(address, account, active, debonding)?;
        }
        Ok(())
    }

    fn existing(&self, address: &Address) -> Result<&Account, Invalid> {
        let missing =
            || Invalid(format!("staking: sanity check failed: delegation to a nonexisting account: {address}"));
        self.ledger.get(address).ok_or_else(missing)
    }
}

fn check_token(symbol: &str, exponent: u8) -> Result<(), Invalid> {
    if symbol.is_empty() {
        invalid!("staking: sanity check failed: token symbol is empty");
    }
    if symbol.len() > TOKEN_SYMBOL_MAX_CHARS {
        invalid!("staking: sanity check failed: token symbol exceeds maximum length");
    }
    if !symbol.bytes().all(|b| b.is_ascii_uppercase()) {
        invalid!("staking: sanity check failed: token symbol should match '^[A-Z]+$'");
    }
    if exponent > TOKEN_VALUE_EXPONENT_MAX {
        invalid!("staking: sanity check failed: token value exponent is invalid");
    }
    Ok(())
}

/// Compares claims on stake that follow from what is registered with those of the accounts.
///
/// `genesis`: the accounts are those of a genesis document, where claims are empty and the stake has to cover what is
/// registered; otherwise claims have to be equal.
///
/// # Errors
/// Names the account and what is wrong with it.
pub fn check_stake(
    accounts: &BTreeMap<Address, Account>,
    expected: &mut BTreeMap<Address, EscrowAccount>,
    thresholds: &Thresholds,
    genesis: bool,
) -> Result<(), Invalid> {
    if genesis {
        for (address, escrow) in expected.iter_mut() {
            if let Some(account) = accounts.get(address) {
                escrow.active.clone_from(&account.escrow.active);
            }
            if let Err(e) = escrow.check_stake_claims(thresholds) {
                let wanted =
                    escrow.stake_accumulator.total_claims(thresholds, None).map_or("unknown".into(), |q| q.to_string());
                invalid!(
                    "insufficient stake for account {address} (expected: {wanted} got: {}): {e}",
                    escrow.active.balance
                );
            }
        }
        return Ok(());
    }
    let none = EscrowAccount::default();
    let addresses: std::collections::BTreeSet<&Address> = expected.keys().chain(accounts.keys()).collect();
    for address in addresses {
        let wanted = &expected.get(address).unwrap_or(&none).stake_accumulator.claims;
        let actual = &accounts.get(address).map_or(&none, |a| &a.escrow).stake_accumulator.claims;
        if wanted.len() != actual.len() {
            invalid!(
                "incorrect number of stake claims for account {address} (expected: {} got: {})",
                wanted.len(),
                actual.len()
            );
        }
        for (claim, list) in wanted {
            let Some(found) = actual.get(claim) else { invalid!("missing claim {claim} for account {address}") };
            let (list, found) = (list.as_deref().unwrap_or_default(), found.as_deref().unwrap_or_default());
            if list.len() != found.len() || !list.iter().zip(found).all(|(a, b)| b.same(a)) {
                invalid!("incorrect thresholds for claim {claim} for account {address}");
            }
        }
    }
    Ok(())
}
