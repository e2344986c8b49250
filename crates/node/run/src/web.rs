//! What the node offers to web browsers on its machine, if asked to: `common.grpc_web` and `common.dashboard`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_grpc::{Listener, Router, Web, serve_web};
use cli_dashboard::{Dashboard, Target};
use node_config::Config;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::RunError;

/// Serves the methods that the configuration names to the pages that it names, if it does.
pub(crate) async fn serve(
    config: &Config,
    router: &Router,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let web = &config.common.grpc_web;
    if web.listen_address.is_empty() {
        return Ok(());
    }
    let wrong = |key: &'static str, reason: String| RunError::Address { key, reason };
    let address: SocketAddr = web
        .listen_address
        .parse()
        .map_err(|_| wrong("common.grpc_web.listen_address", format!("{:?} is not IP:PORT", web.listen_address)))?;
    if let Some(unknown) = web.methods.iter().find(|name| !router.has(name)) {
        return Err(wrong("common.grpc_web.methods", format!("this node has no method {unknown:?}")));
    }
    let listener = Listener::tcp(address)
        .await
        .map_err(|error| wrong("common.grpc_web.listen_address", format!("{address}: {error}")))?;
    tracing::info!(module = "grpc/web", %address, methods = web.methods.len(), "listening for web pages");
    let allowed = Web { origins: web.origins.clone(), methods: web.methods.iter().cloned().collect() };
    tasks.spawn(serve_web(listener, Arc::new(router.clone()), Arc::new(allowed), stop.child_token()));
    Ok(())
}

/// Serves the page that shows this node, if the configuration asks for it.
pub(crate) async fn dashboard(
    config: &Config,
    data_dir: &Path,
    socket: PathBuf,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    const KEY: &str = "common.dashboard.listen_address";
    let listen_address = &config.common.dashboard.listen_address;
    if listen_address.is_empty() {
        return Ok(());
    }
    let wrong = |reason: String| RunError::Address { key: KEY, reason };
    let address: SocketAddr =
        listen_address.parse().map_err(|_| wrong(format!("{listen_address:?} is not IP:PORT")))?;
    let log = &config.common.log.file;
    let target = Target {
        name: "this node".to_owned(),
        mode: config.mode.name().to_owned(),
        socket,
        log: (!log.is_empty()).then(|| data_dir.join(log)),
    };
    let dashboard = Arc::new(Dashboard::new(vec![target]));
    let served = cli_dashboard::serve(address, dashboard, stop.child_token()).await;
    let (address, page) = served.map_err(|error| wrong(error.to_string()))?;
    tracing::info!(module = "dashboard", %address, "listening for browsers on this machine");
    tasks.spawn(page);
    Ok(())
}
