//! Growing pauses between attempts.

use std::time::{Duration, Instant};

use crate::random;

/// How much longer each pause is than the one before.
const MULTIPLIER: f64 = 1.5;
/// A pause is spread evenly over its length ± this part of it.
const SPREAD: f64 = 0.5;

/// Pauses from `first` growing to `max`, each spread at random.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    current: Duration,
    next: Option<Instant>,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, current: first, next: None }
    }

    /// Whether the pause is over.
    pub(crate) fn ready(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// The next pause; the one after it is longer.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.current.mul_f64(1.0 - SPREAD + 2.0 * SPREAD * random::unit());
        self.current = self.current.mul_f64(MULTIPLIER).min(self.max);
        pause
    }

    /// An attempt failed: not before the next pause is over.
    pub(crate) fn extend(&mut self, now: Instant) {
        let pause = self.pause();
        self.next = now.checked_add(pause);
    }

    /// An attempt succeeded.
    pub(crate) fn reset(&mut self) {
        self.current = self.first;
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_maximum_and_starts_over() {
        let second = Duration::from_secs(1);
        let mut b = Backoff::new(second, 10 * second);
        let now = Instant::now();
        assert!(b.ready(now));
        for i in 0..20 {
            let middle = second.mul_f64(1.5f64.powi(i)).min(10 * second);
            let pause = b.pause();
            assert!(pause >= middle / 2 && pause <= middle.mul_f64(1.5), "{i}: {pause:?}");
        }
        b.extend(now);
        assert!(!b.ready(now + 4 * second) && b.ready(now + 15 * second));
        b.reset();
        assert!(b.ready(now) && b.pause() <= 2 * second);
    }
}
