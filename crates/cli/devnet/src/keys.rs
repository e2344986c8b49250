//! Keys of entities and accounts. Those of nodes are made by `base_identity`, as the node itself makes them.

use std::path::Path;

use base_codec::json;
use base_crypto::blacklist::test_key;
use base_crypto::ed25519::SecretKey;
use base_identity::{FileError, Identity, KeyRole};
use base_prims::PublicKey;
use wire_consensus::entity::{Entity, LATEST_VERSION};

use crate::DevnetError;

/// File of an entity's descriptor.
const ENTITY_FILE: &str = "entity.json";

/// An entity with its key.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) key: SecretKey,
    pub(crate) entity: Entity,
}

/// Name of the key of the test entity. Source: `go/common/entity`.
const TEST_ENTITY: &str = "ekiden test entity key seed";

/// Makes an entity that owns `nodes` and writes key and descriptor into `dir`; the test entity has the key that
/// everybody knows.
pub(crate) fn make_entity(dir: &Path, is_test: bool, nodes: Vec<PublicKey>) -> Result<Owner, DevnetError> {
    let key = if is_test {
        make_dir(dir)?;
        test_key(TEST_ENTITY)
    } else {
        make_key(dir)?
    };
    let entity = Entity { v: LATEST_VERSION, id: key.public().into(), nodes };
    let path = dir.join(ENTITY_FILE);
    std::fs::write(&path, json::to_string(&entity)).map_err(DevnetError::io("write", &path))?;
    Ok(Owner { key, entity })
}

/// Makes a secret key in a directory of its own.
pub(crate) fn make_key(dir: &Path) -> Result<SecretKey, DevnetError> {
    make_dir(dir)?;
    Ok(base_identity::generate_key(dir, KeyRole::Entity)?)
}

/// Reads the secret key in a directory.
pub(crate) fn load_key(dir: &Path) -> Result<SecretKey, FileError> {
    base_identity::load_key(dir, KeyRole::Entity)
}

/// Makes the keys of a node.
pub(crate) fn make_node(dir: &Path, now: i64) -> Result<Identity, DevnetError> {
    make_dir(dir)?;
    Ok(Identity::load_or_generate(dir, now)?)
}

/// Makes a directory that only its owner can use, as a node wants its data directory.
pub(crate) fn make_dir(dir: &Path) -> Result<(), DevnetError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(DevnetError::io("create", dir))
}
