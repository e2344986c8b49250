//! Wire types between a node and the runtimes it hosts: host protocol messages and frames, transaction trees, bundles.
//!
//! Layer: L2, pure (it names the proof and quote types of `mkvs-tree` and `rt-tee`). Reference counterpart:
//! `go/runtime/{host/protocol,transaction,bundle,enclaverpc,rofl}`, and on the runtimes' side `runtime/src/{types,
//! enclave_rpc,transaction}`.
//!
//! What it does not do: no connection, no timeouts, no pairing of calls (`rt-host`); no archives (`rt-bundle`); no
//! Noise. Runtime blocks, commitments and messages are in `wire_consensus::roothash`.
//!
//! Main types: [`Message`], [`Body`], [`frame::FrameReader`], [`bundle::Manifest`], [`bundle::Component`],
//! [`enclave_rpc::Frame`], [`enclave_rpc::RakBinding`], [`transaction::Key`].
//!
//! Invariants:
//! * What either reference implementation sends decodes, and encodes again to the same bytes. Where the two differ for
//!   one value (absent, `null`, empty, an explicit zero), the types tell the forms apart; see [`Field`].
//! * A frame's memory is bounded: [`frame::MAX_FRAME_BYTES`], [`frame::MAX_FRAME_ITEMS`] and the limits of
//!   [`BoundedList`] hold before anything is allocated for the values.
//! * No input panics.
//!
//! Tested with recorded traffic of the reference (`vectors/rhp`), manifests of every generation recorded from the
//! reference (`vectors/bundles`), the label attestation that the reference publishes, and properties.

mod body;
pub mod bundle;
pub mod client;
pub mod enclave_rpc;
pub mod error;
mod field;
pub mod frame;
pub mod host;
pub mod rofl;
pub mod runtime;
#[cfg(test)]
mod tests;
pub mod transaction;

pub use body::{Body, Empty, Message, MessageType};
pub use error::Error;
pub use field::{BoundedList, Field};

use base_prims::Version;

/// Version of the Runtime Host Protocol; peers must agree on the major part.
pub const PROTOCOL_VERSION: Version = Version::new(5, 1, 0);

/// Name of the consensus backend in [`runtime::InfoRequest`].
pub const CONSENSUS_BACKEND: &str = "tendermint";
