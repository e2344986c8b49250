//! The control socket, there before anything of the node that may take long: its status tells of the start.
//!
//! Reference: `go/oasis-node/cmd/node/node.go`, where it answers once all is opened.

use std::path::Path;
use std::sync::Arc;

use base_grpc::{Listener, Router, RpcError};
use node_config::Mode;
use node_rpc::status::{ConsensusStatus, Status};
use node_rpc::{BoxFuture, Control};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::control::Common;
use crate::error::RunError;

/// What the status says a node waits for until it is put together.
const STARTING: &str = "starting: opening what is on disk";

/// A control socket that answers for the status; all other calls wait until the node is put together.
#[derive(Clone)]
pub(crate) struct Socket(watch::Sender<Option<Arc<Router>>>);

impl Socket {
    /// Listens.
    ///
    /// # Errors
    /// If the path can't be listened on.
    pub(crate) fn open(
        path: &Path,
        common: Common,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> Result<Self, RunError> {
        let listener = Listener::unix(path).map_err(|source| RunError::Socket { path: path.to_owned(), source })?;
        let (told, later) = watch::channel(None);
        let mut router = node_rpc::status_router(Arc::new(Starting(common)));
        router.until(later);
        tasks.spawn(base_grpc::serve(listener, Arc::new(router), stop.child_token()));
        Ok(Self(told))
    }

    /// Lets the node answer from now on.
    pub(crate) fn hand_over(&self, router: Router) {
        self.0.send_replace(Some(Arc::new(router)));
    }
}

/// A node that is not put together yet.
struct Starting(Common);

impl Control for Starting {
    fn status(&self) -> Status {
        let consensus = (self.0.config.mode != Mode::Seed).then(ConsensusStatus::starting);
        Status { consensus, waits_for: STARTING.to_owned(), ..self.0.status() }
    }

    fn request_shutdown(&self, _wait: bool) -> BoxFuture<'_, Result<(), RpcError>> {
        self.0.stop.cancel();
        Box::pin(async { Ok(()) })
    }
}
