//! The one task that owns the libp2p swarm.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use libp2p_core::Multiaddr;
use libp2p_gossipsub::{IdentTopic, MessageAcceptance, MessageId, PublishError};
use libp2p_identity::{Keypair, PeerId};
use libp2p_swarm::behaviour::toggle::Toggle;
use libp2p_swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p_swarm::{DialError, NetworkBehaviour, Swarm, SwarmEvent};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use crate::address::{self, AddrInfo, MAX_ADDRESSES};
use crate::api::{P2pError, ProtocolId, Topic};
use crate::config::{Config, HIGH_WATERMARK_DELTA};
use crate::gossip::{self, Gossip};
use crate::links::{LinkLimits, Links, OpenReply};
use crate::node::{Shared, StartError};
use crate::transport;

/// What libp2p's identify protocol says of the protocol family; the reference's value.
const PROTOCOL_VERSION: &str = "ipfs/0.1.0";
/// Connections are closed by trimming and by peers, not for being idle.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How often a quiet connection is tested.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long an answer to a test may take.
const PING_TIME: Duration = Duration::from_secs(20);
/// Streams of one connection that may be agreeing on a protocol at once.
const MAX_NEGOTIATING: usize = 128;
/// Addresses of one peer that are dialled at once.
const DIAL_CONCURRENCY: NonZeroU8 = NonZeroU8::new(4).expect("not zero");
/// Longest agent text kept of a peer, in characters.
const MAX_AGENT: usize = 256;
/// How long the listeners may take to come up.
const LISTEN_TIME: Duration = Duration::from_secs(5);
/// How often trimming, expiry and statistics are done.
const TICK: Duration = Duration::from_secs(1);

/// What the swarm's task is asked to do.
pub(crate) enum Command {
    /// Connect to a peer at its known addresses.
    Dial { peer: PeerId, reply: oneshot::Sender<Result<(), P2pError>> },
    /// Open a stream.
    Open { peer: PeerId, protocol: ProtocolId, reply: OpenReply },
    /// Close all connections with a peer and keep it out of gossip.
    Block { peer: PeerId },
    /// Close connections with a peer that carry no call.
    CloseIdle { peer: PeerId },
    /// The list of served protocols changed.
    ProtocolsChanged,
    /// Join a topic.
    Join { topic: Topic },
    /// Gossip a message.
    Publish { topic: Topic, message: Vec<u8>, reply: oneshot::Sender<Result<(), PublishError>> },
    /// What came of validating a message.
    Validated { id: MessageId, source: PeerId, acceptance: MessageAcceptance },
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p_swarm::derive_prelude")]
pub(crate) struct Behaviour {
    links: Links,
    identify: libp2p_identify::Behaviour,
    ping: libp2p_ping::Behaviour,
    gossip: Toggle<Gossip>,
}

/// The swarm and those who wait for it.
pub(crate) struct Driver {
    swarm: Swarm<Behaviour>,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    dialling: HashMap<PeerId, Vec<oneshot::Sender<Result<(), P2pError>>>>,
}

impl Driver {
    /// Builds the swarm and listens; returns once all listeners are up.
    pub(crate) async fn start(
        key: &Keypair,
        config: &Config,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
    ) -> Result<Self, StartError> {
        let transport = transport::build(key, config.security)?;
        let limits = LinkLimits {
            inbound: config.max_inbound,
            per_peer: config.max_per_peer,
            handshakes: config.max_handshakes,
        };
        let identify = libp2p_identify::Config::new_with_signed_peer_record(PROTOCOL_VERSION.to_owned(), key)
            .with_agent_version(config.agent.clone())
            .with_cache_size(0)
            .with_interval(Duration::from_secs(3600));
        let ping = libp2p_ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIME);
        let mut gossip =
            config.gossip.then(|| gossip::behaviour(key, config)).transpose().map_err(StartError::Gossip)?;
        if let Some(gossip) = &mut gossip {
            config.persistent_peers.iter().for_each(|peer| gossip.add_explicit_peer(&peer.id));
        }
        let behaviour = Behaviour {
            links: Links::new(shared.table.clone(), shared.services.clone(), limits),
            identify: libp2p_identify::Behaviour::new(identify),
            ping: libp2p_ping::Behaviour::new(ping),
            gossip: gossip.into(),
        };
        let swarm_config = libp2p_swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(NEVER)
            .with_max_negotiating_inbound_streams(MAX_NEGOTIATING)
            .with_dial_concurrency_factor(DIAL_CONCURRENCY);
        let swarm = Swarm::new(transport, behaviour, key.public().to_peer_id(), swarm_config);
        let mut driver = Self { swarm, shared, commands, dialling: HashMap::new() };
        driver.listen(config).await?;
        Ok(driver)
    }

    async fn listen(&mut self, config: &Config) -> Result<(), StartError> {
        let mut waiting = HashSet::new();
        for addr in &config.listen {
            let listen = |error: String| StartError::Listen { addr: *addr, error };
            let id = self.swarm.listen_on(address::multiaddr(*addr)).map_err(|e| listen(e.to_string()))?;
            waiting.insert(id);
        }
        let up = async {
            while !waiting.is_empty() {
                let event = self.swarm.select_next_some().await;
                if let SwarmEvent::NewListenAddr { listener_id, .. } = &event {
                    waiting.remove(listener_id);
                }
                self.on_event(event);
            }
        };
        tokio::time::timeout(LISTEN_TIME, up).await.map_err(|_| StartError::ListenTimeout)
    }

    /// Runs until the token is cancelled or nobody can send commands.
    pub(crate) async fn run(mut self) {
        let stop = self.shared.stop.clone();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                event = self.swarm.select_next_some() => self.on_event(event),
                _ = tick.tick() => self.on_tick(),
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Dial { peer, reply } => self.dial(peer, reply),
            Command::Open { peer, protocol, reply } => self.swarm.behaviour_mut().links.open(peer, &protocol, reply),
            Command::Block { peer } => {
                if let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() {
                    gossip.blacklist_peer(&peer);
                }
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            Command::CloseIdle { peer } => {
                for (id, connection) in self.shared.table.lock().connections(&peer) {
                    if connection.streams == 0 {
                        self.swarm.close_connection(id);
                    }
                }
            }
            Command::ProtocolsChanged => self.swarm.behaviour_mut().links.protocols_changed(),
            Command::Join { topic } => {
                if let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut()
                    && let Err(error) = gossip.subscribe(&IdentTopic::new(topic.as_str()))
                {
                    warn!(%topic, %error, "cannot join topic");
                }
            }
            Command::Publish { topic, message, reply } => {
                let result = match self.swarm.behaviour_mut().gossip.as_mut() {
                    Some(gossip) => gossip.publish(IdentTopic::new(topic.as_str()), message).map(drop),
                    None => Err(PublishError::NoPeersSubscribedToTopic),
                };
                let _ = reply.send(result);
            }
            Command::Validated { id, source, acceptance } => {
                if let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() {
                    gossip.report_message_validation_result(&id, &source, acceptance);
                }
            }
        }
    }

    fn dial(&mut self, peer: PeerId, reply: oneshot::Sender<Result<(), P2pError>>) {
        if self.swarm.is_connected(&peer) {
            let _ = reply.send(Ok(()));
            return;
        }
        if let Some(waiting) = self.dialling.get_mut(&peer) {
            waiting.push(reply);
            return;
        }
        let options = DialOpts::peer_id(peer).condition(PeerCondition::DisconnectedAndNotDialing).build();
        match self.swarm.dial(options) {
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {
                self.dialling.entry(peer).or_default().push(reply);
            }
            Err(error) => {
                let _ = reply.send(Err(P2pError::Unreachable { peer, reason: error.to_string() }));
            }
        }
    }

    fn dialled(&mut self, peer: &PeerId, result: &Result<(), P2pError>) {
        for reply in self.dialling.remove(peer).unwrap_or_default() {
            let _ = reply.send(result.clone());
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                debug!(%address, "listening");
                let mut listen = self.shared.listen.lock();
                if !listen.contains(&address) {
                    listen.push(address);
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => self.shared.listen.lock().retain(|a| *a != address),
            SwarmEvent::ListenerClosed { reason: Err(error), .. } => warn!(%error, "a listener closed"),
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } => {
                debug!(peer = %peer_id, remote = %endpoint.get_remote_address(), "connected");
                self.dialled(&peer_id, &Ok(()));
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established, cause, .. } => {
                let cause = cause.map(|c| c.to_string());
                debug!(peer = %peer_id, num_established, cause, "connection closed");
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                debug!(%peer, %error, "cannot connect");
                self.dialled(&peer, &Err(P2pError::Unreachable { peer, reason: error.to_string() }));
            }
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(libp2p_identify::Event::Received { peer_id, info, connection_id }) => {
                let remote = self
                    .shared
                    .table
                    .lock()
                    .connections(&peer_id)
                    .into_iter()
                    .find(|(id, _)| *id == connection_id)
                    .map(|(_, c)| c.remote);
                let addrs = usable(info.listen_addrs, remote.as_ref());
                let agent = info.agent_version.chars().take(MAX_AGENT).collect();
                let protocols = info.protocols.iter().map(|p| p.as_ref().to_owned()).collect();
                let mut table = self.shared.table.lock();
                table.replace(&AddrInfo { id: peer_id, addrs }, Instant::now());
                table.identified(&peer_id, agent, protocols);
            }
            BehaviourEvent::Identify(_) => {}
            BehaviourEvent::Ping(libp2p_ping::Event { peer, connection, result: Err(error) }) => {
                // A peer without the protocol lives as well.
                if !matches!(error, libp2p_ping::Failure::Unsupported) {
                    debug!(%peer, %error, "peer does not answer, closing connection");
                    self.swarm.close_connection(connection);
                }
            }
            BehaviourEvent::Ping(_) => {}
            BehaviourEvent::Gossip(event) => {
                if matches!(
                    event,
                    libp2p_gossipsub::Event::Subscribed { .. } | libp2p_gossipsub::Event::Unsubscribed { .. }
                ) {
                    self.count_topics();
                }
                if let libp2p_gossipsub::Event::Message { propagation_source, message_id, message } = event {
                    gossip::received(&self.shared, propagation_source, message_id, message);
                }
            }
        }
    }

    fn count_topics(&mut self) {
        let Some(gossip) = self.swarm.behaviour().gossip.as_ref() else { return };
        let mut peers: HashMap<String, Vec<PeerId>> =
            gossip.topics().map(|t| (t.as_str().to_owned(), Vec::new())).collect();
        for (peer, topics) in gossip.all_peers() {
            for topic in topics {
                if let Some(list) = peers.get_mut(topic.as_str()) {
                    list.push(*peer);
                }
            }
        }
        *self.shared.topic_peers.lock() = peers;
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        self.shared.services.sweep(now);
        self.count_topics();
        let (low, grace) = (self.shared.max_peers, self.shared.grace_period);
        let trim = {
            let mut table = self.shared.table.lock();
            table.expire(now);
            table.trim(low, low.saturating_add(HIGH_WATERMARK_DELTA), grace, now)
        };
        for peer in trim {
            debug!(%peer, "too many connections, disconnecting");
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        // Callers that gave up no longer wait.
        self.dialling.retain(|_, waiting| {
            waiting.retain(|reply| !reply.is_closed());
            !waiting.is_empty()
        });
    }
}

/// Of the addresses that a peer says it listens on, those that make sense from here: all of a peer on this machine, none
/// of its loopback ones if it is on a private network, public ones only otherwise.
fn usable(addrs: Vec<Multiaddr>, remote: Option<&Multiaddr>) -> Vec<Multiaddr> {
    let remote_ip = remote.and_then(address::ip);
    let loopback = remote_ip.is_some_and(|ip| ip.to_canonical().is_loopback());
    let public = remote.is_some_and(address::is_public);
    addrs
        .into_iter()
        .map(address::without_peer)
        .filter(|addr| match (loopback, public) {
            (true, _) => true,
            (_, true) => address::is_public(addr),
            _ => !address::ip(addr).is_some_and(|ip| ip.to_canonical().is_loopback()),
        })
        .filter(|addr| addr.len() <= address::MAX_ADDRESS_TEXT)
        .take(MAX_ADDRESSES)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_filtered_by_where_the_peer_is() {
        let all = ["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/8.8.8.8/tcp/1"];
        let check = |remote: &str, want: &[&str]| {
            let addrs = all.iter().map(|a| a.parse().unwrap()).collect();
            let got: Vec<String> =
                usable(addrs, Some(&remote.parse().unwrap())).iter().map(ToString::to_string).collect();
            assert_eq!(got, want, "{remote}");
        };
        check("/ip4/127.0.0.1/tcp/9", &all);
        check("/ip4/10.0.0.9/tcp/9", &all[1..]);
        check("/ip4/9.9.9.9/tcp/9", &all[2..]);
        let many = (0..1000u16).map(|p| address::multiaddr(([127, 0, 0, 1], p).into())).collect();
        assert_eq!(usable(many, Some(&"/ip4/127.0.0.1/tcp/9".parse().unwrap())).len(), MAX_ADDRESSES);
    }
}
