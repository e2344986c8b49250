//! Light blocks: served to others from this node's stores, fetched from others for state sync.

use std::sync::Arc;
use std::time::Duration;

use apps_core::params;
use apps_core::submit::BoxFuture;
use base_codec::Bytes;
use base_kv_disk::{Disk, Options};
use comet_chain::light::ProviderError;
use comet_sync::{LightClient, LightConfig, LightStateProvider, ParamsSource, SystemClock, TrustOptions};
use node_app::{Queries, QueryError};
use node_rpc::Engine;
use p2p_net::light::{self, Evidence, LightBlock, LightSource, Parameters, ProviderPool, SourceError, Validators};
use tokio::task::spawn_blocking;
use wire_cometbft::codec::Message as _;
use wire_cometbft::evidence::Evidence as CometEvidence;
use wire_cometbft::params::ConsensusParams;

/// Witnesses of the light client, besides its primary. Source: `go/consensus/cometbft/light`.
const WITNESSES: usize = 2;
/// Wait before peers are asked again when the light client could not begin.
pub(crate) const RETRY: Duration = Duration::from_secs(2);
/// Tries before state sync gives up for want of peers.
const MAX_TRIES: usize = 90;
/// Largest size of the light client's store.
const MAX_STORE: u64 = 1 << 30;
/// Folder of the light client's store below the consensus folder.
const STORE: &str = "data/light";

/// Serves this node's chain.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) queries: Queries,
}

fn store_error(error: &dyn std::error::Error) -> SourceError {
    SourceError::Other(error.to_string())
}

fn query_error(error: QueryError) -> SourceError {
    match error {
        QueryError::NoBlocks => SourceError::NoBlocks,
        QueryError::Height { .. } => SourceError::NotFound,
        error => store_error(&error),
    }
}

impl Served {
    /// The height meant; 0 stands for the newest block.
    fn resolve(&self, height: i64) -> Result<i64, SourceError> {
        match height {
            0 => match self.engine.blocks().height() {
                0 => Err(SourceError::NoBlocks),
                newest => Ok(newest),
            },
            1.. => Ok(height),
            _ => Err(SourceError::NotFound),
        }
    }

    fn find_light_block(&self, height: i64) -> Result<LightBlock, SourceError> {
        let height = self.resolve(height)?;
        let found = self.engine.blocks().light_block(height);
        let block = found.map_err(|error| store_error(&error))?.ok_or(SourceError::NotFound)?;
        Ok(LightBlock { height, meta: Some(Bytes(block.to_wire().encode_to_vec())) })
    }

    fn find_validators(&self, height: i64) -> Result<Validators, SourceError> {
        let height = self.resolve(height)?;
        let found = self.engine.blocks().validators(height).map_err(|error| store_error(&error))?;
        let set = found.ok_or(SourceError::NotFound)?;
        Ok(Validators { height, meta: Some(Bytes(set.to_wire().encode_to_vec())) })
    }

    fn find_parameters(&self, height: i64) -> Result<Parameters, SourceError> {
        let height = self.resolve(height)?;
        let found = self.engine.blocks().params(height).map_err(|error| store_error(&error))?;
        let comet = found.ok_or(SourceError::NotFound)?;
        let state = self.queries.state(height).map_err(query_error)?;
        let parameters = params::parameters(&state).map_err(|error| SourceError::Other(error.to_string()))?;
        Ok(Parameters { height, parameters, meta: Some(Bytes(comet.encode_to_vec())) })
    }

    fn take_evidence(&self, evidence: &Evidence) -> Result<(), SourceError> {
        let raw = evidence.meta.as_ref().map_or(&[][..], |meta| meta.as_slice());
        let evidence = CometEvidence::decode(raw).map_err(|error| store_error(&error))?;
        self.engine.submit_evidence(evidence).map_err(|error| SourceError::Other(error.message))
    }

    /// Runs what reads disks away from the tasks that serve the network.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, SourceError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, SourceError>> {
        let served = self.clone();
        Box::pin(
            async move { spawn_blocking(move || work(&served)).await.unwrap_or_else(|error| Err(store_error(&error))) },
        )
    }
}

impl LightSource for Served {
    fn light_block(&self, height: i64) -> BoxFuture<'_, Result<LightBlock, SourceError>> {
        self.blocking(move |served| served.find_light_block(height))
    }

    fn validators(&self, height: i64) -> BoxFuture<'_, Result<Validators, SourceError>> {
        self.blocking(move |served| served.find_validators(height))
    }

    fn parameters(&self, height: i64) -> BoxFuture<'_, Result<Parameters, SourceError>> {
        self.blocking(move |served| served.find_parameters(height))
    }

    fn submit_evidence(&self, evidence: Evidence) -> BoxFuture<'_, Result<(), SourceError>> {
        self.blocking(move |served| served.take_evidence(&evidence))
    }
}

/// Serves light blocks of this node's chain.
pub(crate) fn serve(p2p: &p2p_net::Node, chain: &str, served: Served) -> Result<(), p2p_net::api::P2pError> {
    light::serve(p2p, chain, Arc::new(served))
}

/// Parameters of other nodes, with what only genesis can vouch for taken from there.
struct RemoteParams {
    /// Asked one after the other. They are the light client's: a small network has no further peers to bind to.
    providers: Vec<Arc<light::Provider>>,
    genesis: ConsensusParams,
}

impl ParamsSource for RemoteParams {
    fn params(&self, height: i64) -> BoxFuture<'_, Result<ConsensusParams, ProviderError>> {
        Box::pin(async move {
            let mut failed = ProviderError::NotFound(height);
            let mut found = None;
            for provider in &self.providers {
                match provider.parameters(height).await {
                    Ok(answer) => {
                        found = Some(answer);
                        break;
                    }
                    Err(error) => failed = error,
                }
            }
            let Some((answer, feedback)) = found else { return Err(failed) };
            let raw = answer.meta.as_ref().map_or(&[][..], |meta| meta.as_slice());
            match ConsensusParams::decode(raw) {
                Ok(params) => {
                    feedback.success();
                    Ok(ConsensusParams { evidence: self.genesis.evidence.clone(), ..params })
                }
                Err(error) => {
                    feedback.bad();
                    Err(ProviderError::BadLightBlock(error.to_string()))
                }
            }
        })
    }
}

/// What a light client is to trust, and where it keeps what it has seen.
pub(crate) struct Trusted {
    pub(crate) chain_id: String,
    pub(crate) period: Duration,
    pub(crate) options: TrustOptions,
    pub(crate) initial_height: i64,
    pub(crate) params: ConsensusParams,
    pub(crate) folder: std::path::PathBuf,
}

impl Trusted {
    /// Opens the store of verified headers.
    pub(crate) fn store(&self) -> Result<Arc<Disk>, String> {
        let path = self.folder.join(STORE);
        std::fs::create_dir_all(&path).map_err(|error| format!("failed to make {}: {error}", path.display()))?;
        let options = Options { max_bytes: MAX_STORE, ..Options::default() };
        Disk::open(&path, options).map(Arc::new).map_err(|error| error.to_string())
    }
}

/// A light client over the peers of the network, and these; fails while there are not enough of them.
pub(crate) async fn client(
    pool: &ProviderPool,
    trusted: &Trusted,
    store: &Arc<Disk>,
) -> Result<(LightClient, Vec<Arc<light::Provider>>), String> {
    let period = i64::try_from(trusted.period.as_nanos()).map_err(|_| "trust period is too long".to_owned())?;
    let config = LightConfig::new(wire_cometbft::Duration::from_nanos(period));
    let providers: Vec<_> = (0..=WITNESSES).map(|_| Arc::new(pool.provider())).collect();
    let mut each = providers.iter().cloned();
    let Some(primary) = each.next() else { return Err("there are no providers".to_owned()) };
    let witnesses = each.map(|provider| provider as _).collect();
    let client = LightClient::new(
        &trusted.chain_id,
        config,
        Some(trusted.options.clone()),
        primary,
        witnesses,
        store.clone(),
        Arc::new(SystemClock),
    );
    Ok((client.await.map_err(|error| error.to_string())?, providers))
}

/// A light client over the peers of the network, as the source of state sync. Waits until there are peers.
pub(crate) async fn state_provider(pool: &ProviderPool, trusted: Trusted) -> Result<LightStateProvider, String> {
    let store = trusted.store()?;
    let mut last = String::new();
    for _ in 0..MAX_TRIES {
        match client(pool, &trusted, &store).await {
            Ok((client, providers)) => {
                let params = RemoteParams { providers, genesis: trusted.params.clone() };
                return Ok(LightStateProvider {
                    client: Arc::new(client),
                    params: Arc::new(params),
                    initial_height: trusted.initial_height,
                });
            }
            Err(error) => last = error,
        }
        tracing::info!(module = "consensus/cometbft/light", reason = last, "waiting for peers with light blocks");
        tokio::time::sleep(RETRY).await;
    }
    Err(format!("no light block of the trusted height could be had: {last}"))
}
