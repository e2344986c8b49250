//! HMAC_DRBG with SHA-512 (NIST SP 800-90A rev. 1, §10.1.2), without reseeding.
//!
//! Drives the elections. Reference: `go/common/crypto/drbg`.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of one HMAC-SHA-512 output.
const OUT_LEN: usize = 64;
/// Least bytes of entropy: half the output length.
const MIN_ENTROPY: usize = 32;
/// Most bytes that one request of the standard may ask for (2^19 bits).
const MAX_REQUEST: usize = 1 << 16;
/// Requests after which the standard demands a reseed, which does not exist here.
const RESEED_INTERVAL: u64 = 1 << 48;

/// Why a generator could not be made or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DrbgError {
    /// The entropy input is shorter than half the hash output.
    #[error("entropy input has {got} bytes, at least {MIN_ENTROPY} needed")]
    TooLittleEntropy {
        /// Bytes passed in.
        got: usize,
    },
    /// 2^48 requests were served.
    #[error("generator is used up after {RESEED_INTERVAL} requests")]
    UsedUp,
}

/// A seeded generator.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Drbg {
    key: [u8; OUT_LEN],
    value: [u8; OUT_LEN],
    requests: u64,
}

impl std::fmt::Debug for Drbg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drbg").field("requests", &self.requests).finish_non_exhaustive()
    }
}

fn keyed(key: &[u8; OUT_LEN]) -> Hmac<Sha512> {
    Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes keys of any length")
}

impl Drbg {
    /// Seeds a generator with entropy ‖ nonce ‖ personalization; at least 32 bytes of entropy.
    pub fn new(entropy: &[u8], nonce: &[u8], personalization: &[u8]) -> Result<Self, DrbgError> {
        if entropy.len() < MIN_ENTROPY {
            return Err(DrbgError::TooLittleEntropy { got: entropy.len() });
        }
        let mut drbg = Self { key: [0; OUT_LEN], value: [1; OUT_LEN], requests: 0 };
        for round in [0, 1] {
            drbg.update(round, &[entropy, nonce, personalization]);
        }
        Ok(drbg)
    }

    /// One half of the standard's update: K = HMAC(K, V ‖ round ‖ data), V = HMAC(K, V).
    fn update(&mut self, round: u8, data: &[&[u8]]) {
        let mut mac = keyed(&self.key);
        mac.update(&self.value);
        mac.update(&[round]);
        for d in data {
            mac.update(d);
        }
        self.key = mac.finalize().into_bytes().into();
        self.step(&keyed(&self.key));
    }

    /// V = HMAC(K, V) with a prepared key.
    fn step(&mut self, keyed: &Hmac<Sha512>) {
        let mut mac = keyed.clone();
        mac.update(&self.value);
        self.value = mac.finalize().into_bytes().into();
    }

    /// Fills `out`. Requests matter: two fills of 512 bytes differ from one of 1024. An empty `out` changes nothing;
    /// more than 65536 bytes are asked for in several requests.
    pub fn fill(&mut self, out: &mut [u8]) -> Result<(), DrbgError> {
        for request in out.chunks_mut(MAX_REQUEST) {
            if self.requests >= RESEED_INTERVAL {
                return Err(DrbgError::UsedUp);
            }
            let key = keyed(&self.key);
            for block in request.chunks_mut(OUT_LEN) {
                self.step(&key);
                block.copy_from_slice(&self.value[..block.len()]);
            }
            self.update(0, &[]);
            self.requests += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NIST's HMAC_DRBG example for SHA-512 without personalization, additional input or prediction resistance.
    #[test]
    fn nist_example() {
        let entropy: Vec<u8> = (0..=0x6e).collect();
        let nonce: Vec<u8> = (0x20..=0x2f).collect();
        let mut d = Drbg::new(&entropy, &nonce, b"").unwrap();
        assert_eq!(
            hex::encode(d.key),
            "a7e118a531def956dcff94bb3d801f775dc68f91696a434cc25e270e639044e1\
             a7240266d3aa202d46c1054b610247535007df12cfc8da45982a587fc81c47d5"
        );
        let mut out = [0; 128];
        d.fill(&mut out).unwrap();
        assert_eq!(
            hex::encode(out),
            "a463395aa79f237a22e5bd24462bd303e1be5103ba37299bed170e10713ee9cd\
             a62fabd5171231e1f6d82629bc521d41178d002d92918f397824e449004e9ae1\
             851f7bfa11cd616ef519a9e2a05951d9108ab38959ca7e9e80b18adfcc622389\
             495795cbfb7d39af6c8571ddce035ca6890c7a1af80861f0629ef1b6952ba206"
        );
        d.fill(&mut out).unwrap();
        assert_eq!(
            hex::encode(out),
            "fb5bd98d2cb25ec4955cd15204d68c497281ca0ce2201daca5e412ddfdebaf98\
             d724d21662e45aba9ae200d941c4cf76039808f29a8000346a6cc97d44417737\
             a89f90472ac6088b45c666c561686f191745228f11ed556a519da9aa1646d15b\
             901382d87726d17dc5139fdee1e8bdb0f328d4b105865bd1d815641e6b1dba23"
        );
    }

    #[test]
    fn limits() {
        assert_eq!(Drbg::new(&[0; 31], b"n", b"").unwrap_err(), DrbgError::TooLittleEntropy { got: 31 });
        let mut d = Drbg::new(&[0; 32], b"n", b"").unwrap();
        let before = d.value;
        d.fill(&mut []).unwrap();
        assert_eq!(d.value, before);
        d.requests = RESEED_INTERVAL;
        assert_eq!(d.fill(&mut [0]), Err(DrbgError::UsedUp));
    }

    #[test]
    fn long_fill_is_several_requests() {
        let mut a = Drbg::new(&[7; 32], b"", b"").unwrap();
        let mut b = a.clone();
        let (mut x, mut y) = (vec![0; MAX_REQUEST + 5], vec![0; MAX_REQUEST + 5]);
        a.fill(&mut x).unwrap();
        let (y1, y2) = y.split_at_mut(MAX_REQUEST);
        b.fill(y1).unwrap();
        b.fill(y2).unwrap();
        assert_eq!(x, y);
    }

    #[test]
    fn debug_hides_the_state() {
        let d = Drbg::new(&[7; 32], b"", b"").unwrap();
        assert_eq!(format!("{d:?}"), "Drbg { requests: 0, .. }");
    }
}
