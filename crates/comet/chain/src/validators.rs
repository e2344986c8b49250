//! Validator sets: order, changes, and the rotation of proposers.
//!
//! Reference: `cometbft:types/validator_set.go`. Who proposes depends on the path: one call with `times` = 2 can differ
//! from two calls with 1, because rescaling and centring happen once per call.

use std::collections::BTreeMap;

use wire_cometbft::block::BasicError;
use wire_cometbft::keys::{Address, PublicKey};
use wire_cometbft::merkle::Hash;
use wire_cometbft::validators as wire;

use crate::app::ValidatorUpdate;

/// Largest sum of voting powers of a set.
pub const MAX_TOTAL_VOTING_POWER: i64 = i64::MAX / 8;
/// Priorities of a set span at most this many times its total power.
const PRIORITY_WINDOW: i64 = 2;

/// A validator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validator {
    /// Address of the key.
    pub address: Address,
    /// Ed25519 consensus key.
    pub pub_key: [u8; 32],
    /// Voting power, not negative.
    pub voting_power: i64,
    /// Standing in the rotation of proposers: the highest proposes next.
    pub proposer_priority: i64,
}

impl Validator {
    /// Validator with priority 0.
    pub fn new(pub_key: [u8; 32], voting_power: i64) -> Self {
        Self { address: Address::of(&pub_key), pub_key, voting_power, proposer_priority: 0 }
    }

    fn from_wire(validator: &wire::Validator) -> Result<Self, ValidatorError> {
        validator.validate_basic()?;
        let pub_key = validator.pub_key.as_ed25519().ok_or(ValidatorError::KeyType)?;
        Ok(Self { proposer_priority: validator.proposer_priority, ..Self::new(pub_key, validator.voting_power) })
    }

    /// The message.
    pub fn to_wire(&self) -> wire::Validator {
        wire::Validator {
            address: self.address.0.to_vec(),
            pub_key: PublicKey::ed25519(&self.pub_key),
            voting_power: self.voting_power,
            proposer_priority: self.proposer_priority,
        }
    }

    /// Whether this one proposes before `other`: higher priority, then lower address.
    fn precedes(&self, other: &Self) -> bool {
        (other.proposer_priority, self.address) < (self.proposer_priority, other.address)
    }
}

/// Why a validator set or a change of one is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValidatorError {
    /// A validator of a set from outside is malformed.
    #[error(transparent)]
    Basic(#[from] BasicError),
    /// A key that is not Ed25519.
    #[error("key is not ed25519")]
    KeyType,
    /// A change names one validator twice.
    #[error("duplicate entry for {0}")]
    Duplicate(Address),
    /// Voting power below zero or above the limit.
    #[error("voting power {power} of {address} out of range")]
    Power {
        /// The validator.
        address: Address,
        /// Its power.
        power: i64,
    },
    /// Power 0 where nothing can be removed.
    #[error("cannot remove {0} from a new set")]
    RemovalFromNew(Address),
    /// Removal of a validator that is not in the set.
    #[error("failed to find validator {0} to remove")]
    UnknownRemoval(Address),
    /// Nobody would be left.
    #[error("change would result in an empty set")]
    WouldBeEmpty,
    /// The sum of powers is above the limit.
    #[error("total voting power exceeds {MAX_TOTAL_VOTING_POWER}")]
    TotalPower,
    /// The set is empty where it must not be.
    #[error("validator set is empty")]
    Empty,
}

/// A validator set, by voting power descending, then by address ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidatorSet {
    validators: Vec<Validator>,
    proposer: Option<Validator>,
    total_voting_power: i64,
}

impl ValidatorSet {
    /// A new set, rotated once; empty if `members` is.
    pub fn new(members: &[ValidatorUpdate]) -> Result<Self, ValidatorError> {
        let mut set = Self::default();
        set.change(members, false)?;
        if !members.is_empty() {
            set.increment_proposer_priority(1)?;
        }
        Ok(set)
    }

    /// A set from outside, after every stateless check.
    pub fn from_wire(set: &wire::ValidatorSet) -> Result<Self, ValidatorError> {
        set.validate_basic()?;
        let validators = set.validators.iter().map(Validator::from_wire).collect::<Result<Vec<_>, _>>()?;
        let proposer = set.proposer.as_ref().map(Validator::from_wire).transpose()?;
        let total_voting_power = sum_powers(&validators)?;
        Ok(Self { validators, proposer, total_voting_power })
    }

    /// A stored set: as [`Self::from_wire`], but an empty message is an empty set.
    pub fn from_stored(set: Option<&wire::ValidatorSet>) -> Result<Self, ValidatorError> {
        match set {
            Some(set) if !set.validators.is_empty() => Self::from_wire(set),
            _ => Ok(Self::default()),
        }
    }

    /// The message, without the sum of powers.
    pub fn to_wire(&self) -> wire::ValidatorSet {
        wire::ValidatorSet {
            validators: self.validators.iter().map(Validator::to_wire).collect(),
            proposer: self.proposer.as_ref().map(Validator::to_wire),
            total_voting_power: 0,
        }
    }

    /// Validators in order.
    pub fn validators(&self) -> &[Validator] {
        &self.validators
    }

    /// Number of validators.
    pub fn len(&self) -> usize {
        self.validators.len()
    }

    /// Whether there are no validators.
    pub fn is_empty(&self) -> bool {
        self.validators.is_empty()
    }

    /// Sum of voting powers, at most [`MAX_TOTAL_VOTING_POWER`].
    pub fn total_voting_power(&self) -> i64 {
        self.total_voting_power
    }

    /// Two thirds of the total, rounded down: a majority has more than this.
    pub fn two_thirds(&self) -> i64 {
        // At most 2^60, so the product fits.
        self.total_voting_power * 2 / 3
    }

    /// The validator that the last rotation picked.
    pub fn proposer(&self) -> Option<&Validator> {
        self.proposer.as_ref()
    }

    /// The validator at a place.
    pub fn get(&self, index: usize) -> Option<&Validator> {
        self.validators.get(index)
    }

    /// Place and validator of an address.
    pub fn find(&self, address: &Address) -> Option<(usize, &Validator)> {
        self.validators.iter().enumerate().find(|(_, validator)| validator.address == *address)
    }

    /// As [`Self::find`], for an address from outside.
    pub fn find_bytes(&self, address: &[u8]) -> Option<(usize, &Validator)> {
        self.find(&Address::from_slice(address)?)
    }

    /// The header's hash of this set: keys and powers.
    pub fn hash(&self) -> Hash {
        self.to_wire().hash()
    }

    /// Whether both sets hold the same priorities in the same order, which no hash in a header covers.
    ///
    /// DEVIATION: light clients of the reference compare a hash (`ProposerPriorityHash`) that in effect covers the
    /// last priorities alone; this compares all of them.
    pub fn same_priorities(&self, other: &Self) -> bool {
        let priorities = |set: &Self| set.validators.iter().map(|v| v.proposer_priority).collect::<Vec<_>>();
        priorities(self) == priorities(other)
    }

    /// Moves the rotation `times` steps on (at least one), in one call.
    ///
    /// # Consensus
    /// Priorities are first brought within the window and centred on zero, once; then each step adds every
    /// validator's power to its priority, picks the highest and subtracts the total from it.
    pub fn increment_proposer_priority(&mut self, times: u32) -> Result<(), ValidatorError> {
        if self.is_empty() {
            return Err(ValidatorError::Empty);
        }
        self.rescale_priorities();
        self.centre_priorities();
        for _ in 0..times.max(1) {
            self.step();
        }
        Ok(())
    }

    /// A copy moved `times` steps on.
    pub fn incremented(&self, times: u32) -> Result<Self, ValidatorError> {
        let mut set = self.clone();
        set.increment_proposer_priority(times)?;
        Ok(set)
    }

    fn step(&mut self) {
        for validator in &mut self.validators {
            validator.proposer_priority = validator.proposer_priority.saturating_add(validator.voting_power);
        }
        let total = self.total_voting_power;
        let best = self.validators.iter_mut().reduce(|best, other| if other.precedes(best) { other } else { best });
        if let Some(best) = best {
            best.proposer_priority = best.proposer_priority.saturating_sub(total);
            self.proposer = Some(best.clone());
        }
    }

    fn rescale_priorities(&mut self) {
        let window = PRIORITY_WINDOW * self.total_voting_power;
        let priorities = || self.validators.iter().map(|validator| validator.proposer_priority);
        let (Some(max), Some(min)) = (priorities().max(), priorities().min()) else {
            return;
        };
        if window <= 0 {
            return;
        }
        // Priorities from outside may be extreme; the reference's arithmetic wraps.
        let spread = match max.wrapping_sub(min) {
            negative if negative < 0 => negative.wrapping_neg(),
            spread => spread,
        };
        let ratio = spread.wrapping_add(window - 1) / window;
        if spread > window && ratio != 0 {
            for validator in &mut self.validators {
                validator.proposer_priority = validator.proposer_priority.wrapping_div(ratio);
            }
        }
    }

    fn centre_priorities(&mut self) {
        let count = self.validators.len() as i128;
        if count == 0 {
            return;
        }
        let sum: i128 = self.validators.iter().map(|validator| i128::from(validator.proposer_priority)).sum();
        // The average of i64 values is one.
        let average = i64::try_from(sum.div_euclid(count)).unwrap_or_default();
        for validator in &mut self.validators {
            validator.proposer_priority = validator.proposer_priority.saturating_sub(average);
        }
    }

    /// Applies changes: new validators, new powers, removals (power 0). On error nothing has changed.
    ///
    /// # Consensus
    /// A new validator starts at −1.125 times the total power after updates and before removals; validators that
    /// stay keep their priority. The proposer stays until the next rotation.
    pub fn update(&mut self, changes: &[ValidatorUpdate]) -> Result<(), ValidatorError> {
        self.change(changes, true)
    }

    fn change(&mut self, changes: &[ValidatorUpdate], allow_removals: bool) -> Result<(), ValidatorError> {
        if changes.is_empty() {
            return Ok(());
        }
        let changes = sorted_changes(changes)?;
        let old: BTreeMap<Address, &Validator> =
            self.validators.iter().map(|validator| (validator.address, validator)).collect();

        let mut removed_power = 0i64;
        let mut removals = 0;
        for change in changes.values().filter(|change| change.voting_power == 0) {
            if !allow_removals {
                return Err(ValidatorError::RemovalFromNew(change.address));
            }
            let gone = old.get(&change.address).ok_or(ValidatorError::UnknownRemoval(change.address))?;
            removed_power += gone.voting_power;
            removals += 1;
        }
        let updates = || changes.values().filter(|change| change.voting_power > 0);
        if removals == old.len() && updates().all(|update| old.contains_key(&update.address)) {
            return Err(ValidatorError::WouldBeEmpty);
        }
        let power_before_removals = self.power_after(&old, updates(), removed_power)?;

        let newcomer = -(power_before_removals + (power_before_removals >> 3));
        let mut next: BTreeMap<Address, Validator> =
            old.iter().map(|(&address, &validator)| (address, validator.clone())).collect();
        for change in changes.values() {
            if change.voting_power == 0 {
                next.remove(&change.address);
                continue;
            }
            let priority = old.get(&change.address).map_or(newcomer, |validator| validator.proposer_priority);
            next.insert(change.address, Validator { proposer_priority: priority, ..change.clone() });
        }
        let validators: Vec<Validator> = next.into_values().collect();
        self.total_voting_power = sum_powers(&validators)?;
        self.validators = validators;
        self.rescale_priorities();
        self.centre_priorities();
        sort_by_power(&mut self.validators);
        Ok(())
    }

    /// Total power with the updates made and nothing removed yet; refuses if it would pass the limit on the way,
    /// smallest change first.
    fn power_after<'a>(
        &self,
        old: &BTreeMap<Address, &Validator>,
        updates: impl Iterator<Item = &'a Validator>,
        removed_power: i64,
    ) -> Result<i64, ValidatorError> {
        let mut deltas: Vec<i64> = updates
            .map(|update| update.voting_power - old.get(&update.address).map_or(0, |was| was.voting_power))
            .collect();
        deltas.sort_unstable();
        let mut power = self.total_voting_power - removed_power;
        for delta in deltas {
            power += delta;
            if power > MAX_TOTAL_VOTING_POWER {
                return Err(ValidatorError::TotalPower);
            }
        }
        Ok(power + removed_power)
    }
}

/// Sorts by voting power descending, then by address.
pub(crate) fn sort_by_power(validators: &mut [Validator]) {
    validators.sort_by(|a, b| b.voting_power.cmp(&a.voting_power).then(a.address.cmp(&b.address)));
}

fn sorted_changes(changes: &[ValidatorUpdate]) -> Result<BTreeMap<Address, Validator>, ValidatorError> {
    let mut sorted = BTreeMap::new();
    for change in changes {
        let validator = Validator::new(change.pub_key, change.power);
        let address = validator.address;
        if !(0..=MAX_TOTAL_VOTING_POWER).contains(&change.power) {
            return Err(ValidatorError::Power { address, power: change.power });
        }
        if sorted.insert(address, validator).is_some() {
            return Err(ValidatorError::Duplicate(address));
        }
    }
    Ok(sorted)
}

fn sum_powers(validators: &[Validator]) -> Result<i64, ValidatorError> {
    validators
        .iter()
        .try_fold(0i64, |sum, validator| sum.checked_add(validator.voting_power))
        .filter(|&sum| sum <= MAX_TOTAL_VOTING_POWER)
        .ok_or(ValidatorError::TotalPower)
}

#[cfg(test)]
mod tests;
