//! Tests of governance's stateless rules.

use base_codec::cbor;
use base_prims::{EPOCH_INVALID, version::PROTOCOLS};

use super::*;

fn params() -> Parameters {
    Parameters {
        voting_period: 10,
        stake_threshold: 90,
        upgrade_min_epoch_diff: 20,
        upgrade_cancel_min_epoch_diff: 15,
        ..Parameters::default()
    }
}

fn upgrade(epoch: Epoch) -> Descriptor {
    Descriptor { v: 1, handler: "empty".to_owned(), target: PROTOCOLS, epoch }
}

fn content_upgrade(epoch: Epoch) -> ProposalContent {
    ProposalContent { upgrade: Some(upgrade(epoch)), ..ProposalContent::default() }
}

fn content_cancel(proposal_id: u64) -> ProposalContent {
    ProposalContent { cancel_upgrade: Some(CancelUpgradeProposal { proposal_id }), ..ProposalContent::default() }
}

fn says<T: std::fmt::Debug>(got: Result<T, Invalid>, text: &str) {
    let err = got.unwrap_err().to_string();
    assert!(err.contains(text), "{err} should say {text}");
}

#[test]
fn content_rules() {
    let p = params();
    assert_eq!(content_upgrade(42).validate_basic(&p), Ok(()));
    assert_eq!(content_cancel(1).validate_basic(&p), Ok(()));
    let change = |module: &str, changes: &[u8]| ProposalContent {
        change_parameters: Some(ChangeParametersProposal { module: module.to_owned(), changes: changes.into() }),
        ..ProposalContent::default()
    };
    assert_eq!(change("staking", &[0xa0]).validate_basic(&p), Ok(()));
    says(change("", &[0xa0]).validate_basic(&p), "name should not be empty");
    says(change("staking", &[]).validate_basic(&p), "changes should not be empty");
    says(content_upgrade(0).validate_basic(&p), "upgrade proposal validation failed: invalid upgrade descriptor epoch");
    says(ProposalContent::default().validate_basic(&p), "no fields set");
    let both = ProposalContent { cancel_upgrade: Some(CancelUpgradeProposal::default()), ..content_upgrade(42) };
    says(both.validate_basic(&p), "multiple fields set");
}

#[test]
fn metadata_is_required_or_refused() {
    let with = |title: &str| ProposalContent {
        metadata: Some(ProposalMetadata { title: title.to_owned(), description: String::new() }),
        ..content_cancel(1)
    };
    let p = Parameters { allow_proposal_metadata: true, ..params() };
    says(content_cancel(1).validate_basic(&p), "metadata required");
    says(with("ab").validate_basic(&p), "title too short");
    says(with(&"x".repeat(101)).validate_basic(&p), "title too long");
    assert_eq!(with("abc").validate_basic(&p), Ok(()));
    assert_eq!(with(&"x".repeat(100)).validate_basic(&p), Ok(()));
    says(with("abc").validate_basic(&params()), "invalid argument");
}

#[test]
fn closing() {
    let q = |n: u64| Quantity::from(n);
    let active = |votes: &[(Vote, u64)]| Proposal {
        state: ProposalState::ACTIVE,
        results: Some(votes.iter().map(|(v, n)| (*v, q(*n))).collect()),
        ..Proposal::default()
    };
    for (votes, threshold, want) in [
        (&[][..], 67, ProposalState::REJECTED),
        (&[(Vote::YES, 0)], 67, ProposalState::REJECTED),
        (&[(Vote::NO, 100)], 67, ProposalState::REJECTED),
        (&[(Vote::YES, 89), (Vote::NO, 11)], 90, ProposalState::REJECTED),
        (&[(Vote::YES, 90), (Vote::NO, 10)], 90, ProposalState::PASSED),
        (&[(Vote::YES, 90)], 90, ProposalState::PASSED),
        (&[(Vote::YES, 99), (Vote::ABSTAIN, 1)], 100, ProposalState::REJECTED),
        (&[(Vote::YES, 100)], 100, ProposalState::PASSED),
    ] {
        let mut p = active(votes);
        p.close(&q(100), threshold).unwrap();
        assert_eq!(p.state, want, "{votes:?} at {threshold}");
    }
    // The percentage is rounded down: 899 of 1000 is 89 percent.
    let mut p = active(&[(Vote::YES, 899)]);
    p.close(&q(1000), 90).unwrap();
    assert_eq!(p.state, ProposalState::REJECTED);
    says(p.close(&q(1000), 90), "expected: active, got: rejected");
    says(active(&[]).close(&q(0), 90), "total voting stake is zero");
    says(active(&[(Vote::YES, 2), (Vote(7), 99)]).close(&q(100), 90), "voted stake (101) greater than");
    says(Proposal { results: None, ..active(&[]) }.close(&q(1), 90), "results not initialized");
}

fn proposal(id: u64, state: ProposalState, content: ProposalContent) -> Proposal {
    Proposal { id, state, content, ..Proposal::default() }
}

#[test]
fn pending_upgrades_follow_from_proposals() {
    use ProposalState as S;
    let proposals = [
        proposal(1, S::PASSED, content_upgrade(9)),
        proposal(2, S::PASSED, content_upgrade(10)),
        proposal(3, S::REJECTED, content_upgrade(50)),
        proposal(4, S::PASSED, content_upgrade(60)),
        proposal(5, S::PASSED, content_cancel(4)),
        proposal(6, S::FAILED, content_cancel(2)),
        proposal(7, S::PASSED, content_cancel(99)),
    ];
    let ids: Vec<_> = pending_upgrades(&proposals, 10).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [2]);
    assert!(pending_upgrades(&proposals, EPOCH_INVALID).is_empty());
}

#[test]
fn parameter_rules() {
    assert_eq!(params().sanity_check(), Ok(()));
    type Change = fn(&mut Parameters);
    let cases: &[(&str, Change)] = &[
        ("less than or equal to 100", |p| p.stake_threshold = 101),
        ("greater than 66", |p| p.stake_threshold = 66),
        ("less than upgrade_min_epoch_diff", |p| p.voting_period = 20),
        ("less than upgrade_cancel_min_epoch_diff", |p| p.voting_period = 15),
    ];
    for (text, change) in cases {
        let mut p = params();
        change(&mut p);
        says(p.sanity_check(), text);
    }
}

#[test]
fn parameter_changes() {
    says(ParameterChanges::default().sanity_check(), "should not be empty");
    let changes: ParameterChanges = cbor::from_slice(b"\xa2\x69gas_costs\xa0\x6dvoting_period\x05").unwrap();
    assert_eq!(changes.sanity_check(), Ok(()));
    let mut p = Parameters { gas_costs: [("cast_vote".to_owned(), 1)].into(), ..params() };
    changes.apply(&mut p);
    assert_eq!(p, Parameters { voting_period: 5, ..params() });
    assert!(cbor::from_slice::<ParameterChanges>(b"\xa1\x79\x00\x19allow_vote_without_entity\xf5").is_err());
}

#[test]
fn genesis_rules() {
    use ProposalState as S;
    let active =
        Proposal { deposit: 5u64.into(), closes_at: 12, created_at: 2, ..proposal(1, S::ACTIVE, content_upgrade(40)) };
    let passed = Proposal { closes_at: 8, ..proposal(2, S::PASSED, content_upgrade(60)) };
    let genesis = Genesis {
        parameters: params(),
        proposals: vec![active, passed],
        vote_entries: [(1, Some(vec![VoteEntry::default()])), (2, None)].into(),
    };
    let deposits = Quantity::from(5u64);
    assert_eq!(genesis.sanity_check(10, &deposits), Ok(()));
    says(genesis.sanity_check(10, &Quantity::ZERO), "doesn't match governance deposit (0)");
    type Change = fn(&mut Genesis);
    let cases: &[(&str, Change)] = &[
        ("parameters sanity check failed", |g| g.parameters.stake_threshold = 1),
        ("created epoch in the future", |g| g.proposals[0].created_at = 11),
        ("invalid proposal submitter", |g| g.proposals[0].submitter = Address::burn()),
        ("past closing epoch", |g| g.proposals[0].closes_at = 9),
        ("active proposal with results", |g| g.proposals[0].results = Some(BTreeMap::new())),
        ("non-zero invalid votes", |g| g.proposals[0].invalid_votes = 1),
        ("past upgrade epoch", |g| g.proposals[0].content = content_upgrade(9)),
        ("closed proposal with future closing epoch", |g| g.proposals[1].closes_at = 11),
        ("proposal 1: invalid voter", |g| {
            g.vote_entries.insert(1, Some(vec![VoteEntry { voter: Address::burn(), vote: Vote::YES }]));
        }),
        ("descriptor validation failure", |g| g.proposals[1].content.upgrade.as_mut().unwrap().v = 9),
        ("UpgradeMinEpochDiff(20) apart: 60, 79", |g| {
            let second = Proposal { closes_at: 8, ..proposal(3, ProposalState::PASSED, content_upgrade(79)) };
            g.proposals.push(second);
        }),
    ];
    for (text, change) in cases {
        let mut g = genesis.clone();
        change(&mut g);
        says(g.sanity_check(10, &deposits), text);
    }
}

#[test]
fn empty_results_are_left_out() {
    let p = Proposal { results: Some(BTreeMap::new()), ..Proposal::default() };
    assert_eq!(cbor::to_vec(&p), cbor::to_vec(&Proposal::default()));
    let p = Proposal { results: Some([(Vote::NO, Quantity::ZERO)].into()), ..Proposal::default() };
    let bytes = cbor::to_vec(&p);
    assert!(bytes.windows(11).any(|w| w == b"\x67results\xa1\x02\x40"), "{}", hex::encode(&bytes));
    assert_eq!(cbor::from_slice::<Proposal>(&bytes).unwrap(), p);
}
