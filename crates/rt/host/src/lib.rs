//! Hosting of runtimes: provisioners, the host's side of the Runtime Host Protocol, the life of components.
//!
//! Layer: L3. Reference counterpart: `go/runtime/host`, `go/runtime/bundle` (discovery), `go/runtime/registry`
//! (notifiers and request handlers), `go/runtime/log`, `go/common/{dynlib,sgx/aesm,sgx/pcs}`.
//!
//! What it does not do: no consensus, no transaction pool, no execution of rounds; what runtimes ask of those comes
//! through the traits of [`services`]. Bundles as files are in `rt_bundle`, messages in `wire_runtime`.
//!
//! Main types: [`RuntimeHost`], [`Provisioner`], [`HostHandler`], [`connection::Connection`], [`sandbox::Sandbox`].
//!
//! Invariants: whatever a runtime does, the memory it can take of the node is bounded by the constants of
//! [`connection`] and [`logs`], and no task waits for it without a time limit; a process ends with its host.
//!
//! Tested with recorded traffic, scripted and hostile peers on real sockets, and processes in real sandboxes.

pub mod aesm;
pub mod api;
pub mod attest;
pub mod backoff;
pub mod calls;
pub mod component;
pub mod composite;
pub mod connection;
pub mod discovery;
pub mod dynlib;
mod exec;
pub mod http;
pub mod ias;
pub mod limits;
pub mod logs;
pub mod mock;
pub mod notify;
pub mod pcs;
pub mod process;
pub mod sandbox;
pub mod seccomp;
pub mod services;
pub mod sgx;
pub mod tdx;
pub mod versions;
pub mod vsock;

pub use api::{
    BoxFuture, ComponentConfig, ComponentState, ComponentStatus, HostError, HostEvent, HostHandler, HostInfo,
    NoHandler, PortForward, Provisioner, RuntimeHost,
};
