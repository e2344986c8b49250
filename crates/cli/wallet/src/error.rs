//! What a command can fail with: one line that says what, and what to do where that is not obvious.

use std::path::PathBuf;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// A file could not be used.
    #[error("could not {action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    /// The configuration file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Config { path: PathBuf, reason: String },
    /// The node can't be reached.
    #[error(
        "failed to connect to {address}: {reason}; is the node running? (`oasis network list` shows what is configured)"
    )]
    Unreachable { address: String, reason: String },
    /// The node belongs to another network.
    #[error(
        "chain context mismatch: network '{network}' is configured with {expected}, the node at {address} has {found}; \
         set it with `oasis network set-chain-context {network}` if that is what you want"
    )]
    WrongChain { network: String, expected: String, address: String, found: String },
    /// The node refused a call.
    #[error("{0}")]
    Refused(String),
    /// Anything else, said in full.
    #[error("{0}")]
    Message(String),
}

/// What commands give.
pub(crate) type Result<T> = std::result::Result<T, CliError>;

impl CliError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }

    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

impl From<String> for CliError {
    fn from(text: String) -> Self {
        Self::Message(text)
    }
}

impl From<&str> for CliError {
    fn from(text: &str) -> Self {
        Self::Message(text.to_owned())
    }
}
