//! The genesis document of a local network: real rules with short times, and no debugging options but loopback addresses
//! and, for key managers without enclaves, runtimes for tests.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use base_codec::Bytes;
use base_identity::Identity;
use base_prims::{Address, PublicKey, Quantity, Version};
use serde_json::Value;
use wire_cometbft::Time;
use wire_consensus::beacon::{self, VrfParameters};
use wire_consensus::entity;
use wire_consensus::genesis::{Document, GenesisTime};
use wire_consensus::governance;
use wire_consensus::keymanager;
use wire_consensus::node::{self, ConsensusAddress, ConsensusInfo, NetAddress, P2pInfo, Roles, TlsInfo, VrfInfo};
use wire_consensus::registry::{self, Runtime, RuntimeGovernanceModel};
use wire_consensus::signed::{MultiSigned, Signed};
use wire_consensus::staking::{
    Account, CommissionScheduleRules, Delegation, REQUIRED_THRESHOLDS, SharePool, Slash, SlashReason, ThresholdKind,
};
use wire_consensus::transaction::Costs;

use crate::DevnetError;
use crate::blueprint::Blueprint;
use crate::fixture::is_nothing;
use crate::keys::Owner;
use crate::network::Funded;
use crate::plan::{Node, Plan};

/// Tokens are written with this many decimals, as on the public networks.
const TOKEN_DECIMALS: u8 = 9;
const TOKEN: u64 = 1_000_000_000;
/// What each funded account has.
const ACCOUNT_TOKENS: u64 = 1_000_000;
/// What the entity of the validators has besides its stake.
const ENTITY_TOKENS: u64 = 10_000_000;
/// What the entity of the validators has at stake.
const STAKE_TOKENS: u64 = 1_000_000;
/// What every registration needs at stake.
const THRESHOLD_TOKENS: u64 = 100;
/// Epochs that registrations in the genesis document last; nodes renew theirs in each epoch.
const GENESIS_REGISTRATION_EPOCHS: u64 = 2;

/// A node that is registered from the beginning.
pub(crate) struct Registered<'a> {
    pub(crate) node: &'a Node,
    pub(crate) identity: &'a Identity,
    pub(crate) owner: &'a Owner,
}

/// What a document is made from.
pub(crate) struct Parts<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) blueprint: &'a Blueprint,
    pub(crate) owners: &'a [Owner],
    pub(crate) validators: &'a [Registered<'a>],
    pub(crate) accounts: &'a [Funded],
    pub(crate) runtimes: Vec<Runtime>,
    pub(crate) key_managers: Vec<keymanager::Status>,
}

/// The document of a network.
pub(crate) fn build(parts: Parts<'_>) -> Result<Document, DevnetError> {
    let Parts { plan, blueprint, owners, validators, accounts, runtimes, key_managers } = parts;
    let mut document = Document {
        height: blueprint.initial_height.unwrap_or(1),
        time: GenesisTime(Time::new(plan.genesis_time, 0).map_err(fault)?),
        chain_id: plan.chain_id.clone(),
        ..Document::default()
    };
    parameters(plan, validators.len(), &mut document);
    ledger(owners, accounts, &mut document);
    document.registry.entities = owners.iter().map(sign_entity).collect::<Result<_, _>>()?;
    document.registry.nodes = validators.iter().map(sign_node).collect::<Result<_, _>>()?;
    document.registry.parameters.debug_allow_test_runtimes = runtimes.iter().any(|runtime| runtime.id.is_test());
    document.registry.runtimes = runtimes;
    document.keymanager.statuses = key_managers;
    if blueprint.genesis.is_empty() {
        return Ok(document);
    }
    let mut document = replaced(&document, &blueprint.genesis)?;
    let beacon = &mut document.beacon.parameters;
    if beacon.backend == beacon::BACKEND_INSECURE {
        let parameters = beacon.insecure_parameters.get_or_insert_default();
        if parameters.interval == 0 {
            parameters.interval = plan.epoch_interval;
        }
    }
    document.staking.total_supply = supply(&document);
    Ok(document)
}

/// The document with parts of it replaced.
fn replaced(document: &Document, parts: &[(&'static str, Value)]) -> Result<Document, DevnetError> {
    let mut value: Value = serde_json::from_str(&document.to_canonical_json()).map_err(fault)?;
    for (path, part) in parts {
        let place = path.split('.').try_fold(&mut value, |value, key| value.get_mut(key));
        if let Some(place) = place {
            fill(place, part);
        }
    }
    Document::from_json(&value.to_string()).map_err(fault)
}

/// Puts everything that `over` says into `base`; zeros and what is empty say nothing.
fn fill(base: &mut Value, over: &Value) {
    match (base, over) {
        (_, over) if is_nothing(over) => {}
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over.iter().filter(|(_, value)| !is_nothing(value)) {
                fill(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// All tokens that the document gives to anybody.
fn supply(document: &Document) -> Quantity {
    let staking = &document.staking;
    let mut total = Quantity::default();
    for account in staking.ledger.values() {
        for part in [&account.general.balance, &account.escrow.active.balance, &account.escrow.debonding.balance] {
            total.add_assign(part);
        }
    }
    for part in [&staking.common_pool, &staking.last_block_fees, &staking.governance_deposits] {
        total.add_assign(part);
    }
    total
}

fn sign_entity(owner: &Owner) -> Result<Signed, DevnetError> {
    Signed::sign(&owner.key, entity::REGISTER_CONTEXT, None, &owner.entity).map_err(fault)
}

fn sign_node(Registered { node, identity, owner }: &Registered<'_>) -> Result<MultiSigned, DevnetError> {
    let descriptor = descriptor(owner.entity.id, node, identity);
    let keys = [&identity.node, &identity.p2p, &identity.consensus, &identity.vrf, identity.tls.key()];
    MultiSigned::sign(&keys, node::REGISTER_CONTEXT, None, &descriptor).map_err(fault)
}

fn fault(error: impl std::fmt::Display) -> DevnetError {
    DevnetError::Genesis(error.to_string())
}

fn descriptor(entity_id: PublicKey, node: &Node, identity: &Identity) -> node::Node {
    let at = |port: u16| NetAddress::from(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    node::Node {
        v: node::LATEST_VERSION,
        id: identity.node.public().into(),
        entity_id,
        expiration: GENESIS_REGISTRATION_EPOCHS,
        tls: TlsInfo { pub_key: identity.tls.public().into() },
        p2p: P2pInfo { id: identity.p2p.public().into(), addresses: Some(vec![at(node.p2p_port)]) },
        consensus: ConsensusInfo {
            id: identity.consensus.public().into(),
            addresses: Some(vec![ConsensusAddress {
                id: identity.p2p.public().into(),
                address: at(node.consensus_port),
            }]),
        },
        vrf: VrfInfo { id: identity.vrf.public().into() },
        runtimes: None,
        roles: Roles::VALIDATOR,
        software_version: String::new(),
    }
}

fn costs(methods: &[(&str, u64)]) -> Costs {
    methods.iter().map(|(method, gas)| ((*method).to_owned(), *gas)).collect()
}

fn tokens(count: u64) -> Quantity {
    Quantity::from(u128::from(count) * u128::from(TOKEN))
}

fn parameters(plan: &Plan, validators: usize, document: &mut Document) {
    registry_parameters(&mut document.registry.parameters);
    staking_parameters(&mut document.staking.parameters);
    document.staking.token_symbol = "TEST".to_owned();
    document.staking.token_value_exponent = TOKEN_DECIMALS;

    let roothash = &mut document.roothash.parameters;
    roothash.gas_costs =
        costs(&[("compute_commit", 10_000), ("evidence", 10_000), ("proposer_timeout", 1_000), ("submit_msg", 1_000)]);
    roothash.max_runtime_messages = 256;
    roothash.max_in_runtime_messages = 128;
    roothash.max_evidence_age = 100;
    roothash.max_past_roots_stored = 1_200;

    document.keymanager.parameters.gas_costs =
        costs(&[("publish_ephemeral_secret", 1_000), ("publish_master_secret", 1_000), ("update_policy", 1_000)]);

    let scheduler = &mut document.scheduler.parameters;
    scheduler.min_validators = 1;
    scheduler.max_validators = 100;
    // All validators of a devnet belong to one entity.
    scheduler.max_validators_per_entity = 100;
    scheduler.reward_factor_epoch_election_any = Quantity::default();

    let interval = plan.epoch_interval;
    document.beacon.parameters = beacon::Parameters {
        backend: beacon::BACKEND_VRF.to_owned(),
        vrf_parameters: Some(VrfParameters {
            alpha_high_quality_threshold: u64::try_from(validators).unwrap_or(1).clamp(1, 3),
            interval,
            proof_submission_delay: interval / 2,
            gas_costs: costs(&[("vrf_prove", 1_000)]),
        }),
        ..beacon::Parameters::default()
    };

    document.governance.parameters = governance::Parameters {
        gas_costs: costs(&[("cast_vote", 1_000), ("submit_proposal", 1_000)]),
        min_proposal_deposit: tokens(100),
        voting_period: 4,
        stake_threshold: 68,
        upgrade_min_epoch_diff: 8,
        upgrade_cancel_min_epoch_diff: 6,
        enable_change_parameters_proposal: true,
        allow_vote_without_entity: true,
        allow_proposal_metadata: true,
    };

    document.vault = Some(wire_consensus::vault::Genesis::default());
    if let Some(vault) = &mut document.vault {
        vault.parameters.enabled = true;
        vault.parameters.max_authority_addresses = 32;
        vault.parameters.gas_costs =
            costs(&[("create", 10_000), ("authorize_action", 5_000), ("cancel_action", 5_000)]);
    }

    document.consensus.backend = wire_consensus::consensus::BACKEND.to_owned();
    let consensus = &mut document.consensus.parameters;
    consensus.timeout_commit = i64::try_from(plan.block_time.as_nanos()).unwrap_or(i64::MAX);
    consensus.max_tx_size = 131_072;
    consensus.max_block_size = 4 << 20;
    consensus.max_evidence_size = 1 << 20;
    consensus.gas_costs = costs(&[("tx_byte", 1)]);
    consensus.feature_version = Some(Version { major: 100, minor: 0, patch: 0 });
}

fn registry_parameters(registry: &mut registry::Parameters) {
    registry.debug_allow_unroutable_addresses = true;
    registry.debug_deploy_immediately = true;
    registry.max_node_expiration = 2;
    registry.enable_runtime_governance_models =
        BTreeMap::from([(RuntimeGovernanceModel::ENTITY, true), (RuntimeGovernanceModel::RUNTIME, true)]);
    registry.gas_costs = costs(&[
        ("deregister_entity", 1_000),
        ("prove_freshness", 1_000),
        ("register_entity", 1_000),
        ("register_node", 1_000),
        ("register_runtime", 1_000),
        ("runtime_epoch_maintenance", 1_000),
        ("unfreeze_node", 1_000),
    ]);
    registry.max_runtime_deployments = 5;
}

fn staking_parameters(staking: &mut wire_consensus::staking::Parameters) {
    let churp = std::iter::once(ThresholdKind::KEY_MANAGER_CHURP);
    staking.thresholds = REQUIRED_THRESHOLDS.into_iter().chain(churp).map(|k| (k, tokens(THRESHOLD_TOKENS))).collect();
    staking.debonding_interval = 2;
    staking.commission_schedule_rules = CommissionScheduleRules {
        rate_change_interval: 1,
        rate_bound_lead: 4,
        max_rate_steps: 10,
        max_bound_steps: 10,
        ..CommissionScheduleRules::default()
    };
    staking.slashing = BTreeMap::from([
        (SlashReason::CONSENSUS_EQUIVOCATION, Slash { amount: tokens(100), freeze_interval: u64::MAX }),
        (SlashReason::CONSENSUS_LIGHT_CLIENT_ATTACK, Slash { amount: tokens(100), freeze_interval: u64::MAX }),
    ]);
    staking.gas_costs = costs(&[
        ("add_escrow", 1_000),
        ("allow", 1_000),
        ("amend_commission_schedule", 1_000),
        ("burn", 1_000),
        ("reclaim_escrow", 1_000),
        ("transfer", 1_000),
        ("withdraw", 1_000),
    ]);
    staking.min_delegation_amount = tokens(1);
    staking.max_allowances = 16;
    staking.allow_escrow_messages = true;
    staking.fee_split_weight_propose = Quantity::from(2_u64);
    staking.fee_split_weight_vote = Quantity::from(1_u64);
    staking.fee_split_weight_next_propose = Quantity::from(1_u64);
}

fn ledger(owners: &[Owner], accounts: &[Funded], document: &mut Document) {
    let staking = &mut document.staking;
    for account in accounts {
        let mut entry = Account::default();
        entry.general.balance = tokens(ACCOUNT_TOKENS);
        staking.ledger.insert(account.address, entry);
    }
    for owner in owners {
        let entity = Address::of_key(&owner.entity.id);
        let stake = tokens(STAKE_TOKENS);
        let mut entry = Account::default();
        entry.general.balance = tokens(ENTITY_TOKENS);
        entry.escrow.active = SharePool { balance: stake.clone(), total_shares: stake.clone() };
        staking.ledger.insert(entity, entry);
        staking.delegations.insert(entity, BTreeMap::from([(entity, Delegation { shares: stake })]));
    }
    document.staking.total_supply = supply(document);
    let note = b"local network".to_vec();
    document.extra_data = Some(BTreeMap::from([("purpose".to_owned(), Some(Bytes(note)))]));
}
