//! `oasis-node genesis …`. Reference: `go/oasis-node/cmd/genesis`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base_service::{out, outln};
use clap::Subcommand;
use wire_consensus::genesis::Document;

use crate::UnsafeOptions;
use crate::args::Session;
use crate::client::ClientArgs;
use crate::tool::{Done, FILE_MODE, OrFail as _, end, read_text, write_file};

mod init;
mod migrate;

const MODULE: &str = "cmd/genesis";

/// Subcommands of `genesis`.
#[derive(Subcommand)]
pub(crate) enum GenesisCommand {
    /// Make a genesis document.
    Init(Box<init::InitArgs>),
    /// Write the state of a network into a genesis document.
    Dump {
        /// Path of the genesis document.
        #[arg(long = "genesis.file", short = 'g', default_value = "genesis.json")]
        file: PathBuf,
        /// Height of the state; 0 is the newest.
        #[arg(long, default_value_t = 0)]
        height: i64,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Check a genesis document: every rule of the network, and the canonical form of the file.
    Check(FileArgs),
    /// Bring the genesis document of an older release to today's form.
    Migrate(migrate::MigrateArgs),
    /// Print the chain context: the hash of a genesis document.
    DumpHash(FileArgs),
}

#[derive(clap::Args)]
pub(crate) struct FileArgs {
    /// Path of the genesis document.
    #[arg(long = "genesis.file", visible_alias = "genesis_file", short = 'g', default_value = "genesis.json")]
    file: PathBuf,
}

pub(crate) fn run(command: &GenesisCommand, session: &Session) -> ExitCode {
    let what = "failed to get genesis document";
    end(match command {
        GenesisCommand::Init(args) => init::run(args, session),
        GenesisCommand::Dump { file, height, client } => dump(file, *height, client),
        GenesisCommand::Check(args) => check(args, session.options).or_fail(MODULE, what).map(|lines| out!("{lines}")),
        GenesisCommand::Migrate(args) => migrate::run(args, session),
        GenesisCommand::DumpHash(args) => dump_hash(args).or_fail(MODULE, what),
    })
}

fn dump_hash(args: &FileArgs) -> Result<(), String> {
    let text = read_text(&args.file)?;
    let doc = Document::from_json(&text).map_err(|e| format!("{}: {e}", args.file.display()))?;
    outln!("{}", doc.chain_context());
    Ok(())
}

fn dump(file: &Path, height: i64, client: &ClientArgs) -> Done {
    let what = "failed to generate genesis document";
    let node = client.connect(MODULE, what)?;
    let doc: Document = node.call("Consensus", "StateToGenesis", height).or_fail(MODULE, what)?;
    let text = doc.to_canonical_json();
    if file.as_os_str().is_empty() {
        out!("{text}");
        return Ok(());
    }
    write_file(file, text.as_bytes(), FILE_MODE).or_fail(MODULE, "failed to write genesis file")
}

/// What is printed about a document in order.
fn check(args: &FileArgs, options: UnsafeOptions) -> Result<String, String> {
    let file = args.file.display();
    let text = read_text(&args.file)?;
    let (doc, unknown) = Document::from_json_with_unknown(&text).map_err(|e| format!("{file}: {e}"))?;
    if let Some(path) = unknown.first() {
        return Err(format!(
            "{file}: unknown field {path} ({} unknown in all); remove it or correct its name",
            unknown.len()
        ));
    }
    node_app::sanity_check(&doc, &options.local()).map_err(|e| format!("{file}: {e}"))?;
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
    let sum = base_crypto::hash::sha256(&[text.as_bytes()]);
    Ok(format!(
        "genesis file is valid and in canonical form\ngenesis document's hash: {}\ngenesis file's SHA256 checksum: {}\n",
        doc.chain_context(),
        hex::encode(sum)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors/chains/debond/genesis.json");

    /// The error for the recorded document with `from` replaced by `to` (once), or nothing if it passes.
    fn check_edited(from: &str, to: &str) -> Option<String> {
        let text = std::fs::read_to_string(RECORDED).unwrap();
        assert!(from.is_empty() || text.contains(from), "{from}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("genesis.json");
        std::fs::write(&file, if from.is_empty() { text } else { text.replacen(from, to, 1) }).unwrap();
        let before = std::fs::read(&file).unwrap();
        let options = UnsafeOptions { dont_blame_oasis: true, allow_test_keys: true, ..UnsafeOptions::default() };
        let result = check(&FileArgs { file: file.clone() }, options).err();
        assert_eq!(std::fs::read(&file).unwrap(), before, "checking changes nothing");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "checking writes nothing");
        if let Some(e) = &result {
            assert!(e.starts_with(&file.display().to_string()), "the error names the file: {e}");
        }
        result
    }

    fn refused(from: &str, to: &str, expected: &[&str]) {
        let error = check_edited(from, to).unwrap_or_else(|| panic!("{to} was accepted"));
        for part in expected {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }

    #[test]
    fn the_recorded_document_passes() {
        assert_eq!(check_edited("", ""), None);
    }

    #[test]
    fn each_fault_is_named() {
        refused("\"height\": 1,", "\"height\": 0,", &["height must be >= 1", "found 0"]);
        refused("\"height\": 1,", "\"height\": \"one\",", &["height", "found a string"]);
        refused("\"height\": 1,", "\"height\": 1,\n  \"hight\": 1,", &["unknown field hight"]);
        refused("\"total_supply\": \"", "\"total_supply\": \"1", &["total supply"]);
        refused(
            "\"signature\": {\n          \"public_key\": \"",
            "\"signature\": {\n          \"public_key\": \"AAAA",
            &["registry.entities"],
        );
        refused("{\n  \"height\"", "{\n\"height\"", &["canonical form", "line 2"]);
        refused("\n}", "", &["json"]);
    }

    #[test]
    fn a_bad_signature_is_named() {
        let text = std::fs::read_to_string(RECORDED).unwrap();
        // The last character before the padding of the first signature.
        let at = text.find("\"signature\": \"").unwrap() + 20;
        let (old, new) = (&text[at..=at], if &text[at..=at] == "A" { "B" } else { "A" });
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("genesis.json");
        std::fs::write(&file, format!("{}{new}{}", &text[..at], &text[at + old.len()..])).unwrap();
        let options = UnsafeOptions { dont_blame_oasis: true, allow_test_keys: true, ..UnsafeOptions::default() };
        let error = check(&FileArgs { file }, options).unwrap_err();
        assert!(error.contains("registry") && error.contains("signature"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let options = UnsafeOptions::default();
        let error = check(&FileArgs { file: "/nonexistent/genesis.json".into() }, options).unwrap_err();
        assert!(error.contains("/nonexistent/genesis.json"), "{error}");
    }
}
