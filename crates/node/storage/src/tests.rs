//! Several stores over one chain and one network.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base_codec::{Bytes, Raw, cbor};
use base_kv::{Crash, Faulty, Memory};
use base_prims::Hash;
use mkvs_tree::sync::{GetRequest, TreeId};
use p2p_net::api::P2p;
use p2p_net::rpc::{Request, Response};
use rt_host::notify::TagLookup;
use rt_host::services::{RuntimeState, SyncRequest};
use rt_storage::messages::{GetCheckpointsResponse, GetChunkResponse, GetDiffResponse};
use rt_storage::roots_of;

use crate::testing::*;
use crate::{StoreError, UNDEFINED_ROUND};

const TIME: Duration = Duration::from_secs(600);

/// Polls until something holds; time passes meanwhile.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIME, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn all_rounds(running: &Running, rounds: &[Round]) {
    for round in rounds {
        let kept = running.store.history().committed_block(round.header.round).unwrap();
        assert_eq!(kept.block.unwrap().header, round.header);
        assert_eq!(kept.consensus_height, MemoryChain::height_of(round.header.round));
    }
}

fn last(rounds: &[Round]) -> u64 {
    rounds.last().unwrap().header.round
}

/// A node that has the state of all rounds and serves checkpoints if it shall.
fn source(network: &Arc<Network>, chain: &Arc<MemoryChain>, rounds: &[Round], checkpoints: bool) -> (Home, Running) {
    let mut home = Home::new(network);
    home.config.storage.checkpointer.enabled = checkpoints;
    home.config.storage.checkpointer.check_interval = node_config::GoDuration(Duration::from_secs(1));
    let store = home.open(chain);
    fill(store.storage().unwrap(), rounds);
    let running = Running::new(store);
    (home, running)
}

fn without_checkpoints(network: &Arc<Network>) -> Home {
    let mut home = Home::new(network);
    home.config.storage.checkpoint_sync_disabled = true;
    home
}

#[tokio::test(start_paused = true)]
async fn indexes_from_nothing_and_goes_on() {
    let rounds = rounds(60);
    let (network, chain) = (Arc::new(Network::default()), MemoryChain::new(rounds.clone()));
    let mut home = Home::new(&network);
    (home.storage, home.config.runtime.indexer.batch_size) = (None, 7);
    let running = home.start(&chain);
    // Nothing before the runtime is there.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!*running.store.initialized().borrow());
    assert_eq!(running.store.status().indexer.status, rt_history::Status::Started);
    chain.advance(1);
    running.indexed(FIRST).await;
    assert!(*running.store.initialized().borrow());
    chain.advance(20);
    running.indexed(FIRST + 20).await;
    all_rounds(&running, &rounds[..=20]);
    assert_eq!(running.store.status().indexer.status, rt_history::Status::Indexing);
    assert_eq!(running.store.can_prune_consensus(chain_height(&chain)), Ok(()));
    assert!(running.store.can_prune_consensus(chain_height(&chain) + 1).is_err());
    running.stop().await.unwrap();

    // Rounds made meanwhile are looked up.
    chain.advance(25);
    let running = home.start(&chain);
    running.indexed(FIRST + 45).await;
    all_rounds(&running, &rounds[..=45]);

    // The consensus layer fails for a while.
    chain.set_failing(true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    chain.advance(5);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(running.store.history().last_round(), Some(FIRST + 45));
    chain.set_failing(false);
    running.indexed(FIRST + 50).await;
    all_rounds(&running, &rounds[..=50]);
    running.stop().await.unwrap();
    assert_eq!(home.peer.served(), Vec::<String>::new());
}

fn chain_height(chain: &Arc<MemoryChain>) -> i64 {
    node_workers::Chain::latest_height(&**chain)
}

#[tokio::test(start_paused = true)]
async fn indexes_from_the_earliest_state() {
    let rounds = rounds(40);
    let (network, chain) = (Arc::new(Network::default()), MemoryChain::new(rounds.clone()));
    chain.advance(30);
    // The state after round 20 is the earliest, and one without its own block.
    chain.prune(MemoryChain::height_of(FIRST + 20) + 1);
    let mut home = Home::new(&network);
    home.storage = None;
    let running = home.start(&chain);
    running.indexed(FIRST + 29).await;
    all_rounds(&running, &rounds[21..=29]);
    let earliest = running.store.history().earliest_block().unwrap();
    assert_eq!(earliest.block.unwrap().header.round, FIRST + 21);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn syncs_differences_from_a_peer() {
    let rounds = rounds(140);
    let (network, chain) = (Arc::new(Network::default()), MemoryChain::new(rounds.clone()));
    chain.advance(130);
    let (_home, from) = source(&network, &chain, &rounds[..130], false);
    from.synced(FIRST + 129).await;
    let home = without_checkpoints(&network);
    let to = home.start(&chain);
    assert_eq!(to.store.status().storage.unwrap().last_finalized_round, UNDEFINED_ROUND);
    to.synced(FIRST + 129).await;
    for round in &rounds[..130] {
        assert!(is_whole(to.store.storage().unwrap(), &round.header), "round {}", round.header.round);
    }
    until("available", || *to.store.available().borrow()).await;
    let status = to.store.status().storage.unwrap();
    assert_eq!((status.status.as_str(), status.last_finalized_round), ("syncing rounds", FIRST + 129));
    let synced = to.store.last_synced().unwrap();
    assert_eq!([synced.io_root, synced.state_root], roots_of(&rounds[129].header));

    // What this node computes itself it does not ask for.
    let asked = _home.peer.calls();
    store(to.store.storage().unwrap(), Some(&rounds[129].header), &rounds[130]);
    let root = roots_of(&rounds[130].header)[1];
    assert_eq!(to.store.wait_round(FIRST + 130, Some(root)).await.unwrap(), FIRST + 129, "the root is there");
    chain.advance(1);
    to.synced(FIRST + 130).await;
    assert_eq!(_home.peer.calls(), asked);
    // Waiting for a root that the round has not.
    let other = mkvs_tree::Root { hash: Hash::of(&[b"other"]), ..root };
    let wrong = to.store.wait_round(FIRST + 130, Some(other)).await;
    assert!(matches!(wrong, Err(StoreError::NoRoot(_))), "{wrong:?}");

    // Far behind it is not available.
    from.stop().await.unwrap();
    _home.peer.set_down(true);
    let mut available = to.store.available();
    chain.advance(5);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(*available.borrow_and_update());
    to.stop().await.unwrap();
    assert!(!*available.borrow());
    let tracked: Vec<String> = home.peer.tracked.lock().iter().map(ToString::to_string).collect();
    assert_eq!(tracked.len(), 3);
    assert!(tracked.iter().all(|name| name.starts_with(&format!("/oasis/{CONTEXT}/"))));
}

#[tokio::test(start_paused = true)]
async fn becomes_unavailable_when_far_behind() {
    let rounds = rounds(60);
    let (network, chain) = (Arc::new(Network::default()), MemoryChain::new(rounds.clone()));
    chain.advance(21);
    let (_home, running) = source(&network, &chain, &rounds[..21], false);
    until("available", || *running.store.available().borrow()).await;
    chain.advance(15);
    running.indexed(FIRST + 35).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(*running.store.available().borrow());
    chain.advance(1);
    until("unavailable", || !*running.store.available().borrow()).await;
    running.stop().await.unwrap();
}

/// Changes a peer's answers to a method.
fn lie_about<T: cbor::Decode + cbor::Encode>(
    method: &'static str,
    change: impl Fn(&mut T) + Send + Sync + 'static,
) -> Lie {
    Arc::new(move |_, request, answer| {
        let asked: Request = cbor::from_slice(request).unwrap();
        let told: Response = cbor::from_slice(&answer).unwrap();
        if asked.method != method || told.error.is_some() {
            return answer;
        }
        let mut body: T = cbor::from_slice(&told.ok).unwrap();
        change(&mut body);
        cbor::to_vec(&Response { ok: Raw::of(&body), error: None })
    })
}

#[tokio::test(start_paused = true)]
async fn a_peer_with_wrong_differences_is_blocked() {
    let rounds = rounds(20);
    let (network, chain) = (Arc::new(Network::default()), MemoryChain::new(rounds.clone()));
    chain.advance(21);
    let (liar, bad) = source(&network, &chain, &rounds, false);
    bad.synced(last(&rounds)).await;
    liar.peer.set_lie(lie_about("GetDiff", |answer: &mut GetDiffResponse| {
        if let Some(entry) = answer.write_log.first_mut() {
            entry.value = Some(Bytes(b"lie".to_vec()));
        }
    }));
    let home = without_checkpoints(&network);
    let running = home.start(&chain);
    // Only the liar is there.
    until("blocked", || home.peer.judged(liar.peer.id, "bad") > 0).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(running.store.last_synced().is_none_or(|s| s.round <= FIRST + 1));
    let (_honest, good) = source(&network, &chain, &rounds, false);
    running.synced(last(&rounds)).await;
    for round in &rounds {
        assert!(is_whole(running.store.storage().unwrap(), &round.header));
    }
    assert_eq!(home.peer.judged(_honest.peer.id, "bad"), 0);
    assert!(home.peer.judged(_honest.peer.id, "success") > 10);
    for node in [bad, good, running] {
        node.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn restores_a_checkpoint_of_a_peer() {
    let rounds = rounds(40);
    let (network, chain) = (Arc::new(Network::default()), MemoryChain::new(rounds.clone()));
    chain.advance(38);
    let (from_home, from) = source(&network, &chain, &rounds[..38], true);
    let files = mkvs_db::checkpoint::Files::new(from_home.folder.path().join("checkpoints"));
    // Beside the two newest that are due there is that of the first round, whose roots are the same: empty.
    let versions = || {
        let mut all: Vec<u64> = files.list(None).unwrap().iter().map(|m| m.root.version).collect();
        all.sort_unstable();
        all
    };
    until("checkpoints", || versions().len() == 5).await;
    assert_eq!(versions(), [FIRST, FIRST + 20, FIRST + 20, FIRST + 30, FIRST + 30]);
    assert_eq!(from_home.peer.served(), ["checkpointsync", "diffsync", "storagesync"]);

    let home = Home::new(&network);
    let to = home.start(&chain);
    to.synced(FIRST + 37).await;
    let storage = to.store.storage().unwrap();
    assert_eq!(storage.db().earliest_version(), Some(FIRST + 30), "nothing before, without gaps");
    assert!(rounds[1..30].iter().filter(|r| r.header.round % 5 != FIRST).all(|r| !is_whole(storage, &r.header)));
    assert!(rounds[30..38].iter().all(|r| is_whole(storage, &r.header)));
    assert!(*to.store.initialized().borrow());
    // What is offered to peers is what is told at home.
    let listed = from.store.checkpoints().await.unwrap();
    assert_eq!(listed.len(), 5);
    let chunk = listed[0].chunk(0).unwrap();
    let bytes = from.store.checkpoint_chunk(chunk).await.unwrap();
    assert_eq!(Hash::of(&[&bytes]), chunk.digest);
    // It goes on from there, and serves no checkpoints but in the old protocol.
    assert_eq!(home.peer.served(), ["diffsync", "storagesync"]);
    store(from.store.storage().unwrap(), Some(&rounds[37].header), &rounds[38]);
    chain.advance(1);
    to.synced(FIRST + 38).await;
    from.synced(FIRST + 38).await;

    // A pause of the checkpointer keeps what is due from being made.
    from.store.pause_checkpointer(true).unwrap();
    for n in [39, 40] {
        store(from.store.storage().unwrap(), Some(&rounds[n - 1].header), &rounds[n]);
        chain.advance(1);
        from.synced(rounds[n].header.round).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!versions().contains(&(FIRST + 40)));
    from.store.pause_checkpointer(false).unwrap();
    until("resumed", || versions().contains(&(FIRST + 40))).await;
    from.stop().await.unwrap();
    to.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn makes_checkpoints_with_the_consensus_layer() {
    let rounds = rounds(40);
    for enabled in [true, false] {
        let (network, chain) = (Arc::new(Network::default()), MemoryChain::new(rounds.clone()));
        chain.advance(1);
        let mut home = Home::new(&network);
        home.config.storage.checkpointer.enabled = enabled;
        home.config.storage.checkpointer.check_interval = node_config::GoDuration(Duration::from_secs(1_000_000));
        let running = home.start(&chain);
        running.synced(FIRST).await;
        for n in 1..=40 {
            store(running.store.storage().unwrap(), Some(&rounds[n - 1].header), &rounds[n]);
            chain.advance(1);
            running.synced(rounds[n].header.round).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let files = mkvs_db::checkpoint::Files::new(home.folder.path().join("checkpoints"));
        // The consensus layer makes some at heights 30, 50, 70 and 90; what counts is the block after.
        let at = |height: i64| FIRST + ((height - GENESIS_HEIGHT) / 2) as u64 - 1;
        let expected = [FIRST, at(31), at(51), at(71), at(91)];
        let made = || {
            let mut made: Vec<u64> = files.list(None).unwrap().iter().map(|m| m.root.version).collect();
            made.dedup();
            made
        };
        let wanted = if enabled { &expected[..] } else { &expected[..1] };
        until("checkpoints", || made() == wanted).await;
        running.stop().await.unwrap();
    }
}

/// A runtime that begins with a state needs the checkpoint of its first round, and takes no other if it shall not.
#[tokio::test(start_paused = true)]
async fn begins_with_the_state_of_the_first_round() {
    let all = rounds(40);
    // The runtime's chain as one that begins after an epoch, with the state of the old one.
    let later = &all[10..];
    let (network, chain) = (Arc::new(Network::default()), MemoryChain::new(later.to_vec()));
    chain.advance(25);
    let mut home = Home::new(&network);
    home.config.storage.checkpointer.enabled = true;
    home.config.storage.checkpointer.check_interval = node_config::GoDuration(Duration::from_secs(1));
    let store = home.open(&chain);
    fill(store.storage().unwrap(), &all[..35]);
    let from = Running::new(store);
    let files = mkvs_db::checkpoint::Files::new(home.folder.path().join("checkpoints"));
    let first = later[0].header.round;
    until("checkpoints", || {
        let all = files.list(None).unwrap();
        all.iter().any(|m| m.root.version == first) && all.iter().any(|m| m.root.version == first + 20)
    })
    .await;
    for disabled in [true, false] {
        let mut home = Home::new(&network);
        home.config.storage.checkpoint_sync_disabled = disabled;
        let to = home.start(&chain);
        tokio::time::timeout(TIME, to.store.wait_round(later[24].header.round, None)).await.unwrap().unwrap();
        let storage = to.store.storage().unwrap();
        assert_eq!(is_whole(storage, &later[1].header), disabled);
        assert!(is_whole(storage, &later[24].header));
        to.stop().await.unwrap();
    }
    from.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_with_wrong_chunks_is_blocked() {
    let rounds = rounds(24);
    let (network, chain) = (Arc::new(Network::default()), MemoryChain::new(rounds.clone()));
    chain.advance(25);
    let mut liars = Vec::new();
    let mut nodes = Vec::new();
    let mut homes = Vec::new();
    for _ in 0..4 {
        let (home, node) = source(&network, &chain, &rounds, true);
        let folder = home.folder.path().join("checkpoints");
        let files = mkvs_db::checkpoint::Files::new(folder);
        until("checkpoints", || files.list(None).unwrap().len() == 5).await;
        nodes.push(node);
        liars.push(home.peer.id);
        homes.push(home);
    }
    // One offers another root, one chunks that are none, one bytes other than it offered.
    homes[0].peer.set_lie(lie_about("GetCheckpoints", |answer: &mut GetCheckpointsResponse| {
        answer.checkpoints.last_mut().unwrap().root.hash = Hash::of(&[b"lie"]);
    }));
    let garbage = b"garbage".to_vec();
    let offered = garbage.clone();
    let offer = lie_about("GetCheckpoints", move |answer: &mut GetCheckpointsResponse| {
        for metadata in &mut answer.checkpoints {
            metadata.chunks[0] = Hash::of(&[&offered]);
        }
    });
    let chunk =
        lie_about("GetCheckpointChunk", move |answer: &mut GetChunkResponse| answer.chunk = Bytes(garbage.clone()));
    let garbled: Lie = Arc::new(move |protocol, request, answer| {
        let asked: Request = cbor::from_slice(request).unwrap();
        // The server knows no such chunk, so the answer is made up.
        if asked.method == "GetCheckpointChunk" {
            let made_up = Response { ok: Raw::of(&GetChunkResponse::default()), error: None };
            return chunk(protocol, request, cbor::to_vec(&made_up));
        }
        offer(protocol, request, answer)
    });
    homes[1].peer.set_lie(garbled);
    homes[2].peer.set_lie(lie_about("GetCheckpointChunk", |answer: &mut GetChunkResponse| {
        answer.chunk.0.push(0);
    }));
    homes[2..].iter().for_each(|h| h.peer.set_down(true));
    let home = Home::new(&network);
    let running = home.start(&chain);
    until("blocked", || liars[..2].iter().all(|liar| home.peer.judged(*liar, "bad") > 0)).await;
    homes[2..].iter().for_each(|h| h.peer.set_down(false));
    running.synced(last(&rounds)).await;
    let storage = running.store.storage().unwrap();
    assert!(!is_whole(storage, &rounds[19].header) && is_whole(storage, &rounds[20].header));
    assert_eq!(home.peer.judged(liars[2], "bad"), 0, "may have been damaged on the way");
    assert!(home.peer.judged(liars[2], "failure") > 0);
    assert_eq!(home.peer.judged(liars[3], "bad"), 0);
    for node in nodes {
        node.stop().await.unwrap();
    }
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_bridges_blocks_that_are_missing() {
    let rounds = rounds(40);
    let (network, chain) = (Arc::new(Network::default()), MemoryChain::new(rounds.clone()));
    chain.advance(8);
    let home = without_checkpoints(&network);
    let (_first, from) = source(&network, &chain, &rounds[..8], false);
    let to = home.start(&chain);
    to.synced(FIRST + 7).await;
    to.stop().await.unwrap();
    from.stop().await.unwrap();
    _first.peer.set_down(true);

    chain.advance(30);
    chain.prune(MemoryChain::height_of(FIRST + 20));
    let to = home.start(&chain);
    to.indexed(FIRST + 37).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(to.store.status().storage.unwrap().status, "syncing checkpoints");
    let (_second, from) = source(&network, &chain, &rounds[..38], true);
    to.synced(FIRST + 37).await;
    let storage = to.store.storage().unwrap();
    let earliest = storage.db().earliest_version().unwrap();
    assert!(earliest >= FIRST + 20);
    assert!(rounds[..38].iter().filter(|r| r.header.round >= earliest).all(|r| is_whole(storage, &r.header)));
    to.stop().await.unwrap();
    from.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn restarts_in_the_middle() {
    let rounds = rounds(60);
    let (network, chain) = (Arc::new(Network::default()), MemoryChain::new(rounds.clone()));
    chain.advance(61);
    let (_home, from) = source(&network, &chain, &rounds, false);
    from.synced(last(&rounds)).await;
    let home = without_checkpoints(&network);
    for stop_at in [FIRST, FIRST + 1, FIRST + 10, FIRST + 11, FIRST + 30, FIRST + 59] {
        let running = home.start(&chain);
        running.synced(stop_at).await;
        running.stop().await.unwrap();
    }
    let running = home.start(&chain);
    running.synced(last(&rounds)).await;
    for round in &rounds {
        assert!(is_whole(running.store.storage().unwrap(), &round.header));
    }
    running.stop().await.unwrap();
    from.stop().await.unwrap();
}

/// The machine crashes at any write, of history or state, in synchronisation by differences and by checkpoints.
#[tokio::test(start_paused = true)]
async fn crashes_at_writes() {
    let rounds = rounds(24);
    let (network, chain) = (Arc::new(Network::default()), MemoryChain::new(rounds.clone()));
    chain.advance(25);
    let (from_home, from) = source(&network, &chain, &rounds, true);
    let files = mkvs_db::checkpoint::Files::new(from_home.folder.path().join("checkpoints"));
    until("checkpoints", || files.list(None).unwrap().len() == 5).await;
    let crashed = AtomicUsize::new(0);
    for by_checkpoint in [false, true] {
        for at in [0, 1, 2, 3, 5, 8, 13, 21, 34, 55] {
            for place in ["history", "state", "state behind"] {
                let mut home = Home::new(&network);
                home.config.storage.checkpoint_sync_disabled = !by_checkpoint;
                let faulty = Arc::new(Faulty::new(Memory::new(), Some(Crash { at_write: at, applied: at % 2 == 0 })));
                match place {
                    "history" => home.history = faulty.clone(),
                    "state" => home.storage = Some(faulty.clone()),
                    _ => home.storage = Some(Arc::new(node_app::WriteBehind::new(faulty.clone()).unwrap())),
                }
                let stores = crate::Stores { history: home.history.clone(), storage: home.storage.clone() };
                if let Ok(store) = crate::RuntimeStore::open_in(home.setup(&chain), stores) {
                    let running = Running::new(store);
                    let at_end = running.store.clone();
                    until("down or done", || {
                        faulty.is_down() || at_end.last_synced().is_some_and(|s| s.round == last(&rounds))
                    })
                    .await;
                    if place == "state" && faulty.is_down() {
                        let text = running.ended().await.unwrap_err().to_string();
                        assert!(at_end.status().error.is_some(), "{text}");
                    } else {
                        // A history that fails is tried again and again; what is written behind fails later.
                        drop(running.stop().await);
                    }
                }
                crashed.fetch_add(usize::from(faulty.is_down()), Ordering::Relaxed);
                let kept: Arc<dyn base_kv::KvStore> = Arc::new(faulty.restart(at));
                match place {
                    "history" => home.history = kept,
                    _ => home.storage = Some(kept),
                }
                let running = home.start(&chain);
                running.synced(last(&rounds)).await;
                let storage = running.store.storage().unwrap();
                assert!(is_whole(storage, &rounds[24].header));
                assert_eq!(is_whole(storage, &rounds[18].header), !by_checkpoint);
                running.stop().await.unwrap();
            }
        }
    }
    assert!(crashed.load(Ordering::Relaxed) > 20, "{crashed:?}");
    from.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn prunes_what_nobody_needs() {
    let rounds = rounds(60);
    let (network, chain) = (Arc::new(Network::default()), MemoryChain::new(rounds.clone()));
    chain.advance(50);
    let mut home = Home::new(&network);
    home.config.runtime.prune.strategy = "keep_last".to_owned();
    home.config.runtime.prune.num_kept = 10;
    home.config.runtime.prune.interval = node_config::GoDuration(Duration::from_secs(1));
    let store = home.open(&chain);
    fill(store.storage().unwrap(), &rounds[..50]);
    let vetoed = FIRST + 20;
    store.set_prune_veto(Arc::new(move |round| if round >= vetoed { Err("needed".to_owned()) } else { Ok(()) }));
    let running = Running::new(store);
    running.synced(FIRST + 49).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let earliest = |running: &Running| running.store.history().earliest_block().unwrap().block.unwrap().header.round;
    assert_eq!(earliest(&running), FIRST, "all or nothing at a time");
    running.store.set_prune_veto(Arc::new(|_| Ok(())));
    until("pruned", || earliest(&running) == FIRST + 40).await;
    let db = running.store.storage().unwrap().db().clone();
    until("states pruned", || db.earliest_version() == Some(FIRST + 40)).await;
    assert!(is_whole(running.store.storage().unwrap(), &rounds[40].header));

    // Rounds whose state is not here yet stay.
    chain.advance(11);
    running.indexed(FIRST + 60).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(earliest(&running), FIRST + 40);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn answers_components_with_and_without_state() {
    let rounds = rounds(8);
    let (network, chain) = (Arc::new(Network::default()), MemoryChain::new(rounds.clone()));
    chain.advance(9);
    let mut home = Home::new(&network);
    home.config.storage.public_rpc_enabled = true;
    let store = home.open(&chain);
    fill(store.storage().unwrap(), &rounds);
    let with = Running::new(store);
    with.synced(last(&rounds)).await;
    assert_eq!(home.peer.served(), ["diffsync", "storagepub", "storagesync"]);
    let mut other = Home::new(&network);
    other.storage = None;
    let without = other.start(&chain);
    without.synced(last(&rounds)).await;
    assert!(without.store.storage().is_none() && without.store.status().storage.is_none());
    assert!(matches!(without.store.pause_checkpointer(true), Err(StoreError::Stateless)));
    assert_eq!(other.peer.tracked.lock().len(), 1);

    let root = roots_of(&rounds[8].header)[1];
    let tree = TreeId { root, position: root.hash };
    let get = GetRequest { tree, key: Bytes(b"key 0".to_vec()), ..GetRequest::default() };
    let proved = with.store.state(SyncRequest::Get(get.clone())).await.unwrap();
    assert!(!proved.proof.entries.is_empty());
    assert_eq!(without.store.state(SyncRequest::Get(get.clone())).await.unwrap(), proved);
    home.peer.set_down(true);
    without.store.state(SyncRequest::Get(get.clone())).await.unwrap_err();
    let missing = GetRequest { tree: TreeId { root: mkvs_tree::Root { version: 99, ..root }, ..get.tree }, ..get };
    with.store.state(SyncRequest::Get(missing)).await.unwrap_err();

    let block = with.store.history().block(FIRST + 7).unwrap();
    let tags = [Bytes(b"tag 7".to_vec()), Bytes(b"tag".to_vec()), Bytes(b"tag 70".to_vec())];
    assert_eq!(with.store.present(&block, &tags).await.unwrap(), [Bytes(b"tag 7".to_vec())]);
    assert!(without.store.present(&block, &tags).await.is_err());
    with.stop().await.unwrap();
    without.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_told_and_ends_alone() {
    let rounds = rounds(12);
    let (network, chain) = (Arc::new(Network::default()), MemoryChain::new(rounds.clone()));
    chain.advance(13);
    let (_one, sound) = source(&network, &chain, &rounds[..10], false);
    // A database of another chain.
    let home = Home::new(&network);
    let store = home.open(&chain);
    let [io, _] = roots_of(&rounds[12].header);
    let mut tree = store.storage().unwrap().db().empty_tree(mkvs_tree::RootType::STATE);
    mkvs_tree::KvWrite::insert(tree.tree_mut(), b"other", b"chain").unwrap();
    let other = tree.commit(FIRST + 40).unwrap();
    store
        .storage()
        .unwrap()
        .db()
        .finalize(&[other, mkvs_tree::Root { hash: Hash::EMPTY, version: FIRST + 40, ..io }])
        .unwrap();
    let failing = Running::new(store);
    let kept = failing.store.clone();
    let error = failing.ended().await.unwrap_err();
    assert!(error.to_string().contains("is final without root"), "{error}");
    let status = kept.status();
    assert_eq!(status.error, Some(error.to_string()));
    assert_eq!(status.storage.unwrap().status, "stopping");
    assert_eq!(status.indexer.status, rt_history::Status::Stopped);
    sound.synced(FIRST + 9).await;
    sound.stop().await.unwrap();
}

#[tokio::test]
async fn opens_on_disk() {
    let rounds = rounds(5);
    let (network, chain) = (Arc::new(Network::default()), MemoryChain::new(rounds.clone()));
    chain.advance(6);
    let (_home, from) = source(&network, &chain, &rounds, false);
    let home = without_checkpoints(&network);
    for _ in 0..2 {
        let store = crate::RuntimeStore::open(home.setup(&chain)).unwrap();
        let running = Running::new(store);
        running.synced(last(&rounds)).await;
        running.stop().await.unwrap();
        home.peer.forget_served();
    }
    for name in ["history", "storage"] {
        assert!(home.folder.path().join(name).join("data.mdb").exists());
    }
    from.stop().await.unwrap();
    assert!(home.peer.peers(&p2p_net::ids::DIFF_SYNC.of_runtime(CONTEXT, &id())).len() == 1);
}
