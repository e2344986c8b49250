//! `oasis-node debug clear-upgrades`: forgets pending upgrades, so that a test network can go on after one that no
//! program can do. The reference's test runner edits the reference's database for this.

use std::process::ExitCode;

use base_service::data_dir::DataDir;
use node_run::CommonStore;

use crate::args::Session;
use crate::tool::{Done, Failure, OrFail as _, end};

const MODULE: &str = "cmd/debug/upgrades";

pub(crate) fn run(session: &Session) -> ExitCode {
    end(clear(session))
}

fn clear(session: &Session) -> Done {
    if !session.options.dont_blame_oasis {
        return Err(Failure::new(MODULE, "needs --debug.dont_blame_oasis: a network's upgrade must not be forgotten"));
    }
    if session.config.common.data_dir.is_empty() {
        return Err(Failure::new(MODULE, "data directory must be set"));
    }
    let dir = session.data_dir();
    let _lock = DataDir::open(&dir).or_fail(MODULE, "failed to lock data directory")?;
    let store = CommonStore::open(&dir).or_fail(MODULE, "failed to open common node store")?;
    store.save_upgrades(&[]).or_fail(MODULE, "failed to clear pending upgrades")
}
