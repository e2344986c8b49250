//! Attestation of the older kind (EPID): a quote of the daemon, and a report about it from Intel's service or a proxy.

use std::sync::Arc;

use base_prims::Namespace;
use rt_tee::ias::AvrBundle;

use crate::{
    aesm,
    ias::{Endpoint, Evidence, SPID_BYTES},
};

/// Bytes of the nonce that the quoting enclave is given. It is not used: reports carry the runtime's own.
const QUOTE_NONCE_BYTES: usize = 16;

/// A machine that makes such quotes, and who makes reports about them.
pub(super) struct Machine {
    pub(super) client: aesm::Client,
    /// The machine's group, in the daemon's byte order.
    pub(super) gid: Vec<u8>,
    pub(super) endpoints: Vec<Arc<dyn Endpoint>>,
}

impl Machine {
    /// The report about an enclave: the first endpoint that gives one. `evidence`: runtime, the enclave's report, nonce.
    pub(super) async fn report(&self, evidence: (Namespace, &[u8], &str)) -> Result<AvrBundle, String> {
        let mut reasons = Vec::new();
        for endpoint in &self.endpoints {
            match self.ask(&**endpoint, evidence).await {
                Ok(bundle) => return Ok(bundle),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }

    async fn ask(
        &self,
        endpoint: &dyn Endpoint,
        (runtime_id, report, nonce): (Namespace, &[u8], &str),
    ) -> Result<AvrBundle, String> {
        let info = endpoint.spid_info().await?;
        let spid: &[u8; SPID_BYTES] = info.spid.as_slice().try_into().map_err(|_| "ias: malformed SPID")?;
        let gid: [u8; 4] = self.gid.as_slice().try_into().map_err(|_| "aesm: malformed group")?;
        let revoked = endpoint.revocations(u32::from_le_bytes(gid)).await?;
        let linkable = info.quote_signature_type == 1;
        let quote = self.client.epid_quote(report, linkable, spid, &[0; QUOTE_NONCE_BYTES], &revoked).await;
        let quote = Some(quote.map_err(|e| e.to_string())?.into());
        endpoint.verify_evidence(Evidence { runtime_id, quote, nonce: nonce.into(), ..Evidence::default() }).await
    }
}
