//! Rules of blocks and epochs: fees, rewards, debonding, penalties.

use comet_chain::app::{LastCommitInfo, Misbehavior, MisbehaviorKind, VoteInfo};
use wire_consensus::{
    node::{ConsensusInfo, LATEST_VERSION, MultiSignedNode, Node, Roles},
    registry::{FREEZE_FOREVER, NodeStatus},
    staking::{
        CommissionRateStep, CommissionScheduleRules, Delegation, Escrow, METHOD_ADD_ESCROW, METHOD_RECLAIM_ESCROW,
        ReclaimEscrow, RewardStep, Slash, SlashReason,
    },
};

use super::*;
use crate::{fees, nodes, rewards, slashing};

/// Registers a node of account `n` that validates with key `100 + n`.
fn register(world: &mut World, n: u8) -> [u8; 20] {
    let node = Node {
        v: LATEST_VERSION,
        id: key(50 + n),
        entity_id: key(n),
        consensus: ConsensusInfo { id: key(100 + n), ..ConsensusInfo::default() },
        roles: Roles::VALIDATOR,
        ..Node::default()
    };
    let blob = base_codec::cbor::to_vec(&node);
    let signed = MultiSignedNode { untrusted_raw_value: Some(base_codec::Bytes(blob)), signatures: None };
    let address = key(100 + n).comet_address();
    kv::put(&mut world.state, &kv::Key::new(nodes::NODE).key_hash(&node.id), &signed).unwrap();
    kv::put_raw(&mut world.state, &kv::Key::new(nodes::BY_CONSENSUS_ADDRESS).raw(&address), node.id.as_bytes())
        .unwrap();
    nodes::set_node_status(&mut world.state, &node.id, &NodeStatus::default()).unwrap();
    address
}

fn block(proposer: [u8; 20], votes: &[([u8; 20], bool)], misbehavior: Vec<Misbehavior>) -> BlockContext {
    let votes = votes.iter().map(|(address, signed)| VoteInfo {
        address: wire_cometbft::keys::Address(*address),
        power: 1,
        signed_last_block: *signed,
    });
    let mut block = BlockContext::default();
    block.proposer_address = proposer.to_vec();
    block.last_commit = LastCommitInfo { round: 0, votes: votes.collect() };
    block.misbehavior = misbehavior;
    block
}

#[test]
fn fees_go_to_proposer_voters_and_next_proposer() {
    let mut world = World::new(parameters());
    let nodes: Vec<_> = (1..=3).map(|n| register(&mut world, n)).collect();
    // Weights 2 : 1 : 1, so half of 100 goes to the proposer of the block.
    let (_, events) = world.run_block(Mode::BeginBlock, block(nodes[0], &[], vec![]), |ctx| {
        Staking.begin_block(ctx).unwrap();
        ctx.block_data::<fees::BlockFees>().0 = q(100);
        ctx.begin_phase(Mode::EndBlock);
        Staking.end_block(ctx).unwrap();
    });
    assert_eq!(kinds(&events), ["transfer"]);
    assert_eq!((world.balance(1), state::last_block_fees(&world.state).unwrap()), (q(1050), q(50)));
    // 50 / 3 = 16 for each validator: 8 for the vote and 8 for the next proposer, who gets it for two votes.
    let votes = [(nodes[0], true), (nodes[1], true), (nodes[2], false)];
    let (_, events) = world.run_block(Mode::BeginBlock, block(nodes[2], &votes, vec![]), |ctx| {
        Staking.begin_block(ctx).unwrap();
        ctx.begin_phase(Mode::EndBlock).len()
    });
    assert!(events.is_empty());
    assert_eq!((world.balance(1), world.balance(2), world.balance(3)), (q(1058), q(1008), q(1016)));
    assert_eq!(state::common_pool(&world.state).unwrap(), q(10_018));
    // Nobody known proposed: the common pool gets the proposer's part.
    world.run_block(Mode::EndBlock, block([9; 20], &[], vec![]), |ctx| {
        ctx.block_data::<fees::BlockFees>().0 = q(100);
        Staking.end_block(ctx).unwrap();
    });
    assert_eq!(state::common_pool(&world.state).unwrap(), q(10_068));
}

#[test]
fn debonding_ends_after_the_interval() {
    let mut world = World::new(parameters());
    assert_eq!(world.call(1, METHOD_ADD_ESCROW, &Escrow { account: addr(2), amount: q(300) }), Ok(()));
    for (epoch, shares) in [(11, 100), (12, 50), (12, 50)] {
        world.set_epoch(epoch);
        let body = ReclaimEscrow { account: addr(2), shares: q(shares) };
        assert_eq!(world.call(1, METHOD_RECLAIM_ESCROW, &body), Ok(()));
    }
    // Slashing hits debonding stake too: a quarter of everything.
    world.run(Mode::BeginBlock, |ctx| slashing::slash_escrow(ctx, &addr(2), &q(75)).unwrap());
    let mut balances = Vec::new();
    for epoch in 13..=16 {
        let (_, events) = world.run(Mode::EndBlock, |ctx| {
            kv::put(&mut ctx.state(), &epoch::KEY_CURRENT, &EpochTimeState { epoch, height: 11 }).unwrap();
            Staking.end_block(ctx).unwrap();
        });
        world.set_epoch(epoch);
        balances.push((world.balance(1), kinds(&events).len()));
    }
    assert_eq!(balances, [(q(700), 0), (q(775), 1), (q(850), 1), (q(850), 0)]);
    assert!(state::debonding_delegations(&world.state).unwrap().is_empty());
    assert!(state::expired_debonding_queue(&world.state, u64::MAX).unwrap().is_empty());
    assert_eq!(state::account(&world.state, &addr(2)).unwrap().escrow.debonding.balance, q(0));
}

#[test]
fn slashing_splits_between_pools_and_freezes_once() {
    let mut params = parameters();
    let slash = |freeze_interval| Slash { amount: q(90), freeze_interval };
    params.slashing = [
        (SlashReason::CONSENSUS_EQUIVOCATION, slash(7)),
        (SlashReason::CONSENSUS_LIGHT_CLIENT_ATTACK, slash(u64::MAX)),
    ]
    .into();
    for (kind, frozen_until) in
        [(MisbehaviorKind::DuplicateVote, 17), (MisbehaviorKind::LightClientAttack, FREEZE_FOREVER)]
    {
        let mut world = World::new(params.clone());
        let address = register(&mut world, 2);
        assert_eq!(world.call(1, METHOD_ADD_ESCROW, &Escrow { account: addr(2), amount: q(300) }), Ok(()));
        let body = ReclaimEscrow { account: addr(2), shares: q(100) };
        assert_eq!(world.call(1, METHOD_RECLAIM_ESCROW, &body), Ok(()));
        let item = |address| Misbehavior {
            kind,
            address: wire_cometbft::keys::Address(address),
            power: 1,
            height: 3,
            time: wire_consensus::Time::default(),
            total_voting_power: 1,
        };
        // The second item is of the same node, the third of an unknown one.
        let evidence = vec![item(address), item(address), item([1; 20])];
        let (_, events) = world.run_block(Mode::BeginBlock, block(address, &[], evidence), |ctx| {
            Staking.begin_block(ctx).unwrap();
        });
        assert_eq!(kinds(&events), ["take_escrow"]);
        let escrow = state::account(&world.state, &addr(2)).unwrap().escrow;
        assert_eq!((escrow.active.balance, escrow.debonding.balance), (q(140), q(70)));
        assert_eq!(state::common_pool(&world.state).unwrap(), q(10_090));
        assert_eq!(nodes::node_status(&world.state, &key(52)).unwrap().freeze_end_time, frozen_until);
    }
}

#[test]
fn rewards_follow_the_schedule() {
    let mut params = parameters();
    // Scale 1 is 1/100000000 of stake and factor; the factor makes it 10% and 5%.
    params.reward_schedule = vec![RewardStep { until: 12, scale: q(10) }, RewardStep { until: 14, scale: q(5) }];
    params.commission_schedule_rules = CommissionScheduleRules { min_commission_rate: q(0), ..Default::default() };
    let mut world = World::new(params);
    assert_eq!(world.call(1, METHOD_ADD_ESCROW, &Escrow { account: addr(2), amount: q(1000) }), Ok(()));
    let mut account = state::account(&world.state, &addr(2)).unwrap();
    account.escrow.commission_schedule.rates = vec![CommissionRateStep { start: 12, rate: q(20_000) }];
    state::set_account(&mut world.state, &addr(2), &account).unwrap();
    let factor = q(1_000_000);
    let mut log = Vec::new();
    for epoch in 10..=14 {
        let (_, events) =
            world.run(Mode::EndBlock, |ctx| rewards::add_rewards(ctx, epoch, &factor, &[addr(2), addr(3)]).unwrap());
        let pool = state::account(&world.state, &addr(2)).unwrap().escrow.active;
        log.push((pool.balance.to_u64().unwrap(), pool.total_shares.to_u64().unwrap(), kinds(&events).len()));
    }
    // From epoch 12 on a fifth is commission: 12 of 60 tokens, for which 1258 / 1000 is paid per share.
    assert_eq!(log, [(1100, 1000, 1), (1210, 1000, 1), (1270, 1009, 3), (1333, 1018, 3), (1333, 1018, 0)]);
    assert_eq!(state::delegation(&world.state, &addr(2), &addr(2)).unwrap(), Delegation { shares: q(18) });
    assert_eq!(state::common_pool(&world.state).unwrap(), q(10_000 - 333));

    // What the pool cannot pay is not paid at all.
    state::set_common_pool(&mut world.state, &q(9)).unwrap();
    world.run(Mode::EndBlock, |ctx| rewards::add_rewards(ctx, 11, &factor, &[addr(2)]).unwrap());
    assert_eq!(state::common_pool(&world.state).unwrap(), q(9));
    world.run(Mode::EndBlock, |ctx| {
        rewards::add_reward_single_attenuated(ctx, 11, &factor, 1, 20, &addr(2)).unwrap();
    });
    assert_eq!(state::common_pool(&world.state).unwrap(), q(3));
}

#[test]
fn signers_of_enough_blocks_are_rewarded() {
    let mut params = parameters();
    params.reward_schedule = vec![RewardStep { until: 100, scale: q(10) }];
    params.reward_factor_epoch_signed = q(1_000_000);
    (params.signing_reward_threshold_numerator, params.signing_reward_threshold_denominator) = (3, 4);
    let mut world = World::new(params);
    for n in 1..=2 {
        assert_eq!(world.call(n, METHOD_ADD_ESCROW, &Escrow { account: addr(n), amount: q(100) }), Ok(()));
    }
    for signers in [&[key(1), key(2)][..], &[key(1), key(2)], &[key(1)], &[]] {
        world.run(Mode::BeginBlock, |ctx| rewards::count_signers(ctx, signers).unwrap());
    }
    world.run(Mode::EndBlock, |ctx| rewards::reward_signers(ctx, 11).unwrap());
    assert_eq!(state::escrow_balance(&world.state, &addr(1)).unwrap(), q(110));
    assert_eq!(state::escrow_balance(&world.state, &addr(2)).unwrap(), q(100));
    assert_eq!(state::epoch_signing(&world.state).unwrap().total, 0);
    assert_eq!(base_codec::cbor::to_vec(&state::EpochSigning::default()), b"\xa2\x65Total\x00\x68ByEntity\xa0");
}

#[test]
fn transfers_from_the_common_pool() {
    let mut params = parameters();
    params.commission_schedule_rules.min_commission_rate = q(50_000);
    let mut world = World::new(params);
    let (moved, events) =
        world.run(Mode::BeginBlock, |ctx| rewards::transfer_from_common(ctx, &addr(1), &q(10), false).unwrap());
    assert_eq!((moved, kinds(&events), world.balance(1)), (true, vec!["transfer"], q(1010)));
    // Without delegations all is the account's own; with them only the commission.
    let mut escrow = |amount| {
        let (_, events) =
            world.run(Mode::BeginBlock, |ctx| rewards::transfer_from_common(ctx, &addr(1), &q(amount), true).unwrap());
        let pool = state::account(&world.state, &addr(1)).unwrap().escrow.active;
        (kinds(&events).join(" "), pool.balance, pool.total_shares)
    };
    assert_eq!(escrow(100), ("transfer add_escrow".to_owned(), q(100), q(100)));
    assert_eq!(escrow(20), ("add_escrow transfer add_escrow".to_owned(), q(120), q(109)));
    assert_eq!(world.balance(1), q(1010));
    state::set_common_pool(&mut world.state, &q(0)).unwrap();
    let (moved, _) =
        world.run(Mode::BeginBlock, |ctx| rewards::transfer_from_common(ctx, &addr(1), &q(10), false).unwrap());
    assert!(!moved);
}
