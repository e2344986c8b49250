//! What a node relaxes in debug networks; everything off is production.

use base_crypto::blacklist::Blacklist;

/// Relaxations of evidence verification. [`VerifyOptions::default`] is what a production node uses.
///
/// The reference sets these process-wide from debug flags; here they are arguments. All nodes of a network must use the
/// same, since they decide over registrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Signatures and certificates of IAS reports are not checked (`ias.debug_skip_verify`).
    pub skip_avr_verify: bool,
    /// Signatures, certificates, collateral and TCB of PCS quotes are not checked (`debug.skip_quote_verify`).
    pub skip_pcs_verify: bool,
    /// Debug enclaves are required instead of refused (`debug.allow_debug_enclaves`).
    pub allow_debug_enclaves: bool,
    /// Platforms whose TCB is out of date or needs configuration are accepted (`debug.tcb_lax_verify`).
    pub lax_tcb: bool,
    /// Enclaves signed with the publicly known test key are accepted (`debug.allow_test_keys`).
    pub allow_test_signer: bool,
    /// Attestation keys whose signatures never count (`debug.allow_test_keys` shortens the list).
    pub key_blacklist: Blacklist,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            skip_avr_verify: false,
            skip_pcs_verify: false,
            allow_debug_enclaves: false,
            lax_tcb: false,
            allow_test_signer: false,
            key_blacklist: Blacklist::production(),
        }
    }
}

impl VerifyOptions {
    /// Options of a network that runs mock enclaves: nothing is signed by Intel and test keys are allowed.
    pub fn mock() -> Self {
        Self {
            skip_avr_verify: true,
            skip_pcs_verify: true,
            allow_debug_enclaves: true,
            lax_tcb: true,
            allow_test_signer: true,
            key_blacklist: Blacklist::allowing_test_keys(),
        }
    }
}
