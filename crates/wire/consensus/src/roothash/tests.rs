//! Hashes that the reference publishes, and tables of the stateless rules.

use std::sync::LazyLock;

use base_codec::{Raw, cbor};
use base_crypto::{blacklist::Blacklist, context::ChainContext, ed25519::SecretKey};
use base_prims::{Hash, Namespace, PublicKey};

use super::{
    commitment::{CommitmentError, sign_rak, verify_executor_commitment},
    message::messages_hash,
    pool::Outcome,
    *,
};
use crate::{
    errors::commitment as codes,
    governance::{CancelUpgradeProposal, ProposalContent, ProposalVote, Vote},
    node::{CapabilityTee, Node},
    registry::{self, Empty, RuntimeAdmissionPolicy, VersionInfo},
    scheduler::{CommitteeNode, Role},
    staking::{Escrow, ReclaimEscrow, Transfer, Withdraw},
    tee::TeeHardware,
};

use crate::known::KnownSignatures;

fn chain() -> ChainContext {
    ChainContext::from_hash(Hash::of(&[b"test: oasis-core tests"]).as_bytes())
}

fn verifier() -> Verifier<'static> {
    static CHAIN: LazyLock<ChainContext> = LazyLock::new(chain);
    static BLACKLIST: LazyLock<Blacklist> = LazyLock::new(|| {
        let mut list = Blacklist::production();
        list.insert(*id(99).as_bytes());
        list
    });
    static KNOWN: LazyLock<KnownSignatures> = LazyLock::new(KnownSignatures::default);
    Verifier { chain: &CHAIN, blacklist: &BLACKLIST, known: &KNOWN }
}

fn hash(text: &str) -> Hash {
    text.parse().unwrap()
}

/// A namespace with the bytes of the empty hash (its flag bits are not checked).
fn odd_namespace() -> Namespace {
    Namespace::from_bytes_unchecked(*Hash::EMPTY.as_bytes())
}

#[test]
fn header_hashes_are_the_published_ones() {
    let empty = hash("677ad1a6b9f5e99ed94e5d598b6f92a4641a5f952f2d753b2a6122b6dceeb792");
    assert_eq!(Header::default().hash(), empty);
    let header = Header {
        version: 42,
        namespace: odd_namespace(),
        round: 1000,
        timestamp: Timestamp(1_560_257_841),
        header_type: HeaderType::ROUND_FAILED,
        previous_hash: empty,
        io_root: Hash::EMPTY,
        state_root: Hash::EMPTY,
        messages_hash: Hash::EMPTY,
        in_messages_hash: Hash::EMPTY,
    };
    assert_eq!(header.hash(), hash("b17374d9b36796752a787d0726ef44826bfdb3ece52545e126c8e7592663544d"));

    let empty = hash("57d73e02609a00fcf4ca43cbf8c9f12867c46942d246fb2b0bce42cbdb8db844");
    assert_eq!(ComputeResultsHeader::default().hash(), empty);
    let results = ComputeResultsHeader {
        round: 42,
        previous_hash: empty,
        io_root: Some(Hash::EMPTY),
        state_root: Some(Hash::EMPTY),
        messages_hash: Some(Hash::EMPTY),
        in_messages_hash: Some(Hash::EMPTY),
        in_messages_count: 0,
    };
    assert_eq!(results.hash(), hash("8459a9e6e3341cd2df5ada5737469a505baf92397aaa88b7100915324506d843"));
}

fn staking(m: StakingMessage) -> Message {
    Message { staking: Some(m), ..Message::default() }
}

fn governance(m: GovernanceMessage) -> Message {
    Message { governance: Some(m), ..Message::default() }
}

fn update(runtime: Runtime) -> Message {
    Message { registry: Some(RegistryMessage { v: 0, update_runtime: Some(runtime) }), ..Message::default() }
}

#[test]
fn message_hashes_are_the_published_ones() {
    let any_node = RuntimeAdmissionPolicy { any_node: Some(Empty {}), ..RuntimeAdmissionPolicy::default() };
    let cancel = CancelUpgradeProposal { proposal_id: 32 };
    let cases = [
        (
            staking(StakingMessage { transfer: Some(Transfer::default()), ..StakingMessage::default() }),
            "a6b91f974b34a9192efd12025659a768520d2f04e1dae9839677456412cdb2be",
        ),
        (
            staking(StakingMessage { withdraw: Some(Withdraw::default()), ..StakingMessage::default() }),
            "069b0fda76d804e3fd65d4bbd875c646f15798fb573ac613100df67f5ba4c3fd",
        ),
        (
            staking(StakingMessage { add_escrow: Some(Escrow::default()), ..StakingMessage::default() }),
            "65049870b9dae657390e44065df0c78176816876e67b96dac7791ee6a1aa42e2",
        ),
        (
            staking(StakingMessage { reclaim_escrow: Some(ReclaimEscrow::default()), ..StakingMessage::default() }),
            "c78547eae2f104268e49827cbe624cf2b350ee59e8d693dec0673a70a4664a2e",
        ),
        (
            update(Runtime { admission_policy: any_node, ..Runtime::default() }),
            "e6e170fb771583147255e0c96dc88615d4fd2fd28488ae489df01da201affe72",
        ),
        (
            governance(GovernanceMessage {
                cast_vote: Some(ProposalVote { id: 32, vote: Vote::YES }),
                ..GovernanceMessage::default()
            }),
            "f45e26eb8ace807ad5bd02966cde1f012d1d978d4cbddd59e9bfd742dcf39b90",
        ),
        (
            governance(GovernanceMessage {
                submit_proposal: Some(ProposalContent { cancel_upgrade: Some(cancel), ..ProposalContent::default() }),
                ..GovernanceMessage::default()
            }),
            "03312ddb5c41a30fbd29fb91cf6bf26d58073996f89657ca4f3b3a43a98bfd0b",
        ),
    ];
    for (message, expected) in cases {
        assert_eq!(messages_hash(std::slice::from_ref(&message)), hash(expected), "{message:?}");
    }
    assert_eq!(messages_hash(&[]), Hash::EMPTY);
}

#[test]
fn messages_need_exactly_one_operation() {
    let transfer = || StakingMessage { transfer: Some(Transfer::default()), ..StakingMessage::default() };
    let cases = [
        (Message::default(), false),
        (staking(StakingMessage::default()), false),
        (staking(transfer()), true),
        (staking(StakingMessage { withdraw: Some(Withdraw::default()), ..transfer() }), false),
        (Message { registry: Some(RegistryMessage::default()), ..Message::default() }, false),
        (update(Runtime::default()), true),
        (governance(GovernanceMessage::default()), false),
        (
            governance(GovernanceMessage { cast_vote: Some(ProposalVote::default()), ..GovernanceMessage::default() }),
            true,
        ),
        (
            governance(GovernanceMessage {
                v: 0,
                cast_vote: Some(ProposalVote::default()),
                submit_proposal: Some(ProposalContent::default()),
            }),
            false,
        ),
        // Only the first part that is set is looked at.
        (Message { registry: Some(RegistryMessage::default()), ..staking(transfer()) }, true),
    ];
    for (message, valid) in cases {
        assert_eq!(message.validate_basic().is_ok(), valid, "{message:?}");
    }
}

#[test]
fn results_encode_as_published() {
    let encoded = |r: &RoundResults| {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        STANDARD.encode(cbor::to_vec(r))
    };
    assert_eq!(encoded(&RoundResults::default()), "oA==");
    let failed = MessageEvent { module: "test".into(), code: 1, ..MessageEvent::default() };
    let results = RoundResults { messages: vec![failed], ..RoundResults::default() };
    assert_eq!(encoded(&results), "oWhtZXNzYWdlc4GiZGNvZGUBZm1vZHVsZWR0ZXN0");
    let with_result = MessageEvent { module: "test".into(), code: 42, index: 1, result: Raw::of("test-result") };
    let key = |i: u8| {
        let mut bytes = [0; 32];
        bytes[31] = i;
        PublicKey::new(bytes)
    };
    let results = RoundResults {
        messages: vec![with_result],
        good_compute_entities: vec![key(0), key(2)],
        bad_compute_entities: vec![key(1)],
    };
    assert_eq!(
        encoded(&results),
        "o2htZXNzYWdlc4GkZGNvZGUYKmVpbmRleAFmbW9kdWxlZHRlc3RmcmVzdWx0a3Rlc3QtcmVzdWx0dGJhZF9jb21wdXRlX2VudGl0aWVzg\
         VggAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAF1Z29vZF9jb21wdXRlX2VudGl0aWVzglggAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
         AAAAAAAAAAAABYIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAC"
    );
    assert_eq!(cbor::from_slice::<RoundResults>(&cbor::to_vec(&results)).unwrap(), results);
    // A message without result has `null` there, which is not the same as no field.
    let done = MessageEvent { result: Raw::of(&None::<u64>), ..MessageEvent::default() };
    assert_eq!(cbor::to_vec(&done), b"\xa1\x66result\xf6");
    assert_eq!(cbor::from_slice::<MessageEvent>(&cbor::to_vec(&done)).unwrap(), done);
}

#[test]
fn round_roots_are_a_list() {
    let roots = RoundRoots { state_root: Hash::EMPTY, io_root: Hash::default() };
    let bytes = cbor::to_vec(&roots);
    assert_eq!(bytes[..3], [0x82, 0x58, 32]);
    assert_eq!(cbor::from_slice::<RoundRoots>(&bytes).unwrap(), roots);
}

#[test]
fn timestamps_are_text_in_json() {
    for (secs, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (1_629_075_845, "2021-08-16T01:04:05Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (4_772_384_038, "2121-03-25T22:13:58Z"),
        (253_402_300_799, "9999-12-31T23:59:59Z"),
    ] {
        assert_eq!(Timestamp(secs).to_rfc3339().as_deref(), Some(text));
        assert_eq!(Timestamp::parse_rfc3339(text), Some(Timestamp(secs)));
    }
    assert_eq!(Timestamp::parse_rfc3339("2021-08-15T15:04:05-10:00"), Some(Timestamp(1_629_075_845)));
    assert_eq!(Timestamp::parse_rfc3339("2021-08-15T15:04:05.25+02:00"), Some(Timestamp(1_629_032_645)));
    assert_eq!(Timestamp(253_402_300_800).to_rfc3339(), None);
    for bad in [
        "",
        "2021-08-15T15:04:05",
        "2021-08-15T15:04:05Z-10:00",
        "2021-08-15T15:04:05+2:00",
        "2021-02-29T00:00:00Z",
        "2021-13-01T00:00:00Z",
        "2021-08-15T24:04:05Z",
        "2021-08-15T15:04:05.Z",
        "2021-08-15t15:04:05Z",
    ] {
        assert_eq!(Timestamp::parse_rfc3339(bad), None, "{bad}");
    }
}

#[test]
fn parameter_changes_replace_what_they_name() {
    let mut params = Parameters { max_runtime_messages: 1, max_evidence_age: 2, ..Parameters::default() };
    assert!(ParameterChanges::default().sanity_check().is_err());
    let changes = ParameterChanges {
        gas_costs: Some([("evidence".to_owned(), 5)].into()),
        max_evidence_age: Some(0),
        ..ParameterChanges::default()
    };
    changes.sanity_check().unwrap();
    changes.apply(&mut params);
    assert_eq!((params.max_runtime_messages, params.max_evidence_age), (1, 0));
    assert_eq!(params.gas_costs["evidence"], 5);
    // An empty list of costs is a change too, though it cannot be written (the field would be left out).
    ParameterChanges { gas_costs: Some([].into()), ..ParameterChanges::default() }.apply(&mut params);
    assert!(params.gas_costs.is_empty());
    // Absent numbers are `null` in all but the last field.
    assert_eq!(
        cbor::to_vec(&ParameterChanges { max_runtime_messages: Some(1), ..ParameterChanges::default() }),
        b"\xa3\x70max_evidence_age\xf6\x74max_runtime_messages\x01\x77max_in_runtime_messages\xf6"
    );
}

fn key(i: u8) -> SecretKey {
    SecretKey::from_seed(&[i; 32])
}

fn id(i: u8) -> PublicKey {
    PublicKey::new(key(i).public())
}

fn runtime_id() -> Namespace {
    "8000000000000000000000000000000000000000000000000000000000000001".parse().unwrap()
}

fn last() -> Header {
    Header { round: 9, ..Block::genesis(runtime_id(), 1).header }
}

fn results() -> ComputeResultsHeader {
    ComputeResultsHeader {
        round: 10,
        previous_hash: last().hash(),
        io_root: Some(Hash::EMPTY),
        state_root: Some(Hash::EMPTY),
        messages_hash: Some(Hash::EMPTY),
        in_messages_hash: Some(Hash::EMPTY),
        in_messages_count: 0,
    }
}

/// A commitment of node `node` to a proposal of `scheduler`; `change` makes it differ from a good one.
fn commit(
    node: u8,
    scheduler: u8,
    messages: Vec<Message>,
    change: impl FnOnce(&mut ExecutorCommitmentHeader),
) -> ExecutorCommitment {
    let mut header = ExecutorCommitmentHeader { scheduler_id: id(scheduler), header: results(), ..Default::default() };
    change(&mut header);
    ExecutorCommitment::signed(&key(node), &chain(), &runtime_id(), header, messages).unwrap()
}

fn failure(h: &mut ExecutorCommitmentHeader) {
    h.set_failure(ExecutorCommitmentFailure::UNKNOWN);
}

#[test]
fn commitments_carry_what_their_failure_says() {
    type Change = fn(&mut ExecutorCommitmentHeader);
    let cases: [(Change, bool); 14] = [
        (|_| {}, true),
        (|h| h.header.io_root = None, false),
        (|h| h.header.state_root = None, false),
        (|h| h.header.messages_hash = None, false),
        (|h| h.header.in_messages_hash = None, false),
        (|h| h.rak_signature = Some(Default::default()), true),
        (failure, true),
        (|h| h.set_failure(ExecutorCommitmentFailure::STATE_UNAVAILABLE), true),
        (|h| h.set_failure(ExecutorCommitmentFailure(3)), false),
        (
            |h| {
                failure(h);
                h.header.io_root = Some(Hash::EMPTY);
            },
            false,
        ),
        (
            |h| {
                failure(h);
                h.header.state_root = Some(Hash::EMPTY);
            },
            false,
        ),
        (
            |h| {
                failure(h);
                h.header.messages_hash = Some(Hash::EMPTY);
            },
            false,
        ),
        (
            |h| {
                failure(h);
                h.header.in_messages_count = 1;
            },
            false,
        ),
        (
            |h| {
                failure(h);
                h.rak_signature = Some(Default::default());
            },
            false,
        ),
    ];
    for (i, (change, valid)) in cases.into_iter().enumerate() {
        assert_eq!(commit(1, 1, vec![], change).validate_basic().is_ok(), valid, "case {i}");
    }
    assert!(commit(1, 1, vec![Message::default()], |_| {}).validate_basic().is_err());
    assert!(commit(1, 2, vec![update(Runtime::default())], failure).validate_basic().is_err());
}

fn verify(runtime: &Runtime, commit: &ExecutorCommitment, nodes: &[Node]) -> Result<usize, CommitmentError> {
    let mut seen = 0;
    verify_executor_commitment::<CommitmentError>(
        &verifier(),
        &last(),
        runtime,
        5,
        commit,
        &mut |id| Ok(nodes.iter().find(|n| n.id == *id).cloned()),
        &mut |messages| {
            seen += messages.len();
            Ok(())
        },
    )
    .map(|()| seen)
}

fn plain_runtime() -> Runtime {
    let mut runtime = Runtime { id: runtime_id(), ..Runtime::default() };
    runtime.executor.max_messages = 2;
    runtime
}

fn refused(code: &'static ErrorCode) -> Result<usize, CommitmentError> {
    Err(CommitmentError::Rule(code))
}

#[test]
fn commitments_are_refused_in_order() {
    let runtime = plain_runtime();
    let msgs = |n| vec![update(Runtime::default()); n];
    let with_hash = |n: usize| {
        move |h: &mut ExecutorCommitmentHeader| {
            h.header.messages_hash = Some(messages_hash(&vec![update(Runtime::default()); n]));
        }
    };
    let cases = [
        ("worker", commit(1, 2, vec![], |_| {}), Ok(0)),
        ("scheduler", commit(1, 1, vec![], |_| {}), Ok(0)),
        ("scheduler with messages", commit(1, 1, msgs(2), with_hash(2)), Ok(2)),
        ("too many messages", commit(1, 1, msgs(3), with_hash(3)), refused(&codes::INVALID_MESSAGES)),
        ("wrong messages hash", commit(1, 1, msgs(2), with_hash(1)), refused(&codes::INVALID_MESSAGES)),
        ("worker with messages", commit(1, 2, msgs(1), with_hash(1)), refused(&codes::INVALID_MESSAGES)),
        // A worker does not send messages, whatever their hash is.
        ("worker, hash of messages", commit(1, 2, vec![], with_hash(1)), Ok(0)),
        ("worker fails", commit(1, 2, vec![], failure), Ok(0)),
        ("scheduler fails", commit(1, 1, vec![], failure), refused(&codes::BAD_EXECUTOR_COMMITMENT)),
        ("wrong round", commit(1, 2, vec![], |h| h.header.round = 11), refused(&codes::NOT_BASED_ON_CORRECT_BLOCK)),
        (
            "wrong parent",
            commit(1, 2, vec![], |h| h.header.previous_hash = Hash::EMPTY),
            refused(&codes::NOT_BASED_ON_CORRECT_BLOCK),
        ),
        (
            "malformed and of the wrong round",
            commit(1, 2, vec![], |h| {
                h.header.round = 11;
                h.header.io_root = None;
            }),
            refused(&codes::BAD_EXECUTOR_COMMITMENT),
        ),
        ("blacklisted key", commit(99, 2, vec![], |_| {}), Err(CommitmentError::Signature)),
        (
            "bad signature and malformed",
            ExecutorCommitment { node_id: id(3), ..commit(1, 2, vec![], |h| h.header.io_root = None) },
            Err(CommitmentError::Signature),
        ),
    ];
    for (name, commit, expected) in cases {
        assert_eq!(verify(&runtime, &commit, &[]), expected, "{name}");
    }
}

#[test]
fn enclaves_sign_their_results() {
    let rak = key(77);
    let mut runtime = plain_runtime();
    runtime.tee_hardware = TeeHardware::INTEL_SGX;
    runtime.deployments = vec![Some(VersionInfo::default())];
    let good = commit(1, 1, vec![], |h| h.rak_signature = Some(sign_rak(&rak, &h.header).unwrap()));
    let unsigned = commit(1, 1, vec![], |_| {});
    let other = commit(1, 1, vec![], |h| h.rak_signature = Some(sign_rak(&key(78), &h.header).unwrap()));
    let tee = CapabilityTee { rak: PublicKey::new(rak.public()), ..CapabilityTee::default() };
    let node = |tee: Option<CapabilityTee>| {
        let mut registered = crate::node::Runtime { id: runtime_id(), ..Default::default() };
        registered.capabilities.tee = tee;
        Node { id: id(1), runtimes: Some(vec![registered]), ..Node::default() }
    };
    let nodes = [node(Some(tee))];
    assert_eq!(verify(&runtime, &good, &nodes), Ok(0));
    assert_eq!(verify(&runtime, &unsigned, &nodes), refused(&codes::RAK_SIG_INVALID));
    assert_eq!(verify(&runtime, &other, &nodes), refused(&codes::RAK_SIG_INVALID));
    assert_eq!(verify(&runtime, &good, &[node(None)]), refused(&codes::RAK_SIG_INVALID));
    assert_eq!(verify(&runtime, &good, &[]), refused(&codes::NOT_IN_COMMITTEE));
    let elsewhere = Node { runtimes: None, ..node(None) };
    assert_eq!(verify(&runtime, &good, &[elsewhere]), refused(&codes::NOT_IN_COMMITTEE));
    runtime.deployments = vec![Some(VersionInfo { valid_from: 6, ..VersionInfo::default() })];
    assert_eq!(verify(&runtime, &good, &nodes), refused(&codes::NO_RUNTIME));
    // Failures need no enclave.
    assert_eq!(verify(&runtime, &commit(1, 2, vec![], failure), &[]), Ok(0));
}

/// Workers 1 to 4 and backup workers 4 to 6; in round 10 worker 3 is first in line, then 4, 1 and 2.
fn committee() -> Committee {
    let member = |role| move |i| CommitteeNode { role, public_key: id(i) };
    let workers = (1..=4).map(member(Role::WORKER));
    let backups = (4..=6).map(member(Role::BACKUP_WORKER));
    Committee { members: Some(workers.chain(backups).collect()), ..Committee::default() }
}

fn other_result(h: &mut ExecutorCommitmentHeader) {
    h.header.state_root = Some(Hash::default());
}

enum Does {
    /// Node, scheduler: agrees with the scheduler.
    Ok(u8, u8),
    /// Node, scheduler: computed something else.
    Other(u8, u8),
    /// Node, scheduler: failed.
    Fails(u8, u8),
}

fn add(pool: &mut Pool, does: &Does) -> Result<(), &'static ErrorCode> {
    let commit = match *does {
        Does::Ok(n, s) => commit(n, s, vec![], |_| {}),
        Does::Other(n, s) => commit(n, s, vec![], other_result),
        Does::Fails(n, s) => commit(n, s, vec![], failure),
    };
    pool.add_verified(&committee(), &commit)
}

#[test]
fn pool_prefers_better_ranks_and_refuses_the_rest() {
    use Does::*;
    let mut pool = Pool::new();
    let c = committee();
    assert_eq!((1..=4).map(|i| c.scheduler_rank(10, &id(i))).collect::<Vec<_>>(), [Some(2), Some(3), Some(0), Some(1)]);
    // Votes may come before their scheduler's commitment, and backup workers may vote early.
    add(&mut pool, &Ok(2, 1)).unwrap();
    add(&mut pool, &Ok(5, 1)).unwrap();
    assert_eq!(pool.highest_rank, Pool::NO_RANK);
    assert_eq!(add(&mut pool, &Ok(7, 1)), Err(&codes::NOT_IN_COMMITTEE));
    assert_eq!(add(&mut pool, &Ok(1, 5)), Err(&codes::BAD_EXECUTOR_COMMITMENT), "backup workers schedule nothing");
    assert_eq!(add(&mut pool, &Ok(2, 1)), Err(&codes::ALREADY_COMMITTED));
    // Scheduler 1 of rank 2 commits, then scheduler 4 of rank 1: the former's votes are dropped.
    add(&mut pool, &Ok(1, 1)).unwrap();
    assert_eq!((pool.highest_rank, pool.scheduler_commitments.len()), (2, 1));
    add(&mut pool, &Ok(4, 4)).unwrap();
    assert_eq!(pool.highest_rank, 1);
    assert_eq!(pool.scheduler_commitments.keys().copied().collect::<Vec<_>>(), [1]);
    assert_eq!(add(&mut pool, &Ok(3, 1)), Err(&codes::BAD_EXECUTOR_COMMITMENT), "worse rank");
    // A vote for a better rank is kept beside, without changing the rank.
    add(&mut pool, &Ok(1, 3)).unwrap();
    assert_eq!((pool.highest_rank, pool.scheduler_commitments.len()), (1, 2));

    pool.discrepancy = true;
    assert_eq!(add(&mut pool, &Ok(1, 4)), Err(&codes::BAD_EXECUTOR_COMMITMENT), "only backup workers resolve");
    assert_eq!(add(&mut pool, &Ok(7, 4)), Err(&codes::BAD_EXECUTOR_COMMITMENT));
    assert_eq!(add(&mut pool, &Ok(5, 3)), Err(&codes::BAD_EXECUTOR_COMMITMENT), "other rank");
    add(&mut pool, &Ok(5, 4)).unwrap();
    // Node 4 is worker and backup worker: its vote counts in both roles, and only once.
    assert_eq!(add(&mut pool, &Ok(4, 4)), Err(&codes::ALREADY_COMMITTED));
}

#[test]
fn pool_decides() {
    use Does::*;
    let waits = "waits";
    let done = "done";
    let discrepancy = "discrepancy";
    // Commitments, stragglers, timeout, outcome of detection.
    let cases: [(&str, Vec<Does>, u16, bool, &str); 14] = [
        ("nothing", vec![], 0, false, waits),
        ("nothing in time", vec![], 0, true, "no scheduler commitment"),
        ("votes without scheduler", vec![Ok(1, 3), Ok(2, 3)], 0, true, "no scheduler commitment"),
        ("some", vec![Ok(3, 3), Ok(1, 3), Ok(2, 3)], 0, false, waits),
        ("some in time", vec![Ok(3, 3), Ok(1, 3), Ok(2, 3)], 0, true, discrepancy),
        ("all", vec![Ok(3, 3), Ok(1, 3), Ok(2, 3), Ok(4, 3)], 0, false, done),
        ("enough", vec![Ok(3, 3), Ok(1, 3), Ok(2, 3)], 1, false, done),
        ("enough with a failure", vec![Ok(3, 3), Fails(1, 3), Ok(2, 3), Ok(4, 3)], 1, false, done),
        ("a failure too many", vec![Ok(3, 3), Fails(1, 3)], 0, false, discrepancy),
        ("another result", vec![Ok(3, 3), Other(1, 3)], 3, false, discrepancy),
        ("another result, rank 1", vec![Ok(4, 4), Other(1, 4)], 3, false, waits),
        ("another result, rank 1 in time", vec![Ok(4, 4), Other(1, 4)], 3, true, discrepancy),
        ("a failure, rank 1", vec![Ok(4, 4), Fails(1, 4)], 0, false, waits),
        ("backup votes don't count", vec![Ok(3, 3), Other(5, 3), Fails(6, 3)], 0, false, waits),
    ];
    for (name, does, stragglers, timeout, expected) in cases {
        let mut pool = Pool::new();
        for d in &does {
            add(&mut pool, d).unwrap();
        }
        let outcome = pool.process(&committee(), stragglers, timeout);
        assert_eq!(name_of(&outcome), expected, "{name}");
        assert_eq!(pool.discrepancy, expected == discrepancy, "{name}");
    }
}

fn name_of(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Finalized(_) => "done",
        Outcome::StillWaiting => "waits",
        Outcome::DiscrepancyDetected => "discrepancy",
        Outcome::Failed(code) => code.message.strip_prefix("roothash/commitment: ").unwrap(),
    }
}

#[test]
fn backup_workers_resolve() {
    use Does::*;
    let unreachable = "insufficient votes to finalize discrepancy resolution round";
    // What backup workers 4, 5 and 6 do (early or late makes no difference), timeout, outcome.
    let cases: [(&str, Vec<Does>, bool, &str); 8] = [
        ("nothing", vec![], false, "waits"),
        ("nothing in time", vec![], true, unreachable),
        ("one", vec![Ok(5, 3)], false, "waits"),
        ("two agree", vec![Ok(5, 3), Ok(6, 3)], false, "done"),
        ("two agree on another result", vec![Other(5, 3), Other(6, 3)], false, "bad scheduler commitment"),
        ("one each", vec![Ok(5, 3), Other(6, 3)], false, "waits"),
        ("two fail", vec![Fails(5, 3), Fails(6, 3)], false, unreachable),
        ("one each and one fails", vec![Ok(5, 3), Other(6, 3), Fails(4, 3)], false, unreachable),
    ];
    for (name, does, timeout, expected) in cases {
        let mut pool = Pool::new();
        for d in [Ok(3, 3), Other(1, 3)].iter().chain(&does) {
            add(&mut pool, d).unwrap();
        }
        assert_eq!(pool.process(&committee(), 0, false), Outcome::DiscrepancyDetected);
        assert_eq!(name_of(&pool.process(&committee(), 0, timeout)), expected, "{name}");
    }
}

#[test]
fn detection_keeps_only_the_rank_in_doubt() {
    let mut pool = Pool::new();
    for d in [Does::Ok(1, 3), Does::Ok(4, 4), Does::Other(2, 4)] {
        add(&mut pool, &d).unwrap();
    }
    assert_eq!(pool.scheduler_commitments.len(), 2);
    assert_eq!(pool.process(&committee(), 0, true), Outcome::DiscrepancyDetected);
    assert_eq!(pool.scheduler_commitments.keys().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_fresh_pool_differs_from_a_zero_one() {
    assert_eq!(cbor::to_vec(&Pool::new()), b"\xa1\x6chighest_rank\x1b\xff\xff\xff\xff\xff\xff\xff\xff");
    assert_eq!(cbor::from_slice::<Pool>(b"\xa0").unwrap().highest_rank, 0);
    let mut pool = Pool::new();
    add(&mut pool, &Does::Fails(1, 3)).unwrap();
    let bytes = cbor::to_vec(&pool);
    assert_eq!(cbor::from_slice::<Pool>(&bytes).unwrap(), pool, "a failure is a null vote");
}

fn executor_evidence(a: ExecutorCommitment, b: ExecutorCommitment) -> Evidence {
    Evidence {
        id: runtime_id(),
        equivocation_executor: Some(EquivocationExecutorEvidence { commit_a: a, commit_b: b }),
        equivocation_proposal: None,
    }
}

#[test]
fn executor_evidence_needs_two_different_commitments() {
    let good = || commit(1, 2, vec![], |_| {});
    let cases = [
        ("other state", commit(1, 2, vec![], other_result), true),
        ("other parent", commit(1, 2, vec![], |h| h.header.previous_hash = Hash::EMPTY), true),
        ("success and failure", commit(1, 2, vec![], failure), true),
        ("equal", good(), false),
        ("other incoming messages only", commit(1, 2, vec![], |h| h.header.in_messages_count = 1), false),
        ("other enclave signature only", commit(1, 2, vec![], |h| h.rak_signature = Some(Default::default())), false),
        ("other node", commit(3, 2, vec![], other_result), false),
        ("other scheduler", commit(1, 3, vec![], other_result), false),
        ("other round", commit(1, 2, vec![], |h| h.header.round = 11), false),
        ("messages", commit(1, 2, vec![update(Runtime::default())], other_result), false),
        ("malformed", commit(1, 2, vec![], |h| h.header.io_root = None), false),
        (
            "bad signature",
            ExecutorCommitment { signature: good().signature, ..commit(1, 2, vec![], other_result) },
            false,
        ),
    ];
    for (name, other, valid) in cases {
        for evidence in [executor_evidence(good(), other.clone()), executor_evidence(other, good())] {
            assert_eq!(evidence.validate_basic(&verifier()).is_ok(), valid, "{name}");
        }
    }
    let unknown = commit(1, 2, vec![], failure);
    let unavailable = commit(1, 2, vec![], |h| h.set_failure(ExecutorCommitmentFailure::STATE_UNAVAILABLE));
    let evidence = executor_evidence(unknown, unavailable);
    evidence.validate_basic(&verifier()).unwrap();
    assert_eq!(evidence.culprit(), Some((id(1), 10)));
    assert_eq!(evidence.hash(), Some(Hash::of(&[&[1], id(1).as_bytes()])));
    let elsewhere = Evidence { id: odd_namespace(), ..evidence };
    assert!(elsewhere.validate_basic(&verifier()).is_err(), "signatures are bound to the runtime");
    assert!(Evidence::default().validate_basic(&verifier()).is_err());
    assert_eq!((Evidence::default().culprit(), Evidence::default().hash()), (None, None));
}

#[test]
fn proposal_evidence_needs_two_different_headers() {
    let proposal = |node: u8, round, batch_hash| {
        let header = ProposalHeader { round, previous_hash: Hash::EMPTY, batch_hash };
        Proposal::signed(&key(node), &chain(), &runtime_id(), header, vec![]).unwrap()
    };
    let good = || proposal(1, 5, Hash::EMPTY);
    let other = || proposal(1, 5, Hash::default());
    let cases = [
        ("other batch", other(), true),
        ("equal", good(), false),
        ("other node", proposal(2, 5, Hash::default()), false),
        ("other round", proposal(1, 6, Hash::default()), false),
        ("batch", Proposal { batch: vec![Hash::EMPTY], ..other() }, false),
        ("batch signature", Proposal { batch_signature: Some(Default::default()), ..other() }, false),
        ("bad signature", Proposal { signature: good().signature, ..other() }, false),
    ];
    for (name, b, valid) in cases {
        let pair = EquivocationProposalEvidence { proposal_a: good(), proposal_b: b };
        let evidence = Evidence { id: runtime_id(), equivocation_proposal: Some(pair), ..Evidence::default() };
        assert_eq!(evidence.validate_basic(&verifier()).is_ok(), valid, "{name}");
        assert_eq!(evidence.hash(), Some(Hash::of(&[&[1], id(1).as_bytes()])));
        let both = Evidence {
            equivocation_executor: executor_evidence(commit(1, 2, vec![], |_| {}), commit(1, 2, vec![], failure))
                .equivocation_executor,
            ..evidence
        };
        assert!(both.validate_basic(&verifier()).is_err(), "{name}: only one kind at a time");
    }
}

#[test]
fn limits_of_runtimes() {
    let params = Parameters { max_runtime_messages: 2, max_in_runtime_messages: 3, ..Parameters::default() };
    let with = |out, queued| {
        let mut runtime = Runtime::default();
        runtime.executor.max_messages = out;
        runtime.txn_scheduler.max_in_messages = queued;
        validate_runtime_parameters(&runtime, &params).map_err(|e| e.code)
    };
    assert_eq!([with(2, 3), with(3, 4), with(2, 4)], [Ok(()), Err(7), Err(13)]);
    assert_eq!(registry::RuntimeKind::COMPUTE.0, 1);
}
