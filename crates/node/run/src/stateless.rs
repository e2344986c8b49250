//! A node that keeps no consensus state: headers come from peers and are verified, everything else comes from providers
//! and is checked against them.
//!
//! Reference: `go/consensus/cometbft/stateless`.

mod providers;
#[cfg(test)]
mod tests;
mod verify;
mod view;

use std::sync::Arc;

use apps_governance::upgrade::{Manager, Upgrades};
use base_prims::Hash;
use comet_chain::light::LightBlock;
use node_app::Queries;
use node_rpc::status::LightClientStatus;
use node_rpc::types::Timestamp;
use node_workers::Chain as _;
use p2p_net::api::P2p;
use p2p_net::light::ProviderPool;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::chain::LocalChain;
use crate::control::{Common, FullControl};
use crate::error::RunError;
use crate::light::{self, Trusted};
use crate::start::{self, Basis, Full};
use crate::store::CommonStore;
use crate::{engine, network, paratimes, sentry};
use providers::Providers;
use view::{Headers, View};

type PeersOfClient = Arc<parking_lot::Mutex<Vec<Arc<p2p_net::light::Provider>>>>;

/// Starts everything but the consensus layer, in whose place is a view of others'.
pub(crate) async fn start(
    basis: &Basis,
    common: Common,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<Full, RunError> {
    let Basis { config, options, identity, doc, text, data_dir, .. } = basis;
    let providers = Arc::new(Providers::new(&config.consensus.providers, &identity.tls)?);
    let store = CommonStore::open(data_dir)?;
    let wrong = |reason| RunError::Genesis { path: config.genesis.file.clone().into(), reason };
    let params = engine::genesis(doc, text, options.dont_blame_oasis).map_err(wrong)?.params;
    if config.consensus.light_client.trust.hash.is_empty() {
        return Err(RunError::Address {
            key: "consensus.light_client.trust",
            reason: "a node without local storage needs a header to trust: set height and hash of a recent block"
                .to_owned(),
        });
    }
    let trusted = start::trusted(config, doc, params, &data_dir.join("consensus"))?;
    let settings = network::p2p(config, data_dir, &options.agent(), options.dont_blame_oasis)?;
    let p2p = p2p_net::Node::start(settings, network::keypair(&identity.p2p), stop.child_token())
        .await
        .map_err(|error| RunError::P2p(error.to_string()))?;
    let chain_name = doc.chain_context().to_string();
    let pool = ProviderPool::new(Arc::new(p2p.clone()) as Arc<dyn P2p>, &chain_name, &doc.comet_chain_id());

    let headers = Arc::new(Headers::default());
    let peers = PeersOfClient::default();
    tasks.spawn(begin(pool.clone(), trusted, headers.clone(), peers.clone(), stop.child_token()));
    let view = View::new(providers, headers.clone(), tokio::runtime::Handle::current());
    tasks.spawn(Arc::clone(&view).follow(stop.child_token()));
    let synced = synced(&view, tasks, stop);
    let queries = Queries::remote(view.clone(), Arc::clone(doc));
    let chain = Arc::new(LocalChain::new(queries, view, synced, stop.child_token()));
    tasks.spawn(start::follow_registry(chain.clone(), p2p.clone(), chain_name, stop.child_token()));
    let addresses = start::own_addresses(basis, &p2p);
    sentry::serve(config, identity, &addresses, tasks, stop).await?;
    let registered = sentry::addresses(config, identity, addresses)?;
    let (registration, submission) = start::start_workers(basis, &chain, registered, store.clone(), tasks, stop);
    let network: Arc<dyn P2p> = Arc::new(p2p.clone());
    let paratimes =
        start::start_paratimes(basis, &chain, network, Some(&pool), &registration, &submission, stop).await?;
    start::run_registration(&registration, tasks, stop);
    if let Some(paratimes) = &paratimes {
        tasks.spawn(Arc::clone(paratimes).run(stop.child_token()));
    }
    let upgrades = Manager::new(Vec::new()).map_err(|error| RunError::Upgrade(error.to_string()))?;
    let upgrades = Upgrades::new(upgrades);
    let control = FullControl {
        common,
        engine: None,
        p2p: Some(p2p.clone()),
        light: Some(Box::new(move || light_status(&headers, &peers))),
        registration: registration.clone(),
        upgrades: upgrades.clone(),
        store,
        synced: chain.synced(),
        ready: paratimes::ready(chain.synced(), paratimes.as_ref(), tasks, stop),
        submission,
        paratimes: paratimes.clone(),
    };
    let backend = start::backend(control, &chain, None, None, stop);
    let full = Full { engine: None, p2p: Some(p2p), chain, registration, paratimes, upgrades, halted: None };
    full.serve(basis, backend, tasks, stop).await?;
    Ok(full)
}

/// Makes the light client, once there are peers for it.
async fn begin(
    pool: ProviderPool,
    trusted: Trusted,
    headers: Arc<Headers>,
    peers: PeersOfClient,
    stop: CancellationToken,
) {
    let store = match trusted.store() {
        Ok(store) => store,
        Err(error) => {
            tracing::error!(module = "consensus/cometbft/light", err = error, "no store for verified headers");
            return;
        }
    };
    loop {
        let made = tokio::select! {
            made = light::client(&pool, &trusted, &store) => made,
            () = stop.cancelled() => return,
        };
        match made {
            Ok((client, bound)) => {
                *peers.lock() = bound;
                headers.begin(client);
                tracing::info!(
                    module = "consensus/cometbft/light",
                    height = trusted.options.height,
                    "light client has the trusted header"
                );
                return;
            }
            Err(error) => tracing::info!(
                module = "consensus/cometbft/light",
                reason = error,
                "waiting for peers with light blocks"
            ),
        }
        tokio::select! {
            () = tokio::time::sleep(light::RETRY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Whether there is a verified block; never goes back.
fn synced(view: &Arc<View>, tasks: &mut JoinSet<()>, stop: &CancellationToken) -> watch::Receiver<bool> {
    let (told, synced) = watch::channel(false);
    let (mut latest, stop) = (node_app::RemoteState::watch(view.as_ref()), stop.child_token());
    tasks.spawn(async move {
        tokio::select! {
            seen = latest.wait_for(|latest| latest.height > 0) => {
                told.send_replace(seen.is_ok());
            }
            () = stop.cancelled() => {}
        }
        stop.cancelled().await;
    });
    synced
}

fn light_status(headers: &Headers, peers: &PeersOfClient) -> LightClientStatus {
    let of = |block: &LightBlock| {
        let hash = block.header.hash().map(Hash::new).unwrap_or_default();
        (block.header.height, hash, Timestamp::whole(block.header.time))
    };
    let mut status = LightClientStatus::default();
    if let Some((oldest, newest)) = headers.range() {
        if let Some(block) = headers.known(newest) {
            (status.latest_height, status.latest_hash, status.latest_time) = of(&block);
        }
        if let Some(block) = headers.known(oldest) {
            (status.oldest_height, status.oldest_hash, status.oldest_time) = of(&block);
        }
    }
    let ids = peers.lock().iter().filter_map(|provider| Some(provider.peer()?.to_string())).collect();
    status.peer_ids = Some(ids);
    status
}
