//! Rotation and change rules.

use proptest::prelude::*;

use super::*;

fn member(name: u8, power: i64, priority: i64) -> Validator {
    let mut address = [0; 20];
    address[19] = name;
    Validator { address: Address(address), pub_key: [name; 32], voting_power: power, proposer_priority: priority }
}

/// A set with made-up addresses, as it stands.
fn raw(validators: Vec<Validator>) -> ValidatorSet {
    let total_voting_power = sum_powers(&validators).unwrap();
    ValidatorSet { validators, proposer: None, total_voting_power }
}

fn proposer_name(set: &ValidatorSet) -> u8 {
    set.proposer().unwrap().address.0[19]
}

fn key_of(seed: u16) -> [u8; 32] {
    wire_cometbft::merkle::sha256(&seed.to_be_bytes())
}

fn update(seed: u16, power: i64) -> ValidatorUpdate {
    ValidatorUpdate { pub_key: key_of(seed), power }
}

/// The published sequence for powers 1000 (foo), 300 (bar), 330 (baz).
#[test]
fn published_sequence() {
    // By address: bar < baz < foo.
    let mut set = raw(vec![member(b'f', 1000, 0), member(b'z', 330, 0), member(b'r', 300, 0)]);
    let expected = "fzfrffzfrffzffrfzffrffzfrffzfrffzffrfzffrfzffrfzff \
        rfzfffzrfffzfrffzfrffzfrffzfrffzffrfzffrfzffrfzff";
    let mut got = String::new();
    for _ in expected.chars().filter(|c| *c != ' ') {
        set.increment_proposer_priority(1).unwrap();
        got.push(char::from(proposer_name(&set)));
    }
    assert_eq!(got, expected.replace(' ', ""));
}

#[test]
fn equal_powers_go_by_address_and_others_by_share() {
    let mut set = raw((0..3).map(|name| member(name, 100, 0)).collect());
    for at in 0..15 {
        set.increment_proposer_priority(1).unwrap();
        assert_eq!(proposer_name(&set), at % 3);
    }
    for (power, second) in [(400, 0), (401, 2)] {
        let mut set = raw(vec![member(2, power, 0), member(0, 100, 0), member(1, 100, 0)]);
        set.increment_proposer_priority(1).unwrap();
        assert_eq!(proposer_name(&set), 2);
        set.increment_proposer_priority(1).unwrap();
        assert_eq!(proposer_name(&set), second);
    }
    let mut set = raw(vec![member(1, 5, 0), member(0, 4, 0), member(2, 3, 0)]);
    let mut counts = [0; 3];
    for _ in 0..120 {
        set.increment_proposer_priority(1).unwrap();
        counts[usize::from(proposer_name(&set))] += 1;
    }
    assert_eq!(counts, [40, 50, 30]);
}

#[test]
fn priorities_are_centred_with_floor() {
    for (before, times, average) in
        [([1, 2, 3], 1, 2), ([10, -10, 1], 11, 0), ([100, -10, 1], 1, 30), ([-1, -1, 0], 1, -1)]
    {
        let mut set = raw((0..3).map(|at| member(at, 0, before[usize::from(at)])).collect());
        set.increment_proposer_priority(times).unwrap();
        let after: Vec<i64> = set.validators().iter().map(|v| v.proposer_priority).collect();
        assert_eq!(after, before.map(|priority| priority - average));
    }
}

#[test]
fn priorities_are_rescaled_toward_zero() {
    // Window 2 · 1 = 2 for these.
    let mut set = raw(vec![member(0, 1, 5), member(1, 0, -4), member(2, 0, 0)]);
    set.rescale_priorities();
    let after: Vec<i64> = set.validators().iter().map(|v| v.proposer_priority).collect();
    // Spread 9, so all are divided by 5.
    assert_eq!(after, [1, 0, 0]);
}

#[test]
fn extreme_priorities_do_not_overflow() {
    for (low, high) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MAX), (i64::MIN, i64::MIN), (i64::MIN, 0)] {
        let power = MAX_TOTAL_VOTING_POWER / 2;
        let mut set = raw(vec![member(0, power, low), member(1, power, high)]);
        for times in [1, 2, 5] {
            set.increment_proposer_priority(times).unwrap();
        }
    }
    assert_eq!(ValidatorSet::default().increment_proposer_priority(1), Err(ValidatorError::Empty));
}

#[test]
fn newcomers_start_behind() {
    let mut set = ValidatorSet::new(&[update(1, 100), update(2, 200)]).unwrap();
    let before = set.clone();
    set.update(&[update(3, 50), update(1, 0)]).unwrap();
    // Total 350 before the removal: −(350 + 43); then centred over the two that are left.
    let old = before.find(&Address::of(&key_of(2))).unwrap().1.proposer_priority;
    let average = (old - 393).div_euclid(2);
    let priority = |seed| set.find(&Address::of(&key_of(seed))).unwrap().1.proposer_priority;
    // Spread within the window of 500: no rescaling.
    assert!(old + 393 <= 500);
    assert_eq!((priority(2), priority(3)), (old - average, -393 - average));
    assert_eq!(set.total_voting_power(), 250);
    assert_eq!(set.proposer(), before.proposer());
    assert_eq!(set.validators()[0].voting_power, 200);
}

#[test]
fn refused_changes_change_nothing() {
    let set = ValidatorSet::new(&[update(1, 100), update(2, 200)]).unwrap();
    let refuse = |changes: &[ValidatorUpdate]| {
        let mut changed = set.clone();
        let error = changed.update(changes).unwrap_err();
        assert_eq!(changed, set);
        error
    };
    let address = Address::of(&key_of(3));
    assert_eq!(refuse(&[update(3, 5), update(3, 6)]), ValidatorError::Duplicate(address));
    assert_eq!(refuse(&[update(3, -1)]), ValidatorError::Power { address, power: -1 });
    assert!(matches!(refuse(&[update(3, MAX_TOTAL_VOTING_POWER + 1)]), ValidatorError::Power { .. }));
    assert_eq!(refuse(&[update(3, 0)]), ValidatorError::UnknownRemoval(address));
    assert_eq!(refuse(&[update(1, 0), update(2, 0)]), ValidatorError::WouldBeEmpty);
    assert_eq!(refuse(&[update(3, MAX_TOTAL_VOTING_POWER)]), ValidatorError::TotalPower);
    assert!(matches!(
        ValidatorSet::new(&[update(1, 0)]),
        Err(ValidatorError::RemovalFromNew(_) | ValidatorError::WouldBeEmpty)
    ));
    // Whole replacement is no emptying.
    let mut replaced = set.clone();
    replaced.update(&[update(1, 0), update(2, 0), update(3, 5)]).unwrap();
    assert_eq!(replaced.len(), 1);
    // Making room first lets a change pass that would overflow in another order.
    let mut moved = set;
    moved.update(&[update(1, 0), update(2, 1), update(3, MAX_TOTAL_VOTING_POWER - 1)]).unwrap();
    assert_eq!(moved.total_voting_power(), MAX_TOTAL_VOTING_POWER);
    assert_eq!(ValidatorSet::new(&[]).unwrap(), ValidatorSet::default());
}

#[test]
fn sets_from_outside_are_checked() {
    let set = ValidatorSet::new(&[update(1, 100), update(2, 200)]).unwrap();
    let wire = set.to_wire();
    assert_eq!(ValidatorSet::from_wire(&wire).unwrap(), set);
    let refuse = |change: &dyn Fn(&mut wire::ValidatorSet)| {
        let mut changed = wire.clone();
        change(&mut changed);
        assert!(ValidatorSet::from_wire(&changed).is_err());
    };
    refuse(&|set| set.validators.clear());
    refuse(&|set| set.proposer = None);
    refuse(&|set| set.validators[0].address[0] ^= 1);
    refuse(&|set| set.validators[0].voting_power = -1);
    refuse(&|set| set.validators[0].voting_power = MAX_TOTAL_VOTING_POWER);
    refuse(&|set| set.validators.iter_mut().for_each(|v| v.voting_power = i64::MAX));
    refuse(&|set| set.validators[0].pub_key = PublicKey::default());
    refuse(&|set| set.proposer = Some(Validator::new(key_of(9), 1).to_wire()));
    assert_eq!(ValidatorSet::from_stored(None).unwrap(), ValidatorSet::default());
    assert_eq!(ValidatorSet::from_stored(Some(&wire::ValidatorSet::default())).unwrap(), ValidatorSet::default());
}

proptest! {
    /// Whatever happens to a set: order, total, centre and window hold, and everybody proposes by share.
    #[test]
    fn invariants_hold(
        start in prop::collection::btree_map(0u16..30, 1i64..1_000_000, 1..15),
        changes in prop::collection::vec(prop::collection::btree_map(0u16..30, 0i64..1_000_000, 0..6), 0..8),
        steps in prop::collection::vec(1u32..6, 8),
    ) {
        let members: Vec<_> = start.iter().map(|(&seed, &power)| update(seed, power)).collect();
        let mut set = ValidatorSet::new(&members).unwrap();
        for (change, times) in changes.iter().zip(steps) {
            let change: Vec<_> = change.iter().map(|(&seed, &power)| update(seed, power)).collect();
            let before = set.clone();
            if set.update(&change).is_err() {
                prop_assert_eq!(&set, &before);
            }
            set.increment_proposer_priority(times).unwrap();
            let validators = set.validators();
            let rank = |v: &Validator| (std::cmp::Reverse(v.voting_power), v.address);
            let in_order = validators.windows(2).all(|pair| rank(&pair[0]) < rank(&pair[1]));
            prop_assert!(in_order);
            let total: i64 = validators.iter().map(|v| v.voting_power).sum();
            prop_assert_eq!(total, set.total_voting_power());
            let max = validators.iter().map(|v| v.proposer_priority).max().unwrap();
            let min = validators.iter().map(|v| v.proposer_priority).min().unwrap();
            prop_assert!(max - min <= 2 * total + i64::from(times) * 2 * total);
            let proposer = set.proposer().unwrap();
            prop_assert_eq!(set.find(&proposer.address).unwrap().1, proposer);
            prop_assert_eq!(ValidatorSet::from_wire(&set.to_wire()).unwrap(), set.clone());
        }
    }
}
