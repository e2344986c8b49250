//! Tests of the whole crate: recorded chains, a model of versions, crashes, checkpoints.

mod chains;
mod checkpoints;
mod faults;
mod model;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use base_kv::{KvStore, Memory};
use base_prims::Namespace;
use mkvs_tree::{KvRead, Retention, Root};

use crate::{Config, DbError, NodeDb};

/// The contents of a tree.
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn root_dir() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.."))
}

/// Trees that keep little in memory, so that most reads go to the store.
fn config() -> Config {
    Config { retention: Retention::Bytes(2_000), ..Config::new(Namespace::ZERO) }
}

fn open(kv: &Arc<Memory>) -> NodeDb {
    NodeDb::open(Arc::clone(kv) as Arc<dyn KvStore>, config()).unwrap()
}

fn contents(db: &NodeDb, root: &Root) -> Result<Model, DbError> {
    let mut out = Model::new();
    db.read(root)?.iterate(b"", &mut |k, v| {
        out.insert(k.to_vec(), v.to_vec());
        ControlFlow::Continue(())
    })?;
    Ok(out)
}

/// Checks every node of the database and that none is leaked.
fn assert_sound(db: &NodeDb, context: &str) {
    let report = db.check(&mut |_| ControlFlow::Continue(())).unwrap();
    assert!(report.is_ok(), "{context}: {report:?}");
}

/// A small generator for seeded scenarios.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}
