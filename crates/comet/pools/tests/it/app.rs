//! An application that takes transactions beginning with `+` and a priority byte, and nothing else.

use std::sync::Arc;

use comet_chain::app::{
    AppInfo, Application, BlockResults, CheckKind, CheckResult, Committed, Fatal, InitChain, InitChainResult,
    PrepareProposal, ProposedBlock, Snapshots, Verdict,
};
use comet_store::SharedApp;
use parking_lot::Mutex;

struct PlusApp;

fn unused<T>() -> Result<T, Fatal> {
    Err(Fatal::Internal("not used".into()))
}

impl Application for PlusApp {
    fn check_tx(&mut self, tx: &[u8], _: CheckKind) -> CheckResult {
        match tx {
            [b'+', priority, ..] => CheckResult { priority: i64::from(*priority), ..CheckResult::default() },
            _ => CheckResult { code: 1, log: "bad".into(), ..CheckResult::default() },
        }
    }
    fn info(&self) -> AppInfo {
        AppInfo::default()
    }
    fn init_chain(&mut self, _: &InitChain) -> Result<InitChainResult, Fatal> {
        unused()
    }
    fn prepare_proposal(&mut self, _: &PrepareProposal) -> Result<Vec<Vec<u8>>, Fatal> {
        unused()
    }
    fn process_proposal(&mut self, _: &ProposedBlock) -> Result<Verdict, Fatal> {
        unused()
    }
    fn execute(&mut self, _: &ProposedBlock) -> Result<BlockResults, Fatal> {
        unused()
    }
    fn commit(&mut self) -> Result<Committed, Fatal> {
        unused()
    }
    fn snapshots(&mut self) -> &mut dyn Snapshots {
        panic!("not used")
    }
}

pub(crate) fn shared() -> SharedApp {
    let app: Box<dyn Application> = Box::new(PlusApp);
    Arc::new(Mutex::new(app))
}
