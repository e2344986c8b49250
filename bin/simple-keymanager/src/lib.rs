//! The key manager as a ParaTime of its own, with the policy signers of test networks.
//!
//! Layer: L5. Reference counterpart: `tests/runtimes/simple-keymanager`.
//!
//! What it does not do: everything is in `rt-keymanager`; a key manager for a real network differs from this one in its
//! signers and trust root.
//!
//! Main item: [`main_with_version`].
//!
//! Invariants: none of its own.
//!
//! Tested by replaying recorded traffic of the reference's key manager (`vectors/rhp`).

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use base_prims::Version;
use rt_guest::{Config, End, TrustRoot};
use rt_keymanager::{key_manager, policy::TrustedSigners};

/// The trust root of builds that have one, from the variables that the reference's test builds take it from.
fn trust_root() -> Option<TrustRoot> {
    Some(TrustRoot {
        height: option_env!("OASIS_TESTS_CONSENSUS_TRUST_HEIGHT")?.parse().ok()?,
        hash: option_env!("OASIS_TESTS_CONSENSUS_TRUST_HASH")?.to_owned(),
        runtime_id: option_env!("OASIS_TESTS_CONSENSUS_TRUST_RUNTIME_ID")?.parse().ok()?,
        chain_context: option_env!("OASIS_TESTS_CONSENSUS_TRUST_CHAIN_CONTEXT")?.to_owned(),
    })
}

/// Runs the key manager until its host closes the connection.
pub fn main_with_version(version: Version) -> ExitCode {
    rt_guest::log::init(tracing::Level::INFO);
    let config = Config { version, trust_root: trust_root(), ..Config::default() };
    let Err(end) = rt_guest::run(config, key_manager(TrustedSigners::test()));
    tracing::info!(reason = %end, "runtime ends");
    if matches!(end, End::Closed) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
