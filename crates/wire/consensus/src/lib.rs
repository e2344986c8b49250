//! Wire types of the consensus layer: transactions, descriptors, genesis document, events, parameters, error codes.
//!
//! Layer L1. Reference counterpart: `go/{consensus,staking,registry,scheduler,beacon,roothash,governance,keymanager,
//! vault,upgrade,genesis}/api`, `go/common/{entity,node,sgx}`.
//!
//! Each module holds one service's data as it goes over the wire or into the state, with the checks that need nothing
//! but the data (`validate_*`) and signatures (`verify_*`). What needs state is in `apps/*`.
//!
//! Invariants: encoding a decoded value gives the reference's canonical bytes for that value; no decoder panics.
//!
//! Tested by the recorded chains and transaction vectors (`xtask check-vectors`), and by property tests.

pub mod beacon;
pub mod churp;
pub mod consensus;
pub mod entity;
pub mod errors;
pub mod events;
pub mod genesis;
pub mod governance;
pub mod keymanager;
pub mod known;
pub mod meta;
pub mod node;
pub mod pretty;
pub mod registry;
pub mod roothash;
pub mod scheduler;
pub mod signed;
pub mod staking;
pub mod tee;
pub mod transaction;
pub mod upgrade;
pub mod vault;

pub use wire_cometbft::time::Time;

/// Why a value that decoded is not acceptable, without regard to state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Invalid {
    /// An error with the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Returns an [`Invalid`] with a formatted text.
#[macro_export]
macro_rules! invalid {
    ($($arg:tt)*) => { return Err($crate::Invalid::new(format!($($arg)*)).into()) };
}

#[cfg(test)]
mod tests;
