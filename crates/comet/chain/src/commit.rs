//! Commits against validator sets: who signed, whether it is enough, and what time it was.
//!
//! Reference: `cometbft:types/validator_set.go` (`VerifyCommit…`), `state/state.go` (`MedianTime`), `types/time/time.go`.
//!
//! Each check comes in two halves, so that signatures of many commits can be checked in one batch: the first half
//! collects the signatures that matter, [`PendingCommit::finish`] takes their verdicts.

use std::collections::BTreeMap;

use wire_cometbft::Time;
use wire_cometbft::block::{BlockId, Commit};
use wire_cometbft::keys::Address;

use crate::signature::{Claim, verify_batch};
use crate::validators::ValidatorSet;

/// Why a commit does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Another number of entries than validators.
    #[error("commit has {got} signatures for {expected} validators")]
    SignatureCount {
        /// Number of validators.
        expected: usize,
        /// Number of entries.
        got: usize,
    },
    /// A commit of another height.
    #[error("commit is for height {got}, not {expected}")]
    Height {
        /// Height wanted.
        expected: i64,
        /// Height of the commit.
        got: i64,
    },
    /// A commit of another block.
    #[error("commit is for another block")]
    BlockId,
    /// An entry with another address than the validator at its place.
    #[error("validator address mismatch at index {0}")]
    Address(usize),
    /// A signature that does not hold.
    #[error("wrong signature at index {0}")]
    Signature(usize),
    /// Two entries of one validator.
    #[error("double vote from {address} ({first} and {second})")]
    DoubleVote {
        /// The validator.
        address: Address,
        /// Its first entry.
        first: usize,
        /// Its second entry.
        second: usize,
    },
    /// Those who signed have too little power.
    #[error("insufficient voting power: got {got}, needed more than {needed}")]
    NotEnoughPower {
        /// Power of those who signed.
        got: i64,
        /// Power that must be exceeded.
        needed: i64,
    },
    /// A trust level that cannot be computed with.
    #[error("unusable trust level {0}/{1}")]
    TrustLevel(u64, u64),
    /// A time by a validator that is not in the set.
    #[error("commit validator not found in validator set at index {0}")]
    UnknownValidator(usize),
}

/// Fraction of a trusted set's power that must have signed for a header to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustLevel {
    /// Numerator.
    pub numerator: u64,
    /// Denominator.
    pub denominator: u64,
}

impl TrustLevel {
    /// One third, the default.
    pub const ONE_THIRD: Self = Self { numerator: 1, denominator: 3 };

    /// Checks that the level is within 1/3 to 1.
    pub fn validate(self) -> Result<Self, CommitError> {
        let Self { numerator, denominator } = self;
        if denominator == 0 || numerator > denominator || u128::from(numerator) * 3 < u128::from(denominator) {
            return Err(CommitError::TrustLevel(numerator, denominator));
        }
        Ok(self)
    }

    /// Power that must be exceeded.
    fn of(self, total: i64) -> Result<i64, CommitError> {
        let unusable = CommitError::TrustLevel(self.numerator, self.denominator);
        let (Ok(numerator), Ok(denominator)) = (i64::try_from(self.numerator), i64::try_from(self.denominator)) else {
            return Err(unusable);
        };
        total.checked_mul(numerator).and_then(|product| product.checked_div(denominator)).ok_or(unusable)
    }
}

/// A commit whose signatures are still to be checked.
#[derive(Debug, Clone)]
#[must_use = "a commit is verified only by `finish` or `verify`"]
pub struct PendingCommit {
    claims: Vec<Claim>,
    /// The verdict if every signature holds.
    verdict: Result<(), CommitError>,
}

impl PendingCommit {
    /// The signatures that matter.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// The verdict, given for each claim whether its signature holds; a missing one does not.
    pub fn finish(self, valid: &[bool]) -> Result<(), CommitError> {
        for (at, claim) in self.claims.iter().enumerate() {
            if valid.get(at) != Some(&true) {
                return Err(CommitError::Signature(claim.index));
            }
        }
        self.verdict
    }

    /// Checks the signatures and gives the verdict.
    pub fn verify(self) -> Result<(), CommitError> {
        let valid = verify_batch(&self.claims);
        self.finish(&valid)
    }
}

fn enough(got: i64, needed: i64) -> Result<(), CommitError> {
    if got > needed { Ok(()) } else { Err(CommitError::NotEnoughPower { got, needed }) }
}

fn check_frame(set: &ValidatorSet, block_id: &BlockId, height: i64, commit: &Commit) -> Result<(), CommitError> {
    if set.len() != commit.signatures.len() {
        return Err(CommitError::SignatureCount { expected: set.len(), got: commit.signatures.len() });
    }
    if height != commit.height {
        return Err(CommitError::Height { expected: height, got: commit.height });
    }
    if *block_id != commit.block_id { Err(CommitError::BlockId) } else { Ok(()) }
}

fn claim(chain_id: &str, commit: &Commit, index: usize, key: [u8; 32]) -> Claim {
    let sign_bytes = commit.sign_bytes(chain_id, index).unwrap_or_default();
    let signature = commit.signatures.get(index).map_or(&[][..], |entry| &entry.signature);
    Claim::new(index, key, &sign_bytes, signature)
}

/// The full check, as for a block's last commit: every signature holds, those for no block included, every address is
/// that of the validator at its place, and more than two thirds are for the block.
pub fn check_full(
    set: &ValidatorSet,
    chain_id: &str,
    block_id: &BlockId,
    height: i64,
    commit: &Commit,
) -> Result<PendingCommit, CommitError> {
    check_frame(set, block_id, height, commit)?;
    let mut claims = Vec::with_capacity(set.len());
    let mut power = 0i64;
    for (index, (entry, validator)) in commit.signatures.iter().zip(set.validators()).enumerate() {
        if entry.is_absent() {
            continue;
        }
        if entry.validator_address != validator.address.0 {
            return Err(CommitError::Address(index));
        }
        claims.push(claim(chain_id, commit, index, validator.pub_key));
        if entry.is_for_block() {
            // Bounded by the set's total.
            power += validator.voting_power;
        }
    }
    Ok(PendingCommit { claims, verdict: enough(power, set.two_thirds()) })
}

/// Which entries of a commit count for a light check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those for the block, up to the one that makes it enough.
    Enough,
    /// Every one that is not absent, those for no block too; for evidence.
    AllSignatures,
}

impl Scope {
    fn counts(self, entry: &wire_cometbft::block::CommitSig) -> bool {
        match self {
            Self::Enough => entry.is_for_block(),
            Self::AllSignatures => !entry.is_absent(),
        }
    }
}

/// The light check: entries belong to validators by place, addresses are not compared, and more than two thirds must
/// have signed.
pub fn check_light(
    set: &ValidatorSet,
    chain_id: &str,
    block_id: &BlockId,
    height: i64,
    commit: &Commit,
    scope: Scope,
) -> Result<PendingCommit, CommitError> {
    check_frame(set, block_id, height, commit)?;
    let needed = set.two_thirds();
    let mut claims = Vec::new();
    let mut power = 0i64;
    for (index, (entry, validator)) in commit.signatures.iter().zip(set.validators()).enumerate() {
        if !scope.counts(entry) {
            continue;
        }
        claims.push(claim(chain_id, commit, index, validator.pub_key));
        power += validator.voting_power;
        if scope == Scope::Enough && power > needed {
            break;
        }
    }
    Ok(PendingCommit { claims, verdict: enough(power, needed) })
}

/// The light check by another height's set: entries belong to validators by address, those of unknown validators are
/// passed over, and more than the trust level's share must have signed.
pub fn check_light_trusting(
    set: &ValidatorSet,
    chain_id: &str,
    commit: &Commit,
    level: TrustLevel,
    scope: Scope,
) -> Result<PendingCommit, CommitError> {
    let needed = level.of(set.total_voting_power())?;
    let places: BTreeMap<&[u8], usize> =
        set.validators().iter().enumerate().rev().map(|(place, v)| (&v.address.0[..], place)).collect();
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    let mut claims = Vec::new();
    let mut power = 0i64;
    for (index, entry) in commit.signatures.iter().enumerate() {
        if !scope.counts(entry) {
            continue;
        }
        let Some(&place) = places.get(entry.validator_address.as_slice()) else {
            continue;
        };
        let Some(validator) = set.get(place) else {
            continue;
        };
        if let Some(first) = seen.insert(place, index) {
            let double = CommitError::DoubleVote { address: validator.address, first, second: index };
            return Ok(PendingCommit { claims, verdict: Err(double) });
        }
        claims.push(claim(chain_id, commit, index, validator.pub_key));
        power += validator.voting_power;
        if scope == Scope::Enough && power > needed {
            break;
        }
    }
    Ok(PendingCommit { claims, verdict: enough(power, needed) })
}

/// [`check_full`] with its signatures checked at once.
pub fn verify_full(
    set: &ValidatorSet,
    chain_id: &str,
    block_id: &BlockId,
    height: i64,
    commit: &Commit,
) -> Result<(), CommitError> {
    check_full(set, chain_id, block_id, height, commit)?.verify()
}

/// [`check_light`] with its signatures checked at once.
pub fn verify_light(
    set: &ValidatorSet,
    chain_id: &str,
    block_id: &BlockId,
    height: i64,
    commit: &Commit,
    scope: Scope,
) -> Result<(), CommitError> {
    check_light(set, chain_id, block_id, height, commit, scope)?.verify()
}

/// [`check_light_trusting`] with its signatures checked at once.
pub fn verify_light_trusting(
    set: &ValidatorSet,
    chain_id: &str,
    commit: &Commit,
    level: TrustLevel,
    scope: Scope,
) -> Result<(), CommitError> {
    check_light_trusting(set, chain_id, commit, level, scope)?.verify()
}

/// Time of the block that follows a commit: the median of the commit's times, weighted by power.
///
/// # Consensus
/// Votes for no block count, absent ones do not. Sorted by time, the first vote counts at which half of the power of
/// these votes (rounded down), less the powers before, is at most the vote's own.
pub fn median_time(commit: &Commit, set: &ValidatorSet) -> Result<Time, CommitError> {
    let powers: BTreeMap<&[u8], i64> = set.validators().iter().map(|v| (&v.address.0[..], v.voting_power)).collect();
    let mut times = Vec::with_capacity(commit.signatures.len());
    let mut total = 0i64;
    for (index, entry) in commit.signatures.iter().enumerate() {
        if entry.is_absent() {
            continue;
        }
        let power = *powers.get(entry.validator_address.as_slice()).ok_or(CommitError::UnknownValidator(index))?;
        total = total.saturating_add(power);
        times.push((entry.timestamp, power));
    }
    times.sort_by_key(|(time, _)| time.unix_nanos_wrapping());
    let mut rest = total / 2;
    for (time, power) in times {
        if rest <= power {
            return Ok(time);
        }
        rest -= power;
    }
    Ok(Time::ZERO)
}
