//! Names of topics and protocols.
//!
//! Source: `go/p2p/protocol/protocol.go`. Only the major version is part of a name. `chain` is the chain context, 64
//! hexadecimal digits.

use base_prims::{Namespace, Version};

use crate::api::{ProtocolId, Topic};

/// Version of the runtime committee protocol, of which the topics are part.
pub const COMMITTEE_VERSION: Version = Version::new(5, 0, 0);

/// The discovery protocol, the same on all chains.
#[must_use]
pub fn bootstrap() -> ProtocolId {
    ProtocolId::new("/oasis/bootstrap/1.0.0")
}

/// A protocol of the chain.
#[must_use]
pub fn protocol(chain: &str, name: &str, version: Version) -> ProtocolId {
    ProtocolId::new(&format!("/oasis/{chain}/{name}/{}", major(version)))
}

/// A protocol of a runtime.
#[must_use]
pub fn runtime_protocol(chain: &str, name: &str, runtime: &Namespace, version: Version) -> ProtocolId {
    ProtocolId::new(&format!("/oasis/{chain}/{name}/{runtime}/{}", major(version)))
}

/// The topic of a runtime's transactions.
#[must_use]
pub fn tx_topic(chain: &str, runtime: &Namespace) -> Topic {
    topic(chain, "tx", runtime)
}

/// The topic of a runtime's committee messages.
#[must_use]
pub fn committee_topic(chain: &str, runtime: &Namespace) -> Topic {
    topic(chain, "committee", runtime)
}

fn topic(chain: &str, kind: &str, runtime: &Namespace) -> Topic {
    Topic::new(&format!("oasis/{chain}/{kind}/{runtime}/{}", major(COMMITTEE_VERSION)))
}

fn major(version: Version) -> Version {
    Version::new(version.major, 0, 0)
}

/// A protocol by name, version and how many peers to keep for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Name within the identifier.
    pub name: &'static str,
    /// Version.
    pub version: Version,
    /// Registered peers to keep connected.
    pub min_peers: usize,
    /// All peers to keep connected.
    pub total_peers: usize,
}

impl Spec {
    const fn new(name: &'static str, major: u16, min_peers: usize, total_peers: usize) -> Self {
        Self { name, version: Version::new(major, 0, 0), min_peers, total_peers }
    }

    /// Its identifier for a runtime.
    #[must_use]
    pub fn of_runtime(&self, chain: &str, runtime: &Namespace) -> ProtocolId {
        runtime_protocol(chain, self.name, runtime, self.version)
    }

    /// Its identifier on a chain.
    #[must_use]
    pub fn of_chain(&self, chain: &str) -> ProtocolId {
        protocol(chain, self.name, self.version)
    }
}

/// Light blocks; of the chain.
pub const LIGHT: Spec = Spec::new("light", 1, 5, 15);
/// Transactions by hash; all others are of a runtime (or key manager).
pub const TX_SYNC: Spec = Spec::new("txsync", 2, 20, 40);
/// Diffs and checkpoints of storage, the old protocol.
pub const STORAGE_SYNC: Spec = Spec::new("storagesync", 2, 5, 10);
/// Diffs of storage.
pub const DIFF_SYNC: Spec = Spec::new("diffsync", 1, 5, 10);
/// Checkpoints of storage.
pub const CHECKPOINT_SYNC: Spec = Spec::new("checkpointsync", 1, 5, 10);
/// Proofs of storage for everybody.
pub const STORAGE_PUB: Spec = Spec::new("storagepub", 2, 5, 10);
/// Calls into key manager enclaves.
pub const KEY_MANAGER: Spec = Spec::new("keymanager", 2, 5, 5);

/// Registered peers to keep connected per topic.
pub const MIN_TOPIC_PEERS: usize = 10;
/// All peers to keep connected per topic.
pub const TOTAL_TOPIC_PEERS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let chain = "a".repeat(64);
        let hex = "8000000000000000000000000000000000000000000000000000000000000000";
        let runtime: Namespace = hex.parse().unwrap();
        assert_eq!(LIGHT.of_chain(&chain).as_str(), format!("/oasis/{chain}/light/1.0.0"));
        assert_eq!(TX_SYNC.of_runtime(&chain, &runtime).as_str(), format!("/oasis/{chain}/txsync/{hex}/2.0.0"));
        assert_eq!(tx_topic(&chain, &runtime).as_str(), format!("oasis/{chain}/tx/{hex}/5.0.0"));
        assert_eq!(committee_topic(&chain, &runtime).as_str(), format!("oasis/{chain}/committee/{hex}/5.0.0"));
        let id = protocol(&chain, "x", Version::new(3, 4, 5));
        assert_eq!(id.as_str(), format!("/oasis/{chain}/x/3.0.0"));
    }
}
