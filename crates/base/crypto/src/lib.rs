//! The cryptography of the Oasis Network: well-kept primitives plus the rules they lack.
//!
//! Layer L0; depends on no other crate of the project, so keys, digests and signatures are plain byte arrays here.
//! Reference counterpart: `go/common/crypto`, and for Ed25519 and VRF rules the `curve25519-voi` library it uses.
//!
//! What it does not do: no I/O, clock or operating system randomness; no envelopes (a signature beside the bytes it
//! signs is a wire type); no key files or certificates (`base_identity`).
//!
//! Main types: [`ed25519::SecretKey`], [`ed25519::BatchVerifier`], [`context::Context`], [`blacklist::Blacklist`],
//! [`drbg::Drbg`], [`mathrand::Rng`], [`tuplehash::TupleHash256`].
//!
//! Invariants: a signature's verdict never depends on whether it was checked alone, in a batch or with a cached key;
//! everything is a pure function of its arguments; secrets are wiped on drop and never printed.
//!
//! Tested with published vectors (RFC 8032, RFC 9381, SP 800-185, NIST HMAC_DRBG, the EdDSA edge cases of Chalkias et
//! al.) and with the reference's recorded answers in `vectors/crypto`.

pub mod blacklist;
pub mod context;
pub mod cshake;
pub mod drbg;
pub mod ed25519;
pub mod h2c;
pub mod hash;
pub mod mathrand;
pub mod mrae;
pub mod tuplehash;
pub mod vrf;

#[cfg(test)]
mod vectors;
