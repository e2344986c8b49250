//! `oasis-node registry node …`.

use base_identity::Identity;
use base_prims::{Epoch, Namespace, PublicKey};
use base_service::outln;
use clap::Subcommand;
use wire_consensus::node::{
    ConsensusAddress, LATEST_VERSION, MultiSignedNode, NetAddress, Node, REGISTER_CONTEXT, Roles, Runtime,
};
use wire_consensus::signed::MultiSigned;

use super::ListArgs;
use crate::args::Session;
use crate::client::ClientArgs;
use crate::tool::{Done, Failure, OrFail as _, now_unix, write_json};

const MODULE: &str = "cmd/registry/node";
/// File of the registration for genesis documents.
const GENESIS_FILE: &str = "node_genesis.json";

/// Subcommands of `registry node`.
#[derive(Subcommand)]
pub(crate) enum NodeCommand {
    /// Initialize a node.
    Init(InitArgs),
    /// List registered nodes.
    List(ListArgs),
    /// Check whether the node is registered.
    IsRegistered(ClientArgs),
}

/// The descriptor of `registry node init`.
#[derive(clap::Args)]
pub(crate) struct InitArgs {
    /// Entity ID that controls this node.
    #[arg(long = "node.entity_id")]
    entity: Option<PublicKey>,
    /// Epoch that the node registration should expire.
    #[arg(long = "node.expiration", default_value_t = 0)]
    expiration: Epoch,
    /// Address(es) the node can be reached over the P2P transport.
    #[arg(long = "node.p2p_address", value_delimiter = ',')]
    p2p: Vec<NetAddress>,
    /// Address(es) the node can be reached as a consensus member, of the form [ID@]IP:PORT.
    #[arg(long = "node.consensus_address", value_delimiter = ',')]
    consensus: Vec<String>,
    /// Role(s) of the node: compute-worker, key-manager, validator.
    #[arg(long = "node.role", value_delimiter = ',')]
    roles: Vec<String>,
    /// Node registration is self-signed; it always is.
    #[arg(long = "node.is_self_signed", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value = "true")]
    _self_signed: String,
    /// Hex encoded runtime ID(s) of the node.
    #[arg(long = "node.runtime.id", value_delimiter = ',')]
    runtimes: Vec<Namespace>,
}

pub(crate) fn run(command: &NodeCommand, session: &Session) -> Done {
    match command {
        NodeCommand::Init(args) => init(args, session),
        NodeCommand::List(list) => {
            list.print(&nodes(&list.client)?, |node| node.id.to_string());
            Ok(())
        }
        NodeCommand::IsRegistered(client) => {
            let identity = Identity::load(&session.data_dir(), now_unix());
            let id = PublicKey::from(identity.or_fail(MODULE, "failed to load node identity")?.node.public());
            if nodes(client)?.iter().any(|node| node.id == id) {
                outln!("node is registered");
                return Ok(());
            }
            outln!("node is not registered");
            Err(Failure::quiet())
        }
    }
}

fn nodes(client: &ClientArgs) -> Result<Vec<Node>, Failure> {
    let what = "failed to query nodes";
    let node = client.connect(MODULE, what)?;
    let nodes: Option<Vec<Node>> = node.call("Registry", "GetNodes", 0i64).or_fail(MODULE, what)?;
    Ok(nodes.unwrap_or_default())
}

fn roles(names: &[String]) -> Result<Roles, String> {
    names.iter().try_fold(Roles::default(), |roles, name| {
        let role = match name.to_ascii_lowercase().as_str() {
            "compute-worker" => Roles::COMPUTE,
            "key-manager" => Roles::KEY_MANAGER,
            "validator" => Roles::VALIDATOR,
            _ => return Err(format!("node: unsupported role: '{name}'")),
        };
        Ok(roles.with(role))
    })
}

/// An address with a key, or without: then the node's own.
fn consensus_address(text: &str, own: PublicKey) -> Result<ConsensusAddress, String> {
    if text.contains('@') {
        return text.parse().map_err(|error: base_prims::ParseError| error.to_string());
    }
    let address = text.parse().map_err(|error: base_prims::ParseError| error.to_string())?;
    Ok(ConsensusAddress { id: own, address })
}

fn init(args: &InitArgs, session: &Session) -> Done {
    let entity = args.entity.ok_or_else(|| Failure::new(MODULE, "missing --node.entity_id command-line argument"))?;
    base_service::limits::private_files();
    let dir = session.data_dir();
    let identity = Identity::load_or_generate(&dir, now_unix());
    let identity = identity.or_fail(MODULE, "failed to load or generate node identity")?;
    let mut node = Node {
        v: LATEST_VERSION,
        id: identity.node.public().into(),
        entity_id: entity,
        expiration: args.expiration,
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        roles: roles(&args.roles).or_fail(MODULE, "failed to parse node roles mask")?,
        ..Node::default()
    };
    node.tls.pub_key = identity.tls.public().into();
    node.p2p.id = identity.p2p.public().into();
    node.consensus.id = identity.consensus.public().into();
    node.vrf.id = identity.vrf.public().into();
    if !args.runtimes.is_empty() {
        node.runtimes = Some(args.runtimes.iter().map(|id| Runtime { id: *id, ..Runtime::default() }).collect());
    }
    if args.p2p.is_empty() {
        return Err(Failure::new(MODULE, "all nodes require at least 1 P2P address"));
    }
    node.p2p.addresses = Some(args.p2p.clone());
    if node.has_roles(Roles::VALIDATOR) {
        if args.consensus.is_empty() {
            return Err(Failure::new(MODULE, "validator nodes require a consensus address"));
        }
        let addresses: Result<Vec<_>, String> =
            args.consensus.iter().map(|text| consensus_address(text, node.p2p.id)).collect();
        node.consensus.addresses = Some(addresses.or_fail(MODULE, "failed to parse node's consensus address")?);
    }
    let keys = [&identity.node, &identity.p2p, &identity.consensus, &identity.vrf, identity.tls.key()];
    let signed: Result<MultiSignedNode, _> = MultiSigned::sign(&keys, REGISTER_CONTEXT, None, &node);
    let signed = signed.or_fail(MODULE, "failed to sign node genesis registration")?;
    write_json(&dir.join(GENESIS_FILE), &signed).or_fail(MODULE, "failed to write signed node genesis registration")
}
