//! A client of the key-value ParaTime of a local network: `simple-keyvalue` behind any node that serves clients.

use std::time::Duration;

use base_codec::{Bytes, Codec, Raw, cbor};
use base_grpc::{Argument, Cbor, Reply};
use base_prims::Namespace;
use wire_consensus::roothash::Block;
use wire_runtime::client::{
    QueryRequest, QueryResponse, ROUND_LATEST, RoundRequest, SubmitTxMetaResponse, TransactionWithResults, TxRequest,
};

use crate::DevnetError;
use crate::connection::Connection;
use crate::plan::Node;

/// How long a transaction may take into a round: one that got lost on its way is sent again after about two minutes.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(240);

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct Call {
    sender: Bytes,
    nonce: u64,
    method: String,
    args: Raw,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct Pair {
    key: String,
    value: String,
    generation: u64,
    churp_id: u8,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct Key {
    key: String,
    generation: u64,
    churp_id: u8,
}

/// The ParaTime, as one node serves it.
#[derive(Debug, Clone)]
pub struct KeyValue {
    connection: Connection,
    runtime_id: Namespace,
}

impl KeyValue {
    /// Connects to a node, for the first of its runtimes.
    ///
    /// # Errors
    /// If it has none, or its socket does not answer.
    pub async fn connect(node: &Node) -> Result<Self, DevnetError> {
        let Some(id) = node.hosts.first() else {
            return Err(DevnetError::Call { node: node.name.clone(), message: "it hosts no ParaTime".to_owned() });
        };
        Self::connect_to(node, *id).await
    }

    /// Connects to a node, for one of its runtimes.
    ///
    /// # Errors
    /// If its socket does not answer.
    pub async fn connect_to(node: &Node, runtime_id: Namespace) -> Result<Self, DevnetError> {
        Ok(Self { connection: Connection::new(node).await?, runtime_id })
    }

    async fn call<A: Argument, R: Reply>(&self, method: &str, argument: A) -> Result<R, DevnetError> {
        self.connection.call("RuntimeClient", method, argument, SUBMIT_TIMEOUT).await
    }

    /// The transaction that sets a key; `nonce` counts the sender's.
    #[must_use]
    pub fn insertion(&self, sender: &[u8], nonce: u64, key: &str, value: &str) -> Vec<u8> {
        transaction(sender, nonce, "insert", key, value)
    }

    /// As [`KeyValue::insertion`], under a key that only the ParaTime gets from its key manager.
    #[must_use]
    pub fn confidential_insertion(&self, sender: &[u8], nonce: u64, key: &str, value: &str) -> Vec<u8> {
        transaction(sender, nonce, "enc_insert", key, value)
    }

    /// Submits a transaction and waits for its round.
    ///
    /// # Errors
    /// If it is not in a round in time.
    pub async fn submit(&self, tx: Vec<u8>) -> Result<SubmitTxMetaResponse, DevnetError> {
        let request = Cbor(TxRequest { runtime_id: self.runtime_id, data: Bytes(tx) });
        self.call("SubmitTxMeta", request).await.map(|Cbor(answer)| answer)
    }

    /// What a key holds after the newest round.
    ///
    /// # Errors
    /// If the ParaTime does not answer.
    pub async fn get(&self, key: &str) -> Result<Option<String>, DevnetError> {
        self.query("get", key).await
    }

    /// What a confidential key holds after the newest round.
    ///
    /// # Errors
    /// If the ParaTime does not answer, or has no key for it.
    pub async fn confidential_get(&self, key: &str) -> Result<Option<String>, DevnetError> {
        self.query("enc_get", key).await
    }

    async fn query(&self, method: &str, key: &str) -> Result<Option<String>, DevnetError> {
        let args = Key { key: key.to_owned(), ..Key::default() };
        let request = QueryRequest {
            runtime_id: self.runtime_id,
            component: None,
            round: ROUND_LATEST,
            method: method.to_owned(),
            args: Bytes(cbor::to_vec(&args)),
        };
        let Cbor(answer): Cbor<QueryResponse> = self.call("Query", Cbor(request)).await?;
        cbor::from_slice(&answer.data).map_err(|reason| self.connection.failure(format!("Query: {reason}")))
    }

    /// The newest block whose state the node has.
    ///
    /// # Errors
    /// If there is none.
    pub async fn newest(&self) -> Result<Block, DevnetError> {
        self.block(ROUND_LATEST).await
    }

    /// A block.
    ///
    /// # Errors
    /// If it is not there.
    pub async fn block(&self, round: u64) -> Result<Block, DevnetError> {
        let request = Cbor(RoundRequest { runtime_id: self.runtime_id, round });
        self.call("GetBlock", request).await.map(|Cbor(answer)| answer)
    }

    /// The transactions of a round.
    ///
    /// # Errors
    /// If they are not there.
    pub async fn transactions(&self, round: u64) -> Result<Vec<TransactionWithResults>, DevnetError> {
        let request = Cbor(RoundRequest { runtime_id: self.runtime_id, round });
        let Cbor(answer): Cbor<Option<Vec<_>>> = self.call("GetTransactionsWithResults", request).await?;
        Ok(answer.unwrap_or_default())
    }
}

fn transaction(sender: &[u8], nonce: u64, method: &str, key: &str, value: &str) -> Vec<u8> {
    let args = Pair { key: key.to_owned(), value: value.to_owned(), ..Pair::default() };
    let call =
        Call { sender: Bytes(sender.to_vec()), nonce, method: method.to_owned(), args: Raw(cbor::to_vec(&args)) };
    cbor::to_vec(&call)
}
