//! The beacon worker: one proof of randomness per epoch, once proofs are taken.

use std::sync::Arc;

use base_codec::Bytes;
use base_crypto::ed25519::SecretKey;
use base_crypto::vrf;
use base_prims::{Epoch, PublicKey};
use tokio_util::sync::CancellationToken;
use wire_consensus::beacon::{BACKEND_VRF, METHOD_VRF_PROVE, VrfProve, VrfState};

use crate::backoff::{Backoff, LONGEST};
use crate::chain::ChainError;
use crate::submission::Submission;

/// What to do at a height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: proofs are not taken yet, or this node's is there.
    Wait,
    /// Prove this input for this epoch.
    Prove {
        /// The epoch.
        epoch: Epoch,
        /// The input.
        alpha: Vec<u8>,
    },
}

/// Decides by the state after the block at `height`; `proved` is the epoch that a proof was sent for last.
///
/// Proofs are taken in blocks above `submit_after`: one sent at that height is in the next block at the earliest.
pub fn decide(state: Option<&VrfState>, node: &PublicKey, height: i64, proved: Option<Epoch>) -> Decision {
    match state {
        Some(state) if height >= state.submit_after && proved != Some(state.epoch) && !state.pi.contains_key(node) => {
            Decision::Prove { epoch: state.epoch, alpha: state.alpha.0.clone() }
        }
        _ => Decision::Wait,
    }
}

/// Runs until stopped: proves once per epoch, and tries again as long as the epoch lasts.
pub async fn run(submission: Arc<Submission>, node: SecretKey, vrf: SecretKey, stop: CancellationToken) {
    let chain = submission.chain().clone();
    let mut synced = chain.synced();
    let mut heights = chain.heights();
    let id = PublicKey::from(node.public());
    let work = async {
        if synced.wait_for(|synced| *synced).await.is_err() {
            return;
        }
        let mut proved = None;
        loop {
            match current(&submission) {
                Ok((height, state)) => {
                    if let Decision::Prove { epoch, alpha } = decide(state.as_ref(), &id, height, proved) {
                        prove(&submission, &node, &vrf, epoch, &alpha).await;
                        proved = Some(epoch);
                    }
                }
                Err(error) => {
                    tracing::error!(module = "worker/beacon/vrf", err = %error, "failed to query VRF state");
                }
            }
            if heights.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

/// Newest height with the state of the beacon; no state if the beacon is not a VRF.
fn current(submission: &Submission) -> Result<(i64, Option<VrfState>), ChainError> {
    let chain = submission.chain();
    let height = chain.latest_height();
    if height == 0 {
        return Ok((0, None));
    }
    let state = chain.state(height)?;
    if apps_committees::beacon::state::parameters(&*state)?.backend != BACKEND_VRF {
        return Ok((height, None));
    }
    Ok((height, apps_committees::beacon::state::vrf_state(&*state)?))
}

async fn prove(submission: &Submission, node: &SecretKey, vrf_key: &SecretKey, epoch: Epoch, alpha: &[u8]) {
    let proof = match vrf::try_prove(vrf_key, alpha) {
        Ok(proof) => proof,
        Err(error) => {
            tracing::error!(module = "worker/beacon/vrf", epoch, err = %error, "failed to prove");
            return;
        }
    };
    let body = VrfProve { epoch, pi: Some(Bytes(proof.to_vec())) };
    let mut backoff = Backoff::new(LONGEST, epoch);
    loop {
        match submission.submit(node, METHOD_VRF_PROVE, &body).await {
            Ok(included) => {
                tracing::debug!(module = "worker/beacon/vrf", epoch, height = included.height, "proof submitted");
                return;
            }
            Err(error) => {
                tracing::debug!(module = "worker/beacon/vrf", epoch, err = %error, "proof not submitted");
            }
        }
        tokio::time::sleep(backoff.wait()).await;
        // The epoch may have passed, or the proof may be there after all.
        let id = PublicKey::from(node.public());
        match current(submission) {
            Ok((_, Some(state))) if state.epoch == epoch && !state.pi.contains_key(&id) => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire_consensus::beacon::Proof;

    #[test]
    fn proves_once_when_proofs_are_taken() {
        let node = PublicKey::from([1; 32]);
        let mut state = VrfState { epoch: 5, alpha: Bytes(vec![7]), submit_after: 10, ..VrfState::default() };
        let prove = Decision::Prove { epoch: 5, alpha: vec![7] };
        assert_eq!(decide(None, &node, 20, None), Decision::Wait);
        assert_eq!(decide(Some(&state), &node, 9, None), Decision::Wait);
        assert_eq!(decide(Some(&state), &node, 10, None), prove);
        assert_eq!(decide(Some(&state), &node, 11, Some(4)), prove);
        assert_eq!(decide(Some(&state), &node, 11, Some(5)), Decision::Wait);
        state.pi.insert(node, Proof::default());
        assert_eq!(decide(Some(&state), &node, 11, None), Decision::Wait);
    }
}
