//! Published evidence and collateral, read where it lies outside the project; tests skip if it is missing.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use base_codec::Bytes;
use dev_testkit::paths;

use crate::{
    VerifyOptions,
    pcs::{QuoteBundle, SignedQeIdentity, SignedTcbInfo, TcbBundle},
};

/// Files that were reported as missing, so that each counts once.
static MISSING: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Reads published files, or reports those that are missing.
pub(crate) fn read<const N: usize>(names: [&str; N]) -> Option<[Vec<u8>; N]> {
    let found = names.map(|name| (name, paths::published(&format!("oasis-core/{name}"))));
    let mut reported = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
    let absent = found.iter().filter(|(_, path)| path.is_none());
    let new = absent.filter(|(name, _)| reported.insert((*name).to_owned())).count();
    if new > 0 {
        dev_testkit::skip(new, "published files with evidence are missing");
    }
    let all = found.iter().all(|(_, path)| path.is_some());
    all.then(|| found.map(|(_, path)| dev_testkit::read(&path.unwrap()).unwrap()))
}

pub(crate) const PCS: &str = "go/common/sgx/pcs/testdata";

/// The bundle of these files of the folder `at`.
pub(crate) fn bundle(at: &str, quote: &str, tcb_info: &str, qe_identity: &str, certs: &str) -> Option<QuoteBundle> {
    let path = |name: &str| format!("{at}/{name}");
    let paths = [path(quote), path(tcb_info), path(qe_identity), path(certs)];
    let [quote, tcb_info, qe_identity, certs] = read(paths.each_ref().map(String::as_str))?;
    Some(QuoteBundle {
        quote: Some(Bytes(quote)),
        tcb: TcbBundle {
            tcb_info: SignedTcbInfo::from_answer(&tcb_info).unwrap(),
            qe_identity: SignedQeIdentity::from_answer(&qe_identity).unwrap(),
            certificates: Some(Bytes(certs)),
        },
    })
}

pub(crate) const CERTS: &str = "tcb_info_v3_fmspc_00606A000000_certs.pem";
/// When [`sgx_bundle`] is valid.
pub(crate) const SGX_NOW: i64 = 1_671_497_404;
/// When [`tdx_bundle`] is valid.
pub(crate) const TDX_NOW: i64 = 1_725_263_032;
/// When the collateral of [`old_tdx_bundle`] is valid.
pub(crate) const OLD_TDX_NOW: i64 = 1_687_091_776;

/// A good SGX quote.
pub(crate) fn sgx_bundle() -> Option<QuoteBundle> {
    let info = "tcb_info_v3_fmspc_00606A000000.json";
    bundle(PCS, "quote_v3_ecdsa_p256_pck_chain.bin", info, "qe_identity_v2.json", CERTS)
}

/// A good TDX quote.
pub(crate) fn tdx_bundle() -> Option<QuoteBundle> {
    let info = "tcb_info_v3_tdx_fmspc_C0806F000000.json";
    bundle(PCS, "quote_v4_tdx_ecdsa_p256.bin", info, "qe_identity_v2_tdx2.json", CERTS)
}

/// A TDX quote of a platform that is out of date.
pub(crate) fn old_tdx_bundle() -> Option<QuoteBundle> {
    let info = "tcb_info_v3_tdx_fmspc_50806F000000.json";
    bundle(PCS, "quote_v4_tdx_ecdsa_p256_out_of_date.bin", info, "qe_identity_v2_tdx.json", CERTS)
}

/// Production, but for the signer: the published enclaves were signed with the test key.
pub(crate) fn options() -> VerifyOptions {
    VerifyOptions { allow_test_signer: true, ..VerifyOptions::default() }
}
