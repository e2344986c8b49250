//! How a hosted runtime is. Source: `go/control/api` (`RuntimeStatus`).

use std::fmt;

use base_prims::Version;
use rt_host::api::ComponentStatus;
use wire_runtime::bundle::ComponentId;

/// A component that the node has, running or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentReport {
    /// The component.
    pub id: ComponentId,
    /// Its version, as its bundle says.
    pub version: Version,
    /// Whether it came in a bundle without on-chain component.
    pub detached: bool,
    /// Whether its manifest switches it off unless the configuration says otherwise.
    pub disabled: bool,
    /// How it is; `None` if it is not to run now, or could not be provisioned.
    pub status: Option<ComponentStatus>,
}

impl fmt::Display for ComponentReport {
    /// `COMPONENT VERSION: running`, and so on; `not running` without status.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.id, self.version)?;
        match &self.status {
            Some(status) => status.fmt(f),
            None => f.write_str("not running"),
        }
    }
}

/// How a hosted runtime is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostedStatus {
    /// Name of the node's provisioner.
    pub provisioner: String,
    /// The version that the chain wants.
    pub active_version: Option<Version>,
    /// The version that is made ready in advance.
    pub next_version: Option<Version>,
    /// Whether the active version runs.
    pub ready: bool,
    /// Components in order of kind, name and version.
    pub components: Vec<ComponentReport>,
    /// What keeps components from being hosted.
    pub problems: Vec<String>,
}
