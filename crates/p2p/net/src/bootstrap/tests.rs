//! Tests of the discovery protocol without a network.

use super::*;

fn server(allow_private_ips: bool) -> Server {
    let table = Arc::new(Mutex::new(Table::new(PeerId::random(), &[], &[])));
    Server { table, store: Arc::default(), allow_private_ips }
}

fn peer_at(server: &Server, addr: &str) -> PeerId {
    let info = AddrInfo { id: PeerId::random(), addrs: vec![addr.parse().unwrap()] };
    server.table.lock().learn(&info, None, Instant::now());
    info.id
}

fn hex(raw: &Raw) -> String {
    hex::encode(&**raw)
}

#[test]
fn wire_forms() {
    let advertise = AdvertiseRequest { namespace: "x".into() };
    assert_eq!(hex::encode(cbor::to_vec(&advertise)), "a1696e616d6573706163656178");
    assert_eq!(hex::encode(cbor::to_vec(&AdvertiseRequest::default())), "a0");
    let discover = DiscoverRequest { namespace: "x".into(), limit: 7 };
    assert_eq!(hex::encode(cbor::to_vec(&discover)), "a2656c696d697407696e616d6573706163656178");
    assert_eq!(hex::encode(cbor::to_vec(&DiscoverResponse::default())), "a0");
    let peers = DiscoverResponse { peers: vec![Bytes(vec![1])] };
    assert_eq!(hex::encode(cbor::to_vec(&peers)), "a1657065657273814101");
}

#[test]
fn private_addresses_are_not_registered_unless_allowed() {
    for (allowed, addr, registered) in [
        (false, "/ip4/127.0.0.1/tcp/1", false),
        (true, "/ip4/127.0.0.1/tcp/1", true),
        (false, "/ip4/8.8.8.8/tcp/1", true),
    ] {
        let server = server(allowed);
        let peer = peer_at(&server, addr);
        let body = Raw::of(&AdvertiseRequest { namespace: "x".into() });
        let answer = server.answer(peer, ADVERTISE, &body).unwrap();
        // One hour, registered or not.
        assert_eq!(hex(&answer), format!("a16374746c1b{:016x}", 3_600_000_000_000u64));
        assert_eq!(server.discover("x", 0).peers.len(), usize::from(registered), "{addr}");
    }
}

#[test]
fn a_peer_without_usable_address_is_taken_off() {
    let server = server(false);
    let peer = peer_at(&server, "/ip4/8.8.8.8/tcp/1");
    server.advertise(peer, "x").unwrap();
    *server.table.lock() = Table::new(PeerId::random(), &[], &[]);
    server.advertise(peer, "x").unwrap();
    assert!(server.discover("x", 0).peers.is_empty());
}

#[test]
fn limits_and_errors() {
    let server = server(true);
    for _ in 0..150 {
        let peer = peer_at(&server, "/ip4/127.0.0.1/tcp/1");
        server.advertise(peer, "x").unwrap();
    }
    let count = |limit| server.discover("x", limit).peers.len();
    assert_eq!([count(0), count(-1), count(1), count(100), count(101), count(i64::MAX)], [100, 100, 1, 100, 100, 100]);
    let peer = PeerId::random();
    let error = server.answer(peer, "nonsense", &Raw::of(&0u8)).unwrap_err();
    assert!(error.is(MODULE, 1));
    for method in [ADVERTISE, DISCOVER] {
        for body in [&[0xff][..], &[0x01], &[0xa1, 0x61, 0x78, 0x00]] {
            assert!(server.answer(peer, method, &Raw(body.to_vec())).unwrap_err().is(MODULE, 2));
        }
    }
}

fn answer_of(n: usize) -> DiscoverResponse {
    let json = AddrInfo { id: PeerId::random(), addrs: vec![] }.to_json();
    DiscoverResponse { peers: vec![Bytes(json); n] }
}

#[test]
fn answers_of_seeds() {
    assert_eq!(read_peers(&answer_of(3)).unwrap().len(), 3);
    assert_eq!(read_peers(&answer_of(MAX_TAKEN + 1)), None);
    let malformed = DiscoverResponse { peers: vec![Bytes(b"{}".to_vec())] };
    assert_eq!(read_peers(&malformed), None);
}

#[test]
fn answers_are_cached() {
    let hour = Duration::from_secs(3600);
    let seed = Seed::new(PeerId::random(), hour);
    let now = Instant::now();
    assert_eq!(seed.cached("x", now), None);
    assert_eq!(seed.remember("x", Ok(read_peers(&answer_of(2))), now).len(), 2);
    assert_eq!(seed.cached("x", now + hour / 2).unwrap().len(), 2);
    assert_eq!(seed.cached("x", now + 2 * hour), None);
    assert_eq!(seed.cached("y", now), None);
    // A failing seed is left alone for a while and old answers are used.
    let later = now + 2 * hour;
    assert_eq!(seed.remember("x", Err(CallError::NoPeers), later).len(), 2);
    assert_eq!(seed.cached("x", later + Duration::from_secs(1)).unwrap().len(), 2);
    assert_eq!(seed.cached("y", later).unwrap(), []);
    assert_eq!(seed.cached("x", later + 2 * hour), None);
    // A seed that breaks the protocol gives nothing for a day.
    assert_eq!(seed.remember("x", Ok(None), later), []);
    assert_eq!(seed.cached("x", later + 23 * hour), Some(vec![]));
    assert_eq!(seed.cached("x", later + 25 * hour), None);
}
