//! Subcommands of `oasis-node`.
//!
//! Layer L4. Reference counterpart: `go/oasis-node/cmd`.
//!
//! Each subcommand parses its arguments, calls the crates that do the work, prints what operators and scripts read, and
//! gives an exit code. No rule of the network is decided here.
//!
//! Tested by running the binary's entry point on good and bad input.

mod args;
mod bundle;
mod client;
mod completion;
mod config;
mod consensus;
mod control;
mod debug;
mod doctor;
mod genesis;
mod governance;
mod ias;
mod identity;
mod keymanager;
mod node;
mod registry;
mod signer;
mod stake;
mod storage;
mod tool;
mod unsafe_reset;

use std::ffi::OsString;
use std::process::ExitCode;

use apps_core::LocalConfig;
use base_prims::version::PROTOCOLS;
use base_service::{errln, outln};
use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use node_run::init_logging;
use rt_tee::VerifyOptions;

use crate::args::{Session, SignerArgs};

/// Oasis Network node.
#[derive(Parser)]
#[command(name = "oasis-node", about = "Oasis Network node", disable_version_flag = true)]
struct Cli {
    /// Path of the configuration file.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Show the versions of the program and of the protocols that it speaks.
    #[arg(short = 'v', long = "version")]
    version: bool,
    #[command(flatten)]
    unsafe_options: UnsafeOptions,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    _unused: UnusedOptions,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Unsafe switches for test networks, spelled as the reference spells them.
#[derive(clap::Args, Clone, Copy, Default)]
struct UnsafeOptions {
    /// Allow unsafe debug options (test networks only).
    #[arg(long = "debug.dont_blame_oasis", global = true, hide = true)]
    dont_blame_oasis: bool,
    /// Allow well-known test keys (test networks only).
    #[arg(long = "debug.allow_test_keys", global = true, hide = true)]
    allow_test_keys: bool,
    /// Require debug enclaves instead of refusing them (test networks only).
    #[arg(long = "debug.allow_debug_enclaves", global = true, hide = true)]
    allow_debug_enclaves: bool,
    /// Accept platforms that are out of date or need configuration (test networks only).
    #[arg(long = "debug.tcb_lax_verify", global = true, hide = true)]
    tcb_lax_verify: bool,
    /// Do not verify signature, TCB and measurements of quotes (test networks only).
    #[arg(long = "debug.skip_quote_verify", global = true, hide = true)]
    skip_quote_verify: bool,
}

impl UnsafeOptions {
    /// What the consensus services are told; the switches count only together with `--debug.dont_blame_oasis`.
    fn local(self) -> LocalConfig {
        let on = |switch: bool| switch && self.dont_blame_oasis;
        let defaults = VerifyOptions::default();
        let tee = VerifyOptions {
            skip_avr_verify: on(self.skip_quote_verify),
            skip_pcs_verify: on(self.skip_quote_verify),
            allow_debug_enclaves: on(self.allow_debug_enclaves),
            lax_tcb: on(self.tcb_lax_verify),
            allow_test_signer: on(self.allow_test_keys),
            ..defaults
        };
        LocalConfig {
            allow_debug: self.dont_blame_oasis,
            allow_test_keys: on(self.allow_test_keys),
            tee,
            ..LocalConfig::default()
        }
    }
}

/// Switches of the reference's test runner that mean nothing here: taken, so that it can start this program.
#[derive(clap::Args)]
struct UnusedOptions {
    /// Chance of crashing at marked places of the reference's code.
    #[arg(long = "debug.crash.default", global = true, hide = true, value_name = "CHANCE")]
    _crash: Option<f64>,
    /// Debug messages of the reference's gRPC library.
    #[arg(long = "grpc.log.debug", global = true, hide = true)]
    _grpc_log: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Node control interface utilities.
    #[command(arg_required_else_help = true)]
    Control(control::ControlArgs),
    /// Bundles of runtimes: create, inspect, compare, sign.
    #[command(subcommand, arg_required_else_help = true)]
    Bundle(bundle::BundleCommand),
    /// Genesis documents.
    #[command(subcommand, arg_required_else_help = true)]
    Genesis(genesis::GenesisCommand),
    /// Configuration files: show, migrate.
    #[command(subcommand, arg_required_else_help = true)]
    Config(config::ConfigCommand),
    /// Check the machine and the configuration, and say what to do.
    Doctor(doctor::DoctorArgs),
    /// IAS related utilities.
    #[command(subcommand, arg_required_else_help = true)]
    Ias(ias::IasCommand),
    /// Identity interface utilities.
    #[command(arg_required_else_help = true)]
    Identity(identity::IdentityArgs),
    /// Look after the databases of a node that is not running.
    #[command(subcommand, arg_required_else_help = true)]
    Storage(storage::StorageCommand),
    /// Reset the node state (UNSAFE).
    UnsafeReset(unsafe_reset::ResetArgs),
    /// Generate the autocompletion script for the specified shell.
    #[command(arg_required_else_help = true)]
    Completion(completion::CompletionArgs),
    /// Entities, nodes, runtimes.
    #[command(subcommand, hide = true, arg_required_else_help = true)]
    Registry(registry::RegistryCommand),
    /// Accounts and delegations.
    #[command(subcommand, hide = true, arg_required_else_help = true)]
    Stake(stake::StakeCommand),
    /// Proposals and votes.
    #[command(subcommand, hide = true, arg_required_else_help = true)]
    Governance(governance::GovernanceCommand),
    /// Transactions and blocks.
    #[command(subcommand, hide = true, arg_required_else_help = true)]
    Consensus(consensus::ConsensusCommand),
    /// Policies and statuses of key managers.
    #[command(subcommand, hide = true, arg_required_else_help = true)]
    Keymanager(keymanager::KeymanagerCommand),
    /// Signers.
    #[command(subcommand, hide = true, arg_required_else_help = true)]
    Signer(signer::SignerCommand),
    /// Tools for developers and for finding faults.
    #[command(subcommand, hide = true, arg_required_else_help = true)]
    Debug(Box<debug::DebugCommand>),
}

/// Commands that the reference has declared deprecated in favour of its other program.
const DEPRECATED: [&str; 6] = ["registry", "stake", "governance", "consensus", "keymanager", "signer"];

/// Says on standard error, as the reference does, that a command is deprecated.
fn deprecation_notice(matches: &ArgMatches) {
    let mut names = Vec::new();
    let mut at = matches;
    while let Some((name, inner)) = at.subcommand() {
        names.push(name);
        at = inner;
    }
    let deprecated =
        names.first().is_some_and(|first| DEPRECATED.contains(first)) || names == ["control", "runtime-stats"];
    if let (true, Some(name)) = (deprecated, names.last()) {
        errln!("Command {name:?} is deprecated, use the `oasis` CLI instead.");
    }
}

fn print_versions() {
    outln!("Software version: {}", env!("CARGO_PKG_VERSION"));
    outln!("Consensus:\n  Consensus protocol version: {}", PROTOCOLS.consensus_protocol);
    outln!("Runtime:\n  Host protocol version:      {}", PROTOCOLS.runtime_host_protocol);
    outln!("  Committee protocol version: {}", PROTOCOLS.runtime_committee_protocol);
}

/// What the command line could not be understood for, or help that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        outln!("{}", error.render());
        return ExitCode::SUCCESS;
    }
    // Failing to print the usage leaves nothing better to do than to exit with the code for it.
    let _ = error.print();
    ExitCode::from(u8::from(error.use_stderr()))
}

/// Runs the command line and gives its exit code: 0 if all went well, 1 if the command failed or its arguments are bad.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let line: Vec<OsString> = args.into_iter().collect();
    let parsed = Cli::command().try_get_matches_from(&line).and_then(|matches| {
        deprecation_notice(&matches);
        Cli::from_arg_matches(&matches)
    });
    let cli = match parsed {
        Err(error) => return usage(&error),
        Ok(cli) => cli,
    };
    if cli.version {
        print_versions();
        return ExitCode::SUCCESS;
    }
    let Some(command) = cli.command else {
        return node::run(cli.config.as_deref(), cli.unsafe_options, &cli.signer);
    };
    let path = cli.config.as_deref();
    match command {
        Command::Storage(command) => return storage::run(&command, path),
        Command::Bundle(command) => return bundle::run(command),
        Command::Completion(args) => return completion::run(&args),
        Command::Config(command) => return config::run(&command, path),
        Command::Doctor(args) => return doctor::run(&args, path),
        _ => {}
    }
    let config = match config::load(path) {
        Ok(loaded) => loaded.config,
        Err(error) => return tool::fail(error),
    };
    // Set up already where several commands run in one process, which is in tests.
    match init_logging(&config) {
        Err(node_run::RunError::Logging(base_service::logging::LoggingError::Twice)) | Ok(()) => {}
        Err(error) => return tool::fail(error),
    }
    let session = Session { config, options: cli.unsafe_options, signer: cli.signer };
    match command {
        Command::Control(args) => control::run(&args, &session),
        Command::Genesis(command) => genesis::run(&command, &session),
        Command::Ias(command) => ias::run(&command, &session),
        Command::Identity(args) => identity::run(&args),
        Command::UnsafeReset(args) => unsafe_reset::run(&args, &session),
        Command::Registry(command) => registry::run(&command, &session),
        Command::Stake(command) => stake::run(&command, &session),
        Command::Governance(command) => governance::run(&command, &session),
        Command::Consensus(command) => consensus::run(&command, &session),
        Command::Keymanager(command) => keymanager::run(&command, &session, &line),
        Command::Signer(command) => signer::run(&command, &session),
        Command::Debug(command) => debug::run(&command, &session),
        Command::Bundle(_) | Command::Storage(_) | Command::Completion(_) | Command::Config(_) | Command::Doctor(_) => {
            ExitCode::SUCCESS
        }
    }
}

#[cfg(test)]
mod tests;
