//! Published reports under the verdicts of the reference's own tests, and mutated inputs.

use base_codec::{Bytes, cbor, json};
use proptest::prelude::*;

use super::*;
use crate::{CertificateError, identity::TEST_MR_SIGNER, testdata::read};

/// A time within the validity of the signing certificate.
const NOW: i64 = 1_695_829_918;

/// The published enclaves are debug ones signed with the test key.
fn debug() -> VerifyOptions {
    VerifyOptions { allow_debug_enclaves: true, allow_test_signer: true, ..VerifyOptions::default() }
}

fn published(version: u8) -> Option<AvrBundle> {
    let at = "go/common/sgx/ias/testdata";
    let body = format!("{at}/avr_v{version}_body_sw_hardening_needed.json");
    let signature = format!("{at}/avr_v{version}_body_sw_hardening_needed.sig");
    let certificates = format!("{at}/avr_certificates_urlencoded.pem");
    let [body, signature, certificates] = read([&body, &signature, &certificates])?;
    Some(AvrBundle {
        body: Some(Bytes(body)),
        signature: Some(Bytes(signature)),
        certificate_chain: Some(Bytes(certificates)),
    })
}

fn open(bundle: &AvrBundle, policy: Option<&QuotePolicy>) -> Result<Report, Error> {
    bundle.open(policy, NOW.into(), &debug())
}

#[test]
fn version_4() {
    let Some(bundle) = published(4) else { return };
    let report = open(&bundle, None).unwrap();
    assert_eq!(report.id, "323119119247496566074708526703373820736");
    assert_eq!(report.timestamp, "2020-05-11T09:21:15.454051");
    assert_eq!(report.version, 4);
    assert_eq!(report.isv_enclave_quote_status, IsvQuoteStatus::SW_HARDENING_NEEDED);
    assert_eq!(report.isv_enclave_quote_body.len(), 432);
    assert_eq!((report.revocation_reason, report.pse_manifest_status), (None, None));
    assert_eq!(report.nonce, "biNMqBAuTPF2hp/0fXa4P3splRkLHJf0");
    assert_eq!(report.epid_pseudonym[..4], [0xb8, 0x01, 0x51, 0x2d]);
    assert_eq!(report.advisory_url, "https://security-center.intel.com");
    assert_eq!(report.advisory_ids, ["INTEL-SA-00334"]);

    let quote = report.quote().unwrap();
    assert_eq!((quote.body.version, quote.body.linkable, quote.body.gid), (2, true, 0xbc5));
    assert_eq!((quote.body.isv_svn_qe, quote.body.isv_svn_pce), (0xb, 0xa));
    assert_eq!(hex::encode(&quote.body.basename[..16]), "14b5c60777a13ac77c732ce4d12d95b7");
    assert_eq!(hex::encode(quote.report.cpu_svn), "0f0f0205ff8007000000000000000000");
    assert_eq!((quote.report.flags, quote.report.xfrm), (7, 0x1f));
    assert_eq!(quote.report.mr_enclave.to_string(), "92143ea742e1628677b5a8e280173b7264470bfb0611d520c2474aab9846168e");
    assert_eq!(quote.report.mr_signer, TEST_MR_SIGNER);
    assert_eq!(hex::encode(&quote.report.report_data[..8]), "6e90dd30d40b9813");
}

#[test]
fn version_5() {
    let Some(bundle) = published(5) else { return };
    let report = open(&bundle, None).unwrap();
    assert_eq!(report.id, "325753020347524304899139732345489823748");
    assert_eq!((report.version, report.nonce.as_str()), (5, ""));
    assert_eq!(report.attestation_type, AttestationType::FIELD_MISSING);
    assert_eq!(report.advisory_ids, ["INTEL-SA-00334", "INTEL-SA-00615"]);
    let verified = bundle.verify(None, NOW.into(), &debug()).unwrap();
    assert_eq!(verified.identity, report.quote().unwrap().report.identity());
}

#[test]
fn policies() {
    let Some(bundle) = published(4) else { return };
    let check = |policy: QuotePolicy| open(&bundle, Some(&policy));
    assert!(check(QuotePolicy::default()).is_ok());
    assert_eq!(check(QuotePolicy { disabled: true, ..Default::default() }), Err(Error::Disabled));
    let listed = |gid| QuotePolicy { gid_blacklist: vec![gid], ..Default::default() };
    assert_eq!(check(listed(0xbc5)), Err(Error::BlacklistedGroup { gid: 0xbc5 }));
    assert!(check(listed(0xbc6)).is_ok());
    let number = QuotePolicy { min_tcb_evaluation_data_number: 1, ..Default::default() };
    assert_eq!(check(number), Err(Error::EvaluationDataNumber { found: 0, least: 1 }));
}

#[test]
fn signatures() {
    let at = |name: &str| format!("runtime/testdata/{name}");
    let names = [
        at("avr_certificates_urlencoded.pem"),
        at("avr_body_group_out_of_date.json"),
        at("avr_signature_group_out_of_date.sig"),
    ];
    let Some([certs, body, signature]) = read(names.each_ref().map(String::as_str)) else {
        return;
    };
    let verify = |body: &[u8], signature: &[u8], now: i64| verify_avr_signature(body, signature, &certs, now.into());
    let now = 1_522_447_346;
    assert_eq!(verify(&body, &signature, now), Ok(()));
    assert!(matches!(verify(&body, &signature, 0), Err(Error::Chain(CertificateError::Expired { .. }))));
    let mut bad = body.clone();
    bad[0] ^= 0x23;
    assert_eq!(verify(&bad, &signature, now), Err(Error::Signature));
    let mut bad = text::base64(&signature).unwrap();
    bad[0] ^= 0x42;
    use base64::Engine as _;
    let bad = base64::engine::general_purpose::STANDARD.encode(bad);
    assert_eq!(verify(&body, bad.as_bytes(), now), Err(Error::Signature));
    assert_eq!(verify(&body, b"!", now), Err(Error::SignatureEncoding));
    assert_eq!(verify(&body, b"", now), Err(Error::Signature));
    // Line breaks and unused bits in base64 do not matter.
    let mut lax = signature.clone();
    let at = lax.len() - 3;
    assert_eq!(&lax[at..], b"g==");
    lax[at] = b'h';
    lax.insert(7, b'\n');
    assert_eq!(verify(&body, &lax, now), Ok(()));
    assert_eq!(
        verify_avr_signature(&body, &signature, b"", now.into()),
        Err(Error::Chain(CertificateError::ChainLength { found: 0, expected: 2 }))
    );
    assert_eq!(verify_avr_signature(&body, &signature, b"%", now.into()), Err(Error::CertificateEncoding));

    // The report is for a platform that is out of date: only a policy can allow it.
    let bundle = AvrBundle {
        body: Some(Bytes(body.clone())),
        signature: Some(Bytes(signature.clone())),
        certificate_chain: Some(Bytes(certs.clone())),
    };
    let open = |policy: Option<&QuotePolicy>, debug: bool| {
        let options = VerifyOptions { allow_debug_enclaves: debug, allow_test_signer: true, ..Default::default() };
        bundle.open(policy, now.into(), &options)
    };
    let status = IsvQuoteStatus::GROUP_OUT_OF_DATE;
    let allowed = QuotePolicy { allowed_quote_statuses: vec![status], ..Default::default() };
    let is_debug = matches!(open(None, false), Err(Error::DebugMismatch { .. }));
    match open(None, is_debug) {
        Err(Error::StatusNotAllowed { status: found }) => {
            assert_eq!(found, status);
            assert!(open(Some(&allowed), is_debug).is_ok());
        }
        // Version 2 and 3 reports are not supported any more.
        other => assert_eq!(other, Err(Error::Invalid { field: "version" })),
    }
}

#[test]
fn debug_options() {
    let Some(bundle) = published(5) else { return };
    let with = |options: &VerifyOptions| bundle.open(None, NOW.into(), options).map(|_| ());
    assert_eq!(with(&VerifyOptions::default()), Err(Error::BlacklistedSigner));
    let production = VerifyOptions { allow_test_signer: true, ..Default::default() };
    assert_eq!(with(&production), Err(Error::DebugMismatch { debug: true }));
    let unsigned = AvrBundle { signature: None, ..bundle.clone() };
    assert!(unsigned.open(None, NOW.into(), &debug()).is_err());
    assert!(unsigned.open(None, NOW.into(), &VerifyOptions { skip_avr_verify: true, ..debug() }).is_ok());
}

#[test]
fn mock_reports() {
    let Some(bundle) = published(4) else { return };
    let quote = open(&bundle, None).unwrap().isv_enclave_quote_body;
    let options = VerifyOptions { skip_avr_verify: true, ..debug() };
    let body = mock_avr(&quote, "nonce", UnixTime::new(NOW, 5_000), &options).unwrap();
    assert!(
        body.starts_with(br#"{"version":4,"timestamp":"2023-09-27T15:51:58.000005","isvEnclaveQuoteStatus":"OK","#)
    );
    let mock = AvrBundle { body: Some(Bytes(body)), ..Default::default() };
    let verified = mock.verify(None, NOW.into(), &options).unwrap();
    assert_eq!(verified.identity.mr_signer, TEST_MR_SIGNER);
    assert!(mock.verify(None, NOW.into(), &debug()).is_err(), "nobody signed it");
    assert!(mock_avr(&quote[..431], "", NOW.into(), &options).is_err());
    assert!(mock_avr(&quote, "", NOW.into(), &VerifyOptions::default()).is_err());
}

/// The verdict on a body with these fields beside the necessary ones; a field given twice counts last.
fn body(fields: &str) -> Result<(), Error> {
    let text = format!(
        r#"{{"version":4,"timestamp":"2020-05-11T09:21:15.454051","isvEnclaveQuoteStatus":"OK"{}{fields}}}"#,
        if fields.is_empty() { "" } else { "," }
    );
    Report::parse_unverified(text.as_bytes(), &debug()).map(|_| ())
}

#[test]
fn body_rules() {
    let good = |fields: &str| assert_eq!(body(fields), Ok(()), "{fields}");
    let bad = |fields: &str, field: &'static str| assert_eq!(body(fields), Err(Error::Invalid { field }), "{fields}");
    good("");
    bad(r#""timestamp":"2020-05-11T09:21:15Z""#, "timestamp");
    bad(r#""version":3"#, "version");
    bad(r#""version":6"#, "version");
    bad(r#""attestationType":"EPID""#, "attestationType");
    good(r#""version":5,"attestationType":"EPID""#);
    good(r#""version":5"#);
    assert!(matches!(body(r#""attestationType":"ECDSA""#), Err(Error::Json { .. })));
    bad(r#""isvEnclaveQuoteBody":"AAAA""#, "isvEnclaveQuoteBody");
    bad(r#""revocationReason":1"#, "revocationReason");
    bad(r#""isvEnclaveQuoteStatus":"GROUP_REVOKED""#, "revocationReason");
    good(r#""isvEnclaveQuoteStatus":"GROUP_REVOKED","revocationReason":99"#);
    good(r#""pseManifestStatus":"OK""#);
    good(r#""isvEnclaveQuoteStatus":"KEY_REVOKED""#);
    bad(r#""isvEnclaveQuoteStatus":"KEY_REVOKED","pseManifestStatus":"OK""#, "pseManifestStatus");
    bad(r#""pseManifestHash":"00""#, "pseManifestHash");
    bad(r#""pseManifestHash":"zz""#, "pseManifestHash");
    good(&format!(r#""pseManifestHash":"{}""#, "aB".repeat(32)));
    bad(r#""platformInfoBlob":"00""#, "platformInfoBlob");
    bad(r#""platformInfoBlob":"0""#, "platformInfoBlob");
    good(r#""isvEnclaveQuoteStatus":"GROUP_OUT_OF_DATE","platformInfoBlob":"00""#);
    good(r#""pseManifestStatus":"REVOKED","platformInfoBlob":"00""#);
    bad(r#""pseManifestStatus":"UNKNOWN","platformInfoBlob":"00""#, "platformInfoBlob");
    good(&format!(r#""nonce":"{}""#, "n".repeat(32)));
    bad(&format!(r#""nonce":"{}""#, "n".repeat(33)), "nonce");
    bad(r#""epidPseudonym":"AAAA""#, "epidPseudonym");
    good(r#""unknown":[1,{}]"#);
    assert!(matches!(body(r#""isvEnclaveQuoteStatus":"NO""#), Err(Error::Json { .. })));
    let missing = br#"{"version":4,"timestamp":"2020-05-11T09:21:15"}"#;
    let field = "isvEnclaveQuoteStatus";
    assert_eq!(Report::parse_unverified(missing, &debug()), Err(Error::Invalid { field }));
    assert!(matches!(Report::parse_unverified(b"", &debug()), Err(Error::Json { .. })));
    assert!(matches!(Report::parse_unverified(b"{} x", &debug()), Err(Error::Json { .. })));
}

#[test]
fn quote_rules() {
    let mut quote = [0; 432];
    let parse = |q: &[u8]| IasQuote::parse(q).map(|_| ());
    assert!(parse(&quote).is_err(), "version 0");
    quote[0] = 1;
    assert_eq!(parse(&quote), Ok(()));
    quote[10] = 1;
    assert!(parse(&quote).is_err(), "PCE security version in version 1");
    quote[0] = 2;
    assert_eq!(parse(&quote), Ok(()));
    quote[2] = 2;
    assert!(parse(&quote).is_err(), "signature type");
    assert!(parse(&quote[..431]).is_err());
}

#[test]
fn policy_forms() {
    let policy = QuotePolicy {
        allowed_quote_statuses: vec![IsvQuoteStatus::GROUP_OUT_OF_DATE, IsvQuoteStatus::CONFIGURATION_NEEDED],
        gid_blacklist: vec![7],
        ..Default::default()
    };
    let text = r#"{"allowed_quote_statuses":["GROUP_OUT_OF_DATE","CONFIGURATION_NEEDED"],"gid_blacklist":[7]}"#;
    assert_eq!(json::to_string(&policy), text);
    assert_eq!(json::from_str(text), Ok(policy.clone()));
    let bytes = cbor::to_vec(&policy);
    assert!(bytes.ends_with(&[0x82, 7, 8]), "statuses are integers in CBOR");
    assert_eq!(cbor::from_slice(&bytes), Ok(policy));
    assert_eq!(cbor::to_vec(&QuotePolicy::default()), [0xa0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn mutated_reports_do_not_verify(at in any::<prop::sample::Index>(), bit in 0u8..8, part in 0..3) {
        let Some(mut bundle) = published(5) else { return Ok(()) };
        let field = match part {
            0 => bundle.body.as_mut(),
            1 => bundle.certificate_chain.as_mut(),
            _ => bundle.signature.as_mut(),
        };
        let field = field.unwrap();
        let index = at.index(field.len());
        field[index] ^= 1 << bit;
        let verdict = open(&bundle, None);
        prop_assert!(part != 0 || verdict.is_err());
        // Without the signature check the body is read as it is.
        let _ = bundle.open(None, NOW.into(), &VerifyOptions { skip_avr_verify: true, ..debug() });
    }
}
