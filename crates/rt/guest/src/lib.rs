//! The runtime side of the host protocol: the library with which a ParaTime is written.
//!
//! Layer: L3. Reference counterpart: `runtime` (the Rust crate `oasis-core-runtime`).
//!
//! What it does not do: it knows no transaction format, no accounts and no gas (those are the ParaTime's own), derives
//! no keys (`rt-keymanager`), and builds no enclaves; in Intel SGX it runs as the host's mock only.
//!
//! A ParaTime implements [`Transactions`] and starts with [`run`]:
//!
//! ```no_run
//! use rt_guest::{Config, Services, run};
//! # struct MyParaTime;
//! # impl rt_guest::Transactions for MyParaTime {
//! #     fn check(&self, _: &mut rt_guest::Context<'_>, _: &[base_codec::Bytes])
//! #         -> Result<Vec<wire_runtime::runtime::CheckTxResult>, rt_guest::Error> { Ok(vec![]) }
//! #     fn execute(&self, _: &mut rt_guest::Context<'_>, _: &[base_codec::Bytes],
//! #         _: &[wire_consensus::roothash::IncomingMessage]) -> Result<rt_guest::BatchResult, rt_guest::Error>
//! #         { Ok(Default::default()) }
//! #     fn schedule(&self, _: &mut rt_guest::Context<'_>, _: &mut Vec<base_codec::Bytes>,
//! #         _: &[wire_consensus::roothash::IncomingMessage]) -> Result<rt_guest::BatchResult, rt_guest::Error>
//! #         { Ok(Default::default()) }
//! # }
//! rt_guest::log::init(tracing::Level::INFO);
//! let init = |env: &rt_guest::Env| {
//!     tracing::info!(id = %env.runtime_id(), "hello");
//!     Ok(Services { transactions: Some(Box::new(MyParaTime)), ..Services::default() })
//! };
//! let Err(end) = run(Config::default(), Box::new(init));
//! tracing::info!(reason = %end, "bye");
//! ```
//!
//! Main types: [`Config`], [`Env`], [`Services`], [`Transactions`] with [`Context`] and [`BatchResult`], [`Host`],
//! [`verifier::Verifier`], [`consensus::ConsensusState`], [`identity::Identity`], [`rpc::Methods`], [`rpc::Client`].
//!
//! Invariants:
//! * Nothing of a state is used before its proof was checked against the root that the request (or, with a trust root,
//!   the verified consensus state) names.
//! * The thread that reads the connection never waits for the host, so that calls of the host are always answered.
//! * What the host sends neither panics nor takes unbounded memory: frames, waiting requests, threads, sessions, kept
//!   states and waiting calls are limited by named constants.
//! * A panic of the ParaTime ends the process, as one that cannot be trusted to have left its state whole.
//!
//! Tested with recorded traffic of the reference's runtimes (`vectors/rhp`): batches execute to the recorded roots,
//! write logs and signatures; with a host in the same process, well-behaved and hostile; and by hand under the
//! reference's node.

mod batch;
pub mod consensus;
mod error;
mod host;
pub mod identity;
pub mod log;
pub mod policy;
pub mod rpc;
mod runtime;
pub mod seal;
pub mod state;
pub mod tee;
pub mod testing;
#[cfg(test)]
mod tests;
mod txn;
pub mod verifier;

pub use error::Error;
pub use host::{CALL_TIMEOUT, Host, MAX_PENDING_CALLS};
pub use runtime::{
    BACKLOG, Component, Config, End, Env, HOST_VARIABLE, Init, MAX_WORKERS, QuotePolicyHandler, STATE_CACHE_BYTES,
    Services, StatusHandler, run, serve,
};
pub use txn::{BatchResult, Context, State, Tag, Transactions, TxResult};
pub use verifier::TrustRoot;

/// Ends the process if a thread unwinds through it: what it held may be half done.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            abort("a request handler panicked");
        }
    }
}

/// Ends the process at once; the host sees the connection close and starts anew.
fn abort(reason: &str) {
    tracing::error!(reason, "runtime aborts");
    #[cfg(not(test))]
    std::process::abort();
}
