//! `oasis-node genesis init`: a genesis document from parts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use base_codec::json;
use base_prims::{Address, Epoch, Namespace, PublicKey, Quantity, Version};
use node_config::{ByteSize, GoDuration};
use wire_consensus::entity::REGISTER_CONTEXT;
use wire_consensus::genesis::{Document, GenesisTime};
use wire_consensus::node::MultiSignedNode;
use wire_consensus::registry::{Runtime, RuntimeGovernanceModel};
use wire_consensus::scheduler::ForceElectCommitteeRole;
use wire_consensus::signed::Signed;
use wire_consensus::staking::{Account, Delegation, EscrowAccount, GeneralAccount, SharePool, ThresholdKind};
use wire_consensus::tee::{TeeFeatures, TeeFeaturesSgx};
use wire_consensus::transaction::Costs;
use wire_consensus::{Time, beacon, consensus, governance, keymanager, registry, roothash, scheduler, staking};

use super::MODULE;
use crate::args::{Session, test_entity};
use crate::tool::{Done, FILE_MODE, Failure, OrFail as _, read_json, write_file};

/// Gas of every operation in a new network, in the order of the operations' sections.
const GAS: u64 = 1000;
/// Tokens of the test entity, in its account and as much again in escrow.
const TEST_ENTITY_TOKENS: u64 = 1_000_000_000_000_000;

/// Defines options that are on or off: `--name`, `--name=true`, `--name=false`.
macro_rules! options {
    (values { $($(#[$meta:meta])* $field:ident: $type:ty = $name:literal, $default:literal;)* }
        switches { $($(#[$smeta:meta])* $switch:ident = $sname:literal, $sdefault:literal;)* }) => {
        /// One option for each parameter of a network.
        #[derive(clap::Args)]
        pub(crate) struct InitArgs {
            $($(#[$meta])* #[arg(long = $name, default_value = $default)] $field: $type,)*
            $($(#[$smeta])* #[arg(long = $sname, default_value = $sdefault, num_args = 0..=1, require_equals = true,
                default_missing_value = "true", action = clap::ArgAction::Set)] $switch: bool,)*
            /// Path of the genesis document.
            #[arg(long = "genesis.file", short = 'g', default_value = "genesis.json")]
            file: PathBuf,
            /// Path of an entity registration file.
            #[arg(long = "entity", value_delimiter = ',')]
            entities: Vec<PathBuf>,
            /// Path of a node registration file.
            #[arg(long = "node", value_delimiter = ',')]
            nodes: Vec<PathBuf>,
            /// Path of a runtime registration file.
            #[arg(long = "runtime", value_delimiter = ',')]
            runtimes: Vec<PathBuf>,
            /// Path of a file with runtime states.
            #[arg(long = "roothash", value_delimiter = ',')]
            roothash: Vec<PathBuf>,
            /// Path of a key manager status file.
            #[arg(long = "keymanager", value_delimiter = ',')]
            keymanagers: Vec<PathBuf>,
            /// Path of a staking section.
            #[arg(long = "staking")]
            staking: Option<PathBuf>,
            /// Keys that may never sign.
            #[arg(long = "consensus.blacklist_public_key", value_delimiter = ',')]
            blacklist: Vec<PublicKey>,
            /// Set of enabled runtime governance models.
            #[arg(long = "registry.enable_runtime_governance_models", value_delimiter = ',', default_value = "entity")]
            governance_models: Vec<String>,
            /// Words beside options mean nothing, as in the reference.
            #[arg(hide = true)]
            _rest: Vec<String>,
        }
    };
}

/// A span of time, with Go's units.
fn duration(text: &str) -> Result<i64, String> {
    let span = GoDuration::from_str(text).map_err(|()| format!("{text:?} is no duration such as 1s or 250ms"))?;
    i64::try_from(span.0.as_nanos()).map_err(|_| format!("{text:?} is too long"))
}

/// A number of bytes, with its unit.
fn size(text: &str) -> Result<u64, String> {
    ByteSize::from_str(text).map(|size| size.bytes()).map_err(|()| format!("{text:?} is no size such as 128kb or 4mb"))
}

options! {
    values {
    /// Genesis chain id.
    chain_id: String = "chain.id", "";
    /// Initial block height.
    height: i64 = "initial_height", "1";
    /// Maximum node registration lifespan in epochs.
    max_node_expiration: Epoch = "registry.max_node_expiration", "5";
    /// Default age of attestations (signed attestations must be enabled).
    max_attestation_age: u64 = "registry.tee_features.sgx.default_max_attestation_age", "1200";
    /// Minimum number of validators.
    min_validators: i64 = "scheduler.min_validators", "1";
    /// Maximum number of validators.
    max_validators: i64 = "scheduler.max_validators", "100";
    /// Maximum number of validators per entity.
    max_validators_per_entity: i64 = "scheduler.max_validators_per_entity", "1";
    /// Force elect the (runtime, node, role) tuples (UNSAFE).
    #[arg(hide = true)]
    force_elect: String = "scheduler.debug.force_elect", "";
    /// Proposal deposit for governance proposals.
    min_proposal_deposit: u64 = "governance.min_proposal_deposit", "100";
    /// Required stake threshold for governance proposals to be accepted.
    stake_threshold: u8 = "governance.stake_threshold", "90";
    /// Minimum number of epochs in advance for canceling proposals.
    upgrade_cancel_min_epoch_diff: Epoch = "governance.upgrade_cancel_min_epoch_diff", "300";
    /// Minimum number of epochs the upgrade needs to be scheduled in advance.
    upgrade_min_epoch_diff: Epoch = "governance.upgrade_min_epoch_diff", "300";
    /// Voting period (in epochs).
    voting_period: Epoch = "governance.voting_period", "100";
    /// Beacon backend.
    beacon_backend: String = "beacon.backend", "insecure";
    /// Epoch interval (in blocks) of the insecure backend.
    insecure_interval: i64 = "beacon.insecure.cometbft.interval", "86400";
    /// Number of proofs required to allow runtime elections.
    vrf_alpha_threshold: u64 = "beacon.vrf.alpha_threshold", "1";
    /// Epoch interval (in blocks) of the VRF backend.
    vrf_interval: i64 = "beacon.vrf.interval", "86300";
    /// Proof submission delay (in blocks).
    vrf_delay: i64 = "beacon.vrf.submission_delay", "43150";
    /// Maximum number of runtime messages submitted in a round.
    max_runtime_messages: u32 = "roothash.max_runtime_messages", "128";
    /// Maximum number of queued incoming runtime messages.
    max_in_runtime_messages: u32 = "roothash.max_in_runtime_messages", "128";
    /// Maximum number of past runtime state and I/O roots stored in consensus state.
    max_past_roots_stored: u64 = "roothash.max_past_roots_stored", "1200";
    /// Token's ticker symbol.
    token_symbol: String = "staking.token_symbol", "";
    /// Token value's base-10 exponent.
    token_value_exponent: u8 = "staking.token_value_exponent", "0";
    /// Commit timeout.
    #[arg(value_parser = duration)]
    timeout_commit: i64 = "consensus.cometbft.timeout_commit", "1s";
    /// Empty block interval.
    #[arg(value_parser = duration)]
    empty_block_interval: i64 = "consensus.cometbft.empty_block_interval", "0s";
    /// Maximum transaction size.
    #[arg(value_parser = size)]
    max_tx_size: u64 = "consensus.cometbft.max_tx_size", "128kb";
    /// Maximum block size.
    #[arg(value_parser = size)]
    max_block_size: u64 = "consensus.cometbft.max_block_size", "4mb";
    /// Maximum gas used per block.
    max_block_gas: u64 = "consensus.cometbft.max_block_gas", "0";
    /// Maximum evidence size.
    #[arg(value_parser = size)]
    max_evidence_size: u64 = "consensus.cometbft.max_evidence_size", "1mb";
    /// Consensus state checkpoint interval (in blocks).
    checkpoint_interval: u64 = "consensus.state_checkpoint.interval", "10000";
    /// Number of kept consensus state checkpoints.
    checkpoint_num_kept: u64 = "consensus.state_checkpoint.num_kept", "2";
    /// Consensus state checkpoint chunk size.
    #[arg(value_parser = size)]
    checkpoint_chunk_size: u64 = "consensus.state_checkpoint.chunk_size", "8mb";
    /// Gas of each transaction byte.
    gas_tx_byte: u64 = "consensus.gas_costs.tx_byte", "1";
    /// Newest rules in force.
    feature_version: String = "consensus.feature_version", "";
    /// Consensus backend.
    backend: String = "consensus.backend", "tendermint";
    }
    switches {
    /// Disable non-genesis runtime registration.
    disable_runtime_registration = "registry.disable_runtime_registration", "false";
    /// Allow unroutable addresses (UNSAFE).
    #[arg(hide = true)]
    allow_unroutable = "registry.debug.allow_unroutable_addresses", "false";
    /// Enable test runtime registration.
    #[arg(hide = true)]
    allow_test_runtimes = "registry.debug.allow_test_runtimes", "false";
    /// Enable PCS support for SGX TEEs.
    pcs = "registry.tee_features.sgx.pcs", "true";
    /// Enable SGX RAK-signed attestations.
    signed_attestations = "registry.tee_features.sgx.signed_attestations", "true";
    /// Enable freshness proofs.
    freshness_proofs = "registry.tee_features.freshness_proofs", "true";
    /// Bypass all stake checks of the scheduler (UNSAFE).
    #[arg(hide = true)]
    scheduler_bypass_stake = "scheduler.debug.bypass_stake", "false";
    /// Bypass the alpha strength check for VRF elections (UNSAFE).
    #[arg(hide = true)]
    allow_weak_alpha = "scheduler.debug.allow_weak_alpha", "false";
    /// Enable change parameters proposals.
    change_parameters = "governance.enable_change_parameters_proposal", "true";
    /// Epochs are moved by transactions (UNSAFE).
    #[arg(hide = true)]
    mock_beacon = "beacon.debug.mock_backend", "false";
    /// Do not suspend runtimes (UNSAFE).
    #[arg(hide = true)]
    do_not_suspend = "roothash.debug.do_not_suspend_runtimes", "false";
    /// Bypass all stake checks of the root hash service (UNSAFE).
    #[arg(hide = true)]
    roothash_bypass_stake = "roothash.debug.bypass_stake", "false";
    /// Bypass all stake checks (UNSAFE).
    #[arg(hide = true)]
    staking_bypass_stake = "staking.debug.bypass_stake", "false";
    /// Skip the commit timeout.
    skip_timeout_commit = "consensus.cometbft.skip_timeout_commit", "false";
    }
}

fn costs(operations: &[&str]) -> Costs {
    operations.iter().map(|name| ((*name).to_owned(), GAS)).collect()
}

pub(super) fn run(args: &InitArgs, session: &Session) -> Done {
    let doc = document(args, session)?;
    let checked = node_app::sanity_check(&doc, &session.options.local());
    checked.or_fail(MODULE, "genesis document failed sanity check")?;
    let saved = write_file(&args.file, doc.to_canonical_json().as_bytes(), FILE_MODE);
    saved.or_fail(MODULE, "failed to write genesis file")
}

fn document(args: &InitArgs, session: &Session) -> Result<Document, Failure> {
    if args.chain_id.is_empty() {
        return Err(Failure::new(MODULE, "genesis chain id missing"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let time = Time::new(seconds, now.subsec_nanos()).or_fail(MODULE, "failed to tell the time")?;
    Ok(Document {
        height: args.height,
        time: GenesisTime(time),
        chain_id: args.chain_id.clone(),
        registry: registry(args, session).or_fail(MODULE, "failed to parse registry genesis state")?,
        roothash: roothash(args).or_fail(MODULE, "failed to parse roothash genesis state")?,
        keymanager: keymanager(args).or_fail(MODULE, "failed to parse key manager genesis state")?,
        staking: staking(args, session).or_fail(MODULE, "failed to append staking genesis state")?,
        scheduler: scheduler(args).or_fail(MODULE, "malformed forced scheduler elect configuration")?,
        beacon: beacon(args).or_fail(MODULE, "unsupported beacon backend")?,
        governance: governance(args),
        consensus: consensus(args).or_fail(MODULE, "failed to parse consensus feature version")?,
        ..Document::default()
    })
}

fn registry(args: &InitArgs, session: &Session) -> Result<registry::Genesis, String> {
    let mut models = BTreeMap::new();
    for name in &args.governance_models {
        let model = RuntimeGovernanceModel::from_name(&name.to_lowercase())
            .filter(|model| *model != RuntimeGovernanceModel::INVALID)
            .ok_or_else(|| format!("invalid runtime governance model: '{name}'"))?;
        models.insert(model, true);
    }
    let sgx = TeeFeaturesSgx {
        pcs: args.pcs,
        signed_attestations: args.signed_attestations,
        default_max_attestation_age: if args.signed_attestations { args.max_attestation_age } else { 0 },
        ..TeeFeaturesSgx::default()
    };
    let any_feature = args.pcs || args.signed_attestations || args.freshness_proofs;
    let parameters = registry::Parameters {
        debug_allow_unroutable_addresses: args.allow_unroutable,
        debug_allow_test_runtimes: args.allow_test_runtimes,
        gas_costs: costs(&[
            "register_entity",
            "deregister_entity",
            "register_node",
            "unfreeze_node",
            "register_runtime",
            "runtime_epoch_maintenance",
            "prove_freshness",
        ]),
        max_node_expiration: args.max_node_expiration,
        disable_runtime_registration: args.disable_runtime_registration,
        enable_runtime_governance_models: models,
        tee_features: any_feature.then_some(TeeFeatures { sgx, freshness_proofs: args.freshness_proofs }),
        ..registry::Parameters::default()
    };
    let mut section = registry::Genesis { parameters, ..registry::Genesis::default() };
    for path in &args.entities {
        let signed: Signed = read_json(path)?;
        signed.verify(REGISTER_CONTEXT, None).map_err(|error| format!("{}: {error}", path.display()))?;
        if section.entities.iter().any(|other| other.signature.public_key == signed.signature.public_key) {
            return Err(format!("{}: genesis: duplicate entity registration", path.display()));
        }
        section.entities.push(signed);
    }
    if session.is_test_entity() {
        let (entity, key) = test_entity();
        let signed = Signed::sign(&key, REGISTER_CONTEXT, None, &entity).map_err(|error| error.to_string())?;
        section.entities.push(signed);
    }
    for path in &args.runtimes {
        section.runtimes.push(read_json::<Runtime>(path)?);
    }
    for path in &args.nodes {
        section.nodes.push(read_json::<MultiSignedNode>(path)?);
    }
    Ok(section)
}

fn roothash(args: &InitArgs) -> Result<roothash::Genesis, String> {
    let mut section = roothash::Genesis {
        parameters: roothash::Parameters {
            debug_do_not_suspend_runtimes: args.do_not_suspend,
            debug_bypass_stake: args.roothash_bypass_stake,
            max_runtime_messages: args.max_runtime_messages,
            max_in_runtime_messages: args.max_in_runtime_messages,
            max_past_roots_stored: args.max_past_roots_stored,
            gas_costs: costs(&["compute_commit", "proposer_timeout", "evidence", "submit_msg"]),
            ..roothash::Parameters::default()
        },
        ..roothash::Genesis::default()
    };
    for path in &args.roothash {
        let states: BTreeMap<Namespace, roothash::GenesisRuntimeState> = read_json(path)?;
        for (id, state) in states {
            if section.runtime_states.insert(id, state).is_some() {
                return Err(format!("{}: duplicate genesis roothash runtime states of {id}", path.display()));
            }
        }
    }
    Ok(section)
}

fn keymanager(args: &InitArgs) -> Result<keymanager::Genesis, String> {
    let statuses: Result<Vec<_>, String> = args.keymanagers.iter().map(|path| read_json(path)).collect();
    let gas_costs = costs(&["update_policy", "publish_master_secret", "publish_ephemeral_secret"]);
    Ok(keymanager::Genesis {
        parameters: keymanager::Parameters { gas_costs },
        statuses: statuses?,
        ..keymanager::Genesis::default()
    })
}

fn staking(args: &InitArgs, session: &Session) -> Result<staking::Genesis, String> {
    let mut section: staking::Genesis = match &args.staking {
        Some(path) if !path.as_os_str().is_empty() => read_json(path)?,
        _ => staking::Genesis::default(),
    };
    let parameters = &mut section.parameters;
    // The shortest interval that is allowed, unless the file says otherwise.
    parameters.debonding_interval = parameters.debonding_interval.max(1);
    if parameters.fee_split_weight_vote.is_zero() {
        parameters.fee_split_weight_vote = Quantity::from(1u64);
    }
    if parameters.thresholds.is_empty() {
        parameters.thresholds = ThresholdKind::KNOWN.iter().map(|kind| (*kind, Quantity::ZERO)).collect();
    }
    parameters.debug_bypass_stake = args.staking_bypass_stake;
    if !args.token_symbol.is_empty() {
        section.token_symbol.clone_from(&args.token_symbol);
    }
    if args.token_value_exponent != 0 {
        section.token_value_exponent = args.token_value_exponent;
    }
    if session.is_test_entity() {
        add_test_entity(&mut section)?;
    }
    Ok(section)
}

fn add_test_entity(section: &mut staking::Genesis) -> Result<(), String> {
    let address = Address::of_key(&test_entity().0.id);
    let tokens = Quantity::from(TEST_ENTITY_TOKENS);
    let account = Account {
        general: GeneralAccount { balance: tokens.clone(), ..GeneralAccount::default() },
        escrow: EscrowAccount {
            active: SharePool { balance: tokens.clone(), total_shares: Quantity::from(1u64) },
            ..EscrowAccount::default()
        },
    };
    if section.ledger.insert(address, account).is_some() {
        return Err("test entity already in ledger".to_owned());
    }
    let own = section.delegations.entry(address).or_default();
    if own.insert(address, Delegation { shares: Quantity::from(1u64) }).is_some() {
        return Err("test entity already has a self-delegation".to_owned());
    }
    section.total_supply = section.total_supply.add(&tokens).add(&tokens);
    Ok(())
}

fn scheduler(args: &InitArgs) -> Result<scheduler::Genesis, String> {
    let debug_force_elect: BTreeMap<Namespace, BTreeMap<PublicKey, ForceElectCommitteeRole>> =
        match args.force_elect.as_str() {
            "" => BTreeMap::new(),
            text => json::from_str(text).map_err(|error| error.to_string())?,
        };
    let parameters = scheduler::Parameters {
        min_validators: args.min_validators,
        max_validators: args.max_validators,
        max_validators_per_entity: args.max_validators_per_entity,
        debug_bypass_stake: args.scheduler_bypass_stake,
        debug_allow_weak_alpha: args.allow_weak_alpha,
        debug_force_elect,
        ..scheduler::Parameters::default()
    };
    Ok(scheduler::Genesis { parameters })
}

fn beacon(args: &InitArgs) -> Result<beacon::Genesis, String> {
    let mut parameters = beacon::Parameters {
        backend: args.beacon_backend.clone(),
        debug_mock_backend: args.mock_beacon,
        ..beacon::Parameters::default()
    };
    match args.beacon_backend.as_str() {
        beacon::BACKEND_INSECURE => {
            parameters.insecure_parameters = Some(beacon::InsecureParameters { interval: args.insecure_interval });
        }
        beacon::BACKEND_VRF => {
            parameters.vrf_parameters = Some(beacon::VrfParameters {
                alpha_high_quality_threshold: args.vrf_alpha_threshold,
                interval: args.vrf_interval,
                proof_submission_delay: args.vrf_delay,
                gas_costs: costs(&["vrf_prove"]),
            });
        }
        other => return Err(format!("{other:?} is neither `insecure` nor `vrf`")),
    }
    Ok(beacon::Genesis { parameters, ..beacon::Genesis::default() })
}

fn governance(args: &InitArgs) -> governance::Genesis {
    let parameters = governance::Parameters {
        gas_costs: costs(&[governance::GAS_OP_SUBMIT_PROPOSAL, governance::GAS_OP_CAST_VOTE]),
        min_proposal_deposit: args.min_proposal_deposit.into(),
        stake_threshold: args.stake_threshold,
        upgrade_cancel_min_epoch_diff: args.upgrade_cancel_min_epoch_diff,
        upgrade_min_epoch_diff: args.upgrade_min_epoch_diff,
        voting_period: args.voting_period,
        enable_change_parameters_proposal: args.change_parameters,
        ..governance::Parameters::default()
    };
    governance::Genesis { parameters, ..governance::Genesis::default() }
}

/// A version of one to three parts.
fn version(text: &str) -> Result<Version, String> {
    let parts: Result<Vec<u16>, _> = text.split('.').map(str::parse).collect();
    match parts.as_deref() {
        Ok([major]) => Ok(Version::new(*major, 0, 0)),
        Ok([major, minor]) => Ok(Version::new(*major, *minor, 0)),
        Ok([major, minor, patch]) => Ok(Version::new(*major, *minor, *patch)),
        _ => Err(format!("malformed version {text:?}: expected MAJOR.MINOR.PATCH")),
    }
}

fn consensus(args: &InitArgs) -> Result<consensus::Genesis, String> {
    let feature_version = match args.feature_version.as_str() {
        "" => None,
        text => Some(version(text)?),
    };
    let parameters = consensus::Parameters {
        timeout_commit: args.timeout_commit,
        skip_timeout_commit: args.skip_timeout_commit,
        empty_block_interval: args.empty_block_interval,
        max_tx_size: args.max_tx_size,
        max_block_size: args.max_block_size,
        max_block_gas: args.max_block_gas,
        max_evidence_size: args.max_evidence_size,
        state_checkpoint_interval: args.checkpoint_interval,
        state_checkpoint_num_kept: args.checkpoint_num_kept,
        state_checkpoint_chunk_size: args.checkpoint_chunk_size,
        gas_costs: [("tx_byte".to_owned(), args.gas_tx_byte)].into_iter().collect(),
        public_key_blacklist: args.blacklist.clone(),
        feature_version,
        ..consensus::Parameters::default()
    };
    Ok(consensus::Genesis { backend: args.backend.clone(), parameters })
}
