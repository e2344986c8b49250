//! What off-chain components (ROFL) say to their host over local endpoints, and their configuration.
//!
//! All are CBOR: a request is the body of a local call ([`enclave_rpc::Kind::LOCAL_QUERY`](crate::enclave_rpc::Kind)).
//! Source: `go/runtime/rofl/api`.

use std::collections::BTreeMap;

use base_codec::{Bytes, Codec};
use base_prims::{Hash, PublicKey, RawSignature};

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// Endpoint that reaches the runtime's on-chain component.
pub const ENDPOINT_RONL: &str = "ronl";
/// Endpoint of attestation of labels.
pub const ENDPOINT_ATTESTATION: &str = "attestation";
/// Endpoint of bundles.
pub const ENDPOINT_BUNDLE_MANAGER: &str = "bundle-manager";
/// Endpoint of volumes.
pub const ENDPOINT_VOLUME_MANAGER: &str = "volume-manager";
/// Endpoint of logs.
pub const ENDPOINT_LOG_MANAGER: &str = "log-manager";

/// Query by which the host asks a component for its [`Config`].
pub const METHOD_GET_CONFIG: &str = "rofl.GetConfig";
/// Attests labels: [`AttestLabelsRequest`].
pub const METHOD_ATTEST_LABELS: &str = "AttestLabels";
/// Writes a part of a bundle: [`BundleWriteRequest`].
pub const METHOD_BUNDLE_WRITE: &str = "BundleWrite";
/// Adds a bundle: [`BundleAddRequest`].
pub const METHOD_BUNDLE_ADD: &str = "BundleAdd";
/// Removes bundles: [`LabelsRequest`].
pub const METHOD_BUNDLE_REMOVE: &str = "BundleRemove";
/// Lists bundles: [`LabelsRequest`].
pub const METHOD_BUNDLE_LIST: &str = "BundleList";
/// Adds a volume: [`LabelsRequest`].
pub const METHOD_VOLUME_ADD: &str = "VolumeAdd";
/// Removes volumes: [`LabelsRequest`].
pub const METHOD_VOLUME_REMOVE: &str = "VolumeRemove";
/// Lists volumes: [`LabelsRequest`].
pub const METHOD_VOLUME_LIST: &str = "VolumeList";
/// Reads a component's log: [`LogGetRequest`].
pub const METHOD_LOG_GET: &str = "LogGet";

/// Most labels of one [`AttestLabelsRequest`].
pub const MAX_ATTEST_LABELS: usize = 10;

/// A component's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Config {
    /// What it wants to be told of.
    pub notifications: Notifications,
}

/// What a component wants to be told of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Notifications {
    /// Runtime blocks.
    #[codec(omitempty)]
    pub blocks: bool,
    /// Events with these tags.
    #[codec(omitempty)]
    pub events: Option<Vec<Bytes>>,
}

/// Asks the node to attest labels of the component.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct AttestLabelsRequest {
    /// Their keys.
    pub labels: Option<Vec<String>>,
}

/// Attested labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct AttestLabelsResponse {
    /// CBOR of [`LabelAttestation`].
    pub attestation: Option<Bytes>,
    /// The node.
    pub node_id: PublicKey,
    /// Its signature over the attestation.
    pub signature: RawSignature,
}

/// What a node signs about labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct LabelAttestation {
    /// The labels.
    pub labels: Option<Labels>,
    /// The component's attestation key.
    pub rak: PublicKey,
}

/// Writes a part of a bundle to a temporary file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct BundleWriteRequest {
    /// Names the file in later calls.
    pub temporary_name: String,
    /// Starts anew instead of appending.
    #[codec(omitempty)]
    pub create: bool,
    /// The bytes.
    pub data: Option<Bytes>,
}

/// Adds a bundle that was written before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct BundleAddRequest {
    /// The file.
    pub temporary_name: String,
    /// The manifest's hash.
    pub manifest_hash: Hash,
    /// Labels to find it by.
    pub labels: Option<Labels>,
    /// Volumes to attach, by name.
    pub volumes: Option<Labels>,
}

/// Names what has all of these labels, or labels something new.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct LabelsRequest {
    /// The labels.
    pub labels: Option<Labels>,
}

/// Bundles found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct BundleListResponse {
    /// The bundles.
    #[codec(omitempty)]
    pub bundles: Vec<BundleInfo>,
}

/// A bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct BundleInfo {
    /// The manifest's hash.
    pub manifest_hash: Hash,
    /// Its components.
    pub components: Option<Vec<ComponentInfo>>,
    /// Its labels.
    #[codec(omitempty)]
    pub labels: Labels,
}

/// A component of a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct ComponentInfo {
    /// Its name.
    pub name: String,
}

/// A new volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct VolumeAddResponse {
    /// Its identifier.
    pub id: String,
}

/// Volumes found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct VolumeListResponse {
    /// The volumes.
    #[codec(omitempty)]
    pub volumes: Vec<VolumeInfo>,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct VolumeInfo {
    /// Its identifier.
    pub id: String,
    /// Its labels.
    #[codec(omitempty)]
    pub labels: Labels,
}

/// Asks for a component's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct LogGetRequest {
    /// Labels of the bundle; the first match counts.
    pub labels: Option<Labels>,
    /// The component.
    pub component_id: String,
    /// Only lines after this Unix time in seconds.
    #[codec(omitempty)]
    pub since: u64,
}

/// Lines of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct LogGetResponse {
    /// The lines.
    pub logs: Option<Vec<String>>,
}
