//! Scheduler: committees, validators and their parameters.

use std::collections::BTreeMap;

use base_codec::{ByteList, Codec, int_type};
use base_prims::{Epoch, Namespace, PublicKey, Quantity};

use crate::{Invalid, invalid, typed_event};

/// Module name.
pub const MODULE: &str = "scheduler";

int_type! { text
    /// Role of a committee member. Source: `go/scheduler/api`.
    pub struct Role: u8 {
        INVALID = 0 => "invalid",
        WORKER = 1 => "worker",
        BACKUP_WORKER = 2 => "backup-worker",
    }
}

int_type! { text
    /// Kind of a committee.
    pub struct CommitteeKind: u8 {
        INVALID = 0 => "invalid",
        COMPUTE_EXECUTOR = 1 => "executor",
    }
}

int_type! { int
    /// How voting power follows from stake.
    pub struct VotingPowerDistribution: u8 {
        LINEAR = 0 => "linear",
        SQRT = 1 => "sqrt",
    }
}

/// A member of a committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct CommitteeNode {
    /// What the member does.
    pub role: Role,
    /// The node.
    pub public_key: PublicKey,
}

/// The committee of a runtime for an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Committee {
    /// Kind.
    pub kind: CommitteeKind,
    /// Members, workers first.
    pub members: Option<Vec<CommitteeNode>>,
    /// The runtime.
    pub runtime_id: Namespace,
    /// The epoch it was elected for.
    pub valid_for: Epoch,
}

impl Committee {
    /// The members.
    pub fn members(&self) -> &[CommitteeNode] {
        self.members.as_deref().unwrap_or_default()
    }

    /// The members that are workers, in order.
    pub fn workers(&self) -> impl Iterator<Item = &CommitteeNode> {
        self.members().iter().filter(|m| m.role == Role::WORKER)
    }

    /// The node that schedules `round` at `rank`, where rank 0 is the primary; absent if the rank is too high.
    pub fn scheduler(&self, round: u64, rank: u64) -> Option<&CommitteeNode> {
        let n = u64::try_from(self.workers().count()).ok()?;
        if rank >= n {
            return None;
        }
        let index = (rank + n - round % n) % n;
        self.workers().nth(usize::try_from(index).ok()?)
    }

    /// The rank at which the node schedules `round`; absent if it is no worker.
    pub fn scheduler_rank(&self, round: u64, id: &PublicKey) -> Option<u64> {
        let n = u64::try_from(self.workers().count()).ok()?;
        let index = u64::try_from(self.workers().position(|m| m.public_key == *id)?).ok()?;
        Some((round % n + index) % n)
    }
}

/// A validator of the consensus layer.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Validator {
    /// The node.
    pub id: PublicKey,
    /// Its entity.
    pub entity_id: PublicKey,
    /// Voting power.
    pub voting_power: i64,
}

/// The section `scheduler` of a genesis document.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Genesis {
    /// Parameters.
    #[codec(rename = "params")]
    pub parameters: Parameters,
}

/// Consensus parameters of the scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Parameters {
    /// Fewest validators; an election with fewer is fatal.
    pub min_validators: i64,
    /// Most validators.
    pub max_validators: i64,
    /// Most validators of one entity.
    pub max_validators_per_entity: i64,
    /// Ignore stake (test networks).
    #[codec(omitempty)]
    pub debug_bypass_stake: bool,
    /// Reward for being eligible in any election.
    pub reward_factor_epoch_election_any: Quantity,
    /// Forced committee members (test networks).
    #[codec(omitempty)]
    pub debug_force_elect: BTreeMap<Namespace, BTreeMap<PublicKey, ForceElectCommitteeRole>>,
    /// Elect committees on weak alpha (test networks).
    #[codec(omitempty)]
    pub debug_allow_weak_alpha: bool,
    /// How voting power follows from stake.
    #[codec(omitempty)]
    pub voting_power_distribution: VotingPowerDistribution,
}

/// A forced committee seat.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ForceElectCommitteeRole {
    /// Kind of committee.
    #[codec(omitempty)]
    pub kind: CommitteeKind,
    /// Roles to force.
    #[codec(omitempty)]
    pub roles: ByteList<Role>,
    /// Place among the workers.
    #[codec(omitempty)]
    pub index: u64,
}

/// Largest voting power that the total supply may have.
pub const MAX_TOTAL_VOTING_POWER: i64 = i64::MAX / 8;
/// Base units of stake per unit of voting power in the linear distribution.
pub const BASE_UNITS_PER_VOTING_POWER: u64 = 16;

/// Voting power of an amount of stake, at least 1.
///
/// # Errors
/// If the power does not fit 63 bits.
pub fn voting_power_from_stake(stake: &Quantity, distribution: VotingPowerDistribution) -> Result<i64, Invalid> {
    let linear = distribution == VotingPowerDistribution::LINEAR;
    let scaled = if linear {
        stake.quo(&Quantity::from(BASE_UNITS_PER_VOTING_POWER)).unwrap_or_default()
    } else {
        stake.clone()
    };
    if scaled.is_zero() {
        return Ok(1);
    }
    let power = if distribution == VotingPowerDistribution::SQRT { scaled.sqrt() } else { scaled };
    power
        .to_u64()
        .and_then(|p| i64::try_from(p).ok())
        .ok_or_else(|| Invalid::new(format!("{power} is too many base units to convert to power")))
}

impl Parameters {
    /// Checks the parameters.
    ///
    /// # Errors
    /// If debug options are set but not allowed.
    pub fn sanity_check(&self, allow_debug: bool) -> Result<(), Invalid> {
        if !allow_debug
            && (self.debug_bypass_stake || self.debug_allow_weak_alpha || !self.debug_force_elect.is_empty())
        {
            invalid!("one or more unsafe debug flags set");
        }
        Ok(())
    }
}

impl Genesis {
    /// Checks the section against the total supply of the staking section.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn sanity_check(&self, total_supply: &Quantity, allow_debug: bool) -> Result<(), Invalid> {
        let p = &self.parameters;
        p.sanity_check(allow_debug).map_err(|e| Invalid::new(format!("scheduler: sanity check failed: {e}")))?;
        if !p.debug_bypass_stake {
            let power = voting_power_from_stake(total_supply, p.voting_power_distribution).map_err(|e| {
                Invalid::new(format!(
                    "scheduler: sanity check failed: total supply would break voting power computation: {e}"
                ))
            })?;
            if power > MAX_TOTAL_VOTING_POWER {
                invalid!(
                    "init chain: total supply power {power} exceeds CometBFT voting power limit {MAX_TOTAL_VOTING_POWER}"
                );
            }
        }
        Ok(())
    }
}

/// Parameter changes that governance may make. Absent fields stay.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ParameterChanges {
    /// See [`Parameters::min_validators`].
    pub min_validators: Option<i64>,
    /// See [`Parameters::max_validators`].
    pub max_validators: Option<i64>,
    /// See [`Parameters::voting_power_distribution`].
    #[codec(omitempty)]
    pub voting_power_distribution: Option<VotingPowerDistribution>,
}

impl ParameterChanges {
    /// Refuses a change that changes nothing.
    ///
    /// # Errors
    /// If no field is present.
    pub fn sanity_check(&self) -> Result<(), Invalid> {
        if *self == Self::default() {
            invalid!("consensus parameter changes should not be empty");
        }
        Ok(())
    }

    /// Applies the changes.
    pub fn apply(&self, p: &mut Parameters) {
        if let Some(v) = self.min_validators {
            p.min_validators = v;
        }
        if let Some(v) = self.max_validators {
            p.max_validators = v;
        }
        if let Some(v) = self.voting_power_distribution {
            p.voting_power_distribution = v;
        }
    }
}

/// Committees were elected.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ElectedEvent {
    /// Kinds of committee.
    #[codec(omitempty)]
    pub kinds: ByteList<CommitteeKind>,
}
typed_event!(ElectedEvent, "elected");

/// Query for the committees of a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct GetCommitteesRequest {
    /// Height, 0 for the newest.
    pub height: i64,
    /// The runtime.
    pub runtime_id: Namespace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_rotate_and_invert() {
        let member = |i: u8, role| CommitteeNode { role, public_key: PublicKey::new([i; 32]) };
        let committee = Committee {
            members: Some(vec![
                member(1, Role::WORKER),
                member(2, Role::WORKER),
                member(3, Role::WORKER),
                member(4, Role::BACKUP_WORKER),
            ]),
            ..Default::default()
        };
        for round in [0, 1, 2, 3, 100, u64::MAX] {
            for rank in 0..3 {
                let m = committee.scheduler(round, rank).unwrap();
                assert_eq!(committee.scheduler_rank(round, &m.public_key), Some(rank));
            }
            assert!(committee.scheduler(round, 3).is_none());
        }
        assert_eq!(committee.scheduler_rank(0, &PublicKey::new([4; 32])), None);
    }
}
