//! Metrics of a node: the table of all of them, static handles, the Prometheus text format over HTTP, profiles.
//!
//! Layer: L3. Reference counterpart: `go/oasis-node/cmd/common/metrics`, `go/oasis-node/cmd/common/pprof`, and the metrics
//! that packages of the reference register; the text format is that of the Prometheus client.
//!
//! It measures the process itself and nothing else: other crates set their metrics through the handles in [`table`].
//!
//! Main types: [`Family`] (one metric, with or without labels), [`Counter`], [`Gauge`], [`Summary`], [`Histogram`];
//! [`Service`] exposes or pushes everything and measures the process; [`profile::Server`] answers `/debug/pprof/`; [`http`]
//! is the server of both, and of others that answer few requests.
//!
//! Invariants: a metric is an atomic number, setting it never waits for a reader; a family holds at most [`MAX_SERIES`]
//! combinations of labels, further ones share a last one; a client of the HTTP servers can hold neither memory nor time.
//!
//! Tests: the table against the reference's list; the text format; both servers and the push over real sockets.

mod family;
pub mod http;
pub mod profile;
mod resource;
mod serve;
pub mod table;
mod text;

pub use family::{Counter, Family, Gauge, Histogram, MAX_SERIES, Metric, Summary};
pub use resource::Resources;
pub use serve::{Mode, Service, Settings, StartError};
pub use text::render;
