//! Every block, commit, result set, validator set and log record of the recorded chains.

use dev_testkit::chains::{Chain, RecordedBlock};
use wire_cometbft::abci::{AbciResponses, results_hash};
use wire_cometbft::block::{Block, BlockId, Commit};
use wire_cometbft::limits::BLOCK_PART_BYTES;
use wire_cometbft::part_set::PartSet;
use wire_cometbft::validators::ValidatorSet;
use wire_cometbft::wal::{WalReader, encode_record};
use wire_cometbft::{DecodeError, Message};

fn again<M: Message>(bytes: &[u8]) -> Result<M, DecodeError> {
    let message = M::decode(bytes)?;
    assert_eq!(message.encode_to_vec(), bytes, "re-encoding differs");
    assert_eq!(message.encoded_len(), bytes.len());
    Ok(message)
}

fn check_block(recorded: &RecordedBlock, last: Option<&(Block, AbciResponses)>) -> (Block, AbciResponses) {
    let block: Block = again(&recorded.block).unwrap();
    assert_eq!(Block::decode_checked(&recorded.block).unwrap(), block);
    let header = &block.header;
    assert_eq!(header.hash().unwrap().as_slice(), recorded.hash.as_slice());
    assert_eq!(header.data_hash, block.data.hash());
    assert_eq!(header.evidence_hash, block.evidence.hash());
    assert_eq!(header.last_commit_hash, block.last_commit.as_ref().unwrap().hash());

    let parts = PartSet::from_bytes(&recorded.block, BLOCK_PART_BYTES);
    assert_eq!(parts.assemble().unwrap(), recorded.block);
    let seen: Commit = again(&recorded.seen_commit).unwrap();
    seen.validate_basic().unwrap();
    let id = BlockId { hash: recorded.hash.to_vec(), part_set_header: parts.header().clone() };
    assert_eq!((seen.height, &seen.block_id), (header.height, &id));
    assert_eq!(block.id().unwrap(), id);
    for (index, entry) in seen.signatures.iter().enumerate() {
        let vote = seen.vote(index).unwrap();
        if !entry.is_absent() {
            vote.validate_basic().unwrap();
            assert_eq!(vote.commit_sig().unwrap(), *entry);
            assert_eq!(vote.sign_bytes(&header.chain_id), seen.sign_bytes(&header.chain_id, index).unwrap());
        }
    }

    let responses: AbciResponses = again(&recorded.abci_responses).unwrap();
    assert_eq!(responses.deliver_txs.len(), block.data.txs.len());
    let validators: ValidatorSet = again(&recorded.validators).unwrap();
    validators.validate_basic().unwrap();
    assert_eq!(header.validators_hash, validators.hash());
    if let Some((last, last_responses)) = last {
        assert_eq!(header.last_block_id, last.id().unwrap());
        assert_eq!(header.validators_hash, last.header.next_validators_hash);
        assert_eq!(header.last_results_hash, results_hash(&last_responses.deliver_txs));
    }
    (block, responses)
}

#[test]
fn every_recorded_block_encodes_and_hashes_the_same() {
    let mut count = 0;
    for chain in Chain::all().unwrap() {
        let mut last = None;
        for recorded in chain.blocks().unwrap() {
            last = Some(check_block(&recorded, last.as_ref()));
            count += 1;
        }
    }
    assert!(count >= 1000, "only {count} recorded blocks");
}

#[test]
fn every_log_record_reads_and_encodes_the_same() {
    let (mut logs, mut records) = (0, 0);
    for chain in Chain::all().unwrap() {
        let Some(log) = chain.wal().unwrap() else {
            continue;
        };
        let mut reader = WalReader::new(&log);
        let mut start = 0;
        while let Some(record) = reader.next() {
            let record = record.unwrap();
            assert_eq!(encode_record(&record).unwrap(), log[start..reader.offset()], "{}", chain.name);
            start = reader.offset();
            records += 1;
        }
        assert_eq!(reader.offset(), log.len());
        logs += 1;
    }
    assert!(logs >= 8 && records >= 15_000, "{logs} logs, {records} records");
}

#[test]
fn a_torn_or_changed_log_stops_at_the_bad_record() {
    let chains = Chain::all().unwrap();
    let log = chains.iter().find_map(|chain| chain.wal().unwrap()).unwrap();
    let mut starts = vec![0];
    let mut reader = WalReader::new(&log);
    while reader.next().is_some() && starts.len() < 40 {
        starts.push(reader.offset());
    }
    let prefix = &log[..*starts.last().unwrap()];
    for bit in 0..prefix.len() * 8 {
        let mut changed = prefix.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        let record = starts.iter().rposition(|&start| start <= bit / 8).unwrap();
        let results: Vec<_> = WalReader::new(&changed).collect();
        assert_eq!(results.len(), record + 1);
        assert!(results.last().unwrap().is_err(), "bit {bit}");
        assert!(results[..record].iter().all(Result::is_ok));
    }
    for len in 0..prefix.len() {
        let whole = starts.iter().filter(|&&start| start > 0 && start <= len).count();
        let ok = WalReader::new(&prefix[..len]).take_while(Result::is_ok).count();
        assert_eq!(ok, whole);
    }
}

/// No changed bit of a block gives another block that passes for the recorded one.
#[test]
fn every_changed_bit_of_a_block_is_refused() {
    let (mut refused, mut other_id, mut same) = (0, 0, 0);
    for name in ["debond", "vault", "gas-fees-staking"] {
        let chain = Chain::open(&dev_testkit::paths::vectors_dir().join("chains").join(name));
        let blocks = chain.blocks().unwrap();
        let recorded = blocks[2..].iter().min_by_key(|b| b.block.len()).unwrap();
        let original = Block::decode(&recorded.block).unwrap();
        let id = original.id().unwrap();
        for bit in 0..recorded.block.len() * 8 {
            let mut changed = recorded.block.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // The parts are proven against the id, so this alone refuses the bytes in gossip.
            assert_ne!(PartSet::from_bytes(&changed, BLOCK_PART_BYTES).header(), &id.part_set_header);
            match Block::decode_checked(&changed) {
                Err(_) => refused += 1,
                Ok(block) if block == original => same += 1,
                Ok(block) => {
                    assert_ne!(block.id().as_ref(), Some(&id), "bit {bit} of {name}");
                    other_id += 1;
                }
            }
        }
    }
    // Bits that the reference's decoder drops too: above the 32nd of nanoseconds, and what turns the empty evidence
    // list into an unknown field.
    assert!(refused > 15_000 && same < 60, "{refused} refused, {other_id} other id, {same} same");
}
