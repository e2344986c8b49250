//! Waiting longer after each failure, by chance, as all workers do.

use std::time::Duration;

/// First wait.
const FIRST: Duration = Duration::from_millis(500);
/// Longest wait unless said otherwise.
pub const LONGEST: Duration = Duration::from_secs(60);

/// A seed by which nodes differ, from a key.
pub fn seed_of(key: &[u8; 32]) -> u64 {
    key.iter().fold(0, |seed: u64, byte| seed.rotate_left(8) ^ u64::from(*byte))
}

/// Numbers by chance, the same for the same seed.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Numbers that follow from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, of 31 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

/// Waits that grow by half each time and vary by half either way. Source: defaults of the reference's back-off library.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
    chance: Chance,
}

impl Backoff {
    /// Waits up to `longest`; `seed` makes nodes differ.
    pub fn new(longest: Duration, seed: u64) -> Self {
        Self { next: FIRST, longest, chance: Chance::new(seed) }
    }

    /// The next wait.
    pub fn wait(&mut self) -> Duration {
        let permille = 500 + u32::try_from(self.chance.draw() % 1000).unwrap_or(0);
        let wait = self.next * permille / 1000;
        self.next = (self.next * 3 / 2).min(self.longest);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_stays_within_bounds() {
        let mut backoff = Backoff::new(Duration::from_secs(10), 7);
        let waits: Vec<_> = (0..100).map(|_| backoff.wait()).collect();
        assert!(waits[0] >= FIRST / 2 && waits[0] < FIRST * 3 / 2);
        assert!(waits.iter().all(|wait| *wait < Duration::from_secs(15)));
        assert!(waits[50..].iter().all(|wait| *wait >= Duration::from_secs(5)));
        assert!(waits[50..].windows(2).any(|pair| pair[0] != pair[1]));
    }
}
