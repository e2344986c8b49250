//! Client of Intel's older attestation service (EPID), or of a node that passes requests on to it.
//!
//! Intel has ended the service. What is here makes the requests as they were and reads the answers, so that set-ups of
//! that time fail with a clear line and not in an obscure way. Source: `go/ias`.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rt_tee::ias::AvrBundle;
use serde_json::json;

use crate::http::{Answer, Client, HttpError};

/// Intel's service.
pub const DEFAULT_BASE_URL: &str = "https://api.trustedservices.intel.com/sgx";
/// Path of its version for debug enclaves, below the base.
pub const DEVELOPMENT_PATH: &str = "dev/attestation/v5";
/// Path of its version for production enclaves, below the base.
pub const PRODUCTION_PATH: &str = "attestation/v5";
/// How long a request may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer.
pub const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// Most characters of a nonce.
pub const MAX_NONCE_CHARS: usize = 32;
/// What operators are told at the start.
pub const ENDED: &str = "Intel has ended the EPID attestation service; enclaves need DCAP (see docs/hardware.md)";

const KEY_HEADER: &str = "Ocp-Apim-Subscription-Key";
const SIGNATURE_HEADER: &str = "x-iasreport-signature";
const CERTIFICATE_HEADER: &str = "x-iasreport-signing-certificate";

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
    #[error("ias: nonce of {length} characters, at most {MAX_NONCE_CHARS}")]
    Nonce {
        /// Its length.
        length: usize,
    },
}

/// The service, as one subscriber sees it.
#[derive(Clone)]
pub struct Service {
    client: Client,
    base_url: String,
    api_key: String,
}

impl Service {
    /// With the base address, including the version, and the subscriber's key.
    pub fn new(base_url: &str, api_key: &str) -> Self {
        tracing::warn!("{ENDED}");
        Self {
            client: Client::new(REQUEST_TIMEOUT),
            base_url: base_url.trim_end_matches('/').into(),
            api_key: api_key.into(),
        }
    }

    /// Makes a report about a quote.
    ///
    /// # Errors
    /// If there is none. The report is not verified.
    pub async fn verify_evidence(&self, quote: &[u8], nonce: &str) -> Result<AvrBundle, Error> {
        let length = nonce.chars().count();
        if length > MAX_NONCE_CHARS {
            return Err(Error::Nonce { length });
        }
        let mut evidence = json!({ "isvEnclaveQuote": STANDARD.encode(quote) });
        if !nonce.is_empty() {
            evidence["nonce"] = nonce.into();
        }
        let headers = [("Content-Type", "application/json"), (KEY_HEADER, self.api_key.as_str())];
        let url = format!("{}/report", self.base_url);
        let answer = self.client.post(&url, &headers, evidence.to_string().into_bytes(), MAX_ANSWER_BYTES).await?;
        let part = |name: &str, what| header(&answer, name).ok_or(Error::Malformed { what });
        Ok(AvrBundle {
            certificate_chain: Some(part(CERTIFICATE_HEADER, "signing certificate")?.into()),
            signature: Some(part(SIGNATURE_HEADER, "signature")?.into()),
            body: Some(answer.body.into()),
        })
    }

    /// The revoked keys of a group, given in the byte order of the AESM daemon.
    ///
    /// # Errors
    /// If the service refuses.
    pub async fn revocations(&self, gid: [u8; 4]) -> Result<Vec<u8>, Error> {
        let url = format!("{}/sigrl/{:08x}", self.base_url, u32::from_le_bytes(gid));
        let answer = self.client.get(&url, &[(KEY_HEADER, &self.api_key)], MAX_ANSWER_BYTES, false).await?;
        STANDARD.decode(answer.body.trim_ascii()).map_err(|_| Error::Malformed { what: "list in base64" })
    }
}

fn header(answer: &Answer, name: &str) -> Option<Vec<u8>> {
    answer.header(name).map(|value| value.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use dev_testkit::paths;
    use rt_tee::VerifyOptions;

    use super::*;
    use crate::http::tests::{Reply, serve};

    fn published(name: &str) -> Option<Vec<u8>> {
        let Some(path) = paths::published(&format!("oasis-core/go/common/sgx/ias/testdata/{name}")) else {
            dev_testkit::skip(1, "published files with evidence are missing");
            return None;
        };
        Some(dev_testkit::read(&path).expect("readable"))
    }

    #[tokio::test]
    async fn reports_are_taken_over_as_they_are() {
        let name = "avr_v4_body_sw_hardening_needed";
        let (Some(body), Some(signature), Some(chain)) = (
            published(&format!("{name}.json")),
            published(&format!("{name}.sig")),
            published("avr_certificates_urlencoded.pem"),
        ) else {
            return;
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let reply = Reply::ok(&body)
            .with_header("X-IASReport-Signature", &text(&signature))
            .with_header("X-IASReport-Signing-Certificate", &text(&chain));
        let server = serve(move |request| match request.path.as_str() {
            "/v5/report" if request.headers.get("ocp-apim-subscription-key").is_some_and(|k| k == "key") => {
                reply.clone()
            }
            "/v5/sigrl/00000b39" => Reply::ok(STANDARD.encode(b"revoked").as_bytes()),
            _ => Reply::status(401),
        })
        .await;
        let service = Service::new(&format!("{}/v5/", server.url), "key");
        let bundle = service.verify_evidence(b"quote", "nonce").await.expect("a report");
        assert_eq!(bundle.body.as_ref().map(|b| b.to_vec()), Some(body));
        // Its signature is good at a time when the certificates were valid.
        let options = VerifyOptions { allow_test_signer: true, allow_debug_enclaves: true, ..VerifyOptions::default() };
        let opened = bundle.open(None, 1_600_000_000.into(), &options);
        assert!(!matches!(opened, Err(rt_tee::ias::Error::Signature | rt_tee::ias::Error::Chain(_))), "{opened:?}");
        assert_eq!(service.revocations([0x39, 0x0b, 0, 0]).await.expect("a list"), b"revoked");
        let other = Service::new(&server.url, "other key");
        let refused = other.verify_evidence(b"quote", "").await.expect_err("refused").to_string();
        assert!(refused.contains("401") && refused.contains("ended"), "{refused}");
        assert_eq!(other.verify_evidence(b"", &"x".repeat(33)).await, Err(Error::Nonce { length: 33 }));
    }
}
