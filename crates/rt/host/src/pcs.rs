//! Collateral for quotes, from Intel's Provisioning Certification Service or a cache that speaks the same protocol.
//!
//! Source: `go/common/sgx/pcs/{http,service,cache}.go`.

use std::{sync::Arc, time::Duration};

use base_codec::{Codec, cbor};
use base_kv::{Batch, Durability, KvStore};
use rt_tee::{
    UnixTime, VerifyOptions,
    pcs::{
        self, CertificationData, Quote, QuoteBundle, QuotePolicy, SignedQeIdentity, SignedTcbInfo, TcbBundle, TeeType,
    },
};
use serde_json::Value;

use crate::http::{Client, HttpError};

/// Intel's service.
pub const DEFAULT_BASE_URL: &str = "https://api.trustedservices.intel.com";
/// How long a request may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer.
pub const MAX_ANSWER_BYTES: u64 = 4 << 20;
/// Most evaluation data numbers that are tried.
pub const MAX_NUMBERS: usize = 32;
/// Collateral that expires within this many seconds is asked for again, at most once a day; expired one always.
const REFRESH_SECONDS: i64 = 14 * 24 * 3600;
const DAY_SECONDS: i64 = 24 * 3600;
/// Header with the certificates that sign TCB info.
const CHAIN_HEADER: &str = "tcb-info-issuer-chain";
const CACHE_PREFIX: &str = "pcs.tcb_bundle";
const NUMBERS_PREFIX: &str = "pcs.tcb_evaluation_data_numbers";

/// Why a quote has no collateral.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The quote is no quote.
    #[error("failed to parse quote: {0}")]
    Quote(pcs::Error),
    /// The quote names the platform, but has no certificate.
    #[error("PPID certification data not yet supported; please install a quote provider")]
    NoProvider,
    /// The platform's certificate does not verify.
    #[error("PCK verification failed: {0}")]
    Pck(pcs::Error),
    /// The service did not answer.
    #[error("pcs: {0}")]
    Http(#[from] HttpError),
    /// The service's answer is malformed.
    #[error("pcs: failed to parse {what}")]
    Answer {
        /// What was asked for.
        what: &'static str,
    },
    /// The quote does not verify with its collateral.
    #[error("quote verification failed ({which} bundle): {source}")]
    Verification {
        /// Where the collateral comes from.
        which: &'static str,
        /// What is wrong.
        source: pcs::Error,
    },
    /// The service knows none.
    #[error("failed to fetch any valid TCB bundles")]
    NoBundle,
}

/// The present.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        UnixTime::new(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
    })
}

#[derive(Clone, Debug, Default, Codec)]
#[codec(cbor_only)]
struct CachedBundle {
    bundle: TcbBundle,
    fmspc: [u8; 6],
    expiry: i64,
    updated: i64,
}

#[derive(Clone, Debug, Default, Codec)]
#[codec(cbor_only)]
struct CachedNumbers {
    numbers: Vec<u32>,
    updated: i64,
}

/// Finds collateral for quotes.
#[derive(Clone)]
pub struct QuoteService {
    client: Client,
    base_url: String,
    cache: Arc<dyn KvStore>,
    clock: Clock,
    options: VerifyOptions,
}

impl QuoteService {
    /// Asks the service at `base_url`, and keeps its answers in `cache`.
    pub fn new(base_url: &str, cache: Arc<dyn KvStore>, clock: Clock, options: VerifyOptions) -> Self {
        Self {
            client: Client::new(REQUEST_TIMEOUT),
            base_url: base_url.trim_end_matches('/').into(),
            cache,
            clock,
            options,
        }
    }

    /// The quote, without what may follow it, with collateral under which it verifies now.
    ///
    /// # Errors
    /// If there is none. Enclave and consensus verify it themselves later.
    pub async fn resolve(&self, raw: &[u8], policy: Option<&QuotePolicy>) -> Result<QuoteBundle, Error> {
        let (quote, length) = Quote::parse_prefix(raw).map_err(Error::Quote)?;
        if matches!(quote.signature.certification_data, CertificationData::Ppid { .. }) {
            return Err(Error::NoProvider);
        }
        let now = (self.clock)();
        let platform = quote.signature.verify_pck(now).map_err(Error::Pck)?;
        let tee = quote.header.tee_type;
        let mut last = Error::NoBundle;
        for number in self.numbers(tee, now).await {
            match self.bundle(&quote, policy, platform.fmspc, number, now).await {
                Ok(tcb) => {
                    let quote = raw.get(..length).unwrap_or_default().to_vec();
                    return Ok(QuoteBundle { quote: Some(quote.into()), tcb });
                }
                Err(e) => {
                    tracing::warn!(err = %e, tcb_evaluation_data_number = number, "TCB collateral does not fit");
                    last = e;
                }
            }
        }
        Err(last)
    }

    fn verify(
        &self,
        quote: &Quote,
        policy: Option<&QuotePolicy>,
        tcb: &TcbBundle,
        now: UnixTime,
        which: &'static str,
    ) -> Result<(), Error> {
        let verified = quote.verify(policy, now, Some(tcb), &self.options);
        verified.map(drop).map_err(|source| Error::Verification { which, source })
    }

    /// Collateral of one evaluation data number, from the cache where it is good enough.
    async fn bundle(
        &self,
        quote: &Quote,
        policy: Option<&QuotePolicy>,
        fmspc: [u8; 6],
        number: u32,
        now: UnixTime,
    ) -> Result<TcbBundle, Error> {
        let tee = quote.header.tee_type;
        let cached = self.cached(tee).filter(|cached| cached.fmspc == fmspc);
        let refresh = cached.as_ref().is_none_or(|cached| {
            let left = cached.expiry.saturating_sub(now.seconds());
            left < REFRESH_SECONDS && (left < 0 || now.seconds().saturating_sub(cached.updated) > DAY_SECONDS)
        });
        let old = |cached: Option<CachedBundle>| -> Result<TcbBundle, Error> {
            let tcb = cached.ok_or(Error::NoBundle)?.bundle;
            self.verify(quote, policy, &tcb, now, "cached").map(|()| tcb)
        };
        if !refresh && let Ok(tcb) = old(cached.clone()) {
            return Ok(tcb);
        }
        let fresh = match self.download(tee, fmspc, number).await {
            Ok(tcb) => self.verify(quote, policy, &tcb, now, "fresh").map(|()| tcb),
            Err(e) => Err(e),
        };
        match fresh {
            Ok(tcb) => {
                self.keep(tee, &tcb, fmspc, now);
                Ok(tcb)
            }
            // What is wrong with the new one is more telling than that there is no old one.
            Err(e) => old(cached.filter(|_| refresh)).map_err(|_| e),
        }
    }

    async fn download(&self, tee: TeeType, fmspc: [u8; 6], number: u32) -> Result<TcbBundle, Error> {
        let path = path_of(tee);
        let url = format!(
            "{}/{path}/certification/v4/tcb?fmspc={}&tcbEvaluationDataNumber={number}",
            self.base_url,
            hex::encode(fmspc)
        );
        let answer = self.client.get(&url, &[], MAX_ANSWER_BYTES, false).await?;
        let chain = answer.header(CHAIN_HEADER).and_then(unescape);
        let certificates = chain.ok_or(Error::Answer { what: "TCB info cert chain header" })?;
        let tcb_info = SignedTcbInfo::from_answer(&answer.body).map_err(|_| Error::Answer { what: "TCB info" })?;
        let url = format!("{}/{path}/certification/v4/qe/identity?tcbEvaluationDataNumber={number}", self.base_url);
        let answer = self.client.get(&url, &[], MAX_ANSWER_BYTES, false).await?;
        let qe_identity =
            SignedQeIdentity::from_answer(&answer.body).map_err(|_| Error::Answer { what: "QE identity" })?;
        Ok(TcbBundle { tcb_info, qe_identity, certificates: Some(certificates.into()) })
    }

    /// Evaluation data numbers, highest first.
    async fn numbers(&self, tee: TeeType, now: UnixTime) -> Vec<u32> {
        let key = format!("{NUMBERS_PREFIX}.{}", path_of(tee));
        let cached: Option<CachedNumbers> =
            self.cache.get(key.as_bytes()).ok().flatten().and_then(|bytes| cbor::from_slice(&bytes).ok());
        let fresh = cached.as_ref().is_some_and(|c| now.seconds().saturating_sub(c.updated) <= DAY_SECONDS);
        let mut numbers = cached.map(|cached| cached.numbers).unwrap_or_default();
        if !fresh {
            match self.download_numbers(tee).await {
                Ok(new) => {
                    numbers = new;
                    self.put(&key, &CachedNumbers { numbers: numbers.clone(), updated: now.seconds() });
                }
                Err(e) => tracing::warn!(err = %e, "error downloading TCB evaluation data numbers"),
            }
        }
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers.dedup();
        numbers.truncate(MAX_NUMBERS);
        numbers
    }

    async fn download_numbers(&self, tee: TeeType) -> Result<Vec<u32>, Error> {
        let url = format!("{}/{}/certification/v4/tcbevaluationdatanumbers", self.base_url, path_of(tee));
        let answer = self.client.get(&url, &[], MAX_ANSWER_BYTES, false).await?;
        let malformed = || Error::Answer { what: "TCB evaluation data numbers" };
        let value: Value = serde_json::from_slice(&answer.body).map_err(|_| malformed())?;
        let list = value
            .get("tcbEvaluationDataNumbers")
            .and_then(|v| v.get("tcbEvalNumbers"))
            .and_then(Value::as_array)
            .ok_or_else(malformed)?;
        let number = |v: &Value| v.get("tcbEvaluationDataNumber")?.as_u64().and_then(|n| u32::try_from(n).ok());
        list.iter().map(|v| number(v).ok_or_else(malformed)).collect()
    }

    fn cached(&self, tee: TeeType) -> Option<CachedBundle> {
        let key = format!("{CACHE_PREFIX}.{}", path_of(tee));
        self.cache.get(key.as_bytes()).ok().flatten().and_then(|bytes| cbor::from_slice(&bytes).ok())
    }

    fn keep(&self, tee: TeeType, bundle: &TcbBundle, fmspc: [u8; 6], now: UnixTime) {
        let updates = [
            bundle.tcb_info.parse_unverified().ok().map(|info| info.next_update),
            bundle.qe_identity.parse_unverified().ok().map(|identity| identity.next_update),
        ];
        let Some(expiry) = updates.into_iter().map(|text| seconds(&text?)).min().flatten() else {
            tracing::warn!("could not determine next update timestamp from TCB bundle");
            return;
        };
        let entry = CachedBundle { bundle: bundle.clone(), fmspc, expiry, updated: now.seconds() };
        self.put(&format!("{CACHE_PREFIX}.{}", path_of(tee)), &entry);
    }

    fn put(&self, key: &str, value: &impl cbor::Encode) {
        let mut batch = Batch::new();
        batch.put(key.as_bytes(), &cbor::to_vec(value));
        if let Err(e) = self.cache.write(&batch, Durability::Buffered) {
            tracing::warn!(err = %e, "could not store TCB collateral, ignoring");
        }
    }
}

fn path_of(tee: TeeType) -> &'static str {
    match tee {
        TeeType::Sgx => "sgx",
        TeeType::Tdx => "tdx",
    }
}

/// Undoes the escaping of a header: `%41` and `+`.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let pair = [bytes.next()?, bytes.next()?];
                let digits = std::str::from_utf8(&pair).ok()?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
            }
            other => out.push(other),
        }
    }
    Some(out)
}

/// Unix time of `2006-01-02T15:04:05Z`.
fn seconds(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // Days from civil, with years that begin in March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
pub(crate) mod tests;
