//! Tests of the governance service over a small network.

use std::collections::BTreeMap;

use apps_core::{Message, Mode, Reply};
use base_codec::{Raw, cbor};
use base_prims::{Address, EPOCH_INVALID, Epoch, Quantity, version::PROTOCOLS};
use wire_consensus::{
    governance::{
        CancelUpgradeProposal, ChangeParametersProposal, GAS_OP_CAST_VOTE, GAS_OP_SUBMIT_PROPOSAL, Genesis, Parameters,
        Proposal, ProposalContent, ProposalExecutedEvent, ProposalFinalizedEvent, ProposalMetadata, ProposalState,
        ProposalSubmittedEvent, ProposalVote, Vote, VoteEntry, VoteEvent,
    },
    roothash::message::GovernanceMessage,
    staking::{SharePool, TransferEvent},
    upgrade::{Descriptor, PendingUpgrade},
    vault,
};

use super::*;
use crate::{
    testing::{PLENTY, Run, World, addr, key, q},
    upgrade::Manager,
    vault::Vaults,
};

const STAKING: &str = apps_staking::NAME;

fn params() -> Parameters {
    Parameters {
        gas_costs: [(GAS_OP_SUBMIT_PROPOSAL.to_owned(), 1000), (GAS_OP_CAST_VOTE.to_owned(), 500)].into(),
        min_proposal_deposit: q(100),
        voting_period: 10,
        stake_threshold: 68,
        upgrade_min_epoch_diff: 20,
        upgrade_cancel_min_epoch_diff: 15,
        enable_change_parameters_proposal: true,
        ..Parameters::default()
    }
}

/// Epoch 5; entity 1 with validator 101 and 300 tokens in 100 shares, entity 2 with validator 102 and 100 in 100;
/// account 9 has 1000 tokens.
fn world() -> World {
    with_services(None)
}

fn with_services(upgrades: Option<Upgrades>) -> World {
    let mut w = World::new(vec![Box::new(Governance::new(upgrades)), Box::new(Vaults)]);
    w.put(&[0x85], &params());
    w.put(&[0x33], &vault::Parameters::defaults());
    w.put(&[0x80], &1u64);
    w.add_validator(1, 101, 300, 100);
    w.add_validator(2, 102, 100, 100);
    w.register_entity(1, &[101]);
    w.register_entity(2, &[102]);
    w.register_entity(3, &[103]);
    w.set_balance(9, 1000);
    w
}

fn set_params(w: &mut World, change: impl FnOnce(&mut Parameters)) {
    let mut p = params();
    change(&mut p);
    w.put(&[0x85], &p);
}

fn upgrade(epoch: Epoch) -> Descriptor {
    Descriptor { v: 1, handler: "empty".to_owned(), target: PROTOCOLS, epoch }
}

fn upgrade_at(epoch: Epoch) -> ProposalContent {
    ProposalContent { upgrade: Some(upgrade(epoch)), ..ProposalContent::default() }
}

fn cancel(proposal_id: u64) -> ProposalContent {
    ProposalContent { cancel_upgrade: Some(CancelUpgradeProposal { proposal_id }), ..ProposalContent::default() }
}

fn change(module: &str, changes: &[u8]) -> ProposalContent {
    let change = ChangeParametersProposal { module: module.to_owned(), changes: Raw(changes.to_vec()) };
    ProposalContent { change_parameters: Some(change), ..ProposalContent::default() }
}

/// `{"stake_threshold": n}`.
fn threshold_change(n: u8) -> Vec<u8> {
    [&b"\xa1\x6fstake_threshold\x18"[..], &[n]].concat()
}

fn submit(w: &mut World, signer: u8, content: &ProposalContent) -> Run<()> {
    w.tx(signer, METHOD_SUBMIT_PROPOSAL, content)
}

fn vote(w: &mut World, signer: u8, id: u64, vote: Vote) -> Run<()> {
    w.tx(signer, METHOD_CAST_VOTE, &ProposalVote { id, vote })
}

fn proposal(w: &World, id: u64) -> Proposal {
    state::proposal(&w.tree, id).unwrap()
}

/// Stores a pending upgrade under the proposal's number.
fn add_pending(w: &mut World, id: u64, epoch: Epoch) {
    let p = Proposal { id, state: ProposalState::PASSED, content: upgrade_at(epoch), ..Proposal::default() };
    state::set_proposal(&mut w.tree, &p).unwrap();
    state::set_pending_upgrade(&mut w.tree, id, epoch).unwrap();
}

#[test]
fn a_submitted_proposal_is_open_for_votes() {
    let mut w = world();
    let run = submit(&mut w, 9, &upgrade_at(25));
    run.result.as_ref().unwrap();
    assert_eq!(run.gas_used, 1000);
    assert_eq!(run.kinds(), ["transfer", "proposal_submitted"]);
    assert!(run.has(NAME, &ProposalSubmittedEvent { id: 1, submitter: addr(9) }));
    let transfer = TransferEvent { from: addr(9), to: Address::governance_deposits(), amount: q(100) };
    assert!(run.has(STAKING, &transfer));
    let want = Proposal {
        id: 1,
        submitter: addr(9),
        state: ProposalState::ACTIVE,
        deposit: q(100),
        content: upgrade_at(25),
        created_at: 5,
        closes_at: 15,
        results: None,
        invalid_votes: 0,
    };
    assert_eq!(state::active_proposals(&w.tree).unwrap(), [want]);
    assert_eq!(state::next_proposal_id(&w.tree).unwrap(), 2);
    assert_eq!((w.balance(9), w.pools().0), (q(900), q(100)));
}

#[test]
fn refusals_of_proposals() {
    let bad_upgrade = ProposalContent { upgrade: Some(Descriptor { v: 2, ..upgrade(25) }), ..Default::default() };
    let metadata = Some(ProposalMetadata { title: "title".to_owned(), description: String::new() });
    let with_metadata = ProposalContent { metadata, ..upgrade_at(25) };
    type Prepare = fn(&mut World);
    let nothing: Prepare = |_| {};
    // Preparation, content, gas used, module, code.
    let cases: Vec<(&str, Prepare, ProposalContent, u64, &str, u32)> = vec![
        ("no content", nothing, ProposalContent::default(), 0, "governance", 1),
        (
            "two kinds",
            nothing,
            ProposalContent { cancel_upgrade: Some(Default::default()), ..upgrade_at(25) },
            0,
            "governance",
            1,
        ),
        ("bad descriptor", nothing, bad_upgrade, 0, "governance", 1),
        ("metadata not allowed", nothing, with_metadata.clone(), 0, "governance", 1),
        (
            "metadata required",
            |w| set_params(w, |p| p.allow_proposal_metadata = true),
            upgrade_at(25),
            0,
            "governance",
            1,
        ),
        (
            "changes disabled",
            |w| set_params(w, |p| p.enable_change_parameters_proposal = false),
            change("governance", &threshold_change(70)),
            0,
            "governance",
            1,
        ),
        ("too poor", |w| w.set_balance(9, 99), upgrade_at(25), 1000, "staking", 3),
        ("too soon", nothing, upgrade_at(24), 1000, "governance", 2),
        ("pending before", |w| add_pending(w, 7, 20), upgrade_at(39), 1000, "governance", 3),
        ("pending after", |w| add_pending(w, 7, 59), upgrade_at(40), 1000, "governance", 3),
        ("cancel unknown", nothing, cancel(7), 1000, "governance", 5),
        (
            "cancel not an upgrade",
            |w| {
                state::set_proposal(&mut w.tree, &Proposal { id: 7, ..Proposal::default() }).unwrap();
            },
            cancel(7),
            1000,
            "governance",
            4,
        ),
        (
            "cancel not pending",
            |w| {
                add_pending(w, 7, 30);
                state::remove_pending_upgrade(&mut w.tree, 7, 30).unwrap();
            },
            cancel(7),
            1000,
            "governance",
            4,
        ),
        ("cancel too late", |w| add_pending(w, 7, 19), cancel(7), 1000, "governance", 2),
        ("unknown module", nothing, change("beacon", &[0xa0]), 1000, "governance", 1),
        ("undecodable changes", nothing, change("governance", &[0x01]), 1000, "unknown", 1),
        ("empty changes", nothing, change("governance", &[0xa0]), 1000, "unknown", 1),
        ("unknown parameter", nothing, change("governance", b"\xa1\x61x\x01"), 1000, "unknown", 1),
        ("insane result", nothing, change("governance", &threshold_change(66)), 1000, "unknown", 1),
        (
            "insane result elsewhere",
            nothing,
            change("vault", b"\xa1\x77max_authority_addresses\x00"),
            1000,
            "unknown",
            1,
        ),
    ];
    for (name, prepare, content, gas, module, code) in cases {
        let mut w = world();
        prepare(&mut w);
        let before = w.pairs();
        let run = submit(&mut w, 9, &content);
        assert_eq!((run.code(), run.gas_used), ((module, code), gas), "{name}: {:?}", run.result);
        assert!(run.events.is_empty(), "{name}");
        assert_eq!(w.pairs(), before, "{name}");
    }
    // Malformed bodies, gas, reserved callers.
    let mut w = world();
    assert_eq!(w.tx(9, METHOD_SUBMIT_PROPOSAL, &1u64).code(), ("governance", 1));
    assert_eq!(w.tx(9, METHOD_CAST_VOTE, &1u64).code(), ("governance", 1));
    let run = w.tx_in(Mode::DeliverTx, 9, 999, METHOD_SUBMIT_PROPOSAL, &upgrade_at(25));
    assert_eq!((run.code(), run.gas_used), (("unknown", 1), 0));
    let run = w.run(Mode::DeliverTx, Some(9), PLENTY, |ctx| {
        ctx.with_caller(Address::common_pool(), |ctx| tx::submit_proposal(ctx, &upgrade_at(25)))
    });
    assert_eq!(run.code(), ("staking", 5));
    // With metadata where it is allowed.
    set_params(&mut w, |p| p.allow_proposal_metadata = true);
    submit(&mut w, 9, &with_metadata).result.unwrap();
}

#[test]
fn checks_and_simulations_change_nothing() {
    for (mode, gas) in [(Mode::CheckTx, 0), (Mode::SimulateTx, 1000)] {
        let mut w = world();
        w.set_balance(9, 0);
        let run = w.tx_in(mode, 9, PLENTY, METHOD_SUBMIT_PROPOSAL, &upgrade_at(25));
        run.result.unwrap();
        assert_eq!((run.gas_used, run.events.len()), (gas, 0), "{mode:?}");
        let run = w.tx_in(mode, 9, PLENTY, METHOD_CAST_VOTE, &ProposalVote::default());
        run.result.unwrap();
        assert_eq!((run.gas_used, run.events.len()), (gas / 2, 0), "{mode:?}");
        assert!(state::proposals(&w.tree).unwrap().is_empty());
    }
}

#[test]
fn who_may_vote() {
    // Signer, preparation, votes without entity allowed, outcome.
    type Prepare = fn(&mut World);
    let nothing: Prepare = |_| {};
    type Case = (&'static str, u8, Prepare, bool, Option<(&'static str, u32)>);
    let cases: [Case; 8] = [
        ("validator's entity", 1, nothing, false, None),
        ("entity without validator", 3, nothing, false, Some(("governance", 6))),
        ("entity that delegates to a validator", 3, |w| w.delegate(3, 2, 10), false, None),
        ("entity that delegates elsewhere", 3, |w| w.delegate(3, 8, 10), false, Some(("governance", 6))),
        ("nobody", 8, nothing, true, Some(("governance", 6))),
        ("delegator without entity", 8, |w| w.delegate(8, 1, 1), true, None),
        ("delegator without entity, not allowed", 8, |w| w.delegate(8, 1, 1), false, Some(("governance", 6))),
        ("entity of a node that is no longer its own", 3, |w| w.register_entity(3, &[101]), false, None),
    ];
    for (name, signer, prepare, allowed, want) in cases {
        let mut w = world();
        set_params(&mut w, |p| p.allow_vote_without_entity = allowed);
        submit(&mut w, 9, &upgrade_at(25)).result.unwrap();
        prepare(&mut w);
        let run = vote(&mut w, signer, 1, Vote::NO);
        assert_eq!(run.gas_used, 500, "{name}");
        match want {
            Some(code) => assert_eq!(run.code(), code, "{name}"),
            None => {
                run.result.as_ref().unwrap_or_else(|e| panic!("{name}: {e}"));
                assert!(run.has(NAME, &VoteEvent { id: 1, submitter: addr(signer), vote: Vote::NO }), "{name}");
                let stored = state::votes(&w.tree, 1).unwrap();
                assert_eq!(stored, [VoteEntry { voter: addr(signer), vote: Vote::NO }], "{name}");
            }
        }
    }
}

#[test]
fn refusals_of_votes() {
    let mut w = world();
    submit(&mut w, 9, &upgrade_at(25)).result.unwrap();
    assert_eq!(vote(&mut w, 1, 2, Vote::YES).code(), ("governance", 5));
    // Who may not vote is not told whether there is such a proposal.
    assert_eq!(vote(&mut w, 3, 2, Vote::YES).code(), ("governance", 6));
    let mut p = proposal(&w, 1);
    p.state = ProposalState::REJECTED;
    state::set_proposal(&mut w.tree, &p).unwrap();
    assert_eq!(vote(&mut w, 1, 1, Vote::YES).code(), ("governance", 7));
    let run = w.run(Mode::DeliverTx, Some(1), PLENTY, |ctx| {
        ctx.with_caller(Address::burn(), |ctx| tx::cast_vote(ctx, &ProposalVote::default(), tx::Origin::Transaction))
    });
    assert_eq!(run.code(), ("staking", 5));
    let run = w.tx_in(Mode::DeliverTx, 1, 499, METHOD_CAST_VOTE, &ProposalVote { id: 1, vote: Vote::YES });
    assert_eq!(run.code(), ("unknown", 1));
}

#[test]
fn the_last_vote_counts_and_any_value_is_a_vote() {
    let mut w = world();
    submit(&mut w, 9, &upgrade_at(25)).result.unwrap();
    for v in [Vote::YES, Vote::ABSTAIN, Vote(77)] {
        vote(&mut w, 1, 1, v).result.unwrap();
        assert_eq!(state::votes(&w.tree, 1).unwrap(), [VoteEntry { voter: addr(1), vote: v }]);
    }
}

#[test]
fn runtimes_vote_and_submit() {
    let runtime = addr(50);
    let cast = GovernanceMessage { cast_vote: Some(ProposalVote { id: 1, vote: Vote::YES }), ..Default::default() };
    let submit = GovernanceMessage { submit_proposal: Some(upgrade_at(25)), ..Default::default() };
    let send = |w: &mut World, m: &GovernanceMessage| {
        w.run(Mode::EndBlock, None, PLENTY, |ctx| {
            ctx.with_caller(runtime, |ctx| ctx.dispatch(&Message::RuntimeGovernance(m)))
        })
    };
    let mut w = world();
    w.set_balance(50, 100);
    let reply = send(&mut w, &submit).result.unwrap();
    assert_eq!(reply, Some(Reply::Result(Raw::of(&proposal(&w, 1)))));
    assert_eq!(proposal(&w, 1).submitter, runtime);
    assert_eq!(send(&mut w, &submit).code(), ("staking", 3));
    // Votes need the parameter and a delegation; an entity does not help.
    assert_eq!(send(&mut w, &cast).code(), ("governance", 6));
    set_params(&mut w, |p| p.allow_vote_without_entity = true);
    assert_eq!(send(&mut w, &cast).code(), ("governance", 6));
    w.delegate(50, 1, 1);
    assert_eq!(send(&mut w, &cast).result.unwrap(), None);
    assert_eq!(state::votes(&w.tree, 1).unwrap(), [VoteEntry { voter: runtime, vote: Vote::YES }]);
    assert_eq!(send(&mut w, &GovernanceMessage::default()).code(), ("governance", 1));
}

fn pools() -> BTreeMap<Address, SharePool> {
    let pool = |balance: u64, shares: u64| SharePool { balance: q(balance), total_shares: q(shares) };
    [(addr(1), pool(300, 100)), (addr(2), pool(100, 100))].into()
}

#[test]
fn counting_votes() {
    use epoch::tally;
    type Votes<'a> = &'a [(u8, Vote)];
    type Delegations<'a> = &'a [(u8, u8, u64)];
    let (yes, no, abstain) = (Vote::YES, Vote::NO, Vote::ABSTAIN);
    // Votes, delegations (who, to whom, shares), results, invalid votes.
    type Case<'a> = (&'a str, Votes<'a>, Delegations<'a>, &'a [(Vote, u64)], u64);
    let cases: [Case<'_>; 10] = [
        ("nobody", &[], &[], &[], 0),
        ("a validator with nothing delegated to itself", &[(1, yes)], &[], &[(yes, 300)], 1),
        ("both", &[(1, yes), (2, no)], &[(1, 1, 50), (2, 2, 50)], &[(yes, 300), (no, 100)], 0),
        ("a delegator who agrees", &[(1, yes), (8, yes)], &[(1, 1, 1), (8, 1, 40)], &[(yes, 300)], 0),
        ("one who does not", &[(1, yes), (8, no)], &[(1, 1, 1), (8, 1, 40)], &[(yes, 180), (no, 120)], 0),
        ("one whose validator is silent", &[(8, no)], &[(8, 1, 40)], &[(no, 120)], 0),
        (
            "one with two validators",
            &[(1, yes), (8, no)],
            &[(1, 1, 1), (8, 1, 10), (8, 2, 10)],
            &[(yes, 270), (no, 40)],
            0,
        ),
        ("one who takes all", &[(1, yes), (8, abstain)], &[(1, 1, 1), (8, 1, 100)], &[(yes, 0), (abstain, 300)], 0),
        ("one without validator", &[(1, yes), (8, no)], &[(1, 1, 1), (8, 7, 100)], &[(yes, 300)], 1),
        (
            "a validator that delegates to another",
            &[(1, yes), (2, no)],
            &[(1, 2, 30), (2, 2, 1)],
            &[(yes, 330), (no, 70)],
            0,
        ),
    ];
    for (name, votes, delegations, results, invalid_votes) in cases {
        let votes: Vec<_> = votes.iter().map(|(n, vote)| VoteEntry { voter: addr(*n), vote: *vote }).collect();
        let mut outgoing: BTreeMap<Address, BTreeMap<Address, Quantity>> = BTreeMap::new();
        for (from, to, shares) in delegations {
            outgoing.entry(addr(*from)).or_default().insert(addr(*to), q(*shares));
        }
        let got = tally(&pools(), &votes, &outgoing).unwrap();
        let results = results.iter().map(|(v, n)| (*v, q(*n))).collect();
        assert_eq!(got, epoch::Tally { results, invalid_votes }, "{name}");
    }
    // Stake is rounded down for each validator and vote.
    let pools = [(addr(1), SharePool { balance: q(10), total_shares: q(3) })].into();
    let votes = [VoteEntry { voter: addr(1), vote: yes }, VoteEntry { voter: addr(8), vote: no }];
    let outgoing = [(addr(8), [(addr(1), q(1))].into())].into();
    let got = tally(&pools, &votes, &outgoing).unwrap();
    assert_eq!(got.results, [(yes, q(6)), (no, q(3))].into());
    // More shares than the pool has: the ledger is broken.
    let outgoing = [(addr(8), [(addr(1), q(4))].into())].into();
    assert!(tally(&pools, &votes, &outgoing).is_err());
}

/// Submits the content in epoch 5, lets both validators vote, and closes in epoch 15.
fn decide(w: &mut World, content: &ProposalContent, votes: [Vote; 2]) -> (Run<()>, Proposal) {
    let id = state::next_proposal_id(&w.tree).unwrap();
    submit(w, 9, content).result.unwrap();
    vote(w, 1, id, votes[0]).result.unwrap();
    vote(w, 2, id, votes[1]).result.unwrap();
    assert!(w.new_epoch(Mode::EndBlock, 14, METHOD_CAST_VOTE).events.is_empty(), "not yet");
    let run = w.new_epoch(Mode::EndBlock, 15, METHOD_CAST_VOTE);
    run.result.as_ref().unwrap();
    let p = proposal(w, id);
    assert!(state::active_proposals(&w.tree).unwrap().is_empty());
    assert!(run.has(NAME, &ProposalFinalizedEvent { id, state: p.state }));
    (run, p)
}

#[test]
fn a_passed_upgrade_is_scheduled() {
    let upgrades = Upgrades::default();
    let mut w = with_services(Some(upgrades.clone()));
    let (run, p) = decide(&mut w, &upgrade_at(25), [Vote::YES, Vote::NO]);
    assert_eq!((p.state, p.invalid_votes), (ProposalState::PASSED, 2));
    assert_eq!(p.results, Some([(Vote::YES, q(300)), (Vote::NO, q(100))].into()));
    assert_eq!(run.kinds(), ["proposal_executed", "proposal_finalized", "transfer"]);
    assert!(run.has(NAME, &ProposalExecutedEvent { id: 1 }));
    assert!(run.has(STAKING, &TransferEvent { from: Address::governance_deposits(), to: addr(9), amount: q(100) }));
    assert_eq!((w.balance(9), w.pools()), (q(1000), (q(0), q(0))));
    assert_eq!(state::pending_upgrades(&w.tree).unwrap(), [upgrade(25)]);
    assert_eq!(upgrades.pending(), [PendingUpgrade::new(upgrade(25))]);
}

#[test]
fn a_rejected_proposal_costs_the_deposit() {
    let mut w = world();
    // 300 of 400 is 75 percent.
    set_params(&mut w, |p| p.stake_threshold = 76);
    let (run, p) = decide(&mut w, &upgrade_at(25), [Vote::YES, Vote::ABSTAIN]);
    assert_eq!(p.state, ProposalState::REJECTED);
    assert_eq!(run.kinds(), ["proposal_finalized", "transfer"]);
    assert!(run.has(
        STAKING,
        &TransferEvent { from: Address::governance_deposits(), to: Address::common_pool(), amount: q(100) }
    ));
    assert_eq!((w.balance(9), w.pools()), (q(900), (q(0), q(100))));
    assert!(state::pending_upgrades(&w.tree).unwrap().is_empty());
}

#[test]
fn upgrades_too_near_to_each_other_fail() {
    let mut w = world();
    for epoch in [30, 40] {
        submit(&mut w, 9, &upgrade_at(epoch)).result.unwrap();
    }
    for id in [1, 2] {
        vote(&mut w, 1, id, Vote::YES).result.unwrap();
    }
    let run = w.new_epoch(Mode::EndBlock, 15, METHOD_CAST_VOTE);
    run.result.as_ref().unwrap();
    let states = [proposal(&w, 1).state, proposal(&w, 2).state];
    assert_eq!(states, [ProposalState::PASSED, ProposalState::FAILED]);
    assert_eq!(run.kinds(), ["proposal_executed", "proposal_finalized", "transfer", "proposal_finalized", "transfer"]);
    assert_eq!(state::pending_upgrades(&w.tree).unwrap(), [upgrade(30)]);
    assert_eq!((w.balance(9), w.pools()), (q(1000), (q(0), q(0))), "both deposits are given back");
}

#[test]
fn a_pending_upgrade_is_canceled() {
    let upgrades = Upgrades::default();
    let mut w = with_services(Some(upgrades.clone()));
    add_pending(&mut w, 7, 40);
    w.put(&[0x80], &8u64);
    upgrades.submit(&upgrade(40)).unwrap();
    let (_, p) = decide(&mut w, &cancel(7), [Vote::YES, Vote::YES]);
    assert_eq!(p.state, ProposalState::PASSED);
    assert!(state::pending_upgrades(&w.tree).unwrap().is_empty());
    assert!(upgrades.pending().is_empty());
}

#[test]
fn canceling_twice_fails() {
    let mut w = world();
    add_pending(&mut w, 7, 40);
    w.put(&[0x80], &8u64);
    for _ in 0..2 {
        submit(&mut w, 9, &cancel(7)).result.unwrap();
    }
    for id in [8, 9] {
        vote(&mut w, 1, id, Vote::YES).result.unwrap();
    }
    w.new_epoch(Mode::EndBlock, 15, METHOD_CAST_VOTE).result.unwrap();
    assert_eq!([proposal(&w, 8).state, proposal(&w, 9).state], [ProposalState::PASSED, ProposalState::FAILED]);
}

#[test]
fn parameters_change() {
    let mut w = world();
    let (_, p) = decide(&mut w, &change("governance", &threshold_change(90)), [Vote::YES, Vote::YES]);
    assert_eq!(p.state, ProposalState::PASSED);
    assert_eq!(state::parameters(&w.tree).unwrap(), Parameters { stake_threshold: 90, ..params() });
    let mut w = world();
    let (_, p) = decide(&mut w, &change("vault", b"\xa1\x77max_authority_addresses\x05"), [Vote::YES, Vote::YES]);
    assert_eq!(p.state, ProposalState::PASSED);
    assert_eq!(crate::vault::state::parameters(&w.tree).unwrap().max_authority_addresses, 5);
}

#[test]
fn parameter_changes_are_judged_again_when_they_pass() {
    // Two changes that do not go together, in one block; the threshold for the second is that of the first.
    let mut w = world();
    let period = b"\xa1\x6dvoting_period\x0e";
    let diff = b"\xa1\x76upgrade_min_epoch_diff\x0c";
    for changes in [&period[..], diff] {
        submit(&mut w, 9, &change("governance", changes)).result.unwrap();
    }
    submit(&mut w, 9, &change("governance", &threshold_change(100))).result.unwrap();
    submit(&mut w, 9, &upgrade_at(60)).result.unwrap();
    for id in 1..=4 {
        vote(&mut w, 1, id, Vote::YES).result.unwrap();
    }
    w.new_epoch(Mode::EndBlock, 15, METHOD_CAST_VOTE).result.unwrap();
    let states: Vec<_> = (1..=4).map(|id| proposal(&w, id).state).collect();
    use ProposalState as S;
    assert_eq!(states, [S::PASSED, S::FAILED, S::PASSED, S::REJECTED]);
    // Switched off meanwhile.
    let mut w = world();
    submit(&mut w, 9, &change("governance", &threshold_change(90))).result.unwrap();
    vote(&mut w, 1, 1, Vote::YES).result.unwrap();
    set_params(&mut w, |p| p.enable_change_parameters_proposal = false);
    w.new_epoch(Mode::EndBlock, 15, METHOD_CAST_VOTE).result.unwrap();
    assert_eq!(proposal(&w, 1).state, S::FAILED);
}

#[test]
fn without_stake_nothing_can_be_closed() {
    let mut w = world();
    submit(&mut w, 9, &upgrade_at(25)).result.unwrap();
    w.add_validator(1, 101, 0, 0);
    w.add_validator(2, 102, 0, 0);
    assert!(w.new_epoch(Mode::EndBlock, 15, METHOD_CAST_VOTE).result.is_err());
    assert!(w.new_epoch(Mode::EndBlock, 16, METHOD_CAST_VOTE).result.is_ok(), "nothing closes then");
}

#[test]
fn a_due_upgrade_stops_nodes_that_do_not_follow() {
    for (name, manager, stops) in [
        ("no manager", None, false),
        ("unknown to the node", Some(Manager::default()), true),
        ("not begun", Some(Manager::new(vec![PendingUpgrade::new(upgrade(40))]).unwrap()), true),
        (
            "begun",
            Some({
                let p =
                    PendingUpgrade { upgrade_height: 10, last_completed_stage: 1, ..PendingUpgrade::new(upgrade(40)) };
                Manager::new(vec![p]).unwrap()
            }),
            false,
        ),
    ] {
        let mut w = with_services(manager.map(Upgrades::new));
        add_pending(&mut w, 6, 40);
        add_pending(&mut w, 7, 60);
        w.new_epoch(Mode::BeginBlock, 39, METHOD_CAST_VOTE).result.unwrap();
        w.set_epoch(39);
        let run = w.new_epoch(Mode::BeginBlock, 40, METHOD_CAST_VOTE);
        if stops {
            assert_eq!(run.code(), ("upgrade", 1), "{name}");
        } else {
            run.result.as_ref().unwrap();
            assert_eq!(state::pending_upgrades(&w.tree).unwrap(), [upgrade(60)], "{name}");
        }
    }
}

#[test]
fn a_state_sync_brings_pending_upgrades() {
    let upgrades = Upgrades::default();
    upgrades.submit(&upgrade(40)).unwrap();
    let mut w = with_services(Some(upgrades.clone()));
    add_pending(&mut w, 6, 40);
    add_pending(&mut w, 7, 60);
    let run = w.run(Mode::EndBlock, None, PLENTY, |ctx| ctx.dispatch(&Message::StateSyncCompleted));
    assert_eq!(run.result.unwrap(), None);
    let pending: Vec<_> = upgrades.pending().into_iter().filter_map(|p| p.descriptor).collect();
    assert_eq!(pending, [upgrade(40), upgrade(60)]);
}

#[test]
fn genesis_in_and_out() {
    let active =
        Proposal { id: 3, state: ProposalState::ACTIVE, closes_at: 9, content: upgrade_at(30), ..Default::default() };
    let passed = Proposal { id: 8, state: ProposalState::PASSED, content: upgrade_at(60), ..Default::default() };
    let votes = vec![VoteEntry { voter: addr(1), vote: Vote::YES }, VoteEntry { voter: addr(2), vote: Vote::NO }];
    let mut sorted = votes.clone();
    sorted.sort_by_key(|v| v.voter);
    let section = Genesis {
        parameters: params(),
        proposals: vec![active.clone(), passed],
        vote_entries: [(3, Some(votes))].into(),
    };
    let mut w = World::new(vec![Box::new(Governance::default())]);
    w.run(Mode::InitChain, None, PLENTY, |ctx| genesis::init_chain(ctx, &section)).result.unwrap();
    assert_eq!(state::next_proposal_id(&w.tree).unwrap(), 9);
    assert_eq!(state::active_proposals(&w.tree).unwrap(), [active]);
    let exported = query::genesis(&w.tree).unwrap();
    let want = Genesis { vote_entries: [(3, Some(sorted)), (8, None)].into(), ..section.clone() };
    assert_eq!(exported, want);
    assert!(base_codec::json::to_string(&exported).contains(r#""8":null"#));
    let empty = Genesis { parameters: params(), ..Genesis::default() };
    let mut w = World::new(Vec::new());
    w.run(Mode::InitChain, None, PLENTY, |ctx| genesis::init_chain(ctx, &empty)).result.unwrap();
    assert_eq!(w.get::<u64>(&[0x80]), Some(1));
    assert_eq!(query::genesis(&w.tree).unwrap(), empty);
    // At the beginning of a network the epoch is invalid, so no upgrade is ever pending from genesis.
    assert!(wire_consensus::governance::pending_upgrades(&section.proposals, EPOCH_INVALID).is_empty());
}

#[test]
fn keys_of_the_state() {
    let mut w = world();
    submit(&mut w, 9, &upgrade_at(25)).result.unwrap();
    vote(&mut w, 1, 1, Vote::YES).result.unwrap();
    add_pending(&mut w, 2, 0x1_0000);
    let keys: Vec<String> = w.pairs().into_iter().map(|(k, _)| hex(&k)).filter(|k| k.starts_with('8')).collect();
    let voter = hex(addr(1).as_bytes());
    assert_eq!(
        keys,
        [
            "80".to_owned(),
            "810000000000000001".to_owned(),
            "810000000000000002".to_owned(),
            "82000000000000000f0000000000000001".to_owned(),
            format!("830000000000000001{voter}"),
            "8400000000000100000000000000000002".to_owned(),
            "85".to_owned(),
        ]
    );
    assert_eq!(cbor::to_vec(&Vote::YES), [1]);
    assert_ne!(key(1), key(2));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
