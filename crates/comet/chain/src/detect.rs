//! Telling an attack: a witness has another header than the one just verified. Where do they part, and who is at fault?
//!
//! Reference: `cometbft:light/detector.go`.

use wire_cometbft::Time;
use wire_cometbft::evidence::LightClientAttackEvidence;

use crate::evidence::{VerifyError, byzantine_validators};
use crate::light::{Bisection, BisectionError, Height, LightBlock, Policy, Step};
use crate::validators::Validator;

/// What a witness's block says about a verified one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// The same header and the same priorities.
    Match,
    /// Another header: one of the two providers lies.
    Conflict,
    /// The same header, but other proposer priorities, which no header covers.
    PrioritiesDiverge,
}

/// Compares a verified block with the witness's block of the same height.
pub fn compare(verified: &LightBlock, witness: &LightBlock) -> Comparison {
    if verified.header.hash() != witness.header.hash() {
        Comparison::Conflict
    } else if verified.validators.same_priorities(&witness.validators) {
        Comparison::Match
    } else {
        Comparison::PrioritiesDiverge
    }
}

/// Compares a verified block with the newest block of a witness that is not that far: the witness cannot have a later
/// time at a lower height.
pub fn conflicts_by_time(verified: &LightBlock, witness_latest: &LightBlock) -> bool {
    witness_latest.height() < verified.height() && witness_latest.header.time >= verified.header.time
}

/// Why an examination ended without finding where the chains part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExamineError {
    /// The source cannot verify its own chain.
    #[error(transparent)]
    Verification(#[from] BisectionError),
    /// The target lies below the trace, or the trace is empty.
    #[error("target height {0} lies outside of the trace")]
    Target(Height),
    /// The source disagrees at the trusted block already.
    #[error("source has another block at the trusted height")]
    TrustedDiffers,
    /// A block further up has an earlier time, which a verified trace cannot have.
    #[error("trace does not precede the target in time")]
    TimeOrder,
    /// The chains never part.
    #[error("no divergence between trace and source")]
    NoDivergence,
}

/// Where two chains part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// The source's blocks from the last common one (first) to its own version of the divergent one (last).
    pub source_trace: Vec<LightBlock>,
    /// The first block of the examined trace that the source does not have.
    pub divergent: LightBlock,
}

/// What a [`TraceExamination`] wants next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExamineStep {
    /// The source's light block of this height; bring it by [`TraceExamination::provide`].
    Fetch(Height),
    /// The chains part here.
    Done(Box<Divergence>),
}

/// Walks a trace of verified blocks with a provider that disagrees about its end, verifying the provider's chain
/// along the way, until the two part.
#[derive(Debug)]
pub struct TraceExamination {
    policy: Policy,
    trace: Vec<LightBlock>,
    target: LightBlock,
    /// Place in the trace.
    at: usize,
    /// The source's last verified block.
    verified: Option<LightBlock>,
    /// The source's trace to its newest verified block.
    source_trace: Vec<LightBlock>,
    /// Verification of the source's block at this place.
    bisection: Option<(Bisection, LightBlock)>,
}

impl TraceExamination {
    /// Examines `trace` with the source's `target`, which conflicts with the trace's end.
    pub fn new(trace: Vec<LightBlock>, target: LightBlock, policy: Policy) -> Result<Self, ExamineError> {
        match trace.first() {
            Some(first) if first.height() <= target.height() => {}
            _ => return Err(ExamineError::Target(target.height())),
        }
        Ok(Self { policy, trace, target, at: 0, verified: None, source_trace: Vec::new(), bisection: None })
    }

    /// Goes on until the chains part or a block of the source is needed.
    pub fn step(&mut self, now: Time) -> Result<ExamineStep, ExamineError> {
        loop {
            if let Some((bisection, reached)) = &mut self.bisection {
                match bisection.step(now)? {
                    Step::Fetch(height) => return Ok(ExamineStep::Fetch(height)),
                    Step::Done(source_trace) => {
                        let reached = reached.clone();
                        self.bisection = None;
                        self.source_trace = source_trace;
                        if let Some(divergence) = self.conclude(reached)? {
                            return Ok(ExamineStep::Done(Box::new(divergence)));
                        }
                        continue;
                    }
                }
            }
            let block = self.trace.get(self.at).ok_or(ExamineError::NoDivergence)?;
            if block.height() > self.target.height() {
                if let Some(divergence) = self.beyond_target(block.clone())? {
                    return Ok(ExamineStep::Done(Box::new(divergence)));
                }
                continue;
            }
            if block.height() < self.target.height() {
                return Ok(ExamineStep::Fetch(block.height()));
            }
            self.take(self.target.clone())?;
        }
    }

    /// The trace goes on above the target: the block there is the divergent one, once the source's chain is verified up
    /// to the target.
    fn beyond_target(&mut self, block: LightBlock) -> Result<Option<Divergence>, ExamineError> {
        if block.header.time > self.target.header.time {
            return Err(ExamineError::TimeOrder);
        }
        let verified = self.verified.clone().ok_or(ExamineError::TrustedDiffers)?;
        if verified.height() == self.target.height() {
            let source_trace = std::mem::take(&mut self.source_trace);
            return Ok(Some(Divergence { source_trace, divergent: block }));
        }
        self.bisection = Some((Bisection::new(verified, self.target.clone(), self.policy), self.target.clone()));
        Ok(None)
    }

    /// Brings the source's block that was asked for, checked for chain and height.
    pub fn provide(&mut self, block: LightBlock) -> Result<(), ExamineError> {
        match &mut self.bisection {
            Some((bisection, _)) => {
                bisection.provide(block);
                Ok(())
            }
            None => self.take(block),
        }
    }

    /// Takes the source's block at this place of the trace.
    fn take(&mut self, block: LightBlock) -> Result<(), ExamineError> {
        let Some(verified) = self.verified.clone() else {
            if self.trace.first().is_none_or(|first| first.header.hash() != block.header.hash()) {
                return Err(ExamineError::TrustedDiffers);
            }
            self.verified = Some(block);
            self.at += 1;
            return Ok(());
        };
        self.bisection = Some((Bisection::new(verified, block.clone(), self.policy), block));
        Ok(())
    }

    /// The source's chain is verified up to `reached`.
    fn conclude(&mut self, reached: LightBlock) -> Result<Option<Divergence>, ExamineError> {
        let block = self.trace.get(self.at).ok_or(ExamineError::NoDivergence)?;
        if reached.header.hash() != block.header.hash() {
            let source_trace = std::mem::take(&mut self.source_trace);
            return Ok(Some(Divergence { source_trace, divergent: block.clone() }));
        }
        self.verified = Some(reached);
        self.at += 1;
        Ok(None)
    }
}

/// Evidence against whoever signed `conflicting`, by a provider that has `trusted` instead and `common` before it.
pub fn attack_evidence(
    conflicting: &LightBlock,
    trusted: &LightBlock,
    common: &LightBlock,
) -> Result<LightClientAttackEvidence, VerifyError> {
    let mut evidence =
        LightClientAttackEvidence { conflicting_block: Some(conflicting.to_wire()), ..Default::default() };
    let base = if evidence.conflicting_header_is_invalid(&trusted.header) { common } else { trusted };
    evidence.common_height = base.height();
    evidence.timestamp = base.header.time;
    evidence.total_voting_power = base.validators.total_voting_power();
    let at_fault = byzantine_validators(&evidence, &common.validators, &trusted.signed_header())?;
    evidence.byzantine_validators = at_fault.iter().map(Validator::to_wire).collect();
    Ok(evidence)
}
