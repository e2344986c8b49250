//! State of the governance service: keys `80`–`85`.

use std::ops::ControlFlow;

use apps_core::{
    Error, Result,
    kv::{self, Key, KeyReader, KvRead, KvWrite},
};
use base_prims::{Address, Epoch};
use wire_consensus::{
    errors::governance as codes,
    governance::{Parameters, Proposal, Vote, VoteEntry},
    upgrade::Descriptor,
};

/// Number of the next proposal: integer.
const NEXT_PROPOSAL: u8 = 0x80;
/// By number: [`Proposal`].
const PROPOSALS: u8 = 0x81;
/// By closing epoch and number: empty.
const ACTIVE_PROPOSALS: u8 = 0x82;
/// By number and voter: [`Vote`].
const VOTES: u8 = 0x83;
/// By upgrade epoch and number of the proposal: empty.
const PENDING_UPGRADES: u8 = 0x84;
/// [`Parameters`].
const PARAMETERS: u8 = 0x85;

fn proposal_key(id: u64) -> Key {
    Key::new(PROPOSALS).u64(id)
}

fn active_key(p: &Proposal) -> Key {
    Key::new(ACTIVE_PROPOSALS).u64(p.closes_at).u64(p.id)
}

fn pending_key(epoch: Epoch, id: u64) -> Key {
    Key::new(PENDING_UPGRADES).u64(epoch).u64(id)
}

/// The parameters.
pub fn parameters(kv: &dyn KvRead) -> Result<Parameters> {
    kv::get(kv, &[PARAMETERS])?
        .ok_or_else(|| Error::uncoded("governance: expected consensus parameters to be present in app state"))
}

/// Sets the parameters.
pub fn set_parameters(kv: &mut dyn KvWrite, p: &Parameters) -> Result<()> {
    kv::put(kv, &[PARAMETERS], p)
}

/// Number of the next proposal.
pub fn next_proposal_id(kv: &dyn KvRead) -> Result<u64> {
    Ok(kv::get(kv, &[NEXT_PROPOSAL])?.unwrap_or_default())
}

/// Sets the number of the next proposal.
pub fn set_next_proposal_id(kv: &mut dyn KvWrite, id: u64) -> Result<()> {
    kv::put(kv, &[NEXT_PROPOSAL], &id)
}

/// A proposal.
///
/// # Errors
/// `governance/5` if there is none of that number.
pub fn proposal(kv: &dyn KvRead, id: u64) -> Result<Proposal> {
    kv::get(kv, &proposal_key(id))?.ok_or_else(|| Error::from(&codes::NO_SUCH_PROPOSAL))
}

/// All proposals by number.
pub fn proposals(kv: &dyn KvRead) -> Result<Vec<Proposal>> {
    kv::collect_values(kv, &[PROPOSALS])
}

/// The proposals' numbers in an index of epochs and numbers.
fn indexed(kv: &dyn KvRead, prefix: &[u8]) -> Result<Vec<u64>> {
    let mut ids = Vec::new();
    kv::iterate(kv, prefix, &mut |key, _| {
        let mut key = KeyReader::new(key)?;
        key.u64()?;
        ids.push(key.u64()?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(ids)
}

/// All proposals that are open for votes, by closing epoch and number.
pub fn active_proposals(kv: &dyn KvRead) -> Result<Vec<Proposal>> {
    indexed(kv, &[ACTIVE_PROPOSALS])?.into_iter().map(|id| proposal(kv, id)).collect()
}

/// Stores a proposal.
pub fn set_proposal(kv: &mut dyn KvWrite, p: &Proposal) -> Result<()> {
    kv::put(kv, &proposal_key(p.id), p)
}

/// Stores a proposal that is open for votes.
pub fn set_active_proposal(kv: &mut dyn KvWrite, p: &Proposal) -> Result<()> {
    set_proposal(kv, p)?;
    kv::put_raw(kv, &active_key(p), &[])
}

/// Takes a proposal from those that are open for votes.
pub fn remove_active_proposal(kv: &mut dyn KvWrite, p: &Proposal) -> Result<()> {
    kv::remove(kv, &active_key(p))
}

/// All votes on a proposal by voter.
pub fn votes(kv: &dyn KvRead, id: u64) -> Result<Vec<VoteEntry>> {
    let mut votes = Vec::new();
    kv::iterate(kv, &Key::new(VOTES).u64(id), &mut |key, value| {
        let mut parts = KeyReader::new(key)?;
        parts.u64()?;
        votes.push(VoteEntry { voter: parts.address()?, vote: kv::decode(key, value)? });
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(votes)
}

/// Stores a vote in place of the voter's former one.
pub fn set_vote(kv: &mut dyn KvWrite, id: u64, voter: &Address, vote: Vote) -> Result<()> {
    kv::put(kv, &Key::new(VOTES).u64(id).address(voter), &vote)
}

/// The pending upgrade that a proposal scheduled.
///
/// # Errors
/// `governance/5` if there is no such proposal, `governance/4` if it has no pending upgrade.
pub fn pending_upgrade(kv: &dyn KvRead, id: u64) -> Result<Descriptor> {
    match proposal(kv, id)?.content.upgrade {
        Some(u) if kv::get_raw(kv, &pending_key(u.epoch, id))?.is_some() => Ok(u),
        _ => Err(Error::from(&codes::NO_SUCH_UPGRADE)),
    }
}

/// All pending upgrades by epoch and number of the proposal.
pub fn pending_upgrades(kv: &dyn KvRead) -> Result<Vec<Descriptor>> {
    indexed(kv, &[PENDING_UPGRADES])?
        .into_iter()
        .map(|id| {
            let missing = || Error::fatal("governance: pending upgrade with missing upgrade descriptor");
            proposal(kv, id)?.content.upgrade.ok_or_else(missing)
        })
        .collect()
}

/// Schedules the upgrade of a proposal.
pub fn set_pending_upgrade(kv: &mut dyn KvWrite, id: u64, epoch: Epoch) -> Result<()> {
    kv::put_raw(kv, &pending_key(epoch, id), &[])
}

/// Unschedules the upgrade of a proposal.
pub fn remove_pending_upgrade(kv: &mut dyn KvWrite, id: u64, epoch: Epoch) -> Result<()> {
    kv::remove(kv, &pending_key(epoch, id))
}

/// Unschedules all upgrades at an epoch.
pub fn remove_pending_upgrades_at(kv: &mut dyn KvWrite, epoch: Epoch) -> Result<()> {
    for id in indexed(&*kv, &Key::new(PENDING_UPGRADES).u64(epoch))? {
        remove_pending_upgrade(kv, id, epoch)?;
    }
    Ok(())
}
