//! Attestation of runtimes in enclaves and confidential machines, the same for all: report, quote, collateral, signature.
//!
//! Source: `go/runtime/host/sgx`, `go/runtime/host/tdx/qemu.go`.

use std::{sync::Arc, time::Duration};

use base_codec::cbor;
use base_prims::{Namespace, Version};
use rt_tee::{Policy, Quote, SgxAttestation, pcs};
use tokio::time::timeout;
use wire_consensus::{
    node::{CapabilityTee, EndorsedCapabilityTee, TeeHardware},
    signed::Signature,
};
use wire_runtime::{
    Body, Empty,
    bundle::ComponentId,
    runtime::{RakInitRequest, RakQuoteRequest, RakReportResponse, UpdateEndorsementRequest},
};

use crate::{
    aesm,
    api::{BoxFuture, ComponentConfig, HostError},
    connection::Connection,
    ias,
    pcs::QuoteService,
};

mod epid;

/// How long one attestation may take. At the start two minutes for everything hold before.
pub const RAK_TIMEOUT: Duration = Duration::from_secs(300);
/// Default of `runtime.attest_interval`.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(2 * 3600);
/// Bytes of the target info that mock enclaves get.
const MOCK_TARGET_INFO_BYTES: usize = 512;

/// Knows the policies for quotes that runtimes' deployments set.
pub trait PolicySource: Send + Sync {
    /// The policy of a version of a runtime, if its deployment has one.
    fn quote_policy(&self, runtime: Namespace, version: Version) -> BoxFuture<'_, Result<Option<Policy>, String>>;
}

/// No policies.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPolicies;

impl PolicySource for NoPolicies {
    fn quote_policy(&self, _: Namespace, _: Version) -> BoxFuture<'_, Result<Option<Policy>, String>> {
        Box::pin(async { Ok(None) })
    }
}

/// Signs for the node.
pub trait Endorser: Send + Sync {
    /// The node's signature over the CBOR of a capability, in the context of endorsements.
    fn endorse(&self, capability: &CapabilityTee) -> Option<Signature>;
}

/// What attestation needs of the node.
#[derive(Clone)]
pub struct Attester {
    /// Collateral.
    pub quotes: QuoteService,
    /// Policies.
    pub policies: Arc<dyn PolicySource>,
    /// Endorsement; without one components are not endorsed.
    pub endorser: Option<Arc<dyn Endorser>>,
    /// Who makes reports about quotes of the older kind (EPID), tried in this order. Asked only where the daemon makes no
    /// DCAP quotes; with none, that is an error.
    pub ias: Vec<Arc<dyn ias::Endpoint>>,
}

/// Where quotes come from.
#[derive(Clone, Debug)]
pub enum QuoteSource {
    /// From the AESM daemon.
    Aesm(aesm::Client),
    /// Made up here, without signatures; for tests.
    Mock,
    /// The runtime's report is the quote.
    Report,
}

/// Whom an enclave has to make its report for, and who makes the quote of it.
enum Target {
    /// A DCAP quote with this key.
    Dcap(aesm::Client, aesm::Key),
    /// A quote of the older kind.
    Epid(epid::Machine),
    /// No daemon.
    None,
}

fn failed(what: &str, e: impl std::fmt::Display) -> HostError {
    HostError::Start(format!("{what}: {e}"))
}

impl Attester {
    /// Attests a runtime once.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn attest(
        &self,
        source: &QuoteSource,
        config: &ComponentConfig,
        connection: &Connection,
    ) -> Result<Arc<CapabilityTee>, HostError> {
        timeout(RAK_TIMEOUT, self.attest_inner(source, config, connection))
            .await
            .unwrap_or(Err(HostError::Timeout { what: "attestation", after: RAK_TIMEOUT }))
            .map_err(|e| failed("failed to initialize TEE", e))
    }

    async fn attest_inner(
        &self,
        source: &QuoteSource,
        config: &ComponentConfig,
        connection: &Connection,
    ) -> Result<Arc<CapabilityTee>, HostError> {
        let target = self.set_target(source, connection).await?;
        let report = report(connection).await?;
        let raw_report = report.report.as_ref().map_or(&[][..], |bytes| bytes);
        let quote = match (source, target) {
            (_, Target::Epid(machine)) => {
                let evidence = (config.runtime_id, raw_report, report.nonce.as_str());
                let bundle = machine.report(evidence).await.map_err(|e| failed("failed to get quote", e))?;
                Quote { ias: Some(bundle), pcs: None }
            }
            (_, Target::Dcap(client, key)) => {
                let raw = client.quote(&key, raw_report).await.map_err(|e| failed("failed to get quote", e))?;
                self.resolve(source, config, &raw).await?
            }
            (QuoteSource::Mock, _) => {
                let raw = pcs::mock_quote(raw_report).map_err(|e| failed("failed to get quote", e))?;
                self.resolve(source, config, &raw).await?
            }
            _ => self.resolve(source, config, raw_report).await?,
        };
        let attestation = set_quote(connection, quote).await?;
        let capability = CapabilityTee {
            hardware: TeeHardware::INTEL_SGX,
            rak: report.rak_pub,
            rek: report.rek_pub,
            attestation: Some(attestation.into()),
        };
        self.endorse(&capability, connection).await;
        Ok(Arc::new(capability))
    }

    /// A DCAP quote with its collateral.
    async fn resolve(&self, source: &QuoteSource, config: &ComponentConfig, raw: &[u8]) -> Result<Quote, HostError> {
        let policy = self.policy(source, config).await?;
        let bundle = self.quotes.resolve(raw, policy.as_ref()).await;
        Ok(Quote { ias: None, pcs: Some(bundle.map_err(|e| failed("error while resolving quote", e))?) })
    }

    /// Tells the enclave for whom to make its report.
    async fn set_target(&self, source: &QuoteSource, connection: &Connection) -> Result<Target, HostError> {
        let (target_info, target) = match source {
            QuoteSource::Report => return Ok(Target::None),
            QuoteSource::Mock => (vec![0; MOCK_TARGET_INFO_BYTES], Target::None),
            QuoteSource::Aesm(client) => {
                let asked = self.ask_daemon(client).await;
                asked.map_err(|e| failed("error while getting quote info from AESMD", e))?
            }
        };
        let request = RakInitRequest { target_info: Some(target_info.into()) };
        connection
            .call(Body::RuntimeCapabilityTEERakInitRequest(request))
            .await
            .map_err(|e| failed("error while updating TEE target info", e))?;
        Ok(target)
    }

    /// Quoting enclave and kind of quote: DCAP, or where there is no key for that and somebody who makes reports about
    /// them, the older kind.
    async fn ask_daemon(&self, client: &aesm::Client) -> Result<(Vec<u8>, Target), aesm::Error> {
        let reason = match client.ecdsa_key().await {
            Ok(key) => return Ok((client.target_info(&key).await?, Target::Dcap(client.clone(), key))),
            Err(reason @ (aesm::Error::NoKey | aesm::Error::Refused { .. })) if !self.ias.is_empty() => reason,
            Err(e) => return Err(e),
        };
        tracing::warn!(err = %reason, "no DCAP quotes on this machine, trying EPID; {}", ias::ENDED);
        let info = client.init_epid_quote().await?;
        let machine = epid::Machine { client: client.clone(), gid: info.gid, endpoints: self.ias.clone() };
        Ok((info.target_info, Target::Epid(machine)))
    }

    async fn policy(
        &self,
        source: &QuoteSource,
        config: &ComponentConfig,
    ) -> Result<Option<pcs::QuotePolicy>, HostError> {
        let policy = match (source, &config.component_id) {
            (QuoteSource::Mock, _) | (_, ComponentId::Rofl(_)) => None,
            (_, ComponentId::Ronl) => self
                .policies
                .quote_policy(config.runtime_id, config.component.version)
                .await
                .map_err(|e| failed("failed to fetch RONL quote policy", e))?
                .and_then(|policy| policy.pcs),
        };
        Ok(match source {
            QuoteSource::Report => Some(with_tdx_fallback(policy)),
            _ => policy,
        })
    }

    /// Endorses the component, where it wants that, so that others on the node trust it.
    async fn endorse(&self, capability: &CapabilityTee, connection: &Connection) {
        let wants = connection.info().and_then(|info| info.features).is_some_and(|f| f.endorsed_capability_tee);
        let Some(endorser) = self.endorser.as_ref().filter(|_| wants) else {
            return;
        };
        let Some(node_endorsement) = endorser.endorse(capability) else {
            tracing::error!("failed to sign endorsement of local component");
            return;
        };
        let ect = EndorsedCapabilityTee { capability_tee: capability.clone(), node_endorsement };
        let request = Box::new(UpdateEndorsementRequest { ect });
        if let Err(e) = connection.call(Body::RuntimeCapabilityTEEUpdateEndorsementRequest(request)).await {
            tracing::error!(err = %e, "failed to update endorsement of local component");
        }
    }
}

/// What holds for TDX where the deployment says nothing: 30 days, number 17, any of Intel's modules.
fn with_tdx_fallback(policy: Option<pcs::QuotePolicy>) -> pcs::QuotePolicy {
    let mut policy = policy.unwrap_or(pcs::QuotePolicy {
        tcb_validity_period: 30,
        min_tcb_evaluation_data_number: 17,
        ..pcs::QuotePolicy::default()
    });
    policy.tdx.get_or_insert_default();
    policy
}

async fn report(connection: &Connection) -> Result<Box<RakReportResponse>, HostError> {
    let step = "error while requesting worker quote and public RAK";
    match connection.call(Body::RuntimeCapabilityTEERakReportRequest(Empty {})).await.map_err(|e| failed(step, e))? {
        Body::RuntimeCapabilityTEERakReportResponse(report) => Ok(report),
        other => Err(failed(step, format!("unexpected response {}", other.name()))),
    }
}

/// Gives the enclave its quote; the attestation is CBOR.
async fn set_quote(connection: &Connection, quote: Quote) -> Result<Vec<u8>, HostError> {
    let request = Box::new(RakQuoteRequest { quote: quote.clone() });
    let answer = connection
        .call(Body::RuntimeCapabilityTEERakQuoteRequest(request))
        .await
        .map_err(|e| failed("error while configuring quote", e))?;
    let Body::RuntimeCapabilityTEERakQuoteResponse(answer) = answer else {
        return Err(failed("error while configuring quote", format!("unexpected response {}", answer.name())));
    };
    Ok(cbor::to_vec(&SgxAttestation { v: 1, quote, height: answer.height, signature: answer.signature }))
}
