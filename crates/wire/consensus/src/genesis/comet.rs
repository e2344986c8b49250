//! The CometBFT genesis that follows from a genesis document. Source: `go/consensus/cometbft/api/genesis.go`.

use std::collections::BTreeMap;

use base_prims::{Address, PublicKey, version::COMET_APP_VERSION};
use wire_cometbft::{
    params::{BlockParams, ConsensusParams, EvidenceParams, ValidatorParams, VersionParams},
    time::Duration,
};

use super::Document;
use crate::{
    Invalid, beacon, invalid,
    node::{self, Node, Roles},
    scheduler::voting_power_from_stake,
};

/// Blocks per epoch that a mock beacon without an interval counts as.
pub const MOCK_EPOCH_INTERVAL: i64 = 100;

/// A validator of the first block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisValidator {
    /// Consensus key.
    pub pub_key: PublicKey,
    /// Voting power.
    pub power: i64,
    /// `oasis-validator-` and the node's key in base64.
    pub name: String,
}

/// The consensus parameters with which CometBFT starts.
///
/// # Errors
/// If no epoch interval follows from the document.
pub fn consensus_params(doc: &Document, allow_debug: bool) -> Result<ConsensusParams, Invalid> {
    let p = &doc.consensus.parameters;
    let signed = |v: u64| v.cast_signed();
    let debonding = match signed(doc.staking.parameters.debonding_interval) {
        0 if allow_debug => 1,
        n => n,
    };
    let b = &doc.beacon.parameters;
    if ![beacon::BACKEND_INSECURE, beacon::BACKEND_VRF].contains(&b.backend.as_str()) {
        invalid!("cometbft: unknown beacon backend: '{}'", b.backend);
    }
    let interval = match b.interval() {
        0 if allow_debug && b.debug_mock_backend => MOCK_EPOCH_INTERVAL,
        0 => invalid!("cometbft: unable to determine epoch interval"),
        n => n,
    };
    let blocks = debonding.wrapping_mul(interval);
    Ok(ConsensusParams {
        block: BlockParams {
            max_bytes: signed(p.max_block_size),
            max_gas: if p.max_block_gas == 0 { -1 } else { signed(p.max_block_gas) },
        },
        evidence: EvidenceParams {
            max_age_num_blocks: blocks,
            max_age_duration: Duration::from_nanos(blocks.wrapping_mul(p.timeout_commit.wrapping_add(1_000_000_000))),
            max_bytes: signed(p.max_evidence_size),
        },
        validator: ValidatorParams { pub_key_types: vec!["ed25519".to_owned()] },
        version: VersionParams { app: COMET_APP_VERSION },
    })
}

/// The validators of the first block: nodes with the role whose registration has not ended, at most so many per
/// entity, by power, largest first; the order of equal powers is that of the document.
///
/// # Errors
/// If a node's signatures do not verify, or a power does not fit.
pub fn validators(doc: &Document) -> Result<Vec<GenesisValidator>, Invalid> {
    let params = &doc.scheduler.parameters;
    let mut per_entity: BTreeMap<PublicKey, i64> = BTreeMap::new();
    let mut chosen = Vec::new();
    for signed in &doc.registry.nodes {
        let node: Node = signed
            .open(node::REGISTER_CONTEXT, None)
            .map_err(|e| Invalid::new(format!("cometbft: failed to verify validator: {e}")))?;
        if !node.has_roles(Roles::VALIDATOR) || node.is_expired(doc.beacon.base) {
            continue;
        }
        let power = if params.debug_bypass_stake {
            1
        } else {
            let account = doc.staking.ledger.get(&Address::of_key(&node.entity_id));
            let stake = account.map(|a| a.escrow.active.balance.clone()).unwrap_or_default();
            voting_power_from_stake(&stake, params.voting_power_distribution).map_err(|e| {
                Invalid::new(format!("cometbft: computing voting power for entity {}: {e}", node.entity_id))
            })?
        };
        // The first node of an entity counts even if the limit is zero.
        match per_entity.get_mut(&node.entity_id) {
            Some(n) if *n >= params.max_validators_per_entity => continue,
            Some(n) => *n += 1,
            None => {
                per_entity.insert(node.entity_id, 1);
            }
        }
        chosen.push(GenesisValidator {
            pub_key: node.consensus.id,
            power,
            name: format!("oasis-validator-{}", node.id),
        });
    }
    chosen.sort_by_key(|v| std::cmp::Reverse(v.power));
    chosen.truncate(usize::try_from(params.max_validators).unwrap_or(0));
    Ok(chosen)
}
