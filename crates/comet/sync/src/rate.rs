//! How fast a peer is served.

use std::time::Duration;

use tokio::time::Instant;

/// Bounds on serving one peer.
#[derive(Debug, Clone, Copy)]
pub struct ServeLimits {
    /// Requests that may wait; as in the reference, more are dropped silently.
    pub queue: usize,
    /// Bytes per second over time.
    pub bytes_per_second: u64,
    /// Bytes that may be sent at once after a pause.
    pub burst: u64,
    /// Bytes that an answer counts for at least, to pay for the read.
    pub least: u64,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self { queue: 1000, bytes_per_second: 16 << 20, burst: 8 << 20, least: 2 << 10 }
    }
}

/// A bucket that fills at a steady rate.
pub(crate) struct Budget {
    limits: ServeLimits,
    /// Bytes owed beyond the burst are below zero.
    left: i64,
    at: Instant,
}

impl Budget {
    pub(crate) fn new(limits: ServeLimits, now: Instant) -> Self {
        Self { limits, left: i64::try_from(limits.burst).unwrap_or(i64::MAX), at: now }
    }

    fn fill(&mut self, now: Instant) {
        let micros = i64::try_from(now.saturating_duration_since(self.at).as_micros()).unwrap_or(i64::MAX);
        let rate = i64::try_from(self.limits.bytes_per_second).unwrap_or(i64::MAX);
        let gained = micros.saturating_mul(rate) / 1_000_000;
        if gained > 0 {
            self.left = self.left.saturating_add(gained).min(i64::try_from(self.limits.burst).unwrap_or(i64::MAX));
            self.at = now;
        }
    }

    pub(crate) fn spend(&mut self, bytes: u64, now: Instant) {
        self.fill(now);
        self.left = self.left.saturating_sub(i64::try_from(bytes.max(self.limits.least)).unwrap_or(i64::MAX));
    }

    /// How long until something may be sent.
    pub(crate) fn wait(&mut self, now: Instant) -> Duration {
        self.fill(now);
        let owed = u64::try_from(self.left.saturating_neg()).unwrap_or_default();
        Duration::from_micros(owed.saturating_mul(1_000_000) / self.limits.bytes_per_second.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept() {
        let limits = ServeLimits { queue: 10, bytes_per_second: 1000, burst: 500, least: 10 };
        let start = Instant::now();
        let mut budget = Budget::new(limits, start);
        let mut now = start;
        let mut sent = 0;
        while now < start + Duration::from_secs(10) {
            let wait = budget.wait(now);
            now += wait;
            budget.spend(100, now);
            sent += 100;
        }
        assert!((10_000..=10_700).contains(&sent), "{sent}");
        // Small answers count for the least.
        let mut budget = Budget::new(limits, start);
        for _ in 0..51 {
            budget.spend(1, start);
        }
        assert!(!budget.wait(start).is_zero());
    }
}
