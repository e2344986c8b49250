//! `oasis-node storage …`: looking after the databases of a node that is not running.
//!
//! Reference: `go/oasis-node/cmd/storage`. There `check`, `migrate` and `rename-ns` work for one of two engines only; here
//! there is one engine, and `check` takes the word `consensus` besides runtime ids.

use std::{
    io::{self, IsTerminal},
    ops::ControlFlow,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use base_kv::KvStore;
use base_kv_disk::{Disk, Options};
use base_prims::Namespace;
use base_service::{chain, errln, out, outln};
use clap::Subcommand;
use mkvs_db::NodeDb;
use node_app::{STATE_DB, open_state_db};
use node_config::Config;
use node_storage::{CHECKPOINTS, HISTORY, STORAGE};
use rt_history::History;
use serde_json::{Value, json};
use wire_consensus::genesis::Document;

use crate::tool::{fail, read_text};

/// Folder of everything of the consensus layer within the data folder.
const CONSENSUS: &str = "consensus";
/// Folder of the application's state within that of the consensus layer.
const STATE: &str = "state";
/// Folders of the engine's stores within that of the consensus layer.
const STORES: &str = "data/store";
const EVIDENCE: &str = "data/evidence";
/// Folder of runtimes within the data folder.
const RUNTIMES: &str = "runtimes";
/// What `check` takes for the state of the consensus layer.
const CONSENSUS_NAME: &str = "consensus";

/// Subcommands of `storage`.
#[derive(Subcommand)]
pub(crate) enum StorageCommand {
    /// Show what is in the node's databases.
    Inspect {
        /// Output format (text, json).
        #[arg(long, default_value = "text")]
        output: String,
    },
    /// Check node databases for consistency: every node of every version against its hash.
    Check {
        /// Runtime identifiers, or `consensus` for the state of the consensus layer.
        #[arg(required = true, value_name = "RUNTIME")]
        what: Vec<String>,
    },
    /// Bring node databases to the newest format.
    Migrate {
        /// Runtime identifiers.
        #[arg(required = true, value_name = "RUNTIME")]
        runtimes: Vec<String>,
    },
    /// Change the namespace of a runtime database.
    RenameNs {
        /// The runtime identifier that it has.
        src: String,
        /// The runtime identifier that it is to have.
        dst: String,
    },
    /// Give unused space of all databases back; needs as much free space as the largest database takes.
    Compact,
    /// Prune all databases as configured.
    Prune,
}

pub(crate) fn run(command: &StorageCommand, config: Option<&Path>) -> ExitCode {
    match Node::new(config).and_then(|node| node.run(command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(e),
    }
}

/// Says what is being done, to people only.
fn say(text: &str) {
    if io::stdout().is_terminal() {
        outln!("{text}");
    }
}

fn runtime_id(text: &str) -> Result<Namespace, String> {
    text.parse().map_err(|e| format!("malformed runtime identifier '{text}': {e}"))
}

/// The databases of a node.
struct Node {
    config: Config,
    data_dir: PathBuf,
    runtimes: Vec<Namespace>,
}

impl Node {
    fn new(path: Option<&Path>) -> Result<Self, String> {
        let config = match path {
            Some(path) => crate::config::load(Some(path)).map_err(|e| chain(&e))?.config,
            None => Config::default(),
        };
        Self::of(config)
    }

    fn of(config: Config) -> Result<Self, String> {
        if config.common.data_dir.is_empty() {
            return Err("data directory not set: give a configuration file with common.data_dir".to_owned());
        }
        let data_dir = PathBuf::from(&config.common.data_dir);
        let mut runtimes: Vec<_> = config.runtime.runtimes.iter().map(|r| r.id.0).collect();
        runtimes.sort_unstable();
        runtimes.dedup();
        Ok(Self { config, data_dir, runtimes })
    }

    fn run(&self, command: &StorageCommand) -> Result<(), String> {
        if self.is_running()? {
            return Err(match command {
                StorageCommand::Compact => "compaction can only be done when the node is not running",
                StorageCommand::Prune => "pruning can only be done when the node is not running",
                _ => "node is running",
            }
            .to_owned());
        }
        match command {
            StorageCommand::Inspect { output } => self.inspect(output),
            StorageCommand::Check { what } => what.iter().try_for_each(|name| self.check(name)),
            StorageCommand::Migrate { runtimes } => runtimes.iter().try_for_each(|name| self.migrate(name)),
            StorageCommand::RenameNs { src, dst } => self.rename_ns(src, dst),
            StorageCommand::Compact => self.compact(),
            StorageCommand::Prune => self.prune(),
        }
    }

    /// Whether somebody answers at the node's internal socket.
    fn is_running(&self) -> Result<bool, String> {
        let configured = &self.config.common.internal_socket_path;
        let path = if configured.is_empty() { self.data_dir.join("internal.sock") } else { PathBuf::from(configured) };
        match UnixStream::connect(&path) {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(false),
            Err(e) => Err(format!("failed to ensure the node is not running: {}: {e}", path.display())),
        }
    }

    fn consensus_dir(&self) -> PathBuf {
        self.data_dir.join(CONSENSUS)
    }

    fn runtime_dir(&self, id: &Namespace) -> PathBuf {
        self.data_dir.join(RUNTIMES).join(id.to_string())
    }

    /// The state of the consensus layer; nothing is created.
    fn consensus_state(&self) -> Result<NodeDb, String> {
        let dir = self.consensus_dir().join(STATE);
        let path = dir.join(STATE_DB);
        if !path.is_dir() {
            return Err(format!("{}: no database", path.display()));
        }
        open_state_db(&dir, Options::default()).map_err(|e| chain(&e))
    }

    /// A runtime's state; nothing is created.
    fn runtime_state(&self, id: &Namespace) -> Result<NodeDb, String> {
        let path = self.runtime_dir(id).join(STORAGE);
        let disk = open_disk(&path)?;
        NodeDb::open(disk, mkvs_db::Config::new(*id)).map_err(|e| format!("{}: {}", path.display(), chain(&e)))
    }

    /// A runtime's blocks; nothing is created.
    fn runtime_history(&self, id: &Namespace) -> Result<History, String> {
        let path = self.runtime_dir(id).join(HISTORY);
        let disk = open_disk(&path)?;
        History::open(disk, *id, rt_history::Sync::Ignore).map_err(|e| format!("{}: {}", path.display(), chain(&e)))
    }

    /// Blocks and chain state; nothing is created.
    fn blocks(&self) -> Result<(Arc<comet_store::BlockStore>, Arc<comet_store::ChainStore>), String> {
        let dir = self.consensus_dir().join(STORES);
        if !dir.is_dir() {
            return Err(format!("{}: no block store", dir.display()));
        }
        let file = Path::new(&self.config.genesis.file);
        let doc = Document::from_json(&read_text(file)?).map_err(|e| format!("{}: {e}", file.display()))?;
        comet_store::open(&dir, &doc.comet_chain_id()).map_err(|e| chain(&e))
    }

    fn status(&self) -> Value {
        let state = |db: Result<NodeDb, String>| match db {
            Ok(db) => {
                let latest = db.latest_version();
                status(latest.is_some(), latest.unwrap_or(0), db.earliest_version().unwrap_or(0))
            }
            Err(error) => {
                errln!("failed to open a state database: {error}");
                status(false, 0, 0)
            }
        };
        let history = match self.blocks() {
            Ok((blocks, _)) => status(true, blocks.height().unsigned_abs(), blocks.base().unsigned_abs()),
            Err(error) => {
                errln!("failed to open the block history: {error}");
                status(false, 0, 0)
            }
        };
        let light_history = |id: &Namespace| match self.runtime_history(id) {
            Ok(history) => status(true, history.last_round().unwrap_or(0), earliest_round(&history).unwrap_or(0)),
            Err(error) => {
                errln!("failed to open a runtime's history: {error}");
                status(false, 0, 0)
            }
        };
        let runtime = |id: &Namespace| {
            let value = json!({ "state_db": state(self.runtime_state(id)), "light_history": light_history(id) });
            (id.to_string(), value)
        };
        let runtimes: serde_json::Map<_, _> = self.runtimes.iter().map(runtime).collect();
        json!({
            "consensus": { "state_db": state(self.consensus_state()), "block_history": history },
            "runtimes": runtimes,
        })
    }

    fn inspect(&self, output: &str) -> Result<(), String> {
        if !["text", "json", ""].contains(&output) {
            return Err(format!("unsupported output format: {output} (supported: text, json)"));
        }
        let status = self.status();
        if output == "json" {
            outln!("{status:#}");
        } else {
            out!("{}", text_of(&status));
        }
        Ok(())
    }

    fn check(&self, name: &str) -> Result<(), String> {
        let (title, db) = if name == CONSENSUS_NAME {
            (CONSENSUS_NAME.to_owned(), self.consensus_state())
        } else {
            let id = runtime_id(name)?;
            (format!("runtime {id}"), self.runtime_state(&id))
        };
        say(&format!("Checking storage database for {title}..."));
        let bad = |reason: String| format!("error checking node database for {title}: {reason}");
        let report =
            db.and_then(|db| db.check(&mut |_| ControlFlow::Continue(())).map_err(|e| chain(&e))).map_err(bad)?;
        if !report.is_ok() {
            let (bad_nodes, leaked) = (report.bad.len(), report.leaked);
            let first = report.bad.first().map_or_else(String::new, |id| format!(", first {id:?}"));
            return Err(bad(format!("{bad_nodes} bad nodes{first}; {leaked} nodes that no root leads to")));
        }
        outln!("{title}: {} versions, {} nodes, no errors found", report.versions, report.nodes);
        Ok(())
    }

    fn migrate(&self, name: &str) -> Result<(), String> {
        let id = runtime_id(name)?;
        say(&format!(" ** Upgrading storage database for runtime {id}..."));
        // Opening checks the format; there has been only one so far.
        self.runtime_state(&id).map_err(|e| format!("error upgrading runtime {id}: {e}"))?;
        outln!("runtime {id}: the database has the newest format");
        Ok(())
    }

    fn rename_ns(&self, src: &str, dst: &str) -> Result<(), String> {
        let (from, to) = (runtime_id(src)?, runtime_id(dst)?);
        let (source, target) = (self.runtime_dir(&from), self.runtime_dir(&to));
        if target.exists() {
            return Err(format!("failed to rename namespace: {} already exists", target.display()));
        }
        say(&format!("Renaming storage database for runtime from {from} to {to}..."));
        {
            let disk = open_disk(&source.join(STORAGE)).map_err(|e| format!("failed to rename namespace: {e}"))?;
            NodeDb::rename_namespace(&*disk, from, to)
                .map_err(|e| format!("failed to rename namespace: {}", chain(&e)))?;
        }
        std::fs::rename(&source, &target).map_err(|e| format!("failed to move directory: {e}"))?;
        // The history and the checkpoints are those of the old name.
        for (folder, what) in [(HISTORY, "history"), (CHECKPOINTS, "checkpoints")] {
            match std::fs::remove_dir_all(target.join(folder)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(format!("failed to remove {what} directory: {e}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn compact(&self) -> Result<(), String> {
        let state = self.consensus_dir().join(STATE).join(STATE_DB);
        let stores = self.consensus_dir().join(STORES).join("index");
        let evidence = self.consensus_dir().join(EVIDENCE);
        if !state.is_dir() && !stores.is_dir() {
            return Err("failed to compact consensus databases: zero database instances found".to_owned());
        }
        let runtimes =
            self.runtimes.iter().flat_map(|id| [STORAGE, HISTORY].map(|name| self.runtime_dir(id).join(name)));
        for path in [stores, evidence, state].into_iter().chain(runtimes).filter(|p| p.join("data.mdb").exists()) {
            let disk = open_disk(&path)?;
            let failed = |e: base_kv::KvError| format!("failed to compact {}: {}", path.display(), chain(&e));
            let before = disk.stats().map_err(failed)?.disk_bytes;
            disk.compact().map_err(failed)?;
            let after = disk.stats().map_err(failed)?.disk_bytes;
            outln!("{}: {before} bytes before, {after} after", path.display());
        }
        Ok(())
    }

    fn prune(&self) -> Result<(), String> {
        let consensus = &self.config.consensus.prune;
        let failed = |e: String| format!("failed to prune consensus databases: {e}");
        if consensus.strategy == "none" {
            say("skipping consensus pruning since disabled in the config");
        } else if let Some(indexed) = self.indexed().map_err(failed)? {
            let db = self.consensus_state().map_err(failed)?;
            if let Some(retain) = retain(&db, consensus.num_kept).map(|retain| retain.min(indexed)) {
                let pruned = prune_before(&db, retain).map_err(failed)?;
                outln!("consensus state: {pruned} versions pruned, retained from {retain}");
                self.prune_blocks(consensus.num_kept, indexed).map_err(failed)?;
            }
        } else {
            outln!("skipping consensus pruning: the history of configured runtimes is not there");
        }
        if self.config.runtime.prune.strategy == "none" {
            say("skipping runtime pruning since disabled in the config");
            return Ok(());
        }
        for id in &self.runtimes {
            let failed = |e: String| format!("failed to prune runtime databases (runtime ID: {id}): {e}");
            let kept = self.config.runtime.prune.num_kept;
            let db = self.runtime_state(id).map_err(failed)?;
            if self.runtime_dir(id).join(HISTORY).is_dir() {
                let history = self.runtime_history(id).map_err(failed)?;
                if let Some(retain) = history.last_round().and_then(|last| last.checked_sub(kept)) {
                    let pruned = history.prune_before(retain).map_err(|e| failed(chain(&e)))?;
                    outln!("runtime {id} history: {pruned} rounds pruned, retained from {retain}");
                }
            }
            if let Some(retain) = retain(&db, kept) {
                let pruned = prune_before(&db, retain).map_err(failed)?;
                outln!("runtime {id} state: {pruned} versions pruned, retained from {retain}");
            }
        }
        Ok(())
    }

    /// The height up to which all configured runtimes have indexed the consensus layer: what comes after must stay. Nothing
    /// if one has no history yet, and so will want blocks that nobody knows.
    fn indexed(&self) -> Result<Option<u64>, String> {
        let mut indexed = u64::MAX;
        for id in &self.runtimes {
            if !self.runtime_dir(id).join(HISTORY).is_dir() {
                return Ok(None);
            }
            indexed = indexed.min(self.runtime_history(id)?.last_consensus_height().unsigned_abs());
        }
        Ok(Some(indexed))
    }

    fn prune_blocks(&self, kept: u64, indexed: u64) -> Result<(), String> {
        if !self.consensus_dir().join(STORES).is_dir() {
            outln!("block history: there is none");
            return Ok(());
        }
        let (blocks, chain_store) = self.blocks()?;
        let retain = blocks.height().unsigned_abs().saturating_sub(kept).min(indexed);
        let retain = i64::try_from(retain).unwrap_or(i64::MAX);
        let mut pruned = 0;
        while blocks.base() < retain {
            match blocks.prune(retain).map_err(|e| chain(&e))? {
                0 => break,
                n => pruned += n,
            }
            chain_store.prune(blocks.base()).map_err(|e| chain(&e))?;
        }
        outln!("block history: {pruned} blocks pruned");
        Ok(())
    }
}

fn earliest_round(history: &History) -> Option<u64> {
    history.earliest_block().ok().and_then(|block| block.block).map(|block| block.header.round)
}

fn open_disk(path: &Path) -> Result<Arc<Disk>, String> {
    if !path.is_dir() {
        return Err(format!("{}: no database", path.display()));
    }
    let disk = Disk::open(path, Options::default()).map_err(|e| format!("{}: {}", path.display(), chain(&e)))?;
    Ok(Arc::new(disk))
}

/// The earliest version to keep, if there is something to prune.
fn retain(db: &NodeDb, kept: u64) -> Option<u64> {
    let latest = db.latest_version()?;
    latest.checked_sub(kept).filter(|retain| db.earliest_version().is_some_and(|earliest| *retain > earliest))
}

fn prune_before(db: &NodeDb, version: u64) -> Result<u64, String> {
    let mut pruned = 0;
    loop {
        match db.prune_some(version, &mut |_| true).map_err(|e| chain(&e))? {
            0 => break,
            n => pruned += n,
        }
    }
    db.sync().map_err(|e| chain(&e))?;
    Ok(pruned)
}

fn status(ok: bool, latest: u64, retained: u64) -> Value {
    json!({ "ok": ok, "latest_version": latest, "last_retained_version": retained })
}

/// The status for people, laid out as the reference does.
fn text_of(status: &Value) -> String {
    let part = |indent: &str, unit: &str, part: &Value| {
        let field = |name: &str| part.get(name).map_or_else(String::new, Value::to_string);
        format!(
            "{indent}Ok:  {}\n{indent}Latest {unit}:  {}\n{indent}Last retained {unit}:  {}\n",
            field("ok"),
            field("latest_version"),
            field("last_retained_version")
        )
    };
    let at = |path: &str| status.pointer(path).cloned().unwrap_or_default();
    let mut out = String::from("Consensus:\n  State DB:\n");
    out += &part("    ", "height", &at("/consensus/state_db"));
    out += "  Block history:\n";
    out += &part("    ", "height", &at("/consensus/block_history"));
    let runtimes = at("/runtimes");
    let runtimes = runtimes.as_object().filter(|r| !r.is_empty());
    for (i, (id, runtime)) in runtimes.into_iter().flatten().enumerate() {
        if i == 0 {
            out += "Runtimes:\n";
        }
        let at = |name: &str| runtime.get(name).cloned().unwrap_or_default();
        out += &format!("  {id}\n    State DB:\n{}", part("      ", "round", &at("state_db")));
        out += &format!("    Light History:\n{}", part("      ", "round", &at("light_history")));
    }
    out
}

#[cfg(test)]
mod tests;
