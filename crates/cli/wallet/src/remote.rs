//! The node that is asked: connection, check of its network, calls.

use std::net::ToSocketAddrs as _;
use std::time::Duration;

use base_codec::Codec;
use base_codec::cbor;
use base_grpc::{Argument, Cbor, Client, ClientTls, Reply};
use base_prims::Address;

use crate::config::Network;
use crate::error::{CliError, Result};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long one call may take; a transaction waits for its block.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Argument of queries about an account.
#[derive(Debug, Clone, PartialEq, Eq, Default, Codec)]
pub(crate) struct OwnerQuery {
    pub(crate) height: i64,
    pub(crate) owner: Address,
}

/// A connection to a node of the configured network. Calls block.
#[derive(Debug)]
pub(crate) struct Remote {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Remote {
    /// Connects, and makes sure that the node belongs to the network that is meant.
    pub(crate) fn connect(name: &str, network: &Network) -> Result<Self> {
        let remote = Self::open(&network.rpc)?;
        let found: String = remote.call("Consensus", "GetChainContext", &())?;
        if found == network.chain_context {
            return Ok(remote);
        }
        Err(CliError::WrongChain {
            network: name.to_owned(),
            expected: network.chain_context.clone(),
            address: network.rpc.clone(),
            found,
        })
    }

    /// Connects to any node: one elsewhere over TLS, and it must have a certificate of an authority that this system
    /// trusts.
    pub(crate) fn open(rpc: &str) -> Result<Self> {
        let tls = if is_elsewhere(rpc) {
            let unreachable = |reason: String| CliError::Unreachable { address: rpc.to_owned(), reason };
            Some(ClientTls::system().map_err(|error| unreachable(error.to_string()))?)
        } else {
            None
        };
        Self::open_with(rpc, tls)
    }

    fn open_with(rpc: &str, tls: Option<ClientTls>) -> Result<Self> {
        let unreachable = |reason: String| CliError::Unreachable { address: rpc.to_owned(), reason };
        let address = rpc.strip_prefix("dns:").unwrap_or(rpc);
        let address = address.parse().map_err(|error: base_grpc::ConnectError| unreachable(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| unreachable(error.to_string()))?;
        let connecting = async {
            let connecting = async {
                match tls {
                    Some(tls) => Client::connect_tls(&address, tls).await,
                    None => Client::connect(&address).await,
                }
            };
            tokio::time::timeout(CONNECT_TIMEOUT, connecting).await
        };
        let client = match runtime.block_on(connecting) {
            Ok(connected) => connected.map_err(|error| match error {
                base_grpc::ConnectError::Unreachable { reason, .. } => unreachable(reason),
                error => unreachable(error.to_string()),
            })?,
            Err(_) => return Err(unreachable(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
        };
        Ok(Self { runtime, client })
    }

    /// Calls a method that answers with one value.
    pub(crate) fn call<A: Argument, R: cbor::Encode + cbor::Decode>(
        &self,
        service: &str,
        method: &str,
        argument: &A,
    ) -> Result<R> {
        self.call_within(CALL_TIMEOUT, service, method, argument)
    }

    /// As [`Self::call`], with a time limit of its own.
    pub(crate) fn call_within<A: Argument, R: cbor::Encode + cbor::Decode>(
        &self,
        limit: Duration,
        service: &str,
        method: &str,
        argument: &A,
    ) -> Result<R> {
        self.ask::<A, Cbor<R>>(limit, service, method, argument).map(|Cbor(answer)| answer)
    }

    /// Calls a method that answers with nothing.
    pub(crate) fn submit<A: Argument>(&self, service: &str, method: &str, argument: &A) -> Result<()> {
        self.ask(CALL_TIMEOUT, service, method, argument)
    }

    fn ask<A: Argument, R: Reply>(&self, limit: Duration, service: &str, method: &str, argument: &A) -> Result<R> {
        let service = format!("oasis-core.{service}");
        let call = async { tokio::time::timeout(limit, self.client.call(&service, method, argument)).await };
        match self.runtime.block_on(call) {
            Ok(answer) => answer.map_err(|error| CliError::Refused(error.to_string())),
            Err(_) => Err(CliError::new(format!("{method}: no answer within {} s", limit.as_secs()))),
        }
    }

    /// A height as given, or the newest.
    pub(crate) fn height(&self, height: i64) -> Result<i64> {
        if height == 0 { self.call("Consensus", "GetLatestHeight", &()) } else { Ok(height) }
    }
}

/// Whether an address is on another machine; sockets, loopback addresses and names of them are not.
fn is_elsewhere(rpc: &str) -> bool {
    if rpc.starts_with("unix:") {
        return false;
    }
    let address = rpc.strip_prefix("dns:").unwrap_or(rpc);
    !address.to_socket_addrs().is_ok_and(|mut found| found.next().is_some_and(|socket| socket.ip().is_loopback()))
}

#[cfg(test)]
mod tests;
