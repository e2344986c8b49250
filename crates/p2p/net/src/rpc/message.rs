//! The messages of remote calls.

use base_codec::cbor::{Decode, Decoder};
use base_codec::{Codec, Raw, cbor};

/// Module of errors of the calls themselves.
pub const MODULE: &str = "p2p/rpc";

/// A request. CBOR: `{method, body}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Request {
    /// Name of the method.
    pub method: String,
    /// Its argument, any CBOR.
    pub body: Raw,
}

/// A response. CBOR: `{ok}` or `{error}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Response {
    /// The result, any CBOR; `null` of methods without one.
    #[codec(omitempty)]
    pub ok: Raw,
    /// The error, if it failed.
    #[codec(omitempty)]
    pub error: Option<RpcError>,
}

/// An error that travels. CBOR: `{module, code, message}`, each left out if empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec, thiserror::Error)]
#[codec(cbor_only)]
#[error("{message} (module {module:?}, code {code})")]
pub struct RpcError {
    /// The module that defines the code; `unknown` if none does.
    #[codec(omitempty)]
    pub module: String,
    /// The code within the module.
    #[codec(omitempty)]
    pub code: u32,
    /// Text for people.
    #[codec(omitempty)]
    pub message: String,
}

/// Reads the content of a frame: unknown fields are passed over, nothing may follow.
pub(crate) fn read<T: Decode>(bytes: &[u8]) -> Result<T, cbor::Error> {
    let mut decoder = Decoder::relaxed(bytes)?;
    let value = T::decode(&mut decoder)?;
    decoder.finish()?;
    Ok(value)
}

impl RpcError {
    /// An error of a module.
    #[must_use]
    pub fn new(module: &str, code: u32, message: &str) -> Self {
        Self { module: module.into(), code, message: message.into() }
    }

    /// The protocol has no such method.
    #[must_use]
    pub fn unsupported_method() -> Self {
        Self::new(MODULE, 1, "rpc: method not supported")
    }

    /// The argument is malformed.
    #[must_use]
    pub fn bad_request() -> Self {
        Self::new(MODULE, 2, "rpc: bad request")
    }

    /// An error that no module defines.
    #[must_use]
    pub fn unknown(message: &str) -> Self {
        Self::new("unknown", 1, message)
    }

    /// Whether it is that module's error of that code.
    #[must_use]
    pub fn is(&self, module: &str, code: u32) -> bool {
        self.module == module && self.code == code
    }
}

impl Request {
    /// The content of its frame.
    #[must_use]
    pub fn encode(method: &str, body: Raw) -> Vec<u8> {
        cbor::to_vec(&Self { method: method.to_owned(), body })
    }
}
