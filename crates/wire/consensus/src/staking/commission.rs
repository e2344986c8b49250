//! Commission schedules and their rules. Source: `go/staking/api/commission.go`.

use base_codec::Codec;
use base_prims::{Epoch, Quantity};

use super::COMMISSION_RATE_DENOMINATOR;
use crate::{Invalid, invalid};

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
        self.rates.iter().take_while(|s| s.start <= now).last().map(|s| &s.rate)
    }

    fn validate_complexity(&self, rules: &CommissionScheduleRules) -> Result<(), Invalid> {
        if self.rates.len() > usize::from(rules.max_rate_steps) {
            invalid!("rate schedule {} steps exceeds maximum {}", self.rates.len(), rules.max_rate_steps);
        }
        if self.bounds.len() > usize::from(rules.max_bound_steps) {
            invalid!("bound schedule {} steps exceeds maximum {}", self.bounds.len(), rules.max_bound_steps);
        }
        Ok(())
    }

    fn validate_nondegenerate(&self, rules: &CommissionScheduleRules) -> Result<(), Invalid> {
        let lowest = &rules.min_commission_rate;
        let unity = Quantity::from(COMMISSION_RATE_DENOMINATOR);
        check_starts("rate", self.rates.iter().map(|s| s.start), rules)?;
        for (i, step) in self.rates.iter().enumerate() {
            if step.rate > unity {
                invalid!("rate step {i} rate {}/{unity} over unity", step.rate);
            }
            if step.rate < *lowest {
                invalid!("rate step {i} rate '{}' less than minimum allowed commission rate: '{lowest}'", step.rate);
            }
        }
        check_starts("bound", self.bounds.iter().map(|s| s.start), rules)?;
        for (i, step) in self.bounds.iter().enumerate() {
            let (min, max) = (&step.rate_min, &step.rate_max);
            if *min > unity || *max > unity {
                invalid!("bound step {i} rates {min}/{unity} to {max}/{unity} over unity");
            }
            if max < min {
                invalid!("bound step {i} maximum rate {max}/{unity} less than minimum rate {min}/{unity}");
            }
            if min < lowest {
                invalid!("bound step {i} minimum rate '{min}' less than minimum allowed commission rate: '{lowest}'");
            }
        }
        Ok(())
    }

    /// Amendments must not touch the past, nor bounds that others already rely on.
    fn validate_acceptable(&self, rules: &CommissionScheduleRules, now: Epoch, initial: bool) -> Result<(), Invalid> {
        if let Some(first) = self.rates.first()
            && first.start <= now
        {
            invalid!("rate schedule with start epoch {} must not alter rate on or before {now}", first.start);
        }
        if let Some(first) = self.bounds.first() {
            let lead = if initial { 0 } else { rules.rate_bound_lead };
            let earliest = now.wrapping_add(1).wrapping_add(lead);
            if first.start < earliest {
                invalid!("bound schedule with start epoch {} must not alter before {earliest}", first.start);
            }
        }
        Ok(())
    }

    /// Drops steps that are over.
    pub fn prune(&mut self, now: Epoch) {
        fn over(starts: impl Iterator<Item = Epoch>, now: Epoch) -> usize {
            starts.skip(1).take_while(|start| *start <= now).count()
        }
        self.rates.drain(..over(self.rates.iter().map(|s| s.start), now));
        self.bounds.drain(..over(self.bounds.iter().map(|s| s.start), now));
    }

    /// Replaces all steps from the amendment's first start on.
    fn replace_from(&mut self, amendment: &Self) {
        if let Some(first) = amendment.rates.first() {
            let keep = self.rates.iter().take_while(|s| s.start < first.start).count();
            self.rates.truncate(keep);
            self.rates.extend_from_slice(&amendment.rates);
        }
        if let Some(first) = amendment.bounds.first() {
            let keep = self.bounds.iter().take_while(|s| s.start < first.start).count();
            self.bounds.truncate(keep);
            self.bounds.extend_from_slice(&amendment.bounds);
        }
    }

    /// Checks that from now on every rate is within the bounds of its time.
    fn validate_within_bounds(&self, now: Epoch) -> Result<(), Invalid> {
        let (mut rate, mut bound) = match (self.rates.first(), self.bounds.first()) {
            (None, None) => return Ok(()),
            (None, Some(_)) => invalid!("rates missing"),
            (Some(_), None) => invalid!("bounds missing"),
            (Some(rate), Some(bound)) => (rate, bound),
        };
        // What has begun may have begun at different times, and older steps are gone.
        if (rate.start > now || bound.start > now) && rate.start != bound.start {
            invalid!(
                "rate schedule start epoch {} and bound schedule start epoch {} don't match",
                rate.start,
                bound.start
            );
        }
        let (mut rates, mut bounds) = (self.rates.iter().skip(1).peekable(), self.bounds.iter().skip(1).peekable());
        loop {
            if rate.rate < bound.rate_min || rate.rate > bound.rate_max {
                invalid!(
                    "rate {} of the step from epoch {} is not between {} and {} of the bound from epoch {}",
                    rate.rate,
                    rate.start,
                    bound.rate_min,
                    bound.rate_max,
                    bound.start
                );
            }
            let Some(next) =
                [rates.peek().map(|s| s.start), bounds.peek().map(|s| s.start)].into_iter().flatten().min()
            else {
                return Ok(());
            };
            if let Some(step) = rates.next_if(|s| s.start == next) {
                rate = step;
            }
            if let Some(step) = bounds.next_if(|s| s.start == next) {
                bound = step;
            }
        }
    }

    /// Drops steps that are over and checks the rest.
    ///
    /// # Errors
    /// Names what is wrong; the schedule may be pruned then.
    pub fn prune_and_validate(&mut self, rules: &CommissionScheduleRules, now: Epoch) -> Result<(), Invalid> {
        self.validate_complexity(rules)?;
        self.validate_nondegenerate(rules)?;
        self.prune(now);
        self.validate_within_bounds(now).map_err(|e| Invalid(format!("after pruning: {e}")))
    }

    /// Applies an amendment to a valid schedule.
    ///
    /// # Errors
    /// Names what is wrong; the schedule may be changed then.
    pub fn amend(&mut self, amendment: &Self, rules: &CommissionScheduleRules, now: Epoch) -> Result<(), Invalid> {
        amendment
            .validate_complexity(rules)
            .and_then(|()| amendment.validate_nondegenerate(rules))
            .and_then(|()| amendment.validate_acceptable(rules, now, self.bounds.is_empty()))
            .map_err(|e| Invalid(format!("amendment: {e}")))?;
        self.prune(now);
        self.replace_from(amendment);
        self.validate_complexity(rules)
            .and_then(|()| self.validate_within_bounds(now))
            .map_err(|e| Invalid(format!("after pruning and amending: {e}")))
    }
}

/// Checks that steps start at multiples of the interval, each after the one before.
fn check_starts(
    what: &str,
    starts: impl Iterator<Item = Epoch>,
    rules: &CommissionScheduleRules,
) -> Result<(), Invalid> {
    let mut previous = None;
    for (i, start) in starts.enumerate() {
        if start.checked_rem(rules.rate_change_interval) != Some(0) {
            let interval = rules.rate_change_interval;
            invalid!("{what} step {i} start epoch {start} not aligned with commission rate change interval {interval}");
        }
        if let Some(previous) = previous
            && start <= previous
        {
            invalid!("{what} step {i} start epoch {start} not after previous step start epoch {previous}");
        }
        previous = Some(start);
    }
    Ok(())
}
