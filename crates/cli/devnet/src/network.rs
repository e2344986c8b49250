//! The files of a network: made once, read again by later commands.

use std::path::Path;

use base_crypto::ed25519::SecretKey;
use base_identity::Identity;
use base_prims::{Address, PublicKey};
use wire_consensus::genesis::Document;
use wire_consensus::registry::RuntimeKind;

use crate::blueprint::{Blueprint, EntityPlan, NodePlan};
use crate::config::{self, Common};
use crate::genesis::{self, Registered};
use crate::keys::Owner;
use crate::paratime::Deployed;
use crate::plan::{Node, Plan, Role};
use crate::{DevnetError, keys, paratime};

/// Without this, nodes refuse what is signed with keys that everybody knows.
const ALLOW_TEST_KEYS: &str = "--debug.allow_test_keys";
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
    nodes: Vec<Node>,
}

impl Network {
    /// Makes keys, entity, genesis document and configurations below `plan.dir`, which must not exist or be empty.
    ///
    /// # Errors
    /// What could not be made.
    pub fn create(plan: Plan) -> Result<Self, DevnetError> {
        plan.check()?;
        let blueprint = plan.blueprint()?;
        keys::make_dir(&plan.dir)?;
        let mut nodes = plan.place(&blueprint);
        let identities =
            nodes.iter().map(|node| keys::make_node(&node.dir, plan.genesis_time)).collect::<Result<Vec<_>, _>>()?;
        let owned = |entity: usize| {
            let pairs = blueprint.nodes.iter().zip(&identities);
            pairs
                .filter(move |(node, _)| node.entity == Some(entity))
                .map(|(_, identity)| identity.node.public().into())
        };
        let entity = |(place, entity): (usize, &EntityPlan)| {
            keys::make_entity(&plan.dir.join(&entity.name), entity.is_test, owned(place).collect())
        };
        let owners = blueprint.entities.iter().enumerate().map(entity).collect::<Result<Vec<_>, _>>()?;
        let accounts = accounts(&plan.dir, keys::make_key)?;
        let deployed = blueprint.runtimes.iter().map(|r| paratime::bundles(&plan, r)).collect::<Result<Vec<_>, _>>()?;
        let document = document(&plan, &blueprint, &nodes, &identities, &owners, &accounts, &deployed)?;
        let with_test_keys = blueprint.entities.iter().any(|entity| entity.is_test)
            || blueprint.runtimes.iter().any(|runtime| runtime.policy.is_some());
        document.sanity_check(true).map_err(|error| DevnetError::Genesis(error.to_string()))?;
        write(&plan.genesis_file(), &document.to_canonical_json())?;

        let seeds: Vec<_> = nodes
            .iter()
            .zip(&identities)
            .filter(|(node, _)| node.role == Role::Seed)
            .flat_map(seed_addresses)
            .collect();
        let entities: Vec<_> = owners.iter().map(|owner| owner.entity.id.to_string()).collect();
        let bundles: Vec<Vec<String>> = deployed.iter().map(|all| paths(all)).collect();
        let root = rustix::process::geteuid().is_root() && plan.user.is_none();
        let common =
            Common { plan: &plan, blueprint: &blueprint, seeds: &seeds, entities: &entities, bundles: &bundles, root };
        for (node, planned) in nodes.iter_mut().zip(&blueprint.nodes) {
            write(&node.config(), &config::text(&common, node, planned))?;
            if with_test_keys {
                node.arguments.push(ALLOW_TEST_KEYS.to_owned());
            }
        }
        if let Some(user) = &plan.user {
            user.take(&plan.dir)?;
        }
        let chain_context = document.chain_context().as_str().to_owned();
        Ok(Self { plan, accounts, chain_context, nodes })
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        self.nodes.clone()
    }
}

/// The bundles that nodes are given.
fn paths(deployed: &[Deployed]) -> Vec<String> {
    deployed.iter().filter(|one| !one.is_excluded).map(|one| one.path.display().to_string()).collect()
}

fn document(
    plan: &Plan,
    blueprint: &Blueprint,
    nodes: &[Node],
    identities: &[Identity],
    owners: &[Owner],
    accounts: &[Funded],
    deployed: &[Vec<Deployed>],
) -> Result<Document, DevnetError> {
    let registered = |((planned, node), identity): ((&NodePlan, _), _)| {
        let owner = owners.get(planned.entity?)?;
        (planned.role == Role::Validator).then_some(Registered { node, identity, owner })
    };
    let validators: Vec<_> = blueprint.nodes.iter().zip(nodes).zip(identities).filter_map(registered).collect();
    let entities: Vec<_> = owners.iter().map(|owner| owner.entity.id).collect();
    let known = || blueprint.runtimes.iter().filter(|runtime| !runtime.is_late);
    let described = blueprint.runtimes.iter().zip(deployed).filter(|(runtime, _)| !runtime.is_late);
    let runtimes =
        described.map(|(runtime, deployed)| paratime::descriptor(runtime, deployed, &blueprint.runtimes, &entities));
    let managers = known().filter(|runtime| runtime.kind == RuntimeKind::KEY_MANAGER);
    genesis::build(genesis::Parts {
        plan,
        blueprint,
        owners,
        validators: &validators,
        accounts,
        runtimes: runtimes.collect::<Result<_, _>>()?,
        key_managers: managers.map(paratime::key_manager).collect::<Result<_, _>>()?,
    })
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
