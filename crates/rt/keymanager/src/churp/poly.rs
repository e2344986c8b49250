//! Polynomials in one and two variables, and commitments to the latter.
//!
//! Bytes: a polynomial is its coefficients from the constant on; one in two variables, and a matrix, has its two degrees
//! (one byte each) before them, row by row.

use p384::elliptic_curve::Group as _;
use zeroize::Zeroize;

use super::{
    ChurpError,
    suite::{
        POINT_BYTES, Point, SCALAR_BYTES, Scalar, point_from_bytes, point_to_bytes, random_scalar, scalar_from_bytes,
        scalar_to_bytes,
    },
};

/// `1, x, x², …`
fn powers(x: &Scalar, count: usize) -> Vec<Scalar> {
    std::iter::successors(Some(Scalar::ONE), |last| Some(last * x)).take(count).collect()
}

/// A polynomial in one variable: coefficients from the constant on. Forgotten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Poly(Vec<Scalar>);

impl std::fmt::Debug for Poly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Poly({} coefficients)", self.0.len())
    }
}

impl Drop for Poly {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Poly {
    /// How many coefficients there are.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Value at zero.
    pub fn constant(&self) -> Scalar {
        self.0.first().copied().unwrap_or(Scalar::ZERO)
    }

    /// Value at `x`.
    pub fn eval(&self, x: &Scalar) -> Scalar {
        self.0.iter().rev().fold(Scalar::ZERO, |sum, a| sum * x + a)
    }

    /// Adds another of the same size.
    pub fn add(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a += b;
        }
    }

    /// The polynomial of least degree through points, whose first coordinates must differ.
    pub fn through(points: &[(Scalar, Scalar)]) -> Self {
        let n = points.len();
        let mut sum = vec![Scalar::ZERO; n];
        for (i, (xi, yi)) in points.iter().enumerate() {
            // Product of (x - xj) over the others, and its value at xi.
            let (mut basis, mut scale) = (vec![Scalar::ONE], Scalar::ONE);
            for (xj, _) in points.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, point)| point) {
                let mut next = vec![Scalar::ZERO; basis.len() + 1];
                for (k, a) in basis.iter().enumerate() {
                    next[k + 1] += a;
                    next[k] -= a * xj;
                }
                basis = next;
                scale *= xi - xj;
            }
            let factor = Option::from(scale.invert()).unwrap_or(Scalar::ZERO) * yi;
            for (total, a) in sum.iter_mut().zip(basis) {
                *total += a * factor;
            }
        }
        Self(sum)
    }

    /// The coefficients' bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(scalar_to_bytes).collect()
    }

    /// A polynomial from its coefficients' bytes.
    ///
    /// # Errors
    /// If they are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ChurpError> {
        if bytes.is_empty() {
            return Err(ChurpError::Decoding);
        }
        bytes.chunks(SCALAR_BYTES).map(scalar_from_bytes).collect::<Result<_, _>>().map(Self)
    }
}

/// What each point weighs in the value at zero of the polynomial through all.
pub(super) fn weights_at_zero(xs: &[Scalar]) -> Vec<Scalar> {
    let weight = |(i, xi): (usize, &Scalar)| {
        let others = xs.iter().enumerate().filter(|(j, _)| *j != i);
        let (top, bottom) =
            others.fold((Scalar::ONE, Scalar::ONE), |(top, bottom), (_, xj)| (top * xj, bottom * (xj - xi)));
        top * Option::from(bottom.invert()).unwrap_or(Scalar::ZERO)
    };
    xs.iter().enumerate().map(weight).collect()
}

/// A polynomial in two variables: `coefficients[i][j]` belongs to `x^i y^j`. Forgotten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Bivariate(Vec<Vec<Scalar>>);

impl std::fmt::Debug for Bivariate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bivariate({} rows)", self.0.len())
    }
}

impl Drop for Bivariate {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Zeroize::zeroize);
    }
}

/// Splits bytes with two degrees before them into rows of elements.
fn rows<T>(
    bytes: &[u8],
    size: usize,
    read: impl Fn(&[u8]) -> Result<T, ChurpError>,
) -> Result<Vec<Vec<T>>, ChurpError> {
    let (degrees, rest) = bytes.split_first_chunk::<2>().ok_or(ChurpError::Decoding)?;
    let [rows, cols] = degrees.map(|degree| usize::from(degree) + 1);
    if rest.len() != rows * cols * size {
        return Err(ChurpError::Decoding);
    }
    rest.chunks(cols * size).map(|row| row.chunks(size).map(&read).collect()).collect()
}

fn with_degrees<T>(rows: &[Vec<T>], write: impl Fn(&T) -> Vec<u8>) -> Vec<u8> {
    let degree = |len: usize| len.saturating_sub(1).min(usize::from(u8::MAX)) as u8;
    let mut bytes = vec![degree(rows.len()), degree(rows.first().map_or(0, Vec::len))];
    rows.iter().flatten().for_each(|element| bytes.extend(write(element)));
    bytes
}

impl Bivariate {
    /// Random coefficients, `rows` by `cols`.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn random(rows: usize, cols: usize) -> Result<Self, ChurpError> {
        (0..rows).map(|_| (0..cols).map(|_| random_scalar()).collect()).collect::<Result<_, _>>().map(Self)
    }

    /// Sets the value at zero.
    pub fn set_constant(&mut self, constant: Scalar) {
        if let Some(first) = self.0.first_mut().and_then(|row| row.first_mut()) {
            *first = constant;
        }
    }

    /// The polynomial in `y` at `x`.
    pub fn at_x(&self, x: &Scalar) -> Poly {
        let powers = powers(x, self.0.len());
        let cols = self.0.first().map_or(0, Vec::len);
        Poly((0..cols).map(|j| self.0.iter().zip(&powers).map(|(row, p)| row[j] * p).sum()).collect())
    }

    /// The polynomial in `x` at `y`.
    pub fn at_y(&self, y: &Scalar) -> Poly {
        let powers = powers(y, self.0.first().map_or(0, Vec::len));
        Poly(self.0.iter().map(|row| row.iter().zip(&powers).map(|(b, p)| b * p).sum()).collect())
    }

    /// The bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        with_degrees(&self.0, scalar_to_bytes)
    }

    /// From bytes.
    ///
    /// # Errors
    /// If they are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ChurpError> {
        rows(bytes, SCALAR_BYTES, scalar_from_bytes).map(Self)
    }
}

/// A commitment to a polynomial in two variables: each coefficient as a multiple of the base point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix(Vec<Vec<Point>>);

impl From<&Bivariate> for Matrix {
    fn from(polynomial: &Bivariate) -> Self {
        Self(polynomial.0.iter().map(|row| row.iter().map(|b| Point::GENERATOR * b).collect()).collect())
    }
}

fn is_identity(point: Point) -> bool {
    bool::from(point.is_identity())
}

impl Matrix {
    /// Rows and columns.
    pub fn dimensions(&self) -> (usize, usize) {
        (self.0.len(), self.0.first().map_or(0, Vec::len))
    }

    fn element(&self, row: usize, col: usize) -> Option<Point> {
        self.0.get(row)?.get(col).copied()
    }

    /// Whether the polynomial is zero at zero.
    pub fn is_zero_hole(&self) -> bool {
        self.element(0, 0).is_some_and(is_identity)
    }

    /// Checks dimensions, value at zero, and that no degree is lower than it must be.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn check(&self, threshold: u8, zero_hole: bool) -> Result<(), ChurpError> {
        let (rows, cols) = dimensions(threshold);
        if self.dimensions() != (rows, cols) {
            return Err(ChurpError::DimensionMismatch);
        }
        if self.is_zero_hole() != zero_hole {
            return Err(ChurpError::ZeroHoleMismatch);
        }
        let leading = [(rows - 1, cols - 1), (rows - 1, 0), (0, cols - 1)];
        if threshold > 0 && leading.iter().any(|(i, j)| self.element(*i, *j).is_none_or(is_identity)) {
            return Err(ChurpError::Insecure);
        }
        Ok(())
    }

    /// Commitment to the polynomial in `y` at `x`.
    pub fn at_x(&self, x: &Scalar) -> Vec<Point> {
        let powers = powers(x, self.0.len());
        let (_, cols) = self.dimensions();
        (0..cols).map(|j| self.0.iter().zip(&powers).map(|(row, p)| row[j] * p).sum()).collect()
    }

    /// Commitment to the polynomial in `x` at `y`.
    pub fn at_y(&self, y: &Scalar) -> Vec<Point> {
        let powers = powers(y, self.dimensions().1);
        self.0.iter().map(|row| row.iter().zip(&powers).map(|(m, p)| *m * p).sum()).collect()
    }

    /// Adds another of the same dimensions.
    pub fn add(&mut self, other: &Self) {
        for (row, others) in self.0.iter_mut().zip(&other.0) {
            for (a, b) in row.iter_mut().zip(others) {
                *a += b;
            }
        }
    }

    /// The bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        with_degrees(&self.0, point_to_bytes)
    }

    /// From bytes.
    ///
    /// # Errors
    /// If they are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ChurpError> {
        rows(bytes, POINT_BYTES, point_from_bytes).map(Self)
    }
}

/// Rows and columns for a threshold.
pub(super) fn dimensions(threshold: u8) -> (usize, usize) {
    (usize::from(threshold) + 1, 2 * usize::from(threshold) + 1)
}

/// Whether a commitment is to that polynomial. Looks at every coefficient, so that time does not tell which is wrong.
pub(super) fn commits_to(commitment: &[Point], polynomial: &Poly) -> bool {
    let differs = |(v, a): (&Point, &Scalar)| !is_identity(Point::GENERATOR * a - v);
    commitment.len() == polynomial.size()
        && !commitment.iter().zip(&polynomial.0).map(differs).fold(false, |any, differs| any | differs)
}

/// Whether a committed polynomial has the value `y` at `x`.
pub(super) fn passes_through(commitment: &[Point], x: &Scalar, y: &Scalar) -> bool {
    let value: Point = commitment.iter().zip(powers(x, commitment.len())).map(|(v, p)| *v * p).sum();
    is_identity(value - Point::GENERATOR * y)
}
