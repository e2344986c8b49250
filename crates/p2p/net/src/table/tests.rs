//! Tests of the table of peers.

use super::*;

fn table() -> Table {
    Table::new(PeerId::random(), &["1.2.3.4".parse().unwrap()], &[])
}

fn connection(inbound: bool, since: Instant) -> Connection {
    Connection { inbound, since, remote: "/ip4/127.0.0.1/tcp/1".parse().unwrap(), streams: 0 }
}

fn id(n: usize) -> ConnectionId {
    ConnectionId::new_unchecked(n)
}

fn connect(t: &mut Table, n: usize, inbound: bool, since: Instant, protocols: &[&str]) -> PeerId {
    let peer = PeerId::random();
    t.connected(peer, id(n), connection(inbound, since));
    t.identified(&peer, "agent".into(), protocols.iter().map(|p| (*p).to_owned()).collect());
    peer
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn best_peers_by_latency_and_failures() {
    let (mut t, now, p) = (table(), Instant::now(), ProtocolId::new("/p"));
    let peers: Vec<_> = (0..8).map(|n| connect(&mut t, n, false, now, &["/p"])).collect();
    connect(&mut t, 8, false, now, &["/other"]);
    for (i, peer) in peers.iter().enumerate().take(7) {
        t.success(peer, &p, ms(100 + 10 * i as u64));
    }
    // Failing one call out of two costs half the protocol's average latency.
    t.failure(&peers[0], &p, ms(100));
    let best: Vec<PeerId> = t.best(&p).into_iter().map(|p| p.id).collect();
    assert_eq!(best.len(), 8);
    // Unknown: 0.9 of an average between 100 and 120 ms, so among the first five; then the failing (about 153 ms) and the slowest (160 ms).
    assert!(best[..5].contains(&peers[7]), "unknown peers are tried");
    assert_eq!(best[6..], [peers[0], peers[6]]);
    assert_eq!(t.best(&p).iter().find(|b| b.id == peers[1]).unwrap().latency, Some(ms(110)));
    t.block(peers[6]);
    assert!(!t.best(&p).iter().any(|b| b.id == peers[6]));
    assert!(t.best(&ProtocolId::new("/none")).is_empty());
}

#[test]
fn averages_move_slowly() {
    let (mut t, now, p) = (table(), Instant::now(), ProtocolId::new("/p"));
    let peer = connect(&mut t, 0, false, now, &["/p"]);
    t.success(&peer, &p, ms(100));
    t.success(&peer, &p, ms(200));
    assert_eq!(t.best(&p)[0].latency, Some(ms(110)));
    assert_eq!(t.scores[&p].global, 104e6);
    // A peer that left starts over, and what nobody speaks is not recorded.
    t.disconnected(&peer, id(0), now);
    t.success(&peer, &p, ms(1));
    assert!(t.scores[&p].peers.is_empty() && t.tags.is_empty());
}

#[test]
fn a_protocol_taken_back_is_gone() {
    let (mut t, now) = (table(), Instant::now());
    let peer = connect(&mut t, 0, false, now, &["/p"]);
    let p = ProtocolId::new("/p");
    t.success(&peer, &p, ms(1));
    t.identified(&peer, "agent".into(), HashSet::new());
    assert!(t.best(&p).is_empty() && t.scores[&p].peers.is_empty());
    assert_eq!(t.num_protocol_peers(&p), 0);
}

#[test]
fn trimming_spares_the_valued_the_protected_and_the_new() {
    let start = Instant::now();
    let now = start + Duration::from_secs(60);
    let protected = PeerId::random();
    let info = AddrInfo { id: protected, addrs: vec![] };
    let mut t = Table::new(PeerId::random(), &[], &[info]);
    t.connected(protected, id(0), connection(true, start));
    let good = connect(&mut t, 1, true, start, &["/p"]);
    let important = connect(&mut t, 2, true, start, &[]);
    let out = connect(&mut t, 3, false, start, &[]);
    let inbound = connect(&mut t, 4, true, start, &[]);
    let _new = connect(&mut t, 5, true, now - Duration::from_secs(1), &[]);
    t.success(&good, &ProtocolId::new("/p"), ms(1));
    t.set_important("committee", &[important]);
    let grace = Duration::from_secs(20);
    assert!(t.trim(2, 6, grace, now).is_empty(), "not above the high mark");
    assert_eq!(t.trim(5, 5, grace, now), [inbound]);
    assert_eq!(t.trim(2, 5, grace, now), [inbound, out, good, important]);
    assert_eq!(t.trim(0, 5, grace, now).len(), 4, "the rest is spared");
    t.set_important("committee", &[]);
    let trimmed = t.trim(3, 5, grace, now);
    // Two of equal value go in any order.
    assert!(trimmed[..2].contains(&inbound) && trimmed[..2].contains(&important), "{trimmed:?}");
    assert_eq!(trimmed[2..], [out]);
}

#[test]
fn the_book_is_bounded_and_expires() {
    let (mut t, now) = (table(), Instant::now());
    let addr: Multiaddr = "/ip4/8.8.8.8/tcp/1".parse().unwrap();
    let info = |addr: &Multiaddr| AddrInfo { id: PeerId::random(), addrs: vec![addr.clone()] };
    let seed = info(&addr);
    t.learn(&seed, None, now);
    for i in 0..MAX_BOOK + 10 {
        t.learn(&info(&addr), Some(ms(1000 + i as u64)), now);
    }
    assert_eq!(t.known_peers().len(), MAX_BOOK);
    assert_eq!(t.addresses(&seed.id), std::slice::from_ref(&addr));
    t.expire(now + Duration::from_secs(3600));
    assert_eq!(t.known_peers(), std::slice::from_ref(&seed), "only what never expires is left");
    let many = AddrInfo {
        id: seed.id,
        addrs: (0..100u16).map(|p| format!("/ip4/8.8.8.8/tcp/{p}").parse().unwrap()).collect(),
    };
    t.learn(&many, Some(ms(1)), now);
    assert_eq!(t.addresses(&seed.id).len(), MAX_ADDRESSES);
    t.expire(now + ms(2));
    assert!(!t.addresses(&seed.id).is_empty(), "permanent stays permanent");
}

#[test]
fn blocked_addresses_are_not_given_out() {
    let (mut t, now) = (table(), Instant::now());
    let peer = PeerId::random();
    let addrs = ["/ip4/1.2.3.4/tcp/1", "/ip6/::ffff:1.2.3.4/tcp/1", "/ip4/1.2.3.5/tcp/1"].map(|a| a.parse().unwrap());
    t.learn(&AddrInfo { id: peer, addrs: addrs.to_vec() }, None, now);
    assert_eq!(t.addresses(&peer), [addrs[2].clone()]);
    t.replace(&AddrInfo { id: peer, addrs: vec![] }, now);
    assert_eq!(t.addresses(&peer).len(), 1, "a peer can't take back what the operator said");
}

#[test]
fn blocking_is_bounded() {
    let mut t = table();
    let first = PeerId::random();
    t.block(first);
    t.block(first);
    for _ in 0..MAX_BLOCKED {
        t.block(PeerId::random());
    }
    assert!(!t.is_blocked(&first));
    assert_eq!((t.blocked.len(), t.blocked_order.len()), (MAX_BLOCKED, MAX_BLOCKED));
}
