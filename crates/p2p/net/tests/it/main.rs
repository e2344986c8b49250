//! Nodes that talk over loopback.

#![allow(clippy::unwrap_used)]

mod calls;
mod discovery;
mod gossip;
mod handshake;
mod light;
mod limits;
mod util;
