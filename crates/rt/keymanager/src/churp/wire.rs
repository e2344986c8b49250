//! What enclaves send each other about shares. Numbers, points and polynomials are byte strings; see
//! [`suite`](super::suite) and [`Poly`].

use std::sync::Arc;

use base_codec::{Bytes, Codec};
use base_prims::{Epoch, Namespace, PublicKey};
use wire_consensus::churp::Identity;
use zeroize::Zeroize;

use super::{
    ChurpError, Matrix, Poly, Share,
    suite::{Point, Scalar, point_from_bytes, point_to_bytes, scalar_from_bytes, scalar_to_bytes},
};
use crate::api::KeyPairId;

/// Asks for something of a handoff, as one of its nodes. CBOR: `{id, runtime_id, epoch, node_id?}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct QueryRequest {
    /// Number of the instance.
    pub id: u8,
    /// The key manager.
    pub runtime_id: Namespace,
    /// The handoff.
    pub epoch: Epoch,
    /// For whom.
    #[codec(omitempty)]
    pub node_id: Option<PublicKey>,
}

/// Asks for a node's part of a key. CBOR: `{id, runtime_id, epoch, key_runtime_id, key_id}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct KeyShareRequest {
    /// Number of the instance.
    pub id: u8,
    /// The key manager.
    pub runtime_id: Namespace,
    /// The last handoff.
    pub epoch: Epoch,
    /// For which runtime.
    pub key_runtime_id: Namespace,
    /// Which key.
    pub key_id: KeyPairId,
}

impl QueryRequest {
    /// The instance.
    pub fn identity(&self) -> Identity {
        Identity { id: self.id, runtime_id: self.runtime_id }
    }
}

/// A share without its commitment. CBOR: `{x, polynomial}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct WireSecretShare {
    /// Whose share it is.
    pub x: Bytes,
    /// The share.
    pub polynomial: Bytes,
}

impl Drop for WireSecretShare {
    fn drop(&mut self) {
        self.polynomial.0.zeroize();
    }
}

/// A share. CBOR: `{share, verification_matrix}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct WireShare {
    /// The share.
    pub share: WireSecretShare,
    /// The commitment.
    pub verification_matrix: Bytes,
}

impl From<&Share> for WireShare {
    fn from(share: &Share) -> Self {
        Self {
            share: WireSecretShare {
                x: Bytes(scalar_to_bytes(&share.x)),
                polynomial: Bytes(share.polynomial.to_bytes()),
            },
            verification_matrix: Bytes(share.matrix.to_bytes()),
        }
    }
}

impl TryFrom<&WireShare> for Share {
    type Error = ChurpError;

    fn try_from(wire: &WireShare) -> Result<Self, ChurpError> {
        Ok(Self {
            x: scalar_from_bytes(&wire.share.x)?,
            polynomial: Poly::from_bytes(&wire.share.polynomial)?,
            matrix: Arc::new(Matrix::from_bytes(&wire.verification_matrix)?),
        })
    }
}

/// A node's part of a key. CBOR: `{x, z}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct WireKeyShare {
    /// Whose part it is.
    pub x: Bytes,
    /// The part.
    pub z: Bytes,
}

impl WireKeyShare {
    /// The part as it is sent.
    pub fn new(x: &Scalar, part: &Point) -> Self {
        Self { x: Bytes(scalar_to_bytes(x)), z: Bytes(point_to_bytes(part)) }
    }

    /// The part as it was sent.
    ///
    /// # Errors
    /// If it is none.
    pub fn open(&self) -> Result<(Scalar, Point), ChurpError> {
        Ok((scalar_from_bytes(&self.x)?, point_from_bytes(&self.z)?))
    }
}
