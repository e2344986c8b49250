//! `oasis-node genesis migrate`: what the genesis document of an older release needs to pass today's checks. Reference:
//! `go/oasis-node/cmd/genesis/migrate.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use base_codec::Bytes;
use base_prims::{Address, PublicKey};
use wire_consensus::entity::{self, Entity};
use wire_consensus::genesis::Document;
use wire_consensus::node::{self, Node};
use wire_consensus::staking::ThresholdKind;
use wire_consensus::tee::{TeeFeatures, TeeFeaturesSgx};

use super::MODULE;
use crate::args::Session;
use crate::tool::{Done, FILE_MODE, OrFail as _, read_json, write_file};

/// Gas of the key manager's and the freshness operations, new since.
const GAS: u64 = 1000;
/// Age of attestations in blocks: about two hours at six seconds each.
const MAX_ATTESTATION_AGE: u64 = 1200;
const MAX_RUNTIME_DEPLOYMENTS: u8 = 5;
const MAX_PAST_ROOTS_STORED: u64 = 1200;
/// Time for a proposal, in nanoseconds.
const PROPOSER_TIMEOUT: i64 = 5_000_000_000;
const MAX_BLOCK_SIZE: u64 = 1 << 20;
/// What the document of a network under a new name carries. Source: the first block of the main network.
const QUOTE: &str = "Quis custodiet ipsos custodes? [submitted by Oasis Community Member Daniyar Borangaziyev]";

/// Options of `genesis migrate`.
#[derive(clap::Args)]
pub(crate) struct MigrateArgs {
    /// Path of the old genesis document.
    #[arg(long = "genesis.file", short = 'g', default_value = "genesis.json")]
    file: PathBuf,
    /// Path of the new genesis document.
    #[arg(long = "genesis.new_file", default_value = "genesis_new.json")]
    new_file: PathBuf,
    /// New chain id; also begins the next epoch.
    #[arg(long = "genesis.new_chain_id", default_value = "", hide_default_value = true)]
    new_chain_id: String,
}

pub(super) fn run(args: &MigrateArgs, session: &Session) -> Done {
    let old: Document = read_json(&args.file).or_fail(MODULE, "failed to parse old genesis file")?;
    let new = migrate(old, &args.new_chain_id).or_fail(MODULE, "failed to fix genesis document")?;
    if let Err(error) = node_app::sanity_check(&new, &session.options.local()) {
        tracing::warn!(module = MODULE, err = %error, "new genesis document sanity check failed");
    }
    let saved = write_file(&args.new_file, new.to_canonical_json().as_bytes(), FILE_MODE);
    saved.or_fail(MODULE, "failed to write fixed genesis file")
}

fn migrate(mut doc: Document, chain_id: &str) -> Result<Document, String> {
    burn(&mut doc)?;
    let supply = doc.staking.total_supply.clone();
    for account in doc.staking.ledger.values_mut() {
        for allowance in account.general.allowances.values_mut().filter(|allowance| **allowance > supply) {
            *allowance = supply.clone();
        }
    }
    let thresholds = &mut doc.staking.parameters.thresholds;
    if !thresholds.contains_key(&ThresholdKind::NODE_OBSERVER) {
        let compute = thresholds.get(&ThresholdKind::NODE_COMPUTE).cloned().unwrap_or_default();
        thresholds.insert(ThresholdKind::NODE_OBSERVER, compute);
    }
    clean_registry(&mut doc)?;
    let update = doc.registry.parameters.gas_costs.remove("update_keymanager").unwrap_or_default();
    let km_costs = &mut doc.keymanager.parameters.gas_costs;
    km_costs.insert("update_policy".to_owned(), update);
    for name in ["publish_master_secret", "publish_ephemeral_secret"] {
        km_costs.insert(name.to_owned(), GAS);
    }
    let registry = &mut doc.registry.parameters;
    let sgx = TeeFeaturesSgx {
        pcs: true,
        signed_attestations: true,
        default_max_attestation_age: MAX_ATTESTATION_AGE,
        ..TeeFeaturesSgx::default()
    };
    registry.tee_features = Some(TeeFeatures { sgx, freshness_proofs: true });
    registry.gas_costs.insert("prove_freshness".to_owned(), GAS);
    registry.max_runtime_deployments = MAX_RUNTIME_DEPLOYMENTS;
    doc.governance.parameters.enable_change_parameters_proposal = true;
    if !chain_id.is_empty() {
        chain_id.clone_into(&mut doc.chain_id);
        doc.beacon.base = doc.beacon.base.saturating_add(1);
        doc.extra_data = Some(BTreeMap::from([("quote".to_owned(), Some(Bytes(QUOTE.as_bytes().to_vec())))]));
    }
    doc.roothash.parameters.max_past_roots_stored = MAX_PAST_ROOTS_STORED;
    for runtime in doc.registry.runtimes.iter_mut().chain(&mut doc.registry.suspended_runtimes) {
        if runtime.is_compute() {
            let scheduler = &mut runtime.txn_scheduler;
            scheduler.proposer_timeout = PROPOSER_TIMEOUT.max(scheduler.batch_flush_timeout);
        }
    }
    doc.consensus.parameters.max_block_size = MAX_BLOCK_SIZE;
    Ok(doc)
}

/// What was sent to the burn address is burnt. If somebody has used that account, there is a key to it.
fn burn(doc: &mut Document) -> Result<(), String> {
    let Some(account) = doc.staking.ledger.remove(&Address::burn()) else { return Ok(()) };
    if account.general.nonce != 0 || !account.general.allowances.is_empty() {
        return Err("burn address ledger entry looks used".to_owned());
    }
    let left = doc.staking.total_supply.sub(&account.general.balance);
    doc.staking.total_supply = left.map_err(|error| format!("failed to reduce total supply: {error}"))?;
    Ok(())
}

/// Nodes that could not register today are left out, and entities without an account; what owners have at stake is
/// checked by the network once it runs.
fn clean_registry(doc: &mut Document) -> Result<(), String> {
    let section = &mut doc.registry;
    let runtimes: BTreeSet<_> =
        section.runtimes.iter().chain(&section.suspended_runtimes).map(|runtime| runtime.id).collect();
    if runtimes.len() != section.runtimes.len() + section.suspended_runtimes.len() {
        return Err("duplicate runtime".to_owned());
    }
    let mut owners: BTreeMap<PublicKey, Entity> = BTreeMap::new();
    let mut entities = Vec::new();
    for signed in std::mem::take(&mut section.entities) {
        let entity: Entity = signed
            .open(entity::REGISTER_CONTEXT, None)
            .map_err(|error| format!("unable to open signed entity: {error}"))?;
        if !doc.staking.ledger.contains_key(&Address::of_key(&entity.id)) {
            tracing::warn!(module = MODULE, entity_id = %entity.id, "removing entity: no account in ledger");
            continue;
        }
        owners.insert(entity.id, entity);
        entities.push(signed);
    }
    section.entities = entities;
    section.nodes.retain(|signed| {
        let kept = match signed.open::<Node>(node::REGISTER_CONTEXT, None) {
            Err(error) => Err(error.to_string()),
            Ok(node) => keep(&node, &owners, &runtimes),
        };
        if let Err(reason) = &kept {
            tracing::warn!(module = MODULE, err = reason.as_str(), "removing node");
        }
        kept.is_ok()
    });
    Ok(())
}

fn keep(
    node: &Node,
    owners: &BTreeMap<PublicKey, Entity>,
    runtimes: &BTreeSet<base_prims::Namespace>,
) -> Result<(), String> {
    let owner = owners.get(&node.entity_id).ok_or_else(|| format!("{}: owner is not registered", node.id))?;
    if !owner.has_node(&node.id) {
        return Err(format!("{}: owner does not list it", node.id));
    }
    node.validate_basic(false).map_err(|error| format!("{}: {error}", node.id))?;
    match node.runtimes().iter().find(|runtime| !runtimes.contains(&runtime.id)) {
        Some(unknown) => Err(format!("{}: unknown runtime {}", node.id, unknown.id)),
        None => Ok(()),
    }
}
