//! A page and a terminal view that show a network while it runs: nodes, blocks, votes, ParaTimes, transactions, logs.
//!
//! Layer: L4. Reference counterpart: none.
//!
//! It only reads: it asks nodes over their sockets what any operator may ask, and reads the log files that it was given.
//! It holds no state but a cache of the newest blocks.
//!
//! Main types: [`Target`] (a node to ask), [`Dashboard`] (asks all of them), [`Overview`] (what they answered),
//! [`serve`] (the page), [`text`] (the terminal).
//!
//! Invariants: nothing is asked while nobody looks; answers are at most [`MAX_AGE`] old and shared by all who look; sizes
//! of lists, logs and answers are bounded; pages of other sites cannot read anything, as only requests that name an
//! address of this machine are answered; the page needs nothing from elsewhere.
//!
//! Tests: recorded shapes of answers, filters of logs, refusal of other hosts; the page itself in a headless browser over
//! a network of real processes (`bin/oasis-devnet/tests`).

mod collect;
mod logs;
mod overview;
mod serve;
#[cfg(test)]
mod tests;
pub mod text;

pub use collect::{Dashboard, MAX_AGE, Target};
pub use logs::{LogQuery, MAX_LINES};
pub use overview::{
    BlockView, ComponentView, MemberView, NodeView, Overview, ParaTimeView, RoundView, State, TxView, ValidatorView,
};
pub use serve::{DashboardError, serve};
