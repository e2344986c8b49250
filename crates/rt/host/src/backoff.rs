//! Growing pauses between attempts, as the reference's library makes them.

use std::time::Duration;

/// First pause.
const INITIAL: Duration = Duration::from_millis(500);
/// How much longer each pause is than the one before.
const FACTOR: f64 = 1.5;
/// By how much a pause may differ from its value, either way.
const SPREAD: f64 = 0.5;

/// Pauses that grow by half, each varied by up to half of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    next: Duration,
    max: Duration,
    /// What may be spent on pauses altogether; `None` is endless.
    left: Option<Duration>,
}

impl Backoff {
    /// Pauses of at most `max`, and of `total` altogether.
    pub fn new(max: Duration, total: Option<Duration>) -> Self {
        Self { next: INITIAL.min(max), max, left: total }
    }

    /// The next pause; `None` when it is time to give up. `random` is between 0 and 1.
    pub fn next(&mut self, random: f64) -> Option<Duration> {
        let pause = self.next.mul_f64(1.0 - SPREAD + 2.0 * SPREAD * random.clamp(0.0, 1.0));
        self.next = self.next.mul_f64(FACTOR).min(self.max);
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(pause)?;
        }
        Some(pause)
    }
}

/// A number between 0 and 1 from the system.
pub fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness pauses are the middle ones.
    if getrandom::fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_end() {
        let mut backoff = Backoff::new(Duration::from_secs(2), None);
        let pauses: Vec<u128> = (0..6).filter_map(|_| backoff.next(0.5)).map(|d| d.as_millis()).collect();
        assert_eq!(pauses, [500, 750, 1125, 1687, 2000, 2000]);
        let mut backoff = Backoff::new(Duration::from_secs(3600), Some(Duration::from_secs(24 * 3600)));
        let (mut total, mut count) = (Duration::ZERO, 0);
        while let Some(pause) = backoff.next(0.5) {
            total += pause;
            count += 1;
        }
        assert!(total <= Duration::from_secs(24 * 3600) && total > Duration::from_secs(22 * 3600), "{total:?}");
        assert!((40..60).contains(&count), "{count}");
        assert_eq!(Backoff::new(INITIAL, None).next(0.0), Some(INITIAL / 2));
        assert_eq!(Backoff::new(INITIAL, None).next(1.0), Some(INITIAL * 3 / 2));
        assert!((0.0..=1.0).contains(&random()));
    }
}
