//! Errors of services: what a transaction's result reports, and what stops the node.

use std::fmt;

use base_prims::quantity::QuantityError;
use mkvs_tree::TreeError;
use wire_consensus::{
    Invalid,
    errors::{ErrorCode, UNKNOWN_CODE, UNKNOWN_MODULE},
};

/// Result of anything a service does.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a service refused or could not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// An error with a code that clients know; the text says more and may be empty.
    Coded(&'static ErrorCode, String),
    /// An error without a code: reported as (`unknown`, 1).
    Uncoded(String),
    /// The state is unavailable or corrupted: nothing that was computed may be committed.
    Fatal(String),
}

impl Error {
    /// An error without a code.
    pub fn uncoded(text: impl Into<String>) -> Self {
        Self::Uncoded(text.into())
    }

    /// An error that stops the node.
    pub fn fatal(text: impl Into<String>) -> Self {
        Self::Fatal(text.into())
    }

    /// Puts `text` before the message, as in `text: message`.
    #[must_use]
    pub fn context(self, text: impl fmt::Display) -> Self {
        match self {
            Self::Coded(code, inner) if inner.is_empty() => Self::Coded(code, format!("{text}: {}", code.message)),
            Self::Coded(code, inner) => Self::Coded(code, format!("{text}: {inner}")),
            Self::Uncoded(inner) => Self::Uncoded(format!("{text}: {inner}")),
            Self::Fatal(inner) => Self::Fatal(format!("{text}: {inner}")),
        }
    }

    /// Module and code as they enter the result of a transaction.
    pub fn code(&self) -> (&'static str, u32) {
        match self {
            Self::Coded(code, _) => (code.module, code.code),
            Self::Uncoded(_) | Self::Fatal(_) => (UNKNOWN_MODULE, UNKNOWN_CODE),
        }
    }

    /// Whether the error stops the node.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Fatal(_))
    }

    /// Whether this is the given coded error.
    pub fn is(&self, code: &ErrorCode) -> bool {
        matches!(self, Self::Coded(c, _) if *c == code)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coded(code, text) if text.is_empty() => f.write_str(code.message),
            Self::Coded(_, text) | Self::Uncoded(text) | Self::Fatal(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl From<&'static ErrorCode> for Error {
    fn from(code: &'static ErrorCode) -> Self {
        Self::Coded(code, String::new())
    }
}

impl From<QuantityError> for Error {
    fn from(e: QuantityError) -> Self {
        Self::Uncoded(e.to_string())
    }
}

impl From<TreeError> for Error {
    fn from(e: TreeError) -> Self {
        Self::Fatal(format!("state unavailable: {e}"))
    }
}

impl From<Invalid> for Error {
    fn from(e: Invalid) -> Self {
        Self::Uncoded(e.0)
    }
}
