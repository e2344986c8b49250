//! Random traffic and mutated transactions through all services at once.

use apps_core::LocalConfig;
use base_crypto::{
    context::{Context, prepare},
    ed25519::SecretKey,
};
use base_prims::{PublicKey, RawSignature};
use dev_testkit::{chains::Chain, paths::vectors_dir};
use wire_consensus::{genesis::Document, signed::Signature};

mod growth;
mod mutations;
pub(crate) mod traffic;
mod workload;
pub(crate) mod world;

/// SplitMix64: the same numbers for the same seed.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.draw() % bound as u64).unwrap()
    }

    pub(crate) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.draw().to_le_bytes()[0]).collect()
    }
}

/// A key of this test, by number.
pub(crate) fn secret(n: u8) -> SecretKey {
    let mut seed = [0xa7; 32];
    seed[0] = n;
    SecretKey::from_seed(&seed)
}

pub(crate) fn public(key: &SecretKey) -> PublicKey {
    PublicKey::new(key.public())
}

/// A signature that does not depend on the network.
pub(crate) fn signature(context: &Context, key: &SecretKey, blob: &[u8]) -> Signature {
    let prepared = prepare(context, None, None, blob).unwrap();
    Signature { public_key: public(key), signature: RawSignature::new(key.sign(&prepared)) }
}

/// Settings of a node in a test network.
pub(crate) fn local() -> LocalConfig {
    LocalConfig {
        allow_debug: true,
        allow_test_keys: true,
        tee: rt_tee::VerifyOptions::mock(),
        ..LocalConfig::default()
    }
}

pub(crate) fn chain(name: &str) -> (Chain, Document) {
    chain_at("chains", name)
}

/// A recorded chain of a folder.
pub(crate) fn chain_at(folder: &str, name: &str) -> (Chain, Document) {
    let chain = Chain::open(&vectors_dir().join(folder).join(name));
    let text = String::from_utf8(chain.genesis().unwrap()).unwrap();
    let doc = Document::from_json(&text).unwrap();
    (chain, doc)
}
