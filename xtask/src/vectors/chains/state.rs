//! State differences: key counts, roots (recomputed, and in the next header), chain context, VRF inputs.

use std::collections::BTreeMap;

use base_prims::Epoch;
use dev_testkit::chains::Chain;
use mkvs_tree::{KvWrite as _, Sequential, Tree};
use wire_consensus::beacon::VrfState;

use super::super::Counts;
use super::super::bodies::{Checked, decode_exactly, same_bytes};
use super::{blocks, genesis};

/// State key of the chain context, stored as its 64 characters.
const CHAIN_CONTEXT_KEY: [u8; 1] = [0xf0];

/// State key of the VRF state.
const VRF_STATE_KEY: [u8; 1] = [0x46];

/// The VRF input of each epoch, as the state had it.
pub(super) fn vrf_inputs(chain: &Chain) -> Checked<BTreeMap<Epoch, Vec<u8>>> {
    let mut out = BTreeMap::new();
    for diff in chain.state_diffs().map_err(|e| e.to_string())? {
        for (_, value) in diff.diff.iter().filter(|(key, _)| *key == VRF_STATE_KEY) {
            let Some(value) = value else { continue };
            let state: VrfState = decode_exactly("VRF state", value)?;
            out.insert(state.epoch, state.alpha.0);
        }
    }
    Ok(out)
}

pub(super) fn check(chain: &Chain, counts: &mut Counts) -> Checked<()> {
    let (_, context) = genesis(chain)?;
    let app_hashes = blocks::app_hashes(chain)?;
    let mut state: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut tree = Tree::in_memory();
    let diffs = chain.state_diffs().map_err(|e| e.to_string())?;
    for diff in &diffs {
        for (key, value) in &diff.diff {
            let written = match value {
                Some(value) => tree.insert(key, value),
                None => tree.remove(key),
            };
            written.map_err(|e| format!("version {}: {e}", diff.version))?;
            match value {
                Some(value) => {
                    state.insert(key.clone(), value.clone());
                }
                None if state.remove(key).is_none() => {
                    return Err(format!("version {}: removes {}, which is not there", diff.version, hex::encode(key)));
                }
                None => {}
            }
            counts.add("state_changes");
        }
        if state.len() as u64 != diff.keys {
            return Err(format!("version {}: {} keys, recorded {}", diff.version, state.len(), diff.keys));
        }
        let root = tree.root_hash(&Sequential);
        same_bytes("state root", root.as_bytes(), &diff.root)?;
        counts.add("state_roots");
        let stored = state.get(CHAIN_CONTEXT_KEY.as_slice()).map(Vec::as_slice).unwrap_or_default();
        same_bytes("chain context in the state", context.as_str().as_bytes(), stored)?;
        if let Some(app_hash) = app_hashes.get(&(diff.version + 1)) {
            same_bytes("root and next app hash", &diff.root, app_hash)?;
            counts.add("app_hashes");
        }
        counts.add("state_versions");
    }
    Ok(())
}
