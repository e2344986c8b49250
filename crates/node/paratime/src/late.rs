//! The pool as the hosted runtime sees it, which is made after the host.

use std::sync::{Arc, OnceLock, Weak};

use base_codec::Bytes;
use base_prims::Hash;
use node_executor::Executor;
use rt_host::services::{Scheduling, Served};
use wire_runtime::Error;

/// Asks the executor once there is one.
#[derive(Default)]
pub(crate) struct LateScheduling(OnceLock<Weak<Executor>>);

impl LateScheduling {
    pub(crate) fn set(&self, executor: &Arc<Executor>) {
        // Set once, when the runtime is put together.
        let _ = self.0.set(Arc::downgrade(executor));
    }
}

impl Scheduling for LateScheduling {
    fn more_transactions(&self, offset: Option<Hash>, limit: u32) -> Served<Vec<Bytes>> {
        match self.0.get().and_then(Weak::upgrade) {
            Some(executor) => executor.more_transactions(offset, limit),
            None => Err(Error::method_not_supported()),
        }
    }
}
