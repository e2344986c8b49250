//! Client of Intel's older attestation service (EPID), or of a node that passes requests on to it.
//!
//! Intel has ended the service. What is here makes the requests as they were and reads the answers, so that set-ups of
//! that time fail with a clear line and not in an obscure way. Source: `go/ias`.

use std::time::Duration;

use base_codec::{Bytes, Codec};
use base_prims::Namespace;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rt_tee::{
    VerifyOptions,
    ias::{AvrBundle, IasQuote, NONCE_MAX_LEN, decode_avr},
};
use serde_json::json;

use crate::{
    api::BoxFuture,
    http::{Answer, Client, HttpError},
    pcs::Clock,
};

/// Intel's service, for production enclaves.
pub const PRODUCTION_URL: &str = "https://api.trustedservices.intel.com/sgx";
/// Intel's service, for debug enclaves.
pub const DEVELOPMENT_URL: &str = "https://api.trustedservices.intel.com/sgx/dev";
/// How long a request may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer.
pub const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// Bytes of a service provider's identifier.
pub const SPID_BYTES: usize = 16;
/// Full name of a proxy's service.
pub const SERVICE: &str = "oasis-core.IAS";
/// Name in a proxy's certificate.
pub const PROXY_NAME: &str = "ias-proxy";
/// What operators are told.
pub const ENDED: &str = "Intel has ended the EPID attestation service; enclaves need DCAP (see docs/hardware.md)";

const KEY_HEADER: &str = "Ocp-Apim-Subscription-Key";
const SIGNATURE_HEADER: &str = "x-iasreport-signature";
const CERTIFICATE_HEADER: &str = "x-iasreport-signing-certificate";

/// Evidence of an enclave, as a proxy is given it. CBOR: map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Evidence {
    /// The enclave's runtime.
    pub runtime_id: Namespace,
    /// The quote.
    pub quote: Option<Bytes>,
    /// Descriptor of the platform's services; nobody sends one.
    pub pse_manifest: Option<Bytes>,
    /// Nonce, at most 32 bytes.
    pub nonce: String,
    /// Whether updates of the platform count early.
    #[codec(omitempty)]
    pub early_tcb_update: bool,
    /// Least number of the evaluation data; not 0: the newer version of the service is asked.
    #[codec(omitempty)]
    pub min_tcb_evaluation_data_number: u32,
}

/// For whom quotes have to be made. CBOR: map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct SpidInfo {
    /// The service provider, 16 bytes.
    pub spid: Bytes,
    /// 1 if signatures of one platform can be told to be, 0 if not.
    pub quote_signature_type: u16,
}

/// Who turns quotes into reports: the service, or a proxy.
pub trait Endpoint: Send + Sync {
    /// For whom quotes have to be made.
    fn spid_info(&self) -> BoxFuture<'_, Result<SpidInfo, String>>;

    /// The revoked keys of a group; empty if there are none.
    fn revocations(&self, gid: u32) -> BoxFuture<'_, Result<Vec<u8>, String>>;

    /// A report about a quote.
    fn verify_evidence(&self, evidence: Evidence) -> BoxFuture<'_, Result<AvrBundle, String>>;
}

/// Why there is no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The service did not answer, or refused.
    #[error("ias: {0}; {ENDED}")]
    Http(#[from] HttpError),
    /// Its answer is malformed.
    #[error("ias: malformed answer: no {what}")]
    Malformed {
        /// What is missing.
        what: &'static str,
    },
    /// The nonce is too long.
    #[error("ias: invalid nonce length: {length} bytes, at most {NONCE_MAX_LEN}")]
    Nonce {
        /// Its length.
        length: usize,
    },
    /// The quote is malformed, or the report is not good.
    #[error("ias: {0}")]
    Report(#[from] rt_tee::ias::Error),
}

/// The service, as one subscriber sees it.
#[derive(Clone)]
pub struct Service {
    client: Client,
    base_url: String,
    api_key: String,
    spid: SpidInfo,
    options: VerifyOptions,
    clock: Clock,
}

impl Service {
    /// With the base address, the subscriber's key and identifier, what reports have to fulfil, and the time.
    pub fn new(base_url: &str, api_key: &str, spid: SpidInfo, options: VerifyOptions, clock: Clock) -> Self {
        tracing::warn!("{ENDED}");
        Self {
            client: Client::new(REQUEST_TIMEOUT),
            base_url: base_url.trim_end_matches('/').into(),
            api_key: api_key.into(),
            spid,
            options,
            clock,
        }
    }

    async fn report(&self, evidence: &Evidence) -> Result<AvrBundle, Error> {
        let length = evidence.nonce.len();
        if length > NONCE_MAX_LEN {
            return Err(Error::Nonce { length });
        }
        let quote = evidence.quote.as_ref().map_or(&[][..], |quote| quote.as_slice());
        IasQuote::parse(quote)?.check(&self.options)?;
        let mut body = json!({ "isvEnclaveQuote": STANDARD.encode(quote) });
        if let Some(manifest) = evidence.pse_manifest.as_ref().filter(|manifest| !manifest.is_empty()) {
            body["pseManifest"] = STANDARD.encode(manifest).into();
        }
        if !evidence.nonce.is_empty() {
            body["nonce"] = evidence.nonce.as_str().into();
        }
        let newer = evidence.early_tcb_update || evidence.min_tcb_evaluation_data_number > 0;
        let version = if newer { "v5" } else { "v4" };
        let query = if evidence.early_tcb_update { "?update=early" } else { "" };
        let url = format!("{}/attestation/{version}/report{query}", self.base_url);
        let headers = [("Content-Type", "application/json"), (KEY_HEADER, self.api_key.as_str())];
        let answer = self.client.post(&url, &headers, body.to_string().into_bytes(), MAX_ANSWER_BYTES).await?;
        let part = |name: &str, what| header(&answer, name).ok_or(Error::Malformed { what });
        let certificates = part(CERTIFICATE_HEADER, "signing certificate")?;
        let signature = part(SIGNATURE_HEADER, "signature")?;
        decode_avr(&answer.body, &signature, &certificates, (self.clock)(), &self.options)?;
        Ok(AvrBundle {
            certificate_chain: Some(certificates.into()),
            signature: Some(signature.into()),
            body: Some(answer.body.into()),
        })
    }

    async fn revoked(&self, gid: u32) -> Result<Vec<u8>, Error> {
        let url = format!("{}/attestation/v5/sigrl/{gid:08x}", self.base_url);
        let answer = self.client.get(&url, &[(KEY_HEADER, &self.api_key)], MAX_ANSWER_BYTES, false).await?;
        STANDARD.decode(answer.body.trim_ascii()).map_err(|_| Error::Malformed { what: "list in base64" })
    }
}

impl Endpoint for Service {
    fn spid_info(&self) -> BoxFuture<'_, Result<SpidInfo, String>> {
        Box::pin(async { Ok(self.spid.clone()) })
    }

    fn revocations(&self, gid: u32) -> BoxFuture<'_, Result<Vec<u8>, String>> {
        Box::pin(async move { self.revoked(gid).await.map_err(|e| e.to_string()) })
    }

    fn verify_evidence(&self, evidence: Evidence) -> BoxFuture<'_, Result<AvrBundle, String>> {
        Box::pin(async move { self.report(&evidence).await.map_err(|e| e.to_string()) })
    }
}

fn header(answer: &Answer, name: &str) -> Option<Vec<u8>> {
    answer.header(name).map(|value| value.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use dev_testkit::paths;

    use super::*;
    use crate::http::tests::{Reply, serve};

    fn published(name: &str) -> Option<Vec<u8>> {
        let Some(path) = paths::published(&format!("oasis-core/go/common/sgx/ias/testdata/{name}")) else {
            dev_testkit::skip(1, "published files with evidence are missing");
            return None;
        };
        Some(dev_testkit::read(&path).expect("readable"))
    }

    /// When the published reports' certificates were valid.
    const THEN: i64 = 1_600_000_000;

    fn quote() -> Vec<u8> {
        let mut quote = vec![0; 432];
        quote[0] = 1;
        quote[48 + 48] = 2;
        quote
    }

    fn service(url: &str, key: &str) -> Service {
        let options = VerifyOptions { allow_test_signer: true, allow_debug_enclaves: true, ..VerifyOptions::default() };
        let spid = SpidInfo { spid: vec![5; SPID_BYTES].into(), quote_signature_type: 1 };
        Service::new(url, key, spid, options, std::sync::Arc::new(|| THEN.into()))
    }

    #[tokio::test]
    async fn reports_are_verified_and_taken_over_as_they_are() {
        let name = "avr_v4_body_sw_hardening_needed";
        let (Some(body), Some(signature), Some(chain)) = (
            published(&format!("{name}.json")),
            published(&format!("{name}.sig")),
            published("avr_certificates_urlencoded.pem"),
        ) else {
            return;
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let reply = |body: &[u8]| {
            Reply::ok(body)
                .with_header("X-IASReport-Signature", &text(&signature))
                .with_header("X-IASReport-Signing-Certificate", &text(&chain))
        };
        let (good, forged) = (reply(&body), reply(&[body.as_slice(), b" "].concat()));
        let server = serve(move |request| match request.path.as_str() {
            _ if request.headers.get("ocp-apim-subscription-key").is_none_or(|key| key != "key") => Reply::status(401),
            "/attestation/v4/report" => good.clone(),
            "/attestation/v5/report?update=early" => forged.clone(),
            "/attestation/v5/sigrl/00000b39" => Reply::ok(STANDARD.encode(b"revoked").as_bytes()),
            "/attestation/v5/sigrl/00000001" => Reply::ok(b""),
            _ => Reply::status(404),
        })
        .await;
        let ours = service(&format!("{}/", server.url), "key");
        let evidence = Evidence { quote: Some(quote().into()), nonce: "nonce".into(), ..Evidence::default() };
        let bundle = ours.verify_evidence(evidence.clone()).await.expect("a report");
        assert_eq!(bundle.body.as_ref().map(|b| b.to_vec()), Some(body));
        assert_eq!(ours.revocations(0x0b39).await.expect("a list"), b"revoked");
        assert_eq!(ours.revocations(1).await.expect("an empty list"), b"");
        let early = Evidence { early_tcb_update: true, ..evidence.clone() };
        let refused = ours.verify_evidence(early).await.expect_err("another body");
        assert!(refused.contains("signature"), "{refused}");
        let refused = service(&server.url, "other key").verify_evidence(evidence.clone()).await.expect_err("refused");
        assert!(refused.contains("401") && refused.contains("ended"), "{refused}");
        let long = Evidence { nonce: "x".repeat(33), ..evidence.clone() };
        assert!(ours.verify_evidence(long).await.expect_err("refused").contains("33 bytes"));
        assert!(ours.verify_evidence(Evidence { quote: None, ..evidence }).await.is_err(), "no quote");
    }
}
