//! Subcommands of `oasis-node`.
//!
//! Layer L4. Reference counterpart: `go/oasis-node/cmd`.
//!
//! Each subcommand parses its arguments, calls the crates that do the work, prints what operators and scripts read, and
//! gives an exit code. No rule of the network is decided here.
//!
//! Tested by running the binary's entry point on good and bad input.

mod debug;
mod genesis;
mod node;
mod storage;
mod tool;

use std::process::ExitCode;

use apps_core::LocalConfig;
use clap::{Parser, Subcommand};
use rt_tee::VerifyOptions;

/// Oasis Network node.
#[derive(Parser)]
#[command(name = "oasis-node", version, about = "Oasis Network node", disable_help_subcommand = true)]
struct Cli {
    /// Path of the configuration file.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    #[command(flatten)]
    unsafe_options: UnsafeOptions,
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
    /// Genesis documents.
    #[command(subcommand)]
    Genesis(genesis::GenesisCommand),
    /// Look after the databases of a node that is not running.
    #[command(subcommand)]
    Storage(storage::StorageCommand),
    /// Tools for developers and for finding faults.
    #[command(subcommand)]
    Debug(debug::DebugCommand),
}

/// Runs the command line and gives its exit code: 0 if all went well, 1 if the command failed or its arguments are bad.
pub fn run(args: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    match Cli::try_parse_from(args) {
        Err(e) => {
            // Failing to print the usage leaves nothing better to do than to exit with the code for it.
            let _ = e.print();
            ExitCode::from(u8::from(e.use_stderr()))
        }
        Ok(cli) => match cli.command {
            None => node::run(cli.config.as_deref(), cli.unsafe_options),
            Some(Command::Genesis(command)) => genesis::run(&command, cli.unsafe_options),
            Some(Command::Storage(command)) => storage::run(&command, cli.config.as_deref()),
            Some(Command::Debug(command)) => debug::run(&command, cli.unsafe_options),
        },
    }
}
