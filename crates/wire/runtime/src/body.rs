//! The envelope of the host protocol, and the table of all messages.

use base_codec::{
    Codec,
    cbor::{self, Decode, Decoder, Encode, Encoder, Kind},
    int_type,
};

use crate::{Error, host, runtime};

int_type! { int
    /// Whether a message asks or answers. Source: `go/runtime/host/protocol/types.go`.
    pub struct MessageType: u8 {
        /// Asks.
        REQUEST = 1 => "request",
        /// Answers the request of the same id that went the other way.
        RESPONSE = 2 => "response",
    }
}

/// A message. CBOR: `{id, message_type, body}`.
///
/// Ids are chosen by whoever asks, counting from 0 in each direction.
#[derive(Clone, Debug, Default, PartialEq, Codec)]
#[codec(cbor_only)]
pub struct Message {
    /// Pairs requests and responses.
    pub id: u64,
    /// Whether it asks or answers. Other values are ignored by receivers.
    pub message_type: MessageType,
    /// What it says.
    pub body: Body,
}

impl Message {
    /// A request.
    pub fn request(id: u64, body: Body) -> Self {
        Self { id, message_type: MessageType::REQUEST, body }
    }

    /// The answer to the request of that id.
    pub fn response(id: u64, body: Body) -> Self {
        Self { id, message_type: MessageType::RESPONSE, body }
    }
}

/// Most characters kept of an unknown message's name.
const MAX_NAME_CHARS: usize = 64;

/// An empty message. CBOR: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
pub struct Empty {}

/// Declares [`Body`]: variant, payload, and for requests the answer.
macro_rules! bodies {
    ($($(#[$meta:meta])* $name:ident($payload:ty) $(=> $answer:ident)?,)*) => {
        /// What a message says. CBOR: a map of one pair, the message's name and its fields.
        ///
        /// A request is answered by the message of the same name, by [`Body::Empty`] in a few cases, or by
        /// [`Body::Error`].
        #[derive(Clone, Debug, PartialEq)]
        pub enum Body {
            /// No message that this version knows, with its name cut to 64 characters; empty if there was none.
            Unknown(String),
            $($(#[$meta])* $name($payload),)*
        }

        const NAMES: &[&str] = &[$(stringify!($name)),*];

        impl Body {
            /// Names of all messages of this version.
            pub fn names() -> &'static [&'static str] {
                NAMES
            }

            /// The message's name.
            pub fn name(&self) -> &str {
                match self {
                    Self::Unknown(name) => name,
                    $(Self::$name(_) => stringify!($name),)*
                }
            }

            /// For a request, the name of the message that answers it.
            pub fn answer_name(&self) -> Option<&'static str> {
                match self {
                    $($(Self::$name(_) => Some(stringify!($answer)),)?)*
                    _ => None,
                }
            }

            fn decode_named(index: usize, d: &mut Decoder<'_>) -> Result<Self, cbor::Error> {
                let name = NAMES.get(index).copied().unwrap_or_default();
                match name {
                    $(stringify!($name) => Decode::decode(d).map(Self::$name),)*
                    _ => Ok(Self::default()),
                }
            }
        }

        impl Encode for Body {
            fn encode(&self, e: &mut Encoder) {
                match self {
                    Self::Unknown(name) if name.is_empty() => e.map(0),
                    Self::Unknown(name) => {
                        e.map(1);
                        e.text(name);
                        e.map(0);
                    }
                    $(Self::$name(payload) => {
                        e.map(1);
                        e.text(stringify!($name));
                        payload.encode(e);
                    })*
                }
            }
        }
    };
}

bodies! {
    /// An answer that says nothing.
    Empty(Empty),
    /// The request failed.
    Error(Error),

    // Host to runtime.
    /// The handshake: must be the first request.
    RuntimeInfoRequest(runtime::InfoRequest) => RuntimeInfoResponse,
    /// What the runtime is.
    RuntimeInfoResponse(runtime::InfoResponse),
    /// Sign of life.
    RuntimePingRequest(Empty) => Empty,
    /// Asks to end; current runtimes do not support it.
    RuntimeShutdownRequest(Empty) => Empty,
    /// Asks to give up what is being processed.
    RuntimeAbortRequest(Empty) => RuntimeAbortResponse,
    /// Done.
    RuntimeAbortResponse(Empty),
    /// Target info of the quoting enclave.
    RuntimeCapabilityTEERakInitRequest(runtime::RakInitRequest) => RuntimeCapabilityTEERakInitResponse,
    /// Done.
    RuntimeCapabilityTEERakInitResponse(Empty),
    /// Asks for a report that binds the attestation key.
    RuntimeCapabilityTEERakReportRequest(Empty) => RuntimeCapabilityTEERakReportResponse,
    /// The report.
    RuntimeCapabilityTEERakReportResponse(Box<runtime::RakReportResponse>),
    /// Evidence of the older attestation service.
    RuntimeCapabilityTEERakAvrRequest(Box<runtime::RakAvrRequest>) => RuntimeCapabilityTEERakAvrResponse,
    /// Done.
    RuntimeCapabilityTEERakAvrResponse(Empty),
    /// The quote of the report, with collateral.
    RuntimeCapabilityTEERakQuoteRequest(Box<runtime::RakQuoteRequest>) => RuntimeCapabilityTEERakQuoteResponse,
    /// The enclave's signature over its attestation.
    RuntimeCapabilityTEERakQuoteResponse(runtime::RakQuoteResponse),
    /// The node's endorsement of the enclave's capability.
    RuntimeCapabilityTEEUpdateEndorsementRequest(Box<runtime::UpdateEndorsementRequest>)
        => RuntimeCapabilityTEEUpdateEndorsementResponse,
    /// Done.
    RuntimeCapabilityTEEUpdateEndorsementResponse(Empty),
    /// A call from another enclave.
    RuntimeRPCCallRequest(runtime::RpcCallRequest) => RuntimeRPCCallResponse,
    /// Its answer.
    RuntimeRPCCallResponse(runtime::RpcCallResponse),
    /// A call from the host itself.
    RuntimeLocalRPCCallRequest(runtime::LocalRpcCallRequest) => RuntimeLocalRPCCallResponse,
    /// Its answer.
    RuntimeLocalRPCCallResponse(runtime::LocalRpcCallResponse),
    /// Transactions to check for the pool.
    RuntimeCheckTxBatchRequest(Box<runtime::CheckTxBatchRequest>) => RuntimeCheckTxBatchResponse,
    /// One result for each.
    RuntimeCheckTxBatchResponse(runtime::CheckTxBatchResponse),
    /// A round to execute or schedule.
    RuntimeExecuteTxBatchRequest(Box<runtime::ExecuteTxBatchRequest>) => RuntimeExecuteTxBatchResponse,
    /// What it led to.
    RuntimeExecuteTxBatchResponse(Box<runtime::ExecuteTxBatchResponse>),
    /// The key manager's status changed.
    RuntimeKeyManagerStatusUpdateRequest(Box<runtime::KeyManagerStatusUpdateRequest>)
        => RuntimeKeyManagerStatusUpdateResponse,
    /// Done.
    RuntimeKeyManagerStatusUpdateResponse(Empty),
    /// The key manager's quote policy changed.
    RuntimeKeyManagerQuotePolicyUpdateRequest(Box<runtime::KeyManagerQuotePolicyUpdateRequest>)
        => RuntimeKeyManagerQuotePolicyUpdateResponse,
    /// Done.
    RuntimeKeyManagerQuotePolicyUpdateResponse(Empty),
    /// A question about the runtime's state.
    RuntimeQueryRequest(Box<runtime::QueryRequest>) => RuntimeQueryResponse,
    /// Its answer.
    RuntimeQueryResponse(runtime::QueryResponse),
    /// The consensus layer has a new height.
    RuntimeConsensusSyncRequest(runtime::ConsensusSyncRequest) => RuntimeConsensusSyncResponse,
    /// The runtime verified up to it.
    RuntimeConsensusSyncResponse(Empty),
    /// Something an off-chain component asked to be told of.
    RuntimeNotifyRequest(Box<runtime::NotifyRequest>) => RuntimeNotifyResponse,
    /// Done; runtimes answer [`Body::Empty`] instead.
    RuntimeNotifyResponse(Empty),

    // Runtime to host.
    /// A call to an enclave elsewhere.
    HostRPCCallRequest(Box<host::RpcCallRequest>) => HostRPCCallResponse,
    /// Its answer.
    HostRPCCallResponse(host::RpcCallResponse),
    /// How good the peer of an earlier call was.
    HostSubmitPeerFeedbackRequest(host::SubmitPeerFeedbackRequest) => HostSubmitPeerFeedbackResponse,
    /// Done.
    HostSubmitPeerFeedbackResponse(Empty),
    /// A part of a state tree.
    HostStorageSyncRequest(Box<host::StorageSyncRequest>) => HostStorageSyncResponse,
    /// The proof.
    HostStorageSyncResponse(host::StorageSyncResponse),
    /// A value of the node's own storage.
    HostLocalStorageGetRequest(host::LocalStorageGetRequest) => HostLocalStorageGetResponse,
    /// The value.
    HostLocalStorageGetResponse(host::LocalStorageGetResponse),
    /// Sets a value of the node's own storage.
    HostLocalStorageSetRequest(host::LocalStorageSetRequest) => HostLocalStorageSetResponse,
    /// Done.
    HostLocalStorageSetResponse(Empty),
    /// A light block.
    HostFetchConsensusBlockRequest(host::HeightRequest) => HostFetchConsensusBlockResponse,
    /// The light block.
    HostFetchConsensusBlockResponse(host::FetchConsensusBlockResponse),
    /// A validator set.
    HostFetchConsensusValidatorsRequest(host::HeightRequest) => HostFetchConsensusValidatorsResponse,
    /// The validator set.
    HostFetchConsensusValidatorsResponse(host::FetchConsensusValidatorsResponse),
    /// Events of a height.
    HostFetchConsensusEventsRequest(host::FetchConsensusEventsRequest) => HostFetchConsensusEventsResponse,
    /// The events.
    HostFetchConsensusEventsResponse(host::FetchConsensusEventsResponse),
    /// Height of the genesis block.
    HostFetchGenesisHeightRequest(Empty) => HostFetchGenesisHeightResponse,
    /// The height.
    HostFetchGenesisHeightResponse(host::HeightRequest),
    /// More transactions for the batch being scheduled.
    HostFetchTxBatchRequest(host::FetchTxBatchRequest) => HostFetchTxBatchResponse,
    /// The transactions.
    HostFetchTxBatchResponse(host::FetchTxBatchResponse),
    /// A block's metadata transaction.
    HostFetchBlockMetadataTxRequest(host::HeightRequest) => HostFetchBlockMetadataTxResponse,
    /// The transaction with its proof.
    HostFetchBlockMetadataTxResponse(Box<host::ProvenTransaction>),
    /// Puts a blob into a transaction, as proof of freshness.
    HostProveFreshnessRequest(host::ProveFreshnessRequest) => HostProveFreshnessResponse,
    /// The transaction with its proof.
    HostProveFreshnessResponse(Box<host::ProvenTransaction>),
    /// Who the node is.
    HostIdentityRequest(Empty) => HostIdentityResponse,
    /// The node.
    HostIdentityResponse(host::IdentityResponse),
    /// A transaction for a runtime.
    HostSubmitTxRequest(host::SubmitTxRequest) => HostSubmitTxResponse,
    /// What became of it.
    HostSubmitTxResponse(Box<host::SubmitTxResponse>),
    /// Asks for notifications; replaced by [`crate::rofl::METHOD_GET_CONFIG`].
    HostRegisterNotifyRequest(host::RegisterNotifyRequest) => HostRegisterNotifyResponse,
    /// Done.
    HostRegisterNotifyResponse(Empty),
}

impl Body {
    /// Whether the message is a request.
    pub fn is_request(&self) -> bool {
        self.answer_name().is_some()
    }

    /// Whether the message may answer the request.
    pub fn answers(&self, request: &Self) -> bool {
        let Some(answer) = request.answer_name() else {
            return false;
        };
        matches!(self, Self::Error(_))
            || self.name() == answer
            || (matches!(self, Self::Empty(_)) && answer == "RuntimeNotifyResponse")
    }

    /// The error, for an answer that is one.
    ///
    /// # Errors
    /// The error.
    pub fn into_result(self) -> Result<Self, Error> {
        match self {
            Self::Error(error) => Err(error),
            other => Ok(other),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::Unknown(String::new())
    }
}

impl From<Result<Self, Error>> for Body {
    fn from(result: Result<Self, Error>) -> Self {
        result.unwrap_or_else(Self::Error)
    }
}

impl Decode for Body {
    /// Two messages in one body are refused; the reference would take one of them. `null` for a message is none.
    fn decode(d: &mut Decoder<'_>) -> Result<Self, cbor::Error> {
        let start = d.clone();
        let mut found = None;
        cbor::decode_map_struct(d, NAMES, |index, d| {
            if d.take_null() {
                return Ok(());
            }
            if found.is_some() {
                return Err(cbor::Error::invalid(d.offset(), "more than one message in a body"));
            }
            found = Some(Self::decode_named(index, d)?);
            Ok(())
        })?;
        found.map_or_else(|| first_name(start).map(Self::Unknown), Ok)
    }
}

/// The first key of the map that comes next, if it is text.
fn first_name(mut d: Decoder<'_>) -> Result<String, cbor::Error> {
    if d.is_null() || d.map()? == 0 || d.kind()? != Kind::Text {
        return Ok(String::new());
    }
    Ok(d.text()?.chars().take(MAX_NAME_CHARS).collect())
}
