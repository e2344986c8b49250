//! `oasis-node debug …`.

use std::{path::PathBuf, process::ExitCode};

use apps_core::LocalConfig;
use clap::Subcommand;
use mkvs_tree::Sequential;
use node_app::{MemoryStore, NodeOptions};
use node_replay::{Options, ReplayError, replay};
use rt_tee::VerifyOptions;
use serde_json::json;

use crate::{UnsafeOptions, tool::fail};

/// Subcommands of `debug`.
#[derive(Subcommand)]
pub(crate) enum DebugCommand {
    /// Execute a recorded chain from genesis and compare everything that comes out with what was recorded.
    Replay(ReplayArgs),
}

#[derive(clap::Args)]
pub(crate) struct ReplayArgs {
    /// Folder of the recorded chain.
    #[arg(long)]
    dir: PathBuf,
    /// Last height to execute.
    #[arg(long)]
    to: Option<i64>,
    /// Compare nothing, and print the app hash of every height; only genesis and blocks are read.
    #[arg(long)]
    no_expected: bool,
}

pub(crate) fn run(command: &DebugCommand, _options: UnsafeOptions) -> ExitCode {
    match command {
        DebugCommand::Replay(args) => run_replay(args),
    }
}

fn run_replay(args: &ReplayArgs) -> ExitCode {
    // Recorded networks may be test networks; what a replay accepts never reaches a real one.
    let local = LocalConfig {
        allow_debug: true,
        allow_test_keys: true,
        tee: VerifyOptions::mock(),
        ..LocalConfig::default()
    };
    let options = Options {
        dir: args.dir.clone(),
        to: args.to,
        compare: !args.no_expected,
        node: NodeOptions { local, upgrades: Some(Default::default()) },
        store: Box::new(MemoryStore::new(Box::new(Sequential))),
    };
    match replay(options) {
        Ok(report) => {
            for (height, hash) in &report.app_hashes {
                println!("{height} {hash}");
            }
            println!("{}", report.to_json());
            if report.unchecked > 0 && !args.no_expected { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(ReplayError::Mismatch(m)) => {
            println!("{}", json!({ "mismatch": m.to_json() }));
            fail(m)
        }
        Err(e) => fail(e),
    }
}
