//! The list of pending upgrades and its rules, without any I/O.

use apps_core::{Error, Result};
use base_prims::Epoch;
use wire_consensus::{
    errors::upgrade as codes,
    upgrade::{Descriptor, HEIGHT_INVALID, PendingUpgrade, STAGE_CONSENSUS, STAGE_STARTUP},
};

use super::Handler;

/// What is due at a height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// The node has to stop: it cannot follow an upgrade in place.
    Stop,
    /// These handlers run in the block being executed.
    Handlers(Vec<Handler>),
}

/// Pending upgrades of this node. Source: `go/upgrade/upgrade.go`.
#[derive(Clone, Debug, Default)]
pub struct Manager {
    pending: Vec<PendingUpgrade>,
    stopped: bool,
    changed: bool,
}

/// Marks a stage as done.
fn push_stage(p: &mut PendingUpgrade, stage: u64) -> Result<()> {
    if p.last_completed_stage.checked_add(1) != Some(stage) {
        return Err(Error::Fatal(format!(
            "upgrade: out of order upgrade stage execution: {stage} after {}",
            p.last_completed_stage
        )));
    }
    p.last_completed_stage = stage;
    Ok(())
}

/// The handler of an upgrade.
fn handler_of(descriptor: &Descriptor) -> Result<Handler> {
    Handler::by_name(&descriptor.handler)
        .ok_or_else(|| Error::Uncoded(format!("missing migration handler: {}", descriptor.handler)))
}

/// The handler of an upgrade that this node can follow without a restart.
fn handler_in_place(descriptor: &Descriptor) -> Option<Handler> {
    descriptor.ensure_compatible().ok()?;
    Handler::by_name(&descriptor.handler).filter(|h| !h.has_startup_stage())
}

impl Manager {
    /// Takes up the upgrades that were pending when the node stopped.
    ///
    /// # Errors
    /// If one is due and this program does not speak its protocol or lacks its handler.
    pub fn new(pending: Vec<PendingUpgrade>) -> Result<Self> {
        for p in pending.iter().filter(|p| !p.is_completed() && p.upgrade_height != HEIGHT_INVALID) {
            let descriptor = p.descriptor.as_ref().ok_or_else(|| Error::from(&codes::BAD_DESCRIPTOR))?;
            descriptor.ensure_compatible()?;
            handler_of(descriptor)?;
        }
        let mut manager = Self { pending, ..Self::default() };
        manager.flush();
        Ok(manager)
    }

    /// Runs the startup stage of upgrades that are due; at the start of the node.
    ///
    /// # Errors
    /// If this program lacks a handler.
    pub fn run_startup_stages(&mut self) -> Result<()> {
        for p in &mut self.pending {
            if p.upgrade_height == HEIGHT_INVALID || p.has_stage(STAGE_STARTUP) {
                continue;
            }
            // No handler has anything to do in this stage; what matters is that a program that has the handler runs.
            p.descriptor.as_ref().map(handler_of).transpose()?;
            push_stage(p, STAGE_STARTUP)?;
        }
        self.flush();
        Ok(())
    }

    /// Drops what is completed and remembers that there is something to write.
    fn flush(&mut self) {
        self.pending.retain(|p| !p.is_completed());
        self.changed = true;
    }

    /// See [`super::Upgrades::take_changes`].
    pub fn take_changes(&mut self) -> Option<Vec<PendingUpgrade>> {
        std::mem::take(&mut self.changed).then(|| self.pending.clone())
    }

    /// All pending upgrades.
    pub fn pending(&self) -> &[PendingUpgrade] {
        &self.pending
    }

    /// What is known of an upgrade.
    pub fn get(&self, descriptor: &Descriptor) -> Option<&PendingUpgrade> {
        self.pending.iter().find(|p| p.is_for(descriptor))
    }

    /// Adds an upgrade.
    ///
    /// # Errors
    /// `upgrade/5` if the same upgrade is pending already.
    pub fn submit(&mut self, descriptor: &Descriptor) -> Result<()> {
        if self.get(descriptor).is_some() {
            return Err(Error::from(&codes::ALREADY_PENDING));
        }
        self.pending.push(PendingUpgrade::new(descriptor.clone()));
        self.flush();
        Ok(())
    }

    /// Removes an upgrade; that there is none is no error.
    ///
    /// # Errors
    /// `upgrade/6` if the upgrade is under way.
    pub fn cancel(&mut self, descriptor: &Descriptor) -> Result<()> {
        let under_way = |p: &PendingUpgrade| p.upgrade_height != HEIGHT_INVALID || p.last_completed_stage > 0;
        if self.pending.iter().any(|p| p.is_for(descriptor) && under_way(p)) {
            return Err(Error::from(&codes::UPGRADE_IN_PROGRESS));
        }
        self.pending.retain(|p| !p.is_for(descriptor));
        self.flush();
        Ok(())
    }

    /// Whether an upgrade is under way whose upgrade height is `height`.
    ///
    /// # Errors
    /// If the height is that which stands for none.
    pub fn has_pending_upgrade_at(&self, height: i64) -> Result<bool> {
        if height == HEIGHT_INVALID {
            return Err(Error::uncoded("upgrade: invalid upgrade height specified"));
        }
        Ok(self.pending.iter().any(|p| !p.is_completed() && p.upgrade_height == height))
    }

    /// Finds out what is due. `height` is that of the last block; `epoch` that of the block after it.
    ///
    /// An upgrade whose epoch has come gets `height` as its upgrade height: its handler is due while that is the last
    /// block. Afterwards the upgrade is completed and forgotten. Once the node has to stop, that is always the answer.
    ///
    /// # Errors
    /// [`Error::Fatal`] for stages out of order and upgrade heights in the future, which only a tampered record can
    /// lead to; [`Error::Uncoded`] if the handler of an upgrade that has begun is missing.
    pub fn advance(&mut self, epoch: Epoch, height: i64) -> Result<Due> {
        if self.stopped {
            return Ok(Due::Stop);
        }
        let mut due = Vec::new();
        let mut changed = false;
        for p in &mut self.pending {
            let Some(descriptor) = &p.descriptor else { return Err(Error::from(&codes::BAD_DESCRIPTOR)) };
            if p.upgrade_height == HEIGHT_INVALID {
                if epoch < descriptor.epoch {
                    continue;
                }
                p.upgrade_height = height;
                changed = true;
                if handler_in_place(descriptor).is_none() {
                    self.stopped = true;
                    self.flush();
                    return Ok(Due::Stop);
                }
                push_stage(p, STAGE_STARTUP)?;
            }
            if p.upgrade_height < height {
                push_stage(p, STAGE_CONSENSUS)?;
                changed = true;
                continue;
            }
            if p.upgrade_height > height {
                return Err(Error::Fatal(format!(
                    "upgrade: upgrade height {} is in the future of height {height}",
                    p.upgrade_height
                )));
            }
            if !p.has_stage(STAGE_CONSENSUS)
                && let Some(descriptor) = &p.descriptor
            {
                due.push(handler_of(descriptor)?);
            }
        }
        if changed {
            self.flush();
        }
        Ok(if due.is_empty() { Due::Nothing } else { Due::Handlers(due) })
    }
}
