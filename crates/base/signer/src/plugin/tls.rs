//! TLS between a plugin and who started it: each side accepts exactly the certificate that it was told.

use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
};
use tokio::net::UnixStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// The name that both sides have.
const NAME: &str = "localhost";

/// A certificate for one run, with its key.
pub(crate) struct Certificate(CertifiedKey<KeyPair>);

impl Certificate {
    pub(crate) fn generate() -> Result<Self, String> {
        rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).map(Self).map_err(|error| error.to_string())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.cert.pem()
    }

    pub(crate) fn der(&self) -> &[u8] {
        self.0.cert.der()
    }

    fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivatePkcs8KeyDer::from(self.0.signing_key.serialize_der());
        (vec![self.0.cert.der().clone()], PrivateKeyDer::Pkcs8(key))
    }
}

/// One certificate and no other.
#[derive(Debug)]
struct Only {
    certificate: Vec<u8>,
    provider: Arc<CryptoProvider>,
}

impl Only {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if certificate.as_ref() == self.certificate {
            return Ok(());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }
}

macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.provider.signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.provider.signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(certificate).map(|()| ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for Only {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(certificate).map(|()| ClientCertVerified::assertion())
    }

    signatures!();
}

fn only(certificate: &[u8]) -> (Arc<Only>, Arc<CryptoProvider>) {
    let provider = Arc::new(aws_lc_rs::default_provider());
    (Arc::new(Only { certificate: certificate.to_vec(), provider: provider.clone() }), provider)
}

fn text(error: impl std::fmt::Display) -> String {
    format!("tls: {error}")
}

/// The connecting side.
pub(crate) async fn connect(
    own: &Certificate,
    theirs: &[u8],
    stream: UnixStream,
) -> Result<client::TlsStream<UnixStream>, String> {
    let (only, provider) = only(theirs);
    let (chain, key) = own.parts();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .dangerous()
        .with_custom_certificate_verifier(only)
        .with_client_auth_cert(chain, key)
        .map_err(text)?;
    let name = ServerName::try_from(NAME).map_err(text)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(text)
}

/// The listening side.
pub(crate) async fn accept(
    own: &Certificate,
    theirs: &[u8],
    stream: UnixStream,
) -> Result<server::TlsStream<UnixStream>, String> {
    let (only, provider) = only(theirs);
    let (chain, key) = own.parts();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .with_client_cert_verifier(only)
        .with_single_cert(chain, key)
        .map_err(text)?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    TlsAcceptor::from(Arc::new(config)).accept(stream).await.map_err(text)
}
