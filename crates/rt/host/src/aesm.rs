//! Client of Intel's AESM daemon, which turns reports of enclaves into quotes.
//!
//! The daemon takes one request per connection: a length of four bytes, little-endian, and protobuf. Source:
//! `go/common/sgx/aesm`; message numbers are those of Intel's `messages.proto`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

/// Where the daemon listens.
pub const SOCKET: &str = "/var/run/aesmd/aesm.socket";
/// Time limit of what the machine does alone.
pub const LOCAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Time limit of what needs Intel's services.
pub const REMOTE_TIMEOUT: Duration = Duration::from_secs(30);
/// Added to the daemon's own limits before the client gives up.
const GRACE: Duration = Duration::from_secs(5);
/// Most bytes of an answer.
pub const MAX_ANSWER_BYTES: u32 = 1 << 20;
/// Most attestation keys.
const MAX_KEYS: u32 = 64;
/// Bytes of an attestation key's identifier in the daemon's answers.
const KEY_BYTES: usize = 256;
/// Algorithm of a key that makes DCAP quotes.
const ECDSA_P256: u32 = 2;

/// Why a quote was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The daemon cannot be reached.
    #[error("aesm: cannot reach {}: {reason}; install and start aesmd", path.display())]
    Unreachable {
        /// Its socket.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// It refused.
    #[error("aesm: {what}error {code}{}", hint(*code))]
    Refused {
        /// What was asked for, with a colon and a space; empty for quotes of the older kind.
        what: &'static str,
        /// Its code.
        code: u32,
    },
    /// Its answer is no answer.
    #[error("aesm: malformed response")]
    Malformed,
    /// It took too long.
    #[error("aesm: no answer within {0:?}")]
    Timeout(Duration),
    /// It has no key for quotes of the kind that networks accept.
    #[error("no suitable ECDSA attestation keys found; install libsgx-aesm-quote-ex-plugin and a quote provider")]
    NoKey,
}

/// What an operator can do about a code.
fn hint(code: u32) -> &'static str {
    match code {
        30 => " (service unavailable: the plugin for this kind of quote is not installed)",
        _ => "",
    }
}

/// Messages of the daemon. Names and numbers are Intel's.
#[allow(missing_docs)]
pub mod proto {
    macro_rules! message {
        ($name:ident { $($(#[$attr:meta])* $field:ident: $type:ty,)* }) => {
            #[derive(Clone, PartialEq, prost::Message)]
            pub struct $name { $($(#[$attr])* pub $field: $type,)* }
        };
    }

    message! { InitQuoteRequest {
        #[prost(uint32, optional, tag = "9")] timeout: Option<u32>,
    } }
    message! { GetQuoteRequest {
        #[prost(bytes = "vec", required, tag = "1")] report: Vec<u8>,
        #[prost(uint32, required, tag = "2")] quote_type: u32,
        #[prost(bytes = "vec", required, tag = "3")] spid: Vec<u8>,
        #[prost(bytes = "vec", optional, tag = "4")] nonce: Option<Vec<u8>>,
        #[prost(bytes = "vec", optional, tag = "5")] sig_rl: Option<Vec<u8>>,
        #[prost(uint32, required, tag = "6")] buf_size: u32,
        #[prost(bool, optional, tag = "7")] qe_report: Option<bool>,
        #[prost(uint32, optional, tag = "9")] timeout: Option<u32>,
    } }
    message! { InitQuoteExRequest {
        #[prost(bytes = "vec", optional, tag = "1")] att_key_id: Option<Vec<u8>>,
        #[prost(bool, required, tag = "3")] b_pub_key_id: bool,
        #[prost(uint64, optional, tag = "4")] buf_size: Option<u64>,
        #[prost(uint32, optional, tag = "9")] timeout: Option<u32>,
    } }
    message! { GetQuoteSizeExRequest {
        #[prost(bytes = "vec", optional, tag = "1")] att_key_id: Option<Vec<u8>>,
        #[prost(uint32, optional, tag = "9")] timeout: Option<u32>,
    } }
    message! { GetQuoteExRequest {
        #[prost(bytes = "vec", required, tag = "1")] report: Vec<u8>,
        #[prost(bytes = "vec", optional, tag = "2")] att_key_id: Option<Vec<u8>>,
        #[prost(bytes = "vec", optional, tag = "3")] qe_report_info: Option<Vec<u8>>,
        #[prost(uint32, required, tag = "4")] buf_size: u32,
        #[prost(uint32, optional, tag = "9")] timeout: Option<u32>,
    } }
    message! { GetSupportedAttKeyIdNumRequest {
        #[prost(uint32, optional, tag = "9")] timeout: Option<u32>,
    } }
    message! { GetSupportedAttKeyIdsRequest {
        #[prost(uint32, required, tag = "1")] buf_size: u32,
        #[prost(uint32, optional, tag = "9")] timeout: Option<u32>,
    } }
    message! { Request {
        #[prost(message, optional, tag = "1")] init_quote: Option<InitQuoteRequest>,
        #[prost(message, optional, tag = "2")] get_quote: Option<GetQuoteRequest>,
        #[prost(message, optional, tag = "15")] init_quote_ex: Option<InitQuoteExRequest>,
        #[prost(message, optional, tag = "16")] get_quote_size_ex: Option<GetQuoteSizeExRequest>,
        #[prost(message, optional, tag = "17")] get_quote_ex: Option<GetQuoteExRequest>,
        #[prost(message, optional, tag = "21")] key_count: Option<GetSupportedAttKeyIdNumRequest>,
        #[prost(message, optional, tag = "22")] keys: Option<GetSupportedAttKeyIdsRequest>,
    } }

    message! { InitQuoteResponse {
        #[prost(uint32, required, tag = "1")] error_code: u32,
        #[prost(bytes = "vec", optional, tag = "2")] target_info: Option<Vec<u8>>,
        #[prost(bytes = "vec", optional, tag = "3")] gid: Option<Vec<u8>>,
    } }
    message! { GetQuoteResponse {
        #[prost(uint32, required, tag = "1")] error_code: u32,
        #[prost(bytes = "vec", optional, tag = "2")] quote: Option<Vec<u8>>,
        #[prost(bytes = "vec", optional, tag = "3")] qe_report: Option<Vec<u8>>,
    } }
    message! { InitQuoteExResponse {
        #[prost(uint32, required, tag = "1")] error_code: u32,
        #[prost(bytes = "vec", optional, tag = "2")] target_info: Option<Vec<u8>>,
        #[prost(uint64, optional, tag = "3")] pub_key_id_size: Option<u64>,
        #[prost(bytes = "vec", optional, tag = "4")] pub_key_id: Option<Vec<u8>>,
    } }
    message! { GetQuoteSizeExResponse {
        #[prost(uint32, required, tag = "1")] error_code: u32,
        #[prost(uint32, optional, tag = "2")] quote_size: Option<u32>,
    } }
    message! { GetQuoteExResponse {
        #[prost(uint32, required, tag = "1")] error_code: u32,
        #[prost(bytes = "vec", optional, tag = "2")] quote: Option<Vec<u8>>,
        #[prost(bytes = "vec", optional, tag = "3")] qe_report_info: Option<Vec<u8>>,
    } }
    message! { GetSupportedAttKeyIdNumResponse {
        #[prost(uint32, required, tag = "1")] error_code: u32,
        #[prost(uint32, optional, tag = "2")] att_key_id_num: Option<u32>,
    } }
    message! { GetSupportedAttKeyIdsResponse {
        #[prost(uint32, required, tag = "1")] error_code: u32,
        #[prost(bytes = "vec", optional, tag = "2")] att_key_ids: Option<Vec<u8>>,
    } }
    message! { Response {
        #[prost(message, optional, tag = "1")] init_quote: Option<InitQuoteResponse>,
        #[prost(message, optional, tag = "2")] get_quote: Option<GetQuoteResponse>,
        #[prost(message, optional, tag = "15")] init_quote_ex: Option<InitQuoteExResponse>,
        #[prost(message, optional, tag = "16")] get_quote_size_ex: Option<GetQuoteSizeExResponse>,
        #[prost(message, optional, tag = "17")] get_quote_ex: Option<GetQuoteExResponse>,
        #[prost(message, optional, tag = "21")] key_count: Option<GetSupportedAttKeyIdNumResponse>,
        #[prost(message, optional, tag = "22")] keys: Option<GetSupportedAttKeyIdsResponse>,
    } }
}

use proto::{Request, Response};

fn micros(limit: Duration) -> Option<u32> {
    Some(u32::try_from(limit.as_micros()).unwrap_or(u32::MAX))
}

/// An attestation key, as the daemon names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// The algorithm, where the identifier is well-formed.
    fn algorithm(&self) -> Option<u32> {
        let signer_bytes = self.0.get(4..6)?;
        if signer_bytes != [32, 0] {
            return None;
        }
        self.0.get(154..158)?.first_chunk().map(|b| u32::from_le_bytes(*b))
    }
}

/// What a report must be made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteInfo {
    /// The quoting enclave.
    pub target_info: Vec<u8>,
    /// Group of the machine, for the older service.
    pub gid: Vec<u8>,
}

/// The daemon.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Default for Client {
    fn default() -> Self {
        Self::new(Path::new(SOCKET))
    }
}

impl Client {
    /// The daemon that listens there.
    pub fn new(path: &Path) -> Self {
        Self { path: path.into() }
    }

    async fn ask(&self, request: &Request, limit: Duration) -> Result<Response, Error> {
        let limit = limit.saturating_add(GRACE);
        timeout(limit, self.transact(request)).await.map_err(|_| Error::Timeout(limit))?
    }

    async fn transact(&self, request: &Request) -> Result<Response, Error> {
        let unreachable = |e: std::io::Error| Error::Unreachable { path: self.path.clone(), reason: e.to_string() };
        let mut stream = UnixStream::connect(&self.path).await.map_err(unreachable)?;
        let body = request.encode_to_vec();
        let mut out = u32::try_from(body.len()).map_err(|_| Error::Malformed)?.to_le_bytes().to_vec();
        out.extend_from_slice(&body);
        stream.write_all(&out).await.map_err(unreachable)?;
        let length = stream.read_u32_le().await.map_err(unreachable)?;
        if length > MAX_ANSWER_BYTES {
            return Err(Error::Malformed);
        }
        let mut answer = vec![0; usize::try_from(length).map_err(|_| Error::Malformed)?];
        stream.read_exact(&mut answer).await.map_err(unreachable)?;
        Response::decode(&*answer).map_err(|_| Error::Malformed)
    }

    /// The first key that makes DCAP quotes.
    ///
    /// # Errors
    /// If there is none.
    pub async fn ecdsa_key(&self) -> Result<Key, Error> {
        let request = Request {
            key_count: Some(proto::GetSupportedAttKeyIdNumRequest { timeout: micros(LOCAL_TIMEOUT) }),
            ..Request::default()
        };
        let answer = self.ask(&request, LOCAL_TIMEOUT).await?.key_count.ok_or(Error::Malformed)?;
        check("get supported attestation key count: ", answer.error_code)?;
        let count = answer.att_key_id_num.unwrap_or_default().min(MAX_KEYS);
        let buf_size = count * KEY_BYTES as u32;
        let request = Request {
            keys: Some(proto::GetSupportedAttKeyIdsRequest { buf_size, timeout: micros(LOCAL_TIMEOUT) }),
            ..Request::default()
        };
        let answer = self.ask(&request, LOCAL_TIMEOUT).await?.keys.ok_or(Error::Malformed)?;
        check("get supported attestation key IDs: ", answer.error_code)?;
        let keys = answer.att_key_ids.unwrap_or_default();
        if keys.len() as u64 != u64::from(buf_size) {
            return Err(Error::Malformed);
        }
        let mut keys = keys.chunks_exact(KEY_BYTES).map(|bytes| Key(bytes.to_vec()));
        keys.find(|key| key.algorithm() == Some(ECDSA_P256)).ok_or(Error::NoKey)
    }

    /// The quoting enclave for which an enclave must make its report.
    ///
    /// # Errors
    /// If the daemon refuses.
    pub async fn target_info(&self, key: &Key) -> Result<Vec<u8>, Error> {
        let ask = async |b_pub_key_id, buf_size| {
            let request = Request {
                init_quote_ex: Some(proto::InitQuoteExRequest {
                    att_key_id: Some(key.0.clone()),
                    b_pub_key_id,
                    buf_size,
                    timeout: micros(LOCAL_TIMEOUT),
                }),
                ..Request::default()
            };
            self.ask(&request, LOCAL_TIMEOUT).await?.init_quote_ex.ok_or(Error::Malformed)
        };
        // It wants to be told how large its key is, which it has to be asked first.
        let size = ask(false, None).await?;
        check("get public key size: ", size.error_code)?;
        let answer = ask(true, size.pub_key_id_size).await?;
        check("get QE target info: ", answer.error_code)?;
        answer.target_info.ok_or(Error::Malformed)
    }

    /// The quote of a report.
    ///
    /// # Errors
    /// If the daemon refuses.
    pub async fn quote(&self, key: &Key, report: &[u8]) -> Result<Vec<u8>, Error> {
        let request = Request {
            get_quote_size_ex: Some(proto::GetQuoteSizeExRequest {
                att_key_id: Some(key.0.clone()),
                timeout: micros(LOCAL_TIMEOUT),
            }),
            ..Request::default()
        };
        let answer = self.ask(&request, LOCAL_TIMEOUT).await?.get_quote_size_ex.ok_or(Error::Malformed)?;
        check("get quote size: ", answer.error_code)?;
        let request = Request {
            get_quote_ex: Some(proto::GetQuoteExRequest {
                report: report.to_vec(),
                att_key_id: Some(key.0.clone()),
                qe_report_info: None,
                buf_size: answer.quote_size.unwrap_or_default().min(MAX_ANSWER_BYTES),
                timeout: micros(LOCAL_TIMEOUT),
            }),
            ..Request::default()
        };
        let answer = self.ask(&request, REMOTE_TIMEOUT).await?.get_quote_ex.ok_or(Error::Malformed)?;
        check("get quote: ", answer.error_code)?;
        answer.quote.ok_or(Error::Malformed)
    }

    /// For the older kind of quotes: the quoting enclave and the machine's group.
    ///
    /// # Errors
    /// If the daemon refuses; code 30 without the plugin for such quotes.
    pub async fn init_epid_quote(&self) -> Result<QuoteInfo, Error> {
        let request = Request {
            init_quote: Some(proto::InitQuoteRequest { timeout: micros(LOCAL_TIMEOUT) }),
            ..Request::default()
        };
        let answer = self.ask(&request, LOCAL_TIMEOUT).await?.init_quote.ok_or(Error::Malformed)?;
        check("", answer.error_code)?;
        Ok(QuoteInfo { target_info: answer.target_info.ok_or(Error::Malformed)?, gid: answer.gid.unwrap_or_default() })
    }

    /// For the older kind of quotes: the quote of a report.
    ///
    /// # Errors
    /// If the daemon refuses.
    pub async fn epid_quote(
        &self,
        report: &[u8],
        linkable: bool,
        spid: &[u8; 16],
        nonce: &[u8],
        revocations: &[u8],
    ) -> Result<Vec<u8>, Error> {
        /// Bytes of a quote before its signature, of which the last four say how long that is.
        const FIXED: usize = 436;
        /// Bytes of what wraps a signature, and of one without revocations.
        const SIGNATURE: usize = 288 + 12 + 4 + 16 + 352 + 4 + 4;
        // A proof for each revoked key takes a quarter more than the key.
        let revoked = revocations.len().saturating_mul(5) / 4 + 128;
        let request = Request {
            get_quote: Some(proto::GetQuoteRequest {
                report: report.to_vec(),
                quote_type: u32::from(linkable),
                spid: spid.to_vec(),
                nonce: Some(nonce.to_vec()),
                sig_rl: (!revocations.is_empty()).then(|| revocations.to_vec()),
                buf_size: u32::try_from(FIXED + SIGNATURE + revoked).map_err(|_| Error::Malformed)?,
                qe_report: Some(true),
                timeout: micros(REMOTE_TIMEOUT),
            }),
            ..Request::default()
        };
        let answer = self.ask(&request, REMOTE_TIMEOUT).await?.get_quote.ok_or(Error::Malformed)?;
        check("", answer.error_code)?;
        let mut quote = answer.quote.ok_or(Error::Malformed)?;
        // It gives back the whole buffer.
        let signature = quote.get(FIXED - 4..FIXED).and_then(<[u8]>::first_chunk).ok_or(Error::Malformed)?;
        let length = usize::try_from(u32::from_le_bytes(*signature)).ok().and_then(|n| n.checked_add(FIXED));
        let length = length.filter(|length| *length <= quote.len()).ok_or(Error::Malformed)?;
        quote.truncate(length);
        Ok(quote)
    }
}

fn check(what: &'static str, code: u32) -> Result<(), Error> {
    if code == 0 { Ok(()) } else { Err(Error::Refused { what, code }) }
}

#[cfg(test)]
pub(crate) mod tests;
