//! Addresses of peers: the text of configurations, multiaddresses, and the JSON that seeds and backups hold.

use std::net::{IpAddr, SocketAddr};

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_identity::{PeerId, PublicKey};
use serde_json::Value;
use wire_consensus::node::{ConsensusAddress, NetAddress};

/// Most addresses kept of one peer.
pub const MAX_ADDRESSES: usize = 16;
/// Longest address text taken from a peer, in bytes.
pub const MAX_ADDRESS_TEXT: usize = 256;
/// Longest JSON of one peer taken from a seed, in bytes.
pub const MAX_JSON: usize = 16 << 10;

/// A peer and where it can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddrInfo {
    /// Who.
    pub id: PeerId,
    /// Where, without the peer id; at most [`MAX_ADDRESSES`] once it came from outside.
    pub addrs: Vec<Multiaddr>,
}

/// Why a text or JSON names no peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not `base64(public key)@IP:port`.
    #[error("malformed address (expected pubkey@IP:port): {0}")]
    Text(String),
    /// Not the JSON of a peer.
    #[error("malformed peer: {0}")]
    Json(&'static str),
}

/// The multiaddress of a TCP endpoint.
#[must_use]
pub fn multiaddr(addr: SocketAddr) -> Multiaddr {
    Multiaddr::empty().with(addr.ip().into()).with(Protocol::Tcp(addr.port()))
}

/// The TCP endpoint of a multiaddress, if it starts with one.
#[must_use]
pub fn socket_addr(addr: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = addr.iter();
    match (parts.next()?, parts.next()?) {
        (Protocol::Ip4(ip), Protocol::Tcp(port)) => Some((ip, port).into()),
        (Protocol::Ip6(ip), Protocol::Tcp(port)) => Some((ip, port).into()),
        _ => None,
    }
}

/// The IP address that a multiaddress starts with.
#[must_use]
pub fn ip(addr: &Multiaddr) -> Option<IpAddr> {
    match addr.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// Whether everybody can reach it: an IP address outside all special ranges, or a DNS name.
#[must_use]
pub fn is_public(addr: &Multiaddr) -> bool {
    match addr.iter().next() {
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)) => true,
        _ => ip(addr).is_some_and(|ip| {
            let addr = NetAddress::from(SocketAddr::new(ip, 0));
            addr.is_global_unicast() && addr.is_routable()
        }),
    }
}

/// The multiaddress of a registered address, if it is usable.
#[must_use]
pub fn from_net_address(addr: &NetAddress) -> Option<Multiaddr> {
    addr.socket_addr().filter(|a| a.port() != 0).map(multiaddr)
}

/// Reads `base64(public key)@IP:port` texts; addresses of one key are merged, order is kept.
pub fn parse_peers<S: AsRef<str>>(texts: &[S]) -> Result<Vec<AddrInfo>, AddressError> {
    let mut out: Vec<AddrInfo> = Vec::new();
    for text in texts {
        let bad = || AddressError::Text(text.as_ref().to_owned());
        let address: ConsensusAddress = text.as_ref().parse().map_err(|_| bad())?;
        let id = PublicKey::from_bytes(address.id.into()).to_peer_id();
        let addr = multiaddr(address.address.socket_addr().ok_or_else(bad)?);
        match out.iter_mut().find(|peer| peer.id == id) {
            Some(peer) => peer.addrs.push(addr),
            None => out.push(AddrInfo { id, addrs: vec![addr] }),
        }
    }
    Ok(out)
}

impl AddrInfo {
    /// The texts `<address>/p2p/<peer id>`.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.addrs.iter().map(|a| format!("{a}/p2p/{}", self.id)).collect()
    }

    /// `{"ID":"…","Addrs":[…]}`; no addresses are `null`.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let addrs: Vec<Value> = self.addrs.iter().map(|a| a.to_string().into()).collect();
        let addrs = if addrs.is_empty() { Value::Null } else { addrs.into() };
        let mut map = serde_json::Map::new();
        map.insert("ID".into(), self.id.to_string().into());
        map.insert("Addrs".into(), addrs);
        Value::Object(map).to_string().into_bytes()
    }

    /// Reads the JSON; an address of a kind unknown here is left out, a malformed one is an error. A trailing peer id in
    /// an address is cut off.
    pub fn from_json(json: &[u8]) -> Result<Self, AddressError> {
        if json.len() > MAX_JSON {
            return Err(AddressError::Json("too long"));
        }
        let value: Value = serde_json::from_slice(json).map_err(|_| AddressError::Json("not JSON"))?;
        let map = value.as_object().ok_or(AddressError::Json("not an object"))?;
        let field = |name: &str| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v);
        let id = field("ID").and_then(Value::as_str).ok_or(AddressError::Json("no peer id"))?;
        let id = id.parse().map_err(|_| AddressError::Json("malformed peer id"))?;
        let list = match field("Addrs") {
            None | Some(Value::Null) => &[][..],
            Some(Value::Array(list)) => list,
            Some(_) => return Err(AddressError::Json("addresses are no list")),
        };
        let mut addrs = Vec::new();
        for item in list.iter().take(MAX_ADDRESSES) {
            let text = item.as_str().ok_or(AddressError::Json("address is no text"))?;
            if text.len() > MAX_ADDRESS_TEXT {
                return Err(AddressError::Json("address too long"));
            }
            match text.parse::<Multiaddr>() {
                Ok(addr) => addrs.push(without_peer(addr)),
                Err(libp2p_core::multiaddr::Error::UnknownProtocolString(_)) => {}
                Err(_) => return Err(AddressError::Json("malformed address")),
            }
        }
        Ok(Self { id, addrs })
    }
}

/// The address without a trailing peer id.
#[must_use]
pub fn without_peer(mut addr: Multiaddr) -> Multiaddr {
    if matches!(addr.iter().last(), Some(Protocol::P2p(_))) {
        addr.pop();
    }
    addr
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

    #[test]
    fn json_is_that_of_the_reference() {
        let json = format!(r#"{{"ID":"{ID}","Addrs":["/ip4/127.0.0.1/tcp/9200","/ip6/::1/tcp/1"]}}"#);
        let info = AddrInfo::from_json(json.as_bytes()).unwrap();
        assert_eq!(info.to_json(), json.as_bytes());
        assert_eq!(info.texts()[0], format!("/ip4/127.0.0.1/tcp/9200/p2p/{ID}"));
        let none = format!(r#"{{"ID":"{ID}","Addrs":null}}"#);
        assert_eq!(AddrInfo::from_json(none.as_bytes()).unwrap().to_json(), none.as_bytes());
    }

    #[test]
    fn json_from_strangers() {
        let check = |text: &str| AddrInfo::from_json(text.as_bytes());
        let with_peer = check(&format!(r#"{{"ID":"{ID}","Addrs":["/ip4/1.2.3.4/tcp/5/p2p/{ID}"]}}"#)).unwrap();
        assert_eq!(with_peer.addrs, vec!["/ip4/1.2.3.4/tcp/5".parse().unwrap()]);
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"ID":1}"#,
            r#"{"ID":"x"}"#,
            &format!(r#"{{"ID":"{ID}","Addrs":{{}}}}"#),
            &format!(r#"{{"ID":"{ID}","Addrs":[1]}}"#),
            &format!(r#"{{"ID":"{ID}","Addrs":["nonsense"]}}"#),
            &format!(r#"{{"ID":"{ID}","Addrs":["/ip4/{}"]}}"#, "1".repeat(300)),
            &" ".repeat(MAX_JSON + 1),
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        let many = vec![r#""/ip4/1.2.3.4/tcp/5""#; 100].join(",");
        let info = check(&format!(r#"{{"ID":"{ID}","Addrs":[{many}]}}"#)).unwrap();
        assert_eq!(info.addrs.len(), MAX_ADDRESSES);
    }

    #[test]
    fn texts_of_one_key_are_merged() {
        let key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        let other = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
        let peers =
            parse_peers(&[format!("{key}@1.2.3.4:5"), format!("{other}@1.2.3.4:6"), format!("{key}@[2001:db8::1]:7")])
                .unwrap();
        assert_eq!(peers.len(), 2);
        assert_eq!(peers[0].id.public_key().unwrap().as_bytes(), &[1; 32]);
        assert_eq!(peers[0].addrs, ["/ip4/1.2.3.4/tcp/5", "/ip6/2001:db8::1/tcp/7"].map(|a| a.parse().unwrap()));
        for bad in ["", "x@1.2.3.4:5", key, &format!("{key}@1.2.3.4"), &format!("{key}@host:1")] {
            assert_eq!(parse_peers(&[bad]), Err(AddressError::Text(bad.to_owned())));
        }
    }

    #[test]
    fn public_addresses() {
        for (text, public) in [
            ("/ip4/8.8.8.8/tcp/1", true),
            ("/ip4/10.0.0.1/tcp/1", false),
            ("/ip4/127.0.0.1/tcp/1", false),
            ("/ip4/192.168.1.1/tcp/1", false),
            ("/ip6/2606:4700::1/tcp/1", true),
            ("/ip6/::1/tcp/1", false),
            ("/ip6/fe80::1/tcp/1", false),
            ("/dns4/example.org/tcp/1", true),
        ] {
            assert_eq!(is_public(&text.parse().unwrap()), public, "{text}");
        }
        assert_eq!(socket_addr(&"/ip4/1.2.3.4/udp/5".parse().unwrap()), None);
        assert_eq!(socket_addr(&"/ip4/1.2.3.4/tcp/5/ws".parse().unwrap()), Some("1.2.3.4:5".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn any_json(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,80}") {
            let _ = AddrInfo::from_json(&bytes);
            let _ = AddrInfo::from_json(format!(r#"{{"ID":"{ID}","Addrs":[{text:?}]}}"#).as_bytes());
            let _ = parse_peers(&[text]);
        }
    }
}
