//! Published quotes and collateral, from a local stand-in of Intel's service at the times at which they are valid.

use std::sync::atomic::{AtomicUsize, Ordering};

use base_kv::Memory;
use dev_testkit::paths;

use super::*;
use crate::http::tests::{Reply, Server, serve};

/// When the published SGX quote is valid.
pub(crate) const SGX_NOW: i64 = 1_671_497_404;
/// When the published TDX quote is valid.
const TDX_NOW: i64 = 1_725_263_032;

fn published(name: &str) -> Option<Vec<u8>> {
    let Some(path) = paths::published(&format!("oasis-core/go/common/sgx/pcs/testdata/{name}")) else {
        dev_testkit::skip(1, "published files with evidence are missing");
        return None;
    };
    Some(dev_testkit::read(&path).expect("readable"))
}

/// As Intel's service escapes the header.
fn escape(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

/// Serves collateral; evaluation data number 18 is unknown, 17 is the published one.
pub(crate) async fn service(tdx: bool) -> Option<(Server, std::sync::Arc<AtomicUsize>)> {
    let info = if tdx { "tcb_info_v3_tdx_fmspc_C0806F000000.json" } else { "tcb_info_v3_fmspc_00606A000000.json" };
    let identity = if tdx { "qe_identity_v2_tdx2.json" } else { "qe_identity_v2.json" };
    let (info, identity) = (published(info)?, published(identity)?);
    let chain = escape(&published("tcb_info_v3_fmspc_00606A000000_certs.pem")?);
    let count = std::sync::Arc::new(AtomicUsize::new(0));
    let seen = std::sync::Arc::clone(&count);
    let tee = if tdx { "tdx" } else { "sgx" };
    let server = serve(move |request| {
        seen.fetch_add(1, Ordering::SeqCst);
        let path = request.path.as_str();
        let at = |rest: &str| format!("/{tee}/certification/v4/{rest}");
        if path == at("tcbevaluationdatanumbers") {
            let numbers = r#"{"tcbEvaluationDataNumbers":{"id":"SGX","version":1,"tcbEvalNumbers":[
                {"tcbEvaluationDataNumber":17},{"tcbEvaluationDataNumber":18}]},"signature":"00"}"#;
            Reply::ok(numbers.as_bytes())
        } else if path.starts_with(&at("tcb?fmspc=")) && path.ends_with("tcbEvaluationDataNumber=17") {
            Reply::ok(&info).with_header("TCB-Info-Issuer-Chain", &chain)
        } else if path == at("qe/identity?tcbEvaluationDataNumber=17") {
            Reply::ok(&identity)
        } else {
            Reply::status(404)
        }
    })
    .await;
    Some((server, count))
}

pub(crate) fn quote_service(base: &str, now: i64, cache: Arc<dyn KvStore>) -> QuoteService {
    let options = VerifyOptions { allow_test_signer: true, ..VerifyOptions::default() };
    QuoteService::new(base, cache, Arc::new(move || now.into()), options)
}

#[tokio::test]
async fn resolves_published_quotes() {
    for tdx in [false, true] {
        let name = if tdx { "quote_v4_tdx_ecdsa_p256.bin" } else { "quote_v3_ecdsa_p256_pck_chain.bin" };
        let (Some(quote), Some((server, count))) = (published(name), service(tdx).await) else { return };
        let now = if tdx { TDX_NOW } else { SGX_NOW };
        let policy = QuotePolicy {
            tdx: tdx.then(Default::default),
            min_tcb_evaluation_data_number: 12,
            tcb_validity_period: 30,
            ..QuotePolicy::default()
        };
        let cache: Arc<dyn KvStore> = Arc::new(Memory::default());
        let service = quote_service(&server.url, now, Arc::clone(&cache));
        let mut raw = quote.clone();
        raw.extend_from_slice(&[0; 100]);
        let bundle = service.resolve(&raw, Some(&policy)).await.expect("resolves");
        assert_eq!(bundle.quote.as_ref().map(|q| q.len()), Some(quote.len()), "what follows is cut off");
        let options = VerifyOptions { allow_test_signer: true, ..VerifyOptions::default() };
        bundle.verify(Some(&policy), now.into(), &options).expect("verifies");
        let asked = count.load(Ordering::SeqCst);
        assert_eq!(asked, 4, "numbers, the unknown one, TCB info, identity");
        // The same again comes from the cache.
        service.resolve(&quote, Some(&policy)).await.expect("resolves");
        assert_eq!(count.load(Ordering::SeqCst), asked);
        // Another service that is down, with the cache: enough, even when it is time to ask again.
        let later = quote_service("http://127.0.0.1:9", now + 2 * DAY_SECONDS, cache);
        later.resolve(&quote, Some(&policy)).await.expect("resolves from the cache");
    }
}

#[tokio::test]
async fn tells_why_there_is_no_collateral() {
    let Some(quote) = published("quote_v3_ecdsa_p256_pck_chain.bin") else { return };
    let cache = || -> Arc<dyn KvStore> { Arc::new(Memory::default()) };
    let unreachable = quote_service("http://127.0.0.1:9", SGX_NOW, cache());
    assert_eq!(unreachable.resolve(&quote, None).await, Err(Error::NoBundle));
    assert!(matches!(unreachable.resolve(&quote[..100], None).await, Err(Error::Quote(_))));
    if let Some(ppid) = published("quote_v3_ecdsa_p256_eppid.bin") {
        assert_eq!(unreachable.resolve(&ppid, None).await, Err(Error::NoProvider));
    }
    let Some((server, _)) = service(false).await else { return };
    let expired = quote_service(&server.url, SGX_NOW + 365 * DAY_SECONDS, cache());
    let error = expired.resolve(&quote, None).await.expect_err("expired");
    assert!(matches!(error, Error::Verification { which: "fresh", .. }), "{error}");
}

#[test]
fn headers_and_times_are_read() {
    assert_eq!(unescape("a%2Bb+c%0A"), Some(b"a+b c\n".to_vec()));
    assert_eq!(unescape("%4"), None);
    assert_eq!(unescape("%zz"), None);
    assert_eq!(seconds("2022-12-16T12:45:36Z"), Some(1_671_194_736));
    assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(seconds("2022-12"), None);
}
