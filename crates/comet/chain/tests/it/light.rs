//! Light clients over recorded chains and over two light blocks of the main network.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comet_chain::commit::{Scope, TrustLevel, verify_light, verify_light_trusting};
use comet_chain::light::{
    Bisection, InvalidHeader, LightBlock, LightError, Policy, Step, UntrustedLightBlock, is_expired, verify,
    verify_adjacent, verify_backwards, verify_non_adjacent,
};
use dev_testkit::chains::Chain;
use serde_json::Value;
use wire_cometbft::block::LightBlock as WireLightBlock;
use wire_cometbft::{Duration, Message, Time};

use crate::chains::follow;

/// All light blocks of a recorded chain; height 1 first.
pub(crate) fn light_chain(name: &str) -> Vec<LightBlock> {
    let chain = Chain::open(&dev_testkit::paths::vectors_dir().join("chains").join(name));
    follow(&chain)
        .into_iter()
        .map(|(state, block, commit)| LightBlock { header: block.header, commit, validators: state.validators })
        .collect()
}

pub(crate) const POLICY: Policy = Policy::new(Duration::from_secs(3600));

pub(crate) fn just_after(block: &LightBlock) -> Time {
    block.header.time.saturating_add(Duration::from_secs(1))
}

fn main_network(height: u64) -> Option<UntrustedLightBlock> {
    let name = format!("oasis-core/go/consensus/cometbft/stateless/testdata/light_block_{height}.json");
    let Some(path) = dev_testkit::paths::published(&name) else {
        dev_testkit::skip(1, "published main network light block is absent");
        return None;
    };
    let recorded: Value = serde_json::from_slice(&dev_testkit::read(&path).unwrap()).unwrap();
    let bytes = STANDARD.decode(recorded["meta"].as_str().unwrap()).unwrap();
    Some(UntrustedLightBlock(WireLightBlock::decode(&bytes).unwrap()))
}

#[test]
fn main_network_blocks_verify() {
    let (Some(first), Some(second)) = (main_network(25_300_000), main_network(25_300_001)) else {
        return;
    };
    let chain_id = "bb3d748def55bdfb797a2ac53ee6ee141e54cd2ab2dc2375f4";
    let first = first.check(chain_id, 25_300_000).unwrap();
    let second = second.check(chain_id, 25_300_001).unwrap();
    let now = just_after(&second);
    verify_adjacent(&first, &second, &POLICY, now).unwrap();
    verify_backwards(&first.header, &second.header).unwrap();

    // One rotation gives every priority and the proposer of the next height.
    let rotated = first.validators.incremented(1).unwrap();
    assert_eq!(rotated.to_wire(), second.validators.to_wire());

    let id = &second.commit.block_id;
    let pending =
        comet_chain::commit::check_light(&second.validators, chain_id, id, 25_300_001, &second.commit, Scope::Enough);
    assert!((29..=40).contains(&pending.unwrap().claims().len()));
    verify_light(&second.validators, chain_id, id, 25_300_001, &second.commit, Scope::AllSignatures).unwrap();
    comet_chain::commit::verify_full(&second.validators, chain_id, id, 25_300_001, &second.commit).unwrap();
    for level in [TrustLevel::ONE_THIRD, TrustLevel { numerator: 2, denominator: 3 }] {
        verify_light_trusting(&first.validators, chain_id, &second.commit, level, Scope::Enough).unwrap();
    }
    let all = TrustLevel { numerator: 1, denominator: 1 };
    assert!(verify_light_trusting(&first.validators, chain_id, &second.commit, all, Scope::Enough).is_err());

    // Another chain's signatures are not ours.
    let other = "cb3d748def55bdfb797a2ac53ee6ee141e54cd2ab2dc2375f4";
    assert!(verify_light(&second.validators, other, id, 25_300_001, &second.commit, Scope::Enough).is_err());
}

#[test]
fn light_blocks_are_checked_for_chain_height_and_consistency() {
    let blocks = light_chain("debond");
    let untrusted = UntrustedLightBlock(blocks[2].to_wire());
    let chain_id = blocks[2].header.chain_id.clone();
    assert_eq!(untrusted.check(&chain_id, 3).unwrap(), blocks[2]);
    assert_eq!(untrusted.check(&chain_id, 0).unwrap(), blocks[2]);
    assert!(untrusted.check(&chain_id, 4).is_err());
    assert!(untrusted.check("other", 3).is_err());
    let mut mixed = untrusted.clone();
    mixed.0.validator_set.as_mut().unwrap().validators[0].voting_power += 1;
    assert!(mixed.check(&chain_id, 3).is_err());
    let mut mixed = untrusted.clone();
    mixed.0.signed_header.as_mut().unwrap().header.as_mut().unwrap().app_hash[0] ^= 1;
    assert!(mixed.check(&chain_id, 3).is_err());
    let mut mixed = untrusted.clone();
    mixed.0.validator_set.as_mut().unwrap().proposer = None;
    assert!(mixed.check(&chain_id, 3).is_err());
    let mut missing = untrusted;
    missing.0.signed_header = None;
    assert!(missing.check(&chain_id, 3).is_err());
}

#[test]
fn every_pair_of_heights_verifies_or_asks_for_more() {
    let blocks = light_chain("change-parameters-min-commission-rate");
    let now = just_after(blocks.last().unwrap());
    for pair in blocks.windows(2) {
        verify_adjacent(&pair[0], &pair[1], &POLICY, now).unwrap();
        verify_backwards(&pair[0].header, &pair[1].header).unwrap();
        assert!(verify_backwards(&pair[1].header, &pair[0].header).is_err());
        assert!(matches!(verify_non_adjacent(&pair[0], &pair[1], &POLICY, now), Err(LightError::Adjacency { .. })));
    }
    for from in 0..blocks.len() {
        for to in from + 2..blocks.len() {
            match verify(&blocks[from], &blocks[to], &POLICY, now) {
                Ok(()) | Err(LightError::CantBeTrusted { .. }) => {}
                Err(error) => panic!("{from} to {to}: {error}"),
            }
        }
        assert!(verify(&blocks[from], &blocks[0], &POLICY, now).is_err());
    }
}

#[test]
fn age_drift_and_order_of_time() {
    let blocks = light_chain("debond");
    let (trusted, new) = (&blocks[1], &blocks[3]);
    let short = Policy { trusting_period: Duration::from_secs(10), ..POLICY };
    let edge = trusted.header.time.saturating_add(Duration::from_secs(10));
    assert!(is_expired(&trusted.header, short.trusting_period, edge));
    assert!(matches!(verify(trusted, new, &short, edge), Err(LightError::Expired { .. })));
    let before = edge.saturating_add(Duration::from_nanos(-1));
    assert!(!is_expired(&trusted.header, short.trusting_period, before));
    verify(trusted, new, &short, before).unwrap();
    let early = new.header.time.saturating_add(Duration::from_secs(-10));
    let future = Err(LightError::InvalidHeader(InvalidHeader::Future(new.header.time)));
    assert_eq!(verify(trusted, new, &POLICY, early), future);
    verify(trusted, new, &POLICY, early.saturating_add(Duration::from_nanos(1))).unwrap();

    let mut late = trusted.clone();
    late.header.time = new.header.time;
    assert!(matches!(
        verify(&late, new, &POLICY, just_after(new)),
        Err(LightError::InvalidHeader(InvalidHeader::TimeOrder(_)))
    ));
    let mut other = blocks[2].clone();
    other.header.next_validators_hash[0] ^= 1;
    assert_eq!(verify_adjacent(&other, new, &POLICY, just_after(new)), Err(LightError::NextValidators));
}

#[test]
fn trust_levels() {
    let check = |numerator, denominator| TrustLevel { numerator, denominator }.validate().is_ok();
    assert!(check(1, 3) && check(2, 3) && check(1, 1) && check(u64::MAX, u64::MAX));
    assert!(!check(1, 4) && !check(2, 1) && !check(0, 0) && !check(0, 1) && !check(1, u64::MAX));
}

/// Where trust does not reach, the bisection asks for heights in between and gets there.
#[test]
fn bisection_reaches_the_target() {
    let blocks = light_chain("vault");
    let now = just_after(blocks.last().unwrap());
    // All of the trusted power must sign: as long as somebody is missing, only adjacent steps work.
    let strict = Policy { trust_level: TrustLevel { numerator: 1, denominator: 1 }, ..POLICY };
    for (policy, least) in [(POLICY, 2), (strict, 4)] {
        let (from, to) = (&blocks[0], &blocks[40]);
        let mut bisection = Bisection::new(from.clone(), to.clone(), policy);
        let mut fetched = 0;
        let trace = loop {
            match bisection.step(now).unwrap() {
                Step::Done(trace) => break trace,
                Step::Fetch(height) => {
                    fetched += 1;
                    bisection.provide(blocks[usize::try_from(height).unwrap() - 1].clone());
                }
            }
        };
        assert!(trace.len() >= least, "{} blocks, {fetched} fetched", trace.len());
        assert_eq!((&trace[0], trace.last().unwrap()), (from, to));
        assert!(trace.windows(2).all(|pair| verify(&pair[0], &pair[1], &policy, now).is_ok()));
    }
    // A bad block on the way is named.
    let mut bisection = Bisection::new(blocks[0].clone(), blocks[40].clone(), strict);
    let Step::Fetch(height) = bisection.step(now).unwrap() else { panic!("needs more") };
    assert_eq!(height, 1 + 40 * 9 / 16);
    let mut bad = blocks[usize::try_from(height).unwrap() - 1].clone();
    bad.commit.block_id.hash[0] ^= 1;
    bisection.provide(bad);
    let error = bisection.step(now).unwrap_err();
    assert_eq!((error.from, error.to), (1, height));
}
