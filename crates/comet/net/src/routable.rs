//! Which addresses can be reached from everywhere, and which belong together.
//!
//! Reference: `cometbft:p2p/netaddress.go` (`Routable`, `Valid`), `p2p/pex/addrbook.go` (`groupKeyFor`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn within(ip: Ipv6Addr, network: Ipv6Addr, bits: u32) -> bool {
    let shift = 128 - bits;
    ip.to_bits() >> shift == network.to_bits() >> shift
}

const fn v6(a: u16, b: u16, c: u16) -> Ipv6Addr {
    Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)
}

/// Whether an address may be in a book at all: not unspecified, not for documentation (IPv6), not the broadcast address.
pub fn is_valid(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !within(ip, v6(0x2001, 0x0db8, 0), 32),
    }
}

/// Whether it is of this machine: loopback or 0.0.0.0/8.
pub fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_loopback(),
    }
}

/// Whether it can be reached from everywhere: valid, not local, not private (RFC 1918, 4193), not link-local (RFC 3927,
/// 4862), no overlay (RFC 4843).
pub fn is_routable(ip: IpAddr) -> bool {
    let private = match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => {
            within(ip, v6(0xfc00, 0, 0), 7) || within(ip, v6(0xfe80, 0, 0), 64) || within(ip, v6(0x2001, 0x10, 0), 28)
        }
    };
    is_valid(ip) && !is_local(ip) && !private
}

/// Name of the group of addresses that one operator is likely to hold: /16 for IPv4 (also when tunneled in IPv6), /32 for
/// IPv6. With `strict`, all local ones are one group, and all others that are not routable.
pub fn group(ip: IpAddr, strict: bool) -> String {
    if strict && is_local(ip) {
        return "local".to_owned();
    }
    if strict && !is_routable(ip) {
        return "unroutable".to_owned();
    }
    let ip = match ip {
        IpAddr::V4(ip) => return group_v4(ip),
        IpAddr::V6(ip) => ip,
    };
    let octets = ip.octets();
    let embedded = |at: usize| Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]);
    let translated = Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0);
    if within(ip, translated, 96) || within(ip, v6(0x64, 0xff9b, 0), 96) {
        return group_v4(embedded(12));
    }
    if within(ip, v6(0x2002, 0, 0), 16) {
        return group_v4(embedded(2));
    }
    if within(ip, v6(0x2001, 0, 0), 32) {
        return group_v4(Ipv4Addr::from_bits(!embedded(12).to_bits()));
    }
    if within(ip, v6(0xfd87, 0xd87e, 0xeb43), 48) {
        return format!("tor:{}", octets[6] & 0xf);
    }
    let bits = if within(ip, v6(0x2001, 0x470, 0), 32) { 36 } else { 32 };
    Ipv6Addr::from_bits(ip.to_bits() >> (128 - bits) << (128 - bits)).to_string()
}

fn group_v4(ip: Ipv4Addr) -> String {
    let octets = ip.octets();
    Ipv4Addr::new(octets[0], octets[1], 0, 0).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn routability() {
        for routable in ["1.2.3.4", "172.15.0.1", "172.32.0.1", "192.169.0.1", "2a00::1", "192.0.2.1"] {
            assert!(is_routable(ip(routable)), "{routable}");
        }
        for not in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "255.255.255.255",
            "::",
            "::1",
            "2001:db8::1",
            "2001:10::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
        ] {
            assert!(!is_routable(ip(not)), "{not}");
        }
        assert!(is_valid(ip("10.1.2.3")) && is_valid(ip("127.0.0.1")));
        assert!(!is_valid(ip("0.0.0.0")) && !is_valid(ip("2001:db8::1")));
    }

    #[test]
    fn groups() {
        for (address, expected) in [
            ("1.2.3.4", "1.2.0.0"),
            ("127.0.0.1", "local"),
            ("10.0.0.1", "unroutable"),
            ("2a00:1450:1::1", "2a00:1450::"),
            ("2001:470:f000::1", "2001:470:f000::"),
            ("2002:0102:0304::1", "1.2.0.0"),
            ("64:ff9b::102:304", "1.2.0.0"),
            ("2001:0:9d38:6abd::fefd:fcfb", "1.2.0.0"),
        ] {
            assert_eq!(group(ip(address), true), expected, "{address}");
        }
        assert_eq!(group(ip("10.3.0.1"), false), "10.3.0.0");
        assert_eq!(group(ip("fd87:d87e:eb43:a::1"), false), "tor:0");
    }
}
