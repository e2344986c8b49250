//! What messages state, when they are valid and which supersedes which.

use std::cmp::Ordering;

use wire_mobilecoin::scp::{Ballot, Msg, Nominate, Prepare, Topic, Value};

/// Why a message is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The sender's quorum set cannot be satisfied.
    #[error("invalid quorum set")]
    QuorumSet,
    /// A value is voted for and accepted.
    #[error("a value is both voted for and accepted")]
    NominatedTwice,
    /// The accepted prepared ballot is above the current one.
    #[error("prepared ballot is above the current one")]
    PreparedAboveBallot,
    /// The second prepared ballot is not below the first, or there is no first.
    #[error("second prepared ballot is not below the first")]
    SecondNotBelowFirst,
    /// Counters are not in order.
    #[error("counters out of order: {0} to {1} of {2}")]
    Counters(u32, u32, u32),
}

/// The counter of a message's ballot: how far its sender is. Done is further than everything.
pub fn ballot_counter<V>(topic: &Topic<V>) -> u32 {
    match topic {
        Topic::Nominate(_) => 0,
        Topic::NominatePrepare(_, prepare) | Topic::Prepare(prepare) => prepare.b.n,
        Topic::Commit(commit) => commit.b.n,
        Topic::Externalize(_) => u32::MAX,
    }
}

fn validate_nominate<V: Value>(nominate: &Nominate<V>) -> Result<(), Error> {
    if nominate.x.is_disjoint(&nominate.y) { Ok(()) } else { Err(Error::NominatedTwice) }
}

fn validate_prepare<V: Value>(prepare: &Prepare<V>) -> Result<(), Error> {
    if prepare.p.as_ref().is_some_and(|p| *p > prepare.b) {
        return Err(Error::PreparedAboveBallot);
    }
    match (&prepare.p, &prepare.pp) {
        (Some(p), Some(pp)) if pp >= p => return Err(Error::SecondNotBelowFirst),
        (None, Some(_)) => return Err(Error::SecondNotBelowFirst),
        _ => {}
    }
    if prepare.cn > prepare.hn || prepare.hn > prepare.b.n {
        return Err(Error::Counters(prepare.cn, prepare.hn, prepare.b.n));
    }
    Ok(())
}

/// Whether a message can be honest, by itself.
///
/// # Errors
/// If it contradicts itself.
pub fn validate<V: Value>(msg: &Msg<V>) -> Result<(), Error> {
    if !msg.quorum_set.is_valid() {
        return Err(Error::QuorumSet);
    }
    match &msg.topic {
        Topic::Nominate(nominate) => validate_nominate(nominate),
        Topic::NominatePrepare(nominate, prepare) => {
            validate_nominate(nominate)?;
            validate_prepare(prepare)
        }
        Topic::Prepare(prepare) => validate_prepare(prepare),
        Topic::Commit(commit) if commit.cn > commit.hn => Err(Error::Counters(commit.cn, commit.hn, commit.b.n)),
        Topic::Commit(_) => Ok(()),
        Topic::Externalize(externalize) if externalize.c.n > externalize.hn => {
            Err(Error::Counters(externalize.c.n, externalize.hn, u32::MAX))
        }
        Topic::Externalize(_) => Ok(()),
    }
}

fn compare_nominate<V: Value>(a: &Nominate<V>, b: &Nominate<V>) -> Ordering {
    a.y.len()
        .cmp(&b.y.len())
        .then_with(|| a.y.cmp(&b.y))
        .then_with(|| a.x.len().cmp(&b.x.len()))
        .then_with(|| a.x.cmp(&b.x))
}

fn compare_prepare<V: Value>(a: &Prepare<V>, b: &Prepare<V>) -> Ordering {
    a.b.cmp(&b.b).then_with(|| a.p.cmp(&b.p)).then_with(|| a.pp.cmp(&b.pp)).then_with(|| a.hn.cmp(&b.hn))
}

fn rank<V>(topic: &Topic<V>) -> u8 {
    match topic {
        Topic::Nominate(_) => 0,
        Topic::NominatePrepare(..) => 1,
        Topic::Prepare(_) => 2,
        Topic::Commit(_) => 3,
        Topic::Externalize(_) => 4,
    }
}

/// Which topic supersedes the other.
pub fn compare<V: Value>(a: &Topic<V>, b: &Topic<V>) -> Ordering {
    match (a, b) {
        (Topic::Nominate(a), Topic::Nominate(b)) => compare_nominate(a, b),
        (Topic::NominatePrepare(a, c), Topic::NominatePrepare(b, d)) => {
            compare_prepare(c, d).then_with(|| compare_nominate(a, b))
        }
        (Topic::Prepare(a), Topic::Prepare(b)) => compare_prepare(a, b),
        (Topic::Commit(a), Topic::Commit(b)) => {
            a.b.cmp(&b.b).then_with(|| a.pn.cmp(&b.pn)).then_with(|| a.hn.cmp(&b.hn))
        }
        (Topic::Externalize(a), Topic::Externalize(b)) => a.hn.cmp(&b.hn).then_with(|| a.c.cmp(&b.c)),
        _ => rank(a).cmp(&rank(b)),
    }
}

/// All values that a message names.
pub fn values<V: Value>(topic: &Topic<V>) -> Vec<&V> {
    let mut out = Vec::new();
    match topic {
        Topic::Nominate(n) => out.extend(n.x.iter().chain(&n.y)),
        Topic::NominatePrepare(n, p) => {
            out.extend(n.x.iter().chain(&n.y));
            out.extend(prepared(p));
        }
        Topic::Prepare(p) => out.extend(prepared(p)),
        Topic::Commit(c) => out.extend(&c.b.x),
        Topic::Externalize(e) => out.extend(&e.c.x),
    }
    out
}

fn prepared<V>(prepare: &Prepare<V>) -> impl Iterator<Item = &V> {
    std::iter::once(&prepare.b).chain(&prepare.p).chain(&prepare.pp).flat_map(|ballot| &ballot.x)
}

/// Nomination part of a message.
fn nomination<V>(topic: &Topic<V>) -> Option<&Nominate<V>> {
    match topic {
        Topic::Nominate(nominate) | Topic::NominatePrepare(nominate, _) => Some(nominate),
        _ => None,
    }
}

/// Values voted for or accepted in nomination.
pub fn nominated<V>(topic: &Topic<V>) -> impl Iterator<Item = &V> {
    nomination(topic).into_iter().flat_map(|n| n.x.iter().chain(&n.y))
}

/// Whether the sender votes for or accepts a value in nomination.
pub fn votes_nominated<V: Value>(topic: &Topic<V>, value: &V) -> bool {
    nomination(topic).is_some_and(|n| n.x.contains(value) || n.y.contains(value))
}

/// Whether the sender accepts a value in nomination.
pub fn accepts_nominated<V: Value>(topic: &Topic<V>, value: &V) -> bool {
    nomination(topic).is_some_and(|n| n.y.contains(value))
}

/// A statement that a ballot, and all lower ones of its values, are prepared.
fn covers<V: Value>(stated: u32, values: &[V], ballot: &Ballot<V>) -> bool {
    stated >= ballot.n && values == ballot.x.as_slice()
}

/// Whether the sender accepts that a ballot is prepared.
pub fn accepts_prepared<V: Value>(topic: &Topic<V>, ballot: &Ballot<V>) -> bool {
    match topic {
        Topic::Nominate(_) => false,
        Topic::NominatePrepare(_, p) | Topic::Prepare(p) => {
            p.p.iter().chain(&p.pp).any(|b| covers(b.n, &b.x, ballot)) || (p.hn > 0 && covers(p.hn, &p.b.x, ballot))
        }
        Topic::Commit(c) => covers(c.pn.max(c.hn), &c.b.x, ballot),
        Topic::Externalize(e) => covers(u32::MAX, &e.c.x, ballot),
    }
}

/// Whether the sender votes for or accepts that a ballot is prepared.
pub fn votes_prepared<V: Value>(topic: &Topic<V>, ballot: &Ballot<V>) -> bool {
    let votes = match topic {
        Topic::Nominate(_) => false,
        Topic::NominatePrepare(_, p) | Topic::Prepare(p) => covers(p.b.n, &p.b.x, ballot),
        Topic::Commit(c) => covers(u32::MAX, &c.b.x, ballot),
        Topic::Externalize(_) => false,
    };
    votes || accepts_prepared(topic, ballot)
}

/// The ballots that a message says something about being prepared, each with the highest counter that makes sense.
pub fn prepared_ballots<V: Value>(topic: &Topic<V>) -> Vec<Ballot<V>> {
    match topic {
        Topic::Nominate(_) => Vec::new(),
        Topic::NominatePrepare(_, p) | Topic::Prepare(p) => {
            let mut out: Vec<Ballot<V>> = std::iter::once(&p.b).chain(&p.p).chain(&p.pp).cloned().collect();
            if p.hn > 0 {
                out.push(Ballot::new(p.hn, p.b.x.clone()));
            }
            out
        }
        Topic::Commit(c) => [c.b.n, c.pn, c.hn].map(|n| Ballot::new(n, c.b.x.clone())).to_vec(),
        Topic::Externalize(e) => [e.c.n, e.hn].map(|n| Ballot::new(n, e.c.x.clone())).to_vec(),
    }
}

/// The counters of some values that a sender accepts as committed.
pub fn accepted_commits<V>(topic: &Topic<V>) -> Option<(u32, u32, &[V])> {
    match topic {
        Topic::Commit(c) => Some((c.cn, c.hn, &c.b.x)),
        Topic::Externalize(e) => Some((e.c.n, u32::MAX, &e.c.x)),
        _ => None,
    }
}

/// The counters of some values that a sender votes for or accepts as committed.
pub fn voted_commits<V>(topic: &Topic<V>) -> Option<(u32, u32, &[V])> {
    match topic {
        Topic::Prepare(p) | Topic::NominatePrepare(_, p) if p.cn > 0 => Some((p.cn, p.hn, &p.b.x)),
        Topic::Commit(c) => Some((c.cn, u32::MAX, &c.b.x)),
        Topic::Externalize(e) => Some((e.c.n, u32::MAX, &e.c.x)),
        _ => None,
    }
}
