//! The swarm behaviour that admits connections and carries the streams of remote calls.
//!
//! Inbound streams are handed to [`Accept`] at once, outbound ones are opened on request; nothing waits in here.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p_core::transport::PortUse;
use libp2p_core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p_core::{Endpoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p_swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::api::{P2pError, ProtocolId};
use crate::table::{Connection, Table};

/// How long opening a stream and agreeing on its protocol may take.
const NEGOTIATION_TIME: Duration = Duration::from_secs(5);

/// Takes inbound streams.
pub(crate) trait Accept: Send + Sync {
    /// The protocols that are served.
    fn protocols(&self) -> Vec<StreamProtocol>;
    /// A stream of one of them; must return at once.
    fn accept(&self, from: PeerId, connection: ConnectionId, protocol: &str, stream: Stream);
}

/// Bounds on connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkLimits {
    pub(crate) inbound: usize,
    pub(crate) per_peer: usize,
    pub(crate) handshakes: usize,
}

/// Where an opened stream goes.
pub(crate) type OpenReply = oneshot::Sender<Result<(ConnectionId, Stream), P2pError>>;

/// The behaviour.
pub(crate) struct Links {
    table: Arc<Mutex<Table>>,
    accept: Arc<dyn Accept>,
    limits: LinkLimits,
    handshakes: HashSet<ConnectionId>,
    live: HashMap<PeerId, Vec<ConnectionId>>,
    queue: VecDeque<ToSwarm<Infallible, ToHandler>>,
}

impl Links {
    pub(crate) fn new(table: Arc<Mutex<Table>>, accept: Arc<dyn Accept>, limits: LinkLimits) -> Self {
        let (handshakes, live, queue) = (HashSet::new(), HashMap::new(), VecDeque::new());
        Self { table, accept, limits, handshakes, live, queue }
    }

    /// Opens a stream on a connection that exists.
    pub(crate) fn open(&mut self, peer: PeerId, protocol: &ProtocolId, reply: OpenReply) {
        let Some(connection) = self.live.get(&peer).and_then(|c| c.first().copied()) else {
            let _ = reply.send(Err(P2pError::Unreachable { peer, reason: "not connected".into() }));
            return;
        };
        let Ok(name) = StreamProtocol::try_from_owned(protocol.as_str().to_owned()) else {
            let _ = reply.send(Err(P2pError::Name(protocol.to_string())));
            return;
        };
        let event = ToHandler::Open { name, protocol: protocol.clone(), connection, reply };
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler: NotifyHandler::One(connection), event });
    }

    /// Makes every connection look at the list of served protocols anew.
    pub(crate) fn protocols_changed(&mut self) {
        for (peer, connections) in &self.live {
            for connection in connections {
                self.queue.push_back(ToSwarm::NotifyHandler {
                    peer_id: *peer,
                    handler: NotifyHandler::One(*connection),
                    event: ToHandler::Wake,
                });
            }
        }
    }

    fn handler(&self, peer: PeerId, connection: ConnectionId) -> Handler {
        Handler { peer, connection, accept: self.accept.clone(), queue: VecDeque::new() }
    }

    fn admit(&self, peer: &PeerId, remote: &Multiaddr) -> Result<(), ConnectionDenied> {
        let table = self.table.lock();
        if table.is_blocked(peer) || table.is_blocked_addr(remote) {
            return Err(ConnectionDenied::new(Refused::Blocked));
        }
        if table.num_with_peer(peer) >= self.limits.per_peer {
            return Err(ConnectionDenied::new(Refused::TooManyWithPeer));
        }
        Ok(())
    }
}

/// Why a connection was refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("peer or address is blocked")]
    Blocked,
    #[error("too many connections with the peer")]
    TooManyWithPeer,
    #[error("too many connections from outside")]
    TooManyInbound,
}

impl NetworkBehaviour for Links {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let table = self.table.lock();
        if table.is_blocked_addr(remote) {
            return Err(ConnectionDenied::new(Refused::Blocked));
        }
        if self.handshakes.len() >= self.limits.handshakes || table.num_inbound() >= self.limits.inbound {
            return Err(ConnectionDenied::new(Refused::TooManyInbound));
        }
        self.handshakes.insert(connection);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handshakes.remove(&connection);
        self.admit(&peer, remote)?;
        if self.table.lock().num_inbound() >= self.limits.inbound {
            return Err(ConnectionDenied::new(Refused::TooManyInbound));
        }
        Ok(self.handler(peer, connection))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _connection: ConnectionId,
        peer: Option<PeerId>,
        _addresses: &[Multiaddr],
        _role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let Some(peer) = peer else { return Ok(Vec::new()) };
        let table = self.table.lock();
        if table.is_blocked(&peer) {
            return Err(ConnectionDenied::new(Refused::Blocked));
        }
        Ok(table.addresses(&peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _role: Endpoint,
        _port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(&peer, remote)?;
        Ok(self.handler(peer, connection))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(e) => {
                let connection = Connection {
                    inbound: e.endpoint.is_listener(),
                    since: Instant::now(),
                    remote: e.endpoint.get_remote_address().clone(),
                    streams: 0,
                };
                self.live.entry(e.peer_id).or_default().push(e.connection_id);
                self.table.lock().connected(e.peer_id, e.connection_id, connection);
            }
            FromSwarm::ConnectionClosed(e) => {
                if let Some(list) = self.live.get_mut(&e.peer_id) {
                    list.retain(|id| *id != e.connection_id);
                    if list.is_empty() {
                        self.live.remove(&e.peer_id);
                    }
                }
                self.table.lock().disconnected(&e.peer_id, e.connection_id, Instant::now());
            }
            FromSwarm::ListenFailure(e) => {
                self.handshakes.remove(&e.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        // The node's task polls again after each command, so an empty queue needs no waker.
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// What the behaviour tells a connection.
pub(crate) enum ToHandler {
    /// Open a stream.
    Open { name: StreamProtocol, protocol: ProtocolId, connection: ConnectionId, reply: OpenReply },
    /// Look at the list of protocols.
    Wake,
}

impl std::fmt::Debug for ToHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open { name, .. } => write!(f, "Open({name})"),
            Self::Wake => f.write_str("Wake"),
        }
    }
}

/// A stream that was asked for.
pub(crate) struct Pending {
    connection: ConnectionId,
    protocol: ProtocolId,
    reply: OpenReply,
}

/// The part of the behaviour at one connection.
pub(crate) struct Handler {
    peer: PeerId,
    connection: ConnectionId,
    accept: Arc<dyn Accept>,
    queue: VecDeque<(StreamProtocol, Pending)>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = ToHandler;
    type ToBehaviour = Infallible;
    type InboundProtocol = Names;
    type OutboundProtocol = Names;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Pending;

    fn listen_protocol(&self) -> SubstreamProtocol<Names> {
        SubstreamProtocol::new(Names(self.accept.protocols()), ()).with_timeout(NEGOTIATION_TIME)
    }

    fn poll(&mut self, _cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Names, Pending, Infallible>> {
        match self.queue.pop_front() {
            None => Poll::Pending,
            Some((name, pending)) => Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(Names(vec![name]), pending).with_timeout(NEGOTIATION_TIME),
            }),
        }
    }

    fn on_behaviour_event(&mut self, event: ToHandler) {
        if let ToHandler::Open { name, protocol, connection, reply } = event {
            self.queue.push_back((name, Pending { connection, protocol, reply }));
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Names, Names, (), Pending>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (stream, name), .. }) => {
                self.accept.accept(self.peer, self.connection, name.as_ref(), stream);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: (stream, _), info }) => {
                let _ = info.reply.send(Ok((info.connection, stream)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let error = match error {
                    StreamUpgradeError::Timeout => P2pError::Timeout { what: "stream", limit: NEGOTIATION_TIME },
                    StreamUpgradeError::NegotiationFailed => P2pError::Unsupported(info.protocol),
                    StreamUpgradeError::Io(error) => P2pError::Stream(error.to_string()),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _ = info.reply.send(Err(error));
            }
            _ => {}
        }
    }
}

/// Agrees on one of several names and gives the bare stream.
#[derive(Debug, Clone)]
pub(crate) struct Names(Vec<StreamProtocol>);

impl UpgradeInfo for Names {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Names {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}

impl OutboundUpgrade<Stream> for Names {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}
