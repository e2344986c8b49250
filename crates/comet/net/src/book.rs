//! The address book: which nodes are known, how well, and which are banned.
//!
//! Reference: `cometbft:p2p/pex/addrbook.go`, `known_address.go`, `params.go`.
//!
//! Addresses heard of are "new", those that proved useful are "old". Both kinds live in buckets chosen by a keyed hash of
//! the groups of address and source, so that one source fills only part of the book. Memory is bounded by the buckets.

pub mod file;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use comet_core::PeerId;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::address::NetAddress;
use crate::random::{below, fraction, shuffle_front};
use crate::routable::{group, is_routable, is_valid};

/// Buckets of new addresses.
pub const NEW_BUCKETS: usize = 256;
/// Buckets of old addresses.
pub const OLD_BUCKETS: usize = 64;
/// Addresses in one bucket.
pub const BUCKET_SIZE: usize = 64;
/// New buckets over which the addresses told by one group spread.
pub const NEW_BUCKETS_PER_GROUP: u64 = 32;
/// Old buckets over which the addresses of one group spread.
pub const OLD_BUCKETS_PER_GROUP: u64 = 4;
/// New buckets that one address may be in.
pub const MAX_BUCKETS_PER_ADDRESS: usize = 4;
/// Below that many addresses more are asked for.
pub const WANTED_ADDRESSES: usize = 1000;
/// Share of the book told to others, in percent.
pub const SELECTION_PERCENT: usize = 23;
/// Least number of addresses told, if there are so many.
pub const MIN_SELECTION: usize = 32;
/// Most addresses told.
pub const MAX_SELECTION: usize = 250;
/// Bans remembered; beyond, that which ends first is forgotten.
pub const MAX_BANS: usize = 4096;
/// Own addresses remembered.
pub const MAX_OWN_ADDRESSES: usize = 64;

const RECENT: Duration = Duration::from_secs(60);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const RETRIES_WITHOUT_SUCCESS: i32 = 3;
const MAX_FAILURES: i32 = 10;

/// Why an address is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// Not an address a node can have.
    #[error("invalid address")]
    Invalid,
    /// Banned.
    #[error("banned")]
    Banned,
    /// A private peer, or told by one.
    #[error("private")]
    Private,
    /// Our own.
    #[error("our own address")]
    Ours,
    /// Not reachable from everywhere.
    #[error("not routable")]
    NotRoutable,
}

/// A known address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) address: NetAddress,
    pub(crate) source: NetAddress,
    pub(crate) buckets: Vec<usize>,
    pub(crate) attempts: i32,
    pub(crate) old: bool,
    pub(crate) last_attempt: OffsetDateTime,
    pub(crate) last_success: Option<OffsetDateTime>,
    pub(crate) last_ban: Option<OffsetDateTime>,
}

impl Known {
    /// Whether it is not worth keeping: new, not tried within a minute, and either not seen for a week, or failing.
    fn is_bad(&self, now: OffsetDateTime) -> bool {
        if self.old || self.last_attempt > now - RECENT {
            return false;
        }
        let long_ago = now - WEEK;
        let never = self.last_success.is_none();
        self.last_attempt < long_ago
            || (never && self.attempts >= RETRIES_WITHOUT_SUCCESS)
            || (self.last_success.is_none_or(|at| at < long_ago) && self.attempts >= MAX_FAILURES)
    }
}

#[derive(Debug)]
struct Ban {
    until: OffsetDateTime,
    /// The address, to be taken back when the ban is over.
    known: Option<Known>,
}

/// The address book. Pure but for its choices at random.
#[derive(Debug)]
pub struct Book {
    /// Key of the placement in buckets.
    pub(crate) key: String,
    strict: bool,
    entries: HashMap<PeerId, Known>,
    new_buckets: Vec<Vec<PeerId>>,
    old_buckets: Vec<Vec<PeerId>>,
    old_count: usize,
    bans: HashMap<PeerId, Ban>,
    our_id: Option<PeerId>,
    our_addresses: HashSet<SocketAddr>,
    private: HashSet<PeerId>,
}

impl Book {
    /// Empty book; with `strict`, it takes only addresses reachable from everywhere.
    pub fn new(strict: bool) -> Self {
        let mut key = [0; 12];
        // Without randomness the placement is predictable, nothing worse.
        let _ = getrandom::fill(&mut key);
        Self {
            key: hex::encode(key),
            strict,
            entries: HashMap::new(),
            new_buckets: vec![Vec::new(); NEW_BUCKETS],
            old_buckets: vec![Vec::new(); OLD_BUCKETS],
            old_count: 0,
            bans: HashMap::new(),
            our_id: None,
            our_addresses: HashSet::new(),
            private: HashSet::new(),
        }
    }

    /// Number of addresses.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no addresses.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether more addresses should be asked for.
    pub fn needs_more(&self) -> bool {
        self.len() < WANTED_ADDRESSES
    }

    /// Whether the node is known.
    pub fn contains(&self, id: &PeerId) -> bool {
        self.entries.contains_key(id)
    }

    /// Whether the node proved useful.
    pub fn is_old(&self, id: &PeerId) -> bool {
        self.entries.get(id).is_some_and(|known| known.old)
    }

    /// Our own id is never taken.
    pub fn set_our_id(&mut self, id: PeerId) {
        self.remove(&id);
        self.our_id = Some(id);
    }

    /// An address of our own is never taken.
    pub fn add_our_address(&mut self, address: SocketAddr) {
        if self.our_addresses.len() < MAX_OWN_ADDRESSES {
            self.our_addresses.insert(address);
        }
    }

    /// These peers, and what they tell, are never taken.
    pub fn set_private(&mut self, ids: HashSet<PeerId>) {
        ids.iter().for_each(|id| self.remove(id));
        self.private = ids;
    }

    /// Takes an address told by `source`.
    pub fn add(&mut self, address: NetAddress, source: NetAddress, now: OffsetDateTime) -> Result<(), BookError> {
        if !is_valid(address.ip) || crate::address::parse_id(&address.id.0).is_err() {
            return Err(BookError::Invalid);
        }
        if self.is_banned(&address.id, now) {
            return Err(BookError::Banned);
        }
        if self.private.contains(&address.id) || self.private.contains(&source.id) {
            return Err(BookError::Private);
        }
        if self.our_id.as_ref() == Some(&address.id) || self.our_addresses.contains(&address.socket()) {
            return Err(BookError::Ours);
        }
        if self.strict && !is_routable(address.ip) {
            return Err(BookError::NotRoutable);
        }
        let bucket = self.new_bucket(&address, &source);
        if let Some(known) = self.entries.get(&address.id) {
            // The more buckets it is in, the less likely another one.
            let full = known.old || known.buckets.len() >= MAX_BUCKETS_PER_ADDRESS;
            if full || below(2 * known.buckets.len()) != 0 {
                return Ok(());
            }
        } else {
            let known = Known {
                address: address.clone(),
                source,
                buckets: Vec::new(),
                attempts: 0,
                old: false,
                last_attempt: now,
                last_success: None,
                last_ban: None,
            };
            self.entries.insert(address.id.clone(), known);
        }
        self.put_new(&address.id, bucket, now);
        Ok(())
    }

    /// Forgets an address.
    pub fn remove(&mut self, id: &PeerId) {
        self.take(id);
    }

    fn take(&mut self, id: &PeerId) -> Option<Known> {
        let mut known = self.entries.remove(id)?;
        let buckets = if known.old { &mut self.old_buckets } else { &mut self.new_buckets };
        for bucket in known.buckets.drain(..) {
            buckets[bucket].retain(|held| held != id);
        }
        if known.old {
            self.old_count -= 1;
        }
        Some(known)
    }

    /// Puts an entry into a new bucket, making room if need be.
    fn put_new(&mut self, id: &PeerId, bucket: usize, now: OffsetDateTime) {
        if self.new_buckets[bucket].contains(id) {
            return;
        }
        while self.new_buckets[bucket].len() >= BUCKET_SIZE {
            self.expire(bucket, now);
        }
        let Some(known) = self.entries.get_mut(id) else { return };
        known.buckets.push(bucket);
        self.new_buckets[bucket].push(id.clone());
    }

    /// Removes a bad address, or else that tried longest ago, from a new bucket.
    fn expire(&mut self, bucket: usize, now: OffsetDateTime) {
        let held = &self.new_buckets[bucket];
        let known = |id: &PeerId| self.entries.get(id);
        let bad = held.iter().position(|id| known(id).is_none_or(|known| known.is_bad(now)));
        let oldest = || (0..held.len()).min_by_key(|at| known(&held[*at]).map(|known| known.last_attempt));
        let Some(at) = bad.or_else(oldest) else { return };
        let id = self.new_buckets[bucket].swap_remove(at);
        if let Some(known) = self.entries.get_mut(&id) {
            known.buckets.retain(|held| *held != bucket);
            if known.buckets.is_empty() {
                self.entries.remove(&id);
            }
        }
    }

    /// The node proved useful: its address becomes old.
    pub fn mark_good(&mut self, id: &PeerId, now: OffsetDateTime) {
        let Some(known) = self.entries.get_mut(id) else { return };
        known.attempts = 0;
        known.last_attempt = now;
        known.last_success = Some(now);
        if known.old {
            return;
        }
        let bucket = {
            let address = known.address.clone();
            self.old_bucket(&address)
        };
        let Some(mut known) = self.take(id) else { return };
        if self.old_buckets[bucket].len() >= BUCKET_SIZE {
            self.demote(bucket, now);
        }
        known.old = true;
        known.buckets = vec![bucket];
        self.old_buckets[bucket].push(id.clone());
        self.old_count += 1;
        self.entries.insert(id.clone(), known);
    }

    /// Makes the address of an old bucket that was tried longest ago new again.
    fn demote(&mut self, bucket: usize, now: OffsetDateTime) {
        let held = self.old_buckets[bucket].iter();
        let oldest = held.min_by_key(|id| self.entries.get(*id).map(|known| known.last_attempt)).cloned();
        let Some(id) = oldest else { return };
        let Some(mut known) = self.take(&id) else { return };
        known.old = false;
        let bucket = self.new_bucket(&known.address, &known.source);
        self.entries.insert(id.clone(), known);
        self.put_new(&id, bucket, now);
    }

    /// Dialing failed.
    pub fn mark_attempt(&mut self, id: &PeerId, now: OffsetDateTime) {
        if let Some(known) = self.entries.get_mut(id) {
            known.attempts = known.attempts.saturating_add(1);
            known.last_attempt = now;
        }
    }

    /// Forgets the node for a time.
    pub fn ban(&mut self, id: &PeerId, time: Duration, now: OffsetDateTime) {
        let until = now.saturating_add(time::Duration::try_from(time).unwrap_or(time::Duration::MAX));
        let known = self.take(id).map(|known| Known { last_ban: Some(until), ..known });
        if let Some(ban) = self.bans.get_mut(id) {
            ban.until = ban.until.max(until);
            return;
        }
        if self.bans.len() >= MAX_BANS {
            let first = self.bans.iter().min_by_key(|(_, ban)| ban.until).map(|(id, _)| id.clone());
            first.and_then(|id| self.bans.remove(&id));
        }
        self.bans.insert(id.clone(), Ban { until, known });
    }

    /// Whether the node is banned now.
    pub fn is_banned(&self, id: &PeerId, now: OffsetDateTime) -> bool {
        self.bans.get(id).is_some_and(|ban| ban.until > now)
    }

    /// Takes back the addresses whose ban is over.
    pub fn reinstate(&mut self, now: OffsetDateTime) {
        let over: Vec<_> = self.bans.iter().filter(|(_, ban)| ban.until <= now).map(|(id, _)| id.clone()).collect();
        for id in over {
            let Some(known) = self.bans.remove(&id).and_then(|ban| ban.known) else { continue };
            if !self.entries.contains_key(&id) {
                let bucket = self.new_bucket(&known.address, &known.source);
                self.entries.insert(id.clone(), Known { old: false, buckets: Vec::new(), ..known });
                self.put_new(&id, bucket, now);
            }
        }
    }

    /// An address to dial, new with more weight the higher `new_bias` is (percent).
    pub fn pick(&self, new_bias: usize) -> Option<NetAddress> {
        let bias = new_bias.min(100) as f64;
        let old_weight = (self.old_count as f64).sqrt() * (100.0 - bias);
        let new_weight = ((self.len() - self.old_count) as f64).sqrt() * bias;
        let old = (old_weight + new_weight) * fraction() < old_weight;
        let buckets = if old { &self.old_buckets } else { &self.new_buckets };
        let filled: Vec<_> = buckets.iter().filter(|bucket| !bucket.is_empty()).collect();
        let bucket = filled.get(below(filled.len()))?;
        let id = bucket.get(below(bucket.len()))?;
        self.entries.get(id).map(|known| known.address.clone())
    }

    fn selection_size(&self) -> usize {
        let share = self.len() * SELECTION_PERCENT / 100;
        share.max(MIN_SELECTION.min(self.len())).min(MAX_SELECTION)
    }

    /// Addresses to tell, at random.
    pub fn selection(&self) -> Vec<NetAddress> {
        let mut all: Vec<_> = self.entries.values().collect();
        let count = self.selection_size();
        shuffle_front(&mut all, count);
        all.into_iter().take(count).map(|known| known.address.clone()).collect()
    }

    /// Addresses to tell, so many percent of them new as far as there are.
    pub fn biased_selection(&self, new_bias: usize) -> Vec<NetAddress> {
        let count = self.selection_size();
        let wanted_new = (count * new_bias.min(100) + 50) / 100;
        let pick = |old: bool, count: usize| {
            let mut all: Vec<_> = self.entries.values().filter(|known| known.old == old).collect();
            shuffle_front(&mut all, count);
            all.into_iter().take(count).map(|known| known.address.clone()).collect::<Vec<_>>()
        };
        let mut selection = pick(false, wanted_new.max(count.saturating_sub(self.old_count)));
        selection.extend(pick(true, count.saturating_sub(selection.len())));
        selection
    }

    fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = Sha256::new();
        hasher.update(self.key.as_bytes());
        for part in parts {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let digest = hasher.finalize();
        u64::from_le_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]])
    }

    fn new_bucket(&self, address: &NetAddress, source: &NetAddress) -> usize {
        let source = group(source.ip, self.strict);
        let within = self.hash(&[group(address.ip, self.strict).as_bytes(), source.as_bytes()]) % NEW_BUCKETS_PER_GROUP;
        (self.hash(&[source.as_bytes(), &within.to_le_bytes()]) % NEW_BUCKETS as u64) as usize
    }

    fn old_bucket(&self, address: &NetAddress) -> usize {
        let within = self.hash(&[address.to_string().as_bytes()]) % OLD_BUCKETS_PER_GROUP;
        let group = group(address.ip, self.strict);
        (self.hash(&[group.as_bytes(), &within.to_le_bytes()]) % OLD_BUCKETS as u64) as usize
    }

    /// All entries, for saving.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Known> {
        self.entries.values()
    }

    /// Takes an entry as saved; its buckets are kept as far as they exist and have room.
    pub(crate) fn restore(&mut self, mut known: Known) {
        let id = known.address.id.clone();
        if self.entries.contains_key(&id) || !is_valid(known.address.ip) {
            return;
        }
        let mut wanted = std::mem::take(&mut known.buckets);
        wanted.sort_unstable();
        wanted.dedup();
        wanted.truncate(if known.old { 1 } else { MAX_BUCKETS_PER_ADDRESS });
        if wanted.is_empty() {
            let old = known.old;
            wanted.push(if old {
                self.old_bucket(&known.address)
            } else {
                self.new_bucket(&known.address, &known.source)
            });
        }
        let buckets = if known.old { &mut self.old_buckets } else { &mut self.new_buckets };
        for at in wanted {
            if let Some(bucket) = buckets.get_mut(at).filter(|bucket| bucket.len() < BUCKET_SIZE) {
                bucket.push(id.clone());
                known.buckets.push(at);
            }
        }
        if !known.buckets.is_empty() {
            self.old_count += usize::from(known.old);
            self.entries.insert(id, known);
        }
    }
}

#[cfg(test)]
mod tests;
