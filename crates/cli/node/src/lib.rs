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
mod tool;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Oasis Network node.
#[derive(Parser)]
#[command(name = "oasis-node", version, about = "Oasis Network node", disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    unsafe_options: UnsafeOptions,
    #[command(subcommand)]
    command: Command,
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
}

#[derive(Subcommand)]
enum Command {
    /// Genesis documents.
    #[command(subcommand)]
    Genesis(genesis::GenesisCommand),
    /// Tools for developers and for finding faults.
    #[command(subcommand)]
    Debug(debug::DebugCommand),
}

/// Runs the command line and gives its exit code: 0 if all went well, 1 if the command failed, 2 for bad arguments.
pub fn run(args: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    match Cli::try_parse_from(args) {
        Err(e) => {
            // Failing to print the usage leaves nothing better to do than to exit with the code for it.
            let _ = e.print();
            ExitCode::from(if e.use_stderr() { 2 } else { 0 })
        }
        Ok(cli) => match cli.command {
            Command::Genesis(command) => genesis::run(&command, cli.unsafe_options),
            Command::Debug(command) => debug::run(&command, cli.unsafe_options),
        },
    }
}
