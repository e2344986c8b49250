//! Roles of keys as signers number and name them. Source: `go/common/crypto/signature/signer.go`.

use base_codec::cbor;
use base_identity::KeyRole;

/// A role on the wire: a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Role(pub u64);

/// All roles in the order of their numbers, with their names.
pub const ROLES: [(KeyRole, Role, &str); 5] = [
    (KeyRole::Entity, Role(1), "entity"),
    (KeyRole::Node, Role(2), "node"),
    (KeyRole::P2p, Role(3), "p2p"),
    (KeyRole::Consensus, Role(4), "consensus"),
    (KeyRole::Vrf, Role(5), "vrf"),
];

impl Role {
    /// The role of that name.
    pub fn named(name: &str) -> Option<KeyRole> {
        ROLES.iter().find(|(_, _, known)| *known == name).map(|(role, _, _)| *role)
    }

    /// The role that has this number, if any.
    pub fn key_role(self) -> Option<KeyRole> {
        ROLES.iter().find(|(_, number, _)| *number == self).map(|(role, _, _)| *role)
    }
}

impl From<KeyRole> for Role {
    fn from(role: KeyRole) -> Self {
        ROLES.iter().find(|(known, _, _)| *known == role).map_or(Self(0), |(_, number, _)| *number)
    }
}

impl cbor::Encode for Role {
    fn encode(&self, e: &mut cbor::Encoder) {
        self.0.encode(e);
    }
}

impl cbor::Decode for Role {
    fn decode(d: &mut cbor::Decoder<'_>) -> Result<Self, cbor::Error> {
        u64::decode(d).map(Self)
    }
}
