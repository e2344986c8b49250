//! The status of a node. Source: `go/control/api`, `go/consensus/api`, `go/p2p/api`.

use std::collections::BTreeMap;

use base_codec::json::{Map, ToJson, Value};
use base_codec::{Bytes, Codec, Raw, cbor};
use base_prims::version::PROTOCOLS;
use base_prims::{Epoch, Hash, Namespace, PublicKey, Version};
use mkvs_tree::Root;
use wire_consensus::consensus::BACKEND;
use wire_consensus::node::{ConsensusAddress, NetAddress, Node};
use wire_consensus::registry::NodeStatus;
use wire_consensus::upgrade::PendingUpgrade;

use crate::types::Timestamp;

/// Status of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Status {
    /// Version of the program.
    pub software_version: String,
    /// Mode, as in the configuration.
    pub mode: String,
    /// Present if unsafe debug options are allowed.
    #[codec(omitempty)]
    pub debug: Option<DebugStatus>,
    /// Keys.
    pub identity: IdentityStatus,
    /// Consensus layer.
    #[codec(omitempty)]
    pub consensus: Option<ConsensusStatus>,
    /// Light client.
    #[codec(omitempty)]
    pub light_client: Option<LightClientStatus>,
    /// Runtimes that the node runs; one CBOR item each.
    #[codec(omitempty)]
    pub runtimes: BTreeMap<Namespace, Raw>,
    /// Registration.
    #[codec(omitempty)]
    pub registration: Option<RegistrationStatus>,
    /// Key manager worker; a CBOR item.
    #[codec(omitempty)]
    pub keymanager: Raw,
    /// Upgrades that wait.
    #[codec(omitempty)]
    pub pending_upgrades: Vec<PendingUpgrade>,
    /// Peer-to-peer network.
    #[codec(omitempty)]
    pub p2p: Option<P2pStatus>,
    /// Seed node.
    #[codec(omitempty)]
    pub seed: Option<SeedStatus>,
    /// Whatever signs for the node, unless it is a key file that works. Not in the reference, whose clients skip it.
    #[codec(omitempty)]
    pub signer: Option<SignerStatus>,
    /// What progress of the chain waits for, in words. Not in the reference, whose clients skip it.
    #[codec(omitempty)]
    pub waits_for: String,
}

/// Whatever signs for the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct SignerStatus {
    /// `file`, `plugin`, `remote` or `composite`.
    pub backend: String,
    /// Whether the last vote or proposal that was asked for was signed.
    pub working: bool,
    /// If not, height of what was not signed.
    #[codec(omitempty)]
    pub failed_height: i64,
    /// And why.
    #[codec(omitempty)]
    pub error_message: String,
}

/// Unsafe debug options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
pub struct DebugStatus {
    /// Whether they are allowed.
    pub enabled: bool,
    /// Whether the node may run as root.
    pub allow_root: bool,
}

/// Keys of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
pub struct IdentityStatus {
    /// Node key.
    pub node: PublicKey,
    /// Consensus key.
    pub consensus: PublicKey,
    /// TLS key.
    pub tls: PublicKey,
}

impl ToJson for Status {
    /// As clients show it: in the order of the fields, what is absent left out.
    fn to_json(&self) -> Value {
        let mut out = Map::new();
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                out.insert(name.to_owned(), value);
            }
        };
        add("software_version", Some(self.software_version.to_json()));
        add("mode", Some(self.mode.to_json()));
        add("debug", self.debug.as_ref().map(ToJson::to_json));
        add("identity", Some(self.identity.to_json()));
        add("consensus", self.consensus.as_ref().map(ToJson::to_json));
        add("light_client", self.light_client.as_ref().map(ToJson::to_json));
        let runtimes = self.runtimes.iter().map(|(id, status)| (id.to_string(), generic(status)));
        add("runtimes", (!self.runtimes.is_empty()).then(|| Value::Object(runtimes.collect())));
        add("registration", self.registration.as_ref().map(ToJson::to_json));
        add("keymanager", (!self.keymanager.0.is_empty()).then(|| generic(&self.keymanager)));
        add("pending_upgrades", (!self.pending_upgrades.is_empty()).then(|| self.pending_upgrades.to_json()));
        add("p2p", self.p2p.as_ref().map(ToJson::to_json));
        add("seed", self.seed.as_ref().map(ToJson::to_json));
        add("signer", self.signer.as_ref().map(ToJson::to_json));
        add("waits_for", (!self.waits_for.is_empty()).then(|| self.waits_for.to_json()));
        Value::Object(out)
    }
}

impl ToJson for P2pStatus {
    fn to_json(&self) -> Value {
        let counts = |counts: &BTreeMap<String, i64>| {
            Value::Object(counts.iter().map(|(name, n)| (name.clone(), Value::from(*n))).collect())
        };
        let mut out = Map::new();
        out.insert("pub_key".to_owned(), self.pub_key.to_json());
        out.insert("peer_id".to_owned(), Value::String(bs58::encode(self.peer_id.as_slice()).into_string()));
        out.insert("addresses".to_owned(), self.addresses.to_json());
        out.insert("num_peers".to_owned(), self.num_peers.to_json());
        out.insert("num_connections".to_owned(), self.num_connections.to_json());
        out.insert("protocols".to_owned(), counts(&self.protocols));
        out.insert("topics".to_owned(), counts(&self.topics));
        Value::Object(out)
    }
}

/// A CBOR item that no type is known for: byte strings in base64, as Go shows them.
fn generic(raw: &Raw) -> Value {
    let decode = || -> Result<Value, cbor::Error> { generic_item(&mut cbor::Decoder::new(&raw.0)?) };
    decode().unwrap_or(Value::Null)
}

/// The decoder limits the depth of nesting, and with it the recursion.
fn generic_item(d: &mut cbor::Decoder<'_>) -> Result<Value, cbor::Error> {
    use cbor::Kind;
    Ok(match d.kind()? {
        Kind::Unsigned | Kind::Negative => {
            let number = d.integer()?.value();
            i64::try_from(number)
                .map(Value::from)
                .or_else(|_| u64::try_from(number).map(Value::from))
                .unwrap_or_default()
        }
        Kind::Bytes => Bytes(d.bytes()?.to_vec()).to_json(),
        Kind::Text => Value::String(d.text()?.to_owned()),
        Kind::Bool => Value::Bool(d.bool()?),
        Kind::Array => {
            let items = (0..d.array()?).map(|_| generic_item(d)).collect::<Result<Vec<_>, _>>()?;
            Value::Array(items)
        }
        Kind::Map => {
            let mut out = Map::new();
            for _ in 0..d.map()? {
                let key = match generic_item(d)? {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                out.insert(key, generic_item(d)?);
            }
            Value::Object(out)
        }
        Kind::Float => crate::types::float_of(&Raw(d.raw_item()?.to_vec())).map_or(Value::Null, Value::from),
        _ => {
            d.skip()?;
            Value::Null
        }
    })
}

base_codec::int_type! {
    /// Whether the consensus layer has caught up.
    text pub struct StatusState: u8 {
        /// It has.
        READY = 0 => "ready",
        /// It has not.
        SYNCING = 1 => "syncing",
    }
}

/// The node offers queries of services.
pub const FEATURE_SERVICES: u8 = 1;
/// The node takes part in the network.
pub const FEATURE_FULL_NODE: u8 = 2;
/// The node only serves what it has.
pub const FEATURE_ARCHIVE_NODE: u8 = 4;

/// Status of the consensus layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct ConsensusStatus {
    /// Whether it has caught up.
    pub status: StatusState,
    /// Protocol version.
    pub version: Version,
    /// Name of the backend.
    pub backend: String,
    /// Bits `FEATURE_*`.
    pub features: u8,
    /// Newest block.
    pub latest_height: i64,
    /// Its hash.
    pub latest_hash: Hash,
    /// Its time, in whole seconds.
    pub latest_time: Timestamp,
    /// Its epoch.
    pub latest_epoch: Epoch,
    /// State before it.
    pub latest_state_root: Root,
    /// Its size in bytes.
    #[codec(omitempty)]
    pub latest_block_size: u64,
    /// First block of the network.
    pub genesis_height: i64,
    /// Its hash; zero if the node does not have it any more.
    pub genesis_hash: Hash,
    /// Oldest block that the node has.
    pub last_retained_height: i64,
    /// Its hash.
    pub last_retained_hash: Hash,
    /// The network.
    pub chain_context: String,
    /// Whether the node validates the next block.
    pub is_validator: bool,
    /// Consensus peers.
    #[codec(omitempty)]
    pub p2p: Option<ConsensusP2pStatus>,
    /// What could not be read for this status. Not in the reference, whose clients skip it.
    #[codec(omitempty)]
    pub problems: Vec<String>,
}

impl ConsensusStatus {
    /// That of a node that has not opened what it has.
    #[must_use]
    pub fn starting() -> Self {
        Self {
            status: StatusState::SYNCING,
            version: PROTOCOLS.consensus_protocol,
            backend: BACKEND.to_owned(),
            ..Self::default()
        }
    }
}

/// The consensus layer's own network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct ConsensusP2pStatus {
    /// Key.
    pub pub_key: PublicKey,
    /// Id: 40 hexadecimal digits.
    pub peer_id: String,
    /// Where peers reach the node.
    pub addresses: Option<Vec<ConsensusAddress>>,
    /// Peers as `ID@IP:PORT`.
    pub peers: Option<Vec<String>>,
}

/// Status of the light client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct LightClientStatus {
    /// Newest trusted block.
    pub latest_height: i64,
    /// Its hash.
    pub latest_hash: Hash,
    /// Its time.
    pub latest_time: Timestamp,
    /// Oldest trusted block.
    pub oldest_height: i64,
    /// Its hash.
    pub oldest_hash: Hash,
    /// Its time.
    pub oldest_time: Timestamp,
    /// Peers.
    pub peer_ids: Option<Vec<String>>,
}

/// Status of the node's registration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct RegistrationStatus {
    /// Whether the last attempt succeeded.
    pub last_attempt_successful: bool,
    /// If not, why.
    #[codec(omitempty)]
    pub last_attempt_error_message: String,
    /// When it was.
    pub last_attempt: Timestamp,
    /// When the node was last registered.
    pub last_registration: Timestamp,
    /// What was registered.
    #[codec(omitempty)]
    pub descriptor: Option<Node>,
    /// What the registry holds against the node.
    #[codec(omitempty)]
    pub node_status: Option<NodeStatus>,
}

/// Status of the peer-to-peer network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct P2pStatus {
    /// Key.
    pub pub_key: PublicKey,
    /// libp2p peer id, its bytes.
    pub peer_id: Bytes,
    /// Where the node is reached.
    pub addresses: Option<Vec<NetAddress>>,
    /// Peers.
    pub num_peers: i64,
    /// Connections.
    pub num_connections: i64,
    /// Peers by protocol.
    pub protocols: BTreeMap<String, i64>,
    /// Peers by topic.
    pub topics: BTreeMap<String, i64>,
}

/// Status of a seed node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct SeedStatus {
    /// The network.
    pub chain_context: String,
    /// Where the node is reached.
    pub addresses: Option<Vec<String>>,
    /// Peers it knows.
    pub node_peers: Option<Vec<String>>,
}
