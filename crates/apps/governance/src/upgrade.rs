//! Network upgrades on this node: which are pending, when the node has to stop, and the handlers that migrate the state.
//!
//! Reference: `go/upgrade`. The reference writes what it knows of pending upgrades to disk at each change; here the
//! node does so whenever [`Upgrades::take_changes`] says that there is something to write.

pub mod handlers;
mod manager;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apps_core::{Context, Halt, Result, Upgrader};
use base_prims::Epoch;
use wire_consensus::upgrade::{Descriptor, PendingUpgrade};

pub use handlers::Handler;
pub use manager::{Due, Manager};

/// The node's pending upgrades, shared by governance, the multiplexer and the node's control interface.
#[derive(Clone, Debug, Default)]
pub struct Upgrades(Arc<Mutex<Manager>>);

impl Upgrades {
    /// Shares a manager.
    pub fn new(manager: Manager) -> Self {
        Self(Arc::new(Mutex::new(manager)))
    }

    fn lock(&self) -> MutexGuard<'_, Manager> {
        // A panic elsewhere cannot leave the manager half-changed: each method changes it in one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Manager::submit`].
    ///
    /// # Errors
    /// `upgrade/5` if the same upgrade is pending already.
    pub fn submit(&self, descriptor: &Descriptor) -> Result<()> {
        self.lock().submit(descriptor)
    }

    /// See [`Manager::cancel`].
    ///
    /// # Errors
    /// `upgrade/6` if the upgrade is under way.
    pub fn cancel(&self, descriptor: &Descriptor) -> Result<()> {
        self.lock().cancel(descriptor)
    }

    /// What a restart of the node does: takes up what is pending and runs the startup stages that are due.
    ///
    /// # Errors
    /// If this program is too old for an upgrade that is due, or lacks its handler; nothing changes then.
    pub fn restart(&self) -> Result<()> {
        let mut manager = Manager::new(self.pending())?;
        manager.run_startup_stages()?;
        *self.lock() = manager;
        Ok(())
    }

    /// The state of all upgrades, to come back to it with [`Upgrades::restore`].
    pub fn snapshot(&self) -> Manager {
        self.lock().clone()
    }

    /// Goes back to an earlier state.
    pub fn restore(&self, manager: Manager) {
        *self.lock() = manager;
    }

    /// What is known of an upgrade.
    pub fn get(&self, descriptor: &Descriptor) -> Option<PendingUpgrade> {
        self.lock().get(descriptor).cloned()
    }

    /// All pending upgrades.
    pub fn pending(&self) -> Vec<PendingUpgrade> {
        self.lock().pending().to_vec()
    }

    /// What to write to disk, if anything has changed since the last call; an empty list means to delete the record.
    pub fn take_changes(&self) -> Option<Vec<PendingUpgrade>> {
        self.lock().take_changes()
    }

    /// Whether the node has to stop after the block of `height`, where `epoch` is that of the next block.
    ///
    /// # Errors
    /// [`apps_core::Error::Fatal`] if an upgrade is in an impossible state.
    pub fn check_after_commit(&self, epoch: Epoch, height: i64) -> Result<std::result::Result<(), Halt>> {
        Ok(match self.lock().advance(epoch, height)? {
            Due::Stop => Err(Halt::Upgrade),
            Due::Nothing | Due::Handlers(_) => Ok(()),
        })
    }
}

impl Upgrader for Upgrades {
    fn consensus_upgrade(&self, ctx: &mut Context<'_>, epoch: Epoch) -> Result<std::result::Result<(), Halt>> {
        let due = self.lock().advance(epoch, ctx.last_block_height())?;
        match due {
            Due::Stop => Ok(Err(Halt::Upgrade)),
            Due::Nothing => Ok(Ok(())),
            Due::Handlers(handlers) => {
                handlers.into_iter().try_for_each(|h| h.consensus_upgrade(ctx))?;
                Ok(Ok(()))
            }
        }
    }

    fn has_pending_upgrade_at(&self, height: i64) -> Result<bool> {
        self.lock().has_pending_upgrade_at(height)
    }
}
