//! `oasis bundle`: bundles of ParaTimes, with a configured network to ask for descriptors.

use base_grpc::Cbor;
use wire_consensus::registry::{GetRuntimeQuery, Runtime};

use super::Selection;
use crate::args::NetworkFlag;
use crate::config::Store;
use crate::error::{CliError, Result};
use crate::remote::Remote;

pub(super) type Command = cli_bundle::Command<NetworkFlag>;

/// Without configured networks for a command that asks none.
pub(super) fn run(store: Option<&Store>, command: Command) -> Result<()> {
    let fetch = |flag: &NetworkFlag, id| -> Result<Runtime> {
        let store = store.ok_or("no networks are configured")?;
        let selection = Selection::network(store, flag)?;
        let remote = Remote::connect(selection.network_name, selection.network)?;
        let query = GetRuntimeQuery { height: remote.height(0)?, id, ..GetRuntimeQuery::default() };
        remote.call("Registry", "GetRuntime", &Cbor(query))
    };
    cli_bundle::run(command, |flag, id| fetch(flag, id).map_err(|e| e.to_string()))
        .map_err(|e| CliError::new(e.to_string()))
}
