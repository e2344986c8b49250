//! The first state of secrets.

use apps_core::{Context, Error, Result};
use wire_consensus::{genesis::Document, keymanager::StatusUpdateEvent};

use super::state;
use crate::{NAME, common};

/// Writes the parameters, and the statuses of key managers that are registered.
///
/// # Errors
/// If a status has a committee.
pub fn init_chain(ctx: &mut Context<'_>, doc: &Document) -> Result<()> {
    let section = &doc.keymanager;
    state::set_parameters(&mut ctx.state(), &section.parameters)?;
    let runtimes = common::genesis_runtimes(doc);
    let mut stored = Vec::new();
    for status in section.statuses.iter().filter(|s| runtimes.contains_key(&s.id)) {
        if status.nodes.is_some() {
            return Err(Error::Uncoded(format!("keymanager: genesis key manager {} has nodes", status.id)));
        }
        state::set_status(&mut ctx.state(), status)?;
        stored.push(status.clone());
    }
    if !stored.is_empty() {
        ctx.emit(NAME, &StatusUpdateEvent { statuses: Some(stored) });
    }
    Ok(())
}
