//! The registry: entities, nodes and runtimes. Source: `go/consensus/cometbft/apps/registry`.

use apps_core::{Context, Error, Message, MessageKind, Reply, Result, Service, kv::KvRead};
use base_codec::{Raw, cbor::Decode};
use base_crypto::context::ChainContext;
use comet_chain::app::ValidatorUpdate;
use wire_consensus::{
    errors::registry as codes,
    genesis::Document,
    known::Claim,
    registry::{
        METHOD_DEREGISTER_ENTITY, METHOD_PROVE_FRESHNESS, METHOD_REGISTER_ENTITY, METHOD_REGISTER_NODE,
        METHOD_REGISTER_RUNTIME, METHOD_UNFREEZE_NODE,
    },
};

mod admission;
mod epoch;
mod genesis;
mod messages;
pub mod query;
mod runtime;
pub mod sanity;
pub mod state;
pub mod tee;
#[cfg(test)]
mod tests;
mod tx;
pub mod verify;

/// Name of the service.
pub const NAME: &str = "200_registry";
/// Priority of its transactions in the pool.
pub const PRIORITY: i64 = 50_000;
/// Added to the priority of node registrations: they keep the network alive.
const NODE_PRIORITY: i64 = 10_000;

/// The registry service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Registry;

/// Decodes the argument of a method.
fn argument<T: Decode>(body: &Raw) -> Result<T> {
    body.decode_as().map_err(|_| Error::from(&codes::INVALID_ARGUMENT))
}

impl Service for Registry {
    fn name(&self) -> &'static str {
        NAME
    }

    fn methods(&self) -> &'static [&'static str] {
        &[
            METHOD_REGISTER_ENTITY,
            METHOD_DEREGISTER_ENTITY,
            METHOD_REGISTER_NODE,
            METHOD_UNFREEZE_NODE,
            METHOD_REGISTER_RUNTIME,
            METHOD_PROVE_FRESHNESS,
        ]
    }

    fn init_chain(&self, ctx: &mut Context<'_>, doc: &Document) -> Result<()> {
        genesis::init_chain(ctx, &doc.registry)
    }

    fn begin_block(&self, ctx: &mut Context<'_>) -> Result<()> {
        epoch::begin_block(ctx)
    }

    fn execute_tx(&self, ctx: &mut Context<'_>, method: &str, body: &Raw) -> Result<()> {
        ctx.set_priority(PRIORITY);
        match method {
            METHOD_REGISTER_ENTITY => tx::register_entity(ctx, &argument(body)?),
            METHOD_DEREGISTER_ENTITY => tx::deregister_entity(ctx),
            METHOD_REGISTER_NODE => {
                let signed = argument(body)?;
                ctx.set_priority(PRIORITY + NODE_PRIORITY);
                tx::register_node(ctx, &signed)
            }
            METHOD_UNFREEZE_NODE => tx::unfreeze_node(ctx, &argument(body)?),
            METHOD_REGISTER_RUNTIME => runtime::register(ctx, argument(body)?).map(drop),
            METHOD_PROVE_FRESHNESS => {
                // Any blob will do: that it is on chain is the proof.
                let _: [u8; 32] = argument(body)?;
                tx::prove_freshness(ctx)
            }
            _ => Err((&codes::INVALID_ARGUMENT).into()),
        }
    }

    fn claims(&self, _chain: &ChainContext, method: &str, body: &Raw, claims: &mut Vec<Claim>) {
        match method {
            METHOD_REGISTER_ENTITY => claims.extend(body.decode_as().ok().and_then(|s| verify::entity_claim(&s))),
            METHOD_REGISTER_NODE => {
                if let Ok(signed) = body.decode_as() {
                    claims.extend(verify::node_claims(&signed));
                }
            }
            _ => {}
        }
    }

    fn end_block(&self, _ctx: &mut Context<'_>) -> Result<Vec<ValidatorUpdate>> {
        Ok(Vec::new())
    }

    fn handles(&self, kind: MessageKind) -> bool {
        matches!(
            kind,
            MessageKind::RuntimeRegistry | MessageKind::ChangeParameters | MessageKind::ValidateParameterChanges
        )
    }

    fn message(&self, ctx: &mut Context<'_>, message: &Message<'_>) -> Result<Option<Reply>> {
        messages::handle(ctx, message)
    }

    fn export_genesis(&self, state: &dyn KvRead, _height: i64, doc: &mut Document) -> Result<()> {
        doc.registry = genesis::export(state)?;
        Ok(())
    }
}
