//! Claims on stake.

use std::collections::BTreeMap;

use base_prims::Quantity;

use super::{EscrowAccount, StakeAccumulator, StakeThreshold, ThresholdKind};

/// Global thresholds.
pub type Thresholds = BTreeMap<ThresholdKind, Quantity>;

/// Why a claim cannot be added, removed or covered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The active stake does not cover all claims.
    #[error("staking: insufficient stake")]
    InsufficientStake,
    /// A threshold is neither global nor constant.
    #[error("staking: invalid claim threshold")]
    InvalidThreshold,
    /// There is no such claim.
    #[error("staking: claim does not exist: {0}")]
    NotFound(String),
}

/// Source: `StakeThreshold` in `go/staking/api/api.go`.
impl StakeThreshold {
    /// The network's threshold of a kind.
    pub fn global(kind: ThresholdKind) -> Self {
        Self { global: Some(kind), constant: None }
    }

    /// A constant amount.
    pub fn constant(amount: Quantity) -> Self {
        Self { global: None, constant: Some(amount) }
    }

    /// The networks' thresholds of several kinds.
    pub fn globals(kinds: impl IntoIterator<Item = ThresholdKind>) -> Vec<Self> {
        kinds.into_iter().map(Self::global).collect()
    }

    /// The amount; zero for a kind that the network does not define.
    ///
    /// # Errors
    /// [`ClaimError::InvalidThreshold`].
    pub fn value(&self, thresholds: &Thresholds) -> Result<Quantity, ClaimError> {
        match (&self.global, &self.constant) {
            (Some(kind), _) => Ok(thresholds.get(kind).cloned().unwrap_or_default()),
            (None, Some(amount)) => Ok(amount.clone()),
            (None, None) => Err(ClaimError::InvalidThreshold),
        }
    }

    /// Whether both stand for the same threshold.
    pub fn same(&self, other: &Self) -> bool {
        match (&self.global, &self.constant) {
            (Some(kind), _) => other.global == Some(*kind),
            (None, Some(amount)) => other.constant.as_ref() == Some(amount),
            (None, None) => false,
        }
    }
}

impl StakeAccumulator {
    /// Sum of all claims, leaving out one of them.
    ///
    /// # Errors
    /// [`ClaimError::InvalidThreshold`].
    pub fn total_claims(&self, thresholds: &Thresholds, exclude: Option<&str>) -> Result<Quantity, ClaimError> {
        let mut total = Quantity::ZERO;
        let counted = self.claims.iter().filter(|(name, _)| Some(name.as_str()) != exclude);
        for threshold in counted.flat_map(|(_, list)| list.iter().flatten()) {
            total.add_assign(&threshold.value(thresholds)?);
        }
        Ok(total)
    }

    /// Sets a claim without any check. A claim without thresholds is kept as null.
    pub fn add_claim_unchecked(&mut self, claim: &str, thresholds: &[StakeThreshold]) {
        let list = (!thresholds.is_empty()).then(|| thresholds.to_vec());
        self.claims.insert(claim.to_owned(), list);
    }
}

/// Source: `EscrowAccount` in `go/staking/api/api.go`.
impl EscrowAccount {
    /// Checks that the active stake covers all claims.
    ///
    /// # Errors
    /// [`ClaimError::InsufficientStake`] if not.
    pub fn check_stake_claims(&self, thresholds: &Thresholds) -> Result<(), ClaimError> {
        if self.active.balance < self.stake_accumulator.total_claims(thresholds, None)? {
            return Err(ClaimError::InsufficientStake);
        }
        Ok(())
    }

    /// Sets a claim. On error nothing changes.
    ///
    /// # Errors
    /// [`ClaimError::InsufficientStake`] if the active stake does not cover all claims then.
    pub fn add_stake_claim(
        &mut self,
        known: &Thresholds,
        claim: &str,
        thresholds: &[StakeThreshold],
    ) -> Result<(), ClaimError> {
        let mut total = self.stake_accumulator.total_claims(known, Some(claim))?;
        for threshold in thresholds {
            total.add_assign(&threshold.value(known)?);
        }
        if self.active.balance < total {
            return Err(ClaimError::InsufficientStake);
        }
        self.stake_accumulator.add_claim_unchecked(claim, thresholds);
        Ok(())
    }

    /// Removes a claim.
    ///
    /// # Errors
    /// [`ClaimError::NotFound`].
    pub fn remove_stake_claim(&mut self, claim: &str) -> Result<(), ClaimError> {
        match self.stake_accumulator.claims.remove(claim) {
            Some(_) => Ok(()),
            None => Err(ClaimError::NotFound(claim.to_owned())),
        }
    }
}
