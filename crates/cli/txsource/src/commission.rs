//! Amendments of a commission schedule, made so that they must be taken.

use std::time::Duration;

use base_prims::{Epoch, Quantity};
use wire_consensus::staking::{
    AmendCommissionSchedule, CommissionRateBoundStep, CommissionRateStep, CommissionSchedule, CommissionScheduleRules,
    METHOD_AMEND_COMMISSION_SCHEDULE, Parameters,
};

use crate::Job;
use crate::base::address;
use crate::node::{LATEST, MODULE, WorkloadError};
use crate::random::Random;

const PAUSE: Duration = Duration::from_secs(1);
/// Most intervals between two steps.
const MAX_INTERVALS: u64 = 10;
/// Highest commission rate.
const MAX_RATE: u64 = 100_000;
/// Lowest upper bound.
const LEAST_BOUND: u64 = 10;

pub(crate) async fn run(mut job: Job) -> Result<(), WorkloadError> {
    let key = job.random.key();
    let owner = address(&key);
    let params: Parameters = job.node().ask("Staking", "ConsensusParameters", LATEST).await?;
    let rules = params.commission_schedule_rules;
    loop {
        let now = job.node().epoch(LATEST).await?;
        let mut schedule = job.node().account(owner, LATEST).await?.escrow.commission_schedule;
        schedule.prune(now);
        match amendment(&mut job.random, &rules, &schedule, now) {
            Some(amendment) => {
                let body = AmendCommissionSchedule { amendment };
                job.base.funded(&key, METHOD_AMEND_COMMISSION_SCHEDULE, &body).await?;
            }
            None => tracing::debug!(module = MODULE, "no amendment possible, skipping"),
        }
        if !job.deadline.pause(PAUSE).await {
            return Ok(());
        }
    }
}

/// The first multiple of the interval from `epoch` on.
fn aligned(epoch: Epoch, interval: Epoch) -> Epoch {
    epoch.div_ceil(interval.max(1)).saturating_mul(interval.max(1))
}

/// A random number of intervals.
fn intervals(random: &mut Random, interval: Epoch) -> Epoch {
    random.below(MAX_INTERVALS).saturating_add(1).saturating_mul(interval.max(1))
}

/// A random amendment that is valid now and in the next epoch; `None` if the one drawn would have too many steps.
fn amendment(
    random: &mut Random,
    rules: &CommissionScheduleRules,
    existing: &CommissionSchedule,
    now: Epoch,
) -> Option<CommissionSchedule> {
    // The epoch may change before the transaction is in a block.
    let soon = now.saturating_add(2);
    let lead = if existing.bounds.is_empty() { 0 } else { rules.rate_bound_lead };
    let first_bound = aligned(soon.saturating_add(lead), rules.rate_change_interval);
    let mut bounds: Vec<CommissionRateBoundStep> =
        existing.bounds.iter().filter(|step| step.start < first_bound).cloned().collect();
    let kept = bounds.len();
    let room = usize::from(rules.max_bound_steps).checked_sub(kept).filter(|room| *room > 0)?;
    let mut start = first_bound;
    for _ in 0..=random.index(room) {
        let most = LEAST_BOUND + random.below(MAX_RATE - LEAST_BOUND + 1);
        let least = random.below(most + 1);
        let least = Quantity::from(least).max(rules.min_commission_rate.clone());
        let most = Quantity::from(most).max(least.clone());
        bounds.push(CommissionRateBoundStep { start, rate_min: least, rate_max: most });
        start = start.saturating_add(intervals(random, rules.rate_change_interval));
    }
    // Without a bound that holds already, rates begin where bounds begin.
    let begun = existing.bounds.first().is_some_and(|step| step.start <= now.saturating_add(1));
    let first_rate = match begun {
        true => aligned(soon, rules.rate_change_interval).min(first_bound),
        false => bounds.first()?.start,
    };
    let kept_rates = existing.rates.iter().filter(|step| step.start < first_rate).count();
    let room = usize::from(rules.max_rate_steps).checked_sub(kept_rates).filter(|room| *room > 0)?;
    let rates = rates(random, rules, &bounds, first_rate, room)?;
    Some(CommissionSchedule { rates, bounds: bounds.split_off(kept) })
}

/// Rates from `start` on of which each keeps to all bounds of its time; `None` if there would have to be more than `room`.
fn rates(
    random: &mut Random,
    rules: &CommissionScheduleRules,
    bounds: &[CommissionRateBoundStep],
    mut start: Epoch,
    room: usize,
) -> Option<Vec<CommissionRateStep>> {
    let wanted = random.index(room) + 1;
    let mut rates = Vec::new();
    loop {
        let planned = start.saturating_add(intervals(random, rules.rate_change_interval));
        let last = rates.len() + 1 >= wanted;
        // The last one has to do for all bounds to come.
        let end = if last { Epoch::MAX } else { planned };
        let (least, most, reached) = common(bounds, start, end)?;
        let span = most.sub(&least).ok()?.to_u64()?;
        let rate = least.add(&Quantity::from(random.below(span.saturating_add(1))));
        rates.push(CommissionRateStep { start, rate });
        if reached == Epoch::MAX {
            return (rates.len() <= room).then_some(rates);
        }
        if rates.len() >= room {
            return None;
        }
        start = reached;
    }
}

/// What all bounds from `start` up to `end` allow, or up to the first that excludes what those before it allow: lowest and
/// highest rate, and where that ends.
fn common(bounds: &[CommissionRateBoundStep], start: Epoch, end: Epoch) -> Option<(Quantity, Quantity, Epoch)> {
    let current = bounds.iter().rev().find(|step| step.start <= start)?;
    let (mut least, mut most) = (current.rate_min.clone(), current.rate_max.clone());
    for step in bounds.iter().filter(|step| step.start > start && step.start < end) {
        if step.rate_min > most || step.rate_max < least {
            return Some((least, most, step.start));
        }
        least = least.max(step.rate_min.clone());
        most = most.min(step.rate_max.clone());
    }
    Some((least, most, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amendments_are_valid_however_the_schedule_grew() {
        let rules = CommissionScheduleRules {
            rate_change_interval: 10,
            rate_bound_lead: 30,
            max_rate_steps: 12,
            max_bound_steps: 12,
            ..CommissionScheduleRules::default()
        };
        let (mut taken, mut skipped) = (0, 0);
        for seed in 0..50 {
            let mut random = Random::new(&format!("seed {seed}"), "commission");
            let mut schedule = CommissionSchedule::default();
            let mut now = random.below(50);
            for _ in 0..20 {
                schedule.prune(now);
                match amendment(&mut random, &rules, &schedule, now) {
                    Some(amendment) => {
                        // In this epoch or, if the transaction is late, in the next.
                        let mut late = schedule.clone();
                        late.amend(&amendment, &rules, now + 1).expect("valid in the next epoch");
                        schedule.amend(&amendment, &rules, now).expect("valid now");
                        taken += 1;
                    }
                    None => skipped += 1,
                }
                now += random.below(15);
            }
        }
        assert!(taken > 5 * skipped, "{taken} amendments, {skipped} skipped");
    }
}
