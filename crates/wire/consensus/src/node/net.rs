//! Network addresses in node descriptors.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    str::FromStr,
};

use base_codec::{Bytes, Codec, cbor};
use base_prims::{ParseError, PublicKey};

/// A TCP address. CBOR: map with capitalised keys; JSON: `host:port`. Source: `go/common/node/address.go`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NetAddress {
    /// 4 or 16 bytes if well-formed; absent or other lengths decode too.
    pub ip: Option<Bytes>,
    /// Port; only 1 to 65535 is usable.
    pub port: i64,
    /// IPv6 zone.
    pub zone: String,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct AddressMap {
    #[codec(rename = "IP")]
    ip: Option<Bytes>,
    #[codec(rename = "Port")]
    port: i64,
    #[codec(rename = "Zone")]
    zone: String,
}

impl cbor::Encode for NetAddress {
    fn encode(&self, e: &mut cbor::Encoder) {
        AddressMap { ip: self.ip.clone(), port: self.port, zone: self.zone.clone() }.encode(e);
    }
}

impl cbor::Decode for NetAddress {
    fn decode(d: &mut cbor::Decoder<'_>) -> Result<Self, cbor::Error> {
        let m = AddressMap::decode(d)?;
        Ok(Self { ip: m.ip, port: m.port, zone: m.zone })
    }
}

impl NetAddress {
    /// The IP address, if it has 4 or 16 bytes; IPv4 mapped into IPv6 becomes IPv4.
    pub fn ip(&self) -> Option<IpAddr> {
        let bytes = self.ip.as_ref()?.as_slice();
        if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
            return Some(Ipv4Addr::from(v4).into());
        }
        let v6 = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
        Some(v6.to_ipv4_mapped().map_or(v6.into(), Into::into))
    }

    /// The socket address, if IP and port are usable; the zone is dropped.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.ip()?, u16::try_from(self.port).ok()?))
    }

    /// Whether the address is likely to be reachable from anywhere: outside all special-purpose ranges.
    /// A malformed IP address counts as reachable, since it lies in no range. Source: `go/common/address.go`.
    pub fn is_routable(&self) -> bool {
        match self.ip() {
            None => true,
            Some(IpAddr::V4(ip)) => !RESERVED_V4.iter().any(|(net, bits)| {
                let mask = u32::MAX.checked_shl(32 - u32::from(*bits)).unwrap_or(0);
                u32::from(ip) & mask == u32::from(*net) & mask
            }),
            Some(IpAddr::V6(ip)) => !RESERVED_V6.iter().any(|(net, bits)| {
                let mask = u128::MAX << (128 - u32::from(*bits));
                u128::from(ip) & mask == u128::from(*net) & mask
            }),
        }
    }

    /// Whether the address is global unicast in Go's sense: neither unspecified, loopback, multicast, link-local
    /// unicast nor IPv4 broadcast. Source: Go's `net.IP.IsGlobalUnicast`.
    pub fn is_global_unicast(&self) -> bool {
        match self.ip() {
            None => false,
            Some(IpAddr::V4(ip)) => {
                !(ip.is_unspecified()
                    || ip.is_loopback()
                    || ip.is_multicast()
                    || ip.is_link_local()
                    || ip.is_broadcast())
            }
            Some(IpAddr::V6(ip)) => {
                !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_unicast_link_local())
            }
        }
    }
}

/// IPv4 special-purpose ranges (IANA registry).
const RESERVED_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// IPv6 special-purpose ranges (IANA registry).
const RESERVED_V6: &[(Ipv6Addr, u8)] = &[
    (Ipv6Addr::LOCALHOST, 128),
    (Ipv6Addr::UNSPECIFIED, 128),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64),
    (Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
];

impl fmt::Display for NetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The forms of Go's net.IP for absent and malformed addresses.
        let ip = match (self.ip(), &self.ip) {
            (Some(ip), _) => ip.to_string(),
            (None, None) => "<nil>".to_owned(),
            (None, Some(b)) if b.is_empty() => "<nil>".to_owned(),
            (None, Some(b)) => format!("?{}", hex::encode(b.as_slice())),
        };
        let host = if self.zone.is_empty() { ip } else { format!("{ip}%{}", self.zone) };
        if host.contains([':', '%']) { write!(f, "[{host}]:{}", self.port) } else { write!(f, "{host}:{}", self.port) }
    }
}

impl FromStr for NetAddress {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let err = || ParseError::new("an address as IP:port", s);
        // A zone may be a name, which the standard parser does not take.
        let (plain, zone) = match (s.find('%'), s.find(']')) {
            (Some(p), Some(e)) if p < e => (format!("{}{}", &s[..p], &s[e..]), s[p + 1..e].to_owned()),
            _ => (s.to_owned(), String::new()),
        };
        let ip = match plain.parse::<SocketAddr>().map_err(|_| err())? {
            SocketAddr::V4(a) => (a.ip().octets().to_vec(), a.port()),
            SocketAddr::V6(a) => (a.ip().octets().to_vec(), a.port()),
        };
        Ok(Self { ip: Some(Bytes(ip.0)), port: i64::from(ip.1), zone })
    }
}

impl From<SocketAddr> for NetAddress {
    fn from(a: SocketAddr) -> Self {
        let ip = match a.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        Self { ip: Some(Bytes(ip)), port: i64::from(a.port()), zone: String::new() }
    }
}

impl From<SocketAddrV6> for NetAddress {
    fn from(a: SocketAddrV6) -> Self {
        SocketAddr::V6(a).into()
    }
}

base_prims::json_as_text!(NetAddress, "an address as IP:port");

/// A consensus address: key and TCP address, which may be a sentry's. JSON: `key@host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ConsensusAddress {
    /// Key of the node at the address.
    pub id: PublicKey,
    /// The address.
    pub address: NetAddress,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct ConsensusAddressMap {
    id: PublicKey,
    address: NetAddress,
}

impl cbor::Encode for ConsensusAddress {
    fn encode(&self, e: &mut cbor::Encoder) {
        ConsensusAddressMap { id: self.id, address: self.address.clone() }.encode(e);
    }
}

impl cbor::Decode for ConsensusAddress {
    fn decode(d: &mut cbor::Decoder<'_>) -> Result<Self, cbor::Error> {
        let m = ConsensusAddressMap::decode(d)?;
        Ok(Self { id: m.id, address: m.address })
    }
}

impl fmt::Display for ConsensusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.address)
    }
}

impl FromStr for ConsensusAddress {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let (id, address) =
            s.split_once('@').ok_or_else(|| ParseError::new("a consensus address as key@IP:port", s))?;
        Ok(Self { id: id.parse()?, address: address.parse()? })
    }
}

base_prims::json_as_text!(ConsensusAddress, "a consensus address as key@IP:port");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms() {
        for text in ["127.0.0.1:20005", "[2001:db8::1]:80", "[fe80::1%eth0]:80"] {
            let a: NetAddress = text.parse().unwrap();
            assert_eq!(a.to_string(), text);
            assert_eq!(cbor::from_slice::<NetAddress>(&cbor::to_vec(&a)).unwrap(), a);
        }
        for bad in ["", "127.0.0.1", "host:1", "1.2.3.4:70000"] {
            assert!(bad.parse::<NetAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges() {
        let routable = |s: &str| s.parse::<NetAddress>().unwrap().is_routable();
        assert!(routable("8.8.8.8:1") && routable("[2606:4700::1]:1"));
        for special in ["10.1.2.3:1", "127.0.0.1:1", "192.168.0.1:1", "255.255.255.255:1", "[::1]:1", "[fd00::1]:1"] {
            assert!(!routable(special), "{special}");
        }
    }
}
