//! The permutations and shuffles of Go's `math/rand.Rand`, fed by the deterministic generator.
//!
//! Elections depend on every draw, so the sampling methods, and the fact that numbers are taken from the generator in
//! requests of 1024 bytes (the first one at creation), are consensus rules. Reference: `go/common/crypto/mathrand` and
//! Go's frozen `math/rand` algorithms.

use crate::drbg::Drbg;

/// Numbers fetched from the generator at a time.
const BUFFER: usize = 128;
/// The largest bound of the 31-bit samplers.
const MAX_I31: u32 = i32::MAX as u32;

/// A source of Go-compatible random numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    drbg: Drbg,
    buffer: [u64; BUFFER],
    used: usize,
}

impl Rng {
    /// Takes over a generator and fetches the first 1024 bytes from it.
    #[must_use]
    pub fn new(drbg: Drbg) -> Self {
        let mut rng = Self { drbg, buffer: [0; BUFFER], used: 0 };
        rng.refill();
        rng
    }

    fn refill(&mut self) {
        let mut bytes = [0; BUFFER * 8];
        self.drbg.fill(&mut bytes).expect("2^48 requests of 1 KiB take decades");
        for (word, chunk) in self.buffer.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = chunk.iter().fold(0, |acc, b| acc << 8 | u64::from(*b));
        }
        self.used = 0;
    }

    /// The next 64 bits, big-endian from the generator.
    pub fn next_u64(&mut self) -> u64 {
        if self.used >= BUFFER {
            self.refill();
        }
        let v = self.buffer[self.used];
        self.used += 1;
        v
    }

    /// 63 uniform bits (`Int63`).
    pub fn int63(&mut self) -> u64 {
        self.next_u64() & (u64::MAX >> 1)
    }

    /// 32 uniform bits (`Uint32`).
    pub fn uint32(&mut self) -> u32 {
        (self.int63() >> 31) as u32
    }

    /// 31 uniform bits (`Int31`).
    pub fn int31(&mut self) -> u32 {
        (self.int63() >> 32) as u32
    }

    /// A number in `0..n` by rejection (`Int31n`). Bounds outside `1..=2^31-1` are moved to the nearest one inside.
    pub fn int31n(&mut self, n: u32) -> u32 {
        let n = n.clamp(1, MAX_I31);
        if n.is_power_of_two() {
            return self.int31() & (n - 1);
        }
        let max = MAX_I31 - ((1u32 << 31) % n);
        loop {
            let v = self.int31();
            if v <= max {
                return v % n;
            }
        }
    }

    /// A number in `0..n` by rejection (`Int63n`). Bounds outside `1..=2^63-1` are moved to the nearest one inside.
    pub fn int63n(&mut self, n: u64) -> u64 {
        let n = n.clamp(1, i64::MAX as u64);
        if n.is_power_of_two() {
            return self.int63() & (n - 1);
        }
        let max = i64::MAX as u64 - ((1u64 << 63) % n);
        loop {
            let v = self.int63();
            if v <= max {
                return v % n;
            }
        }
    }

    /// A number in `0..n` (`Intn`): with 31 bits where they suffice, else with 63. Zero counts as one.
    pub fn intn(&mut self, n: u64) -> u64 {
        match u32::try_from(n) {
            Ok(n) if n <= MAX_I31 => u64::from(self.int31n(n)),
            _ => self.int63n(n),
        }
    }

    /// Lemire's sampler, which only `Shuffle` uses; `n` is at least 1.
    fn lemire(&mut self, n: u32) -> u32 {
        let mut product = u64::from(self.uint32()) * u64::from(n);
        if (product as u32) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u32) < threshold {
                product = u64::from(self.uint32()) * u64::from(n);
            }
        }
        (product >> 32) as u32
    }

    /// A permutation of `0..n` (`Perm`). The caller bounds `n`: the result takes memory for `n` numbers.
    pub fn perm(&mut self, n: usize) -> Vec<usize> {
        let mut out = Vec::with_capacity(n);
        for i in 0..n {
            let j = self.intn(i as u64 + 1) as usize;
            // The element that stood at j moves to the end and i takes its place.
            out.push(i);
            out.swap(i, j);
        }
        out
    }

    /// Shuffles in place (`Shuffle`).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let bound = i as u64 + 1;
            let j = match u32::try_from(bound) {
                Ok(n) if n <= MAX_I31 => self.lemire(n) as usize,
                _ => self.int63n(bound) as usize,
            };
            items.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests;
