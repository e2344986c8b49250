//! Turns the configuration of runtimes into hosted runtimes.
//!
//! Layer: L4. Reference counterpart: `go/runtime/{registry,bundle,volume,config}`, `go/runtime/host/provisioner`, and what
//! `go/worker/common` does about versions and descriptors.
//!
//! What it does not do: it starts no process itself (`rt_host` does), knows neither network nor engine, and registers
//! nothing: it says what a registration should contain ([`Hosted::contribution`]).
//!
//! Main types: [`Hosting`] (everything that the node hosts, with bundles, volumes, provisioners), [`Hosted`] (one runtime:
//! its components in the versions that the chain wants), [`Parts`] (what the runtime may ask of the node).
//!
//! Invariants: a bundle that cannot be used, a component that cannot be started and a runtime that fails show in that
//! runtime's status and touch no other; options for test networks are refused without unsafe options; what a component may
//! ask of bundles, volumes and logs is bounded by its permissions and by its own labels.
//!
//! Tests: with mock runtimes over a chain in memory, and with processes in the sandbox.

mod bundles;
mod error;
mod feed;
mod hosted;
mod hosting;
pub mod ias;
mod management;
mod provision;
mod settings;
mod status;
#[cfg(test)]
mod testing;
mod volumes;

pub use bundles::MAX_BUNDLES;
pub use error::HostingError;
pub use hosted::{Hosted, Parts};
pub use hosting::{Hosting, LOCAL_STORAGE, Setup};
pub use management::{MAX_UPLOAD_BYTES, MAX_UPLOADS};
pub use status::{ComponentReport, HostedStatus};
pub use volumes::MAX_VOLUMES;
