//! `oasis network status` and `oasis network trust`: how a node stands, and from where another may sync.

use base_codec::json::{Map, ToJson as _, Value, to_string_pretty, value_to_string_pretty};
use base_codec::{Codec, Raw, cbor};
use base_grpc::Cbor;
use base_prims::{Hash, Namespace, Version};
use node_rpc::status::Status;
use wire_cometbft::Time;
use wire_consensus::registry::Runtime;
use wire_consensus::{beacon, consensus, staking};

use super::Selection;
use crate::args::{Format, NetworkFlag};
use crate::config::{self, Store};
use crate::error::{CliError, Result};
use crate::out::outln;
use crate::remote::Remote;

/// What the text shows of a runtime's status.
#[derive(Debug, Default, Codec)]
#[codec(cbor_only)]
struct RuntimeStatus {
    #[codec(omitempty)]
    descriptor: Option<Runtime>,
    latest_round: u64,
    latest_time: i64,
    #[codec(omitempty)]
    committee: Option<Committee>,
    #[codec(omitempty)]
    storage: Option<Storage>,
}

#[derive(Debug, Default, Codec)]
#[codec(cbor_only)]
struct Committee {
    status: Raw,
    #[codec(omitempty)]
    active_version: Option<Version>,
    peers: Option<Vec<String>>,
}

#[derive(Debug, Default, Codec)]
#[codec(cbor_only)]
struct Storage {
    status: String,
    last_finalized_round: u64,
}

/// States of a worker's committee part, by number. Source: `go/worker/common/api`.
const COMMITTEE_STATES: [&str; 8] = [
    "ready",
    "waiting for consensus sync",
    "waiting for runtime registry descriptor",
    "waiting for available keymanager",
    "waiting for hosted runtime provision",
    "waiting for history reindex",
    "waiting for workers to initialize",
    "runtime suspended",
];

fn time(time: Time) -> String {
    time.to_string().trim_end_matches('Z').replacen('T', " ", 1) + " +0000 UTC"
}

fn seconds(seconds: i64) -> String {
    Time::new(seconds, 0).map_or_else(|_| seconds.to_string(), time)
}

pub(super) fn status(store: &Store, network: &NetworkFlag, format: Format) -> Result<()> {
    let selection = Selection::network(store, network)?;
    let remote = Remote::connect(selection.network_name, selection.network)?;
    let status: Status = remote.call("NodeController", "GetStatus", &())?;
    if format == Format::Json {
        outln!("{}", to_string_pretty(&status));
        return Ok(());
    }
    outln!("=== NETWORK STATUS ===");
    outln!("Network:      {}", selection.pretty_network());
    outln!("Node's ID:    {}", status.identity.node);
    outln!("Core version: {}\n", status.software_version);
    outln!("==== Consensus ====");
    if let Some(consensus) = &status.consensus {
        let known = config::builtin::name_of(&consensus.chain_context).unwrap_or("unknown");
        outln!("Status:               {}", consensus.status);
        outln!("Version:              {}", consensus.version);
        outln!("Chain context:        {known} ({})", consensus.chain_context);
        outln!("Latest height:        {} ({})", consensus.latest_height, time(consensus.latest_time.0));
        outln!("Latest block hash:    {}", consensus.latest_hash);
        outln!("Latest epoch:         {}", consensus.latest_epoch);
        outln!("Is validator:         {}", consensus.is_validator);
    }
    if let Some(registration) = &status.registration {
        outln!("Registration:         {}", registration.last_attempt_successful);
        if !registration.last_registration.0.is_zero() {
            outln!("  Last:               {}", time(registration.last_registration.0));
        }
        if !registration.last_attempt_successful && !registration.last_attempt.0.is_zero() {
            outln!("  Last attempt:       {}", time(registration.last_attempt.0));
        }
        if !registration.last_attempt_successful && !registration.last_attempt_error_message.is_empty() {
            outln!("  Last attempt error: {}", registration.last_attempt_error_message);
        }
        if let Some(descriptor) = &registration.descriptor {
            outln!("  Entity ID:          {}", descriptor.entity_id);
        }
    }
    paratimes(store, &status)
}

fn paratimes(store: &Store, status: &Status) -> Result<()> {
    let name = |id: &Namespace| {
        let id = id.to_string();
        let all = store.config.networks.all.values().flat_map(|network| &network.paratimes.all);
        all.into_iter().find(|(_, paratime)| paratime.id == id).map_or("unknown", |(name, _)| name).to_owned()
    };
    if !status.runtimes.is_empty() {
        outln!("\n==== ParaTimes ====");
    }
    let mut sorted: Vec<_> = status.runtimes.iter().map(|(id, raw)| (name(id), id, raw)).collect();
    sorted.sort_by_key(|(name, id, _)| format!("{name}{id}"));
    for (name, id, raw) in sorted {
        let runtime: RuntimeStatus = cbor::from_slice_relaxed(raw)
            .map_err(|error| CliError::new(format!("malformed status of ParaTime {id}: {error}")))?;
        outln!("{name} ({id}):");
        if let Some(descriptor) = &runtime.descriptor {
            outln!("  Kind:                 {}", descriptor.kind);
            outln!("  Is confidential:      {}", descriptor.tee_hardware.0 > 0);
        }
        if let Some(committee) = &runtime.committee {
            let state = match cbor::from_slice::<u8>(&committee.status) {
                Ok(number) => COMMITTEE_STATES.get(usize::from(number)).copied().unwrap_or("[malformed]").to_owned(),
                Err(_) => cbor::from_slice::<String>(&committee.status).unwrap_or_default(),
            };
            outln!("  Status:               {state}");
        }
        outln!("  Latest round:         {} ({})", runtime.latest_round, seconds(runtime.latest_time));
        if let Some(storage) = &runtime.storage {
            outln!("  Last finalized round: {}", storage.last_finalized_round);
            outln!("  Storage status:       {}", storage.status);
        }
        if let Some(version) = runtime.committee.as_ref().and_then(|committee| committee.active_version) {
            outln!("  Active version:       {version}");
        }
        if let Some(descriptor) = &runtime.descriptor {
            let versions: Vec<_> = descriptor.deployments().map(|deployment| deployment.version.to_string()).collect();
            outln!("  Available version(s): {}", versions.join(", "));
        }
        if let Some(committee) = &runtime.committee {
            outln!("  Number of peers:      {}", committee.peers.as_ref().map_or(0, Vec::len));
        }
    }
    Ok(())
}

/// A block as clients see it, as far as it matters here.
#[derive(Debug, Default, Codec)]
#[codec(cbor_only)]
struct Block {
    height: i64,
    hash: Hash,
    time: i64,
}

/// The answer of `Consensus.GetParameters`, as far as it matters here.
#[derive(Debug, Default, Codec)]
#[codec(cbor_only)]
struct CoreParameters {
    parameters: consensus::Parameters,
}

/// Blocks over which the time between two is averaged.
const AVERAGED: i64 = 1000;
/// More time than making a checkpoint takes, in seconds.
const CHECKPOINT_TIME: i64 = 36 * 3600;
/// More time than syncing and checking takes, in seconds.
const VERIFICATION_TIME: i64 = 24 * 3600;
const NANOS: i64 = 1_000_000_000;

/// Height and hash from where a new node may sync, and for how long they can be trusted.
pub(super) fn trust(store: &Store, network: &NetworkFlag, format: Format) -> Result<()> {
    let selection = Selection::network(store, network)?;
    let remote = Remote::connect(selection.network_name, selection.network)?;
    let block = |height: i64| remote.call::<_, Block>("Consensus", "GetBlock", &Cbor(height));
    let failed = |what: String| CliError::new(format!("failed to calculate consensus state sync trust root: {what}"));
    let latest = block(0)?;
    let core: CoreParameters = remote.call("Consensus", "GetParameters", &Cbor(latest.height))?;
    let interval = i64::try_from(core.parameters.state_checkpoint_interval).unwrap_or(i64::MAX);
    if interval > latest.height {
        return Err(failed(format!(
            "checkpoint interval exceeds latest height (interval: {interval} height: {}); try again later",
            latest.height
        )));
    }
    if latest.height <= AVERAGED {
        return Err(failed(format!(
            "the chain has {} blocks, and the time between blocks is averaged over {AVERAGED}; try again later",
            latest.height
        )));
    }
    let before = block(latest.height - AVERAGED)?;
    // Times are in whole seconds, their difference over a thousand blocks is exact to the millisecond.
    let block_nanos = (latest.time - before.time).saturating_mul(NANOS) / AVERAGED;
    if block_nanos <= 0 {
        return Err(failed("blocks follow each other too fast".to_owned()));
    }
    let staking: staking::Parameters = remote.call("Staking", "ConsensusParameters", &Cbor(latest.height))?;
    let beacon: beacon::Parameters = remote.call("Beacon", "ConsensusParameters", &Cbor(latest.height))?;
    let debonding = i64::try_from(staking.debonding_interval).unwrap_or(i64::MAX).saturating_mul(beacon.interval());
    let debonding = debonding.saturating_mul(block_nanos) / NANOS;
    let period = debonding / 4 * 3 + debonding % 4 * 3 / 4;
    let height = latest.height - interval - CHECKPOINT_TIME.saturating_mul(NANOS) / block_nanos;
    let candidate =
        block(height).map_err(|error| failed(format!("failed to get candidate trust (height: {height}): {error}")))?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let until = candidate.time.saturating_add(period).saturating_add(VERIFICATION_TIME);
    if until < i64::try_from(now).unwrap_or(i64::MAX) {
        return Err(failed("impossible to calculate safe trust with current parameters".to_owned()));
    }
    // Whole hours, as the configuration of nodes writes them.
    let period = format!("{}h0m0s", period.saturating_add(1800) / 3600);
    if format == Format::Json {
        let mut out = Map::new();
        out.insert("period".to_owned(), Value::String(period));
        out.insert("height".to_owned(), candidate.height.to_json());
        out.insert("hash".to_owned(), candidate.hash.to_json());
        outln!("{}", value_to_string_pretty(&Value::Object(out)));
        return Ok(());
    }
    outln!("Trust period:  {period}");
    outln!("Trust height:  {}", candidate.height);
    outln!("Trust hash:  {}\n", candidate.hash);
    eprintln!("WARNING: Cannot be trusted unless the CLI is connected to the RPC endpoint you control.");
    Ok(())
}
