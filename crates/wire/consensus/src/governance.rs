//! Governance: proposals, votes, and the rules of closing a proposal.

use std::collections::BTreeMap;

use base_codec::{Codec, Raw, int_type};
use base_prims::{Address, Epoch, Hash, Quantity};

use crate::{Invalid, invalid, transaction::Costs, typed_event, upgrade::Descriptor};

/// Module name.
pub const MODULE: &str = "governance";

/// Submits a proposal; the body is [`ProposalContent`].
pub const METHOD_SUBMIT_PROPOSAL: &str = "governance.SubmitProposal";
/// Casts a vote; the body is [`ProposalVote`].
pub const METHOD_CAST_VOTE: &str = "governance.CastVote";
/// All methods.
pub const METHODS: &[&str] = &[METHOD_SUBMIT_PROPOSAL, METHOD_CAST_VOTE];

/// Gas operation of [`METHOD_SUBMIT_PROPOSAL`].
pub const GAS_OP_SUBMIT_PROPOSAL: &str = "submit_proposal";
/// Gas operation of [`METHOD_CAST_VOTE`].
pub const GAS_OP_CAST_VOTE: &str = "cast_vote";

/// Shortest title of a proposal, in bytes.
pub const MIN_TITLE_BYTES: usize = 3;
/// Longest title of a proposal, in bytes.
pub const MAX_TITLE_BYTES: usize = 100;

/// What a proposal is about: exactly one of the fields besides `metadata`. Source: `go/governance/api`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ProposalContent {
    /// Text for people.
    #[codec(omitempty)]
    pub metadata: Option<ProposalMetadata>,
    /// Upgrade the network.
    #[codec(omitempty)]
    pub upgrade: Option<Descriptor>,
    /// Cancel an upgrade.
    #[codec(omitempty)]
    pub cancel_upgrade: Option<CancelUpgradeProposal>,
    /// Change a module's parameters.
    #[codec(omitempty)]
    pub change_parameters: Option<ChangeParametersProposal>,
}

impl ProposalContent {
    /// Checks the content.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn validate_basic(&self, p: &Parameters) -> Result<(), Invalid> {
        match (&self.metadata, p.allow_proposal_metadata) {
            (None, true) => invalid!("governance: invalid argument: proposal metadata required"),
            (Some(m), true) => m.validate_basic()?,
            (Some(_), false) => invalid!("governance: invalid argument"),
            (None, false) => {}
        }
        match (&self.upgrade, &self.cancel_upgrade, &self.change_parameters) {
            (Some(u), None, None) => {
                u.validate_basic().map_err(|e| Invalid::new(format!("upgrade proposal validation failed: {e}")))
            }
            (None, Some(_), None) => Ok(()),
            (None, None, Some(c)) => c
                .validate_basic()
                .map_err(|e| Invalid::new(format!("change parameters proposal validation failed: {e}"))),
            (None, None, None) => invalid!("proposal content has no fields set"),
            _ => invalid!("proposal content has multiple fields set"),
        }
    }
}

/// What a proposal says to people; has no effect.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ProposalMetadata {
    /// Title.
    pub title: String,
    /// Description.
    #[codec(omitempty)]
    pub description: String,
}

impl ProposalMetadata {
    /// Checks the title's length in bytes.
    ///
    /// # Errors
    /// If it is too short or too long.
    pub fn validate_basic(&self) -> Result<(), Invalid> {
        match self.title.len() {
            ..MIN_TITLE_BYTES => invalid!("governance: invalid argument: proposal title too short"),
            MIN_TITLE_BYTES..=MAX_TITLE_BYTES => Ok(()),
            _ => invalid!("governance: invalid argument: proposal title too long"),
        }
    }
}

/// Cancels the upgrade that an accepted proposal scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct CancelUpgradeProposal {
    /// Number of the proposal.
    pub proposal_id: u64,
}

/// Changes a module's parameters.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ChangeParametersProposal {
    /// The module.
    pub module: String,
    /// The module's own structure of changes, an embedded CBOR item.
    pub changes: Raw,
}

impl ChangeParametersProposal {
    /// Checks that both fields are there.
    ///
    /// # Errors
    /// If one is empty.
    pub fn validate_basic(&self) -> Result<(), Invalid> {
        if self.module.is_empty() {
            invalid!("invalid module name: name should not be empty");
        }
        if self.changes.is_empty() {
            invalid!("invalid parameter changes: changes should not be empty");
        }
        Ok(())
    }
}

int_type! { text
    /// A vote. Source: `go/governance/api/proposal.go`.
    pub struct Vote: u8 {
        /// For the proposal.
        YES = 1 => "yes",
        /// Against the proposal.
        NO = 2 => "no",
        /// Neither.
        ABSTAIN = 3 => "abstain",
    }
}

int_type! { text
    /// State of a proposal. Source: `go/governance/api/proposal.go`.
    pub struct ProposalState: u8 {
        /// Votes can be cast.
        ACTIVE = 1 => "active",
        /// Accepted and executed.
        PASSED = 2 => "passed",
        /// Not accepted.
        REJECTED = 3 => "rejected",
        /// Accepted, but execution failed.
        FAILED = 4 => "failed",
    }
}

/// Body of [`METHOD_CAST_VOTE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct ProposalVote {
    /// Number of the proposal.
    pub id: u64,
    /// The vote; any value is accepted.
    pub vote: Vote,
}

/// A proposal. Source: `go/governance/api/proposal.go`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Proposal {
    /// Number of the proposal.
    pub id: u64,
    /// Who submitted it.
    pub submitter: Address,
    /// State.
    pub state: ProposalState,
    /// What the submitter has deposited.
    pub deposit: Quantity,
    /// What it is about.
    pub content: ProposalContent,
    /// Epoch of submission.
    pub created_at: Epoch,
    /// Epoch at whose first block votes are counted.
    pub closes_at: Epoch,
    /// Stake for each vote, once counted.
    #[codec(omitempty)]
    pub results: Option<BTreeMap<Vote, Quantity>>,
    /// Votes that did not count.
    #[codec(omitempty)]
    pub invalid_votes: u64,
}

impl Proposal {
    /// Sum of the stake that voted.
    pub fn voted_sum(&self) -> Quantity {
        self.results.iter().flatten().fold(Quantity::ZERO, |sum, (_, q)| sum.add(q))
    }

    /// Decides an active proposal whose votes are counted: it passes if there are votes for it and their percentage
    /// of the total voting stake, rounded down, reaches the threshold.
    ///
    /// # Errors
    /// If the proposal is not active, votes are not counted, the total is zero or below the votes.
    pub fn close(&mut self, total_voting_stake: &Quantity, stake_threshold: u8) -> Result<(), Invalid> {
        const CONTEXT: &str = "invalid closing proposal state";
        if self.state != ProposalState::ACTIVE {
            invalid!("{CONTEXT}: expected: {}, got: {}", ProposalState::ACTIVE, self.state);
        }
        let Some(results) = &self.results else { invalid!("{CONTEXT}: results not initialized") };
        if total_voting_stake.is_zero() {
            invalid!("{CONTEXT}: total voting stake is zero");
        }
        let voted = self.voted_sum();
        if voted > *total_voting_stake {
            invalid!(
                "{CONTEXT}: voted stake ({voted}) greater than total possible voting stake ({total_voting_stake})"
            );
        }
        let yes = results.get(&Vote::YES).cloned().unwrap_or_default();
        let percentage = yes
            .mul(&Quantity::from(100u64))
            .quo(total_voting_stake)
            .map_err(|e| Invalid::new(format!("{CONTEXT}: {e}")))?;
        let passed = !yes.is_zero() && percentage >= Quantity::from(u64::from(stake_threshold));
        self.state = if passed { ProposalState::PASSED } else { ProposalState::REJECTED };
        Ok(())
    }
}

/// The upgrades that accepted proposals have scheduled at `epoch` or later, with the proposals' numbers.
pub fn pending_upgrades(proposals: &[Proposal], epoch: Epoch) -> Vec<(u64, Descriptor)> {
    let passed = || proposals.iter().filter(|p| p.state == ProposalState::PASSED);
    let mut pending: Vec<_> = passed()
        .filter_map(|p| p.content.upgrade.as_ref().map(|u| (p.id, u.clone())))
        .filter(|(_, u)| u.epoch >= epoch)
        .collect();
    for cancel in passed().filter_map(|p| p.content.cancel_upgrade) {
        if let Some(i) = pending.iter().position(|(id, _)| *id == cancel.proposal_id) {
            pending.remove(i);
        }
    }
    pending
}

/// Who voted, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct VoteEntry {
    /// Who.
    pub voter: Address,
    /// How.
    pub vote: Vote,
}

/// Query for a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct ProposalQuery {
    /// Height; 0 is the newest.
    pub height: i64,
    /// Number of the proposal.
    #[codec(rename = "id")]
    pub proposal_id: u64,
}

/// The section `governance` of a genesis document. Pending upgrades are not part of it: they follow from proposals.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Genesis {
    /// Parameters.
    #[codec(rename = "params")]
    pub parameters: Parameters,
    /// Proposals.
    #[codec(omitempty)]
    pub proposals: Vec<Proposal>,
    /// Votes by proposal.
    #[codec(omitempty)]
    pub vote_entries: BTreeMap<u64, Option<Vec<VoteEntry>>>,
}

/// Consensus parameters; part of the state under the key `85`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Parameters {
    /// Gas costs.
    #[codec(omitempty)]
    pub gas_costs: Costs,
    /// Deposit of a proposal in base units.
    #[codec(omitempty)]
    pub min_proposal_deposit: Quantity,
    /// Epochs during which votes can be cast.
    #[codec(omitempty)]
    pub voting_period: Epoch,
    /// Percentage of the total voting stake that must vote for a proposal; 67 to 100.
    #[codec(omitempty)]
    pub stake_threshold: u8,
    /// Fewest epochs between now and an upgrade, and between two upgrades.
    #[codec(omitempty)]
    pub upgrade_min_epoch_diff: Epoch,
    /// Fewest epochs between now and an upgrade that is to be canceled.
    #[codec(omitempty)]
    pub upgrade_cancel_min_epoch_diff: Epoch,
    /// Whether parameters may be changed by proposals.
    #[codec(omitempty)]
    pub enable_change_parameters_proposal: bool,
    /// Whether votes without a registered entity are allowed.
    #[codec(omitempty)]
    pub allow_vote_without_entity: bool,
    /// Whether proposals have metadata.
    #[codec(omitempty)]
    pub allow_proposal_metadata: bool,
}

impl Parameters {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the first one that is out of range.
    pub fn sanity_check(&self) -> Result<(), Invalid> {
        if self.stake_threshold > 100 {
            invalid!("stake threshold must be less than or equal to 100");
        }
        if self.stake_threshold <= 66 {
            invalid!("stake threshold must be greater than 66");
        }
        if self.voting_period >= self.upgrade_min_epoch_diff {
            invalid!("voting_period should be less than upgrade_min_epoch_diff");
        }
        if self.voting_period >= self.upgrade_cancel_min_epoch_diff {
            invalid!("voting_period should be less than upgrade_cancel_min_epoch_diff");
        }
        Ok(())
    }
}

/// The parameters that governance may change; what is absent stays.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ParameterChanges {
    /// New gas costs.
    #[codec(omitempty)]
    pub gas_costs: Option<Costs>,
    /// New value of [`Parameters::min_proposal_deposit`].
    #[codec(omitempty)]
    pub min_proposal_deposit: Option<Quantity>,
    /// New value of [`Parameters::voting_period`].
    #[codec(omitempty)]
    pub voting_period: Option<Epoch>,
    /// New value of [`Parameters::stake_threshold`].
    #[codec(omitempty)]
    pub stake_threshold: Option<u8>,
    /// New value of [`Parameters::upgrade_min_epoch_diff`].
    #[codec(omitempty)]
    pub upgrade_min_epoch_diff: Option<Epoch>,
    /// New value of [`Parameters::upgrade_cancel_min_epoch_diff`].
    #[codec(omitempty)]
    pub upgrade_cancel_min_epoch_diff: Option<Epoch>,
    /// New value of [`Parameters::enable_change_parameters_proposal`].
    #[codec(omitempty)]
    pub enable_change_parameters_proposal: Option<bool>,
}

impl ParameterChanges {
    /// Checks the changes by themselves.
    ///
    /// # Errors
    /// If nothing changes.
    pub fn sanity_check(&self) -> Result<(), Invalid> {
        if *self == Self::default() {
            invalid!("consensus parameter changes should not be empty");
        }
        Ok(())
    }

    /// Makes the changes.
    pub fn apply(&self, p: &mut Parameters) {
        fn set<T: Clone>(target: &mut T, change: &Option<T>) {
            if let Some(v) = change {
                target.clone_from(v);
            }
        }
        set(&mut p.gas_costs, &self.gas_costs);
        set(&mut p.min_proposal_deposit, &self.min_proposal_deposit);
        set(&mut p.voting_period, &self.voting_period);
        set(&mut p.stake_threshold, &self.stake_threshold);
        set(&mut p.upgrade_min_epoch_diff, &self.upgrade_min_epoch_diff);
        set(&mut p.upgrade_cancel_min_epoch_diff, &self.upgrade_cancel_min_epoch_diff);
        set(&mut p.enable_change_parameters_proposal, &self.enable_change_parameters_proposal);
    }
}

/// Checks proposals against the epoch and the deposits that are held for active ones.
///
/// # Errors
/// Names the first proposal that is out of order.
pub fn sanity_check_proposals(proposals: &[Proposal], epoch: Epoch, deposits: &Quantity) -> Result<(), Invalid> {
    let mut active_deposits = Quantity::ZERO;
    for p in proposals {
        let id = p.id;
        if p.created_at > epoch {
            invalid!("proposal {id}: with created epoch in the future");
        }
        if !p.submitter.is_valid() {
            invalid!("proposal {id}: invalid proposal submitter");
        }
        if p.state != ProposalState::ACTIVE {
            if p.closes_at > epoch {
                invalid!("proposal {id}: closed proposal with future closing epoch");
            }
            continue;
        }
        if p.closes_at < epoch {
            invalid!("proposal {id}: active proposal with past closing epoch");
        }
        if p.results.is_some() {
            invalid!("proposal {id}: active proposal with results");
        }
        if p.invalid_votes != 0 {
            invalid!("proposal {id}: active proposal with non-zero invalid votes");
        }
        if p.content.upgrade.as_ref().is_some_and(|u| u.epoch < epoch) {
            invalid!("proposal {id}: active proposal with past upgrade epoch");
        }
        active_deposits.add_assign(&p.deposit);
    }
    if active_deposits != *deposits {
        invalid!("sum of active proposals deposits ({active_deposits}) doesn't match governance deposit ({deposits})");
    }
    Ok(())
}

/// Checks the voters of a proposal.
///
/// # Errors
/// If one is a reserved address.
pub fn sanity_check_votes(proposal: u64, votes: &[VoteEntry]) -> Result<(), Invalid> {
    if votes.iter().any(|v| !v.voter.is_valid()) {
        invalid!("proposal {proposal}: invalid voter");
    }
    Ok(())
}

/// Checks the descriptors of pending upgrades and their distance.
///
/// # Errors
/// Names the first upgrade that is out of order.
pub fn sanity_check_pending_upgrades<'a>(
    upgrades: impl IntoIterator<Item = &'a Descriptor>,
    epoch: Epoch,
    p: &Parameters,
) -> Result<(), Invalid> {
    let mut epochs = Vec::new();
    for up in upgrades {
        up.validate_basic()
            .map_err(|e| Invalid::new(format!("pending upgrade {}: descriptor validation failure: {e}", up.handler)))?;
        if up.epoch < epoch {
            invalid!("pending upgrade {}: past upgrade epoch", up.handler);
        }
        epochs.push(up.epoch);
    }
    epochs.sort_unstable();
    if let Some(pair) = epochs.windows(2).find(|w| w[0].abs_diff(w[1]) < p.upgrade_min_epoch_diff) {
        invalid!(
            "pending upgrades not UpgradeMinEpochDiff({}) apart: {}, {}",
            p.upgrade_min_epoch_diff,
            pair[0],
            pair[1]
        );
    }
    Ok(())
}

impl Genesis {
    /// Checks the section at the base epoch; `deposits` is what the staking section holds for proposals.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn sanity_check(&self, epoch: Epoch, deposits: &Quantity) -> Result<(), Invalid> {
        let failed =
            |what: &'static str| move |e: Invalid| Invalid::new(format!("governance: {what} sanity check failed: {e}"));
        self.parameters.sanity_check().map_err(failed("parameters"))?;
        sanity_check_proposals(&self.proposals, epoch, deposits).map_err(failed("proposals"))?;
        for p in &self.proposals {
            let votes = self.vote_entries.get(&p.id).and_then(Option::as_deref).unwrap_or_default();
            sanity_check_votes(p.id, votes).map_err(failed("votes"))?;
        }
        let pending = pending_upgrades(&self.proposals, epoch);
        sanity_check_pending_upgrades(pending.iter().map(|(_, u)| u), epoch, &self.parameters)
            .map_err(failed("pending upgrades"))
    }
}

/// An event as clients see it: exactly one of the optional fields. Source: `go/governance/api`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Event {
    /// Height of the block.
    #[codec(omitempty)]
    pub height: i64,
    /// Hash of the transaction; the empty hash for events of the block.
    #[codec(omitempty)]
    pub tx_hash: Hash,
    /// A proposal was submitted.
    #[codec(omitempty)]
    pub proposal_submitted: Option<ProposalSubmittedEvent>,
    /// A proposal was executed.
    #[codec(omitempty)]
    pub proposal_executed: Option<ProposalExecutedEvent>,
    /// A proposal was closed.
    #[codec(omitempty)]
    pub proposal_finalized: Option<ProposalFinalizedEvent>,
    /// A vote was cast.
    #[codec(omitempty)]
    pub vote: Option<VoteEvent>,
}

/// A proposal was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct ProposalSubmittedEvent {
    /// Number of the proposal.
    pub id: u64,
    /// Who submitted it.
    pub submitter: Address,
}
typed_event!(ProposalSubmittedEvent, "proposal_submitted");

/// A proposal was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct ProposalExecutedEvent {
    /// Number of the proposal.
    pub id: u64,
}
typed_event!(ProposalExecutedEvent, "proposal_executed");

/// A proposal was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct ProposalFinalizedEvent {
    /// Number of the proposal.
    pub id: u64,
    /// State in which it was closed.
    pub state: ProposalState,
}
typed_event!(ProposalFinalizedEvent, "proposal_finalized");

/// A vote was cast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct VoteEvent {
    /// Number of the proposal.
    pub id: u64,
    /// Who voted.
    pub submitter: Address,
    /// How.
    pub vote: Vote,
}
typed_event!(VoteEvent, "vote");

#[cfg(test)]
mod tests;
