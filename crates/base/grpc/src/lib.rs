//! gRPC with CBOR messages: a server whose methods are closures, and a client; over socket files, TLS, and for web pages.
//!
//! Layer: L3, leaf: the only crate that knows HTTP and tonic, besides tools. Reference counterpart: `go/common/grpc`,
//! `go/common/cbor/codec.go`; for TLS `go/common/grpc/credentials.go` and `go/common/crypto/tls`.
//!
//! It knows no service: names of methods and types of messages come from its users. It opens no file but the socket it is
//! given and, for servers of public authorities, the system's list of those.
//!
//! Main types: [`Router`], [`serve`] on a [`Listener`], [`Client`], [`RpcError`], [`Cbor`] and `()` as messages;
//! [`ServerTls`] and [`ClientTls`] (certificates of the network's template, pinned keys); [`Web`] and [`serve_web`].
//!
//! Invariants: a message over [`MAX_MESSAGE_BYTES`] is refused before it is held in memory; a handler that panics ends
//! its call, nothing else; a stream ends when its reader is gone; a handshake ends in ten seconds; a web page calls only
//! what is named and only from where it is named.
//!
//! Tests: calls, streams, errors and limits between the server and the client over real sockets; keys that are not
//! pinned; raw HTTP requests of pages; names of servers that libraries refuse.

mod authority;
mod client;
mod codec;
mod error;
mod message;
mod router;
mod server;
mod sni;
#[cfg(test)]
mod tests;
mod tls;
mod web;

pub use client::{Address, Client, ConnectError};
pub use codec::MAX_MESSAGE_BYTES;
pub use error::{Code, RpcError};
pub use message::{Argument, Cbor, Reply};
pub use router::{BoxStream, Caller, Router};
pub use server::{Listener, serve};
pub use tls::{ClientTls, ServerTls, TlsSetupError};
pub use web::{Web, serve_web};
