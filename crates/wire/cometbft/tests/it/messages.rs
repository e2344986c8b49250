//! Bytes of single messages and sign bytes, as tabulated in the reference's own tests.

use wire_cometbft::bits::BitArray;
use wire_cometbft::block::{Block, BlockId, Commit, ConsensusVersion, Data, Header, PartSetHeader};
use wire_cometbft::blocksync::*;
use wire_cometbft::consensus::*;
use wire_cometbft::evidence::{DuplicateVoteEvidence, EvidenceList};
use wire_cometbft::mempool::{MempoolMessage, MempoolMessageSum, Txs};
use wire_cometbft::merkle::{Proof, sha256};
use wire_cometbft::p2p::*;
use wire_cometbft::part_set::Part;
use wire_cometbft::statesync::*;
use wire_cometbft::vote::{Proposal, SignedMsgType, Vote};
use wire_cometbft::{Message, Time};

fn check<M: Message + PartialEq + std::fmt::Debug>(message: M, expected: &str) {
    let bytes = message.encode_to_vec();
    assert_eq!(hex::encode(&bytes), expected);
    assert_eq!(M::decode(&bytes).unwrap(), message);
    assert_eq!(M::decode_limited(&bytes, bytes.len()).unwrap(), message);
    let delimited = message.encode_delimited();
    assert_eq!(M::decode_delimited(&delimited, bytes.len()).unwrap(), (message, &[][..]));
}

fn time(text: &str) -> Time {
    Time::parse_rfc3339(text).unwrap()
}

const MARKS: &[u8] = b"add_more_exclamation_marks_code-";
const MARKS_HEX: &str = "6164645f6d6f72655f6578636c616d6174696f6e5f6d61726b735f636f64652d";

fn marks_id() -> BlockId {
    BlockId { hash: MARKS.to_vec(), part_set_header: PartSetHeader { total: 1, hash: MARKS.to_vec() } }
}

#[test]
fn consensus_messages() {
    let check = |sum: ConsensusMessageSum, expected: String| check(ConsensusMessage::from(sum), &expected);
    let step = NewRoundStep { height: 1, round: 1, step: 1, seconds_since_start_time: 1, last_commit_round: 1 };
    check(ConsensusMessageSum::NewRoundStep(step), "0a0a08011001180120012801".into());
    let most = NewRoundStep {
        height: i64::MAX,
        round: i32::MAX,
        step: u32::MAX,
        seconds_since_start_time: i64::MAX,
        last_commit_round: i32::MAX,
    };
    check(
        ConsensusMessageSum::NewRoundStep(most),
        "0a2608ffffffffffffffff7f10ffffffff0718ffffffff0f20ffffffffffffffff7f28ffffffff07".into(),
    );
    let valid = NewValidBlock {
        height: 1,
        round: 1,
        block_part_set_header: marks_id().part_set_header,
        block_parts: Some(BitArray::new(1)),
        is_commit: false,
    };
    let psh = format!("08011220{MARKS_HEX}");
    check(ConsensusMessageSum::NewValidBlock(valid), format!("1231080110011a24{psh}22050801120100"));
    let id = format!("480a20{MARKS_HEX}1224{psh}");
    let proposal = Proposal {
        kind: SignedMsgType::PROPOSAL,
        height: 1,
        round: 1,
        pol_round: 1,
        block_id: marks_id(),
        timestamp: time("2018-08-30T12:00:00Z"),
        signature: b"add_more_exclamation".to_vec(),
    };
    let exclamation = "6164645f6d6f72655f6578636c616d6174696f6e";
    check(
        ConsensusMessageSum::Proposal(ProposalMessage { proposal }),
        format!("1a720a7008201001180120012a{id}320608c0b89fdc053a14{exclamation}"),
    );
    let pol = ProposalPol { height: 1, proposal_pol_round: 1, proposal_pol: BitArray::default() };
    check(ConsensusMessageSum::ProposalPol(pol), "2206080110011a00".into());
    let part = Part {
        index: 1,
        bytes: b"test".to_vec(),
        proof: Proof { total: 1, index: 1, leaf_hash: MARKS.to_vec(), aunts: vec![] },
    };
    check(
        ConsensusMessageSum::BlockPart(BlockPart { height: 1, round: 1, part }),
        format!("2a36080110011a3008011204746573741a26080110011a20{MARKS_HEX}"),
    );
    let vote = Vote {
        kind: SignedMsgType::PRECOMMIT,
        height: 1,
        block_id: marks_id(),
        timestamp: time("2018-08-30T12:00:00Z"),
        validator_address: b"add_more_exclamation".to_vec(),
        validator_index: 1,
        ..Vote::default()
    };
    check(
        ConsensusMessageSum::Vote(VoteMessage { vote: Some(vote) }),
        format!("32700a6e0802100122{id}2a0608c0b89fdc053214{exclamation}3801"),
    );
    let has = HasVote { height: 1, round: 1, kind: SignedMsgType::PREVOTE, index: 1 };
    check(ConsensusMessageSum::HasVote(has), "3a080801100118012001".into());
    let maj = VoteSetMaj23 { height: 1, round: 1, kind: SignedMsgType::PREVOTE, block_id: marks_id() };
    check(ConsensusMessageSum::VoteSetMaj23(maj), format!("425008011001180122{id}"));
    let bits = VoteSetBits {
        height: 1,
        round: 1,
        kind: SignedMsgType::PREVOTE,
        block_id: marks_id(),
        votes: BitArray::new(1),
    };
    check(ConsensusMessageSum::VoteSetBits(bits), format!("4a5708011001180122{id}2a050801120100"));
}

#[test]
fn consensus_messages_out_of_range_are_refused() {
    let step = NewRoundStep { height: 1, step: 1, last_commit_round: -1, ..NewRoundStep::default() };
    step.validate_basic().unwrap();
    step.validate_height(1).unwrap();
    assert!(step.validate_height(2).is_err());
    assert!(NewRoundStep { height: 2, ..step.clone() }.validate_height(1).is_err());
    for bad in [
        NewRoundStep { height: -1, ..step.clone() },
        NewRoundStep { round: -1, ..step.clone() },
        NewRoundStep { step: 0, ..step.clone() },
        NewRoundStep { step: 9, ..step.clone() },
        NewRoundStep { last_commit_round: -2, ..step.clone() },
    ] {
        assert!(ConsensusMessage::from(ConsensusMessageSum::NewRoundStep(bad)).validate_basic().is_err());
    }
    assert!(ConsensusMessage::default().validate_basic().is_err());
    assert!(ConsensusMessage::from(ConsensusMessageSum::Vote(VoteMessage::default())).validate_basic().is_err());
    let valid = NewValidBlock {
        block_part_set_header: PartSetHeader { total: 3, hash: vec![1; 32] },
        block_parts: Some(BitArray::new(3)),
        ..NewValidBlock::default()
    };
    valid.validate_basic().unwrap();
    assert!(NewValidBlock { block_parts: Some(BitArray::new(2)), ..valid.clone() }.validate_basic().is_err());
    assert!(NewValidBlock { block_parts: None, ..valid }.validate_basic().is_err());
    let votes =
        |bits| VoteSetBits { kind: SignedMsgType::PREVOTE, votes: BitArray::new(bits), ..VoteSetBits::default() };
    votes(10_000).validate_basic().unwrap();
    assert!(votes(10_001).validate_basic().is_err());
}

#[test]
fn other_channels() {
    let check_sync = |sum: BlocksyncMessageSum, hex: &str| check(BlocksyncMessage::from(sum), hex);
    check_sync(BlocksyncMessageSum::BlockRequest(BlockRequest { height: 1 }), "0a020801");
    check_sync(BlocksyncMessageSum::BlockRequest(BlockRequest { height: i64::MAX }), "0a0a08ffffffffffffffff7f");
    check_sync(BlocksyncMessageSum::NoBlockResponse(NoBlockResponse { height: 1 }), "12020801");
    check_sync(BlocksyncMessageSum::StatusRequest(StatusRequest {}), "2200");
    check_sync(BlocksyncMessageSum::StatusResponse(StatusResponse { height: 1, base: 2 }), "2a0408011002");
    let data = Data { txs: vec![b"Hello World".to_vec()] };
    let header = Header {
        version: ConsensusVersion { block: 11, app: 0 },
        height: 3,
        data_hash: data.hash().to_vec(),
        evidence_hash: EvidenceList::default().hash().to_vec(),
        ..Header::default()
    };
    let block = Block { header, data, ..Block::default() };
    check_sync(
        BlocksyncMessageSum::BlockResponse(BlockResponse { block: Some(block) }),
        "1a700a6e0a5b0a02080b1803220b088092b8c398feffffff012a0212003a20c4da88e876062aa1543400d50d0eaa0dac88096057949cfb\
         7bca7f3a48c04bf96a20e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855120d0a0b48656c6c6f20576f72\
         6c641a00",
    );

    let check_state = |sum: StatesyncMessageSum, hex: &str| check(StatesyncMessage::from(sum), hex);
    check_state(StatesyncMessageSum::SnapshotsRequest(SnapshotsRequest {}), "0a00");
    let snapshot = SnapshotsResponse {
        height: 1,
        format: 2,
        chunks: 3,
        hash: b"chuck hash".to_vec(),
        metadata: b"snapshot metadata".to_vec(),
    };
    check_state(
        StatesyncMessageSum::SnapshotsResponse(snapshot),
        "1225080110021803220a636875636b20686173682a11736e617073686f74206d65746164617461",
    );
    let request = ChunkRequest { height: 1, format: 2, index: 3 };
    check_state(StatesyncMessageSum::ChunkRequest(request), "1a06080110021803");
    let chunk = b"it's a chunk".to_vec();
    let response = ChunkResponse { height: 1, format: 2, index: 3, chunk, missing: false };
    check_state(StatesyncMessageSum::ChunkResponse(response), "2214080110021803220c697427732061206368756e6b");

    check(PexMessage::from(PexMessageSum::Request(PexRequest {})), "0a00");
    let addrs = vec![NetAddress { id: "1".into(), ip: "127.0.0.1".into(), port: 9090 }];
    check(PexMessage::from(PexMessageSum::Addrs(PexAddrs { addrs })), "12130a110a013112093132372e302e302e31188247");
    check(Packet::from(PacketSum::Ping(PacketPing {})), "0a00");
    check(Packet::from(PacketSum::Pong(PacketPong {})), "1200");
    let data = b"data transmitted over the wire".to_vec();
    check(
        Packet::from(PacketSum::Msg(PacketMsg { channel_id: 1, eof: false, data })),
        "1a2208011a1e64617461207472616e736d6974746564206f766572207468652077697265",
    );
    let txs = Txs { txs: vec![b"proto encoding in mempool".to_vec()] };
    check(
        MempoolMessage::from(MempoolMessageSum::Txs(txs)),
        "0a1b0a1970726f746f20656e636f64696e6720696e206d656d706f6f6c",
    );
    let key = EphemeralKey { key: vec![7; 32] };
    assert_eq!(hex::encode(key.encode_delimited()), format!("220a20{}", "07".repeat(32)));
}

#[test]
fn evidence_list() {
    let vote = |kind| Vote {
        kind: SignedMsgType(kind),
        height: 3,
        round: 2,
        block_id: BlockId {
            hash: sha256(b"blockID_hash").to_vec(),
            part_set_header: PartSetHeader { total: 1_000_000, hash: sha256(b"blockID_part_set_header_hash").to_vec() },
        },
        timestamp: time("2017-12-25T03:00:01.234Z"),
        validator_address: sha256(b"validator_address")[..20].to_vec(),
        validator_index: 56789,
        signature: vec![],
    };
    let duplicate = DuplicateVoteEvidence {
        vote_a: Some(vote(2)),
        vote_b: Some(vote(1)),
        total_voting_power: 10,
        validator_power: 10,
        timestamp: time("2019-01-01T00:00:00Z"),
    };
    let vote_hex = "1003180222\
        4a0a208b01023386c371778ecb6368573e539afc3cc860ec3a2f614e54fe5652f4fc80122608c0843d122072db3d959635dff1bb567bed\
        aa70573392c5159666a3f8caf11e413aac52207a2a0b08b1d381d20510809dca6f32146af1f4111082efb388211bc72c55bcd61e9ac3d5\
        38d5bb03";
    check(
        EvidenceList { evidence: vec![duplicate.into()] },
        &format!("0a85020a82020a790802{vote_hex}12790801{vote_hex}180a200a2a060880dbaae105"),
    );
}

#[test]
fn header_hash() {
    let mut header = Header {
        version: ConsensusVersion { block: 1, app: 2 },
        chain_id: "chainId".into(),
        height: 3,
        time: time("2019-10-13T16:14:44Z"),
        last_block_id: BlockId { hash: vec![0; 32], part_set_header: PartSetHeader { total: 6, hash: vec![0; 32] } },
        last_commit_hash: sha256(b"last_commit_hash").to_vec(),
        data_hash: sha256(b"data_hash").to_vec(),
        validators_hash: sha256(b"validators_hash").to_vec(),
        next_validators_hash: sha256(b"next_validators_hash").to_vec(),
        consensus_hash: sha256(b"consensus_hash").to_vec(),
        app_hash: sha256(b"app_hash").to_vec(),
        last_results_hash: sha256(b"last_results_hash").to_vec(),
        evidence_hash: sha256(b"evidence_hash").to_vec(),
        proposer_address: sha256(b"proposer_address")[..20].to_vec(),
    };
    let expected = "f740121f553b5418c3efbd343c2dbfe9e007bb67b0d020a0741374bab65242a4";
    assert_eq!(hex::encode(header.hash().unwrap()), expected);
    header.validators_hash.clear();
    assert_eq!(header.hash(), None);
}

#[test]
fn vote_sign_bytes() {
    let check = |chain_id: &str, vote: Vote, expected: &str| {
        assert_eq!(hex::encode(vote.sign_bytes(chain_id)), expected);
    };
    let year_one = "2a0b088092b8c398feffffff01";
    let vote = |kind| Vote { kind, height: 1, round: 1, ..Vote::default() };
    let place = "110100000000000000190100000000000000";
    check("", Vote::default(), &format!("0d{year_one}"));
    check("", vote(SignedMsgType::PRECOMMIT), &format!("210802{place}{year_one}"));
    check("", vote(SignedMsgType::PREVOTE), &format!("210801{place}{year_one}"));
    check("", vote(SignedMsgType::default()), &format!("1f{place}{year_one}"));
    let chain_id = "320d746573745f636861696e5f6964";
    check("test_chain_id", vote(SignedMsgType::default()), &format!("2e{place}{year_one}{chain_id}"));
}

#[test]
fn commits_of_unknown_shape_are_refused() {
    let commit = Commit { height: 1, block_id: marks_id(), ..Commit::default() };
    assert!(commit.validate_basic().is_err());
    assert!(Commit { height: -1, ..Commit::default() }.validate_basic().is_err());
    Commit::default().validate_basic().unwrap();
}
