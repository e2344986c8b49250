//! Typed calls to a runtime, over any host. Source: `go/runtime/host/helpers.go`.

use base_codec::{Raw, cbor};
use base_prims::Epoch;
use wire_consensus::roothash::{Block, Header};
use wire_runtime::{
    Body,
    enclave_rpc::{Message, Request, ResponseBody},
    runtime::{
        CheckTxBatchRequest, CheckTxResult, ConsensusSyncRequest, ExecuteTxBatchRequest, ExecuteTxBatchResponse,
        LightBlock, LocalRpcCallRequest, QueryRequest,
    },
};

use crate::api::{HostError, RuntimeHost};

fn unexpected(request: &str, answer: &Body) -> HostError {
    HostError::UnexpectedAnswer { request: request.into(), answer: answer.name().to_owned() }
}

/// Where the chain stands, as checks and queries need it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChainPosition {
    /// Light block of the newest round.
    pub consensus_block: LightBlock,
    /// The newest runtime block.
    pub block: Block,
    /// The current epoch.
    pub epoch: Epoch,
    /// Most messages a round may emit.
    pub max_messages: u32,
}

/// Checks transactions for the pool: one result for each.
///
/// # Errors
/// If the call fails, or there are not as many results as transactions, or one that succeeded has no metadata.
pub async fn check_tx(
    host: &dyn RuntimeHost,
    at: ChainPosition,
    batch: Vec<base_codec::Bytes>,
) -> Result<Vec<CheckTxResult>, HostError> {
    let count = batch.len();
    let request = Body::RuntimeCheckTxBatchRequest(Box::new(CheckTxBatchRequest {
        consensus_block: at.consensus_block,
        inputs: Some(batch),
        block: at.block,
        epoch: at.epoch,
        max_messages: at.max_messages,
    }));
    match host.call(request).await? {
        Body::RuntimeCheckTxBatchResponse(answer) => {
            let results = answer.results.0.unwrap_or_default();
            if results.len() != count {
                return Err(HostError::MalformedAnswer(format!("{} results for {count} transactions", results.len())));
            }
            if results.iter().any(|result| result.error.is_success() && result.meta.as_option().is_none()) {
                return Err(HostError::MalformedAnswer("a checked transaction without metadata".into()));
            }
            Ok(results)
        }
        other => Err(unexpected("RuntimeCheckTxBatchRequest", &other)),
    }
}

/// Executes or schedules a round.
///
/// # Errors
/// If the call fails.
pub async fn execute(
    host: &dyn RuntimeHost,
    request: ExecuteTxBatchRequest,
) -> Result<Box<ExecuteTxBatchResponse>, HostError> {
    match host.call(Body::RuntimeExecuteTxBatchRequest(Box::new(request))).await? {
        Body::RuntimeExecuteTxBatchResponse(answer) => Ok(answer),
        other => Err(unexpected("RuntimeExecuteTxBatchRequest", &other)),
    }
}

/// Asks about the state after a round; the answer is CBOR.
///
/// # Errors
/// If the call fails.
pub async fn query(
    host: &dyn RuntimeHost,
    at: ChainPosition,
    header: Header,
    method: &str,
    args: Vec<u8>,
) -> Result<Vec<u8>, HostError> {
    let request = Body::RuntimeQueryRequest(Box::new(QueryRequest {
        consensus_block: at.consensus_block,
        header,
        epoch: at.epoch,
        max_messages: at.max_messages,
        method: method.into(),
        args: args.into(),
    }));
    match host.call(request).await? {
        Body::RuntimeQueryResponse(answer) => Ok(answer.data.to_vec()),
        other => Err(unexpected("RuntimeQueryRequest", &other)),
    }
}

/// A call to a local method of the runtime; arguments and answer are CBOR.
///
/// # Errors
/// If the call fails or the method does.
pub async fn local_rpc(host: &dyn RuntimeHost, method: &str, args: Raw) -> Result<Raw, HostError> {
    let request = cbor::to_vec(&Request { method: method.into(), args });
    let request = LocalRpcCallRequest { request: Some(request.into()) };
    let answer = match host.call(Body::RuntimeLocalRPCCallRequest(request)).await? {
        Body::RuntimeLocalRPCCallResponse(answer) => answer.response.unwrap_or_default(),
        other => return Err(unexpected("RuntimeLocalRPCCallRequest", &other)),
    };
    let message: Message = cbor::from_slice(&answer)
        .map_err(|e| HostError::MalformedAnswer(format!("malformed message envelope: {e}")))?;
    match message {
        Message::Response(response) => match response.body {
            ResponseBody::Success(value) => Ok(value),
            ResponseBody::Error(text) => Err(HostError::MalformedAnswer(format!("rpc failure: '{text}'"))),
        },
        _ => Err(HostError::MalformedAnswer("message is not a response".into())),
    }
}

/// Tells the runtime to verify consensus up to a height.
///
/// # Errors
/// If the call fails.
pub async fn consensus_sync(host: &dyn RuntimeHost, height: u64) -> Result<(), HostError> {
    match host.call(Body::RuntimeConsensusSyncRequest(ConsensusSyncRequest { height })).await? {
        Body::RuntimeConsensusSyncResponse(_) => Ok(()),
        other => Err(unexpected("RuntimeConsensusSyncRequest", &other)),
    }
}
