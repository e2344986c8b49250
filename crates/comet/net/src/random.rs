//! Random numbers for jitter and choices; nothing secret depends on them.

use std::time::Duration;

/// A random number; 0 if the system has no randomness, which only makes choices predictable.
pub(crate) fn random_u64() -> u64 {
    getrandom::u64().unwrap_or_default()
}

/// A number below `bound`; 0 if `bound` is 0.
pub(crate) fn below(bound: usize) -> usize {
    let bound = bound as u64;
    if bound == 0 { 0 } else { (random_u64() % bound) as usize }
}

/// A number in `[0, 1)`.
pub(crate) fn fraction() -> f64 {
    (random_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// A span below `max`.
pub(crate) fn jitter(max: Duration) -> Duration {
    max.mul_f64(fraction())
}

/// Shuffles the first `count` places of a list, drawing from the whole of it.
pub(crate) fn shuffle_front<T>(items: &mut [T], count: usize) {
    for at in 0..count.min(items.len()) {
        let other = at + below(items.len() - at);
        items.swap(at, other);
    }
}
