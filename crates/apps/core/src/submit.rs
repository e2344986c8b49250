//! Submitting transactions: the border between those who make them and the engine.

use std::{future::Future, pin::Pin};

use comet_chain::app::TxResult;

/// A boxed future, so that the trait can be an object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a transaction ended up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    /// Height of the block.
    pub height: i64,
    /// Place in the block.
    pub index: u32,
    /// Result, with events.
    pub result: TxResult,
}

/// Why a transaction was not included.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The check for the pool refused it.
    #[error("transaction refused: {message} ({module}, {code})")]
    Refused {
        /// Codespace.
        module: String,
        /// Code.
        code: u32,
        /// Text.
        message: String,
    },
    /// It was in the pool, and became invalid.
    #[error("transaction became invalid: {message} ({module}, {code})")]
    Invalidated {
        /// Codespace.
        module: String,
        /// Code.
        code: u32,
        /// Text.
        message: String,
    },
    /// The pool is full, or the node is shutting down: try later.
    #[error("transaction not taken: {0}")]
    Unavailable(String),
}

/// Takes transactions for inclusion in a block.
pub trait TransactionSubmitter: Send + Sync {
    /// Checks, gossips, and waits for inclusion.
    fn submit(&self, tx: Vec<u8>) -> BoxFuture<'_, Result<Included, SubmitError>>;
    /// Checks and gossips.
    fn submit_no_wait(&self, tx: Vec<u8>) -> BoxFuture<'_, Result<(), SubmitError>>;
}
