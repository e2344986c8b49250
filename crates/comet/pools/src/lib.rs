//! What waits for a block: transactions and evidence, and the channels on which peers exchange them.
//!
//! Layer: L3. Reference counterpart: `cometbft` (tag v0.37.18-oasis3) `mempool/v1`, `evidence/{pool,reactor}.go`.
//!
//! It does not judge transactions (that is the application's) or evidence (`comet_chain::evidence`), builds no blocks and
//! knows the heights of peers only through [`PeerHeights`].
//!
//! Main types: [`TxPool`], [`TxPoolReactor`], [`EvidencePool`], [`EvidenceReactor`].
//!
//! Invariants: each transaction in the pool was found good by the application at the newest committed state, unless
//! rechecks are off; pending evidence was verified and is not expired; evidence that was committed is never pending.
//! Every buffer that peers can fill has a bound that is a named constant or a field of the configuration.
//!
//! Tests: the transaction pool beside a plain model of the reference's rules under random operations; checks that race
//! with commits; evidence of a chain of our own making through its whole life, with restarts and failing stores; gossip
//! and floods, by themselves and over real connections.

pub mod evidence;
pub mod peers;
pub mod txs;

pub use evidence::reactor::{EVIDENCE_CHANNEL, EvidenceReactor};
pub use evidence::{AddError, Added, EvidencePool};
pub use peers::PeerHeights;
pub use txs::reactor::{TX_CHANNEL, TxPoolReactor};
pub use txs::{CheckOutcome, DropReason, DroppedTx, PoolError, TxPool, TxPoolConfig};
