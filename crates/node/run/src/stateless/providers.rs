//! Nodes that answer for a stateless one. None of them is trusted.
//!
//! Reference: `go/consensus/cometbft/stateless/provider.go`.

use std::str::FromStr as _;
use std::time::{Duration, Instant};

use base_codec::cbor::{Decode, Encode};
use base_grpc::{Address, Argument, BoxStream, Cbor, Client, ClientTls, Code, Reply, RpcError};
use base_identity::TlsIdentity;
use base_prims::PublicKey;
use node_rpc::types;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::verify::Lie;
use crate::error::RunError;

/// The service that is asked.
const SERVICE: &str = "oasis-core.Consensus";
/// How long a provider that was caught lying is asked only if there is nobody else.
const BARRED: Duration = Duration::from_secs(600);
/// Longest wait for one answer.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(20);
/// Failures that are remembered of a provider.
const MAX_FAILURES: u32 = 16;

/// How a provider did.
#[derive(Debug, Default)]
struct Record {
    failures: u32,
    barred: Option<Instant>,
}

struct Provider {
    name: String,
    address: Address,
    tls: Option<ClientTls>,
    client: OnceCell<Client>,
    record: Mutex<Record>,
}

/// Which provider.
pub(crate) type Which = usize;

/// All of them.
pub(crate) struct Providers(Vec<Provider>);

impl Provider {
    /// `unix:PATH` is a socket; `KEY@HOST:PORT` a node whose key is known; `HOST:PORT` one that authorities vouch for.
    fn new(text: &str, identity: &TlsIdentity) -> Result<Self, String> {
        let (address, tls) = match text.split_once('@') {
            Some((key, address)) if !text.starts_with("unix:") => {
                let key: PublicKey = key.parse().map_err(|error: base_prims::ParseError| error.to_string())?;
                (address, Some(ClientTls::node(Some(identity), vec![*key.as_bytes()])))
            }
            _ if text.starts_with("unix:") => (text, None),
            _ => (text, Some(ClientTls::system())),
        };
        let address = Address::from_str(address).map_err(|error| error.to_string())?;
        let tls = tls.transpose().map_err(|error| error.to_string())?;
        Ok(Self { name: text.to_owned(), address, tls, client: OnceCell::new(), record: Mutex::default() })
    }

    async fn client(&self) -> Result<&Client, RpcError> {
        let connect = || async {
            match &self.tls {
                Some(tls) => Client::connect_tls(&self.address, tls.clone()).await,
                None => Client::connect(&self.address).await,
            }
        };
        self.client.get_or_try_init(connect).await.map_err(|error| RpcError::with(Code::Unavailable, error.to_string()))
    }

    async fn call<A: Argument, R: Reply>(&self, method: &str, argument: &A, limit: Duration) -> Result<R, RpcError> {
        let asking = async { self.client().await?.call(SERVICE, method, argument).await };
        let late = |_| Err(RpcError::with(Code::DeadlineExceeded, format!("no answer from {}", self.name)));
        tokio::time::timeout(limit, asking).await.unwrap_or_else(late)
    }
}

impl Providers {
    /// Those of the configuration.
    pub(crate) fn new(addresses: &[String], identity: &TlsIdentity) -> Result<Self, RunError> {
        let wrong = |reason: String| RunError::Address { key: "consensus.providers", reason };
        if addresses.is_empty() {
            return Err(wrong("no providers configured: a node without local storage needs nodes to ask".to_owned()));
        }
        let parse =
            |text: &String| Provider::new(text, identity).map_err(|reason| wrong(format!("{text:?}: {reason}")));
        addresses.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// In the order in which they are to be asked: liars last, then by failures.
    pub(super) fn order(&self) -> Vec<Which> {
        let now = Instant::now();
        let mut order: Vec<Which> = (0..self.0.len()).collect();
        order.sort_by_cached_key(|which| {
            let record = self.0[*which].record.lock();
            (record.barred.is_some_and(|until| until > now), record.failures)
        });
        order
    }

    fn failed(&self, which: Which) {
        if let Some(provider) = self.0.get(which) {
            let mut record = provider.record.lock();
            record.failures = record.failures.saturating_add(1).min(MAX_FAILURES);
        }
    }

    /// A provider did not do what it should: others come first.
    pub(crate) fn blame(&self, which: Which) {
        self.failed(which);
    }

    /// A provider was caught lying.
    pub(crate) fn caught(&self, which: Which, what: &str, lie: &Lie) {
        let Some(provider) = self.0.get(which) else { return };
        tracing::warn!(module = "cometbft/stateless/provider", provider = provider.name, what, lie = %lie,
            "provider sent what does not follow from verified headers");
        let mut record = provider.record.lock();
        record.failures = MAX_FAILURES;
        record.barred = Some(Instant::now() + BARRED);
    }

    /// Asks one after the other until an answer passes the check.
    pub(crate) async fn ask<A, R, T>(
        &self,
        method: &str,
        argument: A,
        check: impl Fn(R) -> Result<T, Lie>,
    ) -> Result<(T, Which), RpcError>
    where
        A: Argument,
        R: Encode + Decode,
    {
        let mut last = RpcError::with(Code::Unavailable, "there are no providers");
        for which in self.order() {
            let answer = self.0[which].call::<A, Cbor<R>>(method, &argument, ANSWER_TIME).await;
            match answer.map(|Cbor(answer)| check(answer)) {
                Ok(Ok(answer)) => {
                    let mut record = self.0[which].record.lock();
                    record.failures /= 2;
                    return Ok((answer, which));
                }
                Ok(Err(lie)) => {
                    self.caught(which, method, &lie);
                    last = RpcError::unknown(format!("{method} of {}: {lie}", self.0[which].name));
                }
                Err(error) => {
                    // What the service itself says is no failure to answer.
                    if error.detail.is_none() {
                        self.failed(which);
                    }
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// Hands something over: the first provider whose service answers decides.
    pub(crate) async fn submit<A, R>(&self, method: &str, argument: A, limit: Duration) -> Result<(R, Which), RpcError>
    where
        A: Argument,
        R: Reply,
    {
        let mut last = RpcError::with(Code::Unavailable, "there are no providers");
        for which in self.order() {
            match self.0[which].call::<A, R>(method, &argument, limit).await {
                Ok(answer) => return Ok((answer, which)),
                Err(error) if error.detail.is_some() || error.code != Code::Unavailable => return Err(error),
                Err(error) => {
                    self.failed(which);
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// Announcements of blocks, by the most promising provider that answers.
    pub(crate) async fn watch_blocks(&self) -> Result<(Which, BoxStream<Cbor<types::Block>>), RpcError> {
        let mut last = RpcError::with(Code::Unavailable, "there are no providers");
        for which in self.order() {
            let watching = async { self.0[which].client().await?.stream(SERVICE, "WatchBlocks", &()).await };
            let late = |_| Err(RpcError::with(Code::DeadlineExceeded, "no answer"));
            match tokio::time::timeout(ANSWER_TIME, watching).await.unwrap_or_else(late) {
                Ok(stream) => return Ok((which, stream)),
                Err(error) => {
                    self.failed(which);
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// Name of one, for the log.
    pub(crate) fn name(&self, which: Which) -> &str {
        self.0.get(which).map_or("", |provider| provider.name.as_str())
    }
}
