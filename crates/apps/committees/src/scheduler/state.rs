//! State of the scheduler: keys `60`–`63`.

use std::{collections::BTreeMap, ops::ControlFlow};

use apps_core::{
    Error, Result,
    kv::{self, Key, KvRead, KvWrite},
};
use base_prims::{Namespace, PublicKey};
use wire_consensus::scheduler::{Committee, CommitteeKind, Parameters, Validator};

/// Kind, hash of the runtime identifier: [`Committee`].
const COMMITTEE: u8 = 0x60;
/// [`Validators`] in force.
const VALIDATORS_CURRENT: u8 = 0x61;
/// [`Validators`] that come into force at the end of the block.
const VALIDATORS_PENDING: u8 = 0x62;
/// [`Parameters`].
const PARAMETERS: u8 = 0x63;

/// Validators by consensus key.
pub type Validators = BTreeMap<PublicKey, Validator>;

fn committee_key(kind: CommitteeKind, runtime: &Namespace) -> Vec<u8> {
    Key::new(COMMITTEE).raw(&[kind.0]).hash(&runtime.hash()).into()
}

/// A runtime's committee.
pub fn committee(kv: &dyn KvRead, kind: CommitteeKind, runtime: &Namespace) -> Result<Option<Committee>> {
    kv::get(kv, &committee_key(kind, runtime))
}

/// All committees in key order, or those of one kind.
pub fn committees(kv: &dyn KvRead, kind: Option<CommitteeKind>) -> Result<Vec<Committee>> {
    let prefix = match kind {
        Some(kind) => vec![COMMITTEE, kind.0],
        None => vec![COMMITTEE],
    };
    let mut out = Vec::new();
    kv::iterate(kv, &prefix, &mut |key, value| {
        out.push(kv::decode(key, value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(out)
}

/// Stores a committee.
pub fn set_committee(kv: &mut dyn KvWrite, committee: &Committee) -> Result<()> {
    kv::put(kv, &committee_key(committee.kind, &committee.runtime_id), committee)
}

/// Removes a runtime's committee.
pub fn drop_committee(kv: &mut dyn KvWrite, kind: CommitteeKind, runtime: &Namespace) -> Result<()> {
    kv::remove(kv, &committee_key(kind, runtime))
}

/// The validators in force.
pub fn current_validators(kv: &dyn KvRead) -> Result<Validators> {
    Ok(kv::get(kv, &[VALIDATORS_CURRENT])?.unwrap_or_default())
}

/// Stores the validators in force.
pub fn set_current_validators(kv: &mut dyn KvWrite, validators: &Validators) -> Result<()> {
    kv::put(kv, &[VALIDATORS_CURRENT], validators)
}

/// The validators that come into force at the end of the block, if there was an election.
pub fn pending_validators(kv: &dyn KvRead) -> Result<Option<Validators>> {
    kv::get(kv, &[VALIDATORS_PENDING])
}

/// Stores or, with nothing, forgets the validators that come into force at the end of the block.
pub fn set_pending_validators(kv: &mut dyn KvWrite, validators: Option<&Validators>) -> Result<()> {
    match validators {
        Some(v) => kv::put(kv, &[VALIDATORS_PENDING], v),
        None => kv::remove(kv, &[VALIDATORS_PENDING]),
    }
}

/// The parameters.
pub fn parameters(kv: &dyn KvRead) -> Result<Parameters> {
    kv::get(kv, &[PARAMETERS])?
        .ok_or_else(|| Error::Fatal("scheduler: no consensus parameters in the state".to_owned()))
}

/// Sets the parameters.
pub fn set_parameters(kv: &mut dyn KvWrite, params: &Parameters) -> Result<()> {
    kv::put(kv, &[PARAMETERS], params)
}
