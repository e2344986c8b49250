//! Evidence against what the node knows: is it true, recent, and aimed at the right validators?
//!
//! Reference: `cometbft:evidence/verify.go`, `types/evidence.go`.

use wire_cometbft::Time;
use wire_cometbft::block::{Commit, Header, SignedHeader};
use wire_cometbft::evidence::{DuplicateVoteEvidence, Evidence, EvidenceError, EvidenceSum, LightClientAttackEvidence};
use wire_cometbft::keys::Address;
use wire_cometbft::vote::Vote;

use crate::commit::{CommitError, Scope, TrustLevel, verify_light, verify_light_trusting};
use crate::signature;
use crate::state::State;
use crate::validators::{Validator, ValidatorError, ValidatorSet, sort_by_power};

/// A failure to read stored headers or sets; says nothing about the evidence.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// What the node has stored.
pub trait EvidenceSource {
    /// Header of a height.
    fn header(&self, height: i64) -> Result<Option<Header>, SourceError>;
    /// The commit for a height as the block after it carries it; none for the newest block.
    fn commit(&self, height: i64) -> Result<Option<Commit>, SourceError>;
    /// Validators of a height.
    fn validators(&self, height: i64) -> Result<Option<ValidatorSet>, SourceError>;
    /// Height of the newest block.
    fn latest_height(&self) -> i64;
}

/// Why evidence is refused.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The node could not read its own store; the evidence may be good.
    #[error("reading stored chain: {0}")]
    Source(#[source] SourceError),
    /// It breaks a stateless rule.
    #[error(transparent)]
    Basic(#[from] EvidenceError),
    /// A stored header, commit or set that is needed is not there.
    #[error("don't have {what} at height {height}")]
    Missing {
        /// What is missing.
        what: &'static str,
        /// Height.
        height: i64,
    },
    /// Its time is not that of the block at its height.
    #[error("evidence time {got} is not the block's time {expected}")]
    Time {
        /// Time of the block.
        expected: Time,
        /// Time in the evidence.
        got: Time,
    },
    /// Older than both limits.
    #[error("evidence from height {0} is too old")]
    Expired(i64),
    /// The voter was no validator.
    #[error("{0} was not a validator")]
    NotValidator(String),
    /// The two votes differ in height, round, type or voter.
    #[error("votes do not belong together")]
    UnlikeVotes,
    /// The two votes are for the same block.
    #[error("votes are for the same block")]
    SameBlock,
    /// A stated power is not that of the set.
    #[error("{what} is {expected}, not {got}")]
    Power {
        /// Which power.
        what: &'static str,
        /// Power in the set.
        expected: i64,
        /// Power in the evidence.
        got: i64,
    },
    /// A vote's signature does not hold.
    #[error("invalid signature of vote {0}")]
    Signature(&'static str),
    /// The conflicting block is at the common height, but could not have come from its state.
    #[error("conflicting block at the common height is not correctly derived")]
    NotDerived,
    /// The conflicting block's commit does not hold.
    #[error("conflicting block: {0}")]
    Commit(#[from] CommitError),
    /// The conflicting block's validators are malformed.
    #[error("conflicting validators: {0}")]
    Validators(#[from] ValidatorError),
    /// The conflicting block lies in the future and does not break the order of time.
    #[error("conflicting block doesn't violate monotonically increasing time")]
    TimeInOrder,
    /// The newest block is older than the conflicting one.
    #[error("latest block time is before conflicting block time")]
    LatestTooOld,
    /// The conflicting block is the chain's.
    #[error("trusted header is the conflicting header")]
    NoConflict,
    /// The validators named are not those at fault.
    #[error("evidence names other validators than those at fault")]
    ByzantineValidators,
}

/// Checks evidence against the state and the stored chain.
pub fn verify(evidence: &Evidence, state: &State, source: &dyn EvidenceSource) -> Result<(), VerifyError> {
    evidence.validate_basic()?;
    let height = evidence.height();
    let header = load(source.header(height), "header", height)?;
    if evidence.time() != header.time {
        return Err(VerifyError::Time { expected: header.time, got: evidence.time() });
    }
    if is_expired(state, height, header.time) {
        return Err(VerifyError::Expired(height));
    }
    match &evidence.sum {
        Some(EvidenceSum::DuplicateVote(duplicate)) => {
            let set = load(source.validators(height), "validators", height)?;
            verify_duplicate_vote(duplicate, &state.chain_id, &set)
        }
        Some(EvidenceSum::LightClientAttack(attack)) => {
            let commit = load(source.commit(height), "commit", height)?;
            let common_validators = load(source.validators(height), "validators", height)?;
            let common = SignedHeader { header: Some(header), commit: Some(commit) };
            let trusted = trusted_header(attack, &common, source)?;
            verify_light_client_attack(attack, &common, &trusted, &common_validators)
        }
        None => Err(EvidenceError::Unknown.into()),
    }
}

/// Whether evidence of a height and time is older than both limits of the parameters.
pub fn is_expired(state: &State, height: i64, time: Time) -> bool {
    let params = &state.consensus_params.evidence;
    state.last_block_time.since(time) > params.max_age_duration
        && state.last_block_height.saturating_sub(height) > params.max_age_num_blocks
}

fn load<T>(loaded: Result<Option<T>, SourceError>, what: &'static str, height: i64) -> Result<T, VerifyError> {
    loaded.map_err(VerifyError::Source)?.ok_or(VerifyError::Missing { what, height })
}

fn signed_header(source: &dyn EvidenceSource, height: i64) -> Result<Option<SignedHeader>, VerifyError> {
    let header = source.header(height).map_err(VerifyError::Source)?;
    let commit = source.commit(height).map_err(VerifyError::Source)?;
    Ok(match (header, commit) {
        (Some(header), Some(commit)) => Some(SignedHeader { header: Some(header), commit: Some(commit) }),
        _ => None,
    })
}

/// The chain's header at the conflicting height, or the newest one if the chain is not that far.
fn trusted_header(
    attack: &LightClientAttackEvidence,
    common: &SignedHeader,
    source: &dyn EvidenceSource,
) -> Result<SignedHeader, VerifyError> {
    let conflicting = attack.conflicting_header().ok_or(EvidenceError::Missing("conflicting header"))?;
    if attack.common_height == conflicting.height {
        return Ok(common.clone());
    }
    if let Some(trusted) = signed_header(source, conflicting.height)? {
        return Ok(trusted);
    }
    let latest = source.latest_height();
    let trusted =
        signed_header(source, latest)?.ok_or(VerifyError::Missing { what: "signed header", height: latest })?;
    if trusted.header.as_ref().is_some_and(|header| header.time < conflicting.time) {
        return Err(VerifyError::LatestTooOld);
    }
    Ok(trusted)
}

fn check_power(what: &'static str, expected: i64, got: i64) -> Result<(), VerifyError> {
    if expected == got { Ok(()) } else { Err(VerifyError::Power { what, expected, got }) }
}

/// Checks that one validator of `set` signed two votes for different blocks in one round.
pub fn verify_duplicate_vote(
    evidence: &DuplicateVoteEvidence,
    chain_id: &str,
    set: &ValidatorSet,
) -> Result<(), VerifyError> {
    let (a, b) = evidence.votes()?;
    let Some((_, validator)) = set.find_bytes(&a.validator_address) else {
        let address = Address::from_slice(&a.validator_address).unwrap_or_default();
        return Err(VerifyError::NotValidator(address.to_string()));
    };
    let alike = |vote: &Vote| (vote.height, vote.round, vote.kind, vote.validator_address.clone());
    if alike(a) != alike(b) {
        return Err(VerifyError::UnlikeVotes);
    }
    if a.block_id == b.block_id {
        return Err(VerifyError::SameBlock);
    }
    check_power("validator power", validator.voting_power, evidence.validator_power)?;
    check_power("total voting power", set.total_voting_power(), evidence.total_voting_power)?;
    for (name, vote) in [("a", a), ("b", b)] {
        if !signature::verify(&validator.pub_key, &vote.sign_bytes(chain_id), &vote.signature) {
            return Err(VerifyError::Signature(name));
        }
    }
    Ok(())
}

/// Makes evidence of two votes of one validator, in the right order; `None` if it is not in the set.
pub fn new_duplicate_vote(
    first: Vote,
    second: Vote,
    block_time: Time,
    set: &ValidatorSet,
) -> Option<DuplicateVoteEvidence> {
    let (_, validator) = set.find_bytes(&first.validator_address)?;
    let in_order = first.block_id.key() < second.block_id.key();
    let (vote_a, vote_b) = if in_order { (first, second) } else { (second, first) };
    Some(DuplicateVoteEvidence {
        total_voting_power: set.total_voting_power(),
        validator_power: validator.voting_power,
        timestamp: block_time,
        vote_a: Some(vote_a),
        vote_b: Some(vote_b),
    })
}

/// The parts of a signed header whose presence was checked before.
fn halves(signed: &SignedHeader) -> Result<(&Header, &Commit), VerifyError> {
    match (&signed.header, &signed.commit) {
        (Some(header), Some(commit)) => Ok((header, commit)),
        _ => Err(EvidenceError::Missing("header or commit").into()),
    }
}

/// Checks that a conflicting light block could fool a light client that trusts the common header, and that it is not
/// the chain's. The evidence has passed the stateless checks and is not expired.
pub fn verify_light_client_attack(
    evidence: &LightClientAttackEvidence,
    common: &SignedHeader,
    trusted: &SignedHeader,
    common_validators: &ValidatorSet,
) -> Result<(), VerifyError> {
    let block = evidence.conflicting_block.as_ref().ok_or(EvidenceError::Missing("conflicting block"))?;
    let signed = block.signed_header.as_ref().ok_or(EvidenceError::Missing("conflicting header"))?;
    let (header, commit) = halves(signed)?;
    let (common_header, _) = halves(common)?;
    let (trusted_header, _) = halves(trusted)?;
    let wire_set = block.validator_set.as_ref().ok_or(EvidenceError::Missing("conflicting validators"))?;
    let set = ValidatorSet::from_wire(wire_set)?;
    let chain_id = &trusted_header.chain_id;

    if common_header.height != header.height {
        let all = Scope::AllSignatures;
        verify_light_trusting(common_validators, chain_id, commit, TrustLevel::ONE_THIRD, all)?;
    } else if evidence.conflicting_header_is_invalid(trusted_header) {
        return Err(VerifyError::NotDerived);
    }
    verify_light(&set, chain_id, &commit.block_id, header.height, commit, Scope::AllSignatures)?;
    let total = common_validators.total_voting_power();
    check_power("total voting power", total, evidence.total_voting_power)?;
    if header.height > trusted_header.height && header.time > trusted_header.time {
        return Err(VerifyError::TimeInOrder);
    }
    if trusted_header.hash() == header.hash() {
        return Err(VerifyError::NoConflict);
    }
    check_byzantine_validators(evidence, common_validators, trusted)
}

fn check_byzantine_validators(
    evidence: &LightClientAttackEvidence,
    common_validators: &ValidatorSet,
    trusted: &SignedHeader,
) -> Result<(), VerifyError> {
    let expected = byzantine_validators(evidence, common_validators, trusted)?;
    // # Consensus
    // Where no validator can be named (amnesia) the reference refuses whatever came over the wire: it tells a nil list
    // from the empty one that decoding gives.
    if expected.is_empty() || expected.len() != evidence.byzantine_validators.len() {
        return Err(VerifyError::ByzantineValidators);
    }
    let same = expected
        .iter()
        .zip(&evidence.byzantine_validators)
        .all(|(expected, named)| named.address == expected.address.0 && named.voting_power == expected.voting_power);
    if same { Ok(()) } else { Err(VerifyError::ByzantineValidators) }
}

/// The validators at fault, by power: for a header that could not be, those of the common set that signed it; for a
/// second block in the same round, those who signed both; none if the rounds differ.
pub fn byzantine_validators(
    evidence: &LightClientAttackEvidence,
    common_validators: &ValidatorSet,
    trusted: &SignedHeader,
) -> Result<Vec<Validator>, VerifyError> {
    let (trusted_header, trusted_commit) = halves(trusted)?;
    let block = evidence.conflicting_block.as_ref().ok_or(EvidenceError::Missing("conflicting block"))?;
    let signed = block.signed_header.as_ref().ok_or(EvidenceError::Missing("conflicting header"))?;
    let (_, commit) = halves(signed)?;
    let mut at_fault = Vec::new();
    if evidence.conflicting_header_is_invalid(trusted_header) {
        let signers = commit.signatures.iter().filter(|entry| entry.is_for_block());
        at_fault.extend(
            signers.filter_map(|entry| common_validators.find_bytes(&entry.validator_address)).map(|(_, v)| v.clone()),
        );
    } else if trusted_commit.round == commit.round {
        let wire_set = block.validator_set.as_ref().ok_or(EvidenceError::Missing("conflicting validators"))?;
        let set = ValidatorSet::from_wire(wire_set)?;
        for (ours, theirs) in commit.signatures.iter().zip(&trusted_commit.signatures) {
            if ours.is_absent() || theirs.is_absent() {
                continue;
            }
            // An address that is not in the set makes the reference panic.
            let (_, validator) = set.find_bytes(&ours.validator_address).ok_or(VerifyError::ByzantineValidators)?;
            at_fault.push(validator.clone());
        }
    }
    sort_by_power(&mut at_fault);
    Ok(at_fault)
}
