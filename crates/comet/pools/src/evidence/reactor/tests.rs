//! Gossip with peers that are connected to nothing, and between two switches.

use comet_net::testing::{peer, take_sent};

use super::*;
use crate::evidence::tests::{Net, pool};
use crate::txs::reactor::tests::{Heights, dial, switch, until};

struct Bench {
    reactor: EvidenceReactor,
    pool: Arc<EvidencePool>,
    net: Arc<Net>,
    heights: Arc<Heights>,
    stop: CancellationToken,
}

fn bench(heights: &[(&str, i64)]) -> Bench {
    let (pool, net) = pool(8);
    let (heights, stop) = (Heights::of(heights), CancellationToken::new());
    let reactor = EvidenceReactor::new(Arc::clone(&pool), Arc::clone(&heights) as _, stop.clone());
    Bench { reactor, pool, net, heights, stop }
}

impl Bench {
    fn connect(&self, id: &str) -> Peer {
        let peer = peer(id, true, &self.reactor.channels());
        self.reactor.add_peer(&peer);
        peer
    }

    async fn receive(&self, from: &Peer, evidence: &[Evidence]) -> Result<(), DropPeer> {
        let list = EvidenceList { evidence: evidence.to_vec() };
        self.reactor.receive(EVIDENCE_CHANNEL, from, Bytes::from(list.encode_to_vec())).await
    }
}

/// Heights of the evidence in messages that come within so many milliseconds.
async fn sent(peer: &Peer, millis: u64) -> Vec<i64> {
    let mut out = Vec::new();
    for _ in 0..millis / 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        while let Some(message) = take_sent(peer, EVIDENCE_CHANNEL) {
            let list = EvidenceList::decode_checked(&message, MAX_EVIDENCE_MESSAGE_BYTES).unwrap();
            assert_eq!(list.evidence.len(), 1);
            out.push(list.evidence[0].height());
            tokio::task::yield_now().await;
        }
    }
    out
}

#[test]
fn window() {
    // (peer's height, evidence, expected) with at most 5 blocks of age.
    for (peer, evidence, expected) in [(4, 4, false), (5, 4, true), (9, 4, true), (10, 4, false), (3, 4, false)] {
        assert_eq!(in_window(peer, evidence, 5), expected, "{peer} {evidence}");
    }
    assert!(!in_window(i64::MAX, i64::MIN, 5) && !in_window(i64::MIN, i64::MAX, 5));
}

#[tokio::test(start_paused = true)]
async fn sends_to_peers_within_the_window_and_again() {
    let bench = bench(&[("level", 9), ("behind", 5)]);
    for height in [5, 4, 7] {
        bench.pool.add(bench.net.double_vote(height, 1, 0)).unwrap();
    }
    let (level, behind, unknown) = (bench.connect("level"), bench.connect("behind"), bench.connect("unknown"));
    assert_eq!(sent(&level, 1000).await, [5, 4, 7]);
    assert_eq!(sent(&behind, 1000).await, [4]);
    assert!(sent(&unknown, 1000).await.is_empty());
    bench.pool.add(bench.net.double_vote(6, 1, 0)).unwrap();
    assert_eq!(sent(&level, 1000).await, [6], "only what is new");
    bench.heights.set("behind", 7);
    // What waits is sent again after a while, and now to the peer that has caught up.
    assert_eq!(sent(&level, 10_000).await, [5, 4, 7, 6]);
    let caught_up = sent(&behind, 100).await;
    assert!(caught_up.starts_with(&[5]) || caught_up.starts_with(&[4]), "{caught_up:?}");
    bench.stop.cancel();
    bench.reactor.finished().await;
}

#[tokio::test]
async fn takes_good_evidence_and_drops_who_sends_bad() {
    let bench = bench(&[]);
    let from = peer("a", true, &bench.reactor.channels());
    let good = bench.net.double_vote(4, 1, 0);
    bench.receive(&from, &[good.clone(), good.clone()]).await.unwrap();
    assert_eq!(bench.pool.size(), 1);
    bench.receive(&from, &[]).await.unwrap();
    // About a block that this node does not have: not the peer's fault.
    let net = Net::new(12);
    bench.receive(&from, &[net.double_vote(11, 1, 0)]).await.unwrap();
    let expired = net.double_vote(1, 1, 0);
    let reason = bench.receive(&from, &[bench.net.double_vote(5, 2, 0), expired]).await.unwrap_err().reason;
    assert_eq!(reason, "invalid evidence: evidence from height 1 is too old");
    assert_eq!(bench.pool.size(), 2, "what came before it was good");
    let raw = |bytes: &'static [u8]| bench.reactor.receive(EVIDENCE_CHANNEL, &from, Bytes::from_static(bytes));
    assert!(raw(&[0x0a, 0x09]).await.is_err(), "cut short");
    assert!(raw(&[0x0a, 0x00]).await.unwrap_err().reason.contains("not recognized"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_connections() {
    let stop = CancellationToken::new();
    let mut nodes = Vec::new();
    for seed in 11..=12 {
        let (pool, net) = pool(8);
        let heights = Arc::new(Heights::default());
        let reactor = Arc::new(EvidenceReactor::new(Arc::clone(&pool), Arc::clone(&heights) as _, stop.clone()));
        let handle = switch(seed, vec![reactor], &stop).await;
        nodes.push((pool, net, heights, handle));
    }
    let ids: Vec<_> = nodes.iter().map(|(.., handle)| handle.id().0.to_string()).collect();
    nodes[0].2.set(&ids[1], 9);
    nodes[1].2.set(&ids[0], 9);
    nodes[0].0.add(nodes[0].1.double_vote(4, 1, 0)).unwrap();
    dial(&nodes[0].3, &nodes[1].3).await;
    nodes[1].0.add(nodes[0].1.double_vote(5, 2, 0)).unwrap();
    until("both have both", || nodes.iter().all(|(pool, ..)| pool.size() == 2)).await;
    assert_eq!(nodes[0].3.peers().len(), 1);
    stop.cancel();
}
