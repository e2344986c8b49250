//! Random transactions and queries for tests of networks, sent to one node.
//!
//! Layer: L4. Reference counterpart: `go/oasis-node/cmd/debug/txsource`.
//!
//! It knows no node from within: everything goes over a node's socket, and what a workload expects of the network it
//! computes by itself, so that an answer that differs ends the workload with an error.
//!
//! Main types: [`TxsourceArgs`] (the command line), [`Workload`], [`run`].
//!
//! Invariants: choices follow from the seed; a workload ends without an error only when its time is up.
//!
//! Tested by unit tests of what is chosen, and by running the workloads against a local network of real processes.

mod base;
mod commission;
mod delegation;
mod governance;
mod node;
mod oversized;
mod parallel;
mod queries;
mod random;
mod registration;
mod runtime;
mod transfer;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use base_crypto::blacklist::test_key;
use base_crypto::context::ChainContext;
use base_crypto::ed25519::SecretKey;
use base_grpc::Client;
use base_prims::Namespace;
use clap::ValueEnum;

pub use node::WorkloadError;

use crate::base::Base;
use crate::node::Node;
use crate::random::Random;

/// Name of the test entity's key. Source: `go/common/entity`.
const TEST_ENTITY: &str = "ekiden test entity key seed";
/// What the funding account of a workload gets, in base units.
const FUNDING: u64 = 10_000_000_000;

/// `debug txsource`; names and defaults are the reference's.
#[derive(clap::Args, Clone, Debug)]
pub struct TxsourceArgs {
    /// Name of the workload to run.
    #[arg(long = "workload", value_enum, default_value_t = Workload::Transfer)]
    pub workload: Workload,
    /// Seed to use for randomized workloads.
    #[arg(long = "seed", default_value = "seeeeeeeeeeeeeeeeeeeeeeeeeeeeeed")]
    pub seed: String,
    /// Exit successfully after this long, or 0 to run forever.
    #[arg(long = "time_limit", value_parser = parse_duration, default_value = "0s")]
    pub time_limit: Duration,
    /// Gas price to use for consensus transactions.
    #[arg(long = "gas_price", default_value_t = 0)]
    pub gas_price: u64,
    /// Paths to validator entities.
    #[arg(long = "validator_entity", value_delimiter = ',')]
    pub validator_entities: Vec<PathBuf>,
    /// Path of the genesis document.
    #[arg(
        id = "txsource_genesis",
        long = "genesis.file",
        visible_alias = "genesis_file",
        short = 'g',
        default_value = "genesis.json"
    )]
    pub genesis: PathBuf,
    /// Number of last versions kept by nodes.
    #[arg(long = "queries.consensus.num_kept_versions", default_value_t = 0)]
    pub num_kept_versions: i64,
    /// Whether runtime queries should be enabled.
    #[arg(long = "queries.runtime.enabled", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    pub runtime_queries: bool,
    /// Simple-keyvalue runtime ID.
    #[arg(long = "runtime.runtime_id")]
    pub runtime_id: Option<Namespace>,
}

/// A schedule of transactions or queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Amends commission schedules.
    Commission,
    /// Delegates and reclaims.
    Delegation,
    /// Sends transactions that are too large.
    Oversized,
    /// Sends many transactions at once.
    Parallel,
    /// Asks everything about random heights.
    Queries,
    /// Registers entities, nodes and a runtime.
    Registration,
    /// Sends transactions to a key-value runtime.
    Runtime,
    /// Transfers, burns, allows and withdraws.
    Transfer,
    /// Proposes and votes.
    Governance,
}

impl Workload {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Commission => "commission",
            Self::Delegation => "delegation",
            Self::Oversized => "oversized",
            Self::Parallel => "parallel",
            Self::Queries => "queries",
            Self::Registration => "registration",
            Self::Runtime => "runtime",
            Self::Transfer => "transfer",
            Self::Governance => "governance",
        }
    }

    /// Whether it spends.
    fn needs_funds(self) -> bool {
        self != Self::Queries
    }
}

/// Reads a duration as Go writes them: numbers with units `h`, `m`, `s`, `ms`, one after another; or 0.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 1h30m0s");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0f64);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(end);
        let length = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(length);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return Err(wrong()),
        };
        seconds += number * factor;
        rest = after;
    }
    if text.is_empty() { Err(wrong()) } else { Duration::try_from_secs_f64(seconds).map_err(|_| wrong()) }
}

/// When a workload is to end.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    fn after(limit: Duration) -> Self {
        Self((!limit.is_zero()).then(|| Instant::now().checked_add(limit)).flatten())
    }

    /// Waits, or less if the time is up before; whether to go on.
    pub(crate) async fn pause(self, pause: Duration) -> bool {
        let left = self.0.map_or(pause, |end| end.saturating_duration_since(Instant::now()));
        tokio::time::sleep(pause.min(left)).await;
        let go_on = self.0.is_none_or(|end| Instant::now() < end);
        if !go_on {
            tracing::debug!(module = node::MODULE, "time's up");
        }
        go_on
    }
}

/// What every workload gets.
pub(crate) struct Job {
    pub(crate) base: Base,
    pub(crate) random: Random,
    pub(crate) deadline: Deadline,
    pub(crate) args: TxsourceArgs,
    pub(crate) validators: Vec<SecretKey>,
}

impl Job {
    pub(crate) fn node(&self) -> &Node {
        &self.base.node
    }

    /// The runtime of the arguments.
    pub(crate) fn runtime(&self) -> Result<Namespace, WorkloadError> {
        self.args.runtime_id.ok_or_else(|| WorkloadError::Setup("--runtime.runtime_id is needed".to_owned()))
    }
}

/// Runs a workload against a node until its time is up. `chain` is the network's context.
///
/// # Errors
/// If the node fails or answers what cannot be.
pub async fn run(args: TxsourceArgs, client: Client, chain: ChainContext) -> Result<(), WorkloadError> {
    let (workload, deadline) = (args.workload, Deadline::after(args.time_limit));
    let mut random = Random::new(&args.seed, workload.name());
    let node = Node::new(client);
    tracing::debug!(module = node::MODULE, "waiting for node sync");
    node.wait_sync().await?;
    let mut validators = Vec::new();
    for path in &args.validator_entities {
        let key = base_identity::load_key_file(path).map_err(|error| WorkloadError::Setup(error.to_string()))?;
        validators.push(key);
    }
    let funding = random.key();
    let bank = Base::new(node.clone(), chain.clone(), args.gas_price, test_key(TEST_ENTITY));
    let base = Base::new(node, chain, args.gas_price, funding);
    if workload.needs_funds() {
        bank.give(base.funding_address(), FUNDING).await?;
    }
    tracing::debug!(module = node::MODULE, name = workload.name(), "entering workload");
    let job = Job { base, random, deadline, args, validators };
    let done = match workload {
        Workload::Commission => commission::run(job).await,
        Workload::Delegation => delegation::run(job).await,
        Workload::Oversized => oversized::run(job).await,
        Workload::Parallel => parallel::run(job).await,
        Workload::Queries => queries::run(job).await,
        Workload::Registration => registration::run(job).await,
        Workload::Runtime => runtime::run(job).await,
        Workload::Transfer => transfer::run(job).await,
        Workload::Governance => governance::run(job).await,
    };
    tracing::debug!(module = node::MODULE, name = workload.name(), "workload returned");
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, seconds) in [("6m0s", 360.0), ("1h30m0s", 5400.0), ("1.5s", 1.5), ("250ms", 0.25), ("0s", 0.0)] {
            assert_eq!(parse_duration(text).map(|d| d.as_secs_f64()), Ok(seconds), "{text}");
        }
        for text in ["", "5", "s", "5x", "1h5", "-1s", "1..2s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for workload in Workload::value_variants() {
            let value = workload.to_possible_value().expect("each has a name");
            assert_eq!(value.get_name(), workload.name());
        }
    }
}
