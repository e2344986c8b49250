//! The gRPC services of a node.
//!
//! Layer L4. Reference counterpart: `go/{control,consensus,beacon,scheduler,registry,staking,keymanager,roothash,
//! governance,vault}/api/grpc.go` with what stands behind them in `go/consensus/cometbft` and `go/oasis-node/cmd/node`.
//!
//! It opens no socket (`base-grpc` serves the router), and decides nothing: answers are read from state and stores, the
//! node's own business goes through [`Control`].
//!
//! Main types: [`router`] over a [`Backend`], the traits [`Engine`] and [`Control`] behind it, [`status::Status`].
//!
//! Invariants: reads of disk happen on threads that may block, at most [`MAX_READS`] at once; a stream holds no more than
//! one block's items, gives every block once and in order however slow its reader is, and ends when the node stops; a
//! method that is not served is unknown, never answered with something made up.
//!
//! Tests: recorded chains are executed into stores, served on a socket, and asked for what was recorded.

mod backend;
mod beacon;
mod consensus;
mod control;
mod debug;
mod follow;
mod governance;
mod keymanager;
mod registry;
mod roothash;
mod scheduler;
mod serve;
mod staking;
pub mod status;
#[cfg(test)]
mod tests;
pub mod types;
mod vault;

pub use backend::{
    Applied, Backend, Blocks, BoxFuture, CONSENSUS, Control, Engine, Feed, Kind, MAX_READS, NodeKeys, NotImplemented,
    ReadError, RoundStates, Running, UNSUPPORTED, UNSUPPORTED_TEXT, unsupported,
};
pub use consensus::state_to_genesis;
pub use consensus::txs::transaction_proofs;
pub use control::{seed_router, status_router};
pub use serve::nil;

use std::sync::Arc;

use base_grpc::Router;

/// All services of a node that has the consensus layer.
pub fn router(backend: Arc<Backend>) -> Router {
    let mut router = control::router(Arc::clone(&backend.control));
    control::add_status(&mut router, &backend);
    if backend.control.is_debug() {
        debug::add(&mut router, &backend);
    }
    consensus::add(&mut router, &backend);
    beacon::add(&mut router, &backend);
    scheduler::add(&mut router, &backend);
    registry::add(&mut router, &backend);
    staking::add(&mut router, &backend);
    keymanager::add(&mut router, &backend);
    roothash::add(&mut router, &backend);
    governance::add(&mut router, &backend);
    vault::add(&mut router, &backend);
    router
}
