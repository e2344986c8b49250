//! A handoff as one node goes through it: what it still needs, from whom, and the share that it ends with.

use std::sync::Arc;

use super::{
    ChurpError, Share,
    poly::{Matrix, Poly, dimensions, passes_through},
    suite::{Point, Scalar},
};

/// What a handoff is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoffKind {
    /// The first one: the secret comes to be.
    DealingPhase,
    /// The committee stays, its shares change.
    CommitteeUnchanged,
    /// Another committee takes over.
    CommitteeChanged,
}

impl HandoffKind {
    /// How many shares of the form that the handoff deals give the secret.
    pub fn min_shares(self, threshold: u8) -> usize {
        let (rows, cols) = dimensions(threshold);
        if self == Self::CommitteeChanged { cols } else { rows }
    }

    fn zero_hole(self) -> bool {
        self != Self::DealingPhase
    }
}

/// Points of the polynomial that a node needs, checked against its commitment.
#[derive(Debug)]
struct Points {
    needed: usize,
    matrix: Arc<Matrix>,
    commitment: Vec<Point>,
    points: Vec<(Scalar, Scalar)>,
}

impl Points {
    /// Of a full share, `B(me, ·)`, or a reduced one, `B(·, me)`.
    fn new(threshold: u8, full: bool, me: &Scalar, matrix: Arc<Matrix>) -> Result<Self, ChurpError> {
        let (rows, cols) = dimensions(threshold);
        if matrix.dimensions() != (rows, cols) {
            return Err(ChurpError::DimensionMismatch);
        }
        let (needed, commitment) = if full { (cols, matrix.at_x(me)) } else { (rows, matrix.at_y(me)) };
        Ok(Self { needed, matrix, commitment, points: Vec::new() })
    }

    fn needs(&self, x: &Scalar) -> bool {
        self.points.len() < self.needed && !self.points.iter().any(|(known, _)| known == x)
    }

    /// Adds a point; returns the share when it was the last one.
    fn add(&mut self, me: &Scalar, x: Scalar, y: Scalar) -> Result<Option<Share>, ChurpError> {
        if !self.needs(&x) {
            return Err(ChurpError::DuplicateShareholder);
        }
        if !passes_through(&self.commitment, &x, &y) {
            return Err(ChurpError::InvalidSwitchPoint);
        }
        self.points.push((x, y));
        if self.points.len() < self.needed {
            return Ok(None);
        }
        let polynomial = Poly::through(&self.points);
        Ok(Some(Share { x: *me, polynomial, matrix: Arc::clone(&self.matrix) }))
    }
}

#[derive(Debug)]
enum Stage {
    /// Needs the commitment to the old committee's polynomial.
    Matrix,
    /// Collects points from the old committee.
    Reduction(Points),
    /// Needs the share that it had.
    OwnShare,
    /// Collects what every node of the new committee dealt.
    Proactivization { base: Option<Arc<Share>>, sum: Option<Share>, pending: Vec<Scalar> },
    /// Collects points from the new committee.
    Distribution { reduced: Arc<Share>, points: Points },
    /// Has its new share.
    Done { reduced: Option<Arc<Share>>, full: Arc<Share> },
}

/// A handoff of one node.
#[derive(Debug)]
pub struct Handoff {
    kind: HandoffKind,
    threshold: u8,
    me: Scalar,
    shareholders: Vec<Scalar>,
    stage: Stage,
}

impl Handoff {
    /// Begins a handoff to the given nodes, of which `me` is one.
    ///
    /// # Errors
    /// If there are too few of them: `t + 2` for the first handoff, so that `t` dealers that reveal what they dealt do
    /// not reveal the secret; else `t + 1`.
    pub fn new(kind: HandoffKind, threshold: u8, me: Scalar, shareholders: Vec<Scalar>) -> Result<Self, ChurpError> {
        let dealing = kind == HandoffKind::DealingPhase;
        if shareholders.len() < usize::from(threshold) + 1 + usize::from(dealing) {
            return Err(ChurpError::NotEnoughShareholders);
        }
        if !shareholders.contains(&me) {
            return Err(ChurpError::UnknownShareholder);
        }
        let stage = match kind {
            HandoffKind::DealingPhase => {
                Stage::Proactivization { base: None, sum: None, pending: shareholders.clone() }
            }
            HandoffKind::CommitteeUnchanged => Stage::OwnShare,
            HandoffKind::CommitteeChanged => Stage::Matrix,
        };
        Ok(Self { kind, threshold, me, shareholders, stage })
    }

    /// What the handoff is for.
    pub fn kind(&self) -> HandoffKind {
        self.kind
    }

    /// Whether the commitment to the old committee's polynomial is needed.
    pub fn needs_matrix(&self) -> bool {
        matches!(self.stage, Stage::Matrix)
    }

    /// Sets the commitment to the old committee's polynomial, which must be the published one.
    ///
    /// # Errors
    /// If it is not needed or malformed.
    pub fn set_matrix(&mut self, matrix: Arc<Matrix>) -> Result<(), ChurpError> {
        if !self.needs_matrix() {
            return Err(ChurpError::InvalidState);
        }
        self.stage = Stage::Reduction(Points::new(self.threshold, false, &self.me, matrix)?);
        Ok(())
    }

    /// Sets the share that the node had, where the committee stays.
    ///
    /// # Errors
    /// If it is not needed.
    pub fn set_share(&mut self, share: Arc<Share>) -> Result<(), ChurpError> {
        if !matches!(self.stage, Stage::OwnShare) {
            return Err(ChurpError::InvalidState);
        }
        self.stage = Stage::Proactivization { base: Some(share), sum: None, pending: self.shareholders.clone() };
        Ok(())
    }

    /// Whether a point of that node of the old committee is needed.
    pub fn needs_reduction_point(&self, x: &Scalar) -> bool {
        match &self.stage {
            Stage::Matrix => true,
            Stage::Reduction(points) => points.needs(x),
            _ => false,
        }
    }

    /// Adds a point of the old committee; returns whether all are there.
    ///
    /// # Errors
    /// If it is not needed or not on the polynomial.
    pub fn add_reduction_point(&mut self, x: Scalar, y: Scalar) -> Result<bool, ChurpError> {
        let Stage::Reduction(points) = &mut self.stage else {
            return Err(ChurpError::InvalidState);
        };
        let Some(share) = points.add(&self.me, x, y)? else { return Ok(false) };
        let pending = self.shareholders.clone();
        self.stage = Stage::Proactivization { base: Some(Arc::new(share)), sum: None, pending };
        Ok(true)
    }

    /// Whether that node's dealt share is needed.
    pub fn needs_dealt_share(&self, x: &Scalar) -> bool {
        matches!(&self.stage, Stage::Proactivization { pending, .. } if pending.contains(x))
    }

    /// Adds what a node dealt to this one; returns whether all are there.
    ///
    /// # Errors
    /// If it is not needed, not for this node, or does not fit its commitment.
    pub fn add_dealt_share(&mut self, x: &Scalar, share: Share) -> Result<bool, ChurpError> {
        if !self.shareholders.contains(x) {
            return Err(ChurpError::UnknownShareholder);
        }
        let full = self.kind != HandoffKind::CommitteeChanged;
        let Stage::Proactivization { base, sum, pending } = &mut self.stage else {
            return Err(ChurpError::InvalidState);
        };
        let Some(at) = pending.iter().position(|p| p == x) else {
            return Err(ChurpError::DuplicateShareholder);
        };
        if share.x != self.me {
            return Err(ChurpError::IdentityMismatch);
        }
        share.verify(self.threshold, self.kind.zero_hole(), full)?;
        match sum {
            Some(sum) => sum.add(&share)?,
            None => *sum = Some(share),
        }
        pending.swap_remove(at);
        if !pending.is_empty() {
            return Ok(false);
        }
        let sum = sum.take().ok_or(ChurpError::InvalidState)?;
        let share = match base {
            Some(base) => base.proactivized(&sum)?,
            None => sum,
        };
        // Dealers that agree could have cancelled each other out.
        share.verify(self.threshold, false, full)?;
        let share = Arc::new(share);
        self.stage = if full {
            Stage::Done { reduced: None, full: share }
        } else {
            let points = Points::new(self.threshold, true, &self.me, Arc::clone(&share.matrix))?;
            Stage::Distribution { reduced: share, points }
        };
        Ok(true)
    }

    /// Whether a point of that node of the new committee is needed.
    pub fn needs_distribution_point(&self, x: &Scalar) -> bool {
        match &self.stage {
            Stage::Distribution { points, .. } => points.needs(x),
            Stage::Done { .. } => false,
            _ => self.kind == HandoffKind::CommitteeChanged,
        }
    }

    /// Adds a point of the new committee; returns whether all are there.
    ///
    /// # Errors
    /// If it is not needed or not on the polynomial.
    pub fn add_distribution_point(&mut self, x: Scalar, y: Scalar) -> Result<bool, ChurpError> {
        let Stage::Distribution { reduced, points } = &mut self.stage else {
            return Err(ChurpError::InvalidState);
        };
        let Some(share) = points.add(&self.me, x, y)? else { return Ok(false) };
        self.stage = Stage::Done { reduced: Some(Arc::clone(reduced)), full: Arc::new(share) };
        Ok(true)
    }

    /// The node's share in the form that others need points of, from the time when it has one.
    ///
    /// # Errors
    /// If it has none.
    pub fn reduced_share(&self) -> Result<Arc<Share>, ChurpError> {
        match &self.stage {
            Stage::Distribution { reduced, .. } | Stage::Done { reduced: Some(reduced), .. } => Ok(Arc::clone(reduced)),
            _ => Err(ChurpError::InvalidState),
        }
    }

    /// The node's new share.
    ///
    /// # Errors
    /// Before the handoff is done.
    pub fn full_share(&self) -> Result<Arc<Share>, ChurpError> {
        match &self.stage {
            Stage::Done { full, .. } => Ok(Arc::clone(full)),
            _ => Err(ChurpError::InvalidState),
        }
    }
}
