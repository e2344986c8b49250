//! `oasis-node genesis …`.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use wire_consensus::genesis::Document;

use crate::{
    UnsafeOptions,
    tool::{fail, read_text},
};

/// Subcommands of `genesis`.
#[derive(Subcommand)]
pub(crate) enum GenesisCommand {
    /// Check a genesis document: every rule of the network, and the canonical form of the file.
    Check(FileArgs),
    /// Print the chain context: the hash of a genesis document.
    DumpHash(FileArgs),
}

#[derive(clap::Args)]
pub(crate) struct FileArgs {
    /// Path of the genesis document.
    #[arg(long = "genesis.file", visible_alias = "genesis_file", short = 'g', default_value = "genesis.json")]
    file: PathBuf,
}

pub(crate) fn run(command: &GenesisCommand, options: UnsafeOptions) -> ExitCode {
    let result = match command {
        GenesisCommand::Check(args) => check(args, options),
        GenesisCommand::DumpHash(args) => dump_hash(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(e),
    }
}

fn dump_hash(args: &FileArgs) -> Result<(), String> {
    let text = read_text(&args.file)?;
    let doc = Document::from_json(&text).map_err(|e| format!("{}: {e}", args.file.display()))?;
    println!("{}", doc.chain_context());
    Ok(())
}

fn check(args: &FileArgs, options: UnsafeOptions) -> Result<(), String> {
    let file = args.file.display();
    let text = read_text(&args.file)?;
    let (doc, unknown) = Document::from_json_with_unknown(&text).map_err(|e| format!("{file}: {e}"))?;
    if let Some(path) = unknown.first() {
        return Err(format!("{file}: unknown field {path} ({} unknown in all); remove it or correct its name", unknown.len()));
    }
    doc.sanity_check(options.dont_blame_oasis).map_err(|e| format!("{file}: {e}"))?;
    let canonical = doc.to_canonical_json();
    let differing = canonical.lines().zip(text.lines()).position(|(a, b)| a != b);
    if let Some(line) = differing {
        return Err(format!(
            "{file}: not in canonical form: line {} should read {:?}",
            line + 1,
            canonical.lines().nth(line).unwrap_or_default()
        ));
    }
    if canonical != text {
        return Err(format!("{file}: not in canonical form: expected {} bytes, found {}", canonical.len(), text.len()));
    }
    Ok(())
}
