//! Proposals of all kinds, and votes on them.

use std::collections::BTreeSet;
use std::time::Duration;

use base_codec::{Raw, cbor};
use base_crypto::ed25519::SecretKey;
use base_prims::version::PROTOCOLS;
use base_prims::{Address, Epoch};
use wire_consensus::errors::{governance::NOT_ELIGIBLE, registry::NO_SUCH_NODE};
use wire_consensus::governance::{
    self, CancelUpgradeProposal, ChangeParametersProposal, METHOD_CAST_VOTE, METHOD_SUBMIT_PROPOSAL, Parameters,
    Proposal, ProposalContent, ProposalVote, Vote,
};
use wire_consensus::upgrade::{Descriptor, LATEST_DESCRIPTOR_VERSION};
use wire_consensus::{registry, roothash, scheduler, staking};

use crate::Job;
use crate::base::address;
use crate::node::{LATEST, MODULE, WorkloadError, violated};
use crate::random::Random;

const DELEGATORS: usize = 3;
/// What a delegator gets, and what of it it delegates.
const DELEGATOR_FUNDS: u64 = 20_000;
const DELEGATED: u64 = 10_000;
/// How likely, of a hundred, voters are for proposals of each proposer.
const YES_RATES: [u64; 10] = [100, 99, 98, 95, 92, 90, 80, 70, 50, 0];
/// Deposits that a proposer can pay.
const DEPOSITS: u64 = 1000;
const PAUSE: Duration = Duration::from_secs(2);
/// Epochs beyond the earliest one to cancel an upgrade in which cancelling is not random.
const CANCEL_MARGIN: Epoch = 2;

struct Governance {
    job: Job,
    params: Parameters,
    epoch: Epoch,
    proposers: Vec<(SecretKey, Address)>,
    /// Validators' entities and those that delegate to the first of them.
    voters: Vec<SecretKey>,
    /// Proposals that must pass.
    needed: BTreeSet<u64>,
}

pub(crate) async fn run(mut job: Job) -> Result<(), WorkloadError> {
    let params: Parameters = job.node().ask("Governance", "ConsensusParameters", LATEST).await?;
    let Some(first) = job.validators.first() else {
        return Err(WorkloadError::Setup("workload requires validator entities".to_owned()));
    };
    let validator = address(first);
    let mut voters = job.validators.clone();
    for _ in 0..DELEGATORS {
        let key = job.random.key();
        job.base.give(address(&key), DELEGATOR_FUNDS).await?;
        job.base.escrow(&key, validator, DELEGATED).await?;
        voters.push(key);
    }
    let deposit = params.min_proposal_deposit.mul(&DEPOSITS.into());
    let mut proposers = Vec::new();
    for _ in YES_RATES {
        let key = job.random.key();
        let owner = address(&key);
        job.base.give_amount(owner, deposit.clone()).await?;
        proposers.push((key, owner));
    }
    let mut all = Governance { job, params, epoch: 0, proposers, voters, needed: BTreeSet::new() };
    while all.job.deadline.pause(PAUSE).await {
        all.next_epoch().await?;
        match all.job.random.below(5) {
            0 => all.propose_upgrade().await?,
            1 => all.propose_cancellation().await?,
            2 => all.propose_changes().await?,
            _ => all.vote().await?,
        }
    }
    Ok(())
}

impl Governance {
    async fn proposals(&self, method: &str) -> Result<Vec<Proposal>, WorkloadError> {
        let found: Option<Vec<Proposal>> = self.job.node().ask("Governance", method, LATEST).await?;
        Ok(found.unwrap_or_default())
    }

    async fn pending_upgrades(&self) -> Result<Vec<Descriptor>, WorkloadError> {
        let found: Option<Vec<Descriptor>> = self.job.node().ask("Governance", "PendingUpgrades", LATEST).await?;
        Ok(found.unwrap_or_default())
    }

    /// Notices a new epoch; upgrades that would come true are cancelled in time, for the network is to go on.
    async fn next_epoch(&mut self) -> Result<(), WorkloadError> {
        let epoch = self.job.node().epoch(LATEST).await?;
        if epoch <= self.epoch {
            return Ok(());
        }
        self.epoch = epoch;
        let least = self.params.upgrade_cancel_min_epoch_diff.saturating_add(CANCEL_MARGIN);
        for upgrade in self.pending_upgrades().await? {
            if upgrade.epoch.abs_diff(epoch) != least {
                continue;
            }
            let Some(id) = self.cancel(&upgrade, false).await? else { continue };
            self.needed.insert(id);
            for place in 0..self.voters.len() {
                self.cast(place, id, Vote::YES).await?;
            }
        }
        Ok(())
    }

    /// Submits a proposal, which must fail if so expected. Near the change of an epoch either may be right: then it is
    /// taken as it comes. `None`: there is no new proposal.
    async fn submit(&mut self, content: ProposalContent, fails: bool) -> Result<Option<u64>, WorkloadError> {
        let proposer = self.job.random.index(self.proposers.len());
        let sent = self.job.base.funded(&self.proposers[proposer].0, METHOD_SUBMIT_PROPOSAL, &content).await;
        let changed = async |all: &Self| Ok::<_, WorkloadError>(all.job.node().epoch(LATEST).await? > all.epoch);
        match (sent, fails) {
            (Err(error), true) => {
                tracing::debug!(module = MODULE, err = %error, "proposal submission failed (expected)");
                Ok(None)
            }
            (Err(error), false) if changed(self).await? => {
                tracing::error!(module = MODULE, err = %error, "proposal failed as an epoch began");
                Ok(None)
            }
            (Err(error), false) => Err(error),
            (Ok(()), true) if changed(self).await? => Ok(None),
            (Ok(()), true) => violated("expected proposal submission to fail"),
            (Ok(()), false) => {
                // Of equal ones the newest.
                let active = self.proposals("ActiveProposals").await?;
                let id = active.iter().filter(|proposal| proposal.content == content).map(|p| p.id).max();
                let Some(id) = id else { return violated("submitted proposal not found") };
                Ok(Some(id))
            }
        }
    }

    async fn propose_upgrade(&mut self) -> Result<(), WorkloadError> {
        let least = self.params.upgrade_min_epoch_diff;
        let ahead = least.saturating_add(self.job.random.below(least.saturating_mul(3).saturating_add(1)));
        let epoch = self.epoch.saturating_add(ahead);
        let handler = format!("test-upgrade_{:016x}", self.job.random.number());
        let fails = self.pending_upgrades().await?.iter().any(|pending| pending.epoch.abs_diff(epoch) < least);
        let upgrade = Descriptor { v: LATEST_DESCRIPTOR_VERSION, handler, target: PROTOCOLS, epoch };
        self.submit(ProposalContent { upgrade: Some(upgrade), ..ProposalContent::default() }, fails).await.map(drop)
    }

    async fn propose_cancellation(&mut self) -> Result<(), WorkloadError> {
        let pending = self.pending_upgrades().await?;
        let least = self.params.upgrade_cancel_min_epoch_diff;
        for place in self.job.random.order(pending.len()) {
            let ahead = pending[place].epoch.abs_diff(self.epoch);
            // Those in between are dealt with when their epoch comes.
            if ahead < least || ahead > least.saturating_add(CANCEL_MARGIN) {
                return self.cancel(&pending[place], ahead < least).await.map(drop);
            }
        }
        tracing::debug!(module = MODULE, "no eligible pending upgrade to cancel, skipping");
        Ok(())
    }

    async fn cancel(&mut self, upgrade: &Descriptor, fails: bool) -> Result<Option<u64>, WorkloadError> {
        let proposals = self.proposals("Proposals").await?;
        let found = proposals.iter().find(|proposal| proposal.content.upgrade.as_ref() == Some(upgrade));
        let Some(found) = found else { return violated("proposal for pending upgrade not found") };
        let cancel = CancelUpgradeProposal { proposal_id: found.id };
        self.submit(ProposalContent { cancel_upgrade: Some(cancel), ..ProposalContent::default() }, fails).await
    }

    async fn propose_changes(&mut self) -> Result<(), WorkloadError> {
        let node = self.job.base.node.clone();
        let random = &mut self.job.random;
        let service = ["Governance", "Staking", "RootHash", "Registry", "Scheduler", "", ""][random.index(7)];
        let method = "ConsensusParameters";
        let (module, changes, valid) = match service {
            "Governance" => governance_changes(random, node.ask(service, method, LATEST).await?),
            "Staking" => staking_changes(random, node.ask(service, method, LATEST).await?),
            "RootHash" => roothash_changes(random, node.ask(service, method, LATEST).await?),
            "Registry" => registry_changes(random, node.ask(service, method, LATEST).await?),
            "Scheduler" => scheduler_changes(random, &node.ask(service, method, LATEST).await?),
            // Changes that are none, and a module that is none.
            _ if random.coin() => {
                let changes = base_codec::Bytes(cbor::to_vec(&governance::ParameterChanges::default()));
                (governance::MODULE, cbor::to_vec(&changes), false)
            }
            _ => ("module", cbor::to_vec(&"changes".to_owned()), false),
        };
        let change = ChangeParametersProposal { module: module.to_owned(), changes: Raw(changes) };
        let content = ProposalContent { change_parameters: Some(change), ..ProposalContent::default() };
        self.submit(content, !valid).await.map(drop)
    }

    async fn vote(&mut self) -> Result<(), WorkloadError> {
        let active = self.proposals("ActiveProposals").await?;
        // Those that could close meanwhile are left alone.
        let open: Vec<&Proposal> = active.iter().filter(|p| p.closes_at > self.epoch.saturating_add(1)).collect();
        if open.is_empty() {
            tracing::debug!(module = MODULE, "no active proposals, skipping submit vote");
            return Ok(());
        }
        let proposal = open[self.job.random.index(open.len())];
        let proposer = self.proposers.iter().position(|(_, owner)| *owner == proposal.submitter);
        let Some(proposer) = proposer else {
            return violated(format!("invalid proposal submitter: {}", proposal.submitter));
        };
        let vote = if self.needed.contains(&proposal.id) || self.job.random.percent(YES_RATES[proposer]) {
            Vote::YES
        } else if self.job.random.coin() {
            Vote::NO
        } else {
            Vote::ABSTAIN
        };
        let (id, voter) = (proposal.id, self.job.random.index(self.voters.len()));
        self.cast(voter, id, vote).await
    }

    /// Votes. That the voter is no validator now is no error.
    async fn cast(&self, voter: usize, id: u64, vote: Vote) -> Result<(), WorkloadError> {
        let sent = self.job.base.funded(&self.voters[voter], METHOD_CAST_VOTE, &ProposalVote { id, vote }).await;
        match sent {
            Err(error) if error.is(&NO_SUCH_NODE) || error.is(&NOT_ELIGIBLE) => {
                tracing::error!(module = MODULE, err = %error, proposal_id = id, "voter is no validator, continuing");
                Ok(())
            }
            done => done,
        }
    }
}

/// A module, changes for it, and whether they are valid.
type Changes = (&'static str, Vec<u8>, bool);

/// The value, or nothing.
fn some<T>(random: &mut Random, value: T) -> Option<T> {
    random.coin().then_some(value)
}

fn governance_changes(r: &mut Random, now: Parameters) -> Changes {
    let changes = governance::ParameterChanges {
        gas_costs: some(r, now.gas_costs),
        min_proposal_deposit: some(r, now.min_proposal_deposit),
        voting_period: some(r, now.voting_period),
        stake_threshold: some(r, now.stake_threshold),
        upgrade_min_epoch_diff: some(r, now.upgrade_min_epoch_diff),
        upgrade_cancel_min_epoch_diff: some(r, now.upgrade_cancel_min_epoch_diff),
        enable_change_parameters_proposal: some(r, now.enable_change_parameters_proposal),
    };
    (governance::MODULE, cbor::to_vec(&changes), changes.sanity_check().is_ok())
}

fn staking_changes(r: &mut Random, now: staking::Parameters) -> Changes {
    let changes = staking::ParameterChanges {
        debonding_interval: some(r, now.debonding_interval),
        gas_costs: some(r, now.gas_costs),
        min_delegation_amount: some(r, now.min_delegation_amount),
        min_transfer_amount: some(r, now.min_transfer_amount),
        min_transact_balance: some(r, now.min_transact_balance),
        min_commission_rate: some(r, now.commission_schedule_rules.min_commission_rate),
        disable_transfers: some(r, now.disable_transfers),
        disable_delegation: some(r, now.disable_delegation),
        allow_escrow_messages: some(r, now.allow_escrow_messages),
        max_allowances: some(r, now.max_allowances),
        fee_split_weight_propose: some(r, now.fee_split_weight_propose),
        fee_split_weight_vote: some(r, now.fee_split_weight_vote),
        fee_split_weight_next_propose: some(r, now.fee_split_weight_next_propose),
        reward_factor_epoch_signed: some(r, now.reward_factor_epoch_signed),
        reward_factor_block_proposed: some(r, now.reward_factor_block_proposed),
        ..staking::ParameterChanges::default()
    };
    (staking::MODULE, cbor::to_vec(&changes), changes.sanity_check().is_ok())
}

fn roothash_changes(r: &mut Random, now: roothash::Parameters) -> Changes {
    let changes = roothash::ParameterChanges {
        gas_costs: some(r, now.gas_costs),
        max_runtime_messages: some(r, now.max_runtime_messages),
        max_in_runtime_messages: some(r, now.max_in_runtime_messages),
        max_evidence_age: some(r, now.max_evidence_age),
        max_past_roots_stored: some(r, now.max_past_roots_stored),
    };
    (roothash::MODULE, cbor::to_vec(&changes), changes.sanity_check().is_ok())
}

fn registry_changes(r: &mut Random, now: registry::Parameters) -> Changes {
    let changes = registry::ParameterChanges {
        disable_runtime_registration: some(r, now.disable_runtime_registration),
        disable_key_manager_runtime_registration: some(r, now.disable_key_manager_runtime_registration),
        gas_costs: some(r, now.gas_costs),
        max_node_expiration: some(r, now.max_node_expiration),
        enable_runtime_governance_models: some(r, now.enable_runtime_governance_models),
        tee_features: if r.coin() { now.tee_features } else { None },
        max_runtime_deployments: some(r, now.max_runtime_deployments),
    };
    (registry::MODULE, cbor::to_vec(&changes), changes.sanity_check().is_ok())
}

fn scheduler_changes(r: &mut Random, now: &scheduler::Parameters) -> Changes {
    let other = match now.voting_power_distribution {
        scheduler::VotingPowerDistribution::LINEAR => scheduler::VotingPowerDistribution::SQRT,
        _ => scheduler::VotingPowerDistribution::LINEAR,
    };
    let changes = scheduler::ParameterChanges {
        min_validators: some(r, now.min_validators),
        max_validators: some(r, now.max_validators),
        voting_power_distribution: some(r, other),
    };
    (scheduler::MODULE, cbor::to_vec(&changes), changes.sanity_check().is_ok())
}
