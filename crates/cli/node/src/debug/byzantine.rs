//! `oasis-node debug byzantine …`: nodes that break rules, for tests of networks.

use std::process::ExitCode;

use cli_byzantine::{ByzantineArgs, Launch};
use node_run::Options;

use crate::args::Session;
use crate::tool::{OrFail as _, end};

const MODULE: &str = "cmd/byzantine";

pub(crate) fn run(args: &ByzantineArgs, session: &Session) -> ExitCode {
    let local = session.options.local();
    let options = Options {
        dont_blame_oasis: local.allow_debug,
        allow_test_keys: local.allow_test_keys,
        tee: local.tee,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        votes: false,
        signer: session.signer.config(),
    };
    let launch = Launch { config: session.config.clone(), options, test_entity: session.is_test_entity() };
    end(cli_byzantine::run(args, launch).or_fail(MODULE, "the node could not play its part"))
}
