//! CHURP: a secret that a committee holds in shares, handed from committee to committee without ever being put together.
//!
//! The secret is `B(0, 0)` of a polynomial in two variables of degrees `t` and `2t` that nobody knows. Node `i` holds
//! `B(i, y)`. In a handoff each node deals a random polynomial; their sum is added, so that shares of different times do
//! not fit together. If the committee changes, nodes first reduce their shares to `B(x, i)`, of which more are needed,
//! and turn them back afterwards. Source: `secret-sharing`, `keymanager/src/churp`.

pub mod client;
mod handoff;
mod instance;
mod poly;
mod share;
mod storage;
pub mod suite;
#[cfg(test)]
mod tests;
mod wire;

pub use handoff::{Handoff, HandoffKind};
pub use instance::Churp;
pub use poly::{Bivariate, Matrix, Poly};
pub use share::{Dealer, Share, recover_key, recover_secret};
pub use wire::{KeyShareRequest, QueryRequest, WireKeyShare, WireShare};

/// Why a share, a handoff or a request is refused. Texts are those of the reference where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChurpError {
    /// No randomness.
    #[error("no randomness")]
    Random,
    /// An id that leads to no point of the curve.
    #[error("encoding failed")]
    Encoding,
    /// Bytes that are no number, point or polynomial.
    #[error("decoding failed")]
    Decoding,
    /// Too few nodes.
    #[error("not enough shareholders")]
    NotEnoughShareholders,
    /// Too few shares.
    #[error("not enough shares")]
    NotEnoughShares,
    /// Two shares of one node.
    #[error("not distinct shares")]
    NotDistinct,
    /// A node that is not part of it.
    #[error("unknown shareholder")]
    UnknownShareholder,
    /// A node that already gave its part.
    #[error("duplicate shareholder")]
    DuplicateShareholder,
    /// A share of another node.
    #[error("shareholder identity mismatch")]
    IdentityMismatch,
    /// A share that is not the one promised.
    #[error("invalid polynomial")]
    InvalidPolynomial,
    /// A point that is not on the promised polynomial.
    #[error("invalid switch point")]
    InvalidSwitchPoint,
    /// A polynomial of another degree.
    #[error("polynomial degree mismatch")]
    DegreeMismatch,
    /// A matrix of other dimensions.
    #[error("verification matrix dimension mismatch")]
    DimensionMismatch,
    /// A polynomial that would change the secret, or one that has none where it must.
    #[error("verification matrix zero-hole mismatch")]
    ZeroHoleMismatch,
    /// A polynomial of lower degree than it claims.
    #[error("insecure bivariate polynomial")]
    Insecure,
    /// Too early or too late.
    #[error("invalid state")]
    InvalidState,
    /// Not part of this kind of handoff.
    #[error("invalid handoff")]
    InvalidHandoff,
    /// A matrix that is not the published one.
    #[error("invalid verification matrix checksum")]
    InvalidChecksum,
    /// The stored polynomial is not the one that was promised.
    #[error("invalid bivariate polynomial")]
    InvalidBivariate,
    /// Shares of another node are stored here.
    #[error("invalid host")]
    InvalidHost,
    /// Another key manager.
    #[error("runtime mismatch")]
    RuntimeMismatch,
    /// A cipher suite that is not known.
    #[error("unsupported cipher suite")]
    UnsupportedSuite,
    /// No such instance.
    #[error("status not published")]
    StatusNotPublished,
    /// Another handoff.
    #[error("handoff mismatch")]
    HandoffMismatch,
    /// Not the epoch of the handoff.
    #[error("handoff closed")]
    HandoffClosed,
    /// No handoff was begun.
    #[error("handoff not found")]
    HandoffNotFound,
    /// There are no handoffs.
    #[error("handoffs disabled")]
    HandoffsDisabled,
    /// Not the epoch before the handoff.
    #[error("applications closed")]
    ApplicationsClosed,
    /// The node applied already.
    #[error("application submitted")]
    ApplicationSubmitted,
    /// The node did not apply.
    #[error("application not submitted")]
    ApplicationNotSubmitted,
    /// The node is not in the committee.
    #[error("not in committee")]
    NotInCommittee,
    /// No share for that handoff.
    #[error("shareholder not found")]
    ShareholderNotFound,
    /// No polynomial for that handoff.
    #[error("dealer not found")]
    DealerNotFound,
    /// The caller is no enclave.
    #[error("not authenticated")]
    NotAuthenticated,
    /// The caller may not.
    #[error("not authorized")]
    NotAuthorized,
}
