//! Protocol and descriptor versions.

use std::{fmt, str::FromStr};

use base_codec::Codec;

use crate::ParseError;

/// A semantic version of three 16-bit parts.
///
/// CBOR and JSON: map of the parts that are not zero. Source: `go/common/version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Codec)]
pub struct Version {
    /// Incompatible changes.
    #[codec(omitempty)]
    pub major: u16,
    /// Compatible additions.
    #[codec(omitempty)]
    pub minor: u16,
    /// Compatible fixes.
    #[codec(omitempty)]
    pub patch: u16,
}

impl Version {
    /// A version of the three parts.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// The parts packed as `major << 32 | minor << 16 | patch`.
    pub const fn to_u64(self) -> u64 {
        ((self.major as u64) << 32) | ((self.minor as u64) << 16) | self.patch as u64
    }

    /// The inverse of [`Version::to_u64`].
    pub const fn from_u64(v: u64) -> Self {
        Self { major: (v >> 32) as u16, minor: (v >> 16) as u16, patch: v as u16 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let err = || ParseError::new("a version such as 1.2.3", s);
        let mut parts = [0; 3];
        // Pre-release and build labels carry no order here.
        let core = s.split(['-', '+']).next().unwrap_or_default();
        let mut given = core.split('.');
        for (i, p) in parts.iter_mut().enumerate() {
            match given.next() {
                Some(text) => *p = text.parse().map_err(|_| err())?,
                None if i > 0 => break,
                None => return Err(err()),
            }
        }
        if given.next().is_some() { Err(err()) } else { Ok(Self::new(parts[0], parts[1], parts[2])) }
    }
}

/// Versions of the three protocols that a network upgrade changes. Source: `go/common/version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Codec)]
pub struct ProtocolVersions {
    /// Consensus layer.
    pub consensus_protocol: Version,
    /// Between node and runtime.
    pub runtime_host_protocol: Version,
    /// Between nodes of a runtime's committees.
    pub runtime_committee_protocol: Version,
}

/// Versions that this project implements.
pub const PROTOCOLS: ProtocolVersions = ProtocolVersions {
    consensus_protocol: Version::new(7, 0, 0),
    runtime_host_protocol: Version::new(5, 1, 0),
    runtime_committee_protocol: Version::new(5, 0, 0),
};

/// CometBFT application version: the consensus protocol's major part.
pub const COMET_APP_VERSION: u64 = Version::new(PROTOCOLS.consensus_protocol.major, 0, 0).to_u64();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_and_reads() {
        assert_eq!(COMET_APP_VERSION, 30_064_771_072);
        assert_eq!("1.2.3".parse(), Ok(Version::new(1, 2, 3)));
        assert_eq!("4".parse(), Ok(Version::new(4, 0, 0)));
        assert_eq!("1.2.3-alpha".parse(), Ok(Version::new(1, 2, 3)));
        assert!("1.2.3.4".parse::<Version>().is_err());
        assert!("70000".parse::<Version>().is_err());
        let v = Version::new(30000, 40000, 50000);
        assert_eq!(Version::from_u64(v.to_u64()), v);
    }

    #[test]
    fn zero_parts_are_left_out() {
        assert_eq!(base_codec::cbor::to_vec(&Version::default()), [0xa0]);
    }
}
