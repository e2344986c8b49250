//! `oasis-node debug dumpdb`: a genesis document from the database of a node that is not running. Reference:
//! `go/oasis-node/cmd/debug/dumpdb`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base_service::data_dir::DataDir;
use base_service::out;
use node_app::{EngineApp, EngineConfig, NodeOptions, PruneConfig, PruneStrategy, build_mux, export_genesis};
use wire_cometbft::Time;

use crate::args::{GenesisArgs, Session};
use crate::tool::{Done, FILE_MODE, Failure, OrFail as _, end, write_file};

const MODULE: &str = "cmd/debug/dumpdb";
/// Folder of the application's state below the data directory.
const STATE: &str = "consensus/state";

/// Options of `debug dumpdb`.
#[derive(clap::Args)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    genesis: GenesisArgs,
    /// File to write; standard output without it.
    #[arg(long = "dump.output", default_value = "", hide_default_value = true)]
    output: PathBuf,
    /// Height of the state; 0 is the newest.
    #[arg(long = "dump.version", default_value_t = 0)]
    version: i64,
    /// Leave the database as it is; it always is left so.
    #[arg(long = "dump.read_only_db")]
    _read_only: bool,
}

pub(crate) fn run(args: &DumpArgs, session: &Session) -> ExitCode {
    end(dump(args, session))
}

fn dump(args: &DumpArgs, session: &Session) -> Done {
    if session.config.common.data_dir.is_empty() {
        return Err(Failure::new(MODULE, "data directory must be set"));
    }
    let dir = session.data_dir();
    let doc = args.genesis.load(session)?;
    let _lock = DataDir::open(&dir).or_fail(MODULE, "failed to lock data directory")?;
    let config = EngineConfig {
        doc: Arc::new(doc.clone()),
        node: NodeOptions { local: session.options.local(), upgrades: None },
        consensus_key: None,
        prune: PruneConfig { strategy: PruneStrategy::None, ..PruneConfig::default() },
        checkpointer: None,
        save_upgrades: None,
    };
    let app = EngineApp::open_dir(&dir.join(STATE), config).or_fail(MODULE, "failed to open the state database")?;
    let state = app.queries().state(args.version).or_fail(MODULE, "dump requested for version that does not exist")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = Time::new(now.as_secs().cast_signed(), 0).or_fail(MODULE, "failed to tell the time")?;
    let mux = build_mux(&doc, NodeOptions::default());
    let height = state.height;
    let dumped = export_genesis(mux.services(), &state, height, time, &doc);
    let text = dumped.or_fail(MODULE, "failed to dump state")?.to_canonical_json();
    if args.output.as_os_str().is_empty() {
        out!("{text}");
        return Ok(());
    }
    write_file(&args.output, text.as_bytes(), FILE_MODE).or_fail(MODULE, "failed to write state dump file")
}
