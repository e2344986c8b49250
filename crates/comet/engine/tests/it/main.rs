//! Networks of engines over loopback connections.

#![allow(clippy::unwrap_used)]

mod app;
mod hostile;
mod network;
mod node;
mod recovery;
