//! Calls to a node.

use std::net::ToSocketAddrs as _;
use std::time::Duration;

use base_codec::cbor::{Decode, Encode};
use base_grpc::{Address, BoxStream, Cbor, Client, ClientTls, RpcError};

use crate::tool::{Failure, OrFail as _};

/// Module of failures to connect.
const MODULE: &str = "cmd/grpc";
/// Pause between attempts to connect, with `--wait`.
const RETRY: Duration = Duration::from_millis(200);

/// How to reach the node.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ClientArgs {
    /// Remote gRPC address.
    #[arg(short = 'a', long = "address", default_value = "unix:internal.sock", global = true)]
    address: String,
    /// Wait for the gRPC address to become available.
    #[arg(long = "wait", short = 'w', global = true)]
    pub(crate) wait: bool,
    /// Allow connections without TLS to loopback addresses.
    #[arg(short = 'k', long = "insecure", global = true)]
    insecure: bool,
}

/// A connection that the command waits on.
pub(crate) struct Rpc {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

fn is_loopback(address: &str) -> bool {
    address.to_socket_addrs().is_ok_and(|mut found| found.all(|socket| socket.ip().is_loopback()))
}

impl ClientArgs {
    /// The address, and whether to speak TLS to it.
    fn parse(&self) -> Result<(Address, bool), String> {
        let mut text = self.address.clone();
        if std::fs::metadata(&text).is_ok() {
            tracing::warn!(module = MODULE, "'{text}' is a file name. Assuming 'unix:{text}'.");
            text = format!("unix:{text}");
        }
        let address: Address = text.parse().map_err(|error: base_grpc::ConnectError| error.to_string())?;
        match &address {
            Address::Unix(_) => Ok((address, false)),
            Address::Tcp(host) if self.insecure && is_loopback(host) => Ok((address, false)),
            Address::Tcp(host) if self.insecure => {
                Err(format!("insecure loopback requested but address is not loopback: {host}"))
            }
            Address::Tcp(_) => Ok((address, true)),
        }
    }

    /// Connects; a node that is not there is found out here already, with the failure that the first call would have.
    pub(crate) fn connect(&self, module: &'static str, first: &str) -> Result<Rpc, Failure> {
        self.open(module, first, self.wait)
    }

    /// Connects at once, whatever `--wait` says: commands that have a `--wait` of their own.
    pub(crate) fn connect_now(&self, module: &'static str, first: &str) -> Result<Rpc, Failure> {
        self.open(module, first, false)
    }

    /// Connects once, for commands with a runtime of their own.
    pub(crate) async fn dial(&self) -> Result<Client, String> {
        let (address, is_tls) = self.parse()?;
        let connected = if is_tls {
            Client::connect_tls(&address, ClientTls::system().map_err(|error| error.to_string())?).await
        } else {
            Client::connect(&address).await
        };
        connected.map_err(|error| error.to_string())
    }

    fn open(&self, module: &'static str, first: &str, wait: bool) -> Result<Rpc, Failure> {
        let (address, is_tls) = self.parse().or_fail(module, "failed to establish connection with node")?;
        let tls = is_tls.then(ClientTls::system).transpose();
        let tls = tls.or_fail(module, "failed to establish connection with node")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.or_fail(module, "failed to establish connection with node")?;
        let client = runtime.block_on(async {
            loop {
                let connected = match &tls {
                    Some(tls) => Client::connect_tls(&address, tls.clone()).await,
                    None => Client::connect(&address).await,
                };
                match connected {
                    Err(_) if wait => tokio::time::sleep(RETRY).await,
                    other => return other,
                }
            }
        });
        let client = client.or_fail(module, first)?;
        Ok(Rpc { runtime, client })
    }
}

impl Rpc {
    fn service(service: &str) -> String {
        format!("oasis-core.{service}")
    }

    /// Calls a method with an argument and an answer.
    pub(crate) fn call<A: Encode + Decode, R: Encode + Decode>(
        &self,
        service: &str,
        method: &str,
        argument: A,
    ) -> Result<R, RpcError> {
        let (service, argument) = (Self::service(service), Cbor(argument));
        let call = self.client.call(&service, method, &argument);
        self.runtime.block_on(call).map(|Cbor(answer): Cbor<R>| answer)
    }

    /// Calls a method without an argument.
    pub(crate) fn get<R: Encode + Decode>(&self, service: &str, method: &str) -> Result<R, RpcError> {
        let service = Self::service(service);
        let call = self.client.call(&service, method, &());
        self.runtime.block_on(call).map(|Cbor(answer): Cbor<R>| answer)
    }

    /// Calls a method without an answer.
    pub(crate) fn send<A: Encode + Decode>(&self, service: &str, method: &str, argument: A) -> Result<(), RpcError> {
        let argument = Cbor(argument);
        self.runtime.block_on(self.client.call(&Self::service(service), method, &argument))
    }

    /// Calls a method without argument and answer.
    pub(crate) fn run(&self, service: &str, method: &str) -> Result<(), RpcError> {
        self.runtime.block_on(self.client.call(&Self::service(service), method, &()))
    }

    /// The first items of a stream, until `take` has enough.
    pub(crate) fn watch<A: Encode + Decode, R: Encode + Decode + Send + 'static>(
        &self,
        service: &str,
        method: &str,
        argument: A,
        mut take: impl FnMut(R) -> bool,
    ) -> Result<(), RpcError> {
        use futures_util::StreamExt as _;
        self.runtime.block_on(async {
            let argument = Cbor(argument);
            let stream = self.client.stream(&Self::service(service), method, &argument).await;
            let mut stream: BoxStream<Cbor<R>> = stream?;
            while let Some(item) = stream.next().await {
                if take(item?.0) {
                    break;
                }
            }
            Ok(())
        })
    }
}
