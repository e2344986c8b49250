//! The service and what concerns both of its extensions.

use apps_committees::registry::state as registry;
use apps_core::{Context, Error, Message, MessageKind, Reply, Result, Service, epoch, kv::KvRead};
use apps_staking::{accumulator::StakeAccumulator, state as staking};
use base_codec::Raw;
use comet_chain::app::ValidatorUpdate;
use wire_consensus::{
    churp::{METHOD_APPLY, METHOD_CONFIRM, METHOD_CREATE, METHOD_UPDATE},
    genesis::Document,
    keymanager::{METHOD_PUBLISH_EPHEMERAL_SECRET, METHOD_PUBLISH_MASTER_SECRET, METHOD_UPDATE_POLICY},
    registry::{RuntimeGovernanceModel, RuntimeKind},
};

use crate::{churp, secrets};

/// Name of the service.
pub const NAME: &str = "999_keymanager";
/// Priority of the service's transactions.
const PRIORITY: i64 = 50_000;

/// The key manager service.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyManager;

impl Service for KeyManager {
    fn name(&self) -> &'static str {
        NAME
    }

    fn methods(&self) -> &'static [&'static str] {
        &[
            METHOD_UPDATE_POLICY,
            METHOD_PUBLISH_MASTER_SECRET,
            METHOD_PUBLISH_EPHEMERAL_SECRET,
            METHOD_CREATE,
            METHOD_UPDATE,
            METHOD_APPLY,
            METHOD_CONFIRM,
        ]
    }

    fn init_chain(&self, ctx: &mut Context<'_>, doc: &Document) -> Result<()> {
        secrets::genesis::init_chain(ctx, doc)?;
        churp::genesis::init_chain(ctx, doc)
    }

    fn begin_block(&self, ctx: &mut Context<'_>) -> Result<()> {
        let Some(epoch) = epoch::epoch_changed(ctx)? else { return Ok(()) };
        suspend_runtimes(ctx)?;
        secrets::epoch::on_epoch_change(ctx, epoch)?;
        churp::epoch::on_epoch_change(ctx, epoch)
    }

    fn execute_tx(&self, ctx: &mut Context<'_>, method: &str, body: &Raw) -> Result<()> {
        ctx.set_priority(PRIORITY);
        match method {
            METHOD_UPDATE_POLICY => secrets::tx::update_policy(ctx, secrets::decode(body)?),
            METHOD_PUBLISH_MASTER_SECRET => secrets::tx::publish_master_secret(ctx, secrets::decode(body)?),
            METHOD_PUBLISH_EPHEMERAL_SECRET => secrets::tx::publish_ephemeral_secret(ctx, secrets::decode(body)?),
            METHOD_CREATE => churp::tx::create(ctx, &churp::decode(body)?),
            METHOD_UPDATE => churp::tx::update(ctx, &churp::decode(body)?),
            METHOD_APPLY => churp::tx::apply(ctx, &churp::decode(body)?),
            METHOD_CONFIRM => churp::tx::confirm(ctx, &churp::decode(body)?),
            _ => Err(Error::Uncoded(format!("keymanager: invalid method: {method}"))),
        }
    }

    fn end_block(&self, _: &mut Context<'_>) -> Result<Vec<ValidatorUpdate>> {
        Ok(Vec::new())
    }

    fn handles(&self, _: MessageKind) -> bool {
        false
    }

    fn message(&self, _: &mut Context<'_>, _: &Message<'_>) -> Result<Option<Reply>> {
        Ok(None)
    }

    fn export_genesis(&self, kv: &dyn KvRead, _height: i64, doc: &mut Document) -> Result<()> {
        doc.keymanager = secrets::query::genesis(kv)?;
        doc.keymanager.churp = Some(churp::query::genesis(kv)?);
        Ok(())
    }
}

/// Suspends key managers whose owner no longer has the stake that its claims need.
fn suspend_runtimes(ctx: &mut Context<'_>) -> Result<()> {
    if staking::parameters(&ctx.state())?.debug_bypass_stake {
        return Ok(());
    }
    let mut stake = StakeAccumulator::new(&ctx.state())?;
    for runtime in registry::runtimes(&ctx.state())? {
        if runtime.kind != RuntimeKind::KEY_MANAGER || runtime.governance_model == RuntimeGovernanceModel::CONSENSUS {
            continue;
        }
        let owner = runtime.staking_address().ok_or_else(|| {
            let model = runtime.governance_model;
            Error::Uncoded(format!("unknown runtime governance model on runtime {}: {model}", runtime.id))
        })?;
        if !stake.check_claims(&ctx.state(), &owner)? {
            registry::suspend_runtime(ctx, &runtime.id)?;
        }
    }
    Ok(())
}
