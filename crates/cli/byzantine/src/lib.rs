//! Nodes that break rules on purpose, so that tests can see the others of a network notice it.
//!
//! Layer: L4. Reference counterpart: `go/oasis-node/cmd/debug/byzantine`.
//!
//! Such a node runs an honest node of the consensus layer and of the peer-to-peer network, registers by itself, and takes
//! part in rounds of the random beacon or of a runtime's committee as it is told. It hosts no runtime: what the committee
//! expects is what the test runtime `simple-keyvalue` computes, and is computed here.
//!
//! Main types: [`ByzantineCommand`], [`ByzantineArgs`] (the command line), [`Launch`] (what it gets besides).
//!
//! Invariants: it starts only where unsafe options are allowed; it never votes on blocks twice, for that part is honest.
//!
//! Tested on what it proposes and commits to, which the network's own rules must take; and in a local network of real
//! processes.

mod actor;
mod batch;
mod beacon;
mod diffs;
mod enclave;
mod executor;
mod gossip;
mod remote;

use std::path::PathBuf;

use base_prims::{Epoch, Namespace};
use clap::{Subcommand, ValueEnum};
use node_config::Config;

pub use actor::ActError;

/// Module of log lines.
pub(crate) const MODULE: &str = "cmd/byzantine";

/// `debug byzantine`.
#[derive(clap::Args, Debug)]
#[command(arg_required_else_help = true)]
pub struct ByzantineArgs {
    /// How the node behaves.
    #[command(flatten)]
    pub behaviour: Behaviour,
    /// In which part.
    #[command(subcommand)]
    pub command: ByzantineCommand,
}

/// Subcommands of `debug byzantine`.
#[derive(Subcommand, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByzantineCommand {
    /// Act as an executor.
    Executor,
    /// Act as a validator (for tests of the VRF beacon).
    Vrfbeacon,
}

/// How the node behaves; names and defaults are the reference's.
#[derive(clap::Args, Clone, Debug)]
pub struct Behaviour {
    /// Path of the genesis document.
    #[arg(
        id = "byzantine_genesis",
        long = "genesis.file",
        visible_alias = "genesis_file",
        short = 'g',
        global = true,
        default_value = "genesis.json"
    )]
    pub genesis: PathBuf,
    /// Register with SGX capability.
    #[arg(long = "fake_sgx", global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub fake_sgx: bool,
    /// Runtime in whose committee the node acts.
    #[arg(
        long = "runtime_id",
        global = true,
        default_value = "8000000000000000000000000000000000000000000000000000000000000000"
    )]
    pub runtime_id: Namespace,
    /// Fake runtime enclave identity, hexadecimal.
    #[arg(long = "runtime.version.fake_enclave_id", global = true, default_value = "", hide_default_value = true)]
    pub fake_enclave_id: String,
    /// Epoch at which the node becomes active.
    #[arg(long = "activation_epoch", global = true, default_value_t = 0)]
    pub activation_epoch: Epoch,
    /// The executor is expected to be the primary scheduler.
    #[arg(long = "executor.primary_scheduler_expected", global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub primary_scheduler_expected: bool,
    /// What the executor does.
    #[arg(long = "executor.mode", global = true, value_enum, ignore_case = true, default_value_t = ExecutorMode::Honest)]
    pub executor_mode: ExecutorMode,
    /// The executor proposes transactions that nobody else has.
    #[arg(long = "executor.propose_bogus_tx", global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub propose_bogus_tx: bool,
    /// What the validator does in rounds of the beacon.
    #[arg(long = "vrf_beacon_mode", global = true, value_enum, ignore_case = true, default_value_t = BeaconMode::Honest)]
    pub beacon_mode: BeaconMode,
    /// Fail requests to read storage.
    #[arg(long = "storage.fail_read_requests", global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub fail_read_requests: bool,
    /// Answer requests for diffs of storage wrongly, and go on doing so after the round.
    #[arg(long = "storage.corrupt_get_diff", global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub corrupt_get_diff: bool,
}

/// What an executor does in its round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExecutorMode {
    /// What it should.
    #[value(name = "executor_honest")]
    Honest,
    /// Commits to a wrong state.
    #[value(name = "executor_dishonest")]
    Dishonest,
    /// Proposes, and is gone.
    #[value(name = "executor_runaway")]
    Runaway,
    /// Does nothing at all.
    #[value(name = "executor_straggler")]
    Straggler,
    /// Says that it failed.
    #[value(name = "executor_failure_indicating")]
    FailureIndicating,
    /// Proposes a batch under a wrong hash.
    #[value(name = "executor_invalid_batch_hash")]
    InvalidBatchHash,
}

/// What a validator does in a round of the beacon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BeaconMode {
    /// Proves when it may.
    #[value(name = "vrf_beacon_honest")]
    Honest,
    /// Proves too early, which is refused.
    #[value(name = "vrf_beacon_early")]
    Early,
    /// Does not prove.
    #[value(name = "vrf_beacon_missing")]
    Missing,
}

/// What a node starts from besides its behaviour.
pub struct Launch {
    /// The configuration of the honest part.
    pub config: Config,
    /// Its options.
    pub options: node_run::Options,
    /// The node belongs to the test entity, whatever the configuration says.
    pub test_entity: bool,
}

/// Runs such a node until its part is over, or it is stopped.
///
/// # Errors
/// If it cannot start, or something that it relies on does not happen.
pub fn run(args: &ByzantineArgs, launch: Launch) -> Result<(), ActError> {
    if !launch.options.dont_blame_oasis {
        return Err(ActError::NotAllowed);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| ActError::Start(error.to_string()))?;
    let behaviour = args.behaviour.clone();
    runtime.block_on(async {
        match args.command {
            ByzantineCommand::Executor => Box::pin(executor::run(behaviour, launch)).await,
            ByzantineCommand::Vrfbeacon => Box::pin(beacon::run(behaviour, launch)).await,
        }
    })
}

#[cfg(test)]
mod tests;
