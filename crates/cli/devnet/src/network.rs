//! The files of a network: made once, read again by later commands.

use std::path::Path;

use base_crypto::ed25519::SecretKey;
use base_identity::Identity;
use base_prims::{Address, PublicKey};

use crate::config::{self, Common};
use crate::genesis::{self, Registered};
use crate::plan::{Node, Plan, Role};
use crate::{DevnetError, keys, paratime};

/// Directory of the entity that owns the validators.
const ENTITY_DIR: &str = "entity";
/// Directory of the funded accounts.
const ACCOUNTS_DIR: &str = "accounts";
/// Accounts that have tokens from the beginning.
pub(crate) const ACCOUNTS: [&str; 3] = ["alice", "bob", "charlie"];

/// An account with tokens.
#[derive(Debug)]
pub struct Funded {
    /// Its name, and that of its directory.
    pub name: &'static str,
    /// Its key.
    pub key: SecretKey,
    /// Its address.
    pub address: Address,
}

/// A network that lies on disk.
#[derive(Debug)]
pub struct Network {
    /// What it was made from.
    pub plan: Plan,
    /// The funded accounts.
    pub accounts: Vec<Funded>,
    /// The chain context of its genesis document.
    pub chain_context: String,
}

impl Network {
    /// Makes keys, entity, genesis document and configurations below `plan.dir`, which must not exist or be empty.
    ///
    /// # Errors
    /// What could not be made.
    pub fn create(plan: Plan) -> Result<Self, DevnetError> {
        plan.check()?;
        keys::make_dir(&plan.dir)?;
        let nodes = plan.nodes();
        let identities =
            nodes.iter().map(|node| keys::make_node(&node.dir, plan.genesis_time)).collect::<Result<Vec<_>, _>>()?;
        let pairs = || nodes.iter().zip(&identities);
        let validators: Vec<_> = pairs()
            .filter(|(node, _)| node.role == Role::Validator)
            .map(|(node, identity)| Registered { node, identity })
            .collect();
        let owned = pairs().filter(|(node, _)| matches!(node.role, Role::Validator | Role::Compute));
        let ids = owned.map(|(_, identity)| identity.node.public().into()).collect();
        let owner = keys::make_entity(&plan.dir.join(ENTITY_DIR), ids)?;
        let accounts = accounts(&plan.dir, keys::make_key)?;
        let bundle = plan.paratime.as_ref().map(|paratime| paratime::bundle(&plan, paratime)).transpose()?;
        let document = genesis::build(&plan, &owner, &validators, &accounts, bundle)?;
        document.sanity_check(true).map_err(|error| DevnetError::Genesis(error.to_string()))?;
        write(&plan.genesis_file(), &document.to_canonical_json())?;

        let seeds: Vec<_> = pairs().filter(|(node, _)| node.role == Role::Seed).flat_map(seed_addresses).collect();
        let entity = owner.entity.id.to_string();
        let root = rustix::process::geteuid().is_root();
        let common = Common { plan: &plan, seeds: &seeds, entity: &entity, root };
        for node in &nodes {
            write(&node.config(), &config::text(&common, node))?;
        }
        let chain_context = document.chain_context().as_str().to_owned();
        Ok(Self { plan, accounts, chain_context })
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        self.plan.nodes()
    }
}

/// Makes or reads the funded accounts.
pub(crate) fn accounts<E>(dir: &Path, key: impl Fn(&Path) -> Result<SecretKey, E>) -> Result<Vec<Funded>, E> {
    let make = |name: &'static str| {
        let key = key(&dir.join(ACCOUNTS_DIR).join(name))?;
        let address = Address::of_key(&PublicKey::from(key.public()));
        Ok(Funded { name, key, address })
    };
    ACCOUNTS.into_iter().map(make).collect()
}

fn seed_addresses((node, identity): (&Node, &Identity)) -> [String; 2] {
    let key = PublicKey::from(identity.p2p.public());
    [node.consensus_port, node.p2p_port].map(|port| format!("{key}@127.0.0.1:{port}"))
}

fn write(path: &Path, text: &str) -> Result<(), DevnetError> {
    std::fs::write(path, text).map_err(DevnetError::io("write", path))
}
