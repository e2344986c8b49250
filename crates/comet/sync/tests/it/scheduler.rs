//! The scheduler against random peers: every height is applied once, in order, and the bounds hold all along.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comet_core::PeerId;
use comet_sync::block_sync::scheduler::{Effect, Fault, Input, Limits, Scheduler};
use proptest::prelude::*;

use crate::lab::peer_id;

/// How a simulated peer behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Honest,
    /// Answers one request in two.
    Lossy,
    Silent,
    /// Sends blocks that do not hold.
    Liar,
    /// Does not have one block in three.
    Holes,
    /// Answers with blocks that it was not asked for.
    Unrequested,
}

#[derive(Debug)]
struct Simulated {
    kind: Kind,
    /// Requests not answered, with when the answer comes.
    open: Vec<(Duration, i64)>,
    connected: bool,
}

struct World {
    scheduler: Scheduler,
    limits: Limits,
    peers: BTreeMap<PeerId, Simulated>,
    now: Duration,
    top: i64,
    /// Held: whether the block is good.
    held: BTreeMap<i64, (PeerId, bool)>,
    applied: Vec<i64>,
    verified: i64,
    sizes: fn(i64) -> u64,
    seed: u64,
    dropped: BTreeSet<(PeerId, &'static str)>,
}

fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl World {
    fn new(kinds: &[Kind], top: i64, limits: Limits, sizes: fn(i64) -> u64, seed: u64) -> Self {
        let peers = kinds
            .iter()
            .enumerate()
            .map(|(at, kind)| (peer_id(at as u8 + 1), Simulated { kind: *kind, open: Vec::new(), connected: true }));
        Self {
            scheduler: Scheduler::new(1, limits),
            limits,
            peers: peers.collect(),
            now: Duration::ZERO,
            top,
            held: BTreeMap::new(),
            applied: Vec::new(),
            verified: 0,
            sizes,
            seed,
            dropped: BTreeSet::new(),
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = mix(self.seed);
        self.seed % below
    }

    fn step(&mut self, input: Input, block: Option<(i64, PeerId, bool)>) {
        let mut block = block;
        for effect in self.scheduler.step(self.now, input) {
            match effect {
                Effect::Request { peer, height } => {
                    let delay = Duration::from_millis(1 + self.random(40));
                    let peer = self.peers.get_mut(&peer).unwrap();
                    assert!(peer.connected && (1..=self.top).contains(&height));
                    peer.open.push((self.now + delay, height));
                    assert!(height > self.verified, "height {height} is verified already");
                }
                Effect::Keep(height) => {
                    let (at, from, good) = block.take().unwrap();
                    assert_eq!(at, height);
                    assert!(self.held.insert(height, (from, good)).is_none(), "held twice");
                }
                Effect::Forget(height) => assert!(self.held.remove(&height).is_some() && height > self.verified),
                Effect::Drop { peer, fault } => {
                    let name = match fault {
                        Fault::BadBlock(_) => "bad",
                        Fault::Silent => "silent",
                        Fault::Slow(_) => "slow",
                        Fault::Missing => "missing",
                        Fault::Unrequested(_) => "unrequested",
                    };
                    self.dropped.insert((peer.clone(), name));
                    let remote = self.peers.get_mut(&peer).unwrap();
                    remote.open.clear();
                    remote.connected = false;
                }
            }
        }
        self.check_bounds();
    }

    fn check_bounds(&self) {
        let held: u64 = self.held.keys().map(|height| (self.sizes)(*height)).sum();
        assert_eq!(held, self.scheduler.held_bytes());
        let largest = (1..=self.top).map(self.sizes).max().unwrap();
        assert!(held <= self.limits.total_bytes + 2 * largest, "{held} bytes held");
        for height in self.held.keys() {
            assert!(*height < self.scheduler.next_apply() + self.limits.heights_ahead);
        }
        let live: usize = self.peers.values().filter(|peer| peer.connected).map(|peer| peer.open.len()).sum();
        assert!(self.scheduler.pending() <= live.max(self.peers.len() * self.limits.peer_requests));
    }

    fn status(&mut self, id: &PeerId) {
        let input = Input::Status { peer: id.clone(), base: 1, height: self.top };
        self.step(input, None);
    }

    /// Verifies and applies as the threads would: some at a time.
    fn work(&mut self) {
        let most = 1 + self.random(8) as usize;
        let run = self.scheduler.held_run(most + 1);
        let first = self.scheduler.next_verify();
        if run >= 2 {
            let mut through = first - 1;
            let mut bad = None;
            for height in first..first + run as i64 - 1 {
                if !self.held[&height].1 {
                    bad = Some(height);
                    break;
                }
                through = height;
            }
            if through >= first {
                self.verified = through;
                self.step(Input::Verified(through), None);
            }
            if let Some(height) = bad {
                let sender = self.held[&height].0.clone();
                self.step(Input::Bad(height), None);
                assert!(self.dropped.contains(&(sender, "bad")));
            }
        }
        let next = self.scheduler.next_apply();
        if next <= self.verified && self.random(3) > 0 {
            self.held.remove(&next).unwrap();
            self.applied.push(next);
            self.step(Input::Applied(next), None);
        }
    }

    fn answer(&mut self, id: &PeerId) {
        let now = self.now;
        let peer = self.peers.get_mut(id).unwrap();
        let kind = peer.kind;
        let mut due = Vec::new();
        peer.open.retain(|(at, height)| {
            if *at <= now {
                due.push(*height);
            }
            *at > now
        });
        for height in due {
            if !self.peers[id].connected {
                return;
            }
            let bytes = (self.sizes)(height);
            let block = |height| Input::Block { peer: id.clone(), height, bytes };
            let good = Some((height, id.clone(), true));
            match kind {
                Kind::Honest => self.step(block(height), good),
                Kind::Lossy if self.random(2) == 0 => self.step(block(height), good),
                Kind::Lossy | Kind::Silent => {}
                Kind::Liar => {
                    let lie = self.random(4) == 0;
                    self.step(block(height), Some((height, id.clone(), !lie)));
                }
                Kind::Holes if mix(height as u64).is_multiple_of(3) => {
                    self.step(Input::NoBlock { peer: id.clone(), height }, None);
                }
                Kind::Holes => self.step(block(height), good),
                Kind::Unrequested => self.step(block(height + 3000), None),
            }
        }
    }

    fn run(&mut self) {
        let ids: Vec<PeerId> = self.peers.keys().cloned().collect();
        let end = self.top - 1;
        let mut rounds = 0u64;
        while (self.applied.len() as i64) < end {
            self.now += Duration::from_millis(5);
            rounds += 1;
            assert!(rounds < 400_000, "stuck at {} of {end}", self.applied.len());
            for id in &ids {
                if rounds % 200 == 1 {
                    // Whoever was dropped connects again.
                    self.peers.get_mut(id).unwrap().connected = true;
                    self.status(id);
                }
                self.answer(id);
            }
            self.work();
            self.work();
            if rounds.is_multiple_of(10) {
                self.step(Input::Tick, None);
            }
        }
        assert_eq!(self.applied, (1..=end).collect::<Vec<_>>());
    }
}

fn small() -> Limits {
    Limits {
        peer_requests: 20,
        peer_bytes: 200_000,
        total_bytes: 500_000,
        heights_ahead: 100,
        request_timeout: Duration::from_millis(600),
        silence: Duration::from_millis(400),
        second_peer_after: Duration::from_millis(100),
        ban: Duration::from_millis(900),
        missing: 1000,
        ..Limits::default()
    }
}

fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    let kind = prop_oneof![
        Just(Kind::Honest),
        Just(Kind::Lossy),
        Just(Kind::Silent),
        Just(Kind::Liar),
        Just(Kind::Holes),
        Just(Kind::Unrequested)
    ];
    // With one honest peer it must get there.
    proptest::collection::vec(kind, 0..5).prop_map(|mut kinds| {
        kinds.push(Kind::Honest);
        kinds
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_height_is_applied_once(kinds in kinds(), seed: u64, size in 0usize..4) {
        let sizes: [fn(i64) -> u64; 4] = [
            |_| 1000,
            |height| 100 + mix(height as u64) % 60_000,
            // From tiny to far above what was estimated.
            |height| if height > 150 { 200_000 } else { 300 },
            |height| if height % 50 == 0 { 700_000 } else { 2_000 },
        ];
        World::new(&kinds, 300, small(), sizes[size], seed).run();
    }
}

fn status(scheduler: &mut Scheduler, number: u8, base: i64, height: i64) -> Vec<Effect> {
    scheduler.step(Duration::ZERO, Input::Status { peer: peer_id(number), base, height })
}

fn requests(effects: &[Effect]) -> Vec<i64> {
    let height = |effect: &Effect| match effect {
        Effect::Request { height, .. } => Some(*height),
        _ => None,
    };
    effects.iter().filter_map(height).collect()
}

#[test]
fn windows_are_counted_in_bytes() {
    let limits = Limits::default();
    let mut scheduler = Scheduler::new(1, limits);
    assert_eq!(requests(&status(&mut scheduler, 1, 1, 100_000)).len(), limits.peer_requests);
    // Blocks of 1 MiB: the window shrinks to what the peer may owe.
    let mut now = Duration::ZERO;
    for height in 1..=300 {
        now += Duration::from_millis(1);
        let peer = peer_id(1);
        scheduler.step(now, Input::Block { peer, height, bytes: 1 << 20 });
        scheduler.step(now, Input::Verified(height));
        scheduler.step(now, Input::Applied(height));
    }
    let mut sent = 0;
    for height in 301..=600 {
        now += Duration::from_millis(1);
        let peer = peer_id(1);
        let effects = scheduler.step(now, Input::Block { peer, height, bytes: 1 << 20 });
        sent += requests(&effects).len();
        scheduler.step(now, Input::Verified(height));
        scheduler.step(now, Input::Applied(height));
    }
    assert!(scheduler.pending() <= 12 && sent <= 12, "{} pending, {sent} sent", scheduler.pending());
}

#[test]
fn catching_up_is_judged_as_by_the_reference() {
    let mut scheduler = Scheduler::new(10, Limits::default());
    assert!(!scheduler.is_caught_up(), "nobody is there");
    // A peer that begins above the next height counts as having nothing.
    status(&mut scheduler, 1, 50, 100);
    assert!(scheduler.is_caught_up() && scheduler.max_peer_height() == 0);
    status(&mut scheduler, 2, 1, 12);
    assert!(!scheduler.is_caught_up());
    status(&mut scheduler, 2, 1, 12);
    status(&mut scheduler, 3, 1, 11);
    scheduler.step(Duration::ZERO, Input::Gone(peer_id(2)));
    assert!(scheduler.is_caught_up());
}

#[test]
fn ranges_taken_back_ban_without_dropping() {
    let mut scheduler = Scheduler::new(1, Limits::default());
    status(&mut scheduler, 1, 1, 100);
    for (base, height) in [(1, 99), (5, 4)] {
        let effects = status(&mut scheduler, 1, base, height);
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Drop { .. })), "{effects:?}");
        assert_eq!((scheduler.peer_count(), scheduler.pending()), (0, 0));
    }
    assert!(status(&mut scheduler, 1, 1, 100).is_empty(), "still banned");
    let later = Limits::default().ban + Duration::from_secs(1);
    let back = scheduler.step(later, Input::Status { peer: peer_id(1), base: 1, height: 100 });
    assert_eq!(requests(&back).len(), 100);
}

#[test]
fn slow_peers_are_dropped_only_if_they_owe_much() {
    let limits =
        Limits { silence: Duration::from_secs(1000), request_timeout: Duration::from_secs(1000), ..Limits::default() };
    for (bytes, slow) in [(60_000u64, true), (300, false)] {
        let mut scheduler = Scheduler::new(1, limits);
        let mut dropped = false;
        status(&mut scheduler, 1, 1, 100_000);
        // Until the size of blocks is known.
        for height in 1..=60 {
            scheduler.step(Duration::ZERO, Input::Block { peer: peer_id(1), height, bytes });
            scheduler.step(Duration::ZERO, Input::Verified(height));
            scheduler.step(Duration::ZERO, Input::Applied(height));
        }
        // One block per second.
        for second in 60..260i64 {
            let now = Duration::from_secs(second as u64);
            let effects = scheduler.step(now, Input::Block { peer: peer_id(1), height: second + 1, bytes });
            scheduler.step(now, Input::Verified(second + 1));
            scheduler.step(now, Input::Applied(second + 1));
            let ticked = scheduler.step(now, Input::Tick);
            dropped |= effects.iter().chain(&ticked).any(|e| matches!(e, Effect::Drop { fault: Fault::Slow(_), .. }));
        }
        assert_eq!(dropped, slow, "{bytes} bytes per second");
    }
}

#[test]
fn a_peer_without_what_it_claims_is_dropped() {
    let limits = Limits { missing: 10, ..Limits::default() };
    let mut scheduler = Scheduler::new(1, limits);
    status(&mut scheduler, 1, 1, 100);
    let mut effects = Vec::new();
    for height in 1..=11 {
        effects = scheduler.step(Duration::ZERO, Input::NoBlock { peer: peer_id(1), height });
    }
    assert!(matches!(effects.as_slice(), [Effect::Drop { fault: Fault::Missing, .. }]), "{effects:?}");
    // One that was asked for nothing says nothing.
    scheduler.step(Duration::ZERO, Input::NoBlock { peer: peer_id(9), height: 1 });
    scheduler.step(Duration::ZERO, Input::Block { peer: peer_id(9), height: 1, bytes: 1 });
    assert_eq!(scheduler.held_bytes(), 0);
}

#[test]
fn bans_are_bounded() {
    let limits = Limits { bans: 3, ..Limits::default() };
    let mut scheduler = Scheduler::new(1, limits);
    for number in 1..=9 {
        status(&mut scheduler, number, 1, 100);
        status(&mut scheduler, number, 1, 99);
    }
    // The oldest bans have made room.
    status(&mut scheduler, 1, 1, 100);
    status(&mut scheduler, 9, 1, 100);
    assert_eq!(scheduler.peer_count(), 1);
}
