//! `oasis-node debug control …`. Reference: `go/oasis-node/cmd/debug/control`.

use std::process::ExitCode;

use base_prims::Epoch;
use clap::Subcommand;

use crate::client::ClientArgs;
use crate::tool::{Done, OrFail as _, end};

const MODULE: &str = "cmd/debug/control";
const SERVICE: &str = "DebugController";

/// `debug control`.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct ControlArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: ControlCommand,
}

/// Subcommands of `debug control`.
#[derive(Subcommand)]
enum ControlCommand {
    /// Set mock epochtime.
    SetEpoch {
        /// The epoch.
        #[arg(short = 'e', long, default_value_t = 0)]
        epoch: Epoch,
    },
    /// Wait for specific number of nodes to register.
    WaitNodes {
        /// How many.
        #[arg(short = 'n', long, default_value_t = 1)]
        nodes: i64,
    },
    /// Wait for node to become ready.
    WaitReady,
}

pub(crate) fn run(args: &ControlArgs) -> ExitCode {
    end(dispatch(args))
}

fn dispatch(args: &ControlArgs) -> Done {
    match &args.command {
        ControlCommand::SetEpoch { epoch } => {
            let what = "failed to set epoch";
            args.client.connect(MODULE, what)?.send(SERVICE, "SetEpoch", *epoch).or_fail(MODULE, what)
        }
        ControlCommand::WaitNodes { nodes } => {
            let what = "failed to wait for nodes";
            args.client.connect(MODULE, what)?.send(SERVICE, "WaitNodesRegistered", *nodes).or_fail(MODULE, what)
        }
        ControlCommand::WaitReady => {
            let what = "failed to wait for ready status";
            args.client.connect(MODULE, what)?.run("NodeController", "WaitReady").or_fail(MODULE, what)
        }
    }
}
