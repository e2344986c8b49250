//! State of the beacon service: keys `40`–`46`.

use apps_core::{
    Error, Result,
    kv::{self, KvRead, KvWrite},
};
use base_prims::Epoch;
use wire_consensus::{
    beacon::{BEACON_BYTES, EpochTimeState, Parameters, VrfState},
    errors,
};

/// Current epoch: [`EpochTimeState`].
const EPOCH_CURRENT: u8 = 0x40;
/// Scheduled epoch: [`EpochTimeState`].
const EPOCH_FUTURE: u8 = 0x41;
/// Beacon: raw 32 bytes.
const BEACON: u8 = 0x42;
/// [`Parameters`].
const PARAMETERS: u8 = 0x43;
/// Epoch that a mock transition waits for.
const EPOCH_PENDING_MOCK: u8 = 0x45;
/// [`VrfState`].
const VRF_STATE: u8 = 0x46;

/// The current epoch and the height at which it began; zeros if none was set.
pub fn epoch(kv: &dyn KvRead) -> Result<(Epoch, i64)> {
    let state: EpochTimeState = kv::get(kv, &[EPOCH_CURRENT])?.unwrap_or_default();
    Ok((state.epoch, state.height))
}

/// Sets the current epoch.
pub fn set_epoch(kv: &mut dyn KvWrite, epoch: Epoch, height: i64) -> Result<()> {
    kv::put(kv, &[EPOCH_CURRENT], &EpochTimeState { epoch, height })
}

/// The scheduled epoch.
pub fn future_epoch(kv: &dyn KvRead) -> Result<Option<EpochTimeState>> {
    kv::get(kv, &[EPOCH_FUTURE])
}

/// Schedules an epoch.
///
/// # Errors
/// If one is scheduled already.
pub fn set_future_epoch(kv: &mut dyn KvWrite, epoch: Epoch, height: i64) -> Result<()> {
    if future_epoch(&*kv)?.is_some() {
        return Err(Error::Uncoded("beacon: future epoch already pending".to_owned()));
    }
    kv::put(kv, &[EPOCH_FUTURE], &EpochTimeState { epoch, height })
}

/// Forgets the scheduled epoch.
pub fn clear_future_epoch(kv: &mut dyn KvWrite) -> Result<()> {
    kv::remove(kv, &[EPOCH_FUTURE])
}

/// The beacon.
///
/// # Errors
/// `beacon/2` if there is none yet.
pub fn beacon(kv: &dyn KvRead) -> Result<Vec<u8>> {
    kv::get_raw(kv, &[BEACON])?.ok_or_else(|| Error::from(&errors::beacon::BEACON_NOT_AVAILABLE))
}

/// Sets the beacon.
pub fn set_beacon(kv: &mut dyn KvWrite, beacon: &[u8; BEACON_BYTES]) -> Result<()> {
    kv::put_raw(kv, &[BEACON], beacon)
}

/// The parameters.
pub fn parameters(kv: &dyn KvRead) -> Result<Parameters> {
    kv::get(kv, &[PARAMETERS])?.ok_or_else(|| Error::Fatal("beacon: no consensus parameters in the state".to_owned()))
}

/// Sets the parameters.
pub fn set_parameters(kv: &mut dyn KvWrite, params: &Parameters) -> Result<()> {
    kv::put(kv, &[PARAMETERS], params)
}

/// The epoch that a mock transition waits for.
pub fn pending_mock_epoch(kv: &dyn KvRead) -> Result<Option<Epoch>> {
    kv::get(kv, &[EPOCH_PENDING_MOCK])
}

/// Sets the epoch that a mock transition waits for.
pub fn set_pending_mock_epoch(kv: &mut dyn KvWrite, epoch: Epoch) -> Result<()> {
    kv::put(kv, &[EPOCH_PENDING_MOCK], &epoch)
}

/// Forgets the epoch that a mock transition waits for.
pub fn clear_pending_mock_epoch(kv: &mut dyn KvWrite) -> Result<()> {
    kv::remove(kv, &[EPOCH_PENDING_MOCK])
}

/// State of the VRF backend.
pub fn vrf_state(kv: &dyn KvRead) -> Result<Option<VrfState>> {
    kv::get(kv, &[VRF_STATE])
}

/// Sets the state of the VRF backend.
pub fn set_vrf_state(kv: &mut dyn KvWrite, state: &VrfState) -> Result<()> {
    kv::put(kv, &[VRF_STATE], state)
}
