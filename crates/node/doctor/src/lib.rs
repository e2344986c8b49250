//! Checks of the machine and the configuration, with remedies: what operators' guides list under troubleshooting.
//!
//! Layer: L4. Reference counterpart: none.
//!
//! It changes nothing: it makes and removes a file in the data directory and a folder in the temporary directory, listens
//! for a moment on free ports, and asks a time server. It does not open databases and does not talk to a running node.
//!
//! Main types: [`gather`] collects [`Facts`] from the system; [`examine`] turns them into [`Check`]s without touching
//! anything; [`to_text`] and [`to_json`] print them.
//!
//! Invariants: every verdict that is not good names what to do; every wait has an end; what the configuration does not need
//! is never a failure.
//!
//! Tests: every verdict from made-up facts; gathering on the machine that runs the tests.

mod facts;
mod gather;
mod verdict;

pub use facts::*;
pub use gather::{Options, gather};
pub use verdict::examine;

use serde_json::json;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Good.
    Ok,
    /// Works, but not well, or perhaps not.
    Warn,
    /// The node will not work.
    Fail,
}

impl State {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// A check with its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// How it went.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; empty if nothing.
    pub remedy: String,
}

/// The worst outcome.
pub fn worst(checks: &[Check]) -> State {
    checks.iter().map(|check| check.state).max().unwrap_or(State::Ok)
}

/// A line per check, and one for what to do.
pub fn to_text(checks: &[Check]) -> String {
    let mut out = String::new();
    for check in checks {
        out.push_str(&format!("{:<4} {}: {}\n", check.state.name(), check.name, one_line(&check.found)));
        if !check.remedy.is_empty() {
            out.push_str(&format!("       -> {}\n", one_line(&check.remedy)));
        }
    }
    let count = |state| checks.iter().filter(|check| check.state == state).count();
    out.push_str(&format!("{} ok, {} warn, {} fail\n", count(State::Ok), count(State::Warn), count(State::Fail)));
    out
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// For programs: `{"state": …, "checks": [{"name", "state", "found", "remedy"?}]}`.
pub fn to_json(checks: &[Check]) -> String {
    let list: Vec<_> = checks
        .iter()
        .map(|check| {
            let mut item = json!({"name": check.name, "state": check.state.name(), "found": check.found});
            if !check.remedy.is_empty() {
                item["remedy"] = check.remedy.as_str().into();
            }
            item
        })
        .collect();
    let all = json!({"state": worst(checks).name(), "checks": list});
    serde_json::to_string_pretty(&all).unwrap_or_default()
}
