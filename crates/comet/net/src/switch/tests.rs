//! Tests of the switch over loopback: between switches, and against ends driven by hand.

pub(crate) mod harness;

use std::time::Duration;

use bytes::Bytes;
use comet_core::PeerId;
use wire_cometbft::codec::Message;
use wire_cometbft::p2p::{NodeInfo, Packet, PacketMsg, PacketSum};

use super::dial::{DialError, LONG_TRIES, SHORT_TRIES, reconnect_delay};
use super::*;
use crate::peer::MAX_QUEUED_BYTES;
use crate::reactor::ChannelDescriptor;
use harness::*;

#[tokio::test]
async fn two_switches_exchange_messages_of_all_sizes() {
    let (a, b) = (start(1, |_| {}).await, start(2, |_| {}).await);
    a.dial(&b).await.unwrap();
    let to_b = a.peer_of(&b).await;
    let to_a = b.peer_of(&a).await;
    assert!(to_b.is_outbound() && !to_a.is_outbound());
    assert_eq!(to_b.node_info(), b.handle.node_info());
    assert_eq!(a.handle.counts(), PeerCounts { outbound: 1, ..PeerCounts::default() });
    assert_eq!(b.handle.counts(), PeerCounts { inbound: 1, ..PeerCounts::default() });
    for len in [1, 1023, 1024, 1025, 5000, MAX_MESSAGE] {
        let message = Bytes::from(vec![len as u8; len]);
        assert!(to_b.try_send(CHANNEL, message.clone()));
        assert_eq!(b.next_message().await, (CHANNEL, message.clone()));
        assert!(to_a.send(CHANNEL, message.clone()).await);
        assert_eq!(a.next_message().await, (CHANNEL, message));
    }
    let status = to_b.status();
    assert!(status.bytes_sent > MAX_MESSAGE as u64 && status.bytes_received > MAX_MESSAGE as u64, "{status:?}");
    assert_eq!((status.messages_sent >= 6, status.queued_bytes), (true, 0));
    a.handle.broadcast(CHANNEL, &Bytes::from_static(b"to all"));
    assert_eq!(b.next_message().await.1, "to all");
    assert!(!to_b.try_send(0x55, Bytes::from_static(b"not listed")));

    to_b.stop(DropPeer::new("enough"));
    assert_eq!(a.removal().await, (b.handle.id().clone(), "enough".to_owned()));
    b.removal().await;
    assert!(!to_b.is_running() && !to_b.try_send(CHANNEL, Bytes::from_static(b"x")));
    eventually(|| a.handle.peers().is_empty() && b.handle.peers().is_empty()).await;
}

#[tokio::test]
async fn everything_ends_with_the_switch() {
    let (a, b) = (start(1, |_| {}).await, start(2, |_| {}).await);
    a.dial(&b).await.unwrap();
    b.peer_of(&a).await;
    a.stop.cancel();
    tokio::time::timeout(WAIT, a.handle.stopped()).await.unwrap();
    assert_eq!(a.removal().await.1, "stopped");
    b.removal().await;
    assert!(matches!(a.dial(&b).await, Err(DialError::Stopped | DialError::Connect(_))));
}

#[tokio::test]
async fn nodes_that_do_not_fit_are_refused() {
    type Change = fn(&mut NodeInfo);
    let changes: [(&str, Change); 6] = [
        ("block version", |info| info.protocol_version.block = 10),
        ("network", |info| info.network.push('2')),
        ("channels", |info| info.channels = vec![0x55]),
        ("no channels", |info| info.channels.clear()),
        ("id", |info| info.default_node_id = "00".repeat(20)),
        ("moniker", |info| info.moniker.clear()),
    ];
    let a = start(1, |_| {}).await;
    for (what, change) in changes {
        let mut end = HandEnd::connect(&a, 9, change).await.unwrap();
        assert!(end.is_closed().await, "{what}");
    }
    assert!(a.handle.peers().is_empty());
    // What is not compared.
    let lenient = |info: &mut NodeInfo| {
        info.protocol_version.app = 1;
        info.protocol_version.p2p = 1;
        info.other = Default::default();
    };
    let mut end = HandEnd::connect(&a, 9, lenient).await.unwrap();
    a.peer_with(&end.id).await;
    end.send_message(CHANNEL, b"hello").await;
    assert_eq!(a.next_message().await.1, "hello");
}

#[tokio::test]
async fn broken_packets_end_the_connection() {
    let packet = |channel_id: i32, eof: bool, len: usize| {
        Packet::from(PacketSum::Msg(PacketMsg { channel_id, eof, data: vec![7; len] })).encode_delimited()
    };
    let id = i32::from(CHANNEL);
    let too_long = packet(id, false, 1024).repeat(MAX_MESSAGE / 1024 + 1);
    for (bytes, reason) in [
        (packet(id, true, 1025), "message of 1035 bytes, at most 1034 allowed"),
        (packet(0x55, true, 10), "unknown channel 85"),
        (packet(-1, true, 10), "unknown channel -1"),
        (too_long, "message of more than 300000 bytes on channel 0x70"),
        (vec![1, 0xff], "malformed packet: unexpected end of input"),
        (vec![0], "packet of unknown kind"),
        (vec![0xff; 11], "invalid message length"),
    ] {
        let a = start(1, |_| {}).await;
        let mut end = HandEnd::connect(&a, 9, |_| {}).await.unwrap();
        end.writer.write(&bytes).await.unwrap();
        assert_eq!(a.removal().await, (end.id.clone(), reason.to_owned()));
        assert!(end.is_closed().await);
    }
    // The most that a packet that does not end a message may carry.
    let a = start(1, |_| {}).await;
    let mut end = HandEnd::connect(&a, 9, |_| {}).await.unwrap();
    end.writer.write(&packet(id, false, 1026)).await.unwrap();
    end.writer.write(&packet(id, true, 1)).await.unwrap();
    assert_eq!(a.next_message().await.1.len(), 1027);
}

#[tokio::test]
async fn a_peer_that_does_not_read_fills_its_queue_only() {
    let a = start(1, |config| config.send_rate = 0).await;
    let mut end = HandEnd::connect(&a, 9, |_| {}).await.unwrap();
    let peer = a.peer_with(&end.id).await;
    let message = Bytes::from(vec![1; MAX_MESSAGE]);
    // The system's buffers take some megabytes.
    let mut refused = false;
    for _ in 0..1000 {
        refused = !peer.try_send(CHANNEL, message.clone());
        if refused {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(refused);
    tokio::time::sleep(Duration::from_millis(50)).await;
    while peer.try_send(CHANNEL, message.clone()) {}
    let status = peer.status();
    assert_eq!(status.channels[0].queued, QUEUE);
    assert_eq!(status.queued_bytes, QUEUE * MAX_MESSAGE);
    // Others are not held up.
    let b = start(2, |_| {}).await;
    a.dial(&b).await.unwrap();
    assert!(a.peer_of(&b).await.try_send(CHANNEL, message.clone()));
    b.next_message().await;
    // Once it reads, there is room again.
    let waiting = tokio::spawn(async move { peer.send(CHANNEL, message).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    let drain = tokio::spawn(async move {
        while end.reader.fill().await.is_ok() {
            end.reader.consume(usize::MAX)
        }
    });
    assert!(tokio::time::timeout(WAIT, waiting).await.unwrap().unwrap());
    drain.abort();
}

#[tokio::test(start_paused = true)]
async fn waiting_for_room_ends() {
    let channel = ChannelDescriptor { id: 1, priority: 1, send_queue: 1, max_message: 10 };
    let peer = crate::testing::peer(&"0".repeat(40), true, &[channel]);
    assert!(peer.send(1, Bytes::from_static(b"a")).await);
    let before = tokio::time::Instant::now();
    assert!(!peer.send(1, Bytes::from_static(b"b")).await);
    assert_eq!(before.elapsed(), crate::peer::SEND_TIMEOUT);
}

#[test]
fn queued_bytes_are_bounded() {
    let channel = |id| ChannelDescriptor { id, priority: 1, send_queue: 1000, max_message: 1 << 30 };
    let peer = crate::testing::peer(&"0".repeat(40), true, &[channel(1), channel(2)]);
    let message = Bytes::from(vec![0; MAX_QUEUED_BYTES / 4]);
    let sent = (0..10).filter(|_| peer.try_send(1, message.clone())).count();
    assert_eq!(sent, 4);
    // One message on an otherwise empty channel.
    assert!(peer.try_send(2, message.clone()));
    assert!(!peer.try_send(2, message.clone()));
    assert_eq!(peer.status().queued_bytes, 5 * message.len());
    crate::testing::take_sent(&peer, 1);
    crate::testing::take_sent(&peer, 1);
    assert!(peer.try_send(1, message.clone()));
}

#[tokio::test]
async fn we_never_become_our_own_peer() {
    let a = start(1, |_| {}).await;
    assert!(matches!(a.dial(&a).await, Err(DialError::Ourselves)));
    let mut end = HandEnd::connect(&a, 1, |_| {}).await.unwrap();
    assert!(end.is_closed().await);
    assert!(a.handle.peers().is_empty());
}

#[tokio::test]
async fn one_connection_for_each_node() {
    let (a, b) = (start(1, |_| {}).await, start(2, |_| {}).await);
    let first = HandEnd::connect(&a, 9, |_| {}).await.unwrap();
    let peer = a.peer_with(&first.id).await;
    let mut second = HandEnd::connect(&a, 9, |_| {}).await.unwrap();
    assert!(second.is_closed().await);
    assert!(peer.is_running());
    a.dial(&b).await.unwrap();
    assert!(matches!(a.dial(&b).await, Err(DialError::Already)));
    assert_eq!(a.handle.peers().len(), 2);
}

#[tokio::test]
async fn another_node_than_dialed_is_refused() {
    let (a, b) = (start(1, |_| {}).await, start(2, |_| {}).await);
    let address = PeerAddress { id: PeerId::new(&"a".repeat(40)), ..b.address() };
    let error = a.handle.dial(&address).await.unwrap_err();
    assert!(matches!(error, DialError::Rejected(Rejected::WrongNode { .. })), "{error}");
}

#[tokio::test]
async fn inbound_peers_are_limited_but_for_unconditional_ones() {
    let unconditional = HandEnd::id_of(12);
    let a = start(1, |config| {
        config.max_inbound = 1;
        config.unconditional = [unconditional.clone(), PeerId::new(&"b".repeat(40))].into();
    })
    .await;
    let first = HandEnd::connect(&a, 10, |_| {}).await.unwrap();
    a.peer_with(&first.id).await;
    let mut second = HandEnd::connect(&a, 11, |_| {}).await.unwrap();
    assert!(second.is_closed().await);
    let third = HandEnd::connect(&a, 12, |_| {}).await.unwrap();
    assert!(a.peer_with(&third.id).await.is_unconditional());
    assert_eq!(a.handle.counts(), PeerCounts { inbound: 1, ..PeerCounts::default() });
    drop(first);
    eventually(|| a.handle.peers().len() == 1).await;
    let again = HandEnd::connect(&a, 11, |_| {}).await.unwrap();
    a.peer_with(&again.id).await;
}

#[tokio::test]
async fn one_connection_for_each_ip_address_if_so_wanted() {
    let a = start(1, |config| config.allow_duplicate_ip = false).await;
    let first = HandEnd::connect(&a, 10, |_| {}).await.unwrap();
    a.peer_with(&first.id).await;
    assert!(HandEnd::connect(&a, 11, |_| {}).await.is_err());
    let b = start(2, |_| {}).await;
    assert!(matches!(a.dial(&b).await, Err(DialError::Already)));
    drop(first);
    eventually(|| a.handle.peers().is_empty()).await;
    a.dial(&b).await.unwrap();
}

#[tokio::test]
async fn filters_refuse() {
    struct Filter;
    impl crate::ConnectionFilter for Filter {
        fn node(&self, info: &NodeInfo, _remote: SocketAddr) -> Result<(), String> {
            if info.moniker == "hand" { Err("no hands".to_owned()) } else { Ok(()) }
        }
    }
    let a = start(1, |config| config.filter = Some(Arc::new(Filter))).await;
    let mut end = HandEnd::connect(&a, 9, |_| {}).await.unwrap();
    assert!(end.is_closed().await);
    let b = start(2, |_| {}).await;
    b.dial(&a).await.unwrap();
}

#[tokio::test]
async fn silent_connections_are_closed() {
    let a = start(1, |config| config.intervals.handshake_timeout = Duration::from_millis(200)).await;
    let mut silent = tokio::net::TcpStream::connect(a.handle.listen_addr().unwrap()).await.unwrap();
    let mut received = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut received);
    // Closed with our key unanswered, or reset.
    let _ = tokio::time::timeout(WAIT, read).await.unwrap();
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = PeerAddress::parse(&format!("{}@{}", "a".repeat(40), dead.local_addr().unwrap())).unwrap();
    let error = a.handle.dial(&address).await.unwrap_err();
    assert!(matches!(error, DialError::Rejected(Rejected::Handshake(_))), "{error}");
    assert_eq!(a.handle.counts().dialing, 0);
}

#[tokio::test]
async fn keep_alives_are_answered_and_expected() {
    let a = start(1, |config| {
        config.intervals.ping = Duration::from_millis(400);
        config.intervals.pong_timeout = Duration::from_millis(200);
    })
    .await;
    let mut end = HandEnd::connect(&a, 9, |_| {}).await.unwrap();
    end.writer.write(&[2, 0x0a, 0]).await.unwrap();
    assert_eq!(end.next_packet().await, [0x12, 0]);
    assert_eq!(end.next_packet().await, [0x0a, 0]);
    end.writer.write(&[2, 0x12, 0]).await.unwrap();
    assert_eq!(end.next_packet().await, [0x0a, 0]);
    assert_eq!(a.removal().await.1, "no reply to a keep-alive");
    assert!(end.is_closed().await);
}

#[tokio::test]
async fn rates_are_kept() {
    for (send, recv) in [(400_000, 0), (0, 400_000)] {
        let a = start(1, |config| config.send_rate = send).await;
        let b = start(2, |config| config.recv_rate = recv).await;
        a.dial(&b).await.unwrap();
        let peer = a.peer_of(&b).await;
        let start = std::time::Instant::now();
        for _ in 0..2 {
            assert!(peer.send(CHANNEL, Bytes::from(vec![1; MAX_MESSAGE])).await);
        }
        b.next_message().await;
        b.next_message().await;
        // 600 000 bytes, a burst of 65 536 of them free.
        let took = start.elapsed();
        assert!(took > Duration::from_millis(1200) && took < Duration::from_secs(5), "{took:?}");
    }
}

#[tokio::test]
async fn persistent_peers_are_dialed_again() {
    let mut b = start(2, |_| {}).await;
    let address = b.address();
    let a = start(1, |config| config.persistent_peers = vec![address.clone()]).await;
    let peer = a.peer_of(&b).await;
    assert!(peer.is_persistent());
    // Dropped by us.
    peer.stop(DropPeer::banned("for a test", Duration::from_secs(60)));
    a.removal().await;
    a.peer_of(&b).await;
    // Gone and back.
    b.stop.cancel();
    b.handle.stopped().await;
    a.removal().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    b = start(2, |config| config.listen = Some(SocketAddr::from(([127, 0, 0, 1], address.port)))).await;
    a.peer_of(&b).await;
}

#[tokio::test]
async fn persistent_peers_that_dialed_us_are_dialed_after_their_end() {
    let b = start(2, |_| {}).await;
    let address = b.address();
    let a = start(1, |config| {
        config.persistent_peers = vec![address];
        config.intervals.dial_jitter = Duration::ZERO;
    })
    .await;
    eventually(|| !a.handle.peers().is_empty() || !b.handle.peers().is_empty()).await;
    let peer = a.peer_of(&b).await;
    peer.stop(DropPeer::new("again"));
    a.removal().await;
    let _ = b.dial(&a).await;
    let peer = a.peer_of(&b).await;
    assert!(peer.is_persistent());
    peer.stop(DropPeer::new("again"));
    a.removal().await;
    a.peer_of(&b).await;
}

#[test]
fn reconnecting_slows_down() {
    let short = Duration::from_secs(5);
    assert_eq!(reconnect_delay(0, short), short);
    assert_eq!(reconnect_delay(SHORT_TRIES - 1, short), short);
    assert_eq!(reconnect_delay(SHORT_TRIES, short), Duration::from_secs(3));
    assert_eq!(reconnect_delay(SHORT_TRIES + 1, short), Duration::from_secs(9));
    let last = Duration::from_secs(3_u64.pow(LONG_TRIES));
    assert_eq!(reconnect_delay(SHORT_TRIES + LONG_TRIES - 1, short), last);
    assert_eq!(reconnect_delay(u32::MAX, short), last);
}

#[tokio::test]
async fn reactors_drop_and_ban() {
    let a = start(1, |config| config.pex = true).await;
    let mut end = HandEnd::connect(&a, 9, |_| {}).await.unwrap();
    a.peer_with(&end.id).await;
    assert_eq!(a.handle.known_addresses(), 1);
    end.send_message(CHANNEL, b"ban me").await;
    assert_eq!(a.removal().await, (end.id.clone(), "as it wishes".to_owned()));
    eventually(|| a.handle.0.book.is_banned(&end.id)).await;
    assert_eq!(a.handle.known_addresses(), 0);
    // It may still come, but is not known.
    let again = HandEnd::connect(&a, 9, |_| {}).await.unwrap();
    a.peer_with(&again.id).await;
    assert_eq!(a.handle.known_addresses(), 0);
}

#[tokio::test]
async fn the_greediest_peer_pays_for_all() {
    let channel = ChannelDescriptor { id: 1, priority: 1, send_queue: 1, max_message: 1 };
    let peers: Vec<_> = (0..3).map(|n| crate::testing::peer(&n.to_string().repeat(40), false, &[channel])).collect();
    let budget = Budget::new(100);
    let free = crate::budget::FREE_BYTES;
    budget.set(&peers[0], free + 50);
    budget.set(&peers[1], free + 40);
    budget.set(&peers[2], free);
    assert!(peers.iter().all(Peer::is_running));
    budget.set(&peers[2], free + 20);
    assert_eq!(peers.iter().map(Peer::is_running).collect::<Vec<_>>(), [false, true, true]);
    budget.release(&peers[1]);
    budget.set(&peers[2], free + 100);
    assert!(peers[2].is_running());
    budget.set(&peers[2], free + 101);
    assert!(!peers[2].is_running());
}

#[tokio::test]
async fn what_does_not_start() {
    let info = || node_info::node_info("net", "x", 0);
    let key = || SecretKey::from_seed(&[1; 32]);
    let reactors = || vec![TestReactor::new() as Arc<dyn Reactor>];
    let run = |config, info, reactors| Switch::start(config, key(), info, reactors, CancellationToken::new());
    let twice = vec![reactors().remove(0), reactors().remove(0)];
    let result = run(NetConfig::default(), info(), twice).await;
    assert!(matches!(result, Err(StartError::DuplicateChannel(CHANNEL))));
    let wrong = NodeInfo { default_node_id: "00".repeat(20), ..info() };
    assert!(matches!(run(NetConfig::default(), wrong, reactors()).await, Err(StartError::WrongId { .. })));
    let blank = NodeInfo { moniker: String::new(), ..info() };
    assert!(matches!(run(NetConfig::default(), blank, reactors()).await, Err(StartError::NodeInfo(_))));
    let mut slow = NetConfig::default();
    slow.intervals.pong_timeout = slow.intervals.ping;
    assert!(matches!(run(slow, info(), reactors()).await, Err(StartError::PongTimeout)));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = NetConfig { listen: Some(taken.local_addr().unwrap()), ..NetConfig::default() };
    assert!(matches!(run(config, info(), reactors()).await, Err(StartError::Listen { .. })));
}
