//! Without a subcommand: runs the node.

use std::path::Path;
use std::process::ExitCode;

use base_service::{chain, signals};
use node_config::Config;
use node_run::{Ended, Node, Options, RunError, init_logging};

use crate::args::SignerArgs;
use crate::{UnsafeOptions, tool};

/// Runs the node that the file describes until it is told to stop: 0 if it ended as asked or planned, 1 otherwise.
pub(crate) fn run(config: Option<&Path>, unsafe_options: UnsafeOptions, signer: &SignerArgs) -> ExitCode {
    let path = config;
    let loaded = match crate::config::load(path) {
        Ok(loaded) => loaded,
        Err(error) => return tool::fail(&error),
    };
    let local = unsafe_options.local();
    let options = Options {
        dont_blame_oasis: local.allow_debug,
        allow_test_keys: local.allow_test_keys,
        tee: local.tee,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        votes: false,
        signer: signer.config(),
    };
    if let Err(error) = prepare(&loaded.config) {
        return tool::fail(&error);
    }
    crate::config::warn(path, &loaded);
    let config = loaded.config;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tool::fail(&error),
    };
    runtime.block_on(serve(config, options))
}

/// What went wrong and what to do about it, in one line.
fn with_remedy(reason: String, remedy: Option<&str>) -> String {
    match remedy {
        Some(remedy) => format!("{reason}; {remedy}"),
        None => reason,
    }
}

/// The log file may lie in the data directory, which therefore is made first.
fn prepare(config: &Config) -> Result<(), RunError> {
    base_service::limits::private_files();
    base_service::data_dir::prepare(Path::new(&config.common.data_dir))?;
    init_logging(config)
}

async fn serve(config: Config, options: Options) -> ExitCode {
    let stop = match signals::stop_token() {
        Ok(stop) => stop,
        Err(error) => return tool::fail(&error),
    };
    let started = tokio::select! {
        started = Node::start(config, options, stop.clone()) => started,
        () = stop.cancelled() => return ExitCode::SUCCESS,
    };
    let node = match started {
        Ok(node) => node,
        Err(error) => {
            let reason = with_remedy(chain(&error), error.remedy());
            tracing::error!(module = "oasis-node", err = reason, "failed to start node");
            return tool::fail(reason);
        }
    };
    match node.run().await {
        Ended::Requested => ExitCode::SUCCESS,
        Ended::Halted(reason) => {
            tracing::info!(module = "oasis-node", reason, "node halted");
            ExitCode::SUCCESS
        }
        Ended::Failed(reason) => {
            tracing::error!(module = "oasis-node", err = reason, "node failed");
            tool::fail(reason)
        }
    }
}
