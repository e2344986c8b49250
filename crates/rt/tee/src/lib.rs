//! Verifies the evidence by which nodes prove that they run a runtime's enclave.
//!
//! Layer: L2, pure: time, height, parameters and debug relaxations are arguments. Reference counterpart:
//! `go/common/sgx` (quotes, collateral, policies) and `go/common/node/{sgx,tee}.go`.
//!
//! What it does not do: it fetches no collateral, talks to no quoting enclave, verifies no enclave binaries, and does not
//! look up runtimes or deployments; it reads no revocation lists, since the reference reads none.
//!
//! Main items: [`verify_node_tee_capability`], [`SgxAttestation`], [`SgxConstraints`], [`TeeFeatures`], [`Quote`],
//! [`Policy`], [`pcs::QuoteBundle`], [`ias::AvrBundle`], [`VerifyOptions`].
//!
//! Invariants:
//! * Verdicts are those of the reference, byte for byte of evidence: they decide over registrations.
//! * [`VerifyOptions::default`] is production; nothing else relaxes a check.
//! * No input makes a parser panic, recurse, or take more memory than a small multiple of its size.
//!
//! Tested with the reference's published quotes, reports and collateral, with every verdict its own tests expect, with
//! its recorded verdicts on changed inputs (`vectors/tee`), with synthetic edge cases, and with properties.

mod bytes;
mod der;
pub mod ias;
mod identity;
mod node;
mod options;
pub mod pcs;
mod quote;
mod raw_json;
#[cfg(test)]
mod testdata;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod x509;

pub use identity::{EnclaveIdentity, MalformedIdentity, MrEnclave, MrSigner, TEST_MR_SIGNER, VerifiedQuote};
pub use node::{
    Binding, Error, HARDWARE_INTEL_SGX, NodeTeeCapability, SgxAttestation, SgxConstraints, TeeFeatures, TeeFeaturesSgx,
    hash_attestation, hash_rak, verify_node_tee_capability,
};
pub use options::VerifyOptions;
pub use quote::{Error as QuoteError, Policy, Quote};
pub use time::UnixTime;
pub use x509::{Certificate, CertificateError};
