//! What makes the consensus engine durable: blocks, state, log, guard file, and the steps by which a block is applied.
//!
//! Layer: L3. Reference counterpart: `cometbft` (tag v0.37.18-oasis3) `store`, `state/{store,execution}.go`,
//! `consensus/{wal,replay}.go`, and `oasis-core:go/consensus/cometbft/crypto/priv_val.go`.
//!
//! It does not know peers and runs no rounds. It does not fetch anything and starts no threads; its calls block on the disk
//! and are made from threads that may.
//!
//! Main types: [`BlockStore`], [`ChainStore`], [`Wal`], [`Guard`], [`Executor`], and the function [`handshake()`].
//!
//! Invariants: a block is durable before the application commits it, and so are its results; whatever step a crash falls
//! between, [`handshake()`] brings stores and application to the same state; no signature leaves [`Guard`] before the
//! record of it is durable, its name in the folder included.
//!
//! Tests: a crash before every step of applying a block, with every loss that the stores may suffer, ends in the same
//! state; logs and block files cut at every or at random places are recovered; recorded logs and validator sets of real
//! chains come back as they were.

pub mod blocks;
pub mod chain;
pub mod error;
pub mod exec;
mod format;
pub mod genesis;
pub mod guard;
pub mod handshake;
pub mod log;
pub mod pools;
pub mod reset;
#[cfg(test)]
mod toy;

pub use blocks::{BlockStore, Durability};
pub use chain::{ChainStore, StoredChain};
pub use error::StoreError;
pub use exec::{ExecError, Executor, NewBlock};
pub use genesis::Genesis;
pub use guard::{ConsensusSigner, FileSigner, Guard, GuardFileError, MissingGuard, SignError};
pub use handshake::{HandshakeError, handshake};
pub use log::Wal;
pub use pools::{EvidencePool, NoEvidence, NoTxs, SharedApp, TxPool};
pub use reset::{ResetError, ResetOptions, reset};

use std::path::Path;
use std::sync::Arc;

/// Opens block store and state store in one folder, which is made if it is not there.
///
/// # Errors
/// If the folder is of another chain or of a newer format, or cannot be read.
pub fn open(dir: &Path, chain_id: &str) -> Result<(Arc<BlockStore>, Arc<ChainStore>), StoreError> {
    let kv: Arc<dyn base_kv::KvStore> =
        Arc::new(base_kv_disk::Disk::open(&dir.join("index"), base_kv_disk::Options::default())?);
    let chain = Arc::new(ChainStore::open(Arc::clone(&kv), chain_id)?);
    let blocks = Arc::new(BlockStore::open(&dir.join("blocks"), kv, chain_id)?);
    Ok((blocks, chain))
}
