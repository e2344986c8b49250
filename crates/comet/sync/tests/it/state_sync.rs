//! State sync of a toy snapshot: round trip, bad chunks, lying and silent peers.

use std::sync::Arc;
use std::time::Duration;

use base_kv::{KvStore, Memory};
use bytes::Bytes;
use comet_chain::app::{
    ApplyChunkOutcome, ApplyChunkResult, ConsensusParams, Fatal, OfferSnapshotResult, Snapshot, Snapshots,
};
use comet_chain::light::{BoxFuture, LightBlockProvider, ProviderError};
use comet_core::PeerId;
use comet_net::DropPeer;
use comet_sync::{
    LightClient, LightConfig, LightStateProvider, ParamsSource, Port, Restored, StateSync, StateSyncConfig,
    StateSyncError,
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wire_cometbft::Message;
use wire_cometbft::merkle::sha256;
use wire_cometbft::statesync::{ChunkResponse, SnapshotsResponse, StatesyncMessage, StatesyncMessageSum};

use crate::lab::{Disk, Node, Recorded, RecordedApp, peer_id};
use crate::light::{Provider, after_all, trust};

const HEIGHT: u64 = 100;
const CHUNKS: u32 = 50;

fn chunk(index: u32) -> Vec<u8> {
    (0..2000u32).map(|at| (at.wrapping_mul(31).wrapping_add(index * 7) % 251) as u8).collect()
}

/// The hash names every chunk's hash.
fn snapshot() -> Snapshot {
    let metadata: Vec<u8> = (0..CHUNKS).flat_map(|index| sha256(&chunk(index))).collect();
    Snapshot { height: HEIGHT, format: 1, chunks: CHUNKS, hash: sha256(&metadata).to_vec(), metadata }
}

/// Serves the snapshot, or restores one.
#[derive(Default)]
struct Toy {
    serves: bool,
    disk: Arc<Mutex<Disk>>,
    restoring: Option<(Snapshot, Vec<u8>)>,
    taken: u32,
    /// Asks for the snapshot to be started over this often.
    restart: u32,
    offers: Arc<Mutex<Vec<Snapshot>>>,
    senders: Arc<Mutex<Vec<String>>>,
}

impl Snapshots for Toy {
    fn list(&mut self) -> Result<Vec<Snapshot>, Fatal> {
        let older = |height| Snapshot { height, ..snapshot() };
        Ok(if self.serves { (1..20).map(older).chain([snapshot()]).collect() } else { vec![] })
    }

    fn load_chunk(&mut self, height: u64, format: u32, index: u32) -> Result<Option<Vec<u8>>, Fatal> {
        Ok((height == HEIGHT && format == 1 && index < CHUNKS).then(|| chunk(index)))
    }

    fn offer(&mut self, snapshot: &Snapshot, app_hash: &[u8]) -> Result<OfferSnapshotResult, Fatal> {
        self.offers.lock().push(snapshot.clone());
        if snapshot.format != 1 {
            return Ok(OfferSnapshotResult::RejectFormat);
        }
        if snapshot.hash != sha256(&snapshot.metadata) {
            return Ok(OfferSnapshotResult::RejectSender);
        }
        self.restoring = Some((snapshot.clone(), app_hash.to_vec()));
        self.taken = 0;
        Ok(OfferSnapshotResult::Accept)
    }

    fn apply_chunk(&mut self, index: u32, bytes: &[u8], sender: &str) -> Result<ApplyChunkResult, Fatal> {
        let result = |outcome| ApplyChunkResult { outcome, refetch_chunks: vec![], reject_senders: vec![] };
        let (offered, app_hash) = self.restoring.clone().unwrap();
        let at = index as usize * 32;
        if offered.metadata.get(at..at + 32) != Some(&sha256(bytes)[..]) {
            return Ok(ApplyChunkResult {
                outcome: ApplyChunkOutcome::Retry,
                refetch_chunks: vec![index],
                reject_senders: vec![sender.to_owned()],
            });
        }
        if index == 30 && self.restart > 0 {
            self.restart -= 1;
            return Ok(result(ApplyChunkOutcome::RetrySnapshot));
        }
        assert_eq!(index, self.taken, "in order");
        self.taken += 1;
        self.senders.lock().push(sender.to_owned());
        if self.taken == offered.chunks {
            *self.disk.lock() = Disk { height: offered.height as i64, hash: app_hash };
        }
        Ok(result(ApplyChunkOutcome::Accept))
    }
}

struct Params(ConsensusParams);

impl ParamsSource for Params {
    fn params(&self, _: i64) -> BoxFuture<'_, Result<ConsensusParams, ProviderError>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

fn config(dir: &std::path::Path) -> StateSyncConfig {
    StateSyncConfig {
        discovery: Duration::from_millis(80),
        chunk_retry: Duration::from_millis(300),
        chunk_timeout: Duration::from_secs(3),
        ..StateSyncConfig::new(dir.to_owned())
    }
}

/// What a peer does with the answers of an honest node.
type Twist = Arc<dyn Fn(StatesyncMessageSum) -> Option<StatesyncMessageSum> + Send + Sync>;

struct Wire {
    id: PeerId,
    out: mpsc::UnboundedSender<(u8, Bytes)>,
    dropped: Arc<Mutex<Option<DropPeer>>>,
}

impl Port for Wire {
    fn id(&self) -> &PeerId {
        &self.id
    }

    fn try_send(&self, channel: u8, message: Bytes) -> bool {
        self.out.send((channel, message)).is_ok()
    }

    fn send(&self, channel: u8, message: Bytes) -> BoxFuture<'_, bool> {
        Box::pin(async move { self.try_send(channel, message) })
    }

    fn stop(&self, reason: DropPeer) {
        self.dropped.lock().get_or_insert(reason);
    }
}

struct Lab {
    chain: Arc<Recorded>,
    dir: tempfile::TempDir,
    node: Node,
    sync: Arc<StateSync>,
    offers: Arc<Mutex<Vec<Snapshot>>>,
    senders: Arc<Mutex<Vec<String>>>,
    dropped: Vec<Arc<Mutex<Option<DropPeer>>>>,
}

impl Lab {
    fn new(restart: u32) -> Self {
        let chain = Arc::new(Recorded::named("vault"));
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<Mutex<Disk>> = Arc::default();
        let toy = Toy { disk: Arc::clone(&disk), restart, ..Toy::default() };
        let (offers, senders) = (Arc::clone(&toy.offers), Arc::clone(&toy.senders));
        let mut app = RecordedApp::new(&chain, &disk);
        app.snapshots = Some(Box::new(toy));
        let kv: Arc<dyn KvStore> = Arc::new(Memory::new());
        let node = Node::with(&dir.path().join("blocks"), kv, app);
        let shared = Arc::clone(node.executor.app());
        let stop = CancellationToken::new();
        let sync = StateSync::new(config(dir.path()), shared, Handle::current(), stop);
        Self { chain, dir, node, sync, offers, senders, dropped: Vec::new() }
    }

    /// Connects a node that serves the snapshot, whose answers go through `twist`.
    fn connect(&mut self, number: u8, twist: Twist) {
        let mut app = RecordedApp::new(&self.chain, &Arc::default());
        app.snapshots = Some(Box::new(Toy { serves: true, ..Toy::default() }));
        let server = StateSync::new(config(self.dir.path()), app.shared(), Handle::current(), CancellationToken::new());
        let (to_client, mut at_client) = mpsc::unbounded_channel::<(u8, Bytes)>();
        let (to_server, mut at_server) = mpsc::unbounded_channel::<(u8, Bytes)>();
        let dropped: Arc<Mutex<Option<DropPeer>>> = Arc::default();
        self.dropped.push(Arc::clone(&dropped));
        let (server_id, client_id) = (peer_id(number), peer_id(200));
        server.connected(Arc::new(Wire { id: client_id.clone(), out: to_client, dropped: Arc::default() }));
        self.sync.connected(Arc::new(Wire { id: server_id.clone(), out: to_server, dropped: Arc::clone(&dropped) }));
        tokio::spawn(async move {
            while let Some((channel, message)) = at_server.recv().await {
                server.message(channel, &client_id, message).await.unwrap();
            }
        });
        let client = Arc::clone(&self.sync);
        tokio::spawn(async move {
            while let Some((channel, message)) = at_client.recv().await {
                let sum = StatesyncMessage::decode(&message).unwrap().sum.unwrap();
                let Some(sum) = twist(sum) else { continue };
                let message = StatesyncMessage { sum: Some(sum) }.encode_to_vec().into();
                if let Err(reason) = client.message(channel, &server_id, message).await {
                    dropped.lock().get_or_insert(reason);
                    client.disconnected(&server_id);
                    return;
                }
            }
        });
    }

    async fn light(&self) -> Arc<LightClient> {
        let provider = || Arc::new(Provider::honest(&self.chain)) as Arc<dyn LightBlockProvider>;
        let config = LightConfig::new(wire_cometbft::Duration::from_secs(36_000));
        let id = &self.chain.genesis.chain_id;
        let kv = Arc::new(Memory::new());
        let witnesses = vec![provider()];
        let clock = after_all(&self.chain);
        let client = LightClient::new(id, config, trust(&self.chain, 3), provider(), witnesses, kv, clock);
        Arc::new(client.await.unwrap())
    }

    async fn run(&self) -> Result<Restored, StateSyncError> {
        let params = Arc::new(Params(self.chain.genesis.params.clone()));
        let trust = LightStateProvider { client: self.light().await, params, initial_height: 1 };
        let run = self.sync.run(Arc::new(trust), CancellationToken::new());
        tokio::time::timeout(Duration::from_secs(40), run).await.expect("ends in time")
    }

    /// What was restored is the recorded state, and block sync can go on from it.
    fn check(&self, restored: &Restored) {
        let expected = &self.chain.states[HEIGHT as usize];
        let State { validators, next_validators, last_validators, .. } = &restored.state;
        assert_eq!((validators, next_validators), (&expected.validators, &expected.next_validators));
        assert_eq!(last_validators, &expected.last_validators);
        assert_eq!(restored.state.app_hash, expected.app_hash);
        assert_eq!(restored.state.last_block_id, expected.last_block_id);
        assert_eq!(restored.state.version, expected.version);
        assert_eq!(restored.commit, self.chain.commits[HEIGHT as usize - 1]);
        let next = self.chain.block(HEIGHT as i64 + 1).unwrap();
        restored.state.validate_block(next).unwrap();

        restored.bootstrap(&self.node.blocks, &self.node.chain).unwrap();
        let state = comet_store::handshake(&self.node.executor, &self.chain.genesis).unwrap();
        assert_eq!(state, restored.state);
        assert_eq!(self.node.blocks.seen_commit(HEIGHT as i64).unwrap().as_ref(), Some(&restored.commit));
        let left = std::fs::read_dir(self.dir.path()).unwrap().count();
        assert_eq!(left, 1, "only the blocks are left on disk");
    }
}

use comet_chain::state::State;

fn honest() -> Twist {
    Arc::new(Some)
}

fn twist_chunks(change: impl Fn(&mut ChunkResponse) -> bool + Send + Sync + 'static) -> Twist {
    Arc::new(move |sum| match sum {
        StatesyncMessageSum::ChunkResponse(mut response) => {
            change(&mut response).then_some(StatesyncMessageSum::ChunkResponse(response))
        }
        other => Some(other),
    })
}

fn twist_offers(change: impl Fn(&mut SnapshotsResponse) + Send + Sync + 'static) -> Twist {
    Arc::new(move |sum| match sum {
        StatesyncMessageSum::SnapshotsResponse(mut response) => {
            change(&mut response);
            Some(StatesyncMessageSum::SnapshotsResponse(response))
        }
        other => Some(other),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn round_trip_from_several_peers_then_blocks() {
    let mut lab = Lab::new(0);
    (1..=3).for_each(|number| lab.connect(number, honest()));
    let restored = lab.run().await.unwrap();
    lab.check(&restored);
    assert_eq!(lab.offers.lock().as_slice(), [snapshot()]);
    let senders: std::collections::BTreeSet<String> = lab.senders.lock().iter().cloned().collect();
    assert_eq!(senders.len(), 3, "chunks come from all");

    // Block sync goes on from there.
    let source = Arc::new(crate::lab::RecordedSource::new(&lab.chain));
    let (handle, stop) = (Handle::current(), CancellationToken::new());
    let config = crate::block_sync::config();
    let server = comet_sync::BlockSync::new(config.clone(), source, handle.clone(), stop.clone());
    let client = comet_sync::BlockSync::new(config, Arc::clone(&lab.node.blocks) as _, handle, stop.clone());
    crate::lab::connect((&client, 1), (&server, 2));
    let sink = Arc::new(comet_sync::StoreSink { executor: Arc::clone(&lab.node.executor) });
    let end = client.run(restored.state, sink, comet_sync::Goal::CaughtUp, stop).await.unwrap();
    assert!(end.state.last_block_height >= lab.chain.height() - 2);
    assert_eq!(lab.node.blocks.base(), HEIGHT as i64 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_missing_and_silent_chunks() {
    let mut lab = Lab::new(1);
    // Wrong contents.
    lab.connect(
        1,
        twist_chunks(|response| {
            response.chunk[0] ^= 1;
            true
        }),
    );
    // Nothing there.
    lab.connect(
        2,
        twist_chunks(|response| {
            response.chunk.clear();
            response.missing = true;
            true
        }),
    );
    // No answers.
    lab.connect(3, twist_chunks(|_| false));
    // Another chunk than asked for.
    lab.connect(
        4,
        twist_chunks(|response| {
            response.index = (response.index + 1) % CHUNKS;
            true
        }),
    );
    lab.connect(5, honest());
    let restored = lab.run().await.unwrap();
    lab.check(&restored);
    assert!(!lab.senders.lock().contains(&peer_id(1).0.to_string()), "its chunks were refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_offers_come_first_and_are_rejected() {
    let mut lab = Lab::new(0);
    // Above what can be verified, another format, forged metadata, wrong shape.
    lab.connect(1, twist_offers(|offer| offer.height += 1_000_000));
    lab.connect(2, twist_offers(|offer| offer.format = 9));
    lab.connect(3, twist_offers(|offer| offer.metadata[0] ^= 1));
    lab.connect(4, twist_offers(|offer| offer.chunks = 100_001));
    lab.connect(5, twist_offers(|offer| offer.hash.clear()));
    lab.connect(6, honest());
    let restored = lab.run().await.unwrap();
    lab.check(&restored);
    let dropped: Vec<bool> = lab.dropped.iter().map(|dropped| dropped.lock().is_some()).collect();
    assert_eq!(dropped, [false, false, false, true, true, false]);
    assert!(lab.offers.lock().len() > 1);
}

/// Without anybody who has the chunks, it goes on waiting for others; told to stop, it stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_without_chunks_is_given_up() {
    let mut lab = Lab::new(0);
    lab.connect(1, twist_chunks(|_| false));
    let stop = CancellationToken::new();
    let params = Arc::new(Params(lab.chain.genesis.params.clone()));
    let trust = Arc::new(LightStateProvider { client: lab.light().await, params, initial_height: 1 });
    let run = lab.sync.run(trust.clone(), stop.clone());
    let watch = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(matches!(lab.sync.run(trust, CancellationToken::new()).await, Err(StateSyncError::Running)));
        assert_eq!(lab.offers.lock().len(), 1);
        // It is timed out, and the next best is tried.
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(lab.offers.lock().len() >= 2);
        stop.cancel();
    };
    let (result, ()) = tokio::join!(run, watch);
    assert!(matches!(result, Err(StateSyncError::Stopped)));
}

/// An application that keeps starting over is not followed for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_are_bounded() {
    let mut lab = Lab::new(6);
    lab.connect(1, honest());
    let params = Arc::new(Params(lab.chain.genesis.params.clone()));
    let trust = Arc::new(LightStateProvider { client: lab.light().await, params, initial_height: 1 });
    let stop = CancellationToken::new();
    let run = lab.sync.run(trust, stop.clone());
    let watch = async {
        while lab.offers.lock().iter().all(|offer| offer.height == HEIGHT) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.cancel();
    };
    let (result, ()) = tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(run, watch) }).await.unwrap();
    assert!(matches!(result, Err(StateSyncError::Stopped)));
}

/// Parameters that are not the header's are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_are_checked_by_the_header() {
    use comet_sync::StateProvider;
    let lab = Lab::new(0);
    let mut params = lab.chain.genesis.params.clone();
    params.block.max_bytes -= 1;
    let client = lab.light().await;
    let trust = LightStateProvider { client, params: Arc::new(Params(params)), initial_height: 1 };
    assert!(trust.state(HEIGHT).await.is_err());
    assert_eq!(trust.app_hash(HEIGHT).await.unwrap(), lab.chain.app_hash(HEIGHT as i64));
    assert!(trust.app_hash(u64::MAX).await.is_err() && trust.app_hash(i64::MAX as u64).await.is_err());
}
