//! What a node does at a planned halt: the state is exported as a genesis document, and after a pause the node ends.
//!
//! Reference: `go/consensus/cometbft/full/full.go`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base_prims::Epoch;
use node_app::EngineApp;
use node_rpc::Backend;
use node_workers::backoff::Chance;
use tokio::sync::watch;

/// Folder of exported documents below the data directory.
const EXPORTS: &str = "exports";
/// Mode of exported documents and of their folder.
const FILE_MODE: u32 = 0o600;
/// Parts that the pause is drawn from.
const PARTS: u64 = 1000;

/// Where the chain halts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Halted {
    /// Last block.
    pub(crate) height: i64,
    /// Epoch of the next one.
    pub(crate) epoch: Epoch,
    /// Why.
    pub(crate) reason: String,
}

/// Tells of the halt, once there is one.
pub(crate) fn watch(app: &mut EngineApp) -> watch::Receiver<Option<Halted>> {
    let (told, seen) = watch::channel(None);
    app.on_halt(Box::new(move |height, epoch, reason| {
        told.send_replace(Some(Halted { height, epoch, reason: reason.to_string() }));
    }));
    seen
}

/// Waits for the halt, exports the state, and pauses, so that others can be told of the last block; then the node is to
/// end.
pub(crate) async fn wait(
    mut seen: watch::Receiver<Option<Halted>>,
    backend: Arc<Backend>,
    data_dir: PathBuf,
    pause: Duration,
    seed: u64,
) -> Halted {
    let halted = match seen.wait_for(Option::is_some).await.map(|halted| halted.clone()) {
        Ok(Some(halted)) => halted,
        // Nobody will tell any more: the application is gone, and with it the node ends.
        _ => std::future::pending().await,
    };
    tracing::info!(
        module = "consensus/cometbft",
        epoch = halted.epoch,
        height = halted.height,
        "consensus halt hook: dumping genesis"
    );
    let height = halted.height;
    let dumped = tokio::task::spawn_blocking(move || dump(&backend, &data_dir, height)).await;
    match dumped.unwrap_or_else(|_| Err("the export ended unexpectedly".to_owned())) {
        Ok(path) => tracing::info!(module = "consensus/cometbft", epoch = halted.epoch, height = halted.height,
            path = %path.display(), "consensus halt hook: genesis dumped"),
        Err(error) => tracing::error!(module = "consensus/cometbft", err = error, "halt hook: failed to dump genesis"),
    }
    // Between half and one and a half of the pause, so that not all nodes end at once.
    let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
    let drawn = PARTS / 2 + Chance::new(seed).draw() % PARTS;
    tokio::time::sleep(Duration::from_nanos(nanos / PARTS * drawn)).await;
    halted
}

/// Writes the state at a height into the folder of exports.
fn dump(backend: &Backend, data_dir: &Path, height: i64) -> Result<PathBuf, String> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let doc = node_rpc::state_to_genesis(backend, height).map_err(|error| error.to_string())?;
    let folder = data_dir.join(EXPORTS);
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let path = folder.join(format!("genesis-{}-at-{}.json", doc.chain_id, doc.height));
    let write = || -> std::io::Result<()> {
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&path)?;
        file.write_all(doc.to_canonical_json().as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}
