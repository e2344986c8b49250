//! Entity descriptors: who stands behind nodes and runtimes.

use base_codec::{Codec, cbor, json};
use base_crypto::context::{self, Context};
use base_prims::PublicKey;

use crate::{Invalid, invalid, signed::Signed};

/// Signature context of entity registrations, in genesis too.
pub const REGISTER_CONTEXT: &Context = &context::REGISTER_ENTITY;

/// Version that new descriptors must have.
pub const LATEST_VERSION: u16 = 2;
/// Oldest version that is accepted in a genesis document.
pub const MIN_VERSION: u16 = 1;

/// An entity. Source: `go/common/entity`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Entity {
    /// Version of the descriptor.
    pub v: u16,
    /// The entity's key.
    pub id: PublicKey,
    /// Nodes that may register under this entity.
    pub nodes: Vec<PublicKey>,
}

#[derive(Default, Codec)]
struct EntityV2 {
    v: u16,
    id: PublicKey,
    #[codec(omitempty)]
    nodes: Vec<PublicKey>,
}

// Version 1 could let the entity's own key sign for its nodes; only descriptors that don't are still read.
#[derive(Default, Codec)]
struct EntityV1 {
    v: u16,
    id: PublicKey,
    #[codec(omitempty)]
    nodes: Vec<PublicKey>,
    #[codec(omitempty)]
    allow_entity_signed_nodes: bool,
}

impl From<&Entity> for EntityV2 {
    fn from(e: &Entity) -> Self {
        Self { v: e.v, id: e.id, nodes: e.nodes.clone() }
    }
}

impl cbor::Encode for Entity {
    fn encode(&self, e: &mut cbor::Encoder) {
        EntityV2::from(self).encode(e);
    }
}

impl cbor::Decode for Entity {
    fn decode(d: &mut cbor::Decoder<'_>) -> Result<Self, cbor::Error> {
        let at = d.offset();
        let raw = d.raw_item()?;
        match crate::node::descriptor_version(raw)? {
            1 => {
                let e: EntityV1 = cbor::from_slice(raw)?;
                if e.allow_entity_signed_nodes {
                    return Err(cbor::Error::invalid(
                        at,
                        "entity descriptor must have allow_entity_signed_nodes set to false",
                    ));
                }
                Ok(Self { v: LATEST_VERSION, id: e.id, nodes: e.nodes })
            }
            2 => {
                let e: EntityV2 = cbor::from_slice(raw)?;
                Ok(Self { v: e.v, id: e.id, nodes: e.nodes })
            }
            v => Err(cbor::Error::invalid(at, format!("invalid entity descriptor version: {v}"))),
        }
    }
}

impl json::ToJson for Entity {
    fn to_json(&self) -> json::Value {
        EntityV2::from(self).to_json()
    }
}

impl json::FromJson for Entity {
    fn from_json(v: &json::Value, cx: &mut json::Context) -> Result<Self, json::Error> {
        let e = EntityV2::from_json(v, cx)?;
        Ok(Self { v: e.v, id: e.id, nodes: e.nodes })
    }
}

impl Entity {
    /// Checks the version: exactly the latest with `strict`, else any that is supported.
    ///
    /// # Errors
    /// If the version is out of range.
    pub fn validate_basic(&self, strict: bool) -> Result<(), Invalid> {
        if strict && self.v != LATEST_VERSION {
            invalid!("invalid entity descriptor version (expected: {LATEST_VERSION} got: {})", self.v);
        }
        if !(MIN_VERSION..=LATEST_VERSION).contains(&self.v) {
            invalid!("invalid entity descriptor version (min: {MIN_VERSION} max: {LATEST_VERSION})");
        }
        Ok(())
    }

    /// Whether the node may register under this entity.
    pub fn has_node(&self, node: &PublicKey) -> bool {
        self.nodes.contains(node)
    }
}

/// A signed entity descriptor.
pub type SignedEntity = Signed;
