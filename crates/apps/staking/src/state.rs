//! State of the staking service: keys `50`–`5b`. Source: `go/consensus/cometbft/apps/staking/state`.

use std::{collections::BTreeMap, ops::ControlFlow};

use apps_core::{
    Context, Error, Mode, Result,
    kv::{self, Key, KeyReader, KvRead, KvWrite},
};
use base_codec::{Codec, cbor::Decode};
use base_prims::{Address, Epoch, PublicKey, Quantity};
use wire_consensus::{
    errors::staking as codes,
    staking::{
        Account, DebondingDelegation, DebondingDelegations, Delegation, Delegations, HookDestination, HookKind,
        Parameters, PoolError, Slash, SlashReason, ThresholdKind, TransferEvent,
    },
};

use crate::NAME;
pub use crate::{
    accumulator::{add_stake_claim, check_stake_claims, remove_stake_claim},
    rewards::{add_reward_single_attenuated, add_rewards, transfer_from_common},
    slashing::slash_escrow,
};

/// Accounts by address.
const ACCOUNT: u8 = 0x50;
/// Total supply.
const TOTAL_SUPPLY: u8 = 0x51;
/// Common pool.
const COMMON_POOL: u8 = 0x52;
/// Delegations by escrow account, delegator.
const DELEGATION: u8 = 0x53;
/// Debonding delegations by delegator, escrow account, epoch.
const DEBONDING_DELEGATION: u8 = 0x54;
/// Queue of debonding delegations by epoch, delegator, escrow account; values are empty.
const DEBONDING_QUEUE: u8 = 0x55;
/// Parameters.
const PARAMETERS: u8 = 0x56;
/// Fees of the last block that are still to be given out.
const LAST_BLOCK_FEES: u8 = 0x57;
/// Who signed how many blocks of the epoch.
const EPOCH_SIGNING: u8 = 0x58;
/// Deposits of governance proposals.
const GOVERNANCE_DEPOSITS: u8 = 0x59;
/// Delegations by delegator, escrow account.
const DELEGATION_REVERSE: u8 = 0x5a;
/// Addresses with a commission schedule; values are empty.
const COMMISSION_SCHEDULE_ADDRESS: u8 = 0x5b;

/// Turns an error of pool arithmetic into that of a transaction.
pub(crate) fn pool_error(e: PoolError) -> Error {
    match e {
        PoolError::Depleted => Error::from(&codes::INVALID_ARGUMENT),
        PoolError::Quantity(e) => e.into(),
    }
}

fn balance(state: &dyn KvRead, prefix: u8) -> Result<Quantity> {
    Ok(kv::get(state, &[prefix])?.unwrap_or_default())
}

/// All tokens.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn total_supply(state: &dyn KvRead) -> Result<Quantity> {
    balance(state, TOTAL_SUPPLY)
}

/// Sets the number of all tokens.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn set_total_supply(state: &mut dyn KvWrite, q: &Quantity) -> Result<()> {
    kv::put(state, &[TOTAL_SUPPLY], q)
}

/// The common pool.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn common_pool(state: &dyn KvRead) -> Result<Quantity> {
    balance(state, COMMON_POOL)
}

/// Sets the common pool.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn set_common_pool(state: &mut dyn KvWrite, q: &Quantity) -> Result<()> {
    kv::put(state, &[COMMON_POOL], q)
}

/// Fees of the last block that voters and the next proposer get.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn last_block_fees(state: &dyn KvRead) -> Result<Quantity> {
    balance(state, LAST_BLOCK_FEES)
}

/// Sets the fees of the last block.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn set_last_block_fees(state: &mut dyn KvWrite, q: &Quantity) -> Result<()> {
    kv::put(state, &[LAST_BLOCK_FEES], q)
}

/// Deposits of governance proposals.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn governance_deposits(state: &dyn KvRead) -> Result<Quantity> {
    balance(state, GOVERNANCE_DEPOSITS)
}

/// Sets the deposits of governance proposals.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn set_governance_deposits(state: &mut dyn KvWrite, q: &Quantity) -> Result<()> {
    kv::put(state, &[GOVERNANCE_DEPOSITS], q)
}

/// Parameters.
///
/// # Errors
/// [`Error::Fatal`] if they are missing or unreadable.
pub fn parameters(state: &dyn KvRead) -> Result<Parameters> {
    kv::get(state, &[PARAMETERS])?.ok_or_else(|| Error::fatal("corrupted state: no staking parameters"))
}

/// Sets the parameters; only at genesis and at the end of a block.
///
/// # Errors
/// If it is neither, or [`Error::Fatal`] if the store fails.
pub fn set_parameters(ctx: &mut Context<'_>, params: &Parameters) -> Result<()> {
    if !matches!(ctx.mode(), Mode::InitChain | Mode::EndBlock) {
        return Err(Error::uncoded("staking: parameters cannot be changed here"));
    }
    kv::put(&mut ctx.state(), &[PARAMETERS], params)
}

/// Required stake by kind.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn thresholds(state: &dyn KvRead) -> Result<BTreeMap<ThresholdKind, Quantity>> {
    Ok(parameters(state)?.thresholds)
}

/// Penalties by reason.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn slashing(state: &dyn KvRead) -> Result<BTreeMap<SlashReason, Slash>> {
    Ok(parameters(state)?.slashing)
}

fn addresses_under(state: &dyn KvRead, prefix: u8) -> Result<Vec<Address>> {
    let mut addresses = Vec::new();
    kv::iterate(state, &[prefix], &mut |key, _| {
        addresses.push(KeyReader::new(key)?.address()?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(addresses)
}

/// Addresses of all accounts, in order.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn addresses(state: &dyn KvRead) -> Result<Vec<Address>> {
    addresses_under(state, ACCOUNT)
}

/// Addresses of accounts with a commission schedule, in order.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn commission_schedule_addresses(state: &dyn KvRead) -> Result<Vec<Address>> {
    addresses_under(state, COMMISSION_SCHEDULE_ADDRESS)
}

/// An account; empty if nothing was ever written.
///
/// # Errors
/// If the address is reserved, or [`Error::Fatal`] if the state is unavailable.
pub fn account(state: &dyn KvRead, address: &Address) -> Result<Account> {
    if address.is_reserved() {
        return Err(Error::Uncoded(format!("staking: invalid account address: {address}")));
    }
    Ok(kv::get(state, &Key::new(ACCOUNT).address(address))?.unwrap_or_default())
}

/// Sets an account, and its place in the index of commission schedules.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn set_account(state: &mut dyn KvWrite, address: &Address, account: &Account) -> Result<()> {
    kv::put(state, &Key::new(ACCOUNT).address(address), account)?;
    let index = Key::new(COMMISSION_SCHEDULE_ADDRESS).address(address);
    if account.escrow.commission_schedule.is_empty() {
        kv::remove(state, &index)
    } else {
        kv::put_raw(state, &index, &[])
    }
}

/// Sets a hook of an account.
///
/// # Errors
/// As [`account`] and [`set_account`].
pub fn set_account_hook(
    state: &mut dyn KvWrite,
    address: &Address,
    kind: HookKind,
    destination: &HookDestination,
) -> Result<()> {
    let mut acct = account(&*state, address)?;
    acct.general.hooks.insert(kind, destination.clone());
    set_account(state, address, &acct)
}

/// Active stake of an account.
///
/// # Errors
/// As [`account`].
pub fn escrow_balance(state: &dyn KvRead, address: &Address) -> Result<Quantity> {
    Ok(account(state, address)?.escrow.active.balance)
}

/// Calls `visit` with both addresses of each key under `prefix`, in key order, and the decoded value.
fn each_pair<T: Decode>(state: &dyn KvRead, prefix: &[u8], visit: &mut dyn FnMut(Address, Address, T)) -> Result<()> {
    kv::iterate(state, prefix, &mut |key, value| {
        let mut reader = KeyReader::new(key)?;
        let (first, second) = (reader.address()?, reader.address()?);
        visit(first, second, kv::decode(key, value)?);
        Ok(ControlFlow::Continue(()))
    })
}

/// All delegations.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn delegations(state: &dyn KvRead) -> Result<Delegations> {
    let mut all = Delegations::new();
    each_pair(state, &[DELEGATION], &mut |escrow, delegator, d: Delegation| {
        all.entry(escrow).or_default().insert(delegator, d);
    })?;
    Ok(all)
}

/// A delegation; without shares if there is none.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn delegation(state: &dyn KvRead, delegator: &Address, escrow: &Address) -> Result<Delegation> {
    Ok(kv::get(state, &Key::new(DELEGATION).address(escrow).address(delegator))?.unwrap_or_default())
}

/// Delegations of a delegator by escrow account.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn delegations_for(state: &dyn KvRead, delegator: &Address) -> Result<BTreeMap<Address, Delegation>> {
    let mut found = BTreeMap::new();
    each_pair(state, &Key::new(DELEGATION_REVERSE).address(delegator), &mut |_, escrow, d| {
        found.insert(escrow, d);
    })?;
    Ok(found)
}

/// Delegations to an escrow account by delegator.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn delegations_to(state: &dyn KvRead, escrow: &Address) -> Result<BTreeMap<Address, Delegation>> {
    let mut found = BTreeMap::new();
    each_pair(state, &Key::new(DELEGATION).address(escrow), &mut |_, delegator, d| {
        found.insert(delegator, d);
    })?;
    Ok(found)
}

/// Sets a delegation; without shares it is removed.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn set_delegation(state: &mut dyn KvWrite, delegator: &Address, escrow: &Address, d: &Delegation) -> Result<()> {
    let forward = Key::new(DELEGATION).address(escrow).address(delegator);
    let reverse = Key::new(DELEGATION_REVERSE).address(delegator).address(escrow);
    if d.shares.is_zero() {
        kv::remove(state, &forward)?;
        kv::remove(state, &reverse)
    } else {
        kv::put(state, &forward, d)?;
        kv::put(state, &reverse, d)
    }
}

/// All debonding delegations.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn debonding_delegations(state: &dyn KvRead) -> Result<DebondingDelegations> {
    let mut all = DebondingDelegations::new();
    each_pair(state, &[DEBONDING_DELEGATION], &mut |delegator, escrow, d| {
        all.entry(escrow).or_default().entry(delegator).or_default().get_or_insert_default().push(d);
    })?;
    Ok(all)
}

/// A debonding delegation that ends at the epoch; without shares if there is none.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn debonding_delegation(
    state: &dyn KvRead,
    delegator: &Address,
    escrow: &Address,
    epoch: Epoch,
) -> Result<DebondingDelegation> {
    let key = Key::new(DEBONDING_DELEGATION).address(delegator).address(escrow).u64(epoch);
    Ok(kv::get(state, &key)?.unwrap_or_default())
}

/// Debonding delegations of a delegator by escrow account.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn debonding_delegations_for(
    state: &dyn KvRead,
    delegator: &Address,
) -> Result<BTreeMap<Address, Vec<DebondingDelegation>>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    each_pair(state, &Key::new(DEBONDING_DELEGATION).address(delegator), &mut |_, escrow, d| {
        found.entry(escrow).or_default().push(d);
    })?;
    Ok(found)
}

/// Debonding delegations to an escrow account by delegator.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn debonding_delegations_to(
    state: &dyn KvRead,
    escrow: &Address,
) -> Result<BTreeMap<Address, Vec<DebondingDelegation>>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    each_pair(state, &[DEBONDING_DELEGATION], &mut |delegator, to, d| {
        if to == *escrow {
            found.entry(delegator).or_default().push(d);
        }
    })?;
    Ok(found)
}

/// Adds a debonding delegation, to one that ends at the same time if there is one, and queues it.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn add_debonding_delegation(
    state: &mut dyn KvWrite,
    delegator: &Address,
    escrow: &Address,
    d: &DebondingDelegation,
) -> Result<()> {
    let epoch = d.debond_end_time;
    let key = Key::new(DEBONDING_DELEGATION).address(delegator).address(escrow).u64(epoch);
    let mut merged = d.clone();
    if let Some(existing) = kv::get::<DebondingDelegation>(&*state, &key)? {
        if existing.debond_end_time != epoch {
            return Err(Error::uncoded("cannot merge debonding delegations with different end times"));
        }
        merged.shares.add_assign(&existing.shares);
    }
    kv::put_raw(state, &Key::new(DEBONDING_QUEUE).u64(epoch).address(delegator).address(escrow), &[])?;
    kv::put(state, &key, &merged)
}

/// Removes a debonding delegation.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn remove_debonding_delegation(
    state: &mut dyn KvWrite,
    delegator: &Address,
    escrow: &Address,
    epoch: Epoch,
) -> Result<()> {
    kv::remove(state, &Key::new(DEBONDING_DELEGATION).address(delegator).address(escrow).u64(epoch))
}

/// Removes an entry of the debonding queue.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn remove_from_debonding_queue(
    state: &mut dyn KvWrite,
    epoch: Epoch,
    delegator: &Address,
    escrow: &Address,
) -> Result<()> {
    kv::remove(state, &Key::new(DEBONDING_QUEUE).u64(epoch).address(delegator).address(escrow))
}

/// An entry of the debonding queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebondingQueueEntry {
    /// Epoch under which it is queued.
    pub epoch: Epoch,
    /// Delegator.
    pub delegator: Address,
    /// Account delegated to.
    pub escrow: Address,
    /// The delegation.
    pub delegation: DebondingDelegation,
}

/// Entries of the debonding queue that are due at the epoch, in order.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn expired_debonding_queue(state: &dyn KvRead, epoch: Epoch) -> Result<Vec<DebondingQueueEntry>> {
    let mut due = Vec::new();
    kv::iterate(state, &[DEBONDING_QUEUE], &mut |key, _| {
        let mut reader = KeyReader::new(key)?;
        let (until, delegator, escrow) = (reader.u64()?, reader.address()?, reader.address()?);
        if until > epoch {
            return Ok(ControlFlow::Break(()));
        }
        due.push((until, delegator, escrow));
        Ok(ControlFlow::Continue(()))
    })?;
    due.into_iter()
        .map(|(epoch, delegator, escrow)| {
            let delegation = debonding_delegation(state, &delegator, &escrow, epoch)?;
            Ok(DebondingQueueEntry { epoch, delegator, escrow, delegation })
        })
        .collect()
}

/// Who signed how many blocks of the epoch. CBOR: `{Total, ByEntity: {key: count}}`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EpochSigning {
    /// Blocks.
    #[codec(rename = "Total")]
    pub total: u64,
    /// Blocks signed by each entity.
    #[codec(rename = "ByEntity")]
    pub by_entity: BTreeMap<PublicKey, u64>,
}

impl EpochSigning {
    /// Counts a block. An entity counts once for each of its validators that signed.
    ///
    /// # Errors
    /// If a count overflows.
    pub fn update(&mut self, signers: &[PublicKey]) -> Result<()> {
        let overflow = || Error::uncoded("staking: count of signed blocks overflows");
        self.total = self.total.checked_add(1).ok_or_else(overflow)?;
        for entity in signers {
            let count = self.by_entity.entry(*entity).or_default();
            *count = count.checked_add(1).ok_or_else(overflow)?;
        }
        Ok(())
    }

    /// Entities that signed at least the given part of all blocks, in order of their keys.
    ///
    /// # Errors
    /// If a product overflows.
    pub fn eligible_entities(&self, numerator: u64, denominator: u64) -> Result<Vec<PublicKey>> {
        let overflow = || Error::uncoded("staking: threshold of signed blocks overflows");
        let threshold = self.total.checked_mul(numerator).ok_or_else(overflow)?;
        let mut eligible = Vec::new();
        for (entity, count) in &self.by_entity {
            if count.checked_mul(denominator).ok_or_else(overflow)? >= threshold {
                eligible.push(*entity);
            }
        }
        Ok(eligible)
    }
}

/// Who signed how many blocks of the epoch.
///
/// # Errors
/// [`Error::Fatal`] if the state is unavailable.
pub fn epoch_signing(state: &dyn KvRead) -> Result<EpochSigning> {
    Ok(kv::get(state, &[EPOCH_SIGNING])?.unwrap_or_default())
}

/// Sets who signed how many blocks.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn set_epoch_signing(state: &mut dyn KvWrite, signing: &EpochSigning) -> Result<()> {
    kv::put(state, &[EPOCH_SIGNING], signing)
}

/// Forgets who signed how many blocks.
///
/// # Errors
/// [`Error::Fatal`] if the store fails.
pub fn clear_epoch_signing(state: &mut dyn KvWrite) -> Result<()> {
    kv::remove(state, &[EPOCH_SIGNING])
}

/// Emits a transfer, but not while checking for the pool.
pub(crate) fn emit_transfer(ctx: &mut Context<'_>, from: Address, to: Address, amount: &Quantity) {
    if !ctx.is_check_only() {
        ctx.emit(NAME, &TransferEvent { from, to, amount: amount.clone() });
    }
}

/// Fails if a balance is below what an account needs to transact.
pub(crate) fn check_min_balance(balance: &Quantity, params: &Parameters, whose: &str) -> Result<()> {
    if *balance < params.min_transact_balance {
        return Err(Error::from(&codes::BALANCE_TOO_LOW).context(whose));
    }
    Ok(())
}

/// Moves tokens between accounts. Nothing happens to oneself, and for nothing.
///
/// # Errors
/// If the sender has not enough, or sender or receiver would have less than is needed to transact.
pub fn transfer(ctx: &mut Context<'_>, from: &Address, to: &Address, amount: &Quantity) -> Result<()> {
    if from == to || amount.is_zero() {
        return Ok(());
    }
    let mut source = account(&ctx.state(), from)?;
    let mut target = account(&ctx.state(), to)?;
    Quantity::transfer(&mut target.general.balance, &mut source.general.balance, amount)
        .map_err(|_| Error::from(&codes::INSUFFICIENT_BALANCE))?;
    let params = parameters(&ctx.state())?;
    check_min_balance(&source.general.balance, &params, "source account")?;
    check_min_balance(&target.general.balance, &params, "dest account")?;
    set_account(&mut ctx.state(), from, &source)?;
    set_account(&mut ctx.state(), to, &target)?;
    emit_transfer(ctx, *from, *to, amount);
    Ok(())
}

/// Takes the deposit of a governance proposal.
///
/// # Errors
/// If the submitter has not enough.
pub fn transfer_to_governance_deposits(ctx: &mut Context<'_>, from: &Address, amount: &Quantity) -> Result<()> {
    let mut source = account(&ctx.state(), from)?;
    let mut deposits = governance_deposits(&ctx.state())?;
    Quantity::transfer(&mut deposits, &mut source.general.balance, amount)?;
    set_account(&mut ctx.state(), from, &source)?;
    set_governance_deposits(&mut ctx.state(), &deposits)?;
    emit_transfer(ctx, *from, Address::governance_deposits(), amount);
    Ok(())
}

/// Gives the deposit of a governance proposal back.
///
/// # Errors
/// If there are not enough deposits.
pub fn transfer_from_governance_deposits(ctx: &mut Context<'_>, to: &Address, amount: &Quantity) -> Result<()> {
    let mut target = account(&ctx.state(), to)?;
    let mut deposits = governance_deposits(&ctx.state())?;
    Quantity::transfer(&mut target.general.balance, &mut deposits, amount)?;
    set_account(&mut ctx.state(), to, &target)?;
    set_governance_deposits(&mut ctx.state(), &deposits)?;
    emit_transfer(ctx, Address::governance_deposits(), *to, amount);
    Ok(())
}

/// Moves the deposit of a governance proposal to the common pool.
///
/// # Errors
/// If there are not enough deposits.
pub fn discard_governance_deposit(ctx: &mut Context<'_>, amount: &Quantity) -> Result<()> {
    let mut pool = common_pool(&ctx.state())?;
    let mut deposits = governance_deposits(&ctx.state())?;
    Quantity::transfer(&mut pool, &mut deposits, amount)?;
    set_governance_deposits(&mut ctx.state(), &deposits)?;
    set_common_pool(&mut ctx.state(), &pool)?;
    emit_transfer(ctx, Address::governance_deposits(), Address::common_pool(), amount);
    Ok(())
}
