//! Block sync from honest and from lying peers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base_kv::{KvStore, Memory};
use comet_chain::state::State;
use comet_sync::block_sync::scheduler::Limits;
use comet_sync::{BlockSync, BlockSyncConfig, BlockSyncError, Goal, Port, StoreSink, SyncEnd};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use wire_cometbft::Message;
use wire_cometbft::block::Block;

use crate::lab::{
    Disk, Node, Recorded, RecordedApp, RecordedSource, Reply, Scripted, all_chains, connect, connect_scripted, honest,
};

/// Short times, so that what peers are waited for is seen.
pub(crate) fn config() -> BlockSyncConfig {
    let limits = Limits {
        request_timeout: Duration::from_secs(5),
        silence: Duration::from_secs(10),
        second_peer_after: Duration::from_millis(200),
        ..Limits::default()
    };
    BlockSyncConfig {
        limits,
        status_interval: Duration::from_millis(100),
        switch_interval: Duration::from_millis(50),
        tick: Duration::from_millis(10),
        ..BlockSyncConfig::default()
    }
}

fn reactor(node: &Node) -> Arc<BlockSync> {
    let blocks = Arc::clone(&node.blocks);
    BlockSync::new(config(), blocks, Handle::current(), CancellationToken::new())
}

async fn run(sync: &Arc<BlockSync>, node: &Node, state: State) -> Result<SyncEnd, BlockSyncError> {
    let sink = Arc::new(StoreSink { executor: Arc::clone(&node.executor) });
    let work = sync.run(state, sink, Goal::CaughtUp, CancellationToken::new());
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("ends in time")
}

/// Everything is there, as recorded, up to where the reference hands over too: one or two blocks below the newest.
fn check_synced(node: &Node, chain: &Recorded, end: &SyncEnd) {
    let height = end.state.last_block_height;
    assert!(end.caught_up && (chain.height() - 2..chain.height()).contains(&height), "{height}");
    assert_eq!(node.blocks.height(), height);
    let at = usize::try_from(height).unwrap();
    assert_eq!(end.state, chain.states[at]);
    assert_eq!(node.chain.load().unwrap().as_ref(), Some(&end.state));
    assert_eq!(end.seen_commit.as_ref(), chain.blocks[at].last_commit.as_ref());
    assert_eq!(*node.executed.lock(), (1..=height).collect::<Vec<_>>());
    for at in 1..=height {
        assert_eq!(node.blocks.block(at).unwrap().as_ref(), chain.block(at));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_chain_is_synced() {
    let mut synced = 0;
    for recorded in all_chains() {
        let chain = Arc::new(Recorded::load(&recorded));
        let dir = tempfile::tempdir().unwrap();
        let node = Node::open(dir.path(), &chain);
        let server = BlockSync::new(
            config(),
            Arc::new(RecordedSource::new(&chain)),
            Handle::current(),
            CancellationToken::new(),
        );
        let client = reactor(&node);
        connect((&client, 1), (&server, 2));
        let end = run(&client, &node, chain.genesis_state()).await.unwrap();
        check_synced(&node, &chain, &end);
        synced += end.applied;
    }
    assert!(synced >= 1400, "{synced}");
}

/// A node that has synced serves others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synced_node_serves() {
    let chain = Arc::new(Recorded::named("vault"));
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = Node::open(dirs[0].path(), &chain);
    let source = Arc::new(RecordedSource::new(&chain));
    let server = BlockSync::new(config(), source, Handle::current(), CancellationToken::new());
    let middle = reactor(&first);
    connect((&middle, 1), (&server, 2));
    run(&middle, &first, chain.genesis_state()).await.unwrap();

    let second = Node::open(dirs[1].path(), &chain);
    let last = reactor(&second);
    connect((&last, 3), (&middle, 1));
    let end = run(&last, &second, chain.genesis_state()).await.unwrap();
    // One more block would be needed to prove the newest.
    assert!((chain.height() - 4..chain.height() - 1).contains(&end.state.last_block_height));
}

type Script = Arc<dyn Fn(i64) -> Reply + Send + Sync>;
type Scripts = Vec<(i64, Script)>;

/// Syncs with scripted peers (height claimed, answers) and gives them back.
async fn with_peers(chain: &Arc<Recorded>, scripts: Scripts) -> (SyncEnd, Vec<Arc<Scripted>>) {
    with_config(config(), chain, scripts).await
}

async fn with_config(
    config: BlockSyncConfig,
    chain: &Arc<Recorded>,
    scripts: Scripts,
) -> (SyncEnd, Vec<Arc<Scripted>>) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), chain);
    let sync = BlockSync::new(config, Arc::clone(&node.blocks) as _, Handle::current(), CancellationToken::new());
    let peers: Vec<_> = scripts
        .into_iter()
        .enumerate()
        .map(|(at, (height, script))| connect_scripted(&sync, at as u8 + 1, 1, move || height, script))
        .collect();
    let end = run(&sync, &node, chain.genesis_state()).await.unwrap();
    check_synced(&node, chain, &end);
    (end, peers)
}

/// Changes one block of an otherwise honest peer.
fn tampered(chain: &Arc<Recorded>, at: i64, change: fn(&mut Block)) -> Arc<dyn Fn(i64) -> Reply + Send + Sync> {
    let chain = Arc::clone(chain);
    Arc::new(move |height| match chain.block(height) {
        Some(block) if height == at => {
            let mut block = block.clone();
            change(&mut block);
            Reply::Block(Box::new(block))
        }
        Some(block) => Reply::Block(Box::new(block.clone())),
        None => Reply::NoBlock,
    })
}

fn reseal(block: &mut Block) {
    block.header.data_hash = block.data.hash().to_vec();
    block.header.last_commit_hash = block.last_commit.as_ref().unwrap().hash().to_vec();
}

fn is_banned(peer: &Scripted) -> bool {
    peer.dropped.lock().as_ref().is_some_and(|reason| reason.ban.is_some())
}

fn is_dropped(peer: &Scripted) -> bool {
    peer.dropped.lock().is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_blocks_ban_their_senders() {
    let chain = Arc::new(Recorded::named("gas-fees-staking"));
    let changes: [fn(&mut Block); 6] = [
        // Another transaction, everything hashed anew.
        |block| {
            block.data.txs.push(vec![7; 40]);
            reseal(block);
        },
        // Another state root.
        |block| block.header.app_hash[0] ^= 1,
        // Other validators.
        |block| block.header.validators_hash[0] ^= 1,
        // Another block before it.
        |block| block.header.last_block_id.hash[0] ^= 1,
        // A forged signature in the commit, which light checks may pass over.
        |block| {
            let commit = block.last_commit.as_mut().unwrap();
            commit.signatures.last_mut().unwrap().signature[9] ^= 1;
            reseal(block);
        },
        // Another chain.
        |block| block.header.chain_id = "other".into(),
    ];
    for (case, change) in changes.into_iter().enumerate() {
        for at in [1, 2, 10, 11] {
            // The first block has no block before it, nor a commit.
            if at == 1 && [3, 4].contains(&case) {
                continue;
            }
            let script = tampered(&chain, at, change);
            let lie = Arc::new(Mutex::new(0));
            let honest = honest(&chain);
            // The honest peer does not have the block at first, so that the liar is asked.
            let (later, told) = (Arc::clone(&lie), Arc::clone(&lie));
            let liar: Arc<dyn Fn(i64) -> Reply + Send + Sync> = Arc::new(move |height| {
                if height == at {
                    *told.lock() += 1;
                }
                script(height)
            });
            let patient: Arc<dyn Fn(i64) -> Reply + Send + Sync> =
                Arc::new(
                    move |height| {
                        if height == at && *later.lock() == 0 { Reply::NoBlock } else { honest(height) }
                    },
                );
            let height = chain.height();
            let (_, peers) = with_peers(&chain, vec![(height, liar), (height, patient)]).await;
            assert!(*lie.lock() > 0 && is_banned(&peers[0]), "case {case} at {at}: {:?}", peers[0].dropped.lock());
            assert!(!is_dropped(&peers[1]), "case {case} at {at}: {:?}", peers[1].dropped.lock());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_and_unrequested_blocks_drop_their_senders() {
    let chain = Arc::new(Recorded::named("vault"));
    let malformed = tampered(&chain, 3, |block| block.header.data_hash[0] ^= 1);
    let unrequested = tampered(&chain, 4, |block| block.header.height += 1000);
    let height = chain.height();
    let once = |bad: Arc<dyn Fn(i64) -> Reply + Send + Sync>| vec![(height, bad), (height, honest(&chain))];
    for bad in [malformed, unrequested] {
        let (_, peers) = with_peers(&chain, once(bad)).await;
        // It was dropped if it was asked for that block at all.
        assert!(is_dropped(&peers[0]) || !peers[0].asked.lock().contains_key(&3), "{:?}", peers[0].dropped.lock());
        assert!(!is_dropped(&peers[1]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_and_slow_peers_do_not_stop_it() {
    let chain = Arc::new(Recorded::named("gas-fees-staking"));
    let height = chain.height();
    // Others do not have block 5 until the silent one was asked for it.
    let asked = Arc::new(AtomicI64::new(0));
    let told = Arc::clone(&asked);
    let silent: Script = Arc::new(move |height| {
        told.fetch_max(i64::from(height == 5), Ordering::SeqCst);
        Reply::Nothing
    });
    let after_silent = |script: Script| -> Script {
        let asked = Arc::clone(&asked);
        Arc::new(
            move |height| {
                if height == 5 && asked.load(Ordering::SeqCst) == 0 { Reply::NoBlock } else { script(height) }
            },
        )
    };
    let slow_chain = Arc::clone(&chain);
    let slow: Script = Arc::new(move |height| match slow_chain.block(height) {
        Some(block) => Reply::Later(Duration::from_millis(50), Box::new(block.clone())),
        None => Reply::NoBlock,
    });
    let without: Script = Arc::new(|_| Reply::NoBlock);
    let (slow, honest) = (after_silent(slow), after_silent(honest(&chain)));
    let scripts = || [&silent, &slow, &without, &honest].map(|script| (height, Arc::clone(script))).to_vec();
    // Without second requests, the silent peer must be dropped first.
    let mut patient = config();
    patient.limits.silence = Duration::from_millis(1500);
    patient.limits.second_peer_after = Duration::from_secs(100);
    let (_, peers) = with_config(patient, &chain, scripts()).await;
    let dropped: Vec<bool> = peers.iter().map(|peer| is_dropped(peer)).collect();
    assert_eq!(dropped, [true, false, false, false]);
    // With them, it goes on beside it.
    asked.store(0, Ordering::SeqCst);
    let mut hurried = config();
    hurried.limits.silence = Duration::from_secs(100);
    hurried.limits.request_timeout = Duration::from_secs(100);
    let (_, peers) = with_config(hurried, &chain, scripts()).await;
    assert!(peers.iter().all(|peer| !is_dropped(peer)));
}

/// A peer that claims a height that nobody has is left out when it takes it back, and does not keep the node syncing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heights_taken_back() {
    let chain = Arc::new(Recorded::named("vault"));
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &chain);
    let sync = reactor(&node);
    let claimed = Arc::new(AtomicI64::new(1_000_000));
    let told = Arc::clone(&claimed);
    let liar = connect_scripted(&sync, 1, 1, move || told.load(Ordering::SeqCst), Arc::new(|_| Reply::Nothing));
    let height = chain.height();
    connect_scripted(&sync, 2, 1, move || height, honest(&chain));
    let lower = Arc::clone(&claimed);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(150)).await;
        lower.store(5, Ordering::SeqCst);
    });
    let end = run(&sync, &node, chain.genesis_state()).await.unwrap();
    check_synced(&node, &chain, &end);
    // Taking back keeps the connection; silence before that may have ended it.
    assert!(liar.dropped.lock().as_ref().is_none_or(|reason| reason.ban.is_none()));
}

/// Peers whose blocks begin above ours do not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruned_peers_do_not_count() {
    let chain = Arc::new(Recorded::named("vault"));
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &chain);
    let sync = reactor(&node);
    let height = chain.height();
    connect_scripted(&sync, 1, 1_000_000, || 2_000_000, Arc::new(|_| Reply::Nothing));
    connect_scripted(&sync, 2, 1, move || height, honest(&chain));
    let end = run(&sync, &node, chain.genesis_state()).await.unwrap();
    check_synced(&node, &chain, &end);
}

/// An application that computes something else than the network stops the node; no peer is to blame.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn divergence_is_told() {
    let chain = Arc::new(Recorded::named("vault"));
    let mut other = Recorded::named("vault");
    other.blocks[9].header.app_hash[0] ^= 1;
    let dir = tempfile::tempdir().unwrap();
    let node = Node::with(dir.path(), Arc::new(Memory::new()), RecordedApp::new(&Arc::new(other), &Arc::default()));
    let sync = reactor(&node);
    let height = chain.height();
    let peer = connect_scripted(&sync, 2, 1, move || height, honest(&chain));
    let error = run(&sync, &node, chain.genesis_state()).await.unwrap_err();
    assert!(matches!(error, BlockSyncError::Diverged { height: 10, .. }), "{error}");
    assert!(!is_dropped(&peer) && node.disk.lock().height == 9);
}

/// The application fails in the middle of a group of stored blocks; after a restart the handshake and another run finish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recovers_from_a_crash_within_a_group() {
    let chain = Arc::new(Recorded::named("gas-fees-staking"));
    let height = chain.height();
    for crash_at in [1, 2, 17, height - 2] {
        let dir = tempfile::tempdir().unwrap();
        let kv: Arc<dyn KvStore> = Arc::new(Memory::new());
        let disk: Arc<Mutex<Disk>> = Arc::default();
        let mut app = RecordedApp::new(&chain, &disk);
        app.crash_at = crash_at;
        let node = Node::with(dir.path(), Arc::clone(&kv), app);
        let start = comet_store::handshake(&node.executor, &chain.genesis).unwrap();
        let sync = reactor(&node);
        connect_scripted(&sync, 2, 1, move || height, honest(&chain));
        let error = run(&sync, &node, start).await.unwrap_err();
        assert!(matches!(error, BlockSyncError::Apply { height, .. } if height == crash_at), "{error}");
        assert!(node.blocks.height() >= crash_at && disk.lock().height == crash_at - 1);

        // What a process that died has left behind.
        let left = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, left.path().join(path.file_name().unwrap())).unwrap();
        }
        let node = Node::with(left.path(), kv, RecordedApp::new(&chain, &disk));
        let state = comet_store::handshake(&node.executor, &chain.genesis).unwrap();
        assert_eq!(state.last_block_height, node.blocks.height());
        let sync = reactor(&node);
        connect_scripted(&sync, 2, 1, move || height, honest(&chain));
        let end = run(&sync, &node, state).await.unwrap();
        assert_eq!(end.state, chain.states[usize::try_from(end.state.last_block_height).unwrap()]);
        assert!(end.state.last_block_height >= height - 2);
    }
}

/// Told to stop, it stops; run again, it goes on. Two runs at once are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_and_runs_again() {
    let chain = Arc::new(Recorded::named("gas-fees-staking"));
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &chain);
    let sync = reactor(&node);
    let height = chain.height();
    let half = Arc::clone(&chain);
    let upto = height / 2;
    let peer = connect_scripted(
        &sync,
        1,
        1,
        move || height,
        Arc::new(move |height| match half.block(height) {
            Some(block) if height <= upto => Reply::Block(Box::new(block.clone())),
            _ => Reply::NoBlock,
        }),
    );
    let sink = Arc::new(StoreSink { executor: Arc::clone(&node.executor) });
    let stop = CancellationToken::new();
    let first = {
        let (sync, sink, stop, state) = (Arc::clone(&sync), sink.clone(), stop.clone(), chain.genesis_state());
        tokio::spawn(async move { sync.run(state, sink, Goal::CaughtUp, stop).await })
    };
    while node.disk.lock().height < upto - 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let refused = sync.run(chain.genesis_state(), sink, Goal::CaughtUp, CancellationToken::new()).await;
    assert!(matches!(refused, Err(BlockSyncError::Running)));
    assert_eq!(sync.status().unwrap().next, upto);
    stop.cancel();
    let end = first.await.unwrap().unwrap();
    assert!(!end.caught_up && end.state.last_block_height == upto - 1 && sync.status().is_none());

    peer.stop(comet_net::DropPeer::new("another comes"));
    connect_scripted(&sync, 2, 1, move || height, honest(&chain));
    let again = run(&sync, &node, end.state).await.unwrap();
    assert!(again.state.last_block_height >= height - 2);
    assert_eq!(again.applied as i64, again.state.last_block_height - (upto - 1));
}

/// A goal below the peers' height ends the run early.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_goal_ends_the_run() {
    let chain = Arc::new(Recorded::named("gas-fees-staking"));
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &chain);
    let sync = reactor(&node);
    let height = chain.height();
    let some = Arc::clone(&chain);
    // More than the goal needs is not to be had, so that being level is not what ends it.
    let script = move |height| match some.block(height) {
        Some(block) if height <= 12 => Reply::Block(Box::new(block.clone())),
        _ => Reply::Nothing,
    };
    connect_scripted(&sync, 1, 1, move || height, Arc::new(script));
    let sink = Arc::new(StoreSink { executor: Arc::clone(&node.executor) });
    let run = sync.run(chain.genesis_state(), sink, Goal::Height(10), CancellationToken::new());
    let end = tokio::time::timeout(Duration::from_secs(20), run).await.unwrap().unwrap();
    assert!(end.caught_up && (10..=11).contains(&end.state.last_block_height));
}

/// Stored bytes come from the fields, whatever the encoding received looked like.
#[test]
fn parts_are_made_anew() {
    let chain = Recorded::named("vault");
    let block = chain.block(5).unwrap();
    let mut loose = block.encode_to_vec();
    // An unknown field at the end.
    loose.extend_from_slice(&[0xfa, 0x3f, 1, 0]);
    let decoded = Block::decode(&loose).unwrap();
    let candidate = comet_sync::block_sync::verify::Candidate::new(decoded, crate::lab::peer_id(1)).unwrap();
    assert_eq!(candidate.id, block.id().unwrap());
    assert_eq!(candidate.parts.assemble().unwrap(), block.encode_to_vec());
}
