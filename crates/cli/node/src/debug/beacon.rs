//! `oasis-node debug beacon …`. Reference: `go/oasis-node/cmd/debug/beacon`.

use std::process::ExitCode;

use base_codec::{Bytes, Codec};
use clap::Subcommand;

use crate::client::ClientArgs;
use crate::tool::{Done, OrFail as _, end, print_json};

const MODULE: &str = "cmd/debug/beacon";

/// `debug beacon`.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct BeaconArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: BeaconCommand,
}

/// Subcommands of `debug beacon`.
#[derive(Subcommand)]
enum BeaconCommand {
    /// Query beacon status.
    Status,
}

/// The newest beacon.
#[derive(Default, Codec)]
struct Shown {
    /// Its bytes.
    #[codec(rename = "Beacon")]
    beacon: Bytes,
}

pub(crate) fn run(args: &BeaconArgs) -> ExitCode {
    let BeaconCommand::Status = args.command;
    end(status(&args.client))
}

fn status(client: &ClientArgs) -> Done {
    let what = "failed to query beacon";
    let beacon: Bytes = client.connect(MODULE, what)?.call("Beacon", "GetBeacon", 0i64).or_fail(MODULE, what)?;
    print_json(&Shown { beacon });
    Ok(())
}
