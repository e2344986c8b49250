//! Proxies of Intel's older attestation service, as the configuration names them (`ias.proxy_addresses`).
//!
//! Each is reached when an enclave is attested and not before, so one that is away keeps no node from starting. Source:
//! `go/ias/proxy/client`.

use std::sync::Arc;
use std::time::Duration;

use base_codec::Bytes;
use base_grpc::{Address, Argument, Cbor, Client, ClientTls};
use base_identity::TlsIdentity;
use base_prims::PublicKey;
use rt_host::api::BoxFuture;
use rt_host::ias::{ENDED, Endpoint, Evidence, PROXY_NAME, SERVICE, SpidInfo};
use rt_tee::VerifyOptions;
use rt_tee::ias::{AvrBundle, IasQuote};

use crate::error::HostingError;

/// How long a proxy may take, which asks Intel's service and may wait for its runtimes.
const ASK_TIMEOUT: Duration = Duration::from_secs(90);

/// A proxy.
struct Proxy {
    address: Address,
    tls: ClientTls,
    options: VerifyOptions,
}

/// The configured proxies, `PUBKEY@HOST:PORT`. They know the node by its TLS certificate.
///
/// # Errors
/// If an address is malformed; the error names it.
pub fn proxies(
    addresses: &[String],
    identity: &TlsIdentity,
    options: &VerifyOptions,
) -> Result<Vec<Arc<dyn Endpoint>>, HostingError> {
    if !addresses.is_empty() {
        tracing::warn!("ias.proxy_addresses: {ENDED}");
    }
    let parse = |text: &String| {
        let wrong = |reason: String| HostingError::Config {
            key: "ias.proxy_addresses".into(),
            reason: format!("{text:?}: {reason}"),
        };
        let (key, address) = text.split_once('@').ok_or_else(|| wrong("missing public key".into()))?;
        let key: PublicKey = key.parse().map_err(|e| wrong(format!("malformed public key: {e}")))?;
        let address = address.parse().map_err(|e: base_grpc::ConnectError| wrong(e.to_string()))?;
        let tls = ClientTls::pinned(Some(identity), vec![*key.as_bytes()], PROXY_NAME);
        let tls = tls.map_err(|e| wrong(e.to_string()))?;
        Ok(Arc::new(Proxy { address, tls, options: options.clone() }) as Arc<dyn Endpoint>)
    };
    addresses.iter().map(parse).collect()
}

impl Proxy {
    async fn ask<A: Argument, R: base_codec::cbor::Encode + base_codec::cbor::Decode>(
        &self,
        method: &str,
        argument: &A,
    ) -> Result<R, String> {
        let asking = async {
            let client = Client::connect_tls(&self.address, self.tls.clone()).await.map_err(|e| e.to_string())?;
            let answer: Cbor<R> = client.call(SERVICE, method, argument).await.map_err(|e| e.to_string())?;
            Ok(answer.0)
        };
        let answer = tokio::time::timeout(ASK_TIMEOUT, asking).await;
        answer
            .unwrap_or_else(|_| Err("no answer in time".to_owned()))
            .map_err(|reason: String| format!("ias proxy {}: {reason}; {ENDED}", self.address))
    }
}

impl Endpoint for Proxy {
    fn spid_info(&self) -> BoxFuture<'_, Result<SpidInfo, String>> {
        Box::pin(async { self.ask("GetSPIDInfo", &()).await })
    }

    fn revocations(&self, gid: u32) -> BoxFuture<'_, Result<Vec<u8>, String>> {
        Box::pin(async move {
            let list: Option<Bytes> = self.ask("GetSigRL", &Cbor(gid)).await?;
            Ok(list.map(Vec::from).unwrap_or_default())
        })
    }

    fn verify_evidence(&self, evidence: Evidence) -> BoxFuture<'_, Result<AvrBundle, String>> {
        Box::pin(async move {
            // What the network would not take is not sent.
            let quote = evidence.quote.as_ref().map_or(&[][..], |quote| quote.as_slice());
            let checked = IasQuote::parse(quote).and_then(|quote| quote.check(&self.options));
            checked.map_err(|e| format!("ias: {e}"))?;
            self.ask("VerifyEvidence", &Cbor(evidence)).await
        })
    }
}
