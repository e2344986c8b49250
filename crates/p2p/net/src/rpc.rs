//! Remote calls: one request and one response per stream.
//!
//! Source: `go/p2p/rpc`. A request is CBOR `{method, body}`, a response `{ok}` or `{error: {module, code, message}}`; each
//! is a frame ([`frame`]). [`Client`] calls a protocol, [`Service`] answers one.

mod client;
pub mod frame;
mod message;
mod service;

pub use client::{CallError, CallOptions, Client, Feedback, PARALLEL_CALLS, RETRY_INTERVAL};
pub use message::{MODULE, Request, Response, RpcError};
pub use service::{Handler, Service};

#[cfg(test)]
mod tests;
