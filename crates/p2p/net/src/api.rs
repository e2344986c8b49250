//! The border to the rest of the node: what it may ask of the network and what it must offer to it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use libp2p_identity::PeerId;

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Longest name of a topic or protocol, in bytes.
pub const MAX_NAME: usize = 512;

/// Largest frame (request or response) in bytes. Source: `go/common/cbor/codec.go`.
pub const MAX_FRAME: usize = 64 << 20;

/// Largest gossip message in bytes, envelope included. Source: the default of go-libp2p-pubsub.
pub const MAX_GOSSIP: usize = 1 << 20;

/// How long a peer may take to answer a call unless said otherwise.
pub const DEFAULT_RESPONSE_TIME: Duration = Duration::from_secs(5);

/// The pause that the publisher of one and the same message must leave: within it peers take it for a duplicate.
pub const MIN_REPUBLISH_INTERVAL: Duration = Duration::from_secs(125);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as given; see [`crate::ids`] for the network's names.
            #[must_use]
            pub fn new(name: &str) -> Self {
                Self(name.into())
            }

            /// Its text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

name! {
    /// A gossip topic.
    Topic
}
name! {
    /// A remote-call protocol; starts with a slash.
    ProtocolId
}

/// What went wrong in talking to the network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum P2pError {
    /// The node is stopping.
    #[error("the network is shut down")]
    Closed,
    /// The node's queue of commands is full.
    #[error("the network is busy")]
    Busy,
    /// A topic or protocol that is not valid or not known here.
    #[error("unknown or invalid name: {0}")]
    Name(String),
    /// A topic or protocol was registered before.
    #[error("registered twice: {0}")]
    Duplicate(String),
    /// The peer cannot be reached.
    #[error("cannot reach peer {peer}: {reason}")]
    Unreachable {
        /// Whom.
        peer: PeerId,
        /// Why.
        reason: String,
    },
    /// The peer is blocked.
    #[error("peer {0} is blocked")]
    Blocked(PeerId),
    /// The peer does not speak the protocol.
    #[error("peer does not support {0}")]
    Unsupported(ProtocolId),
    /// The peer took too long.
    #[error("no {what} within {limit:?}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        limit: Duration,
    },
    /// A frame or message is larger than allowed.
    #[error("message of {len} bytes exceeds {max}")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The stream broke.
    #[error("stream failed: {0}")]
    Stream(String),
}

/// Bounds of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// How long the peer may take to answer, from the moment the request is written.
    pub response_time: Duration,
    /// Largest answer in bytes.
    pub max_response: usize,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self { response_time: DEFAULT_RESPONSE_TIME, max_response: MAX_FRAME }
    }
}

impl CallLimits {
    /// The default with another response time.
    #[must_use]
    pub fn within(response_time: Duration) -> Self {
        Self { response_time, ..Self::default() }
    }
}

/// A connected peer that speaks a protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Who.
    pub id: PeerId,
    /// What it calls its software.
    pub agent: String,
    /// Its average time to answer on the protocol, if it has answered.
    pub latency: Option<Duration>,
}

/// What came of an interaction with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerVerdict {
    /// The answer was good.
    Success {
        /// On which protocol.
        protocol: ProtocolId,
        /// How long it took.
        latency: Duration,
    },
    /// The answer was missing or useless.
    Failure {
        /// On which protocol.
        protocol: ProtocolId,
        /// How long it took.
        latency: Duration,
    },
    /// The peer is malicious: it is disconnected and blocked until the node restarts.
    Bad,
}

/// What a validator makes of a gossip message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validation {
    /// Handled; pass it on.
    Accept,
    /// Can't be handled now: pass it on and offer it again a few times.
    Retry,
    /// It will never be valid: do not pass it on.
    Reject,
    /// It will never be valid here, yet others may want it.
    RejectRelay,
}

/// Handles the messages of a topic while they are validated.
pub trait Validate: Send + Sync {
    /// Decodes, authorizes and handles a message. `author` signed it (whoever passed it on); `own` if that is this node.
    /// Cancelled after 10 seconds, which counts as [`Validation::Retry`].
    fn validate<'a>(&'a self, author: PeerId, own: bool, message: &'a [u8]) -> BoxFuture<'a, Validation>;
}

/// Answers the requests of a protocol.
pub trait Serve: Send + Sync {
    /// Answers the content of one frame with another; `None` closes the stream without an answer.
    fn serve<'a>(&'a self, from: PeerId, request: Vec<u8>) -> BoxFuture<'a, Option<Vec<u8>>>;
}

/// The network as the rest of the node sees it.
pub trait P2p: Send + Sync {
    /// Gossips a message on a topic that was subscribed to. Returns at once; the own validator runs first. With nobody
    /// on the topic up to 50 messages are held until somebody is.
    fn publish(&self, topic: &Topic, message: Vec<u8>) -> Result<(), P2pError>;
    /// Joins a topic, keeps peers for it connected and advertises it.
    fn subscribe(&self, topic: &Topic, validate: Arc<dyn Validate>) -> Result<(), P2pError>;
    /// Sends one frame to a peer on a new stream and waits for one in return; connects first if an address is known.
    /// Gives no feedback: that is the caller's.
    fn call(
        &self,
        peer: &PeerId,
        protocol: &ProtocolId,
        request: Vec<u8>,
        limits: CallLimits,
    ) -> BoxFuture<'_, Result<Vec<u8>, P2pError>>;
    /// Answers a protocol and advertises it.
    fn serve(&self, protocol: ProtocolId, handler: Arc<dyn Serve>) -> Result<(), P2pError>;
    /// Keeps peers for a protocol connected: at least `min` of the registered ones, `total` with discovered ones.
    fn track(&self, protocol: &ProtocolId, min: usize, total: usize);
    /// Connected peers that speak the protocol, the most promising first (of the first five in random order).
    fn peers(&self, protocol: &ProtocolId) -> Vec<PeerInfo>;
    /// Remembers what came of an interaction.
    fn feedback(&self, peer: &PeerId, verdict: PeerVerdict);
}
