//! The reference's recorded verdicts on changed evidence.

use base_codec::{cbor, json};

use crate::{Policy, SgxAttestation, SgxConstraints, VerifyOptions, ias, pcs, testdata};

/// What this crate says of a case: the result if it is accepted, as text of the recording's form.
fn verdict(kind: &str, input: &[u8]) -> Option<String> {
    let plain = testdata::options();
    let debug = VerifyOptions { allow_debug_enclaves: true, ..plain.clone() };
    match kind {
        "sgx" | "tdx" => {
            let bundle: pcs::QuoteBundle = cbor::from_slice(input).ok()?;
            let now = if kind == "sgx" { testdata::SGX_NOW } else { testdata::TDX_NOW };
            let policy = pcs::QuotePolicy { tdx: Some(Default::default()), ..pcs::QuotePolicy::builtin() };
            let verified = bundle.verify(Some(&policy), now.into(), &plain).ok()?;
            Some(verified.identity.to_string())
        }
        "avr" => {
            let bundle: ias::AvrBundle = cbor::from_slice(input).ok()?;
            bundle.open(None, 1_695_829_918.into(), &debug).ok().map(|_| String::new())
        }
        "avrbody" => {
            let report = ias::Report::parse_unverified(input, &debug).ok()?;
            let body = hex::encode(report.isv_enclave_quote_body.as_slice());
            Some(format!("{}:{body}", report.isv_enclave_quote_status.0))
        }
        "sc" => cbor::from_slice::<SgxConstraints>(input).ok().map(|v| hex::encode(cbor::to_vec(&v))),
        "sa" => cbor::from_slice::<SgxAttestation>(input).ok().map(|v| hex::encode(cbor::to_vec(&v))),
        "policyjson" => {
            let text = std::str::from_utf8(input).ok()?;
            let policy: Policy = json::from_str(text).ok()?;
            assert_eq!(json::to_string(&policy), text);
            Some(hex::encode(cbor::to_vec(&policy)))
        }
        other => panic!("unknown kind {other}"),
    }
}

#[test]
fn recorded_verdicts() {
    let path = dev_testkit::paths::vectors_dir().join("tee/verdicts.json.gz");
    let text = dev_testkit::read(&path).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
    assert!(cases.len() > 1000, "{} cases", cases.len());
    for (i, case) in cases.iter().enumerate() {
        let kind = case["kind"].as_str().unwrap();
        let input = hex::decode(case["input"].as_str().unwrap()).unwrap();
        let ok = case["ok"].as_bool().unwrap();
        let want = ok.then(|| case.get("result").map_or("", |r| r.as_str().unwrap()).to_owned());
        assert_eq!(verdict(kind, &input), want, "case {i} of kind {kind}");
    }
}
