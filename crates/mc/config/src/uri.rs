//! Addresses of services, as command lines and network files give them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use mc_crypto::ed25519;
use url::Url;
use wire_mobilecoin::Ed25519Key;

/// Why a text is no address. Names as in the reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not an address at all.
    #[error("not an address: {0}")]
    UrlParse(String),
    /// No host.
    #[error("missing host")]
    MissingHost,
    /// A scheme of another service, or unknown.
    #[error("unknown scheme: {0}")]
    UnknownScheme(String),
    /// A responder id without a colon.
    #[error("invalid responder id: {0}")]
    ResponderId(String),
    /// A message key that is none.
    #[error("invalid message key")]
    MessageKey,
}

/// Whose address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `mc`, `insecure-mc`.
    Client,
    /// `mcp`, `insecure-mcp`.
    Peer,
    /// `mca`, `insecure-mca`.
    Admin,
}

impl Family {
    /// Schemes and ports with and without TLS.
    fn schemes(self) -> [(&'static str, u16, bool); 2] {
        match self {
            Self::Client => [("mc", 443, true), ("insecure-mc", 3223, false)],
            Self::Peer => [("mcp", 8443, true), ("insecure-mcp", 8080, false)],
            Self::Admin => [("mca", 9443, true), ("insecure-mca", 9090, false)],
        }
    }
}

/// An address of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    url: Url,
    host: String,
    port: u16,
    tls: bool,
}

impl Uri {
    /// Reads an address of a family.
    ///
    /// # Errors
    /// If it is none, or of another family.
    pub fn parse(family: Family, text: &str) -> Result<Self, Error> {
        let mut url = match Url::parse(text) {
            Ok(url) => url,
            Err(url::ParseError::EmptyHost) => return Err(Error::MissingHost),
            Err(error) => return Err(Error::UrlParse(error.to_string())),
        };
        let scheme = url.scheme().to_owned();
        let (_, default_port, tls) =
            family.schemes().into_iter().find(|(name, ..)| *name == scheme).ok_or(Error::UnknownScheme(scheme))?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(Error::MissingHost)?.to_owned();
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        let port = url.port().unwrap_or(default_port);
        Ok(Self { url, host, port, tls })
    }

    fn parameter(&self, name: &str) -> Option<String> {
        self.url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.parameter(name).map(|value| value == "1" || value.eq_ignore_ascii_case("true"))
    }

    /// The host, IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, given or the scheme's.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port.
    pub fn addr(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Whether it is reached over TLS.
    pub fn uses_tls(&self) -> bool {
        self.tls
    }

    /// The whole address, with a slash at the end of the path.
    pub fn normalized(&self) -> &str {
        self.url.as_str()
    }

    /// The user, or empty.
    pub fn username(&self) -> &str {
        self.url.username()
    }

    /// The password, or empty.
    pub fn password(&self) -> &str {
        self.url.password().unwrap_or_default()
    }

    /// The name to expect in a certificate, if it is not the host's.
    pub fn tls_hostname(&self) -> Option<String> {
        self.parameter("tls-hostname")
    }

    /// Path of the server's certificates.
    pub fn tls_chain(&self) -> Option<String> {
        self.parameter("tls-chain")
    }

    /// Path of the server's key.
    pub fn tls_key(&self) -> Option<String> {
        self.parameter("tls-key")
    }

    /// Path of the certificates that a client trusts.
    pub fn ca_bundle(&self) -> Option<String> {
        self.parameter("ca-bundle")
    }

    /// The responder id: given, or host and port.
    pub fn responder_id(&self) -> String {
        self.parameter("responder-id").unwrap_or_else(|| self.addr())
    }

    /// The responder id, if it is one.
    pub fn responder_id_checked(&self) -> Option<String> {
        Some(self.responder_id()).filter(|id| id.contains(':'))
    }

    /// The key that signs the peer's messages: 64 hex digits, or DER in base 64.
    pub fn message_key(&self) -> Option<Ed25519Key> {
        let text = self.parameter("consensus-msg-key")?;
        if let Ok(bytes) = hex::decode(&text) {
            return Ed25519Key::try_from(bytes.as_slice()).ok();
        }
        let der = URL_SAFE.decode(&text).or_else(|_| STANDARD.decode(&text)).ok()?;
        ed25519::public_from_der(&der).ok()
    }

    /// Whether messages are sent to the peer; they are unless it says otherwise.
    pub fn broadcasts_consensus_msgs(&self) -> bool {
        self.flag("broadcast-consensus-msgs").unwrap_or(true)
    }

    /// Whether transactions that come from the peer are passed on.
    pub fn relays_incoming_txs(&self) -> bool {
        self.flag("consensus-relay-incoming-txs").unwrap_or(false)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/", self.url.scheme(), self.addr())
    }
}
