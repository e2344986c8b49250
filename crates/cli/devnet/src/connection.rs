//! A connection to a node of the network: how all of its services are called.

use std::time::Duration;

use base_grpc::{Argument, Client, Reply};

use crate::DevnetError;
use crate::plan::Node;

/// A connection to a node.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    name: String,
    client: Client,
}

impl Connection {
    /// Connects to a node's socket.
    pub(crate) async fn new(node: &Node) -> Result<Self, DevnetError> {
        let address = base_grpc::Address::Unix(node.socket());
        let client = Client::connect(&address)
            .await
            .map_err(|error| DevnetError::Call { node: node.name.clone(), message: error.to_string() })?;
        Ok(Self { name: node.name.clone(), client })
    }

    /// A failure of this node.
    pub(crate) fn failure(&self, message: impl Into<String>) -> DevnetError {
        DevnetError::Call { node: self.name.clone(), message: message.into() }
    }

    /// Calls a method of one of the node's services, without their common prefix, and waits that long.
    pub(crate) async fn call<A: Argument, R: Reply>(
        &self,
        service: &str,
        method: &str,
        argument: A,
        patience: Duration,
    ) -> Result<R, DevnetError> {
        let service = format!("oasis-core.{service}");
        match tokio::time::timeout(patience, self.client.call(&service, method, &argument)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failure(format!("{method}: {error}"))),
            Err(_) => Err(self.failure(format!("{method}: no answer within {} s", patience.as_secs()))),
        }
    }
}
