//! What the workers of one runtime follow: its descriptor and the epoch, at every block.

use std::sync::Arc;

use apps_committees::registry::query;
use base_prims::{Epoch, Namespace};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wire_consensus::registry::Runtime;

use crate::chain::{Chain, ChainError};

/// A runtime as the consensus layer has it after a block.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuntimeView {
    /// Height of the block; 0: none seen yet.
    pub height: i64,
    /// Epoch of that block.
    pub epoch: Epoch,
    /// The descriptor, also of a suspended runtime; `None` if it is not registered.
    pub descriptor: Option<Arc<Runtime>>,
}

/// Follows a runtime until stopped. The view is that of the newest block: heights may be left out.
pub fn follow(
    chain: Arc<dyn Chain>,
    id: Namespace,
    stop: CancellationToken,
) -> (watch::Receiver<RuntimeView>, impl Future<Output = ()>) {
    let (told, seen) = watch::channel(read(&*chain, &id, &RuntimeView::default()).unwrap_or_default());
    let following = async move {
        let mut heights = chain.heights();
        loop {
            heights.borrow_and_update();
            let known = told.borrow().clone();
            match read(&*chain, &id, &known) {
                Ok(view) if view.height > known.height => {
                    told.send_replace(view);
                }
                Ok(_) | Err(ChainError::NoBlocks) => {}
                Err(error) => tracing::warn!(module = "runtime/registry", runtime_id = %id, err = %error,
                    "descriptor of the runtime cannot be read"),
            }
            tokio::select! {
                changed = heights.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
                () = told.closed() => return,
            }
        }
    };
    (seen, following)
}

/// The view of the newest block; an unchanged descriptor is shared with the view before.
fn read(chain: &dyn Chain, id: &Namespace, known: &RuntimeView) -> Result<RuntimeView, ChainError> {
    let height = chain.latest_height();
    if height == 0 {
        return Err(ChainError::NoBlocks);
    }
    let state = chain.state(height)?;
    let (epoch, _) = apps_committees::beacon::state::epoch(&*state)?;
    let found = match query::runtime(&*state, id, true) {
        Ok(runtime) => Some(runtime),
        Err(error) if error.is(&wire_consensus::errors::registry::NO_SUCH_RUNTIME) => None,
        Err(error) => return Err(error.into()),
    };
    let descriptor = match (&known.descriptor, found) {
        (Some(known), Some(found)) if **known == found => Some(Arc::clone(known)),
        (_, found) => found.map(Arc::new),
    };
    Ok(RuntimeView { height, epoch, descriptor })
}
