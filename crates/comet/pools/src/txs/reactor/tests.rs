//! Gossip with peers that are connected to nothing, and between two switches.

use std::collections::HashMap;
use std::time::Duration;

use base_crypto::ed25519::SecretKey;
use comet_net::testing::{peer, stop_reason, take_sent};
use comet_net::{NetConfig, PeerAddress, Switch, SwitchHandle};
use parking_lot::Mutex;
use wire_cometbft::merkle::sha256;
use wire_cometbft::p2p::NodeInfo;

use super::*;
use crate::txs::tests::{SharedScript, commit, pool, pool_with};
use crate::txs::{PoolError, TxPoolConfig};

/// Heights by peer id; all of them 1 if there is no map.
#[derive(Default)]
pub(crate) struct Heights(pub(crate) Mutex<Option<HashMap<String, i64>>>);

impl PeerHeights for Heights {
    fn height(&self, id: &PeerId) -> Option<i64> {
        self.0.lock().as_ref().map_or(Some(1), |heights| heights.get(&*id.0).copied())
    }
}

impl Heights {
    pub(crate) fn of(heights: &[(&str, i64)]) -> Arc<Self> {
        let map = heights.iter().map(|(id, height)| ((*id).to_owned(), *height)).collect();
        Arc::new(Self(Mutex::new(Some(map))))
    }

    pub(crate) fn set(&self, id: &str, height: i64) {
        self.0.lock().get_or_insert_default().insert(id.to_owned(), height);
    }
}

struct Bench {
    reactor: TxPoolReactor,
    pool: Arc<TxPool>,
    script: SharedScript,
    heights: Arc<Heights>,
    stop: CancellationToken,
}

fn bench(heights: &[(&str, i64)]) -> Bench {
    let (pool, script) = pool();
    let (heights, stop) = (Heights::of(heights), CancellationToken::new());
    let reactor = TxPoolReactor::new(Arc::clone(&pool), Arc::clone(&heights) as _, stop.clone());
    Bench { reactor, pool, script, heights, stop }
}

impl Bench {
    fn connect(&self, id: &str) -> Peer {
        let peer = peer(id, true, &self.reactor.channels());
        self.reactor.init_peer(&peer);
        self.reactor.add_peer(&peer);
        peer
    }

    fn add(&self, txs: &[&'static str]) {
        for tx in txs {
            assert!(self.pool.check(Bytes::from_static(tx.as_bytes()), None).is_added());
        }
    }

    async fn receive(&self, from: &Peer, txs: &[&str]) -> Result<(), DropPeer> {
        let txs = txs.iter().map(|tx| tx.as_bytes().to_vec()).collect();
        let message: MempoolMessage = MempoolMessageSum::Txs(Txs { txs }).into();
        self.reactor.receive(TX_CHANNEL, from, Bytes::from(message.encode_to_vec())).await
    }
}

/// The transactions of the messages that come within a (simulated) second.
async fn sent(peer: &Peer) -> Vec<String> {
    let mut out = Vec::new();
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        while let Some(message) = take_sent(peer, TX_CHANNEL) {
            let txs = decode(&message).unwrap();
            assert_eq!(txs.len(), 1, "one transaction per message");
            out.extend(txs.into_iter().map(|tx| String::from_utf8(tx).unwrap()));
            tokio::task::yield_now().await;
        }
    }
    out
}

/// Bytes of the reference's own message for a transaction of one byte.
#[test]
fn message_bytes() {
    assert_eq!(&encode(b"{")[..], [0x0a, 0x03, 0x0a, 0x01, 0x7b]);
    let largest = encode(&vec![1; 1 << 20]);
    assert_eq!(largest.len(), MAX_MEMPOOL_MESSAGE_BYTES);
    assert_eq!(decode(&largest).unwrap()[0].len(), 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn sends_in_order_of_arrival_and_not_back() {
    let bench = bench(&[("a", 1), ("b", 1)]);
    bench.add(&["1,,,one", "9,,,two"]);
    let (a, b) = (bench.connect("a"), bench.connect("b"));
    bench.receive(&a, &["5,,,three", "nonsense", "1,,,one"]).await.unwrap();
    bench.add(&["0,,,four"]);
    assert_eq!(sent(&b).await, ["1,,,one", "9,,,two", "5,,,three", "0,,,four"]);
    // It may have had the first before it told that it knew it.
    let to_a = sent(&a).await;
    assert!(!to_a.contains(&"5,,,three".to_owned()) && to_a.ends_with(&["0,,,four".to_owned()]), "{to_a:?}");
    assert_eq!(bench.script.lock().checks, 5);
    bench.add(&["0,,,five"]);
    assert_eq!(sent(&b).await, ["0,,,five"], "nothing twice");
}

#[tokio::test(start_paused = true)]
async fn waits_for_peers_that_are_behind() {
    let bench = bench(&[("behind", 8)]);
    commit(&bench.pool, 10, &[], &[]);
    bench.add(&["1,,,a", "1,,,b"]);
    let (behind, unknown) = (bench.connect("behind"), bench.connect("unknown"));
    assert!(sent(&behind).await.is_empty());
    assert!(sent(&unknown).await.is_empty());
    commit(&bench.pool, 11, &["1,,,a"], &[0]);
    bench.heights.set("behind", 9);
    bench.heights.set("unknown", 10);
    assert_eq!(sent(&behind).await, ["1,,,b"], "one block behind will do; what is gone is not sent");
    assert_eq!(sent(&unknown).await, ["1,,,b"]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_may_apply_the_block_first() {
    let bench = bench(&[("near", 10)]);
    commit(&bench.pool, 10, &[], &[]);
    bench.add(&["1,,,a"]);
    let near = bench.connect("near");
    tokio::time::sleep(CATCH_UP / 2).await;
    assert!(take_sent(&near, TX_CHANNEL).is_none(), "it works on 10 yet");
    bench.heights.set("near", 11);
    tokio::time::sleep(CATCH_UP_RETRY * 2).await;
    assert_eq!(decode(&take_sent(&near, TX_CHANNEL).unwrap()).unwrap(), [b"1,,,a"]);
    // One that stays there gets what comes, the first after the wait and the others at once.
    commit(&bench.pool, 11, &["1,,,a"], &[0]);
    bench.add(&["1,,,b", "1,,,c"]);
    tokio::time::sleep(CATCH_UP / 2).await;
    assert!(take_sent(&near, TX_CHANNEL).is_none());
    assert_eq!(sent(&near).await, ["1,,,b", "1,,,c"]);
    bench.add(&["1,,,d"]);
    tokio::time::sleep(CATCH_UP_RETRY * 2).await;
    assert_eq!(decode(&take_sent(&near, TX_CHANNEL).unwrap()).unwrap(), [b"1,,,d"]);
}

#[tokio::test(start_paused = true)]
async fn tasks_end_with_their_peer_and_with_the_reactor() {
    let bench = bench(&[("a", 1), ("b", 0)]);
    let (a, b) = (bench.connect("a"), bench.connect("b"));
    bench.add(&["1,,,a"]);
    assert_eq!(bench.reactor.tasks.len(), 2);
    a.stop(DropPeer::new("test"));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(bench.reactor.tasks.len(), 1);
    bench.stop.cancel();
    bench.reactor.finished().await;
    assert_eq!(bench.reactor.tasks.len(), 0);
    assert!(stop_reason(&b).is_none());
}

#[tokio::test(start_paused = true)]
async fn no_gossip_when_off_or_not_spoken() {
    let (pool, _) = pool_with(TxPoolConfig { broadcast: false, ..TxPoolConfig::default() });
    let reactor = TxPoolReactor::new(pool, Heights::of(&[]), CancellationToken::new());
    reactor.add_peer(&peer("a", true, &reactor.channels()));
    assert_eq!(reactor.tasks.len(), 0);
    let bench = bench(&[]);
    bench.reactor.add_peer(&peer("a", true, &[]));
    assert_eq!(bench.reactor.tasks.len(), 0);
}

#[tokio::test]
async fn messages_that_nobody_sends() {
    let bench = bench(&[]);
    let from = peer("a", false, &bench.reactor.channels());
    let raw = |bytes: &'static [u8]| bench.reactor.receive(TX_CHANNEL, &from, Bytes::from_static(bytes));
    raw(&[0x0a, 0x00]).await.unwrap();
    bench.receive(&from, &[]).await.unwrap();
    assert!(raw(&[]).await.unwrap_err().reason.contains("unknown kind"));
    assert!(raw(&[0x12, 0x00]).await.is_err(), "another member");
    assert!(raw(&[0x0a, 0x05, 0x01]).await.is_err(), "cut short");
    let too_long = bench.reactor.receive(TX_CHANNEL, &from, Bytes::from(vec![0; MAX_MEMPOOL_MESSAGE_BYTES + 1]));
    assert!(too_long.await.is_err());
    bench.receive(&from, &[""; MAX_TXS_PER_MESSAGE]).await.unwrap();
    let checks = bench.script.lock().checks;
    let refused = bench.receive(&from, &[""; MAX_TXS_PER_MESSAGE + 1]).await;
    assert_eq!(refused.unwrap_err().reason, "5001 transactions in one message");
    assert_eq!((bench.script.lock().checks, bench.pool.size()), (checks, 0));
    // Too large a transaction is not taken, but does not close the connection.
    let huge = "1,,,".to_owned() + &"x".repeat(1 << 20);
    assert!(matches!(bench.pool.check(Bytes::from(huge), None).error(), Some(PoolError::TooLarge { .. })));
}

pub(crate) async fn switch(seed: u8, reactors: Vec<Arc<dyn Reactor>>, stop: &CancellationToken) -> SwitchHandle {
    let config = NetConfig {
        listen: Some(([127, 0, 0, 1], 0).into()),
        pex: false,
        addr_book_strict: false,
        allow_duplicate_ip: true,
        ..NetConfig::default()
    };
    let info =
        NodeInfo { network: "test-net".into(), version: "0.0.0".into(), moniker: "m".into(), ..NodeInfo::default() };
    Switch::start(config, SecretKey::from_seed(&[seed; 32]), info, reactors, stop.clone()).await.unwrap()
}

pub(crate) async fn dial(from: &SwitchHandle, to: &SwitchHandle) {
    let addr = to.listen_addr().unwrap();
    let address = PeerAddress::parse(&format!("{}@{addr}", to.id().0)).unwrap();
    from.dial(&address).await.unwrap();
}

/// Waits for something that other tasks bring about.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_in_a_row() {
    let stop = CancellationToken::new();
    let mut nodes = Vec::new();
    for seed in 1..=3 {
        let (pool, script) = pool();
        let reactor = TxPoolReactor::new(Arc::clone(&pool), Arc::new(Heights::default()), stop.clone());
        let handle = switch(seed, vec![Arc::new(reactor)], &stop).await;
        nodes.push((pool, script, handle));
    }
    for n in 0..20 {
        nodes[0].0.submit(Bytes::from(format!("{n},,,early")), None).await;
    }
    dial(&nodes[0].2, &nodes[1].2).await;
    dial(&nodes[1].2, &nodes[2].2).await;
    for n in 0..200 {
        let from = &nodes[n % 3].0;
        assert!(from.submit(Bytes::from(format!("{n},,,late")), None).await.is_added());
    }
    until("all have all", || nodes.iter().all(|(pool, ..)| pool.size() == 220)).await;
    let first = nodes[0].0.unconfirmed();
    assert!(nodes.iter().all(|(pool, ..)| {
        let (mut ours, mut theirs) = (first.clone(), pool.unconfirmed());
        ours.sort();
        theirs.sort();
        ours == theirs && pool.contains(&sha256(b"7,,,late"))
    }));
    // Each was checked once by each.
    assert!(nodes.iter().all(|(_, script, _)| script.lock().checks == 220));
    stop.cancel();
    for (.., handle) in &nodes {
        handle.stopped().await;
    }
}
