//! Commission schedules: data. The rules for amending and pruning are in `apps-staking` and [`super::sanity`].

use base_codec::Codec;
use base_prims::{Epoch, Quantity};

/// Rules for commission schedules. Source: `go/staking/api/commission.go`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct CommissionScheduleRules {
    /// Steps start at multiples of this.
    #[codec(omitempty)]
    pub rate_change_interval: Epoch,
    /// How far ahead bounds must be announced.
    #[codec(omitempty)]
    pub rate_bound_lead: Epoch,
    /// Most rate steps.
    #[codec(omitempty)]
    pub max_rate_steps: u16,
    /// Most bound steps.
    #[codec(omitempty)]
    pub max_bound_steps: u16,
    /// Lowest rate, in units of 1/100000.
    pub min_commission_rate: Quantity,
}

/// A rate from an epoch on.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct CommissionRateStep {
    /// First epoch.
    #[codec(omitempty)]
    pub start: Epoch,
    /// Rate in units of 1/100000.
    #[codec(omitempty)]
    pub rate: Quantity,
}

/// Bounds of the rate from an epoch on.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct CommissionRateBoundStep {
    /// First epoch.
    #[codec(omitempty)]
    pub start: Epoch,
    /// Lowest rate.
    #[codec(omitempty)]
    pub rate_min: Quantity,
    /// Highest rate.
    #[codec(omitempty)]
    pub rate_max: Quantity,
}

/// Rates and bounds over time.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct CommissionSchedule {
    /// Rates.
    #[codec(omitempty)]
    pub rates: Vec<CommissionRateStep>,
    /// Bounds.
    #[codec(omitempty)]
    pub bounds: Vec<CommissionRateBoundStep>,
}

impl CommissionSchedule {
    /// Whether there are neither rates nor bounds.
    pub fn is_empty(&self) -> bool {
        self.rates.is_empty() && self.bounds.is_empty()
    }

    /// The rate in force at an epoch; absent before the first step.
    pub fn current_rate(&self, now: Epoch) -> Option<&Quantity> {
        self.rates
            .iter()
            .take_while(|s| s.start <= now)
            .last()
            .map(|s| &s.rate)
    }
}
