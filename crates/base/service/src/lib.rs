//! What every long-running program of the project does first: logging, data directory, limits, signals.
//!
//! Layer: L3. Reference counterpart: `go/common/logging`, `go/oasis-node/cmd/common`, `go/common/sync/..`.
//!
//! It knows nothing of the network and starts no work of its own.
//!
//! Main types: [`logging::init`], [`data_dir::DataDir`] (checked, made and locked), [`limits`], [`signals::stop_token`],
//! [`outln`] and its kin, [`chain`].
//!
//! Invariants: a data directory is used by one process at a time; a log line is written whole.
//!
//! Tests: formatted lines, levels by module, refused directories.

mod causes;
pub mod console;
pub mod data_dir;
pub mod limits;
pub mod log_event;
pub mod logging;
pub mod signals;

pub use causes::chain;
