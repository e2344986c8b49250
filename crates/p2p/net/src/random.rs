//! Randomness for choices that are not secret.

/// A number from the operating system; 0 should it fail, which only makes a choice less random.
pub(crate) fn number() -> u64 {
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_err() {
        return 0;
    }
    u64::from_le_bytes(bytes)
}

/// Brings the items into a random order.
pub(crate) fn shuffle<T>(items: &mut [T]) {
    for i in (1..items.len()).rev() {
        let j = (number() % (i as u64 + 1)) as usize;
        items.swap(i, j);
    }
}

/// A number in `0.0..1.0`.
pub(crate) fn unit() -> f64 {
    (number() >> 11) as f64 / (1u64 << 53) as f64
}
