//! Beacon: epochs, randomness and VRF proofs.

use std::collections::BTreeMap;

use base_codec::{Bytes, Codec};
use base_prims::{EPOCH_INVALID, Epoch, PublicKey};

use crate::{Invalid, invalid, transaction::Costs, typed_event};

/// Module name.
pub const MODULE: &str = "beacon";
/// Submits a VRF proof.
pub const METHOD_VRF_PROVE: &str = "beacon.VRFProve";
/// Sets the epoch (mock backend only).
pub const METHOD_SET_EPOCH: &str = "beacon.SetEpoch";
/// Gas operation of a VRF proof.
pub const GAS_OP_VRF_PROVE: &str = "vrf_prove";
/// Gas cost of a VRF proof where genesis gives none.
pub const DEFAULT_VRF_PROVE_GAS: u64 = 1000;

/// Backend that derives randomness from block data.
pub const BACKEND_INSECURE: &str = "insecure";
/// Backend that derives randomness from VRF proofs of nodes.
pub const BACKEND_VRF: &str = "vrf";
/// Length of a beacon in bytes.
pub const BEACON_BYTES: usize = 32;

base_codec::fixed_bytes! {
    /// A VRF proof, 80 bytes; base64 in JSON.
    pub struct RawProof([u8; 80]);
}

impl std::fmt::Display for RawProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use base64::Engine as _;
        f.write_str(&base64::engine::general_purpose::STANDARD.encode(self.as_bytes()))
    }
}

impl std::str::FromStr for RawProof {
    type Err = base_prims::ParseError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        use base64::Engine as _;
        let err = || base_prims::ParseError::new("a VRF proof of 80 bytes in base64", s);
        let bytes = base64::engine::general_purpose::STANDARD.decode(s).map_err(|_| err())?;
        <[u8; 80]>::try_from(bytes.as_slice()).map(Self::new).map_err(|_| err())
    }
}
base_prims::json_as_text!(RawProof, "a VRF proof of 80 bytes in base64");

/// A VRF proof and the key that made it. Source: `signature.Proof`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Proof {
    /// VRF key.
    pub public_key: PublicKey,
    /// The proof.
    pub proof: RawProof,
}

/// An epoch and the height at which it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct EpochTimeState {
    /// Epoch.
    pub epoch: Epoch,
    /// First height.
    pub height: i64,
}

/// The section `beacon` of a genesis document.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Genesis {
    /// First epoch.
    pub base: Epoch,
    /// Parameters.
    #[codec(rename = "params")]
    pub parameters: Parameters,
}

/// Consensus parameters of the beacon.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Parameters {
    /// `insecure` or `vrf`.
    pub backend: String,
    /// Epochs are moved by transactions (test networks).
    #[codec(omitempty)]
    pub debug_mock_backend: bool,
    /// Parameters of the insecure backend.
    #[codec(omitempty)]
    pub insecure_parameters: Option<InsecureParameters>,
    /// Parameters of the VRF backend.
    #[codec(omitempty)]
    pub vrf_parameters: Option<VrfParameters>,
}

/// Parameters of the insecure backend.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct InsecureParameters {
    /// Blocks per epoch.
    #[codec(omitempty)]
    pub interval: i64,
}

/// Parameters of the VRF backend.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct VrfParameters {
    /// Proofs that make the next alpha of high quality.
    #[codec(rename = "alpha_hq_threshold", omitempty)]
    pub alpha_high_quality_threshold: u64,
    /// Blocks per epoch.
    #[codec(omitempty)]
    pub interval: i64,
    /// Blocks after an epoch's start before proofs are accepted.
    #[codec(rename = "proof_delay", omitempty)]
    pub proof_submission_delay: i64,
    /// Gas costs.
    #[codec(omitempty)]
    pub gas_costs: Costs,
}

/// VRF state of the current epoch.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct VrfState {
    /// The epoch.
    #[codec(omitempty)]
    pub epoch: Epoch,
    /// Input of the proofs.
    #[codec(omitempty)]
    pub alpha: Bytes,
    /// Proofs by node.
    #[codec(omitempty)]
    pub pi: BTreeMap<PublicKey, Proof>,
    /// Whether alpha came from enough proofs.
    #[codec(rename = "alpha_hq", omitempty)]
    pub alpha_is_high_quality: bool,
    /// Height after which proofs are accepted.
    #[codec(omitempty)]
    pub submit_after: i64,
    /// State of the epoch before.
    #[codec(omitempty)]
    pub prev_state: Option<PrevVrfState>,
}

/// VRF state of the previous epoch, on which elections draw.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct PrevVrfState {
    /// Proofs by node. The odd name is literal and the field never left out.
    #[codec(rename = "pi.omitempty")]
    pub pi: Option<BTreeMap<PublicKey, Proof>>,
    /// Whether committees may be elected.
    #[codec(rename = "can_elect", omitempty)]
    pub can_elect_committees: bool,
}

/// Body of `beacon.VRFProve`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct VrfProve {
    /// Epoch that the proof is for.
    pub epoch: Epoch,
    /// The proof, 80 bytes if well-formed.
    pub pi: Option<Bytes>,
}

/// An epoch began.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EpochEvent {
    /// The epoch.
    #[codec(omitempty)]
    pub epoch: Epoch,
}
typed_event!(EpochEvent, "epoch");

/// A new beacon.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct BeaconEvent {
    /// The 32 bytes.
    #[codec(omitempty)]
    pub beacon: Bytes,
}
typed_event!(BeaconEvent, "beacon");

/// Proofs for a new alpha are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct VrfEvent {
    /// The epoch.
    #[codec(omitempty)]
    pub epoch: Epoch,
    /// Input of the proofs.
    #[codec(omitempty)]
    pub alpha: Bytes,
    /// Height after which proofs are accepted.
    pub submit_after: i64,
}
typed_event!(VrfEvent, "vrf");

impl Parameters {
    /// Blocks per epoch of the configured backend; 0 if it has no parameters.
    pub fn interval(&self) -> i64 {
        match self.backend.as_str() {
            BACKEND_INSECURE => self.insecure_parameters.as_ref().map_or(0, |p| p.interval),
            _ => self.vrf_parameters.as_ref().map_or(0, |p| p.interval),
        }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn sanity_check(&self, allow_debug: bool) -> Result<(), Invalid> {
        match self.backend.as_str() {
            BACKEND_INSECURE => {
                let Some(p) = &self.insecure_parameters else { invalid!("insecure backend not configured") };
                if p.interval <= 0 && !self.debug_mock_backend {
                    invalid!("epoch interval must be > 0, found {}", p.interval);
                }
            }
            BACKEND_VRF => {
                let Some(p) = &self.vrf_parameters else { invalid!("VRF backend not configured") };
                if p.alpha_high_quality_threshold == 0 {
                    invalid!("alpha threshold must be > 0");
                }
                if p.interval <= 0 {
                    invalid!("epoch interval must be > 0, found {}", p.interval);
                }
                if p.proof_submission_delay <= 0 {
                    invalid!("submission delay must be > 0, found {}", p.proof_submission_delay);
                }
                if p.proof_submission_delay >= p.interval {
                    invalid!(
                        "submission delay must be < epoch interval, found {} and {}",
                        p.proof_submission_delay,
                        p.interval
                    );
                }
            }
            other => invalid!("unknown backend: {other:?} (expected: insecure or vrf)"),
        }
        if self.debug_mock_backend && !allow_debug {
            invalid!("one or more unsafe debug flags set");
        }
        Ok(())
    }
}

impl Genesis {
    /// Checks the section.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn sanity_check(&self, allow_debug: bool) -> Result<(), Invalid> {
        self.parameters
            .sanity_check(allow_debug)
            .map_err(|e| Invalid::new(format!("beacon: sanity check failed: {e}")))?;
        if self.base == EPOCH_INVALID {
            invalid!("beacon: sanity check failed: starting epoch is invalid");
        }
        Ok(())
    }
}
