//! Errors of calls: a gRPC code, a text, and the module and code that the reference's clients look at.

use base_codec::{Codec, cbor};
use prost::Message as _;
pub use tonic::Code;
use tonic::Status;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// gRPC code; errors of services have [`Code::Unknown`].
    pub code: Code,
    /// What went wrong.
    pub message: String,
    /// Module and code of the reference's error, if it has one.
    pub detail: Option<(String, u32)>,
}

/// The detail as on the wire.
#[derive(Default, Codec)]
#[codec(cbor_only)]
struct Detail {
    #[codec(omitempty)]
    module: String,
    #[codec(omitempty)]
    code: u32,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct StatusMessage {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<AnyMessage>,
}

/// `google.protobuf.Any`, without a type.
#[derive(Clone, PartialEq, prost::Message)]
struct AnyMessage {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

impl RpcError {
    /// An error of a service with its module and code.
    pub fn service(module: &str, code: u32, message: impl Into<String>) -> Self {
        Self { code: Code::Unknown, message: message.into(), detail: Some((module.to_owned(), code)) }
    }

    /// An error without module and code.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::with(Code::Unknown, message)
    }

    /// An error with a gRPC code.
    pub fn with(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None }
    }

    /// Whether it is that error of that module.
    pub fn is(&self, module: &str, code: u32) -> bool {
        self.detail.as_ref().is_some_and(|(m, c)| m == module && *c == code)
    }

    pub(crate) fn into_status(self) -> Status {
        let Some((module, code)) = self.detail else {
            return Status::new(self.code, self.message);
        };
        let detail = cbor::to_vec(&Detail { module, code });
        let status = StatusMessage {
            code: self.code as i32,
            message: self.message.clone(),
            details: vec![AnyMessage { type_url: String::new(), value: detail }],
        };
        Status::with_details(self.code, self.message, status.encode_to_vec().into())
    }

    pub(crate) fn from_status(status: &Status) -> Self {
        let detail = StatusMessage::decode(status.details()).ok().and_then(|message| {
            let first = message.details.into_iter().next()?;
            let detail: Detail = cbor::from_slice_relaxed(&first.value).ok()?;
            (!detail.module.is_empty()).then_some((detail.module, detail.code))
        });
        Self { code: status.code(), message: status.message().to_owned(), detail }
    }
}
