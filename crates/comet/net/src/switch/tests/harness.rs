//! Switches and hand-driven ends for tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base_crypto::ed25519::SecretKey;
use bytes::Bytes;
use comet_core::PeerId;
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use wire_cometbft::codec::Message;
use wire_cometbft::p2p::NodeInfo;

use crate::address::{PeerAddress, node_id};
use crate::config::NetConfig;
use crate::node_info::node_info;
use crate::packet::{MAX_PACKET, MAX_PAYLOAD, put_piece};
use crate::peer::Peer;
use crate::reactor::{ChannelDescriptor, DropPeer, Reactor};
use crate::secret::handshake::{HandshakeError, secure};
use crate::secret::stream::{SecretReader, SecretWriter};
use crate::switch::dial::DialError;
use crate::switch::{Switch, SwitchHandle};

pub(crate) const CHANNEL: u8 = 0x70;
pub(crate) const QUEUE: usize = 5;
pub(crate) const MAX_MESSAGE: usize = 300_000;
pub(crate) const WAIT: Duration = Duration::from_secs(20);

type Queue<T> = (mpsc::UnboundedSender<T>, Mutex<mpsc::UnboundedReceiver<T>>);

fn queue<T>() -> Queue<T> {
    let (send, receive) = mpsc::unbounded_channel();
    (send, Mutex::new(receive))
}

async fn next<T>(queue: &Queue<T>) -> T {
    let next = async { queue.1.lock().await.recv().await };
    tokio::time::timeout(WAIT, next).await.expect("in time").expect("queue open")
}

/// Keeps what it receives and which peers it lost.
pub(crate) struct TestReactor {
    messages: Queue<(u8, Bytes)>,
    removed: Queue<(PeerId, String)>,
}

impl TestReactor {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { messages: queue(), removed: queue() })
    }
}

impl Reactor for TestReactor {
    fn channels(&self) -> Vec<ChannelDescriptor> {
        vec![ChannelDescriptor { id: CHANNEL, priority: 5, send_queue: QUEUE, max_message: MAX_MESSAGE }]
    }

    fn remove_peer(&self, peer: &Peer, reason: &str) {
        let _ = self.removed.0.send((peer.id().clone(), reason.to_owned()));
    }

    fn receive<'a>(&'a self, channel: u8, _peer: &'a Peer, message: Bytes) -> BoxFuture<'a, Result<(), DropPeer>> {
        Box::pin(async move {
            if message == "ban me" {
                return Err(DropPeer::banned("as it wishes", Duration::from_secs(60)));
            }
            let _ = self.messages.0.send((channel, message));
            Ok(())
        })
    }
}

pub(crate) struct TestSwitch {
    pub(crate) handle: SwitchHandle,
    pub(crate) stop: CancellationToken,
    reactor: Arc<TestReactor>,
}

impl Drop for TestSwitch {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Starts a switch on loopback with short intervals and without peer exchange.
pub(crate) async fn start(seed: u8, change: impl FnOnce(&mut NetConfig)) -> TestSwitch {
    let mut config = NetConfig {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        pex: false,
        addr_book_strict: false,
        allow_duplicate_ip: true,
        ..NetConfig::default()
    };
    config.intervals.reconnect = Duration::from_millis(50);
    config.intervals.dial_jitter = Duration::from_millis(30);
    change(&mut config);
    let (stop, reactor) = (CancellationToken::new(), TestReactor::new());
    let reactors: Vec<Arc<dyn Reactor>> =
        if config.seed_mode { Vec::new() } else { vec![Arc::clone(&reactor) as Arc<dyn Reactor>] };
    let key = SecretKey::from_seed(&[seed; 32]);
    let info = node_info("test-net", &format!("node {seed}"), 7 << 32);
    let handle = Switch::start(config, key, info, reactors, stop.clone()).await.unwrap();
    TestSwitch { handle, stop, reactor }
}

/// Waits until the condition holds.
pub(crate) async fn eventually(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WAIT, wait).await.expect("condition in time");
}

impl TestSwitch {
    pub(crate) fn address(&self) -> PeerAddress {
        let at = self.handle.listen_addr().unwrap();
        PeerAddress::parse(&format!("{}@{at}", self.handle.id().0)).unwrap()
    }

    pub(crate) async fn dial(&self, other: &TestSwitch) -> Result<(), DialError> {
        self.handle.dial(&other.address()).await
    }

    /// The running peer of that id, once it is there.
    pub(crate) async fn peer_with(&self, id: &PeerId) -> Peer {
        let running = || self.handle.peer(id).filter(Peer::is_running);
        eventually(|| running().is_some()).await;
        running().expect("it was there just now")
    }

    pub(crate) async fn peer_of(&self, other: &TestSwitch) -> Peer {
        self.peer_with(other.handle.id()).await
    }

    pub(crate) async fn next_message(&self) -> (u8, Bytes) {
        next(&self.reactor.messages).await
    }

    /// The next peer lost, and why.
    pub(crate) async fn removal(&self) -> (PeerId, String) {
        next(&self.reactor.removed).await
    }
}

/// An end of a connection whose packets are made by hand.
pub(crate) struct HandEnd {
    pub(crate) id: PeerId,
    pub(crate) reader: SecretReader<OwnedReadHalf>,
    pub(crate) writer: SecretWriter<OwnedWriteHalf>,
}

impl HandEnd {
    pub(crate) fn id_of(seed: u8) -> PeerId {
        node_id(&SecretKey::from_seed(&[seed; 32]).public())
    }

    /// Connects and does both handshakes, with the node info changed.
    pub(crate) async fn connect(
        to: &TestSwitch,
        seed: u8,
        change: impl FnOnce(&mut NodeInfo),
    ) -> Result<Self, HandshakeError> {
        let key = SecretKey::from_seed(&[seed; 32]);
        let stream = TcpStream::connect(to.handle.listen_addr().unwrap()).await?;
        let (read, write) = stream.into_split();
        let mut secured = secure(read, write, &key).await?;
        let id = node_id(&key.public());
        let mut info = NodeInfo {
            default_node_id: id.0.to_string(),
            listen_addr: format!("tcp://10.9.9.{seed}:26656"),
            channels: to.handle.node_info().channels.clone(),
            ..node_info("test-net", "hand", 7 << 32)
        };
        change(&mut info);
        secured.writer.write(&info.encode_delimited()).await?;
        NodeInfo::decode(&secured.reader.read_delimited(10_240).await?)?;
        Ok(Self { id, reader: secured.reader, writer: secured.writer })
    }

    pub(crate) async fn send_message(&mut self, channel: u8, message: &[u8]) {
        assert!(message.len() <= MAX_PAYLOAD);
        let mut packet = Vec::new();
        put_piece(channel, true, message, &mut packet);
        self.writer.write(&packet).await.unwrap();
    }

    pub(crate) async fn next_packet(&mut self) -> Vec<u8> {
        tokio::time::timeout(WAIT, self.reader.read_delimited(MAX_PACKET)).await.expect("in time").unwrap()
    }

    /// Whether the other end closes the connection, whatever it sends before.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let drain = async {
            while self.reader.fill().await.is_ok() {
                self.reader.consume(usize::MAX);
            }
        };
        tokio::time::timeout(WAIT, drain).await.is_ok()
    }
}
