//! The key manager: keys for confidential ParaTimes, derived from secrets that only attested enclaves have.
//!
//! Layer: L3. Reference counterpart: `keymanager` and `secret-sharing` (Rust).
//!
//! What it does not do: it decides nothing about committees and rotation (the consensus side is `apps-keymanager`), moves
//! no frames between nodes (the host does), and runs in real Intel SGX enclaves only as far as `rt-guest` does.
//!
//! Main items: [`key_manager`], which makes a runtime of it; [`secrets::Secrets`] with [`kdf::Kdf`] and
//! [`policy::Policy`]; [`churp::Churp`] with [`churp::Handoff`]; for ParaTimes [`client::RemoteClient`].
//!
//! Invariants:
//! * A master secret is stored or used only if it leads to the checksum in the verified consensus state.
//! * Secrets and private keys leave only to enclaves that a policy names, signed by enough trusted signers; outside of
//!   TEEs, where keys are fixed and worthless, to everybody.
//! * Derivations are those of the reference, byte for byte, quirks included.
//! * Nothing a peer or the host sends panics; what is kept is bounded by named constants.
//!
//! Tested with known derivation values, with recorded traffic of the reference's key manager (its encrypted secrets open,
//! its checksums, signing keys and sealed storage are found again), with policies in every wrong form, and with simulated
//! handoffs in which nodes drop out and lie.

/// Offers methods of something behind an `Arc`: each row a name, the kind of calls, and the method.
macro_rules! offer {
    ($this:ident, $methods:ident; $($name:expr, $kind:ident => $f:expr;)*) => {$({
        let this = ::std::sync::Arc::clone($this);
        $methods.add($name, ::wire_runtime::enclave_rpc::Kind::$kind, move |caller, args| Ok($f(&*this, caller, args)?));
    })*};
}
pub(crate) use offer;

pub mod api;
pub mod churp;
pub mod client;
mod error;
pub mod kdf;
pub mod policy;
pub mod secrets;

use std::sync::Arc;

use rt_guest::{Env, Error, Init, Services};

pub use error::KeyManagerError;

use policy::TrustedSigners;

/// A key manager as a runtime: pass the result to [`rt_guest::run`].
pub fn key_manager(signers: TrustedSigners) -> Init {
    Box::new(move |env: &Env| -> Result<Services, Error> {
        let node = env.host.identity()?;
        let mut services = Services::default();
        Arc::new(secrets::Secrets::new(env, signers.clone())).offer(&mut services.methods);
        Arc::new(churp::Churp::new(env, node, signers)).offer(&mut services.methods);
        Ok(services)
    })
}
