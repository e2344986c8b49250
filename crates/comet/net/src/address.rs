//! Addresses of peers: `id@host:port`, host names, and the node id of a key.
//!
//! Reference: `cometbft:p2p/netaddress.go`, `p2p/key.go`, `oasis-core:go/consensus/cometbft/common`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use comet_core::PeerId;
use wire_cometbft::keys::Address;

/// Hexadecimal digits of a node id.
pub const ID_DIGITS: usize = 40;
/// Longest host name.
pub const MAX_HOST_BYTES: usize = 253;
/// How long a host name may take to be looked up.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a text is no address of a peer, or why a name has none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not of the shape `id@host:port`.
    #[error("address {0:?} has no id")]
    NoId(String),
    /// The id is not 40 lower-case hexadecimal digits.
    #[error("invalid node id {0:?}")]
    InvalidId(String),
    /// The part before the `@` is no base64 public key.
    #[error("invalid public key {0:?}")]
    InvalidKey(String),
    /// Not of the shape `host:port`.
    #[error("invalid host and port {0:?}")]
    InvalidHostPort(String),
    /// The name could not be looked up.
    #[error("cannot look up {host:?}: {reason}")]
    Lookup {
        /// Name looked up.
        host: String,
        /// What the system said.
        reason: String,
    },
}

/// The node id of a public key: its address in lower-case hexadecimal digits.
pub fn node_id(key: &[u8; 32]) -> PeerId {
    PeerId::new(&hex::encode(Address::of(key).0))
}

/// Checks a node id's text: 40 lower-case hexadecimal digits.
///
/// DEVIATION: the reference takes upper-case digits too, but compares ids as text, so that nobody ever has such an id.
pub fn parse_id(text: &str) -> Result<PeerId, AddressError> {
    let valid = text.len() == ID_DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if valid { Ok(PeerId::new(text)) } else { Err(AddressError::InvalidId(clip(text))) }
}

/// What is quoted of a hostile text.
fn clip(text: &str) -> String {
    text.chars().take(100).collect()
}

/// A host: an IP address or a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// IP address.
    Ip(IpAddr),
    /// Name, to be looked up when dialing.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Splits `host:port`, with or without a protocol in front (`tcp://…`).
pub fn parse_host_port(text: &str) -> Result<(Host, u16), AddressError> {
    let bad = || AddressError::InvalidHostPort(clip(text));
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    if port.is_empty() || port.len() > 5 || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let port = port.parse().map_err(|_| bad())?;
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            let ip = rest.strip_suffix(']').ok_or_else(bad)?;
            Host::Ip(parse_ip(ip).filter(|_| ip.contains(':')).ok_or_else(bad)?)
        }
        None if host.contains(':') => return Err(bad()),
        None => match parse_ip(host) {
            Some(ip) => Host::Ip(ip),
            None if is_name(host) => Host::Name(host.to_owned()),
            None => return Err(bad()),
        },
    };
    Ok((host, port))
}

/// An IP address from its text; an IPv4 address in IPv6 form counts as IPv4.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= MAX_HOST_BYTES
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// Where to accept connections, from `tcp://0.0.0.0:26656` or the like; names are not allowed.
pub fn parse_listen(text: &str) -> Result<SocketAddr, AddressError> {
    match parse_host_port(text)? {
        (Host::Ip(ip), port) => Ok(SocketAddr::new(ip, port)),
        (Host::Name(_), _) => Err(AddressError::InvalidHostPort(clip(text))),
    }
}

/// A peer's address as an operator writes it; names are looked up whenever it is dialed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// Node id.
    pub id: PeerId,
    /// Host.
    pub host: Host,
    /// Port.
    pub port: u16,
}

impl PeerAddress {
    /// Parses `id@host:port`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (id, rest) = text.split_once('@').ok_or_else(|| AddressError::NoId(clip(text)))?;
        let (host, port) = parse_host_port(rest)?;
        Ok(Self { id: parse_id(id)?, host, port })
    }

    /// Parses `key@host:port` with a base64 public key of the peer's transport, as node configurations have it.
    pub fn parse_with_key(text: &str) -> Result<Self, AddressError> {
        let (key, rest) = text.split_once('@').ok_or_else(|| AddressError::NoId(clip(text)))?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(key).ok();
        let bytes: [u8; 32] =
            bytes.and_then(|b| b.try_into().ok()).ok_or_else(|| AddressError::InvalidKey(clip(key)))?;
        let (host, port) = parse_host_port(rest)?;
        Ok(Self { id: node_id(&bytes), host, port })
    }

    /// Looks the host up, for at most [`LOOKUP_TIMEOUT`].
    pub async fn resolve(&self) -> Result<NetAddress, AddressError> {
        let name = match &self.host {
            Host::Ip(ip) => return Ok(NetAddress { id: self.id.clone(), ip: *ip, port: self.port }),
            Host::Name(name) => name,
        };
        let failed = |reason: String| AddressError::Lookup { host: name.clone(), reason };
        let mut found = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((name.as_str(), self.port)))
            .await
            .map_err(|_| failed("timed out".to_owned()))?
            .map_err(|e| failed(e.to_string()))?;
        let found = found.next().ok_or_else(|| failed("no address".to_owned()))?;
        Ok(NetAddress { id: self.id.clone(), ip: found.ip().to_canonical(), port: self.port })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.id.0, self.host, self.port)
    }
}

impl From<NetAddress> for PeerAddress {
    fn from(address: NetAddress) -> Self {
        Self { id: address.id, host: Host::Ip(address.ip), port: address.port }
    }
}

/// A peer's address with an IP address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NetAddress {
    /// Node id.
    pub id: PeerId,
    /// IP address; never an IPv4 one in IPv6 form.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
}

impl NetAddress {
    /// Where to connect to.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

impl fmt::Display for NetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id.0, self.socket())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0fcfe995539683b92c8b5aedefcd6a54bade8e8d";

    #[test]
    fn peer_addresses() {
        for (text, host, port) in [
            ("1.2.3.4:5", "1.2.3.4", 5),
            ("[::1]:65535", "[::1]", 65535),
            ("[::ffff:1.2.3.4]:1", "1.2.3.4", 1),
            ("seed.example.com:26656", "seed.example.com", 26656),
            ("localhost:0", "localhost", 0),
        ] {
            let address = PeerAddress::parse(&format!("{ID}@{text}")).unwrap();
            assert_eq!(address.to_string(), format!("{ID}@{host}:{port}"));
            assert_eq!(PeerAddress::parse(&format!("tcp://{ID}@{text}")).unwrap(), address);
        }
        for bad in ["", "1.2.3.4", ":1", "1.2.3.4:65536", "1.2.3.4:+5", "::1:5", "[1.2.3.4]:5", "[::1:5", "a b:1", "h:"]
        {
            assert!(
                matches!(PeerAddress::parse(&format!("{ID}@{bad}")), Err(AddressError::InvalidHostPort(_))),
                "{bad}"
            );
        }
        assert!(matches!(PeerAddress::parse("1.2.3.4:5"), Err(AddressError::NoId(_))));
        for id in ["", "0f", &ID.to_uppercase(), &"g".repeat(40)] {
            assert!(matches!(PeerAddress::parse(&format!("{id}@1.2.3.4:5")), Err(AddressError::InvalidId(_))), "{id}");
        }
    }

    #[test]
    fn ids_come_from_keys() {
        let address =
            PeerAddress::parse_with_key("pr+KLREDcBxpWgQ/80yUrHXbyhDuBDcnxzo3td4JiIo=@127.0.0.1:20004").unwrap();
        assert_eq!(address.to_string(), "7837ec1d84e209003d2b67dafdc1a1f597a1026d@127.0.0.1:20004");
        for bad in ["pr+KLREDcBxpWgQ=@127.0.0.1:1", "!@127.0.0.1:1"] {
            assert!(matches!(PeerAddress::parse_with_key(bad), Err(AddressError::InvalidKey(_))), "{bad}");
        }
    }

    #[test]
    fn listen_addresses() {
        assert_eq!(parse_listen("tcp://0.0.0.0:26656").unwrap().to_string(), "0.0.0.0:26656");
        assert_eq!(parse_listen("[::]:1").unwrap().to_string(), "[::]:1");
        assert!(parse_listen("tcp://host:1").is_err() && parse_listen("tcp://:1").is_err());
    }

    #[tokio::test]
    async fn names_are_looked_up() {
        let address = PeerAddress::parse(&format!("{ID}@localhost:5")).unwrap();
        assert!(address.resolve().await.unwrap().ip.is_loopback());
        let nowhere = PeerAddress::parse(&format!("{ID}@nowhere.invalid:5")).unwrap();
        assert!(matches!(nowhere.resolve().await, Err(AddressError::Lookup { .. })));
    }
}
