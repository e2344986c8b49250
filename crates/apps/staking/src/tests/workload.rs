//! A seeded random workload: after every block everything adds up, and failed transactions change nothing.

use base_codec::Raw;
use wire_consensus::staking::{
    Allow, Burn, CommissionScheduleRules, Escrow, METHOD_ADD_ESCROW, METHOD_ALLOW, METHOD_BURN, METHOD_RECLAIM_ESCROW,
    METHOD_TRANSFER, METHOD_WITHDRAW, ReclaimEscrow, RewardStep, Transfer, Withdraw, sanity,
};

use super::*;
use crate::{rewards, slashing};

/// A small generator of random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn account(&mut self) -> u8 {
        u8::try_from(self.next(6)).unwrap() + 1
    }

    fn body(&mut self) -> (&'static str, Raw) {
        let (other, amount) = (addr(self.account()), q(self.next(400)));
        match self.next(7) {
            0 => (METHOD_TRANSFER, Raw::of(&Transfer { to: other, amount })),
            1 => (METHOD_BURN, Raw::of(&Burn { amount: q(self.next(3)) })),
            2 | 3 => (METHOD_ADD_ESCROW, Raw::of(&Escrow { account: other, amount })),
            4 => (METHOD_RECLAIM_ESCROW, Raw::of(&ReclaimEscrow { account: other, shares: amount })),
            5 => {
                let negative = self.next(3) == 0;
                (METHOD_ALLOW, Raw::of(&Allow { beneficiary: other, negative, amount_change: amount }))
            }
            _ => (METHOD_WITHDRAW, Raw::of(&Withdraw { from: other, amount })),
        }
    }
}

fn check(world: &World) {
    let doc = crate::query::genesis(&world.state).unwrap();
    let mut total = doc.common_pool.add(&doc.last_block_fees).add(&doc.governance_deposits);
    for (address, account) in &doc.ledger {
        sanity::check_account(&mut total, &doc.parameters, world.epoch, address, account, &doc.total_supply).unwrap();
        let debonding = doc.debonding_delegations.get(address);
        sanity::check_account_shares(address, account, doc.delegations.get(address), debonding).unwrap();
    }
    assert_eq!(total, doc.total_supply);
    // Both directions of the delegation index agree.
    for delegator in doc.ledger.keys() {
        let forward: usize = doc.delegations.values().filter(|d| d.contains_key(delegator)).count();
        assert_eq!(state::delegations_for(&world.state, delegator).unwrap().len(), forward);
    }
}

#[test]
fn everything_adds_up_after_every_block() {
    let mut params = parameters();
    params.max_allowances = 3;
    params.reward_schedule = vec![RewardStep { until: 1_000_000, scale: q(3) }];
    params.commission_schedule_rules =
        CommissionScheduleRules { min_commission_rate: q(30_000), ..CommissionScheduleRules::default() };
    let mut world = World::new(params);
    let mut random = Random(1);
    let (mut succeeded, mut failed) = (0u32, 0u32);
    for block in 0u64..500 {
        for _ in 0..20 {
            let (sender, (method, body)) = (random.account(), random.body());
            let before = world.dump();
            let (result, events) = world.run(Mode::DeliverTx, |ctx| {
                ctx.set_tx_signer(key(sender));
                Staking.execute_tx(ctx, method, &body)
            });
            if result.is_ok() {
                succeeded += 1;
            } else {
                failed += 1;
                assert!(!result.is_err_and(|e| e.is_fatal()) && events.is_empty());
                assert_eq!(world.dump(), before);
            }
        }
        let (victim, amount) = (addr(random.account()), q(random.next(60)));
        let next = world.epoch + u64::from(block % 5 == 4);
        world.run(Mode::EndBlock, |ctx| {
            slashing::slash_escrow(ctx, &victim, &amount).unwrap();
            if next > 10 && block % 5 == 4 {
                kv::put(&mut ctx.state(), &epoch::KEY_CURRENT, &EpochTimeState { epoch: next, height: 11 }).unwrap();
                let all: Vec<Address> = (1..=6).map(addr).collect();
                rewards::add_rewards(ctx, next, &q(1_000_000), &all).unwrap();
            }
            let escrow = amount < q(30);
            // A pool without tokens cannot take more.
            let _ = rewards::transfer_from_common(ctx, &victim, &amount, escrow);
            Staking.end_block(ctx).unwrap();
        });
        world.set_epoch(next);
        check(&world);
    }
    assert!(succeeded > 1000 && failed > 1000, "{succeeded} succeeded, {failed} failed");
}
