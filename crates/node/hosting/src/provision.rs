//! Which provisioner hosts what, and what attestation needs of the node. Source: `go/runtime/host/provisioner`.

use std::path::PathBuf;
use std::sync::Arc;

use apps_committees::registry::query;
use base_codec::cbor;
use base_crypto::context;
use base_crypto::ed25519::SecretKey;
use base_kv::KvStore;
use base_prims::{Namespace, Version};
use node_config::schema::Runtime;
use node_workers::Chain;
use rt_host::api::{BoxFuture, HostInfo, Provisioner};
use rt_host::attest::{Attester, Endorser, PolicySource};
use rt_host::component::Timings;
use rt_host::composite::{Balanced, ByTee};
use rt_host::mock::Mock;
use rt_host::pcs::{self, QuoteService};
use rt_host::sandbox::{Isolation, Sandbox};
use rt_host::sgx::Sgx;
use rt_host::tdx::{CidPool, Tdx};
use rt_tee::{Policy, SgxConstraints};
use wire_consensus::node::CapabilityTee;
use wire_consensus::signed::Signature;
use wire_runtime::bundle::TeeKind;

use crate::error::HostingError;

/// What provisioners are made of.
pub(crate) struct Setup<'a> {
    pub(crate) config: &'a Runtime,
    pub(crate) info: HostInfo,
    pub(crate) unsafe_options: bool,
    pub(crate) chain: Arc<dyn Chain>,
    pub(crate) node_key: Option<SecretKey>,
    pub(crate) ias: Vec<Arc<dyn rt_host::ias::Endpoint>>,
    /// Keeps collateral.
    pub(crate) cache: Arc<dyn KvStore>,
    pub(crate) tee: rt_tee::VerifyOptions,
}

/// The loader of enclaves, by either of its keys.
pub(crate) fn sgx_loader(config: &Runtime) -> Option<PathBuf> {
    [&config.sgx.loader, &config.sgx_loader].into_iter().find(|path| !path.is_empty()).map(PathBuf::from)
}

/// Whether enclaves are simulated.
pub(crate) fn is_mock_tee(config: &Runtime) -> bool {
    config.debug_mock_tee || config.environment == "sgx-mock"
}

/// The provisioner of all components.
///
/// # Errors
/// If an option needs unsafe options, or does not fit.
pub(crate) fn provisioner(setup: Setup<'_>) -> Result<Arc<dyn Provisioner>, HostingError> {
    let Setup { config, info, unsafe_options, chain, node_key, ias, cache, tee } = setup;
    let only_unsafe = |on: bool, option: &'static str| match on && !unsafe_options {
        true => Err(HostingError::Unsafe { option }),
        false => Ok(()),
    };
    let attest = Some(config.attest_interval.0).filter(|interval| !interval.is_zero());
    let timings = Timings { attest, ..Timings::default() };
    let quotes = QuoteService::new(pcs::DEFAULT_BASE_URL, cache, pcs::system_clock(), tee);
    let endorser = node_key.map(|key| Arc::new(NodeEndorser(key)) as Arc<dyn Endorser>);
    let attester = Attester { quotes, policies: Arc::new(Policies(chain)), endorser, ias };
    let mut kinds: Vec<(TeeKind, Arc<dyn Provisioner>)> = Vec::new();
    if config.provisioner == "mock" {
        only_unsafe(true, "runtime.provisioner: mock")?;
        kinds.push((TeeKind::NONE, Arc::new(Mock)));
    } else {
        let unconfined = config.provisioner == "unconfined";
        only_unsafe(unconfined, "runtime.provisioner: unconfined")?;
        let (plain, isolation) = match unconfined {
            true => (Sandbox::unconfined(info.clone()), Isolation::None),
            false => {
                let binary = PathBuf::from(&config.sandbox_binary);
                (Sandbox::new(&binary, info.clone()), Isolation::Sandbox(binary))
            }
        };
        kinds.push((TeeKind::NONE, Arc::new(plain.with_timings(timings.clone()))));
        let (loader, mock) = (sgx_loader(config), is_mock_tee(config));
        only_unsafe(mock, "runtime.debug_mock_tee")?;
        if mock || loader.is_some() {
            let mut sgx = Sgx::new(loader, isolation, mock, attester.clone(), info.clone());
            sgx.timings = timings.clone();
            kinds.push((TeeKind::SGX, Arc::new(sgx)));
        }
    }
    let cids = Arc::new(CidPool::new(config.tdx.cid_start, config.tdx.cid_count)?);
    let mut tdx = Tdx::new(cids, attester, info);
    tdx.timings = timings;
    kinds.push((TeeKind::TDX, Arc::new(tdx)));
    let instances = usize::try_from(config.load_balancer.num_instances).unwrap_or(usize::MAX);
    Ok(Arc::new(kinds.into_iter().fold(ByTee::default(), |all, (kind, inner)| {
        let balanced = |inner| Arc::new(Balanced::new(inner, instances)) as Arc<dyn Provisioner>;
        all.with(kind, if instances >= 2 { balanced(inner) } else { inner })
    })))
}

/// Constraints of a deployment.
///
/// # Errors
/// If they are malformed.
pub(crate) fn constraints(tee: Option<&[u8]>) -> Result<SgxConstraints, String> {
    cbor::from_slice(tee.unwrap_or_default()).map_err(|e| format!("malformed SGX constraints: {e}"))
}

/// Policies of runtimes' deployments, as the newest state has them.
struct Policies(Arc<dyn Chain>);

impl PolicySource for Policies {
    fn quote_policy(&self, runtime: Namespace, version: Version) -> BoxFuture<'_, Result<Option<Policy>, String>> {
        let chain = Arc::clone(&self.0);
        Box::pin(async move {
            let read = move || -> Result<Option<Policy>, String> {
                let state = chain.state(0).map_err(|e| e.to_string())?;
                let failed = |e: apps_core::Error| format!("failed to query runtime descriptor: {e}");
                let descriptor = query::runtime(&*state, &runtime, true).map_err(failed)?;
                match descriptor.deployment_for_version(version) {
                    Some(deployment) => Ok(constraints(deployment.tee.as_ref().map(|tee| tee.as_slice()))?.policy),
                    None => Ok(None),
                }
            };
            tokio::task::spawn_blocking(read).await.unwrap_or_else(|e| Err(e.to_string()))
        })
    }
}

/// Endorses components with the node's key.
struct NodeEndorser(SecretKey);

impl Endorser for NodeEndorser {
    fn endorse(&self, capability: &CapabilityTee) -> Option<Signature> {
        Signature::sign(&self.0, &context::ENDORSE_CAPABILITY_TEE, None, &cbor::to_vec(capability)).ok()
    }
}
