//! TLS with certificates of the network's template: keys are pinned, there are no authorities.
//!
//! Reference: `go/common/grpc/credentials.go`, `go/common/grpc/grpc.go`, `go/common/crypto/tls`.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base_identity::{COMMON_NAME, TlsIdentity, verify_tls_peer_named};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};

/// What HTTP/2 is called in the handshake.
const ALPN: &[u8] = b"h2";
/// Where systems keep the certificates of public authorities, as `crypto/x509` of the reference's language looks.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS can't be set up.
#[derive(Debug, thiserror::Error)]
#[error("tls: {0}")]
pub struct TlsSetupError(String);

impl TlsSetupError {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// What a server shows and asks of its clients. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ServerTls(pub(crate) Arc<ServerConfig>);

/// What a client shows and asks of its server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ClientTls(pub(crate) Arc<ClientConfig>);

fn now_unix() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn own(identity: &TlsIdentity) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from(identity.certificate_der().to_vec());
    let key = PrivatePkcs8KeyDer::from(identity.key_pkcs8_der().to_vec());
    (vec![certificate], PrivateKeyDer::Pkcs8(key))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// What the network's template says about a certificate.
#[derive(Debug)]
struct Template {
    /// The only keys that are accepted; without, any is, and the services look at it.
    pinned: Option<Vec<[u8; 32]>>,
    common_name: &'static str,
    provider: Arc<CryptoProvider>,
}

impl Template {
    fn check(&self, certificate: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !intermediates.is_empty() {
            return Err(Error::General(format!("expecting a single certificate, got {}", intermediates.len() + 1)));
        }
        let key = verify_tls_peer_named(certificate, None, self.common_name, now_unix())
            .map_err(|error| Error::General(error.to_string()))?;
        match &self.pinned {
            Some(pinned) if !pinned.contains(&key) => {
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            _ => Ok(()),
        }
    }

    fn tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }
}

impl ServerCertVerifier for Template {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(certificate, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Template {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(certificate, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ServerTls {
    /// Shows the identity's certificate and asks clients for theirs. A client without one is let in; one with a
    /// certificate that is not as the template says, common name included, is not. Whose key may call what is the
    /// services' to say: see [`crate::Caller::tls_key`].
    ///
    /// # Errors
    /// If the identity can't be used.
    pub fn new(identity: &TlsIdentity, client_common_name: &'static str) -> Result<Self, TlsSetupError> {
        let provider = crate::sni::provider();
        let clients = Template { pinned: None, common_name: client_common_name, provider: provider.clone() };
        let (chain, key) = own(identity);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsSetupError::of)?
            .with_client_cert_verifier(Arc::new(clients))
            .with_single_cert(chain, key)
            .map_err(TlsSetupError::of)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed connection would not show its certificate again.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(Arc::new(config)))
    }
}

impl ClientTls {
    /// Wants a server with one of these keys and a certificate as the template says; shows a certificate if there is one.
    ///
    /// # Errors
    /// If the identity can't be used.
    pub fn pinned(
        identity: Option<&TlsIdentity>,
        server_keys: Vec<[u8; 32]>,
        server_common_name: &'static str,
    ) -> Result<Self, TlsSetupError> {
        let provider = provider();
        let servers =
            Template { pinned: Some(server_keys), common_name: server_common_name, provider: provider.clone() };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsSetupError::of)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(servers));
        let mut config = match identity {
            Some(identity) => {
                let (chain, key) = own(identity);
                builder.with_client_auth_cert(chain, key).map_err(TlsSetupError::of)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Wants the node with one of these keys.
    ///
    /// # Errors
    /// If the identity can't be used.
    pub fn node(identity: Option<&TlsIdentity>, server_keys: Vec<[u8; 32]>) -> Result<Self, TlsSetupError> {
        Self::pinned(identity, server_keys, COMMON_NAME)
    }

    /// Wants a certificate of a public authority that this system trusts.
    ///
    /// # Errors
    /// If the system has no authorities.
    pub fn system() -> Result<Self, TlsSetupError> {
        let files = std::env::var("SSL_CERT_FILE").into_iter().chain(SYSTEM_ROOTS.map(str::to_owned));
        let Some(file) = files.into_iter().find(|file| Path::new(file).is_file()) else {
            return Err(TlsSetupError("this system has no certificates of public authorities (SSL_CERT_FILE)".into()));
        };
        Self::with_roots(Path::new(&file))
    }

    /// Wants a certificate of an authority in that file (PEM).
    ///
    /// # Errors
    /// If the file has no certificates.
    pub fn with_roots(file: &Path) -> Result<Self, TlsSetupError> {
        let wrong = |error: &dyn std::fmt::Display| TlsSetupError(format!("{}: {error}", file.display()));
        let text = std::fs::read(file).map_err(|error| wrong(&error))?;
        let mut roots = RootCertStore::empty();
        let found = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
        // Systems have certificates that can't be used, which is no reason to do without the others.
        roots.add_parsable_certificates(found);
        let provider = provider();
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| wrong(&error))?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsSetupError::of)?
            .with_webpki_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

#[cfg(test)]
mod tests;
