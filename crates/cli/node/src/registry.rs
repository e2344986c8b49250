//! `oasis-node registry …`: entities, nodes, runtimes. Reference: `go/oasis-node/cmd/registry`.

use std::process::ExitCode;

use base_codec::json::ToJson;
use base_service::outln;
use clap::Subcommand;
use wire_consensus::registry::{GetRuntimesQuery, METHOD_REGISTER_RUNTIME, Runtime};

use crate::args::{Session, TxArgs};
use crate::client::ClientArgs;
use crate::tool::{Done, OrFail as _, end, print_json, read_json};

mod entity;
mod node;

/// Subcommands of `registry`.
#[derive(Subcommand)]
pub(crate) enum RegistryCommand {
    /// Entity registry backend utilities.
    #[command(subcommand)]
    Entity(entity::EntityCommand),
    /// Node registry backend utilities.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Runtime registry backend utilities.
    #[command(subcommand)]
    Runtime(RuntimeCommand),
}

/// Subcommands of `registry runtime`.
#[derive(Subcommand)]
pub(crate) enum RuntimeCommand {
    /// Generate a register runtime transaction.
    #[command(name = "gen_register")]
    GenRegister {
        /// Path to the runtime descriptor (JSON).
        #[arg(long = "runtime.descriptor")]
        descriptor: std::path::PathBuf,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// List registered runtimes.
    List {
        /// Also list suspended runtimes.
        #[arg(long = "include_suspended")]
        include_suspended: bool,
        #[command(flatten)]
        list: ListArgs,
    },
}

/// Options of lists.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Show whole descriptors.
    #[arg(short = 'v', long)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

impl ListArgs {
    /// Prints descriptors, or what names them.
    fn print<T: ToJson>(&self, items: &[T], id: impl Fn(&T) -> String) {
        for item in items {
            if self.verbose {
                print_json(item);
            } else {
                outln!("{}", id(item));
            }
        }
    }
}

pub(crate) fn run(command: &RegistryCommand, session: &Session) -> ExitCode {
    end(match command {
        RegistryCommand::Entity(command) => entity::run(command, session),
        RegistryCommand::Node(command) => node::run(command, session),
        RegistryCommand::Runtime(command) => runtime(command, session),
    })
}

fn runtime(command: &RuntimeCommand, session: &Session) -> Done {
    const MODULE: &str = "cmd/registry/runtime";
    match command {
        RuntimeCommand::GenRegister { descriptor, tx } => {
            let doc = tx.prepare(session)?;
            let runtime: Runtime = read_json(descriptor).or_fail(MODULE, "failed to load runtime descriptor")?;
            tx.save(session, &doc, METHOD_REGISTER_RUNTIME, &runtime)
        }
        RuntimeCommand::List { include_suspended, list } => {
            let what = "failed to query runtimes";
            let node = list.client.connect(MODULE, what)?;
            let query = GetRuntimesQuery { height: 0, include_suspended: *include_suspended };
            let runtimes: Option<Vec<Runtime>> = node.call("Registry", "GetRuntimes", query).or_fail(MODULE, what)?;
            list.print(&runtimes.unwrap_or_default(), |runtime| runtime.id.to_string());
            Ok(())
        }
    }
}
