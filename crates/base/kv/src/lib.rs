//! An ordered key-value store as everything above sees it, with a store in memory and one that fails on purpose.
//!
//! Layer L3. Reference counterpart: what `go/storage/mkvs/db` and CometBFT's `db` package expect of their engines.
//!
//! What it does not do: no disk; the engine that keeps data on disk is in `base_kv_disk`, behind the same trait.
//!
//! Main types: [`KvStore`], [`Batch`], [`Memory`], [`Faulty`].
//!
//! Invariants: a batch is applied whole or not at all; batches become durable in the order they were written, so after
//! a crash a store holds a prefix of what was written to it, and at least everything up to the last synced batch.
//!
//! Tested against an ordered map, and [`Faulty`] against the rule above; every other implementation runs [`conformance`].

mod batch;
pub mod conformance;
mod faulty;
mod memory;

use std::ops::ControlFlow;

pub use batch::{Batch, Op};
pub use faulty::{Crash, Faulty};
pub use memory::Memory;

/// Order of a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Smallest key first.
    Forward,
    /// Greatest key first.
    Reverse,
}

/// What a write survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// A crash of the process; after a power loss it may be gone, together with everything written after it.
    Buffered,
    /// A power loss.
    Synced,
}

/// Size of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KvStats {
    /// Bytes that the data takes, free space inside files not counted.
    pub used_bytes: u64,
    /// Bytes that the store takes on disk.
    pub disk_bytes: u64,
}

/// A store failed.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// The engine failed.
    #[error("key-value engine failed to {action}")]
    Engine {
        /// What was being done.
        action: &'static str,
        /// The engine's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store was opened for reading only.
    #[error("key-value store is open for reading only")]
    ReadOnly,
    /// A key is empty or too long for the engine.
    #[error("key of {len} bytes does not fit the engine")]
    Key {
        /// Length of the key in bytes.
        len: usize,
    },
    /// The store has reached the size it was opened with.
    #[error("key-value store is full at {limit} bytes; raise its size limit")]
    Full {
        /// The limit in bytes.
        limit: u64,
    },
    /// The store is in use by somebody else, or busy with reads that must end first.
    #[error("key-value store is in use")]
    Busy,
    /// The simulated machine is down.
    #[error("simulated crash")]
    Crashed,
}

/// Gets key and value of each pair of a scan and says whether to go on.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// An ordered map from byte strings to byte strings that may be on disk. Keys are not empty and at most 500 bytes long.
pub trait KvStore: Send + Sync {
    /// Calls `visit` with the value of a key; says whether there is one.
    ///
    /// # Errors
    /// If the engine fails.
    fn get_with(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool, KvError>;

    /// The value of a key.
    ///
    /// # Errors
    /// If the engine fails.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let mut out = None;
        self.get_with(key, &mut |value| out = Some(value.to_vec()))?;
        Ok(out)
    }

    /// Calls `visit` with each pair from `from` on and before `to`, in order, until it says stop.
    ///
    /// The scan sees the store as it is at its start.
    ///
    /// # Errors
    /// If the engine fails.
    fn scan(&self, from: &[u8], to: Option<&[u8]>, order: Order, visit: Visit<'_>) -> Result<(), KvError>;

    /// Applies the whole batch or nothing. Later operations on a key win over earlier ones.
    ///
    /// # Errors
    /// If the engine fails; nothing of the batch is then visible.
    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), KvError>;

    /// Makes everything written so far survive a power loss.
    ///
    /// # Errors
    /// If the engine fails.
    fn sync(&self) -> Result<(), KvError>;

    /// Gives unused space back where the engine can; may take long.
    ///
    /// # Errors
    /// If the engine fails.
    fn compact(&self) -> Result<(), KvError>;

    /// Size of the store.
    ///
    /// # Errors
    /// If the engine fails.
    fn stats(&self) -> Result<KvStats, KvError>;
}
