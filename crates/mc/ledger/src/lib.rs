//! The ledger of MobileCoin: blocks, outputs, key images and mints in LMDB, in the reference's tables.
//!
//! Layer: L3. Counterpart in the reference: `mc-ledger-db`, `mc-ledger-migration`.
//!
//! It validates what the reference's append validates, and no signatures; a whole ledger is verified by [`verify`]. It
//! knows no transactions, only what blocks hold.
//!
//! Main types: [`LedgerDb`], [`Error`], [`archive`].
//!
//! Invariants: a block is appended in one write transaction or not at all, and the commit is synced; tables and key
//! encodings are the reference's, so that either opens the other's directory.
//!
//! Tested by the reference's own database file and its verdicts on appended blocks (`vectors/mobilecoin`), by building
//! the recorded chain anew and by truncating it.

pub mod archive;
pub mod db;
pub mod error;
mod mints;
pub mod tables;
pub mod truncate;
pub mod verify;

pub use db::LedgerDb;
pub use error::Error;
