//! `oasis-node bundle …`: bundles of ParaTimes. The commands are those of `oasis bundle`; here the node is asked.

use std::process::ExitCode;

use wire_consensus::registry::{GetRuntimeQuery, Runtime};

use crate::client::ClientArgs;
use crate::tool::fail;

const MODULE: &str = "cmd/bundle";

/// Subcommands of `bundle`.
pub(crate) type BundleCommand = cli_bundle::Command<ClientArgs>;

pub(crate) fn run(command: BundleCommand) -> ExitCode {
    let done = cli_bundle::run(command, |client, id| -> Result<Runtime, String> {
        let what = "failed to query the runtime's descriptor";
        let rpc = client.connect(MODULE, what).map_err(|failure| failure.to_string())?;
        let query = GetRuntimeQuery { height: 0, id, include_suspended: true };
        rpc.call("Registry", "GetRuntime", query).map_err(|error| format!("{what}: {error}"))
    });
    done.map_or_else(fail, |()| ExitCode::SUCCESS)
}
