//! Scheduler service: elects validators and runtime committees.
//!
//! Reference: `go/consensus/cometbft/apps/scheduler`.

mod committees;
mod epoch;
mod force;
pub mod genesis;
mod messages;
pub mod query;
mod sortition;
pub mod state;
#[cfg(test)]
mod tests;
mod validators;

use apps_core::{Context, Error, Message, MessageKind, Reply, Result, Service, kv::KvRead};
use base_codec::Raw;
use base_prims::Epoch;
use comet_chain::app::ValidatorUpdate;
use wire_consensus::genesis::Document;

/// Name of the service.
pub const NAME: &str = "200_scheduler";

/// The scheduler service.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scheduler {
    /// First epoch of the network, from the genesis document: there are no elections in it.
    pub base_epoch: Epoch,
}

impl Service for Scheduler {
    fn name(&self) -> &'static str {
        NAME
    }

    fn methods(&self) -> &'static [&'static str] {
        &[]
    }

    fn init_chain(&self, ctx: &mut Context<'_>, doc: &Document) -> Result<()> {
        genesis::init_chain(ctx, doc)
    }

    fn begin_block(&self, ctx: &mut Context<'_>) -> Result<()> {
        epoch::begin_block(ctx, self.base_epoch)
    }

    fn execute_tx(&self, _: &mut Context<'_>, _: &str, _: &Raw) -> Result<()> {
        Err(Error::Uncoded("scheduler: unexpected transaction".to_owned()))
    }

    fn end_block(&self, ctx: &mut Context<'_>) -> Result<Vec<ValidatorUpdate>> {
        validators::update(ctx)
    }

    fn message(&self, ctx: &mut Context<'_>, msg: &Message<'_>) -> Result<Option<Reply>> {
        messages::execute(ctx, msg)
    }

    fn handles(&self, kind: MessageKind) -> bool {
        matches!(kind, MessageKind::ChangeParameters | MessageKind::ValidateParameterChanges)
    }

    fn export_genesis(&self, state: &dyn KvRead, _: i64, doc: &mut Document) -> Result<()> {
        doc.scheduler = query::genesis(state)?;
        Ok(())
    }
}
