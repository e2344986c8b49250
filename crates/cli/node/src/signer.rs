//! `oasis-node signer …`. Reference: `go/oasis-node/cmd/signer`.

use std::process::ExitCode;

use clap::Subcommand;
use wire_consensus::entity::{Entity, LATEST_VERSION};

use crate::args::{ENTITY_FILE, Session};
use crate::tool::{Done, OrFail as _, end, write_json};

const MODULE: &str = "cmd/signer";

/// Subcommands of `signer`.
#[derive(Subcommand)]
pub(crate) enum SignerCommand {
    /// Write an entity descriptor for the signer's key.
    Export,
}

pub(crate) fn run(command: &SignerCommand, session: &Session) -> ExitCode {
    let SignerCommand::Export = command;
    end(export(session))
}

fn export(session: &Session) -> Done {
    let what = "failed to export entity";
    let key = session.entity_key().or_fail(MODULE, what)?;
    let entity = Entity { v: LATEST_VERSION, id: key.public().into(), nodes: Vec::new() };
    write_json(&session.signer_dir().join(ENTITY_FILE), &entity).or_fail(MODULE, what)
}
