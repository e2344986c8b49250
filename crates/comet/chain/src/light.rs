//! The light client's steps: may a header be trusted, given one that is?
//!
//! Reference: `cometbft:light/{verifier,client}.go`. Nothing here fetches or reads a clock: [`Bisection`] says which
//! height it needs, the caller brings it; the time is an argument.

use std::future::Future;
use std::pin::Pin;

use wire_cometbft::block::{BasicError, Commit, Header, LightBlock as WireLightBlock, SignedHeader};
use wire_cometbft::evidence::Evidence;
use wire_cometbft::{Duration, Time};

use crate::commit::{CommitError, Scope, TrustLevel, verify_light, verify_light_trusting};
use crate::validators::{ValidatorError, ValidatorSet};

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A height.
pub type Height = i64;

/// A light block as a provider sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UntrustedLightBlock(pub WireLightBlock);

/// Why a provider did not deliver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The height is above the provider's newest block.
    #[error("height {0} is too high")]
    HeightTooHigh(Height),
    /// The provider does not have that block (any more).
    #[error("light block {0} not found")]
    NotFound(Height),
    /// No answer in time.
    #[error("no response")]
    NoResponse,
    /// The provider sent something that is no such block; it should be replaced.
    #[error("bad light block: {0}")]
    BadLightBlock(String),
}

/// Where light blocks come from and evidence goes to.
pub trait LightBlockProvider: Send + Sync {
    /// A light block; height 0 means the newest. What comes back is untrusted until [`verify`] accepted it.
    fn light_block(&self, height: Height) -> BoxFuture<'_, Result<UntrustedLightBlock, ProviderError>>;
    /// Hands over evidence of an attack.
    fn report(&self, evidence: Evidence) -> BoxFuture<'_, Result<(), ProviderError>>;
}

/// A light block that is consistent in itself: the commit is for the header, the header names the validators.
/// Says nothing about trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LightBlock {
    /// Header.
    pub header: Header,
    /// Its commit.
    pub commit: Commit,
    /// Validators of its height.
    pub validators: ValidatorSet,
}

/// Why a light block cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LightError {
    /// The trusted header is too old to start from.
    #[error("old header has expired at {at} (now: {now})")]
    Expired {
        /// When it expired.
        at: Time,
        /// The time now.
        now: Time,
    },
    /// Too little of the trusted power signed; a header in between may help.
    #[error("can't trust new validator set: got {got}, needed more than {needed}")]
    CantBeTrusted {
        /// Trusted power that signed.
        got: i64,
        /// Trusted power that must be exceeded.
        needed: i64,
    },
    /// The new header, its commit or its validators are wrong in themselves.
    #[error("invalid header: {0}")]
    InvalidHeader(InvalidHeader),
    /// The commit cannot be judged by the trusted validators.
    #[error("trusted validators: {0}")]
    Trusting(CommitError),
    /// The validators are not those that the trusted header named for this height.
    #[error("validators are not the next validators of the trusted header")]
    NextValidators,
    /// Adjacent headers were given to the other check or the other way round.
    #[error("heights {trusted} and {untrusted} do not fit this check")]
    Adjacency {
        /// Height of the trusted header.
        trusted: Height,
        /// Height of the new header.
        untrusted: Height,
    },
}

/// What is wrong with a header in itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// It breaks a stateless rule.
    #[error(transparent)]
    Basic(#[from] BasicError),
    /// Its validators are malformed.
    #[error(transparent)]
    Validators(#[from] ValidatorError),
    /// It is not above the trusted one.
    #[error("height {0} is not above the trusted height")]
    Height(Height),
    /// It is not of the height asked for.
    #[error("light block of height {got}, asked for {wanted}")]
    OtherHeight {
        /// Height asked for.
        wanted: Height,
        /// Height that came.
        got: Height,
    },
    /// Its time is not after (backwards: not before) the trusted one's.
    #[error("time {0} is out of order")]
    TimeOrder(Time),
    /// Its time lies in the future.
    #[error("time {0} is in the future")]
    Future(Time),
    /// Its validators are not those it names.
    #[error("header names other validators")]
    ValidatorsHash,
    /// Its commit does not hold.
    #[error(transparent)]
    Commit(CommitError),
    /// It is not the block before the trusted one.
    #[error("header is not the trusted header's last block")]
    NotLastBlock,
}

impl<T: Into<InvalidHeader>> From<T> for LightError {
    fn from(error: T) -> Self {
        Self::InvalidHeader(error.into())
    }
}

impl UntrustedLightBlock {
    /// Checks that the block is consistent in itself, of this chain and of the height asked for (0: any).
    pub fn check(&self, chain_id: &str, height: Height) -> Result<LightBlock, LightError> {
        let (header, commit, validators) = self.0.validate_basic(chain_id)?;
        if height != 0 && header.height != height {
            return Err(InvalidHeader::OtherHeight { wanted: height, got: header.height }.into());
        }
        let validators = ValidatorSet::from_wire(validators)?;
        Ok(LightBlock { header: header.clone(), commit: commit.clone(), validators })
    }
}

impl LightBlock {
    /// Height.
    pub fn height(&self) -> Height {
        self.header.height
    }

    /// Header and commit as a message.
    pub fn signed_header(&self) -> SignedHeader {
        SignedHeader { header: Some(self.header.clone()), commit: Some(self.commit.clone()) }
    }

    /// The message, without the sum of powers.
    pub fn to_wire(&self) -> WireLightBlock {
        WireLightBlock { signed_header: Some(self.signed_header()), validator_set: Some(self.validators.to_wire()) }
    }
}

/// How far a light client trusts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long a header may be started from, counted from its own time.
    pub trusting_period: Duration,
    /// How far ahead of this node's clock a header may be.
    pub max_clock_drift: Duration,
    /// Share of the trusted power that must have signed.
    pub trust_level: TrustLevel,
}

impl Policy {
    /// The reference's defaults for a trusting period: 10 s of drift, one third.
    pub const fn new(trusting_period: Duration) -> Self {
        Self { trusting_period, max_clock_drift: Duration::from_secs(10), trust_level: TrustLevel::ONE_THIRD }
    }
}

/// Whether a header is too old to start from.
pub fn is_expired(header: &Header, trusting_period: Duration, now: Time) -> bool {
    header.time.unix_nanos() + i128::from(trusting_period.nanos()) <= now.unix_nanos()
}

fn check_new(trusted: &LightBlock, new: &LightBlock, policy: &Policy, now: Time) -> Result<(), LightError> {
    new.signed_header().validate_basic(&trusted.header.chain_id)?;
    if new.height() <= trusted.height() {
        return Err(InvalidHeader::Height(new.height()).into());
    }
    if new.header.time <= trusted.header.time {
        return Err(InvalidHeader::TimeOrder(new.header.time).into());
    }
    if new.header.time.unix_nanos() >= now.unix_nanos() + i128::from(policy.max_clock_drift.nanos()) {
        return Err(InvalidHeader::Future(new.header.time).into());
    }
    if new.header.validators_hash != new.validators.hash() {
        return Err(InvalidHeader::ValidatorsHash.into());
    }
    Ok(())
}

fn check_age(trusted: &LightBlock, policy: &Policy, now: Time) -> Result<(), LightError> {
    if is_expired(&trusted.header, policy.trusting_period, now) {
        return Err(LightError::Expired { at: trusted.header.time.saturating_add(policy.trusting_period), now });
    }
    Ok(())
}

fn check_own_commit(trusted: &LightBlock, new: &LightBlock) -> Result<(), LightError> {
    let LightBlock { header, commit, validators } = new;
    let chain_id = &trusted.header.chain_id;
    verify_light(validators, chain_id, &commit.block_id, header.height, commit, Scope::Enough)
        .map_err(|error| InvalidHeader::Commit(error).into())
}

/// Checks the header right after a trusted one: its validators are those the trusted header named, and two thirds
/// signed it.
pub fn verify_adjacent(trusted: &LightBlock, new: &LightBlock, policy: &Policy, now: Time) -> Result<(), LightError> {
    if trusted.height().checked_add(1) != Some(new.height()) {
        return Err(LightError::Adjacency { trusted: trusted.height(), untrusted: new.height() });
    }
    check_age(trusted, policy, now)?;
    check_new(trusted, new, policy, now)?;
    if new.header.validators_hash != trusted.header.next_validators_hash {
        return Err(LightError::NextValidators);
    }
    check_own_commit(trusted, new)
}

/// Checks a header further up: enough of the trusted power signed it, and two thirds of its own.
pub fn verify_non_adjacent(
    trusted: &LightBlock,
    new: &LightBlock,
    policy: &Policy,
    now: Time,
) -> Result<(), LightError> {
    if trusted.height().checked_add(1) == Some(new.height()) {
        return Err(LightError::Adjacency { trusted: trusted.height(), untrusted: new.height() });
    }
    check_age(trusted, policy, now)?;
    check_new(trusted, new, policy, now)?;
    let chain_id = &trusted.header.chain_id;
    verify_light_trusting(&trusted.validators, chain_id, &new.commit, policy.trust_level, Scope::Enough).map_err(
        |error| match error {
            CommitError::NotEnoughPower { got, needed } => LightError::CantBeTrusted { got, needed },
            other => LightError::Trusting(other),
        },
    )?;
    check_own_commit(trusted, new)
}

/// Checks a header above a trusted one.
pub fn verify(trusted: &LightBlock, new: &LightBlock, policy: &Policy, now: Time) -> Result<(), LightError> {
    if trusted.height().checked_add(1) == Some(new.height()) {
        verify_adjacent(trusted, new, policy, now)
    } else {
        verify_non_adjacent(trusted, new, policy, now)
    }
}

/// Checks that a header is the block before a trusted one.
pub fn verify_backwards(older: &Header, trusted: &Header) -> Result<(), LightError> {
    older.validate_basic()?;
    if older.chain_id != trusted.chain_id {
        return Err(BasicError::WrongChain.into());
    }
    if older.time >= trusted.time {
        return Err(InvalidHeader::TimeOrder(older.time).into());
    }
    let hash = older.hash().map_or_else(Vec::new, |hash| hash.to_vec());
    if hash != trusted.last_block_id.hash {
        return Err(InvalidHeader::NotLastBlock.into());
    }
    Ok(())
}

/// What a [`Bisection`] wants next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The light block of this height; bring it by [`Bisection::provide`].
    Fetch(Height),
    /// The target is trusted; these blocks led to it, the trusted one first, the target last.
    Done(Vec<LightBlock>),
}

/// Where and why a bisection failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("verify from {from} to {to} failed: {source}")]
pub struct BisectionError {
    /// Height of the last trusted block.
    pub from: Height,
    /// Height of the block that was refused.
    pub to: Height,
    /// Why.
    pub source: LightError,
}

/// Verifies a header far above a trusted one by going through headers in between, as few as possible.
///
/// # Consensus
/// If too little trusted power signed, the height at 9/16 of the gap is tried next (`verifySkippingNumerator`).
#[derive(Debug, Clone)]
pub struct Bisection {
    policy: Policy,
    trace: Vec<LightBlock>,
    /// Blocks not trusted yet, highest first; the first is the target.
    pending: Vec<LightBlock>,
    /// The one of `pending` that is tried next.
    depth: usize,
}

impl Bisection {
    /// Starts from a trusted block towards a target above it.
    pub fn new(trusted: LightBlock, target: LightBlock, policy: Policy) -> Self {
        Self { policy, trace: vec![trusted], pending: vec![target], depth: 0 }
    }

    /// Goes on until the target is trusted or a block is needed.
    pub fn step(&mut self, now: Time) -> Result<Step, BisectionError> {
        loop {
            let (Some(verified), Some(next)) = (self.trace.last(), self.pending.get(self.depth)) else {
                return Ok(Step::Done(self.trace.clone()));
            };
            match verify(verified, next, &self.policy, now) {
                Ok(()) => {
                    let reached = self.pending.drain(self.depth..).next();
                    self.trace.extend(reached);
                    self.depth = 0;
                }
                Err(LightError::CantBeTrusted { .. }) if self.depth + 1 < self.pending.len() => self.depth += 1,
                Err(LightError::CantBeTrusted { .. }) => {
                    let gap = next.height() - verified.height();
                    // Heights are positive, so the product fits 128 bits and the quotient 64.
                    let step = i64::try_from(i128::from(gap) * 9 / 16).unwrap_or(gap);
                    return Ok(Step::Fetch(verified.height() + step));
                }
                Err(source) => {
                    return Err(BisectionError { from: verified.height(), to: next.height(), source });
                }
            }
        }
    }

    /// Brings the block that was asked for, checked for chain and height ([`UntrustedLightBlock::check`]).
    pub fn provide(&mut self, block: LightBlock) {
        self.depth = self.pending.len();
        self.pending.push(block);
    }
}
