//! Shares, who deals them, and what enough of them give.

use std::sync::Arc;

use super::{
    ChurpError, HandoffKind,
    poly::{Bivariate, Matrix, Poly, commits_to, dimensions, weights_at_zero},
    suite::{Point, Scalar, hash_to_point},
};

/// A node's share with the commitment that it can be checked against.
///
/// Full shares are the polynomial `B(x, ·)`, reduced ones `B(·, x)`, where `x` stands for the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Whose share it is.
    pub x: Scalar,
    /// The share.
    pub polynomial: Poly,
    /// The commitment.
    pub matrix: Arc<Matrix>,
}

impl Share {
    /// Checks commitment and share; `full` says of which form the share must be.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn verify(&self, threshold: u8, zero_hole: bool, full: bool) -> Result<(), ChurpError> {
        self.matrix.check(threshold, zero_hole)?;
        let (rows, cols) = dimensions(threshold);
        let (size, commitment) =
            if full { (cols, self.matrix.at_x(&self.x)) } else { (rows, self.matrix.at_y(&self.x)) };
        if self.polynomial.size() != size {
            return Err(ChurpError::DegreeMismatch);
        }
        if commits_to(&commitment, &self.polynomial) { Ok(()) } else { Err(ChurpError::InvalidPolynomial) }
    }

    /// The point that another node needs to switch between the forms.
    pub fn switch_point(&self, x: &Scalar) -> Scalar {
        self.polynomial.eval(x)
    }

    /// The share after one of a polynomial without secret was added.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn proactivized(&self, other: &Self) -> Result<Self, ChurpError> {
        if !other.matrix.is_zero_hole() {
            return Err(ChurpError::ZeroHoleMismatch);
        }
        let mut sum = self.clone();
        sum.add(other)?;
        Ok(sum)
    }

    /// Adds another share of the same node.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn add(&mut self, other: &Self) -> Result<(), ChurpError> {
        if self.x != other.x {
            return Err(ChurpError::IdentityMismatch);
        }
        if self.polynomial.size() != other.polynomial.size() {
            return Err(ChurpError::DegreeMismatch);
        }
        if self.matrix.dimensions() != other.matrix.dimensions() {
            return Err(ChurpError::DimensionMismatch);
        }
        self.polynomial.add(&other.polynomial);
        Arc::make_mut(&mut self.matrix).add(&other.matrix);
        Ok(())
    }

    /// The node's part of a key: its number, and the id's point times the share at zero.
    ///
    /// # Errors
    /// If the id leads to no point.
    pub fn key_share(&self, id: &[u8], dst: &[u8]) -> Result<(Scalar, Point), ChurpError> {
        Ok((self.x, hash_to_point(id, dst)? * self.polynomial.constant()))
    }
}

/// A random polynomial, of which every node gets its share.
#[derive(Clone, Debug)]
pub struct Dealer {
    polynomial: Bivariate,
    matrix: Arc<Matrix>,
}

impl From<Bivariate> for Dealer {
    fn from(polynomial: Bivariate) -> Self {
        let matrix = Arc::new(Matrix::from(&polynomial));
        Self { polynomial, matrix }
    }
}

impl Dealer {
    /// A dealer of a part of the secret.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn new(threshold: u8) -> Result<Self, ChurpError> {
        Self::random(threshold, false)
    }

    /// A dealer that changes shares but not the secret.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn proactive(threshold: u8) -> Result<Self, ChurpError> {
        Self::random(threshold, true)
    }

    fn random(threshold: u8, zero_hole: bool) -> Result<Self, ChurpError> {
        let (rows, cols) = dimensions(threshold);
        loop {
            let mut polynomial = Bivariate::random(rows, cols)?;
            if zero_hole {
                polynomial.set_constant(Scalar::ZERO);
            }
            let dealer = Self::from(polynomial);
            // A leading coefficient is zero once in 2^384 times.
            if dealer.matrix.check(threshold, zero_hole).is_ok() {
                return Ok(dealer);
            }
        }
    }

    /// The polynomial.
    pub fn polynomial(&self) -> &Bivariate {
        &self.polynomial
    }

    /// The commitment.
    pub fn matrix(&self) -> &Arc<Matrix> {
        &self.matrix
    }

    /// A node's share, in the form that the handoff needs.
    pub fn share(&self, x: &Scalar, kind: HandoffKind) -> Share {
        let polynomial =
            if kind == HandoffKind::CommitteeChanged { self.polynomial.at_y(x) } else { self.polynomial.at_x(x) };
        Share { x: *x, polynomial, matrix: Arc::clone(&self.matrix) }
    }
}

fn weights(xs: &[Scalar], min: usize) -> Result<Vec<Scalar>, ChurpError> {
    if xs.len() < min {
        return Err(ChurpError::NotEnoughShares);
    }
    if xs.iter().enumerate().any(|(i, x)| xs[..i].contains(x)) {
        return Err(ChurpError::NotDistinct);
    }
    Ok(weights_at_zero(xs))
}

/// The secret, from enough shares of one form.
///
/// # Errors
/// If there are too few.
pub fn recover_secret(shares: &[Share], threshold: u8, kind: HandoffKind) -> Result<Scalar, ChurpError> {
    let xs: Vec<_> = shares.iter().map(|share| share.x).collect();
    let weights = weights(&xs, kind.min_shares(threshold))?;
    Ok(shares.iter().zip(weights).map(|(share, weight)| share.polynomial.constant() * weight).sum())
}

/// A key, from enough nodes' parts of it.
///
/// # Errors
/// If there are too few.
pub fn recover_key(parts: &[(Scalar, Point)], threshold: u8) -> Result<Point, ChurpError> {
    let xs: Vec<_> = parts.iter().map(|(x, _)| *x).collect();
    let weights = weights(&xs, HandoffKind::CommitteeUnchanged.min_shares(threshold))?;
    Ok(parts.iter().zip(weights).map(|((_, part), weight)| *part * weight).sum())
}
