//! Every check of a genesis document, those that need several services included.

use std::collections::BTreeMap;

use apps_committees::registry::{
    sanity,
    tee::TeeRules,
    verify::{Rules, Trust},
};
use apps_core::LocalConfig;
use wire_consensus::{Invalid, genesis::Document, known::KnownSignatures, staking::sanity::check_stake};

/// Checks a genesis document as the reference does before a network may start from it.
/// Source: `go/genesis/api/sanity_check.go`.
///
/// # Errors
/// Names the section and what is wrong with it.
pub fn sanity_check(doc: &Document, local: &LocalConfig) -> Result<(), Invalid> {
    doc.sanity_check(local.allow_debug)?;
    let blacklist = doc.blacklist(local.allow_test_keys);
    let params = &doc.registry.parameters;
    let rules = Rules {
        params,
        trust: Trust { blacklist: &blacklist, known: &KnownSignatures::default() },
        tee: TeeRules {
            features: params.tee_features.as_ref(),
            now: doc.time.0,
            height: doc.height.unsigned_abs(),
            feature_26_1: true,
            options: &local.tee,
        },
        epoch: doc.beacon.base,
        genesis: true,
        sanity: true,
        allow_debug: local.allow_debug,
    };
    let forbidden = &doc.consensus.parameters.public_key_blacklist;
    let mut escrows = BTreeMap::new();
    sanity::genesis(&rules, &doc.registry, forbidden, &mut escrows).map_err(|e| Invalid::new(e.to_string()))?;
    doc.staking.sanity_check(doc.beacon.base, local.allow_debug)?;
    if doc.staking.parameters.debug_bypass_stake {
        return Ok(());
    }
    check_stake(&doc.staking.ledger, &mut escrows, &doc.staking.parameters.thresholds, true)
}
