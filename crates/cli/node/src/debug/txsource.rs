//! `oasis-node debug txsource`: random transactions for tests of networks. Reference: `go/oasis-node/cmd/debug/txsource`.

use std::process::ExitCode;

use cli_txsource::TxsourceArgs;
use wire_consensus::genesis::Document;

use crate::args::Session;
use crate::client::ClientArgs;
use crate::tool::{Done, Failure, OrFail as _, end, read_text};

const MODULE: &str = "cmd/txsource";

/// `debug txsource`.
#[derive(clap::Args)]
pub(crate) struct SourceArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    source: TxsourceArgs,
}

pub(crate) fn run(args: &SourceArgs, session: &Session) -> ExitCode {
    end(send(args, session))
}

fn send(args: &SourceArgs, session: &Session) -> Done {
    if !session.options.dont_blame_oasis {
        return Err(Failure::new(MODULE, "needs --debug.dont_blame_oasis: it spends what it can"));
    }
    let what = "genesis get document failed";
    let text = read_text(&args.source.genesis).or_fail(MODULE, what)?;
    let chain = Document::from_json(&text).or_fail(MODULE, what)?.chain_context();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.or_fail(MODULE, "failed to start the runtime")?;
    runtime.block_on(async {
        let client = args.client.dial().await.or_fail(MODULE, "failed to establish connection with node")?;
        cli_txsource::run(args.source.clone(), client, chain).await.or_fail(MODULE, "workload error")
    })
}
