//! Errors of the library.

use mkvs_tree::TreeError;
use wire_runtime::{Error as WireError, error as codes, frame::FrameError};

/// Why something inside the runtime failed. What reaches the host is [`Error::to_wire`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host answered with an error, or the runtime's own code made one for the host.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// The connection to the host has ended.
    #[error("channel closed")]
    Closed,
    /// The host did not answer in time.
    #[error("the host did not answer {name} in time")]
    Timeout {
        /// The request.
        name: String,
    },
    /// The host's answer is not one to the request.
    #[error("invalid response")]
    InvalidResponse {
        /// What came.
        name: String,
    },
    /// A message could not be written.
    #[error("write failed: {0}")]
    Frame(#[from] FrameError),
    /// The state could not be read.
    #[error("state: {0}")]
    State(#[from] TreeError),
    /// A value of the state is malformed.
    #[error("malformed {what} in the state: {source}")]
    MalformedState {
        /// What it should be.
        what: &'static str,
        /// What is wrong.
        source: base_codec::cbor::Error,
    },
    /// The consensus verifier.
    #[error(transparent)]
    Verifier(#[from] crate::verifier::VerifierError),
    /// The runtime's identity.
    #[error(transparent)]
    Identity(#[from] crate::identity::IdentityError),
    /// A policy.
    #[error(transparent)]
    Policy(#[from] crate::policy::PolicyError),
    /// Calls between enclaves.
    #[error(transparent)]
    Rpc(#[from] crate::rpc::RpcError),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// An error with a text alone.
    pub fn other(text: impl ToString) -> Self {
        Self::Other(text.to_string())
    }

    /// The error as it is sent to the host, with the module and code that the reference uses for it.
    pub fn to_wire(&self) -> WireError {
        match self {
            Self::Wire(error) => error.clone(),
            Self::Verifier(error) => WireError::new(error.code(), error.to_string()),
            Self::Rpc(error) => WireError::new(error.code(), error.to_string()),
            Self::Closed | Self::Timeout { .. } | Self::InvalidResponse { .. } => {
                WireError::new(codes::PROTOCOL, self.to_string())
            }
            Self::Frame(_) => WireError::new(codes::WRITE, self.to_string()),
            _ => WireError::new(codes::UNKNOWN, self.to_string()),
        }
    }
}
