//! CometBFT blocks, commits, votes and validator sets.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire_cometbft::{
    Message,
    abci::AbciResponses,
    block::{Block, Commit},
    validators::ValidatorSet,
    wal,
};

fuzz_target!(|data: &[u8]| {
    if let Ok(block) = Block::decode_checked(data) {
        let _ = block.hash();
        let _ = block.validate_basic();
    }
    let _ = Commit::decode(data);
    let _ = ValidatorSet::decode(data);
    let _ = AbciResponses::decode(data);
    for record in wal::WalReader::new(data) {
        let _ = record;
    }
});
