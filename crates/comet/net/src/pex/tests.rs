//! Tests of peer exchange.

use super::*;
use crate::packet::MAX_PACKET;
use crate::switch::tests::harness::*;
use wire_cometbft::p2p::{Packet, PacketSum};

fn request() -> Bytes {
    encode(PexMessageSum::Request(PexRequest {}))
}

fn told(id: &str, ip: &str, port: u32) -> p2p::NetAddress {
    p2p::NetAddress { id: id.to_owned(), ip: ip.to_owned(), port }
}

async fn answer(end: &mut HandEnd) -> PexAddrs {
    let mut message = Vec::new();
    loop {
        let packet = tokio::time::timeout(WAIT, end.reader.read_delimited(MAX_PACKET)).await.unwrap().unwrap();
        let Some(PacketSum::Msg(piece)) = Packet::decode(&packet).unwrap().sum else { panic!("not a message") };
        assert_eq!(piece.channel_id, i32::from(PEX_CHANNEL));
        message.extend_from_slice(&piece.data);
        if piece.eof {
            break;
        }
    }
    match PexMessage::decode(&message).unwrap().sum {
        Some(PexMessageSum::Addrs(addrs)) => addrs,
        other => panic!("{other:?}"),
    }
}

fn known(n: u8) -> NetAddress {
    NetAddress { id: PeerId::new(&format!("{n:040x}")), ip: [8, n, 0, 1].into(), port: 26656 }
}

async fn with_pex(seed: u8, change: impl FnOnce(&mut NetConfig)) -> TestSwitch {
    start(seed, |config| {
        config.pex = true;
        config.max_outbound = 0;
        change(config);
    })
    .await
}

#[test]
fn messages_have_the_known_bytes() {
    assert_eq!(request(), &[0x0a, 0][..]);
    assert_eq!(encode_addresses(Vec::new()), &[0x12, 0][..]);
    let one = encode_addresses(vec![NetAddress { id: PeerId::new("1"), ip: [127, 0, 0, 1].into(), port: 9090 }]);
    assert_eq!(hex::encode(one), "12130a110a013112093132372e302e302e31188247");
}

#[test]
fn malformed_addresses() {
    let id = "0".repeat(40);
    let taken = decode_addresses(&[told(&id, "1.2.3.4", 65535), told("short", "1.2.3.4", 1), told("", "::1", 1)]);
    assert_eq!(taken.unwrap().len(), 1);
    let mapped = decode_addresses(&[told(&id, "::ffff:1.2.3.4", 1)]).unwrap();
    assert!(mapped[0].ip.is_ipv4());
    for bad in [told(&id, "1.2.3.4", 65536), told(&id, "", 1), told(&id, "host", 1), told(&id, "01.2.3.4", 1)] {
        assert_eq!(decode_addresses(&[bad]).unwrap_err().ban, Some(BAN_TIME));
    }
}

#[test]
fn requests_must_keep_apart() {
    let (mut state, id, least) = (State::default(), PeerId::new("a"), Duration::from_secs(10));
    let start = Instant::now();
    let mut at = |seconds: u64| take_request(&mut state, &id, least, start + Duration::from_secs(seconds)).is_ok();
    assert!(at(0) && at(0));
    assert!(!at(9));
    assert!(at(10));
    assert!(!at(19));
    assert!(at(20));
}

#[test]
fn back_off_doubles() {
    assert_eq!(backoff(1), Duration::from_secs(2));
    assert_eq!(backoff(16), Duration::from_secs(65536));
    assert!(backoff(200) > Duration::from_secs(1 << 40));
}

#[tokio::test]
async fn two_requests_are_answered_and_the_third_banned() {
    let a = with_pex(1, |config| config.known_addresses = (1..=40).map(known).collect()).await;
    let mut end = HandEnd::connect(&a, 9, |_| {}).await.unwrap();
    a.peer_with(&end.id).await;
    for _ in 0..2 {
        end.send_message(PEX_CHANNEL, &request()).await;
        assert_eq!(answer(&mut end).await.addrs.len(), 32);
    }
    end.send_message(PEX_CHANNEL, &request()).await;
    assert_eq!(a.removal().await.1, "asked for addresses too often");
    assert!(end.is_closed().await);
    eventually(|| a.handle.0.book.is_banned(&end.id)).await;
}

#[tokio::test]
async fn unsolicited_and_malformed_answers_are_refused() {
    let a = with_pex(1, |_| {}).await;
    let id = "0".repeat(40);
    let answers = [
        (vec![told(&id, "1.2.3.4", 1)], "told addresses without being asked"),
        (vec![], "told addresses without being asked"),
        (vec![told(&id, "1.2.3.4.5", 1)], "told a malformed address"),
    ];
    for (addrs, reason) in answers {
        let mut end = HandEnd::connect(&a, 9, |_| {}).await.unwrap();
        end.send_message(PEX_CHANNEL, &encode(PexMessageSum::Addrs(PexAddrs { addrs }))).await;
        assert_eq!(a.removal().await.1, reason);
        eventually(|| a.handle.0.book.is_banned(&end.id) && a.handle.peers().is_empty()).await;
    }
    let mut end = HandEnd::connect(&a, 10, |_| {}).await.unwrap();
    end.send_message(PEX_CHANNEL, &[0x0a]).await;
    a.removal().await;
    assert!(!a.handle.0.book.is_banned(&end.id));
}

#[tokio::test]
async fn peers_of_peers_are_found() {
    let (a, b) = (with_pex(1, |_| {}).await, with_pex(2, |_| {}).await);
    // A hears of B because B dials it.
    b.dial(&a).await.unwrap();
    eventually(|| a.handle.known_addresses() == 1).await;
    let seed = a.address();
    let c = with_pex(3, |config| {
        config.seeds = vec![seed];
        config.max_outbound = 5;
    })
    .await;
    c.peer_of(&a).await;
    assert!(c.peer_of(&b).await.is_outbound());
    assert_eq!(c.handle.known_addresses(), 1);
}

#[tokio::test]
async fn private_peers_are_never_told() {
    let private = known(7).id;
    let a = with_pex(1, |config| {
        config.known_addresses = (1..=10).map(known).collect();
        config.private = [private.clone()].into();
    })
    .await;
    let mut end = HandEnd::connect(&a, 9, |_| {}).await.unwrap();
    a.peer_with(&end.id).await;
    end.send_message(PEX_CHANNEL, &request()).await;
    let addrs = answer(&mut end).await.addrs;
    // Nine known ones, and the asking end itself.
    assert_eq!(addrs.len(), 10);
    assert!(addrs.iter().all(|address| address.id != *private.0));
}

#[tokio::test]
async fn a_seed_answers_once_and_closes() {
    let seed = start(1, |config| {
        config.seed_mode = true;
        config.known_addresses = (1..=5).map(known).collect();
        config.intervals.dial_timeout = Duration::from_millis(50);
    })
    .await;
    assert_eq!(seed.handle.node_info().channels, [PEX_CHANNEL]);
    let mut end = HandEnd::connect(&seed, 9, |info| info.channels = vec![0x40, PEX_CHANNEL]).await.unwrap();
    end.send_message(PEX_CHANNEL, &request()).await;
    assert!(answer(&mut end).await.addrs.len() >= 5);
    assert!(end.is_closed().await);
    eventually(|| seed.handle.peers().is_empty()).await;
}

#[tokio::test]
async fn a_seed_visits_nodes_and_learns_from_them() {
    let a = with_pex(1, |config| config.known_addresses = (1..=5).map(known).collect()).await;
    let address = a.address().resolve().await.unwrap();
    let seed = start(2, |config| {
        config.seed_mode = true;
        config.known_addresses = vec![address];
        config.intervals.dial_timeout = Duration::from_millis(50);
    })
    .await;
    eventually(|| seed.handle.known_addresses() >= 6).await;
    assert!(seed.peer_of(&a).await.is_outbound());
}

#[tokio::test]
async fn the_book_is_kept_and_a_broken_one_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("addrbook.json");
    let book = path.clone();
    let a = with_pex(1, |config| {
        config.addr_book = Some(book.clone());
        config.known_addresses = (1..=5).map(known).collect();
    })
    .await;
    a.stop.cancel();
    a.handle.stopped().await;
    let a = with_pex(1, |config| config.addr_book = Some(book.clone())).await;
    assert_eq!(a.handle.known_addresses(), 5);
    a.stop.cancel();
    a.handle.stopped().await;
    std::fs::write(&path, "broken").unwrap();
    let a = with_pex(1, |config| config.addr_book = Some(book)).await;
    assert_eq!(a.handle.known_addresses(), 0);
    assert_eq!(std::fs::read_to_string(folder.path().join("addrbook.json.broken")).unwrap(), "broken");
}
