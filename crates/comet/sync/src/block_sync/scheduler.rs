//! Which block is asked of whom, and when: a pure machine from inputs to effects.
//!
//! Reference: `cometbft:blocksync/pool.go`. The rules about peers (ranges that shrink, silence, slowness, bans) are the
//! reference's; windows are counted in bytes instead of twenty requests.
//!
//! Blocks themselves are kept by the caller; here are only their heights and sizes. A height goes through: wanted →
//! asked for → held → verified → applied.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comet_core::PeerId;

/// Bounds of a [`Scheduler`].
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most requests to one peer that are not answered yet. The reference's server drops answers silently when 1000 wait.
    pub peer_requests: usize,
    /// Most bytes that one peer is estimated to owe.
    pub peer_bytes: u64,
    /// Most bytes of blocks held or estimated to be on their way. Beyond it the highest held blocks are given up, so that
    /// what is held exceeds it by at most two blocks.
    pub total_bytes: u64,
    /// Most heights above the next one to be applied that are asked for.
    pub heights_ahead: i64,
    /// A request without answer is made to another peer after this long.
    pub request_timeout: Duration,
    /// A peer that owes answers and sends nothing for this long is dropped.
    pub silence: Duration,
    /// Bytes per second that a peer must send while it owes at least [`Self::slow_period`] times as much.
    pub min_rate: u64,
    /// How long a peer's rate is measured before it is judged.
    pub slow_period: Duration,
    /// How long a peer is left out after it broke a rule.
    pub ban: Duration,
    /// Among this many lowest heights a late block is asked of a second peer too.
    pub second_peer_heights: i64,
    /// When a block counts as late for that.
    pub second_peer_after: Duration,
    /// Most bans remembered.
    pub bans: usize,
    /// Most blocks that a peer may not have although its range holds them; it is banned then.
    pub missing: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            peer_requests: 600,
            peer_bytes: 12 << 20,
            total_bytes: 96 << 20,
            heights_ahead: 4000,
            request_timeout: Duration::from_secs(30),
            silence: Duration::from_secs(15),
            min_rate: 128 << 10,
            slow_period: Duration::from_secs(10),
            ban: Duration::from_secs(60),
            second_peer_heights: 50,
            second_peer_after: Duration::from_secs(2),
            bans: 1000,
            missing: 64,
        }
    }
}

/// Bytes that a block is taken to have before any came in.
const FIRST_ESTIMATE: u64 = 16 << 10;
/// Bytes that a block is taken to have at least, for messages around it.
const LEAST_ESTIMATE: u64 = 256;

/// What happens to the scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A peer said which blocks it has.
    Status {
        /// The peer.
        peer: PeerId,
        /// Its lowest height.
        base: i64,
        /// Its highest height.
        height: i64,
    },
    /// A peer is gone.
    Gone(PeerId),
    /// A peer sent a well-formed block.
    Block {
        /// The peer.
        peer: PeerId,
        /// Height of the block.
        height: i64,
        /// Memory that it takes.
        bytes: u64,
    },
    /// A peer does not have a block.
    NoBlock {
        /// The peer.
        peer: PeerId,
        /// The height it was asked for.
        height: i64,
    },
    /// Every block from the lowest not verified so far to this height (inclusive) is verified.
    Verified(i64),
    /// This block, held so far, is wrong: whoever sent it is dropped and banned.
    Bad(i64),
    /// The lowest block was applied.
    Applied(i64),
    /// Time went by.
    Tick,
}

/// Why a peer is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It sent a block that it was not asked for.
    #[error("block {0} was not asked for")]
    Unrequested(i64),
    /// It sent a block that does not hold.
    #[error("block {0} does not hold")]
    BadBlock(i64),
    /// It sent nothing for too long.
    #[error("no answer in time")]
    Silent,
    /// It does not have what it says it has.
    #[error("many blocks of its range are missing")]
    Missing,
    /// It sends too slowly.
    #[error("too slow: {0} bytes per second")]
    Slow(u64),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask a peer for a block.
    Request {
        /// The peer.
        peer: PeerId,
        /// The height.
        height: i64,
    },
    /// Keep the block that just came in.
    Keep(i64),
    /// Forget the block of this height; it will be asked for again.
    Forget(i64),
    /// Close the connection.
    Drop {
        /// The peer.
        peer: PeerId,
        /// Why.
        fault: Fault,
    },
}

#[derive(Debug)]
struct Asked {
    at: Duration,
    /// Timed out, or answered by somebody else: counts no more, but the answer may still come.
    expired: bool,
}

#[derive(Debug)]
struct RemotePeer {
    base: i64,
    height: i64,
    asked: BTreeMap<i64, Asked>,
    /// Heights of its range that it said it does not have, until it tells its range anew.
    missing: BTreeSet<i64>,
    /// Entries of `asked` that are not expired.
    pending: usize,
    /// When it last sent something, or began to owe.
    heard: Duration,
    /// Start of the measurement and bytes since; none while it owes too little to be measured.
    measured: Option<(Duration, u64)>,
    /// Smoothed bytes per second; for choosing among peers.
    rate: u64,
}

impl RemotePeer {
    fn has(&self, height: i64) -> bool {
        (self.base..=self.height).contains(&height) && !self.missing.contains(&height)
    }
}

#[derive(Debug, Default)]
struct Item {
    /// Peers with a live request.
    asked: BTreeSet<PeerId>,
    /// Who sent the block that is held, and its size.
    held: Option<(PeerId, u64)>,
    /// When it was asked for last.
    at: Duration,
}

/// The machine. Times are spans since any fixed moment and must not run backwards.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    now: Duration,
    next_apply: i64,
    next_verify: i64,
    /// Heights that are asked for or held.
    items: BTreeMap<i64, Item>,
    /// Heights below `frontier` that are neither.
    wanted: BTreeSet<i64>,
    /// From here on nothing was asked for yet.
    frontier: i64,
    peers: BTreeMap<PeerId, RemotePeer>,
    banned: BTreeMap<PeerId, Duration>,
    /// Bytes of blocks held.
    held_bytes: u64,
    /// Live requests.
    pending: usize,
    /// Smoothed bytes per block.
    estimate: u64,
    effects: Vec<Effect>,
}

impl Scheduler {
    /// A scheduler that fetches from `next` on.
    pub fn new(next: i64, limits: Limits) -> Self {
        Self {
            limits,
            now: Duration::ZERO,
            next_apply: next,
            next_verify: next,
            items: BTreeMap::new(),
            wanted: BTreeSet::new(),
            frontier: next,
            peers: BTreeMap::new(),
            banned: BTreeMap::new(),
            held_bytes: 0,
            pending: 0,
            estimate: FIRST_ESTIMATE,
            effects: Vec::new(),
        }
    }

    /// The lowest height that is not applied.
    pub fn next_apply(&self) -> i64 {
        self.next_apply
    }

    /// The lowest height that is not verified.
    pub fn next_verify(&self) -> i64 {
        self.next_verify
    }

    /// Bytes of blocks held.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Number of live requests.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Number of peers that take part.
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// Whether the peer takes part.
    pub fn knows(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// Whether a block of this peer may be on its way; others need not be decoded.
    pub fn expects_from(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|peer| !peer.asked.is_empty())
    }

    /// Number of consecutive blocks held from the lowest not verified on.
    pub fn held_run(&self, at_most: usize) -> usize {
        let held = |(height, (at, item)): &(i64, (&i64, &Item))| height == *at && item.held.is_some();
        (self.next_verify..).zip(self.items.range(self.next_verify..)).take_while(held).take(at_most).count()
    }

    /// The greatest height that peers claim, not counting those that lack the next block because they start above it.
    pub fn max_peer_height(&self) -> i64 {
        let next = self.next_apply;
        self.peers.values().filter(|peer| peer.base <= next).map(|peer| peer.height).max().unwrap_or_default()
    }

    /// Whether there is nothing to be gained by fetching: some peer is known and none is ahead by more than the block
    /// whose commit is only in the next one.
    pub fn is_caught_up(&self) -> bool {
        let max = self.max_peer_height();
        !self.peers.is_empty() && (max == 0 || self.next_apply >= max - 1)
    }

    /// Takes one input.
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Effect> {
        self.now = self.now.max(now);
        match input {
            Input::Status { peer, base, height } => self.status(peer, base, height),
            Input::Gone(peer) => self.remove(&peer, false),
            Input::Block { peer, height, bytes } => self.block(&peer, height, bytes),
            Input::NoBlock { peer, height } => self.no_block(&peer, height),
            Input::Verified(through) => self.verified(through),
            Input::Bad(height) => self.bad(height),
            Input::Applied(height) => self.applied(height),
            Input::Tick => self.tick(),
        }
        self.schedule();
        std::mem::take(&mut self.effects)
    }

    fn status(&mut self, peer: PeerId, base: i64, height: i64) {
        if base < 0 || base > height {
            self.ban(peer);
            return;
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            if base < known.base || height < known.height {
                tracing::debug!(peer = %peer.0, base, height, "peer takes back blocks it had");
                self.ban(peer);
                return;
            }
            (known.base, known.height) = (base, height);
            known.missing.clear();
        } else if self.banned.get(&peer).is_none_or(|until| *until <= self.now) {
            let (heard, rate) = (self.now, self.limits.min_rate * 4);
            let (asked, missing) = (BTreeMap::new(), BTreeSet::new());
            let entry = RemotePeer { base, height, asked, missing, pending: 0, heard, measured: None, rate };
            self.peers.insert(peer, entry);
        }
    }

    /// Leaves a peer out for a while, connection kept, with every block that it sent and nobody verified.
    fn ban(&mut self, peer: PeerId) {
        self.remove(&peer, true);
        if self.banned.len() >= self.limits.bans
            && let Some(oldest) = self.banned.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| peer.clone())
        {
            self.banned.remove(&oldest);
        }
        self.banned.insert(peer, self.now + self.limits.ban);
    }

    fn remove(&mut self, peer: &PeerId, forget_blocks: bool) {
        if let Some(gone) = self.peers.remove(peer) {
            self.pending -= gone.pending;
        }
        let mut touched = Vec::new();
        for (height, item) in self.items.range_mut(self.next_verify..) {
            let sent = item.held.as_ref().is_some_and(|(from, _)| from == peer);
            if item.asked.remove(peer) || (forget_blocks && sent) {
                touched.push((*height, sent));
            }
        }
        for (height, sent) in touched {
            if forget_blocks && sent {
                self.forget(height);
            } else {
                self.want_if_idle(height);
            }
        }
    }

    fn forget(&mut self, height: i64) {
        if let Some(item) = self.items.get_mut(&height)
            && let Some((_, bytes)) = item.held.take()
        {
            self.held_bytes -= bytes;
            self.effects.push(Effect::Forget(height));
            self.want_if_idle(height);
        }
    }

    fn want_if_idle(&mut self, height: i64) {
        if self.items.get(&height).is_some_and(|item| item.held.is_none() && item.asked.is_empty()) {
            self.items.remove(&height);
            self.wanted.insert(height);
        }
    }

    /// Drops a peer and bans it.
    fn fault(&mut self, peer: &PeerId, fault: Fault) {
        if self.peers.contains_key(peer) || !self.banned.contains_key(peer) {
            self.ban(peer.clone());
            self.effects.push(Effect::Drop { peer: peer.clone(), fault });
        }
    }

    /// Takes a request off a peer's account; `false` if there was none.
    fn settle(&mut self, peer: &PeerId, height: i64, bytes: u64) -> bool {
        let Some(remote) = self.peers.get_mut(peer) else {
            return false;
        };
        let Some(asked) = remote.asked.remove(&height) else {
            return false;
        };
        remote.heard = self.now;
        if let Some((_, received)) = &mut remote.measured {
            *received = received.saturating_add(bytes);
        }
        if !asked.expired {
            remote.pending -= 1;
            self.pending -= 1;
        }
        if let Some(item) = self.items.get_mut(&height) {
            item.asked.remove(peer);
        }
        true
    }

    fn block(&mut self, peer: &PeerId, height: i64, bytes: u64) {
        if !self.settle(peer, height, bytes) {
            // One that left the pool may still send what it was asked for before.
            if self.peers.contains_key(peer) {
                self.fault(peer, Fault::Unrequested(height));
            }
            return;
        }
        self.estimate = (self.estimate.saturating_mul(7).saturating_add(bytes) / 8).max(LEAST_ESTIMATE);
        if height < self.next_verify || height >= self.frontier {
            return;
        }
        self.wanted.remove(&height);
        let item = self.items.entry(height).or_default();
        if item.held.is_some() {
            return;
        }
        item.held = Some((peer.clone(), bytes));
        self.held_bytes += bytes;
        self.effects.push(Effect::Keep(height));
        // The answers of others to the same request are of no use any more.
        for other in std::mem::take(&mut item.asked) {
            self.expire(&other, height);
        }
        self.give_up_highest();
    }

    fn expire(&mut self, peer: &PeerId, height: i64) {
        if let Some(remote) = self.peers.get_mut(peer)
            && let Some(asked) = remote.asked.get_mut(&height)
            && !asked.expired
        {
            asked.expired = true;
            remote.pending -= 1;
            self.pending -= 1;
        }
    }

    /// Keeps to the bound on memory: blocks may be larger than estimated. The two lowest stay, or nothing would move.
    fn give_up_highest(&mut self) {
        let lowest = self.next_verify.max(self.next_apply + 2);
        while self.held_bytes > self.limits.total_bytes {
            let highest = self.items.range(lowest..).rev().find(|(_, item)| item.held.is_some());
            let Some((&height, _)) = highest else { break };
            self.forget(height);
        }
    }

    fn no_block(&mut self, peer: &PeerId, height: i64) {
        if !self.settle(peer, height, 0) {
            return;
        }
        self.want_if_idle(height);
        let Some(remote) = self.peers.get_mut(peer) else {
            return;
        };
        remote.missing.insert(height);
        if remote.missing.len() > self.limits.missing {
            self.fault(peer, Fault::Missing);
        }
    }

    fn verified(&mut self, through: i64) {
        while self.next_verify <= through && self.items.get(&self.next_verify).is_some_and(|item| item.held.is_some()) {
            self.next_verify += 1;
        }
    }

    fn bad(&mut self, height: i64) {
        let held = self.items.get(&height).and_then(|item| item.held.as_ref());
        if let Some(peer) = held.map(|(peer, _)| peer.clone()).filter(|_| height >= self.next_verify) {
            // With the ban, all other blocks of the peer that are not verified are forgotten too.
            self.forget(height);
            self.fault(&peer, Fault::BadBlock(height));
        }
    }

    fn applied(&mut self, height: i64) {
        if height != self.next_apply || height >= self.next_verify {
            return;
        }
        if let Some(item) = self.items.remove(&height)
            && let Some((_, bytes)) = item.held
        {
            self.held_bytes -= bytes;
        }
        self.next_apply += 1;
    }

    fn tick(&mut self) {
        self.banned.retain(|_, until| *until > self.now);
        let mut late = Vec::new();
        let mut faults = Vec::new();
        // What was asked for long ago and never answered is forgotten, or it would pile up.
        let forget_after = self.limits.request_timeout * 2;
        for (id, remote) in &mut self.peers {
            remote.asked.retain(|_, asked| !asked.expired || asked.at + forget_after > self.now);
            let timed_out = remote.asked.iter().filter(|(_, asked)| !asked.expired);
            late.extend(
                timed_out
                    .filter(|(_, asked)| asked.at + self.limits.request_timeout <= self.now)
                    .map(|(height, _)| (id.clone(), *height)),
            );
            if remote.pending > 0 && remote.heard + self.limits.silence <= self.now {
                faults.push((id.clone(), Fault::Silent));
                continue;
            }
            if let Some(rate) = remote.judge_rate(self.estimate, &self.limits, self.now) {
                faults.push((id.clone(), Fault::Slow(rate)));
            }
        }
        for (peer, height) in late {
            self.expire(&peer, height);
            if let Some(item) = self.items.get_mut(&height) {
                item.asked.remove(&peer);
            }
            self.want_if_idle(height);
        }
        for (peer, fault) in faults {
            self.fault(&peer, fault);
        }
        self.ask_second_peers();
    }

    /// Asks for as much as the windows allow, lowest height first.
    fn schedule(&mut self) {
        let window = self.window();
        if !self.peers.values().any(|peer| peer.has_room(window)) {
            return;
        }
        let max = self.peers.values().map(|peer| peer.height).max().unwrap_or_default();
        let end = max.min(self.next_apply.saturating_add(self.limits.heights_ahead - 1));
        let mut budget = self.budget();
        let mut refused = 0;
        let again: Vec<i64> = self.wanted.iter().copied().take(self.limits.peer_requests).collect();
        for height in again {
            // The two lowest are needed whatever else is held.
            if budget == 0 && height >= self.next_apply + 2 || refused > self.peers.len() {
                return;
            }
            if self.ask(height, None) {
                self.wanted.remove(&height);
                budget = budget.saturating_sub(1);
            } else {
                refused += 1;
            }
        }
        while self.frontier <= end && (budget > 0 || self.frontier < self.next_apply + 2) {
            if !self.ask(self.frontier, None) {
                return;
            }
            self.frontier += 1;
            budget = budget.saturating_sub(1);
        }
    }

    /// Number of further requests that the bound on memory allows.
    fn budget(&self) -> u64 {
        let room = self.limits.total_bytes.saturating_sub(self.held_bytes);
        (room / self.estimate.max(1)).saturating_sub(self.pending as u64)
    }

    fn ask_second_peers(&mut self) {
        let late: Vec<(i64, PeerId)> = self
            .items
            .range(self.next_verify..self.next_verify.saturating_add(self.limits.second_peer_heights))
            .filter(|(_, item)| item.held.is_none() && item.at + self.limits.second_peer_after <= self.now)
            .filter_map(|(height, item)| match item.asked.len() {
                1 => item.asked.first().map(|first| (*height, first.clone())),
                _ => None,
            })
            .collect();
        for (height, first) in late {
            self.ask(height, Some(&first));
        }
    }

    /// Most live requests to one peer.
    fn window(&self) -> usize {
        let by_bytes = usize::try_from(self.limits.peer_bytes / self.estimate.max(1)).unwrap_or(usize::MAX);
        self.limits.peer_requests.min(by_bytes).max(2)
    }

    /// Asks the peer that is likely to answer first; `false` if none has the block and room in its window.
    fn ask(&mut self, height: i64, except: Option<&PeerId>) -> bool {
        let (estimate, window) = (self.estimate, self.window());
        let fits = |id: &PeerId, peer: &RemotePeer| {
            let asked = peer.asked.get(&height).is_some_and(|asked| !asked.expired);
            peer.has_room(window) && peer.has(height) && Some(id) != except && !asked
        };
        let wait = |peer: &RemotePeer| (peer.pending as u64 + 1).saturating_mul(estimate) * 1000 / peer.rate.max(1);
        // One that did not answer this request in time comes last.
        let order = |peer: &RemotePeer| (peer.asked.contains_key(&height), wait(peer));
        let best = self.peers.iter_mut().filter(|(id, peer)| fits(id, peer)).min_by_key(|(_, peer)| order(peer));
        let Some((id, peer)) = best else {
            return false;
        };
        if peer.pending == 0 {
            peer.heard = self.now;
        }
        peer.asked.insert(height, Asked { at: self.now, expired: false });
        peer.pending += 1;
        self.pending += 1;
        let id = id.clone();
        let item = self.items.entry(height).or_default();
        item.asked.insert(id.clone());
        item.at = self.now;
        self.effects.push(Effect::Request { peer: id, height });
        true
    }
}

impl RemotePeer {
    fn has_room(&self, window: usize) -> bool {
        self.pending < window && self.asked.len() < window.saturating_mul(2)
    }

    /// Measures the rate while the peer owes so much that it could show it; gives it if it is too low.
    fn judge_rate(&mut self, estimate: u64, limits: &Limits, now: Duration) -> Option<u64> {
        let owed = (self.pending as u64).saturating_mul(estimate);
        let enough = limits.min_rate.saturating_mul(limits.slow_period.as_secs().max(1));
        let (start, bytes) = match self.measured {
            Some(measured) if owed >= enough => measured,
            _ => {
                self.measured = (owed >= enough).then_some((now, 0));
                return None;
            }
        };
        let span = now.saturating_sub(start);
        if span < limits.slow_period {
            return None;
        }
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = bytes.saturating_mul(1000) / millis;
        self.measured = Some((now, 0));
        self.rate = (self.rate + rate) / 2;
        (rate < limits.min_rate).then_some(rate)
    }
}
