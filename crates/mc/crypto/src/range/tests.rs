//! Our verifier against the published crate's, alone and in batches.

use bulletproofs::{BulletproofGens, PedersenGens, RangeProof};
use curve25519_dalek_4::constants::RISTRETTO_BASEPOINT_POINT;
use curve25519_dalek_4::ristretto::CompressedRistretto;
use merlin::Transcript;
use rand_core::{CryptoRng, RngCore};
use wire_mobilecoin::{Point, Scalar32};

use super::*;
use crate::curve::{commit, reduce};

/// A generator of tests: numbered, not random.
struct Counter(u64);

impl RngCore for Counter {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }
    fn fill_bytes(&mut self, out: &mut [u8]) {
        out.chunks_mut(8).for_each(|chunk| {
            let bytes = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        });
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl CryptoRng for Counter {}

fn proof(count: usize, token_id: u64, seed: u64) -> (Vec<u8>, Vec<Point>) {
    let mut rng = Counter(seed);
    let values: Vec<u64> = (0..count).map(|i| if i == 0 { u64::MAX } else { rng.next_u64() }).collect();
    let blindings: Vec<Scalar32> = values.iter().map(|v| reduce([*v as u8; 32])).collect();
    let commitments = values.iter().zip(&blindings).map(|(v, b)| commit(*v, b, token_id)).collect();
    (prove(&values, &blindings, token_id, &mut rng).unwrap(), commitments)
}

fn published_verdict(proof: &[u8], commitments: &[Point], token_id: u64) -> bool {
    let pedersen = PedersenGens { B: value_generator(token_id), B_blinding: RISTRETTO_BASEPOINT_POINT };
    let m = commitments.len().next_power_of_two();
    let padded: Vec<CompressedRistretto> =
        (0..m).map(|i| CompressedRistretto(commitments[i.min(commitments.len() - 1)].0)).collect();
    let Ok(proof) = RangeProof::from_bytes(proof) else {
        return false;
    };
    let generators = BulletproofGens::new(64, m);
    proof.verify_multiple(&generators, &pedersen, &mut Transcript::new(LABEL), &padded, 64).is_ok()
}

#[test]
fn verdicts_are_those_of_the_published_crate() {
    for (count, token) in [(1, 0), (2, 1), (3, 8192), (5, 0)] {
        let (bytes, commitments) = proof(count, token, count as u64);
        let check = |proof: &[u8], commitments: &[Point], token_id: u64| {
            let ours = verify(&Statement { proof, commitments, token_id });
            assert_eq!(ours.is_ok(), published_verdict(proof, commitments, token_id), "{count} {ours:?}");
            ours
        };
        assert_eq!(check(&bytes, &commitments, token), Ok(()));
        assert_eq!(check(&bytes, &commitments, token + 1), Err(Error::Verification));
        for at in (0..bytes.len()).step_by(37) {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert!(check(&altered, &commitments, token).is_err(), "byte {at}");
        }
        assert_eq!(check(&bytes[..bytes.len() - 32], &commitments, token), Err(Error::Format));
        let mut others = commitments.clone();
        others[0] = others[0].0.map(|b| b ^ 1).into();
        assert!(check(&bytes, &others, token).is_err());
    }
}

#[test]
fn a_batch_holds_only_if_all_do() {
    let proofs: Vec<_> = [(1, 0, 1), (3, 1, 2), (4, 0, 3), (2, 7, 4)]
        .map(|(count, token, seed)| (proof(count, token, seed), token))
        .to_vec();
    let statements: Vec<Statement<'_>> = proofs
        .iter()
        .map(|((proof, commitments), token_id)| Statement { proof, commitments, token_id: *token_id })
        .collect();
    assert_eq!(verify_batch(&statements), Ok(()));
    assert_eq!(verify_batch(&[]), Ok(()));
    for wrong in 0..statements.len() {
        let mut changed = statements.clone();
        changed[wrong].token_id += 1;
        assert_eq!(verify_batch(&changed), Err(Error::Verification));
        let mut swapped = statements.clone();
        swapped[wrong].commitments = statements[(wrong + 1) % 4].commitments;
        assert_eq!(verify_batch(&swapped), Err(Error::Verification));
    }
}

#[test]
fn too_few_and_too_many_commitments_are_refused() {
    let (bytes, commitments) = proof(1, 0, 9);
    let many = vec![commitments[0]; MAX_PARTIES + 1];
    for commitments in [&[][..], &many] {
        assert_eq!(verify(&Statement { proof: &bytes, commitments, token_id: 0 }), Err(Error::Verification));
    }
    assert_eq!(prove(&[], &[], 0, &mut Counter(1)), Err(Error::Proving));
}
