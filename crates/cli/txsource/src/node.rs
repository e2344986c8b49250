//! A node, asked over its socket.

use std::time::{Duration, Instant};

use base_codec::cbor::{Decode, Encode};
use base_grpc::{BoxStream, Cbor, Client, Code, RpcError};
use base_prims::{Address, Epoch, Quantity};
use wire_consensus::staking::{Account, OwnerQuery};

/// Module of log lines.
pub(crate) const MODULE: &str = "cmd/txsource";
/// Stands for the newest height.
pub(crate) const LATEST: i64 = 0;
/// How long a node that is not there may take to come back.
const AWAY: Duration = Duration::from_secs(60);
const AWAY_PAUSE: Duration = Duration::from_secs(1);

/// Why a workload ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// It could not begin.
    #[error("{0}")]
    Setup(String),
    /// The node failed.
    #[error("{method}: {error}")]
    Call {
        /// The method.
        method: String,
        /// What it said.
        error: RpcError,
    },
    /// A transaction could not be made.
    #[error("cannot sign: {0}")]
    Sign(String),
    /// Something took too long.
    #[error("{what}: not within {limit:?}")]
    Timeout {
        /// What.
        what: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The network did what it must not.
    #[error("{0}")]
    Violated(String),
}

impl WorkloadError {
    /// Whether it is that error of a service.
    pub(crate) fn is(&self, code: &wire_consensus::errors::ErrorCode) -> bool {
        matches!(self, Self::Call { error, .. } if error.is(code.module, code.code))
    }

    /// Whether the node was not there.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Call { error, .. } if error.code == Code::Unavailable)
    }
}

/// The network broke a rule.
pub(crate) fn violated<T>(text: impl Into<String>) -> Result<T, WorkloadError> {
    Err(WorkloadError::Violated(text.into()))
}

/// A node.
#[derive(Clone)]
pub(crate) struct Node {
    client: Client,
}

impl Node {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    fn failed(service: &str, method: &str, error: RpcError) -> WorkloadError {
        WorkloadError::Call { method: format!("{service}.{method}"), error }
    }

    /// Calls a method of a service once.
    pub(crate) async fn call<A: Encode + Decode, R: Encode + Decode>(
        &self,
        service: &str,
        method: &str,
        argument: A,
    ) -> Result<R, WorkloadError> {
        let name = format!("oasis-core.{service}");
        let answer = self.client.call(&name, method, &Cbor(argument)).await;
        let Cbor(answer): Cbor<R> = answer.map_err(|error| Self::failed(service, method, error))?;
        Ok(answer)
    }

    /// Asks a method of a service without changing anything: once more if the node was away, as one that restarts is.
    pub(crate) async fn ask<A: Encode + Decode + Clone, R: Encode + Decode>(
        &self,
        service: &str,
        method: &str,
        argument: A,
    ) -> Result<R, WorkloadError> {
        let start = Instant::now();
        loop {
            match self.call(service, method, argument.clone()).await {
                Err(error) if error.is_away() && start.elapsed() < AWAY => tokio::time::sleep(AWAY_PAUSE).await,
                done => return done,
            }
        }
    }

    /// The same without an argument.
    pub(crate) async fn get<R: Encode + Decode>(&self, service: &str, method: &str) -> Result<R, WorkloadError> {
        let name = format!("oasis-core.{service}");
        let answer = self.client.call(&name, method, &()).await;
        let Cbor(answer): Cbor<R> = answer.map_err(|error| Self::failed(service, method, error))?;
        Ok(answer)
    }

    /// Calls a method without an answer.
    pub(crate) async fn send<A: Encode + Decode>(
        &self,
        service: &str,
        method: &str,
        argument: A,
    ) -> Result<(), WorkloadError> {
        let name = format!("oasis-core.{service}");
        let done: Result<(), RpcError> = self.client.call(&name, method, &Cbor(argument)).await;
        done.map_err(|error| Self::failed(service, method, error))
    }

    /// Watches.
    pub(crate) async fn watch<A: Encode + Decode, R: Encode + Decode + Send + 'static>(
        &self,
        service: &str,
        method: &str,
        argument: A,
    ) -> Result<BoxStream<Cbor<R>>, WorkloadError> {
        let name = format!("oasis-core.{service}");
        let stream = self.client.stream(&name, method, &Cbor(argument)).await;
        stream.map_err(|error| Self::failed(service, method, error))
    }

    pub(crate) async fn wait_sync(&self) -> Result<(), WorkloadError> {
        let (service, method) = ("NodeController", "WaitSync");
        let done: Result<(), RpcError> = self.client.call("oasis-core.NodeController", method, &()).await;
        done.map_err(|error| Self::failed(service, method, error))
    }

    pub(crate) async fn wait_epoch(&self, epoch: Epoch) -> Result<(), WorkloadError> {
        self.send("Beacon", "WaitEpoch", epoch).await
    }

    pub(crate) async fn epoch(&self, height: i64) -> Result<Epoch, WorkloadError> {
        self.ask("Beacon", "GetEpoch", height).await
    }

    pub(crate) async fn height(&self) -> Result<i64, WorkloadError> {
        self.get("Consensus", "GetLatestHeight").await
    }

    pub(crate) async fn account(&self, owner: Address, height: i64) -> Result<Account, WorkloadError> {
        self.ask("Staking", "Account", OwnerQuery { height, owner }).await
    }

    pub(crate) async fn balance(&self, owner: Address) -> Result<Quantity, WorkloadError> {
        Ok(self.account(owner, LATEST).await?.general.balance)
    }
}
