//! Keys, hidden amounts, ring signatures and range proofs of MobileCoin.
//!
//! Layer: L2, pure: randomness comes in as an argument, and batch weights are derived by hashing. Counterparts in the
//! reference: `account-keys`, `mc-crypto-keys`, `mc-crypto-ring-signature`, parts of `mc-transaction-core`.
//!
//! It holds no fog cryptography and no memos' meanings. Verification handles public data in variable time; what handles
//! secrets (derivation, signing) is constant-time where the curve library is.
//!
//! Main types: [`account::Account`], [`amount::Amount`], functions of [`onetime`], [`mlsag`] and [`range`].
//!
//! Invariants: verification never panics, whatever the bytes; [`range::verify_batch`] accepts exactly what verifying each
//! statement alone accepts, but for a chance of about 2^-250.
//!
//! Tested by `vectors/mobilecoin` (crate `dev-mobilecoin`), and here against the published `bulletproofs` crate.

pub mod account;
pub mod amount;
pub mod curve;
pub mod ed25519;
pub mod mlsag;
pub mod onetime;
pub mod range;
pub mod schnorrkel;
