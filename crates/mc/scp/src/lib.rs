//! Federated voting of MobileCoin: the Stellar Consensus Protocol as a pure state machine.
//!
//! Layer: L2, pure: time comes in as an argument, messages go in and out as values. Counterpart in the reference:
//! `mc-consensus-scp`, written from the published protocol and from recorded runs.
//!
//! It does not sign, send or store messages, nor know what values mean: an [`Application`] says which values are valid and
//! which go together.
//!
//! Main types: [`Node`], [`slot::Slot`], functions of [`quorum`], [`leader`] and [`message`].
//!
//! Invariants: within a slot the node's statements never contradict each other (votes and accepted statements only grow,
//! a commit vote is withdrawn only by an accepted abort); an externalized slot never changes. Work per message is
//! polynomial in the number of senders, which is bounded, and no message grows state but its sender's own entry.
//!
//! Tested by recorded runs (`vectors/mobilecoin/scp.json`, crate `dev-mobilecoin`) and by simulated networks with lost,
//! reordered and repeated messages, partitions, crashes and equivocating nodes.

pub mod leader;
pub mod message;
pub mod node;
pub mod quorum;
pub mod slot;
pub mod warnings;

pub use node::{Application, Node};
