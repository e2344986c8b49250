//! `oasis-node registry entity …`.

use std::path::{Path, PathBuf};

use base_crypto::ed25519::SecretKey;
use base_identity::KeyRole;
use base_prims::PublicKey;
use clap::Subcommand;
use wire_consensus::entity::{Entity, LATEST_VERSION, REGISTER_CONTEXT};
use wire_consensus::node::{self, MultiSignedNode, Node};
use wire_consensus::registry::{METHOD_DEREGISTER_ENTITY, METHOD_REGISTER_ENTITY};
use wire_consensus::signed::Signed;

use super::ListArgs;
use crate::args::{ENTITY_FILE, Session, TxArgs};
use crate::tool::{Done, Failure, OrFail as _, read_json, write_json};

const MODULE: &str = "cmd/registry/entity";
/// File of the registration for genesis documents.
const GENESIS_FILE: &str = "entity_genesis.json";

/// Subcommands of `registry entity`.
#[derive(Subcommand)]
pub(crate) enum EntityCommand {
    /// Initialize an entity.
    Init {
        /// Replace an existing entity.
        #[arg(long)]
        force: bool,
        /// Use the entity key that is there.
        #[arg(long = "entity.reuse_signer")]
        reuse_signer: bool,
    },
    /// Update an entity.
    Update {
        /// ID(s) of nodes of the entity.
        #[arg(long = "entity.node.id", value_delimiter = ',')]
        ids: Vec<PublicKey>,
        /// Node descriptor(s) for genesis of nodes of the entity.
        #[arg(long = "entity.node.descriptor", value_delimiter = ',')]
        descriptors: Vec<PathBuf>,
    },
    /// Generate a register entity transaction.
    #[command(name = "gen_register")]
    GenRegister(TxArgs),
    /// Generate a deregister entity transaction.
    #[command(name = "gen_deregister")]
    GenDeregister(TxArgs),
    /// List registered entities.
    List(ListArgs),
}

pub(crate) fn run(command: &EntityCommand, session: &Session) -> Done {
    match command {
        EntityCommand::Init { force, reuse_signer } => init(session, *force, *reuse_signer),
        EntityCommand::Update { ids, descriptors } => update(session, ids, descriptors),
        EntityCommand::GenRegister(tx) => {
            let doc = tx.prepare(session)?;
            let (entity, key) = session.entity().or_fail(MODULE, "failed to load entity and its signer")?;
            let signed = Signed::sign(&key, REGISTER_CONTEXT, None, &entity);
            let signed = signed.or_fail(MODULE, "failed to sign entity")?;
            tx.save(session, &doc, METHOD_REGISTER_ENTITY, &signed)
        }
        EntityCommand::GenDeregister(tx) => {
            let doc = tx.prepare(session)?;
            tx.save_without_body(session, &doc, METHOD_DEREGISTER_ENTITY)
        }
        EntityCommand::List(list) => {
            let what = "failed to query entities";
            let node = list.client.connect(MODULE, what)?;
            let entities: Option<Vec<Entity>> = node.call("Registry", "GetEntities", 0i64).or_fail(MODULE, what)?;
            list.print(&entities.unwrap_or_default(), |entity| entity.id.to_string());
            Ok(())
        }
    }
}

fn init(session: &Session, force: bool, reuse_signer: bool) -> Done {
    let what = "failed to generate entity";
    base_service::limits::private_files();
    if session.is_test_entity() {
        return Err(Failure::new(MODULE, "the test entity is not initialized"));
    }
    let source = session.entity_source().or_fail(MODULE, what)?;
    let dir = session.signer_dir();
    let exists = session.entity().is_ok();
    if exists && !force {
        return Err(Failure::new(MODULE, "existing entity exists, specify --force to overwrite"));
    }
    if exists {
        tracing::warn!(module = MODULE, "overwriting existing entity");
    }
    let key = if reuse_signer {
        source.load(KeyRole::Entity)
    } else {
        if force {
            move_away(&dir.join(KeyRole::Entity.secret_file())).or_fail(MODULE, what)?;
        }
        source.generate(KeyRole::Entity)
    };
    let key = key.or_fail(MODULE, what)?;
    let entity = Entity { v: LATEST_VERSION, id: key.public().into(), nodes: Vec::new() };
    save(&dir, &entity, &key)?;
    tracing::info!(module = MODULE, entity = %entity.id, "generated entity");
    Ok(())
}

/// Keeps the key that is about to be replaced: with it goes the entity's stake.
fn move_away(path: &Path) -> Result<(), String> {
    let mut kept = path.as_os_str().to_owned();
    kept.push(".old");
    match std::fs::rename(path, &kept) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: cannot move away: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

fn save(dir: &Path, entity: &Entity, key: &SecretKey) -> Done {
    write_json(&dir.join(ENTITY_FILE), entity).or_fail(MODULE, "failed to persist entity descriptor")?;
    let signed = Signed::sign(key, REGISTER_CONTEXT, None, entity);
    let signed = signed.or_fail(MODULE, "failed to sign entity for genesis registration")?;
    write_json(&dir.join(GENESIS_FILE), &signed).or_fail(MODULE, "failed to write signed entity genesis registration")
}

fn update(session: &Session, ids: &[PublicKey], descriptors: &[PathBuf]) -> Done {
    let (mut entity, key) = session.entity().or_fail(MODULE, "failed to load entity")?;
    entity.nodes.clear();
    for id in ids {
        if !entity.nodes.contains(id) {
            entity.nodes.push(*id);
        }
    }
    for path in descriptors {
        let signed: MultiSignedNode = read_json(path).or_fail(MODULE, "failed to read node descriptor")?;
        let node: Node =
            signed.open(node::REGISTER_CONTEXT, None).or_fail(MODULE, "failed to validate signed node descriptor")?;
        if node.entity_id != entity.id {
            let text = format!("entity {}, node's entity {}", entity.id, node.entity_id);
            let what = "entity ID mismatch, node does not belong to this entity";
            return Err(Failure::because(MODULE, what, text));
        }
        if signed.signatures().first().is_none_or(|signature| signature.public_key != node.id) {
            return Err(Failure::new(MODULE, "node genesis descriptor is not self signed"));
        }
        if !entity.nodes.contains(&node.id) {
            entity.nodes.push(node.id);
        }
    }
    save(&session.signer_dir(), &entity, &key)?;
    tracing::info!(module = MODULE, entity = %entity.id, "updated entity");
    Ok(())
}
