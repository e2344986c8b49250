//! The key manager's worker, and access to key managers elsewhere.
//!
//! Layer: L4. Reference counterpart: `go/worker/keymanager`, `go/worker/common/committee/keymanager.go`.
//!
//! What it does not do: it hosts no runtime (it is given a [`rt_host::RuntimeHost`]), sees no secrets (those never leave
//! enclaves), decides nothing about committees and rotation (the consensus layer does), and registers nothing itself: it
//! fills two slots of the node's registration.
//!
//! Main types: [`Client`], which calls the key manager that a runtime uses; [`Worker`], which runs a key manager's node:
//! initialises the enclave, has secrets made, published and loaded, takes part in secret sharing, and lets peers call the
//! enclave; [`WorkerStatus`].
//!
//! Invariants:
//! * What an enclave signs is verified before it is published or registered.
//! * A peer reaches the enclave only by a method that the rules in `access.rs` allow it.
//! * At most one initialisation, one generation and one load of each kind of secret is under way; each is tried a bounded
//!   number of times per epoch or secret.
//! * Nothing a peer sends panics or waits without limit; calls of peers and calls to peers are bounded in number.
//!
//! Tests: a chain in memory that runs the real key manager service, networks and enclaves without sockets and processes;
//! tables of access rules.

mod access;
mod churp;
mod client;
mod protocol;
mod secrets;
mod serve;
mod shared;
mod snapshot;
mod status;
#[cfg(test)]
mod testing;
mod worker;

pub use client::{Client, MAX_CALLS, MAX_FEEDBACK_AGE, MAX_FEEDBACKS};
pub use serve::{ENCLAVE_CALL_TIME, MAX_SERVED_CALLS};
pub use status::{
    ChurpSchemeStatus, ChurpStatus, EphemeralSecretStats, MasterSecretStats, RuntimeAccessList, SecretsStatus,
    SecretsWorkerStatus, WorkerState, WorkerStatus,
};
pub use worker::{Setup, Worker};

/// Why a key manager's worker cannot be.
#[derive(Debug, thiserror::Error)]
pub enum KeyManagerError {
    /// A key of the configuration is none.
    #[error("keymanager.private_peer_pub_keys: {0:?} is not a base64-encoded public key")]
    PrivatePeer(String),
    /// The protocol cannot be served.
    #[error("key manager protocol cannot be served: {0}")]
    Serve(#[from] p2p_net::api::P2pError),
}
