//! States that do not hold together, one for each kind of check; that recorded chains pass is tested by their replay.

use std::num::NonZeroU64;

use apps_core::kv;
use base_prims::{Hash, Namespace};
use comet_chain::app::{Fatal, ProposedBlock};
use mkvs_tree::{KvWrite, Sequential, Tree};
use wire_cometbft::{Message as _, block::Block};
use wire_consensus::{
    churp, governance as gov,
    governance::{ProposalState, Vote},
    keymanager,
    registry::Runtime,
    roothash::{LivenessStatistics, Pool},
    scheduler::Committee,
    staking::{CommissionRateStep, Delegation, StakeAccumulator},
};

use super::*;
use crate::{
    MemoryStore, NodeApp, NodeOptions, StateStore, build_mux,
    tests::{Rng, chain, local, world::World},
};

/// A recorded state, its document and where it is in its chain.
struct Recorded {
    doc: Document,
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    height: i64,
    time: Time,
}

impl Recorded {
    /// The state after the last block of a chain.
    fn last_of(name: &str) -> Self {
        let (chain, doc) = chain(name);
        let mut tree = Tree::in_memory();
        for diff in chain.state_diffs().unwrap() {
            for (key, value) in diff.diff {
                match value {
                    Some(value) => tree.insert(&key, &value).unwrap(),
                    None => KvWrite::remove(&mut tree, &key).unwrap(),
                }
            }
        }
        let blocks = chain.blocks().unwrap();
        let last = Block::decode(&blocks.last().unwrap().block).unwrap().header;
        Self { doc, pairs: kv::collect(&tree, &[]).unwrap(), height: last.height, time: last.time }
    }

    fn tree(&self) -> Tree {
        let mut tree = Tree::in_memory();
        self.pairs.iter().for_each(|(key, value)| tree.insert(key, value).unwrap());
        tree
    }

    fn check(&self, state: &Tree, change: impl FnOnce(&mut SanityAt<'_>)) -> Result<()> {
        let (chain, local, blacklist) = (self.doc.chain_context(), local(), self.doc.blacklist(true));
        let mut at = SanityAt {
            chain: &chain,
            height: self.height,
            time: self.time,
            epoch: epoch::of_state(state)?.epoch,
            blacklist: &blacklist,
            local: &local,
        };
        change(&mut at);
        check_state(state, &at)
    }

    /// The state passes, but not after the change, which `expected` names.
    #[track_caller]
    fn spoiled(&self, part: &str, expected: &str, change: impl FnOnce(&mut Tree)) {
        let mut tree = self.tree();
        self.check(&tree, |_| {}).unwrap();
        change(&mut tree);
        let found = self.check(&tree, |_| {}).expect_err(expected).to_string();
        let start = format!("supplementary sanity: check of {part} failed: ");
        assert!(found.starts_with(&start) && found.contains(expected), "{found}\ninstead of {start}.. {expected}");
    }
}

fn traffic() -> Recorded {
    Recorded::last_of("runtime-txsource-multi-short")
}

fn managed() -> Recorded {
    Recorded::last_of("runtime-keymanager-churp-txs-short")
}

fn suspended() -> Recorded {
    Recorded::last_of("runtime-byzantine-primary-worker-primary-scheduler-invalid-batch-hash")
}

/// Changes the first value under a prefix, decoded.
fn edit<T: base_codec::cbor::Decode + base_codec::cbor::Encode>(
    tree: &mut Tree,
    prefix: u8,
    change: impl FnOnce(&mut T),
) {
    let (key, raw) = kv::collect(tree, &[prefix]).unwrap().into_iter().next().expect("a value to change");
    let mut value = kv::decode(&key, &raw).unwrap();
    change(&mut value);
    kv::put(tree, &key, &value).unwrap();
}

/// Changes the first account that `pick` takes.
fn edit_account(tree: &mut Tree, pick: impl Fn(&Account) -> bool, change: impl FnOnce(&mut Account)) {
    let (address, mut account) = accounts(tree).unwrap().into_iter().find(|(_, a)| pick(a)).expect("an account");
    change(&mut account);
    staking::set_account(tree, &address, &account).unwrap();
}

fn runtime_state(tree: &Tree, suspended: bool) -> RuntimeState {
    let all = roothash::state::runtime_states(tree).unwrap();
    all.into_iter().find(|r| r.suspended == suspended).expect("a runtime")
}

#[test]
fn epochs() {
    let recorded = managed();
    let error = recorded.check(&recorded.tree(), |at| at.epoch = EPOCH_INVALID).unwrap_err();
    assert!(error.to_string().contains("check of epoch failed: current epoch is invalid"), "{error}");
}

#[test]
fn registrations() {
    let recorded = managed();
    let case = |expected: &str, change: fn(&mut Tree)| recorded.spoiled("registry", expected, change);
    case("invalid signature", |tree| {
        edit(tree, 0x10, |e: &mut wire_consensus::entity::SignedEntity| e.signature.signature = Default::default());
    });
    case("references a missing entity", |tree| {
        let owner = registry::nodes(tree).unwrap()[0].entity_id;
        registry::remove_entity(tree, &owner).unwrap();
    });
    case("node sanity check failed", |tree| {
        edit(tree, 0x11, |n: &mut wire_consensus::node::MultiSignedNode| {
            n.signatures.as_mut().unwrap().pop();
        });
    });
    case("node sanity check failed", |tree| {
        // No runtime that nodes registered for.
        let all = registry::runtimes(tree).unwrap();
        let id = all.iter().find(|r| r.is_compute()).unwrap().id;
        kv::remove(tree, &kv::Key::new(0x13).namespace_hash(&id)).unwrap();
    });
    case("runtime sanity check failed", |tree| edit(tree, 0x13, |r: &mut Runtime| r.deployments.clear()));
    case("duplicate (suspended) runtime", |tree| {
        let runtime = registry::runtimes(tree).unwrap().remove(0);
        registry::set_runtime(tree, &runtime, true).unwrap();
    });
    case("no registry parameters", |tree| kv::remove(tree, &[0x16]).unwrap());
}

#[test]
fn runtimes() {
    let recorded = managed();
    let case = |expected: &str, change: fn(&mut RuntimeState)| {
        recorded.spoiled("roothash", expected, |tree| {
            let mut rt = runtime_state(tree, false);
            change(&mut rt);
            roothash::state::set_runtime_state(tree, &rt).unwrap();
        });
    };
    case("is in the future", |r| r.last_block.header.timestamp.0 += 2 * MAX_BLOCK_LEAD);
    case("should have a committee", |r| r.committee = None);
    case("should gather executor commitments", |r| r.commitment_pool = None);
    case("is not scheduled at 1000000", |r| r.timeout = 1_000_000);

    let recorded = suspended();
    let case = |expected: &str, change: fn(&mut RuntimeState)| {
        recorded.spoiled("roothash", expected, |tree| {
            let mut rt = runtime_state(tree, true);
            change(&mut rt);
            roothash::state::set_runtime_state(tree, &rt).unwrap();
        });
    };
    case("should not have a committee", |r| r.committee = Some(Committee::default()));
    case("should not gather executor commitments", |r| r.commitment_pool = Some(Pool::new()));
    case("should not gather statistics", |r| r.liveness_stats = Some(LivenessStatistics::default()));
    case("should not be scheduled at 7", |r| r.timeout = 7);
}

#[test]
fn round_timeouts() {
    let recorded = managed();
    let height = recorded.height;
    let schedule = |tree: &mut Tree, at: i64| {
        let id = runtime_state(tree, false).runtime.id;
        roothash::state::schedule_timeout(tree, &id, at).unwrap();
    };
    recorded.spoiled("roothash", "did not trigger", |tree| schedule(tree, height - 1));
    recorded.spoiled("roothash", "instead of 0", |tree| schedule(tree, height + 5));
    recorded.spoiled("roothash", "twice or for no runtime", |tree| {
        roothash::state::schedule_timeout(tree, &Namespace::ZERO, height).unwrap();
    });
    // A timeout that both agree on is fine.
    let mut tree = recorded.tree();
    let mut rt = runtime_state(&tree, false);
    rt.timeout = height;
    roothash::state::set_runtime_state(&mut tree, &rt).unwrap();
    schedule(&mut tree, height);
    recorded.check(&tree, |_| {}).unwrap();
}

#[test]
fn supply() {
    let recorded = traffic();
    let case = |expected: &str, change: fn(&mut Tree)| recorded.spoiled("staking", expected, change);
    let total = "is not the total supply";
    case(total, |tree| {
        let supply = staking::total_supply(tree).unwrap().add(&1u64.into());
        staking::set_total_supply(tree, &supply).unwrap();
    });
    case(total, |tree| {
        let pool = staking::common_pool(tree).unwrap().add(&1u64.into());
        staking::set_common_pool(tree, &pool).unwrap();
    });
    case(total, |tree| {
        let fees = staking::last_block_fees(tree).unwrap().add(&1u64.into());
        staking::set_last_block_fees(tree, &fees).unwrap();
    });
    case(total, |tree| {
        let deposits = staking::governance_deposits(tree).unwrap().add(&1u64.into());
        staking::set_governance_deposits(tree, &deposits).unwrap();
    });
    for change in [
        (|a: &mut Account| a.general.balance.add_assign(&1u64.into())) as fn(&mut Account),
        |a| a.escrow.active.balance.add_assign(&1u64.into()),
        |a| a.escrow.debonding.balance.add_assign(&1u64.into()),
    ] {
        recorded.spoiled("staking", total, |tree| edit_account(tree, |_| true, change));
    }
}

#[test]
fn pools_and_delegations() {
    let recorded = traffic();
    let case = |expected: &str, change: fn(&mut Tree)| recorded.spoiled("staking", expected, change);
    case("active delegations", |tree| edit(tree, 0x53, |d: &mut Delegation| d.shares.add_assign(&1u64.into())));
    case("debonding delegations", |tree| {
        edit(tree, 0x54, |d: &mut wire_consensus::staking::DebondingDelegation| d.shares.add_assign(&1u64.into()));
    });
    case("active delegations", |tree| {
        edit_account(tree, |_| true, |a| a.escrow.active.total_shares.add_assign(&1u64.into()));
    });
    case("debonding delegations", |tree| {
        edit_account(tree, |_| true, |a| a.escrow.debonding.total_shares.add_assign(&1u64.into()));
    });
    case("active delegations", |tree| {
        // To an account that does not exist.
        let (from, to) = (Address::of_runtime(&Namespace::ZERO), Address::of_key(&[7; 32].into()));
        staking::set_delegation(tree, &from, &to, &Delegation { shares: 1u64.into() }).unwrap();
    });
    case("delegator address is invalid", |tree| {
        let (from, to) = (Address::common_pool(), Address::of_key(&[7; 32].into()));
        staking::set_delegation(tree, &from, &to, &Delegation { shares: 1u64.into() }).unwrap();
    });
}

#[test]
fn accounts_and_parameters() {
    let recorded = traffic();
    let case = |expected: &str, change: fn(&mut Tree)| recorded.spoiled("staking", expected, change);
    case("invalid account address", |tree| {
        kv::put(tree, &kv::Key::new(0x50).address(&Address::common_pool()), &Account::default()).unwrap();
    });
    case("greater than total supply", |tree| {
        let most = staking::total_supply(tree).unwrap().add(&1u64.into());
        edit_account(
            tree,
            |_| true,
            |a| {
                a.general.allowances.insert(Address::of_key(&[9; 32].into()), most);
            },
        );
    });
    case("invalid beneficiary", |tree| {
        edit_account(
            tree,
            |_| true,
            |a| {
                a.general.allowances.insert(Address::common_pool(), 1u64.into());
            },
        );
    });
    case("commission schedule for account", |tree| {
        let step = CommissionRateStep { start: 1_000_000, rate: 1_000_000_000u64.into() };
        edit_account(
            tree,
            |a| a.escrow.commission_schedule.is_empty(),
            |a| {
                a.escrow.commission_schedule.rates = vec![step];
            },
        );
    });
    case("listed as having a commission schedule", |tree| {
        kv::put_raw(tree, &kv::Key::new(0x5b).address(&Address::of_runtime(&Namespace::ZERO)), &[]).unwrap();
    });
    case("threshold for kind", |tree| {
        edit(tree, 0x56, |p: &mut wire_consensus::staking::Parameters| p.thresholds.clear());
    });
}

#[test]
fn key_managers() {
    let recorded = managed();
    let case = |expected: &str, change: fn(&mut keymanager::Status)| {
        recorded.spoiled("keymanager", expected, |tree| edit(tree, 0x70, change));
    };
    case("runtime ID", |s| s.id = Namespace::ZERO);
    case("node ID", |s| s.nodes = Some(vec![base_crypto::blacklist::BURN.into()]));
    let recorded = Recorded::last_of("../chains-recorded/keymanager-policy");
    recorded.spoiled("keymanager", "SGX policy", |tree| {
        edit(tree, 0x70, |s: &mut keymanager::Status| {
            let policy = s.policy.as_mut().expect("a policy");
            policy.signatures.as_mut().unwrap()[0].signature = Default::default();
        })
    });
}

#[test]
fn parameters_of_other_services() {
    let recorded = managed();
    recorded.spoiled("scheduler", "", |tree| kv::remove(tree, &[0x63]).unwrap());
    recorded.spoiled("beacon", "", |tree| kv::remove(tree, &[0x43]).unwrap());
    recorded.spoiled("consensus", "state belongs to chain", |tree| {
        let other = ChainContext::from_hash(Hash::of(&[b"another network"]).as_bytes());
        params::set_chain_context(tree, &other).unwrap();
    });
}

#[test]
fn proposals() {
    let recorded = traffic();
    let case = |expected: &str, change: fn(&mut Tree)| recorded.spoiled("governance", expected, change);
    let first = |tree: &Tree, state: ProposalState| {
        governance::proposals(tree).unwrap().into_iter().find(|p| p.state == state).expect("a proposal")
    };
    for (expected, state, change) in [
        ("in the future", ProposalState::ACTIVE, (|p| p.created_at = 1 << 40) as fn(&mut gov::Proposal)),
        ("invalid proposal submitter", ProposalState::ACTIVE, |p| p.submitter = Address::common_pool()),
        ("past closing epoch", ProposalState::ACTIVE, |p| p.closes_at = 0),
        ("with results", ProposalState::ACTIVE, |p| p.results = Some([(Vote::YES, 1u64.into())].into())),
        ("invalid votes", ProposalState::ACTIVE, |p| p.invalid_votes = 1),
        ("doesn't match governance deposit", ProposalState::ACTIVE, |p| p.deposit.add_assign(&1u64.into())),
        ("future closing epoch", ProposalState::ACTIVE, |p| p.state = ProposalState::REJECTED),
    ] {
        recorded.spoiled("governance", expected, |tree| {
            let mut proposal = first(tree, state);
            change(&mut proposal);
            governance::set_proposal(tree, &proposal).unwrap();
        });
    }
    case("invalid voter", |tree| {
        let id = governance::proposals(tree).unwrap()[0].id;
        governance::set_vote(tree, id, &Address::common_pool(), Vote::YES).unwrap();
    });
    case("stake threshold", |tree| edit(tree, 0x85, |p: &mut gov::Parameters| p.stake_threshold = 50));
    case("no such proposal", |tree| governance::set_pending_upgrade(tree, 1_000_000, 1).unwrap());
    recorded.spoiled("governance", "past upgrade epoch", |tree| {
        let mut proposal = governance::proposals(tree).unwrap().remove(0);
        let version = wire_consensus::upgrade::LATEST_DESCRIPTOR_VERSION;
        let target = base_prims::version::PROTOCOLS;
        let upgrade = wire_consensus::upgrade::Descriptor { v: version, handler: "handler".into(), target, epoch: 1 };
        proposal.state = ProposalState::PASSED;
        (proposal.closes_at, proposal.content.upgrade) = (0, Some(upgrade));
        let mut deposits = staking::governance_deposits(tree).unwrap();
        let before = governance::proposals(tree).unwrap().remove(0);
        if before.state == ProposalState::ACTIVE {
            deposits = deposits.sub(&before.deposit).unwrap();
            // The deposit goes where the supply stays whole.
            let pool = staking::common_pool(tree).unwrap().add(&before.deposit);
            staking::set_common_pool(tree, &pool).unwrap();
            staking::set_governance_deposits(tree, &deposits).unwrap();
        }
        governance::set_proposal(tree, &proposal).unwrap();
        governance::set_pending_upgrade(tree, proposal.id, 1).unwrap();
    });
}

#[test]
fn stake_claims() {
    let recorded = managed();
    let part = "stake claims";
    let claims = |change: fn(&mut StakeAccumulator)| {
        move |tree: &mut Tree| {
            edit_account(
                tree,
                |a| !a.escrow.stake_accumulator.claims.is_empty(),
                |a| change(&mut a.escrow.stake_accumulator),
            );
        }
    };
    recorded.spoiled(part, "incorrect number of stake claims", claims(|s| drop(s.claims.pop_first())));
    recorded.spoiled(part, "incorrect number of stake claims", claims(|s| s.add_claim_unchecked("other", &[])));
    recorded.spoiled(
        part,
        "missing claim",
        claims(|s| {
            let (_, list) = s.claims.pop_first().unwrap();
            s.claims.insert("other".to_owned(), list);
        }),
    );
    recorded.spoiled(
        part,
        "incorrect thresholds",
        claims(|s| {
            let name = s.claims.keys().next().unwrap().clone();
            s.add_claim_unchecked(&name, &[StakeThreshold::constant(7u64.into())]);
        }),
    );
    recorded.spoiled(part, "nobody answers for the key manager", |tree| {
        edit(tree, 0x75, |_: &mut churp::Status| {});
        let mut status = churp_state(tree);
        status.identity.runtime_id = Namespace::ZERO;
        apps_keymanager::churp::state::set_status(tree, &status).unwrap();
    });
    recorded.spoiled(part, "incorrect number of stake claims", |tree| {
        let mut status = churp_state(tree);
        status.identity.id = 200;
        apps_keymanager::churp::state::set_status(tree, &status).unwrap();
    });
}

fn churp_state(tree: &Tree) -> churp::Status {
    apps_keymanager::churp::state::all_statuses(tree).unwrap().remove(0)
}

#[test]
fn every_interval_has_one_height() {
    for interval in [1u64, 2, 7, 100] {
        let schedule = SanitySchedule { interval: NonZeroU64::new(interval).unwrap(), seed: 42 };
        let due: Vec<i64> = (0..100 * interval.cast_signed()).filter(|h| schedule.is_due(*h)).collect();
        let intervals: Vec<i64> = due.iter().map(|h| h / interval.cast_signed()).collect();
        assert_eq!(intervals, (0..100).collect::<Vec<_>>(), "interval {interval}");
        let places: std::collections::BTreeSet<i64> = due.iter().map(|h| h % interval.cast_signed()).collect();
        assert!(places.len() > (interval > 1).into(), "interval {interval}: always the same place");
        let other = SanitySchedule { seed: 43, ..schedule };
        assert_eq!(
            due == (0..100 * interval.cast_signed()).filter(|h| other.is_due(*h)).collect::<Vec<_>>(),
            interval == 1
        );
        assert!(!schedule.is_due(-1));
    }
}

/// The node stops at a block whose state is spoiled, if and only if it is to check that block.
#[test]
fn a_spoiled_state_stops_the_node() {
    let recorded = managed();
    let mut tree = recorded.tree();
    let pool = staking::common_pool(&tree).unwrap().add(&1u64.into());
    staking::set_common_pool(&mut tree, &pool).unwrap();
    let changes: Vec<_> = kv::collect(&tree, &[]).unwrap().into_iter().map(|(k, v)| (k, Some(v))).collect();
    let block = ProposedBlock { height: recorded.height + 1, time: recorded.time, ..ProposedBlock::default() };
    let run = |schedule: Option<SanitySchedule>| {
        let mut store = MemoryStore::new(Box::new(Sequential));
        store.apply(&changes).unwrap();
        store.commit(recorded.height.unsigned_abs()).unwrap();
        let local = LocalConfig { supplementary_sanity: schedule, ..local() };
        let mux = build_mux(&recorded.doc, NodeOptions { local, upgrades: None });
        assert_eq!(mux.services().last().unwrap().name() == NAME, schedule.is_some());
        let mut app = NodeApp::new(mux, Box::new(store), None);
        app.resume().unwrap();
        app.execute(&block)
    };
    let every = SanitySchedule { interval: NonZeroU64::MIN, seed: 0 };
    match run(Some(every)) {
        Err(Fatal::Internal(text)) => {
            assert!(text.contains("end of block in service 999_supplementarysanity"), "{text}");
            assert!(text.contains("check of staking failed"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    // Without the checks it gets further: there is no block metadata.
    assert!(matches!(run(None), Err(Fatal::InvalidBlock { .. })));
    let never = (1..).map(|seed| SanitySchedule { interval: NonZeroU64::new(1000).unwrap(), seed });
    let never = never.into_iter().find(|s| !s.is_due(block.height)).unwrap();
    assert!(matches!(run(Some(never)), Err(Fatal::InvalidBlock { .. })));
}

/// Random traffic, with a check of everything after each block.
#[test]
fn random_traffic_passes() {
    let mut world = World::new(false);
    let mut rng = Rng::new(5);
    let mut traffic = crate::tests::traffic::Traffic::new(world.app.mux().chain().clone());
    let blacklist = world.export().blacklist(true);
    world.block(&mut rng, &[]);
    for _ in 0..40 {
        traffic.prepare(&world);
        let txs: Vec<_> = (0..50).map(|_| traffic.transaction(&mut rng).1).collect();
        world.block(&mut rng, &txs);
        let (chain, local) = (world.app.mux().chain().clone(), local());
        let at = SanityAt {
            chain: &chain,
            height: world.height,
            time: world.time(world.height),
            epoch: world.epoch(),
            blacklist: &blacklist,
            local: &local,
        };
        check_state(world.state(), &at).unwrap_or_else(|e| panic!("height {}: {e}", world.height));
    }
}
