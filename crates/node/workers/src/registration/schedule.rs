//! When to register: each epoch, by chance within its first twentieth, and whenever contributions or the owner change.

use base_prims::{Epoch, Hash};

use crate::backoff::Chance;

/// What a block shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its height.
    pub height: i64,
    /// Epoch.
    pub epoch: Epoch,
    /// Height at which the epoch began.
    pub epoch_height: i64,
    /// Blocks per epoch, if the beacon is a VRF.
    pub vrf_interval: Option<i64>,
    /// Hash of the owner's descriptor, if it is registered.
    pub owner: Option<Hash>,
}

/// The schedule, without a clock: blocks and changes in, "now" out.
#[derive(Debug, Clone)]
pub struct Schedule {
    chance: Chance,
    epoch: Option<Epoch>,
    owner: Option<Hash>,
    /// Height to register at, while waiting for it.
    target: Option<i64>,
    changed: bool,
}

impl Schedule {
    /// A schedule; `seed` makes nodes differ.
    pub fn new(seed: u64) -> Self {
        Self { chance: Chance::new(seed), epoch: None, owner: None, target: None, changed: false }
    }

    /// The present epoch, once one was seen.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Contributions changed: due as soon as an epoch is known.
    pub fn contributions_changed(&mut self) {
        self.changed = true;
    }

    /// Takes in a block, also one seen before; tells whether to register now.
    pub fn block(&mut self, seen: &Seen) -> bool {
        let mut due = false;
        if self.epoch != Some(seen.epoch) {
            self.epoch = Some(seen.epoch);
            match Self::delay(seen) {
                Some(most) => {
                    let spread = self.chance.draw() % most.unsigned_abs();
                    self.target = Some(seen.epoch_height.saturating_add(i64::try_from(spread).unwrap_or(0)));
                }
                None => due = true,
            }
        }
        if self.target.is_some_and(|target| seen.height >= target) {
            due = true;
        }
        if seen.owner.is_some() && seen.owner != self.owner {
            // The first sight of the owner is no change.
            due |= self.owner.is_some() || self.target.is_none();
        }
        self.owner = seen.owner;
        due |= std::mem::take(&mut self.changed);
        due
    }

    /// An attempt was made: nothing is due before the next change.
    pub fn attempted(&mut self) {
        self.target = None;
    }

    /// Most blocks to wait for, more than none.
    fn delay(seen: &Seen) -> Option<i64> {
        seen.vrf_interval.map(|interval| interval / 100 * 5).filter(|most| *most > 0)
    }
}
