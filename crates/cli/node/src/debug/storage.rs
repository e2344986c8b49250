//! `oasis-node debug storage …`: the state of runtimes. Reference: `go/oasis-node/cmd/debug/storage`.

use std::io::{BufWriter, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use base_codec::Bytes;
use base_codec::json::{ToJson as _, value_to_string};
use base_kv_disk::{Disk, Options};
use base_prims::{Hash, Namespace};
use base_service::data_dir::DataDir;
use base_service::outln;
use clap::Subcommand;
use mkvs_db::{Config, NodeDb};
use mkvs_tree::{KvRead as _, KvWrite as _, Root, RootType};
use node_storage::STORAGE;
use wire_consensus::roothash::{AnnotatedBlock, Block, RuntimeRequest};

use crate::args::{GenesisArgs, Session};
use crate::client::ClientArgs;
use crate::tool::{Done, Failure, OrFail as _, end};

const MODULE: &str = "cmd/debug/storage";
/// Folder of runtimes below the data directory.
const RUNTIMES: &str = "runtimes";
/// Keys and values of the benchmark, and how many a version gets.
const KEY_BYTES: usize = 32;
const VALUE_BYTES: usize = 128;
const ENTRIES: usize = 1000;
const VERSIONS: u64 = 20;

/// Subcommands of `debug storage`.
#[derive(Subcommand)]
pub(crate) enum StorageCommand {
    /// Export the state of runtimes that a genesis document names.
    Export {
        #[command(flatten)]
        genesis: GenesisArgs,
        /// Directory for the exports; the data directory without it.
        #[arg(long = "storage.export.dir", default_value = "", hide_default_value = true)]
        dir: PathBuf,
    },
    /// Check that a node has the state of all blocks of a runtime that it knows.
    CheckRoots {
        /// Runtime identifier.
        runtime: Namespace,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Measure commits and reads of the database in a new folder.
    Benchmark {
        /// Folder, which must not exist yet; removed at the end.
        #[arg(long)]
        dir: PathBuf,
    },
}

pub(crate) fn run(command: &StorageCommand, session: &Session) -> ExitCode {
    end(match command {
        StorageCommand::Export { genesis, dir } => export(session, genesis, dir),
        StorageCommand::CheckRoots { runtime, client } => check_roots(*runtime, client),
        StorageCommand::Benchmark { dir } => benchmark(dir).or_fail(MODULE, "benchmark failed"),
    })
}

fn export(session: &Session, genesis: &GenesisArgs, dir: &Path) -> Done {
    if session.config.common.data_dir.is_empty() {
        return Err(Failure::new(MODULE, "data directory must be set"));
    }
    let data_dir = session.data_dir();
    let doc = genesis.load(session)?;
    let _lock = DataDir::open(&data_dir).or_fail(MODULE, "failed to lock data directory")?;
    let dir = if dir.as_os_str().is_empty() { data_dir.as_path() } else { dir };
    std::fs::create_dir_all(dir).or_fail(MODULE, "failed to create destination directory")?;
    for (id, state) in &doc.roothash.runtime_states {
        let root = Root {
            namespace: *id,
            version: state.genesis.round,
            root_type: RootType::STATE,
            hash: state.genesis.state_root,
        };
        export_runtime(&data_dir, dir, root).or_fail(MODULE, &format!("failed to export runtime {id}"))?;
    }
    Ok(())
}

/// One line of JSON for the root, then one for each key and value.
fn export_runtime(data_dir: &Path, dir: &Path, root: Root) -> Result<(), String> {
    let path = data_dir.join(RUNTIMES).join(root.namespace.to_string()).join(STORAGE);
    if !path.is_dir() {
        return Err(format!("{}: no database", path.display()));
    }
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let disk = Disk::open(&path, Options::default()).map_err(|error| wrong(&error))?;
    let db = NodeDb::open(Arc::new(disk), Config::new(root.namespace)).map_err(|error| wrong(&error))?;
    let name = dir.join(format!("storage-dump-{}-{}.json", root.namespace, root.version));
    let file = std::fs::File::create(&name).map_err(|error| format!("{}: {error}", name.display()))?;
    let mut out = BufWriter::new(file);
    let mut written = writeln!(out, "{}", value_to_string(&root.to_json()));
    if root.hash != Hash::EMPTY {
        let tree = db.read(&root).map_err(|error| wrong(&error))?;
        let visited = tree.iterate(&[], &mut |key, value| {
            let line = vec![Bytes(key.to_vec()), Bytes(value.to_vec())];
            written = writeln!(out, "{}", value_to_string(&line.to_json()));
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        visited.map_err(|error| wrong(&error))?;
    }
    written.and_then(|()| out.flush()).map_err(|error| format!("{}: {error}", name.display()))
}

/// Asks for every block of the runtime up to the newest: the node answers for those whose state it has.
fn check_roots(runtime: Namespace, client: &ClientArgs) -> Done {
    let what = "failed to get the runtime's latest block";
    let node = client.connect(MODULE, what)?;
    let mut last = None;
    let watched = node.watch("RuntimeClient", "WatchBlocks", runtime, |block: AnnotatedBlock| {
        last = block.block;
        false
    });
    watched.or_fail(MODULE, what)?;
    let Some(last) = last else { return Err(Failure::new(MODULE, "the node knows no block of the runtime")) };
    let first: Block = node
        .call("RootHash", "GetGenesisBlock", RuntimeRequest { runtime_id: runtime, height: 0 })
        .or_fail(MODULE, "failed to get the runtime's genesis block")?;
    let mut missing = 0u64;
    for round in first.header.round..=last.header.round {
        let found: Result<Block, _> =
            node.call("RuntimeClient", "GetBlock", BlockRequest { runtime_id: runtime, round });
        if let Err(error) = found {
            missing += 1;
            tracing::error!(module = MODULE, round, err = %error, "block is not available");
        }
    }
    match missing {
        0 => Ok(()),
        missing => Err(Failure::new(MODULE, format!("{missing} blocks are not available"))),
    }
}

/// Asks for a block of a runtime.
#[derive(Clone, Debug, Default, base_codec::Codec)]
struct BlockRequest {
    runtime_id: Namespace,
    round: u64,
}

fn benchmark(dir: &Path) -> Result<(), String> {
    let name = dir.display();
    if dir.exists() {
        return Err(format!("{name}: exists already; give a folder that does not"));
    }
    std::fs::create_dir_all(dir).map_err(|error| format!("{name}: {error}"))?;
    let done = measure(dir);
    std::fs::remove_dir_all(dir).map_err(|error| format!("{name}: {error}"))?;
    done
}

fn measure(dir: &Path) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let disk = Disk::open(dir, Options::default()).map_err(|error| text(&error))?;
    let db = NodeDb::open(Arc::new(disk), Config::new(Namespace::ZERO)).map_err(|error| text(&error))?;
    let mut tree = db.empty_tree(RootType::STATE);
    let mut last = None;
    let start = Instant::now();
    for version in 1..=VERSIONS {
        for entry in 0..ENTRIES {
            let seed = Hash::of(&[&version.to_be_bytes(), &entry.to_be_bytes()]);
            let key = &seed.as_bytes()[..KEY_BYTES];
            tree.tree_mut().insert(key, &[seed.as_bytes()[0]; VALUE_BYTES]).map_err(|error| text(&error))?;
        }
        last = Some(tree.commit_final(version).map_err(|error| text(&error))?);
    }
    let seconds = start.elapsed().as_secs_f64();
    let entries = VERSIONS as usize * ENTRIES;
    outln!(
        "commit: {VERSIONS} versions of {ENTRIES} entries in {seconds:.3} s ({:.0} entries/s)",
        entries as f64 / seconds
    );
    let Some(root) = last else { return Ok(()) };
    let reader = db.read(&root).map_err(|error| text(&error))?;
    let start = Instant::now();
    let mut read = 0usize;
    let visited = reader.iterate(&[], &mut |_, _| {
        read += 1;
        ControlFlow::Continue(())
    });
    visited.map_err(|error| text(&error))?;
    let seconds = start.elapsed().as_secs_f64();
    outln!("iterate: {read} entries in {seconds:.3} s ({:.0} entries/s)", read as f64 / seconds);
    Ok(())
}
