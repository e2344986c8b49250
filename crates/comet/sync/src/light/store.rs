//! Trusted light blocks in a key-value store.

use std::ops::ControlFlow;
use std::sync::Arc;

use base_kv::{Batch, Durability, KvStore, Order};
use comet_chain::light::LightBlock;
use comet_chain::validators::ValidatorSet;
use parking_lot::Mutex;
use wire_cometbft::Message;
use wire_cometbft::block::LightBlock as WireLightBlock;

use super::{LightClientError, TrustOptions};

/// Key of the trust options that the blocks were reached from: height, 8 bytes big endian, then hash.
const ROOT_KEY: &[u8] = b"light/root";
/// Prefix of light blocks; then the height, 8 bytes big endian.
const BLOCK_PREFIX: &[u8] = b"light/block/";
/// Right after every key of a light block.
const BLOCK_END: &[u8] = b"light/block0";

fn key(height: i64) -> Vec<u8> {
    [BLOCK_PREFIX, &height.to_be_bytes()].concat()
}

fn height_of(key: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(key.strip_prefix(BLOCK_PREFIX)?.try_into().ok()?))
}

fn decode(height: i64, bytes: &[u8]) -> Result<LightBlock, LightClientError> {
    let corrupt = || LightClientError::Corrupt(height);
    let wire = WireLightBlock::decode(bytes).map_err(|_| corrupt())?;
    let signed = wire.signed_header.ok_or_else(corrupt)?;
    let (header, commit) = (signed.header.ok_or_else(corrupt)?, signed.commit.ok_or_else(corrupt)?);
    let validators = ValidatorSet::from_stored(wire.validator_set.as_ref()).map_err(|_| corrupt())?;
    if header.height == height { Ok(LightBlock { header, commit, validators }) } else { Err(corrupt()) }
}

/// The store.
pub(super) struct TrustedStore {
    kv: Arc<dyn KvStore>,
    /// Number of light blocks.
    count: Mutex<usize>,
}

impl TrustedStore {
    pub(super) fn open(kv: Arc<dyn KvStore>) -> Result<Self, LightClientError> {
        let mut count = 0;
        kv.scan(BLOCK_PREFIX, Some(BLOCK_END), Order::Forward, &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(Self { kv, count: Mutex::new(count) })
    }

    pub(super) fn root(&self) -> Result<Option<TrustOptions>, LightClientError> {
        let stored = self.kv.get(ROOT_KEY)?;
        Ok(stored.and_then(|bytes| {
            let (height, hash) = bytes.split_first_chunk::<8>()?;
            Some(TrustOptions { height: i64::from_be_bytes(*height), hash: hash.try_into().ok()? })
        }))
    }

    pub(super) fn set_root(&self, trust: &TrustOptions) -> Result<(), LightClientError> {
        let mut batch = Batch::new();
        batch.put(ROOT_KEY, &[&trust.height.to_be_bytes()[..], &trust.hash].concat());
        Ok(self.kv.write(&batch, Durability::Synced)?)
    }

    pub(super) fn get(&self, height: i64) -> Result<Option<LightBlock>, LightClientError> {
        self.kv.get(&key(height))?.map(|bytes| decode(height, &bytes)).transpose()
    }

    fn first(&self, from: &[u8], to: &[u8], order: Order) -> Result<Option<(i64, Vec<u8>)>, LightClientError> {
        let mut found = None;
        self.kv.scan(from, Some(to), order, &mut |key, value| {
            found = height_of(key).map(|height| (height, value.to_vec()));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    pub(super) fn newest(&self) -> Result<Option<LightBlock>, LightClientError> {
        let found = self.first(BLOCK_PREFIX, BLOCK_END, Order::Reverse)?;
        found.map(|(height, bytes)| decode(height, &bytes)).transpose()
    }

    pub(super) fn range(&self) -> Result<Option<(i64, i64)>, LightClientError> {
        let lowest = self.first(BLOCK_PREFIX, BLOCK_END, Order::Forward)?;
        let newest = self.first(BLOCK_PREFIX, BLOCK_END, Order::Reverse)?;
        Ok(lowest.zip(newest).map(|((lowest, _), (newest, _))| (lowest, newest)))
    }

    /// The newest one that is not above `height`.
    pub(super) fn at_or_below(&self, height: i64) -> Result<Option<LightBlock>, LightClientError> {
        let found = self.first(BLOCK_PREFIX, &key(height.saturating_add(1)), Order::Reverse)?;
        found.map(|(height, bytes)| decode(height, &bytes)).transpose()
    }

    pub(super) fn save(&self, block: &LightBlock) -> Result<(), LightClientError> {
        let key = key(block.height());
        let mut count = self.count.lock();
        let known = self.kv.get(&key)?.is_some();
        let mut batch = Batch::new();
        batch.put(&key, &block.to_wire().encode_to_vec());
        self.kv.write(&batch, Durability::Buffered)?;
        *count += usize::from(!known);
        Ok(())
    }

    /// Removes the lowest ones, if there are more than `above`, until `to` are left.
    pub(super) fn prune(&self, above: usize, to: usize) -> Result<(), LightClientError> {
        let mut count = self.count.lock();
        if *count > above {
            *count -= self.remove(*count - to.min(*count))?;
        }
        Ok(())
    }

    pub(super) fn clear(&self) -> Result<(), LightClientError> {
        let mut count = self.count.lock();
        let mut batch = Batch::new();
        batch.delete(ROOT_KEY);
        self.kv.write(&batch, Durability::Buffered)?;
        self.remove(usize::MAX)?;
        *count = 0;
        Ok(())
    }

    fn remove(&self, lowest: usize) -> Result<usize, LightClientError> {
        let mut batch = Batch::new();
        let mut removed = 0;
        self.kv.scan(BLOCK_PREFIX, Some(BLOCK_END), Order::Forward, &mut |key, _| {
            if removed >= lowest {
                return ControlFlow::Break(());
            }
            batch.delete(key);
            removed += 1;
            ControlFlow::Continue(())
        })?;
        self.kv.write(&batch, Durability::Buffered)?;
        Ok(removed)
    }
}
