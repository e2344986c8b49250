//! Node descriptors.

use std::{fmt, str::FromStr};

use base_codec::{Bytes, Codec, cbor, json};
use base_crypto::context::{self, Context};
use base_prims::{Epoch, Hash, Namespace, ParseError, PublicKey, RawSignature, Version};

use crate::{
    Invalid, invalid,
    signed::{MultiSigned, Signature},
};

pub mod net;

pub use net::{ConsensusAddress, NetAddress};

pub use crate::tee::TeeHardware;

/// Signature context of node registrations, in genesis too.
pub const REGISTER_CONTEXT: &Context = &context::REGISTER_NODE;
/// Version that new descriptors must have.
pub const LATEST_VERSION: u16 = 3;
/// Longest software version in bytes.
pub const MAX_SOFTWARE_VERSION_BYTES: usize = 128;

/// Bitmask of a node's roles. CBOR: integer; JSON: names joined by commas. Source: `go/common/node`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Roles(pub u32);

impl Roles {
    /// Executes runtime transactions.
    pub const COMPUTE: Self = Self(1);
    /// Follows runtimes without being in committees.
    pub const OBSERVER: Self = Self(1 << 1);
    /// Holds keys for runtimes.
    pub const KEY_MANAGER: Self = Self(1 << 2);
    /// Validates consensus blocks.
    pub const VALIDATOR: Self = Self(1 << 3);
    /// Serves storage to the public.
    pub const STORAGE_RPC: Self = Self(1 << 5);
    /// Consensus RPC role of version 2; reserved now.
    pub const RESERVED_3: Self = Self(1 << 4);

    /// Each role with its name.
    pub const NAMES: [(Self, &'static str); 5] = [
        (Self::COMPUTE, "compute"),
        (Self::OBSERVER, "observer"),
        (Self::KEY_MANAGER, "key-manager"),
        (Self::VALIDATOR, "validator"),
        (Self::STORAGE_RPC, "storage-rpc"),
    ];

    const VALID: u32 = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5;

    /// Whether any bit that may not be used is set.
    pub fn has_reserved(self) -> bool {
        self.0 & !Self::VALID != 0
    }

    /// Whether any of the roles is held.
    pub fn has(self, roles: Self) -> bool {
        self.0 & roles.0 != 0
    }

    /// Whether exactly one valid role is held.
    pub fn is_single(self) -> bool {
        self.0.is_power_of_two() && !self.has_reserved()
    }

    /// The union.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.has_reserved() {
            return f.write_str("[invalid roles]");
        }
        let names: Vec<_> = Self::NAMES.iter().filter(|(r, _)| self.has(*r)).map(|(_, n)| *n).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for Roles {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let mut roles = Self::default();
        for name in s.split(',') {
            let role = Self::NAMES
                .iter()
                .find(|(_, n)| *n == name)
                .map(|(r, _)| *r)
                .filter(|r| !roles.has(*r))
                .ok_or_else(|| ParseError::new("distinct roles joined by commas", s))?;
            roles = roles.with(role);
        }
        Ok(roles)
    }
}

base_prims::json_as_text!(Roles, "roles joined by commas");

impl cbor::Encode for Roles {
    fn encode(&self, e: &mut cbor::Encoder) {
        self.0.encode(e);
    }
    fn is_empty(&self) -> bool {
        self.0 == 0
    }
}

impl cbor::Decode for Roles {
    const SCALAR: bool = true;

    fn decode(d: &mut cbor::Decoder<'_>) -> Result<Self, cbor::Error> {
        u32::decode(d).map(Self)
    }
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct VersionOnly {
    v: Option<u16>,
}

/// The field `v` of an encoded descriptor, whatever its other fields are.
///
/// # Errors
/// If it is not a map with a version.
pub fn descriptor_version(raw: &[u8]) -> Result<u16, cbor::Error> {
    let version: VersionOnly = cbor::from_slice_relaxed(raw)?;
    version.v.filter(|v| *v != u16::MAX).ok_or_else(|| cbor::Error::invalid(0, "missing descriptor version"))
}

/// A node. Source: `go/common/node`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Node {
    /// Version of the descriptor.
    pub v: u16,
    /// The node's key.
    pub id: PublicKey,
    /// Its entity.
    pub entity_id: PublicKey,
    /// Last epoch of the registration.
    pub expiration: Epoch,
    /// TLS key.
    pub tls: TlsInfo,
    /// Peer-to-peer key and addresses.
    pub p2p: P2pInfo,
    /// Consensus key and addresses.
    pub consensus: ConsensusInfo,
    /// VRF key.
    pub vrf: VrfInfo,
    /// Runtimes that the node supports, one per version.
    pub runtimes: Option<Vec<Runtime>>,
    /// Roles.
    pub roles: Roles,
    /// Software version.
    pub software_version: String,
}

#[derive(Default, Codec)]
struct NodeV3 {
    v: u16,
    id: PublicKey,
    entity_id: PublicKey,
    expiration: Epoch,
    tls: TlsInfo,
    p2p: P2pInfo,
    consensus: ConsensusInfo,
    vrf: VrfInfo,
    runtimes: Option<Vec<Runtime>>,
    roles: Roles,
    #[codec(omitempty)]
    software_version: String,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct TlsInfoV2 {
    pub_key: PublicKey,
    #[codec(omitempty)]
    next_pub_key: PublicKey,
    addresses: Option<Vec<TlsAddress>>,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct TlsAddress {
    pub_key: PublicKey,
    address: NetAddress,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct NodeV2 {
    v: u16,
    id: PublicKey,
    entity_id: PublicKey,
    expiration: Epoch,
    tls: TlsInfoV2,
    p2p: P2pInfo,
    consensus: ConsensusInfo,
    #[codec(omitempty)]
    vrf: Option<VrfInfo>,
    runtimes: Option<Vec<Runtime>>,
    roles: Roles,
    #[codec(omitempty)]
    software_version: String,
}

impl From<NodeV3> for Node {
    fn from(n: NodeV3) -> Self {
        Self {
            v: n.v,
            id: n.id,
            entity_id: n.entity_id,
            expiration: n.expiration,
            tls: n.tls,
            p2p: n.p2p,
            consensus: n.consensus,
            vrf: n.vrf,
            runtimes: n.runtimes,
            roles: n.roles,
            software_version: n.software_version,
        }
    }
}

impl From<&Node> for NodeV3 {
    fn from(n: &Node) -> Self {
        let n = n.clone();
        Self {
            v: n.v,
            id: n.id,
            entity_id: n.entity_id,
            expiration: n.expiration,
            tls: n.tls,
            p2p: n.p2p,
            consensus: n.consensus,
            vrf: n.vrf,
            runtimes: n.runtimes,
            roles: n.roles,
            software_version: n.software_version,
        }
    }
}

impl From<NodeV2> for Node {
    fn from(n: NodeV2) -> Self {
        Self {
            v: LATEST_VERSION,
            id: n.id,
            entity_id: n.entity_id,
            expiration: n.expiration,
            tls: TlsInfo { pub_key: n.tls.pub_key },
            p2p: n.p2p,
            consensus: n.consensus,
            vrf: n.vrf.unwrap_or_default(),
            runtimes: n.runtimes,
            roles: Roles(n.roles.0 & !Roles::RESERVED_3.0),
            software_version: n.software_version,
        }
    }
}

impl cbor::Encode for Node {
    fn encode(&self, e: &mut cbor::Encoder) {
        NodeV3::from(self).encode(e);
    }
}

impl cbor::Decode for Node {
    fn decode(d: &mut cbor::Decoder<'_>) -> Result<Self, cbor::Error> {
        let at = d.offset();
        let raw = d.raw_item()?;
        match descriptor_version(raw)? {
            2 => Ok(cbor::from_slice::<NodeV2>(raw)?.into()),
            3 => Ok(cbor::from_slice::<NodeV3>(raw)?.into()),
            v => Err(cbor::Error::invalid(at, format!("invalid node descriptor version: {v}"))),
        }
    }
}

impl json::ToJson for Node {
    fn to_json(&self) -> json::Value {
        NodeV3::from(self).to_json()
    }
}

impl json::FromJson for Node {
    fn from_json(v: &json::Value, cx: &mut json::Context) -> Result<Self, json::Error> {
        NodeV3::from_json(v, cx).map(Into::into)
    }
}

/// TLS identity.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct TlsInfo {
    /// TLS key.
    pub pub_key: PublicKey,
}

/// Peer-to-peer identity.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct P2pInfo {
    /// Peer-to-peer key.
    pub id: PublicKey,
    /// Where the node can be reached.
    pub addresses: Option<Vec<NetAddress>>,
}

/// Consensus identity.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ConsensusInfo {
    /// Consensus key.
    pub id: PublicKey,
    /// Where the node, or its sentry, can be reached.
    pub addresses: Option<Vec<ConsensusAddress>>,
}

/// VRF identity.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct VrfInfo {
    /// VRF key.
    pub id: PublicKey,
}

/// A runtime version that a node supports.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Runtime {
    /// The runtime.
    pub id: Namespace,
    /// Version of the runtime.
    pub version: Version,
    /// What the node can do.
    pub capabilities: Capabilities,
    /// What the runtime adds, such as a key manager's init response.
    pub extra_info: Option<Bytes>,
}

/// What a node can do for a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Capabilities {
    /// Trusted execution.
    #[codec(omitempty)]
    pub tee: Option<CapabilityTee>,
}

base_codec::fixed_bytes! {
    /// An X25519 public key, 32 bytes; base64 in JSON.
    pub struct X25519PublicKey([u8; 32]);
}

impl fmt::Display for X25519PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        PublicKey::new(*self.as_bytes()).fmt(f)
    }
}

impl FromStr for X25519PublicKey {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        s.parse::<PublicKey>().map(|k| Self::new(*k.as_bytes()))
    }
}
base_prims::json_as_text!(X25519PublicKey, "a public key of 32 bytes in base64");

/// Short name of [`X25519PublicKey`].
pub type X25519Key = X25519PublicKey;

/// An attested enclave.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct CapabilityTee {
    /// Hardware.
    pub hardware: TeeHardware,
    /// Runtime attestation key.
    pub rak: PublicKey,
    /// Runtime encryption key.
    #[codec(omitempty)]
    pub rek: Option<X25519PublicKey>,
    /// Evidence; its form follows from the hardware.
    pub attestation: Option<Bytes>,
}

/// An enclave's capability, endorsed by its node.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EndorsedCapabilityTee {
    /// The capability.
    pub capability_tee: CapabilityTee,
    /// The node's signature over it.
    pub node_endorsement: Signature,
}

/// A node descriptor signed by the node's keys.
pub type MultiSignedNode = MultiSigned;

/// SHA-512/256 of the binding prefix and a runtime attestation key: what report data must begin with.
pub fn rak_hash(rak: &PublicKey) -> Hash {
    Hash::of(&[b"oasis-core/node: TEE RAK binding", rak.as_bytes()])
}

/// A signature that an enclave made; kept here so that users need not name the primitive.
pub type EnclaveSignature = RawSignature;

impl Node {
    /// Checks version, software version and roles: exactly the latest version with `strict`.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn validate_basic(&self, strict: bool) -> Result<(), Invalid> {
        if self.v != LATEST_VERSION {
            if strict {
                invalid!("invalid node descriptor version (expected: {LATEST_VERSION} got: {})", self.v);
            }
            invalid!("invalid node descriptor version (min: {LATEST_VERSION} max: {LATEST_VERSION})");
        }
        let len = self.software_version.len();
        if len > MAX_SOFTWARE_VERSION_BYTES {
            invalid!(
                "malformed node software version: value too big (max length: {MAX_SOFTWARE_VERSION_BYTES}, length: {len})"
            );
        }
        if self.roles.0 == 0 {
            invalid!("no roles specified");
        }
        if self.roles.has_reserved() {
            invalid!("invalid role specified");
        }
        Ok(())
    }

    /// The runtimes.
    pub fn runtimes(&self) -> &[Runtime] {
        self.runtimes.as_deref().unwrap_or_default()
    }

    /// Whether any of the roles is held.
    pub fn has_roles(&self, roles: Roles) -> bool {
        self.roles.has(roles)
    }

    /// Whether the registration ended before the epoch.
    pub fn is_expired(&self, epoch: Epoch) -> bool {
        self.expiration < epoch
    }

    /// Whether the node supports the runtime in any version.
    pub fn has_runtime(&self, id: &Namespace) -> bool {
        self.runtimes().iter().any(|r| r.id == *id)
    }

    /// The runtime in exactly this version.
    pub fn runtime(&self, id: &Namespace, version: Version) -> Option<&Runtime> {
        self.runtimes().iter().find(|r| r.id == *id && r.version == version)
    }

    /// The P2P addresses.
    pub fn p2p_addresses(&self) -> &[NetAddress] {
        self.p2p.addresses.as_deref().unwrap_or_default()
    }

    /// The consensus addresses.
    pub fn consensus_addresses(&self) -> &[ConsensusAddress] {
        self.consensus.addresses.as_deref().unwrap_or_default()
    }
}
