//! Published quotes under the verdicts of the reference's own tests, and mutated inputs.

use base_codec::{Bytes, cbor, json};
use proptest::prelude::*;

use super::*;
use crate::{
    identity::TEST_MR_SIGNER,
    options::VerifyOptions,
    testdata::{
        self, CERTS, OLD_TDX_NOW, PCS, SGX_NOW, TDX_NOW, old_tdx_bundle, options, read, sgx_bundle, tdx_bundle,
    },
    time::UnixTime,
};

fn quote(bundle: &QuoteBundle) -> Quote {
    Quote::parse(bundle.quote.as_ref().unwrap()).unwrap()
}

fn verify(bundle: &QuoteBundle, policy: Option<&QuotePolicy>, now: i64) -> Result<crate::VerifiedQuote, Error> {
    bundle.verify(policy, now.into(), &options())
}

fn days(tcb_validity_period: u16) -> QuotePolicy {
    QuotePolicy { tcb_validity_period, ..Default::default() }
}

fn tdx_policy() -> QuotePolicy {
    QuotePolicy { tdx: Some(TdxQuotePolicy::default()), ..QuotePolicy::builtin() }
}

#[test]
fn sgx_quote_fields() {
    let Some(bundle) = sgx_bundle() else { return };
    let quote = quote(&bundle);
    assert_eq!((quote.header.version, quote.header.qe_svn, quote.header.pce_svn), (3, 9, 13));
    assert_eq!(quote.header.tee_type, TeeType::Sgx);
    let ReportBody::Sgx(report) = &quote.body else { panic!("not an SGX report") };
    assert_eq!(report.cpu_svn[..7], [8, 9, 14, 13, 255, 255, 1]);
    assert_eq!((report.misc_select, report.flags, report.xfrm), (0, 5, 3));
    assert_eq!(report.mr_enclave.to_string(), "68823bc62f409ee33a32ea270cfe45d4b19a6fb3c8570d7bc186cbe062398e8f");
    assert_eq!(report.mr_signer, TEST_MR_SIGNER);
    assert_eq!((report.isv_prod_id, report.isv_svn), (0, 0));
    assert_eq!(report.report_data[..4], [2, 106, 105, 206]);
    let qe = &quote.signature.qe_report;
    assert_eq!((qe.misc_select, qe.flags, qe.xfrm), (0, 0x15, 231));
    let CertificationData::PckChain(chain) = &quote.signature.certification_data else { panic!("no chain") };
    assert_eq!(chain.len(), 3);
    let pck = quote.signature.verify_pck(SGX_NOW.into()).unwrap();
    assert_eq!(pck.fmspc, [0, 0x60, 0x6a, 0, 0, 0]);
    assert_eq!(pck.pce_svn, 13);
    assert_eq!(pck.tcb_comp_svn, [7, 9, 3, 3, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(pck.cpu_svn, [7, 9, 3, 3, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn sgx_quote_times() {
    let Some(bundle) = sgx_bundle() else { return };
    let good = verify(&bundle, None, SGX_NOW).unwrap();
    assert_eq!(good.identity.mr_signer, TEST_MR_SIGNER);
    assert_eq!(
        good.identity.mr_enclave.to_string(),
        "68823bc62f409ee33a32ea270cfe45d4b19a6fb3c8570d7bc186cbe062398e8f"
    );

    // The platform's certificate is valid from 1670238721 to 1891163521, the QE identity issued at 1671194736.
    let expired = |e: &Error| matches!(e, Error::PckChain(crate::CertificateError::Expired { .. }));
    assert!(verify(&bundle, None, 1_891_163_522).is_err_and(|e| expired(&e)));
    assert!(!verify(&bundle, None, 1_891_163_521).is_err_and(|e| expired(&e)));
    assert!(verify(&bundle, None, 1_670_238_720).is_err_and(|e| expired(&e)));
    assert_eq!(verify(&bundle, None, 1_671_194_735), Err(Error::QeIdentity(CollateralError::IssuedInFuture)));
    let too_old = Err(Error::QeIdentity(CollateralError::Expired { validity_days: 30 }));
    assert_eq!(verify(&bundle, None, 1_673_786_737), too_old);
    assert!(verify(&bundle, Some(&days(90)), 1_673_786_737).is_ok());

    // Fractions of a second count.
    let at = |seconds, nanos| bundle.verify(None, UnixTime::new(seconds, nanos), &options());
    assert!(at(1_673_786_736, 0).is_ok());
    assert_eq!(at(1_673_786_736, 1), too_old);
    assert!(at(1_891_163_521, 1).is_err_and(|e| expired(&e)));
}

#[test]
fn sgx_quote_policies() {
    let Some(bundle) = sgx_bundle() else { return };
    let check = |policy: QuotePolicy| verify(&bundle, Some(&policy), SGX_NOW);
    let number = QuotePolicy { min_tcb_evaluation_data_number: 100, ..days(30) };
    assert!(matches!(check(number), Err(Error::QeIdentity(CollateralError::EvaluationDataNumber { least: 100, .. }))));
    let list = |fmspc: &str| vec![fmspc.to_owned()];
    assert!(check(days(90)).is_ok());
    assert!(check(QuotePolicy { fmspc_whitelist: list("00606A000000"), ..days(90) }).is_ok());
    assert!(matches!(
        check(QuotePolicy { fmspc_whitelist: list("00606A000001"), ..days(90) }),
        Err(Error::TcbInfo(CollateralError::NotWhitelisted { .. }))
    ));
    assert!(
        matches!(
            check(QuotePolicy { fmspc_whitelist: list("00606a000000"), ..days(90) }),
            Err(Error::TcbInfo(CollateralError::NotWhitelisted { .. })),
        ),
        "compared as text"
    );
    assert!(matches!(
        check(QuotePolicy { fmspc_blacklist: list("00606A000000"), ..days(90) }),
        Err(Error::TcbInfo(CollateralError::Blacklisted { .. }))
    ));
    assert!(check(QuotePolicy { fmspc_blacklist: list("00606A000001"), ..days(90) }).is_ok());
    assert_eq!(check(QuotePolicy { disabled: true, ..days(90) }), Err(Error::Disabled));
}

#[test]
fn sgx_quote_collateral() {
    let Some(bundle) = sgx_bundle() else { return };
    let Some([bad_certs]) = read([&format!("{PCS}/tcb_info_v3_fmspc_00606A000000_certs_bad.pem")]) else {
        return;
    };
    let check = |change: &dyn Fn(&mut TcbBundle)| {
        let mut bundle = bundle.clone();
        change(&mut bundle.tcb);
        verify(&bundle, None, SGX_NOW)
    };
    assert_eq!(
        check(&|tcb| tcb.certificates = None),
        Err(Error::TcbChain(crate::CertificateError::ChainLength { found: 0, expected: 2 }))
    );
    assert_eq!(
        check(&|tcb| tcb.certificates = Some(Bytes(bad_certs.clone()))),
        Err(Error::QeIdentity(CollateralError::Signature))
    );
    assert_eq!(
        check(&|tcb| tcb.tcb_info.tcb_info.as_mut().unwrap()[16] = b'x'),
        Err(Error::TcbInfo(CollateralError::Signature))
    );
    assert_eq!(
        check(&|tcb| tcb.qe_identity.enclave_identity.as_mut().unwrap()[22] = b'x'),
        Err(Error::QeIdentity(CollateralError::Signature))
    );
    assert_eq!(
        check(&|tcb| tcb.tcb_info.signature.truncate(126)),
        Err(Error::TcbInfo(CollateralError::MalformedSignature))
    );
    assert!(check(&|tcb| tcb.tcb_info.signature = tcb.tcb_info.signature.to_uppercase()).is_ok());
    assert!(check(&|tcb| tcb.certificates.as_mut().unwrap().extend(b"\nafterwards")).is_ok());
    let quote = quote(&bundle);
    assert_eq!(quote.verify(None, SGX_NOW.into(), None, &options()), Err(Error::MissingTcb));

    // Collateral for another kind of TEE.
    let Some(tdx) = tdx_bundle() else { return };
    let other = QuoteBundle { quote: bundle.quote.clone(), tcb: tdx.tcb };
    assert_eq!(
        verify(&other, Some(&tdx_policy()), TDX_NOW),
        Err(Error::QeIdentity(CollateralError::Identifier { found: "TD_QE".into() }))
    );
}

#[test]
fn debug_options() {
    let Some(bundle) = sgx_bundle() else { return };
    let with = |options: VerifyOptions| bundle.verify(None, SGX_NOW.into(), &options);
    assert_eq!(with(VerifyOptions::default()), Err(Error::BlacklistedSigner));
    let debug = VerifyOptions { allow_debug_enclaves: true, ..options() };
    assert_eq!(with(debug), Err(Error::DebugMismatch { debug: false }));
    let mut broken = bundle.clone();
    broken.tcb = TcbBundle::default();
    assert!(broken.verify(None, 0.into(), &options()).is_err());
    let skip = VerifyOptions { skip_pcs_verify: true, ..options() };
    assert!(broken.verify(None, 0.into(), &skip).is_ok(), "nothing is verified");
}

#[test]
fn bundle_encoding() {
    let Some([raw]) = read(["runtime/testdata/pcs_quote_bundle.cbor"]) else {
        return;
    };
    let bundle: QuoteBundle = cbor::from_slice_exact(&raw).unwrap();
    assert!(verify(&bundle, None, SGX_NOW).is_ok());
    assert_eq!(cbor::to_vec(&bundle), raw);
    assert_eq!(Some(bundle), sgx_bundle());
}

#[test]
fn host_collateral_is_complete() {
    let at = "go/runtime/host/sgx/testdata";
    let info = "tcb_info_v3_fmspc_00606A000000.json";
    let Some([quote]) = read([&format!("{PCS}/quote_v3_ecdsa_p256_pck_chain.bin")]) else {
        return;
    };
    let Some(mut bundle) = testdata::bundle(at, info, info, "qe_identity_v2.json", CERTS) else {
        return;
    };
    bundle.quote = Some(Bytes(quote));
    let parsed = bundle.tcb.tcb_info.parse_unverified().unwrap();
    assert_eq!(parsed.fmspc, "00606A000000");
    assert!(bundle.tcb.qe_identity.parse_unverified().is_ok());
    let issued = crate::time::parse_timestamp(&parsed.issue_date, "Z").unwrap().seconds();
    assert!(verify(&bundle, None, issued + 86_400).is_ok(), "{:?}", verify(&bundle, None, issued + 86_400));
}

#[test]
fn quote_with_platform_identifier() {
    let Some([raw]) = read([&format!("{PCS}/quote_v3_ecdsa_p256_eppid.bin")]) else {
        return;
    };
    let quote = Quote::parse(&raw).unwrap();
    assert_eq!((quote.header.version, quote.header.qe_svn, quote.header.pce_svn), (3, 7, 12));
    assert_eq!(
        quote.body.identity().to_string(),
        "9479d8eddfd7b1b700319419551dc340f688c2ef519a5e18657ecf32981dbd9e\
         4025dab7ebda1fbecc4e3637606e021214d0f41c6d0422fd378b2a8b88818459"
    );
    let CertificationData::Ppid { data_type: 3, ppid, cpu_svn, pce_svn: 12, pce_id: 0 } =
        &quote.signature.certification_data
    else {
        panic!("unexpected certification data");
    };
    assert_eq!((ppid[0], ppid[383]), (170, 192));
    assert_eq!(cpu_svn[..7], [5, 5, 12, 12, 255, 255, 1]);
    assert_eq!(quote.verify(None, SGX_NOW.into(), None, &options()), Err(Error::NoPckChain));
}

#[test]
fn tdx_quote() {
    let Some(bundle) = tdx_bundle() else { return };
    let parsed = quote(&bundle);
    assert_eq!((parsed.header.version, parsed.header.tee_type), (4, TeeType::Tdx));
    let ReportBody::Tdx(report) = &parsed.body else { panic!("not a TD report") };
    assert_eq!(report.td_attributes, TdAttributes::SEPT_VE_DISABLE);

    let good = verify(&bundle, Some(&tdx_policy()), TDX_NOW).unwrap();
    assert_eq!(good.identity.mr_signer, Default::default());
    assert_eq!(
        good.identity.mr_enclave.to_string(),
        "63d522d975f7de879a8f3368b4f32dd1e8db635f5a24b651ce8ff81705028813"
    );
    assert_eq!(verify(&bundle, None, TDX_NOW), Err(Error::TeeTypeNotAllowed));

    let modules = |list: Vec<TdxModulePolicy>| {
        let tdx = Some(TdxQuotePolicy { allowed_tdx_modules: list });
        verify(&bundle, Some(&QuotePolicy { tdx, ..QuotePolicy::builtin() }), TDX_NOW)
    };
    let mut signer = Measurement::default();
    signer.0[0] = 1;
    let other_signer = TdxModulePolicy { mr_seam: None, mr_signer_seam: signer };
    assert_eq!(modules(vec![other_signer.clone()]), Err(Error::TdxModuleNotAllowed));
    let this = TdxModulePolicy { mr_seam: Some(Measurement(report.mr_seam)), mr_signer_seam: Default::default() };
    assert!(modules(vec![other_signer, this]).is_ok());
    let other = TdxModulePolicy { mr_seam: Some(signer), mr_signer_seam: Default::default() };
    assert_eq!(modules(vec![other]), Err(Error::TdxModuleNotAllowed));
    assert!(modules(vec![TdxModulePolicy::default()]).is_ok());
}

#[test]
fn tdx_quote_of_old_platform() {
    let Some(bundle) = old_tdx_bundle() else {
        return;
    };
    let error = Error::TcbInfo(CollateralError::LevelNotSupported { what: "TCB level" });
    assert_eq!(verify(&bundle, Some(&tdx_policy()), OLD_TDX_NOW), Err(error));
}

#[test]
fn trailing_data() {
    let Some([raw]) = read([&format!("{PCS}/quote_v4_tdx_ecdsa_p256_trailing.bin")]) else {
        return;
    };
    assert_eq!(Quote::parse(&raw), Err(Error::TrailingData));
    let (quote, len) = Quote::parse_prefix(&raw).unwrap();
    assert!(len < raw.len());
    assert_eq!(Quote::parse(&raw[..len]), Ok(quote));
    assert!(Quote::parse(&raw[..len - 1]).is_err());
}

#[test]
fn mock_quotes() {
    assert!(mock_quote(&[]).is_err());
    assert!(mock_quote(b"invalid").is_err());
    assert!(Quote::parse(&mock_quote(&[0; 432]).unwrap()).is_ok());
    let Some(bundle) = sgx_bundle() else { return };
    let mock = Quote::parse(&mock_quote(quote(&bundle).body.raw()).unwrap()).unwrap();
    assert_eq!(mock.body, quote(&bundle).body);
    assert!(mock.signature.verify_pck(SGX_NOW.into()).is_ok());
    let verify = |options: &VerifyOptions| mock.verify(None, SGX_NOW.into(), Some(&bundle.tcb), options);
    assert_eq!(verify(&options()), Err(Error::QeReportSignature));
    assert!(verify(&VerifyOptions { skip_pcs_verify: true, ..options() }).is_ok());
}

#[test]
fn quote_policy_forms() {
    let text = r#"{"tcb_validity_period":30,"min_tcb_evaluation_data_number":17,"fmspc_whitelist":["000000000000","00606A000000"],"fmspc_blacklist":["000000000001"],"tdx":{}}"#;
    let policy: QuotePolicy = json::from_str(text).unwrap();
    assert_eq!(policy.fmspc_whitelist, ["000000000000", "00606A000000"]);
    assert_eq!(policy.tdx, Some(TdxQuotePolicy::default()));
    assert_eq!(json::to_string(&policy), text);
    let module = TdxModulePolicy { mr_seam: Some(Measurement([7; 48])), mr_signer_seam: Measurement::default() };
    let policy =
        QuotePolicy { tdx: Some(TdxQuotePolicy { allowed_tdx_modules: vec![module] }), ..QuotePolicy::builtin() };
    assert_eq!(cbor::from_slice(&cbor::to_vec(&policy)), Ok(policy.clone()));
    assert_eq!(json::from_str::<QuotePolicy>(&json::to_string(&policy)), Ok(policy));
    assert_eq!(
        hex::encode(cbor::to_vec(&days(30))),
        concat!(
            "a2",
            "73",
            "7463625f76616c69646974795f706572696f64",
            "181e",
            "781e",
            "6d696e5f7463625f6576616c756174696f6e5f646174615f6e756d626572",
            "00"
        )
    );
    // Measurements of another length are cut or filled.
    let short: Measurement = cbor::from_slice(&[0x41, 9]).unwrap();
    assert_eq!((short.0[0], short.0[1]), (9, 0));
    assert_eq!(json::from_str::<Measurement>("[1,2]").map(|m| m.0[..3].to_vec()), Ok(vec![1, 2, 0]));
    assert!(json::from_str::<Measurement>("[256]").is_err());
}

/// Flips, cuts and inserts bytes.
fn mutate(data: &mut Vec<u8>, changes: &[(u8, prop::sample::Index, u8)]) {
    for (kind, index, byte) in changes {
        if data.is_empty() {
            return;
        }
        let at = index.index(data.len());
        match kind % 4 {
            0 => data[at] ^= byte | 1,
            1 => data.truncate(at),
            2 => data.insert(at, *byte),
            _ => data[at] = *byte,
        }
    }
}

fn changes() -> impl Strategy<Value = Vec<(u8, prop::sample::Index, u8)>> {
    prop::collection::vec(any::<(u8, prop::sample::Index, u8)>(), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn mutated_quotes_do_not_verify(changes in changes(), tdx in any::<bool>()) {
        let (bundle, now) = if tdx { (tdx_bundle(), TDX_NOW) } else { (sgx_bundle(), SGX_NOW) };
        let Some(mut bundle) = bundle else { return Ok(()) };
        let original = Quote::parse(bundle.quote.as_ref().unwrap()).unwrap();
        mutate(bundle.quote.as_mut().unwrap(), &changes);
        // What lies outside every signature (such as text between certificates) may change; what is said may not.
        if let Ok(verified) = verify(&bundle, Some(&tdx_policy()), now) {
            prop_assert_eq!(verified.identity, original.body.identity());
            prop_assert_eq!(&verified.report_data, original.body.report_data());
        }
    }

    #[test]
    fn mutated_collateral_never_panics(changes in changes(), which in 0..4) {
        let Some(mut bundle) = sgx_bundle() else { return Ok(()) };
        let tcb = &mut bundle.tcb;
        let field = match which {
            0 => tcb.tcb_info.tcb_info.as_mut().unwrap(),
            1 => tcb.qe_identity.enclave_identity.as_mut().unwrap(),
            _ => tcb.certificates.as_mut().unwrap(),
        };
        let before = field.clone();
        mutate(field, &changes);
        let changed = *field != before;
        let _ = tcb.tcb_info.parse_unverified();
        let _ = tcb.qe_identity.parse_unverified();
        let verdict = verify(&bundle, None, SGX_NOW);
        prop_assert!(!(verdict.is_ok() && changed && which < 2), "bodies are signed");
    }

    #[test]
    fn mutated_answers_never_panic(changes in changes()) {
        let Some([mut info]) = read([&format!("{PCS}/tcb_info_v3_tdx_fmspc_C0806F000000.json")]) else { return Ok(()) };
        mutate(&mut info, &changes);
        if let Ok(signed) = SignedTcbInfo::from_answer(&info) {
            let _ = signed.parse_unverified();
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..1500), version in 3u8..5, tee in any::<bool>()) {
        let _ = Quote::parse(&data);
        let mut quote = vec![version, 0, 2, 0, if tee { 0x81 } else { 0 }, 0, 0, 0, 0, 0, 0, 0];
        quote.extend_from_slice(&super::quote::INTEL_VENDOR_ID);
        quote.extend_from_slice(&[0; 20]);
        quote.extend(data);
        let _ = Quote::parse_prefix(&quote);
    }
}
