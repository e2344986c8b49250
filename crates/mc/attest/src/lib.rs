//! Attested channels of MobileCoin: Noise handshakes that carry enclave evidence, and verification of that evidence.
//!
//! Layer: L2, pure: ephemeral keys and the time come in as arguments. Counterparts in the reference: `mc-crypto-noise`,
//! `mc-attest-ake`, `mc-attest-verifier`.
//!
//! It makes no quotes and checks no advisories of platforms: [`evidence`] says what is verified.
//!
//! Main types: [`channel::Initiator`], [`channel::Responder`], [`channel::Channel`], [`evidence::Policy`].
//!
//! Invariants: a channel's counters only grow, so a lost, repeated or reordered message ends it; secrets are wiped.
//!
//! Tested by recorded handshakes and a recorded session (`vectors/mobilecoin`, crate `dev-mobilecoin`).

pub mod channel;
pub mod evidence;
pub mod report_data;
