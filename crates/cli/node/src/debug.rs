//! `oasis-node debug …`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use apps_core::LocalConfig;
use base_kv_disk::Disk;
use base_prims::Namespace;
use base_service::outln;
use clap::Subcommand;
use mkvs_db::{Config, NodeDb, Threads};
use node_app::{DbStore, MemoryStore, NodeOptions, StateStore, WriteBehind};
use node_replay::{Options, ReplayError, replay};
use rt_tee::VerifyOptions;
use serde_json::json;

use crate::{args::Session, tool::fail};

mod beacon;
mod byzantine;
mod control;
mod dumpdb;
mod storage;
mod txsource;
mod upgrades;

/// Subcommands of `debug`.
#[derive(Subcommand)]
pub(crate) enum DebugCommand {
    /// Execute a recorded chain from genesis and compare everything that comes out with what was recorded.
    Replay(ReplayArgs),
    /// Control of nodes of test networks.
    Control(control::ControlArgs),
    /// Dump the state of the consensus layer as a genesis document, from the database of a node that is not running.
    Dumpdb(dumpdb::DumpArgs),
    /// The state of runtimes.
    #[command(subcommand, arg_required_else_help = true)]
    Storage(storage::StorageCommand),
    /// Nodes that break rules, for tests of networks.
    Byzantine(cli_byzantine::ByzantineArgs),
    /// Send random transactions.
    Txsource(txsource::SourceArgs),
    /// Forget pending upgrades of a node that is not running (test networks only).
    ClearUpgrades,
    /// The random beacon.
    Beacon(beacon::BeaconArgs),
}

#[derive(clap::Args)]
pub(crate) struct ReplayArgs {
    /// Folder of the recorded chain.
    #[arg(long)]
    dir: PathBuf,
    /// Last height to execute.
    #[arg(long)]
    to: Option<i64>,
    /// Keep the state on disk in this folder, which must not exist yet; without it, in memory.
    #[arg(long)]
    store: Option<PathBuf>,
    /// Compare nothing, and print the app hash of every height; only genesis and blocks are read.
    #[arg(long)]
    no_expected: bool,
}

pub(crate) fn run(command: &DebugCommand, session: &Session) -> ExitCode {
    match command {
        DebugCommand::Replay(args) => run_replay(args),
        DebugCommand::Control(args) => control::run(args),
        DebugCommand::Beacon(args) => beacon::run(args),
        DebugCommand::Dumpdb(args) => dumpdb::run(args, session),
        DebugCommand::Storage(command) => storage::run(command, session),
        DebugCommand::Byzantine(args) => byzantine::run(args, session),
        DebugCommand::Txsource(args) => txsource::run(args, session),
        DebugCommand::ClearUpgrades => upgrades::run(session),
    }
}

fn open_store(dir: Option<&Path>) -> Result<Box<dyn StateStore>, String> {
    let Some(dir) = dir else { return Ok(Box::new(MemoryStore::new(Box::new(Threads::default())))) };
    let name = dir.display();
    if dir.exists() {
        return Err(format!("{name}: already exists; give a folder that does not, a replay starts from genesis"));
    }
    std::fs::create_dir_all(dir).map_err(|e| format!("{name}: cannot create: {e}"))?;
    let disk = Disk::open(dir, base_kv_disk::Options::default()).map_err(|e| format!("{name}: {e}"))?;
    // What is lost with the power can be replayed: as in a node that syncs, execution does not wait for the disk.
    let behind = WriteBehind::new(Arc::new(disk)).map_err(|e| format!("{name}: {e}"))?;
    let config = Config { discard_write_logs: true, ..Config::new(Namespace::ZERO) };
    let db = NodeDb::open(Arc::new(behind), config).map_err(|e| format!("{name}: {e}"))?;
    Ok(Box::new(DbStore::open(&db).map_err(|e| format!("{name}: {e}"))?))
}

fn run_replay(args: &ReplayArgs) -> ExitCode {
    // Recorded networks may be test networks; what a replay accepts never reaches a real one.
    let local =
        LocalConfig { allow_debug: true, allow_test_keys: true, tee: VerifyOptions::mock(), ..LocalConfig::default() };
    let store = match open_store(args.store.as_deref()) {
        Ok(store) => store,
        Err(e) => return fail(e),
    };
    let options = Options {
        dir: args.dir.clone(),
        to: args.to,
        compare: !args.no_expected,
        node: NodeOptions { local, upgrades: Some(Default::default()) },
        store,
        observer: None,
    };
    match replay(options) {
        Ok(report) => {
            for (height, hash) in &report.app_hashes {
                outln!("{height} {hash}");
            }
            outln!("{}", report.to_json());
            if report.unchecked > 0 && !args.no_expected { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(ReplayError::Mismatch(m)) => {
            outln!("{}", json!({ "mismatch": m.to_json() }));
            fail(m)
        }
        Err(e) => fail(e),
    }
}
