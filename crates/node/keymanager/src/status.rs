//! What a node tells of its key manager. Source: `go/worker/keymanager/api/api.go`.

use std::collections::BTreeMap;

use base_codec::{Bytes, Codec, int_type};
use base_prims::{Epoch, Namespace, Version};
use wire_consensus::{churp, keymanager};

int_type! { int
    /// How a worker is.
    pub struct WorkerState: u8 {
        /// Serves.
        READY = 0 => "ready",
        /// On its way.
        STARTING = 1 => "starting",
        /// Ended.
        STOPPED = 2 => "stopped",
        /// Not part of this node.
        DISABLED = 3 => "disabled",
    }
}

/// The key manager's worker. CBOR: a map, as in a node's status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct WorkerStatus {
    /// How it is.
    pub status: WorkerState,
    /// The version that runs.
    pub active_version: Option<Version>,
    /// The key manager.
    pub runtime_id: Option<Namespace>,
    /// Runtimes that use it.
    pub client_runtimes: Vec<Namespace>,
    /// Peers that may call protected methods, by runtime.
    pub access_list: Vec<RuntimeAccessList>,
    /// Master and ephemeral secrets.
    pub secrets: Option<SecretsStatus>,
    /// Secret sharing.
    pub churp: ChurpStatus,
}

/// Peers of a runtime that may call protected methods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct RuntimeAccessList {
    /// The runtime.
    pub runtime_id: Namespace,
    /// Bytes of their ids.
    pub peers: Vec<Bytes>,
}

/// Master and ephemeral secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct SecretsStatus {
    /// Of the key manager, as the consensus layer has it.
    pub status: Option<keymanager::Status>,
    /// Of this node.
    pub worker: SecretsWorkerStatus,
}

/// What this node does about secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct SecretsWorkerStatus {
    /// How it is.
    pub status: WorkerState,
    /// When the node registered last with an answer of its enclave; seconds since 1970, null if never.
    pub last_registration: Option<i64>,
    /// The policy that the enclave has.
    pub policy: Option<keymanager::SignedPolicySgx>,
    /// Hash of that policy, as the enclave says.
    pub policy_checksum: Option<Bytes>,
    /// Master secrets.
    pub master_secrets: MasterSecretStats,
    /// Ephemeral secrets.
    pub ephemeral_secrets: EphemeralSecretStats,
    /// Peers that may always call protected methods: bytes of their ids.
    pub private_peers: Vec<Bytes>,
}

/// Master secrets since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct MasterSecretStats {
    /// How many the enclave took.
    pub num_loaded: u64,
    /// Generation of the last one.
    #[codec(rename = "last_loaded_generation")]
    pub last_loaded: u64,
    /// How many it made.
    pub num_generated: u64,
    /// Generation of the last one.
    #[codec(rename = "last_generated_generation")]
    pub last_generated: u64,
}

/// Ephemeral secrets since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct EphemeralSecretStats {
    /// How many the enclave took.
    pub num_loaded: u64,
    /// Epoch of the last one.
    #[codec(rename = "last_loaded_epoch")]
    pub last_loaded: Epoch,
    /// How many it made.
    pub num_generated: u64,
    /// Epoch of the last one.
    #[codec(rename = "last_generated_epoch")]
    pub last_generated: Epoch,
}

/// Secret sharing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct ChurpStatus {
    /// Schemes that the node takes part in.
    #[codec(omitempty)]
    pub schemes: BTreeMap<u8, ChurpSchemeStatus>,
}

/// A scheme.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct ChurpSchemeStatus {
    /// As the consensus layer has it.
    #[codec(omitempty)]
    pub status: Option<churp::Status>,
}
