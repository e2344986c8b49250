//! Messages of the mempool channel (0x30).
//!
//! Reference: `cometbft:proto/tendermint/mempool/types.proto`.

use crate::codec::{messages, oneofs};

messages! {
    /// Transactions.
    pub struct Txs {
        /// Transactions; an empty list is ignored by receivers.
        1 => txs: Vec<Vec<u8>>,
    }
}

oneofs! {
    /// A message of the channel.
    pub struct MempoolMessage = enum MempoolMessageSum {
        /// Transactions.
        1 => Txs(Txs),
    }
}
