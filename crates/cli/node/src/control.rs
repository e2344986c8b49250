//! `oasis-node control …`: commands to a running node. Reference: `go/oasis-node/cmd/control`.

use std::path::PathBuf;
use std::process::ExitCode;

use base_codec::cbor;
use base_codec::json::{ToJson, Value};
use base_prims::Namespace;
use base_service::outln;
use clap::Subcommand;
use node_paratime::RuntimeStatus;
use node_rpc::status::Status;
use node_run::CommonStore;
use node_workers::registration::DeregisterFlag as _;
use wire_consensus::upgrade::Descriptor;

use crate::args::Session;
use crate::client::{ClientArgs, Rpc};
use crate::tool::{Done, Failure, OrFail as _, QUERY_FAILED, end, print_json, read_json};

mod runtime_stats;

pub(crate) const MODULE: &str = "cmd/control";
const SERVICE: &str = "NodeController";
/// Folder of the store that holds the flag.
const STORE: &str = "persistent-store.db";

/// `control`.
#[derive(clap::Args)]
pub(crate) struct ControlArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: ControlCommand,
}

/// Subcommands of `control`.
#[derive(Subcommand)]
enum ControlCommand {
    /// Exit with 0 if the node completed initial syncing, 1 if not.
    IsSynced,
    /// Wait for the node to complete initial syncing.
    WaitSync,
    /// Request node shutdown on next epoch transition.
    Shutdown,
    /// Clear the forced node deregistration flag.
    ClearDeregister,
    /// Submit an upgrade descriptor to the node and request shutdown.
    UpgradeBinary {
        /// File of the upgrade descriptor (JSON).
        descriptor: PathBuf,
    },
    /// Cancel a pending upgrade unless it is already in progress.
    CancelUpgrade {
        /// File of the upgrade descriptor (JSON).
        descriptor: PathBuf,
    },
    /// Show node status.
    Status,
    /// Show runtime statistics.
    #[command(hide = true)]
    RuntimeStats {
        /// Runtime identifier.
        runtime: Namespace,
        /// First height.
        start: Option<i64>,
        /// Last height.
        end: Option<i64>,
    },
    /// Add runtime components from the bundle.
    AddBundle {
        /// File of the bundle, as the node finds it.
        path: String,
    },
}

pub(crate) fn run(args: &ControlArgs, session: &Session) -> ExitCode {
    end(dispatch(args, session))
}

fn dispatch(args: &ControlArgs, session: &Session) -> Done {
    let client = &args.client;
    match &args.command {
        ControlCommand::IsSynced => is_synced(client),
        ControlCommand::WaitSync => {
            let what = "failed to wait for sync status";
            client.connect(MODULE, what)?.run(SERVICE, "WaitSync").or_fail(MODULE, what)
        }
        ControlCommand::Shutdown => {
            let what = "failed to send shutdown request";
            client.connect_now(MODULE, what)?.send(SERVICE, "RequestShutdown", client.wait).or_fail(MODULE, what)
        }
        ControlCommand::ClearDeregister => clear_deregister(session),
        ControlCommand::UpgradeBinary { descriptor } => {
            let what = "error while sending upgrade descriptor to the node";
            let node = client.connect(MODULE, what)?;
            let descriptor: Descriptor = read_json(descriptor).or_fail(MODULE, "failed to read upgrade descriptor")?;
            descriptor.validate_basic().or_fail(MODULE, "submitted upgrade descriptor is not valid")?;
            node.send(SERVICE, "UpgradeBinary", descriptor).or_fail(MODULE, what)
        }
        ControlCommand::CancelUpgrade { descriptor } => {
            let what = "failed to send upgrade cancellation request";
            let node = client.connect(MODULE, what)?;
            let descriptor: Descriptor = read_json(descriptor).or_fail(MODULE, "failed to read upgrade descriptor")?;
            node.send(SERVICE, "CancelUpgrade", descriptor).or_fail(MODULE, what)
        }
        ControlCommand::Status => {
            print_json(&Shown(status(client)?));
            Ok(())
        }
        ControlCommand::RuntimeStats { runtime, start, end } => {
            let node = client.connect(MODULE, "failed to establish connection with node")?;
            runtime_stats::run(&node, runtime, *start, *end)
        }
        ControlCommand::AddBundle { path } => {
            let what = "failed to add bundle";
            client.connect(MODULE, what)?.send(SERVICE, "AddBundle", path.clone()).or_fail(MODULE, what)
        }
    }
}

fn is_synced(client: &ClientArgs) -> Done {
    let what = "failed to query synced status";
    let ask = || -> Result<bool, Failure> {
        let node = client.connect(MODULE, what)?;
        node.get(SERVICE, "IsSynced").or_fail(MODULE, what)
    };
    if ask().map_err(|failure| failure.code(QUERY_FAILED))? {
        outln!("node completed initial syncing");
        return Ok(());
    }
    outln!("node has not completed initial syncing");
    Err(Failure::quiet())
}

/// The status of a node.
pub(crate) fn status(client: &ClientArgs) -> Result<Status, Failure> {
    let what = "failed to query status";
    let ask = |node: Rpc| node.get(SERVICE, "GetStatus").or_fail(MODULE, what);
    client.connect(MODULE, what).and_then(ask).map_err(|failure| failure.code(QUERY_FAILED))
}

/// A status whose ParaTimes are shown with their own types, as far as these are known here.
struct Shown(Status);

impl ToJson for Shown {
    fn to_json(&self) -> Value {
        let mut shown = self.0.to_json();
        for (id, raw) in &self.0.runtimes {
            let typed = cbor::from_slice_relaxed::<RuntimeStatus>(&raw.0);
            let place = shown.get_mut("runtimes").and_then(|all| all.get_mut(id.to_string()));
            if let (Ok(typed), Some(place)) = (typed, place) {
                *place = typed.to_json();
            }
        }
        shown
    }
}

fn clear_deregister(session: &Session) -> Done {
    let dir = session.data_dir();
    if !dir.join(STORE).is_dir() {
        let text = format!("{}: no node has run here", dir.display());
        return Err(Failure::because(MODULE, "failed to stat persistent store directory", text));
    }
    let store = CommonStore::open(&dir).or_fail(MODULE, "failed to open common node store")?;
    store.set(false).or_fail(MODULE, "failed to clear persisted forced-deregister")?;
    tracing::info!(module = MODULE, "cleared persisted forced-deregister");
    Ok(())
}
