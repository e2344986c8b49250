//! Network upgrades: the descriptor that governance agrees on and what a node remembers about it.

use base_codec::Codec;
use base_prims::{EPOCH_INVALID, Epoch, ProtocolVersions, Version, version::PROTOCOLS};

use crate::{Invalid, invalid};

/// Module name.
pub const MODULE: &str = "upgrade";

/// Version that new descriptors have; the only one that is accepted.
pub const LATEST_DESCRIPTOR_VERSION: u16 = 1;
/// Version that new records of pending upgrades have.
pub const LATEST_PENDING_VERSION: u16 = 1;
/// Shortest name of an upgrade handler, in bytes.
pub const MIN_HANDLER_BYTES: usize = 3;
/// Longest name of an upgrade handler, in bytes.
pub const MAX_HANDLER_BYTES: usize = 32;
/// First epoch at which an upgrade may happen.
pub const MIN_EPOCH: Epoch = 1;
/// Last epoch at which an upgrade may happen.
pub const MAX_EPOCH: Epoch = EPOCH_INVALID - 1;
/// Height that stands for "the upgrade's epoch has not come yet".
pub const HEIGHT_INVALID: i64 = 0;

/// Stage of an upgrade that runs when the node starts.
pub const STAGE_STARTUP: u64 = 1;
/// Stage of an upgrade that runs within the blocks at the upgrade's height.
pub const STAGE_CONSENSUS: u64 = 2;

/// Describes an upgrade. Source: `go/upgrade/api`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Descriptor {
    /// Version of the descriptor.
    pub v: u16,
    /// Name of the handler that migrates the state.
    pub handler: String,
    /// Protocol versions that the network speaks afterwards.
    pub target: ProtocolVersions,
    /// Epoch at whose first block the upgrade happens.
    pub epoch: Epoch,
}

fn validate_version(what: &str, v: &Version) -> Result<(), Invalid> {
    if *v == Version::default() {
        invalid!("invalid {what} protocol version: {v}");
    }
    Ok(())
}

/// Checks the length of a handler's name.
///
/// # Errors
/// If the name is too short or too long.
pub fn validate_handler_name(name: &str) -> Result<(), Invalid> {
    if !(MIN_HANDLER_BYTES..=MAX_HANDLER_BYTES).contains(&name.len()) {
        invalid!("invalid length: {} (min: {MIN_HANDLER_BYTES} max: {MAX_HANDLER_BYTES})", name.len());
    }
    Ok(())
}

impl Descriptor {
    /// Checks version, handler name, target and epoch, in this order.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate_basic(&self) -> Result<(), Invalid> {
        if self.v != LATEST_DESCRIPTOR_VERSION {
            invalid!(
                "invalid upgrade descriptor version: {} (min: {LATEST_DESCRIPTOR_VERSION} max: {LATEST_DESCRIPTOR_VERSION})",
                self.v
            );
        }
        validate_handler_name(&self.handler)
            .map_err(|e| Invalid::new(format!("invalid upgrade descriptor handler: {e}")))?;
        let t = &self.target;
        validate_version("consensus", &t.consensus_protocol)
            .and_then(|()| validate_version("runtime host", &t.runtime_host_protocol))
            .and_then(|()| validate_version("runtime committee", &t.runtime_committee_protocol))
            .map_err(|e| Invalid::new(format!("invalid upgrade descriptor target version: {e}")))?;
        if !(MIN_EPOCH..=MAX_EPOCH).contains(&self.epoch) {
            invalid!("invalid upgrade descriptor epoch: {} (min: {MIN_EPOCH} max: {MAX_EPOCH})", self.epoch);
        }
        Ok(())
    }

    /// Whether this node speaks the consensus protocol that the network upgrades to: the major versions are equal.
    ///
    /// # Errors
    /// If they differ.
    pub fn ensure_compatible(&self) -> Result<(), Invalid> {
        let (own, target) = (PROTOCOLS.consensus_protocol, self.target.consensus_protocol);
        if own.major != target.major {
            invalid!("binary consensus version not compatible: own: {own}, required: {target}");
        }
        Ok(())
    }
}

/// What a node remembers of an upgrade until all its stages are done. Source: `go/upgrade/api`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct PendingUpgrade {
    /// Version of the record.
    pub v: u16,
    /// The upgrade.
    pub descriptor: Option<Descriptor>,
    /// Height at which the upgrade's epoch was reached, or [`HEIGHT_INVALID`].
    pub upgrade_height: i64,
    /// The last stage that is done; 0 for none.
    pub last_completed_stage: u64,
}

impl PendingUpgrade {
    /// A record of an upgrade whose epoch has not come.
    pub fn new(descriptor: Descriptor) -> Self {
        Self { v: LATEST_PENDING_VERSION, descriptor: Some(descriptor), ..Self::default() }
    }

    /// Whether all stages are done.
    pub fn is_completed(&self) -> bool {
        self.last_completed_stage >= STAGE_CONSENSUS
    }

    /// Whether the stage is done.
    pub fn has_stage(&self, stage: u64) -> bool {
        self.last_completed_stage >= stage
    }

    /// Whether the descriptor is that of this record.
    pub fn is_for(&self, descriptor: &Descriptor) -> bool {
        self.descriptor.as_ref() == Some(descriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> Descriptor {
        Descriptor { v: 1, handler: "empty".to_owned(), target: PROTOCOLS, epoch: 42 }
    }

    #[test]
    fn refusals() {
        assert_eq!(valid().validate_basic(), Ok(()));
        type Change = fn(&mut Descriptor);
        let cases: &[(&str, Change)] = &[
            ("descriptor version: 0", |d| d.v = 0),
            ("descriptor version: 2", |d| d.v = 2),
            ("invalid length: 2", |d| d.handler = "ab".to_owned()),
            ("invalid length: 33", |d| d.handler = "x".repeat(33)),
            ("consensus protocol version: 0.0.0", |d| d.target.consensus_protocol = Version::default()),
            ("runtime host protocol version", |d| d.target.runtime_host_protocol = Version::default()),
            ("runtime committee protocol version", |d| d.target.runtime_committee_protocol = Version::default()),
            ("descriptor epoch: 0", |d| d.epoch = 0),
            ("descriptor epoch: 18446744073709551615", |d| d.epoch = EPOCH_INVALID),
        ];
        for (text, change) in cases {
            let mut d = valid();
            change(&mut d);
            let err = d.validate_basic().unwrap_err().to_string();
            assert!(err.contains(text), "{err} should say {text}");
        }
    }

    #[test]
    fn only_the_major_consensus_version_decides_compatibility() {
        let mut d = valid();
        d.target.consensus_protocol.minor += 1;
        d.target.runtime_host_protocol.major += 1;
        assert_eq!(d.ensure_compatible(), Ok(()));
        d.target.consensus_protocol.major += 1;
        assert!(d.ensure_compatible().is_err());
    }

    #[test]
    fn bytes_are_canonical() {
        let d = Descriptor { v: 1, handler: "abc".to_owned(), target: ProtocolVersions::default(), epoch: 7 };
        let target =
            b"\xa3\x72consensus_protocol\xa0\x75runtime_host_protocol\xa0\x78\x1aruntime_committee_protocol\xa0";
        let want = [&b"\xa4\x61v\x01\x65epoch\x07\x66target"[..], target, b"\x67handler\x63abc"].concat();
        assert_eq!(base_codec::cbor::to_vec(&d), want);
        assert_eq!(base_codec::cbor::from_slice::<Descriptor>(&want).unwrap(), d);
    }
}
