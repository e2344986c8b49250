//! The opt-in listener for web pages: `common.grpc_web`.

use std::net::SocketAddr;
use std::sync::Arc;

use base_grpc::{Listener, Router, Web, serve_web};
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
