//! Checks of the whole state after a block, as an option of the node.
//!
//! Source: `go/consensus/cometbft/apps/supplementarysanity`.
//!
//! The service changes nothing; a state that does not hold together stops the node at the block that made it so. Beyond the
//! reference it also looks at the parameters of the services whose state the reference leaves alone.

use std::collections::BTreeMap;

use apps_committees::{
    beacon,
    registry::{
        sanity::{self, Checked},
        state as registry,
        tee::TeeRules,
        verify::{Rules, Trust},
    },
    roothash, scheduler,
};
use apps_core::{
    Context, Error, LocalConfig, Message, MessageKind, Reply, Result, SanitySchedule, Service, epoch, kv::KvRead,
    params,
};
use apps_governance::governance::state as governance;
use apps_keymanager::{churp::state as churp, secrets::state as secrets};
use apps_staking::state as staking;
use base_codec::Raw;
use base_crypto::{blacklist::Blacklist, context::ChainContext};
use base_prims::{Address, EPOCH_INVALID, Epoch, Quantity};
use comet_chain::app::ValidatorUpdate;
use wire_consensus::{
    Time,
    churp::stake_claim,
    consensus::FEATURE_26_1,
    genesis::Document,
    governance::{sanity_check_pending_upgrades, sanity_check_proposals, sanity_check_votes},
    keymanager::sanity_check_statuses,
    known::KnownSignatures,
    roothash::{RuntimeState, TIMEOUT_NEVER},
    staking::{
        Account, EscrowAccount, StakeThreshold, ThresholdKind,
        sanity::{check_account, check_account_shares, check_debonding_delegations, check_delegations, check_stake},
    },
};

#[cfg(test)]
mod tests;

/// Name of the service, which also makes it the last one.
pub const NAME: &str = "999_supplementarysanity";
/// How far in the future the time of a runtime's block may lie, in seconds.
const MAX_BLOCK_LEAD: u64 = 61 * 60;

/// At what point of a chain a state is checked.
#[derive(Clone, Copy)]
pub struct SanityAt<'a> {
    /// The network.
    pub chain: &'a ChainContext,
    /// Height of the block that the state is of.
    pub height: i64,
    /// Time of that block.
    pub time: Time,
    /// The epoch of that block.
    pub epoch: Epoch,
    /// Keys that may not sign.
    pub blacklist: &'a Blacklist,
    /// The node's settings.
    pub local: &'a LocalConfig,
}

/// A check of one part of the state.
type Check = fn(&dyn KvRead, &SanityAt<'_>) -> Result<()>;

/// The checks in order, by name.
const CHECKS: [(&str, Check); 10] = [
    ("epoch", check_epoch),
    ("registry", check_registry),
    ("roothash", check_roothash),
    ("staking", check_staking),
    ("keymanager", check_key_manager),
    ("scheduler", check_scheduler),
    ("beacon", check_beacon),
    ("consensus", check_consensus),
    ("governance", check_governance),
    ("stake claims", check_stake_claims),
];

/// Checks the whole state after a block.
///
/// # Errors
/// Names the check and what it found.
pub fn check_state(state: &dyn KvRead, at: &SanityAt<'_>) -> Result<()> {
    CHECKS.iter().try_for_each(|(name, check)| {
        check(state, at).map_err(|e| e.context(format!("supplementary sanity: check of {name} failed")))
    })
}

/// The service that checks the state at the heights of its schedule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Supplementary(pub(crate) SanitySchedule);

impl Service for Supplementary {
    fn name(&self) -> &'static str {
        NAME
    }

    fn methods(&self) -> &'static [&'static str] {
        &[]
    }

    fn init_chain(&self, _ctx: &mut Context<'_>, _doc: &Document) -> Result<()> {
        Ok(())
    }

    fn begin_block(&self, _ctx: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    fn execute_tx(&self, _ctx: &mut Context<'_>, _method: &str, _body: &Raw) -> Result<()> {
        Err(Error::uncoded("supplementary sanity: unexpected transaction"))
    }

    fn end_block(&self, ctx: &mut Context<'_>) -> Result<Vec<ValidatorUpdate>> {
        let height = ctx.current_height();
        // The first block has no epoch yet.
        if ctx.last_block_height() == 0 || !self.0.is_due(height) {
            return Ok(Vec::new());
        }
        let at = SanityAt {
            chain: ctx.chain(),
            height,
            time: ctx.now(),
            epoch: epoch::current_epoch(ctx)?,
            blacklist: ctx.blacklist(),
            local: ctx.config(),
        };
        check_state(&ctx.state(), &at)?;
        tracing::debug!(height, "state checked");
        Ok(Vec::new())
    }

    fn handles(&self, _kind: MessageKind) -> bool {
        false
    }

    fn message(&self, _ctx: &mut Context<'_>, _message: &Message<'_>) -> Result<Option<Reply>> {
        Ok(None)
    }

    fn export_genesis(&self, _state: &dyn KvRead, _height: i64, _doc: &mut Document) -> Result<()> {
        Ok(())
    }
}

fn wrong<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::uncoded(text))
}

fn check_epoch(_: &dyn KvRead, at: &SanityAt<'_>) -> Result<()> {
    if at.epoch == EPOCH_INVALID { wrong("current epoch is invalid") } else { Ok(()) }
}

/// Entities, runtimes and nodes are as their registration asked for.
fn check_registry(state: &dyn KvRead, at: &SanityAt<'_>) -> Result<()> {
    let params = registry::parameters(state)?;
    let feature_26_1 = params::parameters(state)?.has_feature(FEATURE_26_1);
    params.sanity_check(at.local.allow_debug, feature_26_1)?;
    let rules = Rules {
        params: &params,
        trust: Trust { blacklist: at.blacklist, known: &KnownSignatures::default() },
        tee: TeeRules {
            features: params.tee_features.as_ref(),
            now: at.time,
            height: at.height.saturating_sub(1).unsigned_abs(),
            feature_26_1,
            options: &at.local.tee,
        },
        epoch: at.epoch,
        genesis: false,
        sanity: true,
        allow_debug: at.local.allow_debug,
    };
    let entities = sanity::entities(&registry::signed_entities(state)?, &rules.trust)?;
    let mut checked = Checked::runtimes(&rules, &registry::runtimes(state)?, &registry::suspended_runtimes(state)?)?;
    checked.nodes(&rules, &registry::signed_nodes(state)?, &entities)
}

fn check_roothash(state: &dyn KvRead, at: &SanityAt<'_>) -> Result<()> {
    roothash::state::parameters(state)?.sanity_check(at.local.allow_debug)?;
    let latest = u64::try_from(at.time.seconds()).unwrap_or_default().saturating_add(MAX_BLOCK_LEAD);
    let mut runtimes = BTreeMap::new();
    for rt in roothash::state::runtime_states(state)? {
        if rt.last_block.header.timestamp.0 > latest {
            return wrong(format!("time of the last block of runtime {} is in the future", rt.runtime.id));
        }
        check_runtime_state(&rt)?;
        runtimes.insert(rt.runtime.id, rt.timeout);
    }
    for (id, height) in roothash::state::timeouts(state)? {
        if height < at.height {
            return wrong(format!("round timeout for runtime {id} was scheduled at {height} but did not trigger"));
        }
        match runtimes.remove(&id) {
            Some(expected) if expected == height => {}
            Some(expected) => {
                return wrong(format!(
                    "round timeout for runtime {id} was scheduled at {height} instead of {expected}"
                ));
            }
            None => return wrong(format!("round timeout for runtime {id} is scheduled twice or for no runtime")),
        }
    }
    match runtimes.iter().find(|(_, timeout)| **timeout != TIMEOUT_NEVER) {
        Some((id, timeout)) => wrong(format!("round timeout for runtime {id} is not scheduled at {timeout}")),
        None => Ok(()),
    }
}

fn check_runtime_state(rt: &RuntimeState) -> Result<()> {
    let id = rt.runtime.id;
    if !rt.suspended {
        if rt.committee.is_none() {
            return wrong(format!("non-suspended runtime {id} should have a committee"));
        }
        if rt.commitment_pool.is_none() {
            return wrong(format!("non-suspended runtime {id} should gather executor commitments"));
        }
        return Ok(());
    }
    if rt.committee.is_some() {
        return wrong(format!("suspended runtime {id} should not have a committee"));
    }
    if rt.commitment_pool.is_some() {
        return wrong(format!("suspended runtime {id} should not gather executor commitments"));
    }
    if rt.liveness_stats.is_some() {
        return wrong(format!("suspended runtime {id} should not gather statistics"));
    }
    if rt.timeout != TIMEOUT_NEVER {
        return wrong(format!("round timeout for suspended runtime {id} should not be scheduled at {}", rt.timeout));
    }
    Ok(())
}

fn accounts(state: &dyn KvRead) -> Result<BTreeMap<Address, Account>> {
    staking::addresses(state)?.into_iter().map(|a| Ok((a, staking::account(state, &a)?))).collect()
}

fn check_staking(state: &dyn KvRead, at: &SanityAt<'_>) -> Result<()> {
    let params = staking::parameters(state)?;
    params.sanity_check(at.local.allow_debug)?;
    let supply = staking::total_supply(state)?;
    let accounts = accounts(state)?;
    let mut total = Quantity::ZERO;
    for (address, account) in &accounts {
        check_account(&mut total, &params, at.epoch, address, account, &supply)?;
    }
    let (deposits, pool, fees) =
        (staking::governance_deposits(state)?, staking::common_pool(state)?, staking::last_block_fees(state)?);
    for part in [&deposits, &pool, &fees] {
        total.add_assign(part);
    }
    if total != supply {
        return wrong(format!(
            "balances in accounts plus governance deposits ({deposits}), plus common pool ({pool}), plus last block fees \
             ({fees}) are {total}, which is not the total supply ({supply})"
        ));
    }
    let scheduled: Vec<Address> =
        accounts.iter().filter(|(_, a)| !a.escrow.commission_schedule.is_empty()).map(|(a, _)| *a).collect();
    let mut indexed = staking::commission_schedule_addresses(state)?;
    indexed.sort_unstable();
    if scheduled != indexed {
        return wrong(format!(
            "{} addresses are listed as having a commission schedule, but {} have one, or they are others",
            indexed.len(),
            scheduled.len()
        ));
    }
    check_pools(state, &accounts)
}

/// The shares of all delegations are those of the accounts' pools.
fn check_pools(state: &dyn KvRead, accounts: &BTreeMap<Address, Account>) -> Result<()> {
    let none = Account::default();
    let delegations = staking::delegations(state)?;
    for (address, to) in &delegations {
        check_delegations(address, accounts.get(address).unwrap_or(&none), to)?;
    }
    let debonding = staking::debonding_delegations(state)?;
    for (address, to) in &debonding {
        check_debonding_delegations(address, accounts.get(address).unwrap_or(&none), to)?;
    }
    for (address, account) in accounts {
        check_account_shares(address, account, delegations.get(address), debonding.get(address))?;
    }
    Ok(())
}

fn check_key_manager(state: &dyn KvRead, at: &SanityAt<'_>) -> Result<()> {
    Ok(sanity_check_statuses(&secrets::statuses(state)?, at.blacklist)?)
}

fn check_scheduler(state: &dyn KvRead, at: &SanityAt<'_>) -> Result<()> {
    Ok(scheduler::state::parameters(state)?.sanity_check(at.local.allow_debug)?)
}

fn check_beacon(state: &dyn KvRead, at: &SanityAt<'_>) -> Result<()> {
    Ok(beacon::state::parameters(state)?.sanity_check(at.local.allow_debug)?)
}

fn check_consensus(state: &dyn KvRead, at: &SanityAt<'_>) -> Result<()> {
    params::parameters(state)?;
    let found = params::chain_context(state)?;
    if found != *at.chain { wrong(format!("state belongs to chain {found}")) } else { Ok(()) }
}

fn check_governance(state: &dyn KvRead, at: &SanityAt<'_>) -> Result<()> {
    let params = governance::parameters(state)?;
    params.sanity_check()?;
    let proposals = governance::proposals(state)?;
    sanity_check_proposals(&proposals, at.epoch, &staking::governance_deposits(state)?)?;
    for proposal in &proposals {
        sanity_check_votes(proposal.id, &governance::votes(state, proposal.id)?)?;
    }
    Ok(sanity_check_pending_upgrades(&governance::pending_upgrades(state)?, at.epoch, &params)?)
}

/// The claims on stake are those that follow from what is registered.
fn check_stake_claims(state: &dyn KvRead, _: &SanityAt<'_>) -> Result<()> {
    let params = staking::parameters(state)?;
    if params.debug_bypass_stake {
        return Ok(());
    }
    let runtimes = registry::all_runtimes(state)?;
    let mut escrows: BTreeMap<Address, EscrowAccount> = BTreeMap::new();
    let thresholds = [StakeThreshold::global(ThresholdKind::KEY_MANAGER_CHURP)];
    for status in churp::all_statuses(state)? {
        let id = status.identity.runtime_id;
        let owner = runtimes.iter().find(|r| r.id == id).and_then(|r| r.staking_address());
        let Some(owner) = owner else {
            return wrong(format!("nobody answers for the key manager {id} with stake"));
        };
        let claim = stake_claim(&id, status.identity.id);
        escrows.entry(owner).or_default().stake_accumulator.add_claim_unchecked(&claim, &thresholds);
    }
    sanity::add_stake_claims(
        &registry::entities(state)?,
        &registry::nodes(state)?,
        runtimes.iter(),
        &runtimes,
        &mut escrows,
    );
    Ok(check_stake(&accounts(state)?, &mut escrows, &params.thresholds, false)?)
}
