//! What the node's cryptography costs: `cargo bench -p base-crypto`.

use base_crypto::{
    ed25519::{BatchVerifier, PublicKeyCache, SecretKey, verify},
    hash::{sha256, sha512_256},
    vrf,
};
use divan::{Bencher, black_box, counter::ItemsCount};

fn main() {
    divan::main();
}

/// `n` signatures by different keys over 32-byte messages.
fn signatures(n: usize) -> Vec<([u8; 32], [u8; 32], [u8; 64])> {
    (0..n)
        .map(|i| {
            let message = sha256(&[&i.to_le_bytes()]);
            let key = SecretKey::from_seed(&message);
            (key.public(), message, key.sign(&message))
        })
        .collect()
}

#[divan::bench]
fn sign(b: Bencher<'_, '_>) {
    let key = SecretKey::from_seed(&[1; 32]);
    b.bench_local(|| key.sign(black_box(&[2; 32])));
}

/// 64 signatures one by one; the same one again and again would flatter branch prediction.
#[divan::bench]
fn verify_single(b: Bencher<'_, '_>) {
    let signatures = signatures(64);
    b.counter(ItemsCount::new(64usize)).bench_local(|| {
        assert!(signatures.iter().all(|(pk, msg, sig)| verify(pk, msg, sig)));
    });
}

/// The same with keys from a cache.
#[divan::bench]
fn verify_single_cached(b: Bencher<'_, '_>) {
    let signatures = signatures(64);
    let mut cache = PublicKeyCache::new(128);
    b.counter(ItemsCount::new(64usize)).bench_local(|| {
        assert!(signatures.iter().all(|(pk, msg, sig)| cache.verify(pk, msg, sig)));
    });
}

#[divan::bench(args = [1, 8, 64, 512])]
fn verify_batch(b: Bencher<'_, '_>, n: usize) {
    let signatures = signatures(n);
    b.counter(ItemsCount::new(n)).bench_local(|| {
        let mut batch = BatchVerifier::with_capacity(n);
        for (pk, msg, sig) in &signatures {
            batch.add(pk, msg, sig);
        }
        assert!(batch.verify().0);
    });
}

#[divan::bench(args = [8, 64, 512])]
fn verify_batch_cached(b: Bencher<'_, '_>, n: usize) {
    let signatures = signatures(n);
    let mut cache = PublicKeyCache::new(2 * n);
    b.counter(ItemsCount::new(n)).bench_local(|| {
        let mut batch = BatchVerifier::with_capacity(n);
        for (pk, msg, sig) in &signatures {
            batch.add_cached(&mut cache, pk, msg, sig);
        }
        assert!(batch.verify().0);
    });
}

#[divan::bench]
fn vrf_prove(b: Bencher<'_, '_>) {
    let key = SecretKey::from_seed(&[1; 32]);
    b.bench_local(|| vrf::prove(&key, black_box(&[7; 100])));
}

#[divan::bench]
fn vrf_verify(b: Bencher<'_, '_>) {
    let key = SecretKey::from_seed(&[1; 32]);
    let (pk, proof) = (key.public(), vrf::prove(&key, &[7; 100]));
    b.bench_local(|| assert!(vrf::verify(black_box(&pk), &[7; 100], &proof).is_some()));
}

#[divan::bench(args = [33, 100, 1000])]
fn sha512_256_of(b: Bencher<'_, '_>, len: usize) {
    let data = vec![7; len];
    b.bench_local(|| sha512_256(&[black_box(&data)]));
}

#[divan::bench(args = [33, 100, 1000])]
fn sha256_of(b: Bencher<'_, '_>, len: usize) {
    let data = vec![7; len];
    b.bench_local(|| sha256(&[black_box(&data)]));
}
