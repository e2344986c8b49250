//! Limits on bytes per second, as pure functions of time.

use std::time::Duration;

use tokio::time::Instant;

/// Least number of bytes that may pass at once.
pub const MIN_BURST: u64 = 64 << 10;

/// Lets bytes pass at a rate: they pass at once, and the wait comes afterwards.
#[derive(Debug)]
pub struct Limiter {
    /// Bytes per second; zero: no limit.
    rate: u64,
    /// Bytes that may pass at once; negative after more passed.
    available: f64,
    last: Instant,
}

impl Limiter {
    /// Limiter of so many bytes per second (zero: none), which lets a tenth of a second's bytes pass at once.
    pub fn new(rate: u64, now: Instant) -> Self {
        let mut limiter = Self { rate, available: 0.0, last: now };
        limiter.available = limiter.burst();
        limiter
    }

    fn burst(&self) -> f64 {
        (self.rate / 10).max(MIN_BURST) as f64
    }

    /// Bytes to write at most in one go, so that waits stay near a tenth of a second.
    pub fn batch(&self, most: usize) -> usize {
        let tenth = usize::try_from(self.rate / 10).unwrap_or(usize::MAX);
        if self.rate == 0 { most } else { tenth.clamp(1, most) }
    }

    /// Takes note of bytes that passed; how long to wait before more.
    pub fn charge(&mut self, bytes: usize, now: Instant) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        let passed = now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
        self.available = (self.available + passed * self.rate as f64).min(self.burst()) - bytes as f64;
        if self.available >= 0.0 {
            Duration::ZERO
        } else {
            Duration::try_from_secs_f64(-self.available / self.rate as f64).unwrap_or(Duration::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_holds_over_time() {
        let start = Instant::now();
        let mut limiter = Limiter::new(1_000_000, start);
        let mut now = start;
        let mut passed = 0;
        while now < start + Duration::from_secs(10) {
            passed += 10_000;
            now += limiter.charge(10_000, now);
        }
        let allowed = 10_000_000 + 100_000 + 10_000;
        assert!((10_000_000..=allowed).contains(&passed), "{passed}");
    }

    #[test]
    fn zero_is_no_limit() {
        let now = Instant::now();
        let mut limiter = Limiter::new(0, now);
        assert_eq!(limiter.charge(usize::MAX, now), Duration::ZERO);
        assert_eq!(limiter.batch(65_536), 65_536);
    }

    #[test]
    fn idle_time_saves_no_more_than_a_burst() {
        let start = Instant::now();
        let mut limiter = Limiter::new(1_000_000, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!(limiter.charge(100_000, later), Duration::ZERO);
        assert_eq!(limiter.charge(50_000, later), Duration::from_millis(50));
        assert_eq!(limiter.batch(1 << 20), 100_000);
    }
}
