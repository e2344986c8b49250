//! Collateral, policies, reports and certificates that come with quotes.
#![no_main]

use base_codec::{cbor, json};
use libfuzzer_sys::fuzz_target;
use rt_tee::{Certificate, Policy, VerifyOptions, ias, pcs};

fuzz_target!(|data: &[u8]| {
    let _ = Certificate::from_der(data);
    if let Ok(info) = pcs::SignedTcbInfo::from_answer(data) {
        let _ = info.parse_unverified();
    }
    if let Ok(identity) = pcs::SignedQeIdentity::from_answer(data) {
        let _ = identity.parse_unverified();
    }
    let now = 1_671_497_404.into();
    let options = VerifyOptions::default();
    if let Ok(bundle) = cbor::from_slice::<pcs::QuoteBundle>(data) {
        let _ = bundle.verify(None, now, &options);
    }
    if let Ok(bundle) = cbor::from_slice::<ias::AvrBundle>(data) {
        let _ = bundle.open(None, now, &options);
    }
    if let Ok(report) = ias::Report::parse_unverified(data, &options) {
        let _ = report.quote();
    }
    let _ = ias::IasQuote::parse(data);
    if let Ok(policy) = cbor::from_slice::<Policy>(data) {
        let bytes = cbor::to_vec(&policy);
        assert_eq!(cbor::to_vec(&cbor::from_slice::<Policy>(&bytes).expect("decodes")), bytes);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = json::from_str::<Policy>(text);
    }
});
