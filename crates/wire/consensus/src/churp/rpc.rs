//! Calls into enclaves that take part in an instance. Source: `go/keymanager/churp/rpc.go`.

use base_codec::Codec;
use base_prims::{Epoch, PublicKey};

use super::Identity;

/// Makes an application.
pub const METHOD_APPLY: &str = "churp/apply";
/// Fetches shares for share reduction.
pub const METHOD_SHARE_REDUCTION: &str = "churp/share_reduction";
/// Fetches shares for share distribution.
pub const METHOD_SHARE_DISTRIBUTION: &str = "churp/share_distribution";
/// Fetches shares for proactivization.
pub const METHOD_PROACTIVIZATION: &str = "churp/proactivization";
/// Makes a confirmation.
pub const METHOD_CONFIRM: &str = "churp/confirm";
/// Ends a handoff.
pub const METHOD_FINALIZE: &str = "churp/finalize";
/// Returns the verification matrix.
pub const METHOD_VERIFICATION_MATRIX: &str = "churp/verification_matrix";
/// Returns a point for share reduction.
pub const METHOD_SHARE_REDUCTION_POINT: &str = "churp/share_reduction_point";
/// Returns a point for share distribution.
pub const METHOD_SHARE_DISTRIBUTION_POINT: &str = "churp/share_distribution_point";
/// Returns a bivariate share.
pub const METHOD_BIVARIATE_SHARE: &str = "churp/bivariate_share";
/// Returns a key share, access checked by SGX policy.
pub const METHOD_SGX_POLICY_KEY_SHARE: &str = "churp/sgx_policy_key_share";

/// Names a handoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct HandoffRequest {
    /// Which instance.
    #[codec(flatten)]
    pub identity: Identity,
    /// Epoch of the handoff.
    #[codec(omitempty)]
    pub epoch: Epoch,
}

/// Asks an enclave to fetch data of a handoff from nodes.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct FetchRequest {
    /// Which instance.
    #[codec(flatten)]
    pub identity: Identity,
    /// Epoch of the handoff.
    #[codec(omitempty)]
    pub epoch: Epoch,
    /// The nodes.
    pub node_ids: Option<Vec<PublicKey>>,
}

/// What came of a [`FetchRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct FetchResponse {
    /// Whether all is fetched.
    #[codec(omitempty)]
    pub completed: bool,
    /// Nodes that delivered.
    #[codec(omitempty)]
    pub succeeded: Vec<PublicKey>,
    /// Nodes that did not.
    #[codec(omitempty)]
    pub failed: Vec<PublicKey>,
}
