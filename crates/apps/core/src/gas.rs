//! Gas accounting.

use wire_consensus::transaction::{Costs, Gas};

use crate::{Error, Result};

/// Counts gas against a limit. Source: `go/consensus/cometbft/api/gas.go`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GasMeter {
    /// Counts nothing.
    #[default]
    Nop,
    /// Counts up to a limit.
    Limited {
        /// Most gas.
        limit: Gas,
        /// Gas used.
        used: Gas,
    },
    /// Counts up to a limit, and on the block's meter too.
    LimitedInBlock {
        /// Most gas.
        limit: Gas,
        /// Gas used.
        used: Gas,
    },
}

impl GasMeter {
    /// A meter with a limit.
    pub fn limited(limit: Gas) -> Self {
        Self::Limited { limit, used: 0 }
    }

    /// Gas that this meter has counted, without the block's.
    pub fn own_used(&self) -> Gas {
        match self {
            Self::Nop => 0,
            Self::Limited { used, .. } | Self::LimitedInBlock { used, .. } => *used,
        }
    }

    /// The limit; 0 where nothing is counted.
    pub fn wanted(&self) -> Gas {
        match self {
            Self::Nop => 0,
            Self::Limited { limit, .. } | Self::LimitedInBlock { limit, .. } => *limit,
        }
    }

    /// Charges an amount on this meter alone. A charge that does not fit is not counted.
    pub(crate) fn charge(&mut self, amount: Gas) -> Result<()> {
        match self {
            Self::Nop => Ok(()),
            Self::Limited { limit, used } | Self::LimitedInBlock { limit, used } => {
                let total = used.checked_add(amount).ok_or_else(|| Error::uncoded("gas overflow"))?;
                if total > *limit {
                    return Err(Error::Uncoded(format!("out of gas (limit: {limit} wanted: {total})")));
                }
                *used = total;
                Ok(())
            }
        }
    }
}

/// What an operation costs; absent if it is free. The product wraps, as the reference's does.
pub(crate) fn cost(multiplier: u64, op: &str, costs: &Costs) -> Option<Gas> {
    costs.get(op).map(|c| c.wrapping_mul(multiplier))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_does_not_fit_and_keeps_the_count() {
        let mut meter = GasMeter::limited(10);
        meter.charge(4).unwrap();
        assert!(meter.charge(7).is_err());
        assert!(meter.charge(u64::MAX).is_err());
        assert_eq!((meter.own_used(), meter.wanted()), (4, 10));
        meter.charge(6).unwrap();
        assert_eq!(meter.own_used(), 10);
    }

    #[test]
    fn missing_operations_are_free_and_products_wrap() {
        let costs = Costs::from([("a".to_owned(), 3)]);
        assert_eq!(cost(2, "a", &costs), Some(6));
        assert_eq!(cost(2, "b", &costs), None);
        assert_eq!(cost(u64::MAX, "a", &costs), Some(3u64.wrapping_mul(u64::MAX)));
    }
}
