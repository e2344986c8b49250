//! Errors as they travel between host and runtime, and the codes that both sides know.

use std::fmt;

use base_codec::Codec;

/// An error in place of an answer. CBOR: `{module?, code?, message?}`; code 0 is no error.
///
/// Source: `go/runtime/host/protocol/types.go`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct Error {
    /// Who defines the code.
    #[codec(omitempty)]
    pub module: String,
    /// The code within the module; 0 is no error.
    #[codec(omitempty)]
    pub code: u32,
    /// For people.
    #[codec(omitempty)]
    pub message: String,
}

impl Error {
    /// The error of that code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { module: code.module.into(), code: code.code, message: message.into() }
    }

    /// The answer to a request that is not known or not for the receiver.
    pub fn method_not_supported() -> Self {
        Self::new(UNKNOWN, "method not supported")
    }

    /// Whether there is no error.
    pub fn is_success(&self) -> bool {
        self.code == 0
    }

    /// Whether the error has that code.
    pub fn is(&self, code: Code) -> bool {
        self.module == code.module && self.code == code.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "runtime error: module: {} code: {} message: {}", self.module, self.code, self.message)
    }
}

impl std::error::Error for Error {}

/// A module's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code {
    /// The module.
    pub module: &'static str,
    /// The code.
    pub code: u32,
}

const fn code(module: &'static str, code: u32) -> Code {
    Code { module, code }
}

/// Anything without a code of its own.
pub const UNKNOWN: Code = code("unknown", 1);
/// The connection is not initialized.
pub const NOT_READY: Code = code("rhp/internal", 1);
/// The runtime's dispatcher refuses a request.
pub const DISPATCHER: Code = code("rhp/dispatcher", 1);
/// The runtime's dispatcher has no method for a request.
pub const UNSUPPORTED_REQUEST: Code = code("dispatcher", 1);
/// The runtime could not write its answer, which e.g. was too large.
pub const WRITE: Code = code("rhp/write", 1);
/// Any error of the runtime's side of the protocol.
pub const PROTOCOL: Code = code("protocol", 1);
/// The verifier could not be built.
pub const VERIFIER_BUILDER: Code = code("verifier", 1);
/// A light block did not verify.
pub const VERIFIER_VERIFICATION_FAILED: Code = code("verifier", 2);
/// The stored trusted state could not be loaded.
pub const VERIFIER_TRUSTED_STATE: Code = code("verifier", 3);
/// The chain context changed and the transition failed.
pub const VERIFIER_CHAIN_CONTEXT: Code = code("verifier", 4);
/// Freshness was not proven.
pub const VERIFIER_FRESHNESS: Code = code("verifier", 5);
/// A transaction's inclusion was not proven.
pub const VERIFIER_TRANSACTION: Code = code("verifier", 6);
/// No state root could be verified.
pub const VERIFIER_STATE_ROOT: Code = code("verifier", 7);
/// An internal error of the verifier.
pub const VERIFIER_INTERNAL: Code = code("verifier", 8);
/// A frame of an enclave call is malformed.
pub const DEMUX_MALFORMED_PAYLOAD: Code = code("demux", 1);
/// The plain copy of the method differs from the method.
pub const DEMUX_MALFORMED_METHOD: Code = code("demux", 2);
/// The table of sessions refused a session.
pub const DEMUX_SESSIONS: Code = code("demux", 3);
/// Any other error of the session layer.
pub const DEMUX_OTHER: Code = code("demux", 4);
