//! Arbitrary bytes never panic, and the leniencies of the reference's decoder are ours.

use proptest::prelude::*;
use wire_cometbft::abci::AbciResponses;
use wire_cometbft::bits::BitArray;
use wire_cometbft::block::{Block, Commit, CommitSig, Header, LightBlock};
use wire_cometbft::blocksync::BlocksyncMessage;
use wire_cometbft::consensus::{ConsensusMessage, NewRoundStep};
use wire_cometbft::evidence::{Evidence, EvidenceList};
use wire_cometbft::keys::{PublicKey, PublicKeySum};
use wire_cometbft::mempool::MempoolMessage;
use wire_cometbft::p2p::{AuthSigMessage, NodeInfo, Packet, PexMessage};
use wire_cometbft::params::ConsensusParamsUpdate;
use wire_cometbft::state::State;
use wire_cometbft::statesync::StatesyncMessage;
use wire_cometbft::validators::{Validator, ValidatorSet};
use wire_cometbft::vote::Vote;
use wire_cometbft::wal::{TimedWalMessage, WalReader};
use wire_cometbft::{DecodeError, Message, Time};

/// Decodes; what decodes must encode to something that decodes to the same.
fn probe<M: Message + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        let encoded = message.encode_to_vec();
        assert_eq!(M::decode(&encoded).unwrap(), message);
        assert_eq!(M::decode(&encoded).unwrap().encode_to_vec(), encoded);
    }
}

fn probe_all(bytes: &[u8]) {
    probe::<Block>(bytes);
    probe::<LightBlock>(bytes);
    probe::<ValidatorSet>(bytes);
    probe::<AbciResponses>(bytes);
    probe::<ConsensusMessage>(bytes);
    probe::<BlocksyncMessage>(bytes);
    probe::<StatesyncMessage>(bytes);
    probe::<MempoolMessage>(bytes);
    probe::<Packet>(bytes);
    probe::<PexMessage>(bytes);
    probe::<NodeInfo>(bytes);
    probe::<AuthSigMessage>(bytes);
    probe::<TimedWalMessage>(bytes);
    probe::<State>(bytes);
    probe::<ConsensusParamsUpdate>(bytes);
    let _ = Block::decode_checked(bytes);
    let _ = EvidenceList::decode_checked(bytes, 1000);
    let _ = ConsensusMessage::decode_checked(bytes, 1000);
    let _ = BlocksyncMessage::decode(bytes).map(|message| message.validate_basic());
    let _ = StatesyncMessage::decode(bytes).map(|message| message.validate_basic());
    let _ = LightBlock::decode(bytes).map(|block| block.validate_basic("x").is_ok());
    WalReader::new(bytes).for_each(drop);
}

/// Bytes that look like messages: keys of low fields, short lengths, nesting.
fn message_like() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        (1u8..16, any::<u64>()).prop_map(|(number, value)| {
            let mut out = vec![number << 3];
            wire_cometbft::codec::put_varint(value, &mut out);
            out
        }),
        (1u8..16, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(number, body)| delimited(number, &body)),
        (1u8..16, any::<[u8; 8]>()).prop_map(|(number, body)| [&[number << 3 | 1][..], &body].concat()),
        prop::collection::vec(any::<u8>(), 1..4),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        (1u8..8, prop::collection::vec(inner, 0..6)).prop_map(|(number, parts)| delimited(number, &parts.concat()))
    })
}

fn delimited(number: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    wire_cometbft::codec::put_varint(body.len() as u64, &mut out);
    out.extend_from_slice(body);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        probe_all(&bytes);
    }

    #[test]
    fn nested_bytes(parts in prop::collection::vec(message_like(), 0..8)) {
        probe_all(&parts.concat());
    }
}

#[test]
fn changed_and_cut_recorded_blocks() {
    let chain = &dev_testkit::chains::Chain::all().unwrap()[0];
    let recorded = &chain.blocks().unwrap()[3];
    for bytes in [&recorded.block, &recorded.abci_responses, &recorded.validators, &recorded.seen_commit] {
        for at in 0..bytes.len() {
            let _ = (Block::decode(&bytes[..at]), AbciResponses::decode(&bytes[..at]));
            let mut changed = bytes.clone();
            changed[at] ^= 0xff;
            probe::<Block>(&changed);
            probe::<AbciResponses>(&changed);
            probe::<ValidatorSet>(&changed);
            probe::<Commit>(&changed);
        }
    }
}

#[test]
fn varints_drop_high_bits_and_end_after_ten_bytes() {
    let height = |bytes: &[u8]| NewRoundStep::decode(&[&[0x08][..], bytes].concat()).map(|step| step.height);
    assert_eq!(height(&[0xff; 9].iter().copied().chain([0x7f]).collect::<Vec<_>>()), Ok(-1));
    assert_eq!(height(&[0x81, 0x80, 0x00]), Ok(1));
    assert_eq!(height(&[0x80; 10]), Err(DecodeError::IntegerOverflow));
    assert_eq!(height(&[0x80; 9]), Err(DecodeError::UnexpectedEnd));
    // An int32 takes the low 32 bits.
    assert_eq!(NewRoundStep::decode(&[0x10, 0x81, 0x80, 0x80, 0x80, 0x10]).unwrap().round, 1);
    // A flag takes the low eight bits.
    let sig = CommitSig::decode(&[0x08, 0x82, 0x02]).unwrap();
    assert!(sig.is_for_block());
    // A field number takes the low 32 bits of the key shifted by 3: 2^35 + 8 is field 1.
    assert_eq!(NewRoundStep::decode(&[0x88, 0x80, 0x80, 0x80, 0x80, 0x01, 0x05]).unwrap().height, 5);
}

#[test]
fn unknown_fields_and_groups_are_skipped() {
    // Field 100 as varint, eight bytes, bytes, a group holding a group, four bytes; then height 7.
    let bytes = hex::decode("a00601a1060102030405060708a20602aaaaa306a306a406a406a506010203040807").unwrap();
    assert_eq!(NewRoundStep::decode(&bytes).unwrap().height, 7);
    for (bad, error) in [
        ("a306", DecodeError::UnexpectedEnd),
        ("a406", DecodeError::UnexpectedEndGroup),
        ("a606", DecodeError::IllegalWireType(6)),
        ("00", DecodeError::IllegalFieldNumber),
        ("0a00", DecodeError::WrongWireType(1)),
        ("a206ffffffffffffffffff01", DecodeError::NegativeLength),
        ("a206ffffffff0f", DecodeError::UnexpectedEnd),
    ] {
        assert_eq!(NewRoundStep::decode(&hex::decode(bad).unwrap()), Err(error), "{bad}");
    }
    let deep = vec![0x0b; 1_000_000];
    assert!(Header::decode(&deep).is_err());
}

#[test]
fn the_last_time_and_oneof_count_and_messages_merge() {
    // Two timestamps: the second is empty, so 1970, not the first's seconds.
    let vote = Vote::decode(&hex::decode("2a0208052a00").unwrap()).unwrap();
    assert_eq!(vote.timestamp, Time::UNIX_EPOCH);
    assert_eq!(Vote::default().timestamp, Time::ZERO);
    assert!(Vote::decode(&hex::decode("2a0b08ffffffffffffffff7f").unwrap()).is_err());
    assert!(Vote::decode(&hex::decode("2a061080 94ebdc03".replace(' ', "")).unwrap()).is_err());
    // Two block ids: the second adds the parts to the first's hash.
    let vote = Vote::decode(&hex::decode("22030a01aa22041202080922").unwrap());
    assert!(vote.is_err());
    let vote = Vote::decode(&hex::decode("22030a01aa220412020809").unwrap()).unwrap();
    assert_eq!((vote.block_id.hash, vote.block_id.part_set_header.total), (vec![0xaa], 9));
    // A later member of a oneof replaces an earlier one; an empty one still counts.
    let key = PublicKey::decode(&hex::decode("0a01aa1200").unwrap()).unwrap();
    assert_eq!(key.sum, Some(PublicKeySum::Secp256k1(vec![])));
    assert_eq!(hex::encode(key.encode_to_vec()), "1200");
    let message = ConsensusMessage::decode(&hex::decode("0a0208050a021003").unwrap()).unwrap();
    assert_eq!(hex::encode(message.encode_to_vec()), "0a021003");
}

/// The last integer of a packed row may reach beyond the row's stated length, as in the reference.
#[test]
fn packed_rows_may_overreach() {
    let row = BitArray::decode(&hex::decode("08051201b01a").unwrap()).unwrap();
    assert_eq!((row.bits, row.elems), (5, vec![0xd30]));
    assert_eq!(BitArray::decode(&hex::decode("10051006").unwrap()).unwrap().elems, [5, 6]);
    for bad in ["12021a", "1201b0", "1205"] {
        assert_eq!(BitArray::decode(&hex::decode(bad).unwrap()), Err(DecodeError::UnexpectedEnd));
    }
}

/// What two bytes of input can make us hold.
#[test]
fn list_elements_are_small() {
    assert!(size_of::<Evidence>() <= 24, "{}", size_of::<Evidence>());
    assert!(size_of::<CommitSig>() <= 80, "{}", size_of::<CommitSig>());
    assert!(size_of::<Validator>() <= 80, "{}", size_of::<Validator>());
}

#[test]
fn lists_are_bounded() {
    let flood: Vec<u8> = [0x0a, 0x00].repeat(100_001);
    assert_eq!(EvidenceList::decode(&flood), Err(DecodeError::TooMany { number: 1, max: 100_000 }));
    let flood: Vec<u8> = [0x22, 0x00].repeat(10_001);
    assert_eq!(Commit::decode(&flood), Err(DecodeError::TooMany { number: 4, max: 10_000 }));
    assert_eq!(Commit::decode(&flood[2..]).unwrap().signatures.len(), 10_000);
    let flood: Vec<u8> = [0x0a, 0x00].repeat(10_001);
    assert!(ValidatorSet::decode(&flood).is_err());
    let long = [0x08, 0x01];
    assert_eq!(NewRoundStep::decode_limited(&long, 1), Err(DecodeError::TooLong { len: 2, max: 1 }));
    assert!(NewRoundStep::decode_delimited(&[0xff, 0xff, 0x7f, 0], 100).is_err());
}
