//! Governance service: proposals, votes, and what accepted proposals do.
//!
//! Reference: `go/consensus/cometbft/apps/governance`.

mod deposits;
pub mod epoch;
pub mod genesis;
pub mod messages;
pub mod query;
pub mod state;
#[cfg(test)]
mod tests;
pub mod tx;

use apps_core::{Context, Error, Message, MessageKind, Reply, Result, Service, kv::KvRead};
use base_codec::{Raw, cbor::Decode};
use comet_chain::app::ValidatorUpdate;
use wire_consensus::{
    errors::governance as codes,
    genesis::Document,
    governance::{METHOD_CAST_VOTE, METHOD_SUBMIT_PROPOSAL, METHODS},
};

use crate::upgrade::Upgrades;

/// Name of the service.
pub const NAME: &str = "300_governance";
/// Priority of the service's transactions.
const PRIORITY: i64 = 25_000;

/// The governance service.
#[derive(Clone, Debug, Default)]
pub struct Governance {
    upgrades: Option<Upgrades>,
}

impl Governance {
    /// The service; `upgrades` is told of upgrades that are scheduled or canceled. Without it upgrades are decided on
    /// but not followed.
    pub fn new(upgrades: Option<Upgrades>) -> Self {
        Self { upgrades }
    }
}

fn decode<T: Decode>(body: &Raw) -> Result<T> {
    body.decode_as().map_err(|e| Error::from(&codes::INVALID_ARGUMENT).context(e))
}

impl Service for Governance {
    fn name(&self) -> &'static str {
        NAME
    }

    fn methods(&self) -> &'static [&'static str] {
        METHODS
    }

    fn handles(&self, kind: MessageKind) -> bool {
        matches!(
            kind,
            MessageKind::RuntimeGovernance
                | MessageKind::StateSyncCompleted
                | MessageKind::ChangeParameters
                | MessageKind::ValidateParameterChanges
        )
    }

    fn init_chain(&self, ctx: &mut Context<'_>, doc: &Document) -> Result<()> {
        genesis::init_chain(ctx, &doc.governance)
    }

    fn begin_block(&self, ctx: &mut Context<'_>) -> Result<()> {
        epoch::begin_block(ctx, self.upgrades.as_ref())
    }

    fn execute_tx(&self, ctx: &mut Context<'_>, method: &str, body: &Raw) -> Result<()> {
        ctx.set_priority(PRIORITY);
        match method {
            METHOD_SUBMIT_PROPOSAL => tx::submit_proposal(ctx, &decode(body)?).map(|_| ()),
            METHOD_CAST_VOTE => tx::cast_vote(ctx, &decode(body)?, tx::Origin::Transaction),
            _ => Err(Error::from(&codes::INVALID_ARGUMENT)),
        }
    }

    fn end_block(&self, ctx: &mut Context<'_>) -> Result<Vec<ValidatorUpdate>> {
        epoch::end_block(ctx, self.upgrades.as_ref())?;
        Ok(Vec::new())
    }

    fn message(&self, ctx: &mut Context<'_>, msg: &Message<'_>) -> Result<Option<Reply>> {
        messages::handle(ctx, self.upgrades.as_ref(), msg)
    }

    fn export_genesis(&self, kv: &dyn KvRead, _height: i64, doc: &mut Document) -> Result<()> {
        doc.governance = query::genesis(kv)?;
        Ok(())
    }
}
