//! Keys that a committee shares, as the enclaves get them that they are for.

use base_prims::Namespace;
use rt_guest::{rpc::Client, seal::kmac256};
use wire_consensus::churp::{SUITE_NIST_P384_SHA3_384, Status, rpc::METHOD_SGX_POLICY_KEY_SHARE};
use zeroize::Zeroizing;

use super::{ChurpError, HandoffKind, KeyShareRequest, WireKeyShare, recover_key, suite::point_to_bytes};
use crate::{KeyManagerError, api::KeyPairId};

const EXTRACT: &[u8] = b"oasis-core/keymanager/churp: derive key derivation key";
const EXPAND: &[u8] = b"oasis-core/keymanager/churp: derive state key";

/// A state key from what the committee's parts add up to; the salt says whose it is.
pub fn derive_state_key(shared: &[u8], salt: &[u8]) -> [u8; 32] {
    let mut key = Zeroizing::new([0; 32]);
    kmac256(salt, EXTRACT, &[shared], &mut *key);
    let mut out = [0; 32];
    kmac256(&*key, EXPAND, &[salt], &mut out);
    out
}

/// Asks nodes of the committee, in an order that nobody can foresee, until there are enough parts.
///
/// Which of the parts is wrong, if one is, cannot be told; the key is then another one.
pub(crate) fn state_key(
    client: &Client,
    runtime: &Namespace,
    key_id: &KeyPairId,
    status: &Status,
) -> Result<[u8; 32], KeyManagerError> {
    if status.suite_id != SUITE_NIST_P384_SHA3_384 {
        return Err(ChurpError::UnsupportedSuite.into());
    }
    let request = KeyShareRequest {
        id: status.identity.id,
        runtime_id: status.identity.runtime_id,
        epoch: status.handoff,
        key_runtime_id: *runtime,
        key_id: *key_id,
    };
    let needed = HandoffKind::CommitteeUnchanged.min_shares(status.threshold);
    let mut committee = status.committee.clone();
    let mut parts = Vec::with_capacity(needed);
    while parts.len() < needed && !committee.is_empty() {
        let mut pick = [0; 4];
        getrandom::fill(&mut pick).map_err(KeyManagerError::Random)?;
        let pick = usize::try_from(u32::from_be_bytes(pick)).unwrap_or_default() % committee.len();
        let node = committee.swap_remove(pick);
        let answer = client.secure_call::<WireKeyShare>(METHOD_SGX_POLICY_KEY_SHARE, &request, &[node]).into_result();
        match answer.map_err(KeyManagerError::from).and_then(|share| Ok(share.open()?)) {
            Ok(part) => parts.push(part),
            Err(error) => tracing::debug!(node = %node, err = %error, "no key share"),
        }
    }
    if parts.len() < needed {
        return Err(KeyManagerError::InsufficientKeyShares);
    }
    let key = recover_key(&parts, status.threshold)?;
    let salt = [status.identity.runtime_id.as_bytes().as_slice(), &[status.identity.id], key_id].concat();
    Ok(derive_state_key(&Zeroizing::new(point_to_bytes(&key)), &salt))
}
