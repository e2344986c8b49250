//! The registry: entities, nodes and runtimes.

pub mod state;

/// Name of the service.
pub const NAME: &str = "200_registry";
