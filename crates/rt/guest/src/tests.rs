//! A host in the same process: the life of a runtime, batches, and hosts that do what they must not.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base_codec::{Bytes, Raw, cbor};
use base_crypto::context;
use base_prims::{Hash, Namespace};
use mkvs_tree::{
    KvRead, KvWrite, Proof, Sequential, Tree,
    sync::{ProofResponse, ReadSyncer, Server},
};
use parking_lot::Mutex;
use wire_cometbft::{block as comet, codec::Message as _};
use wire_consensus::roothash::{Block, Header, IncomingMessage};
use wire_runtime::{
    Body, Empty, Error as WireError, Field, Message as WireMessage, MessageType,
    enclave_rpc::{Kind, Message as RpcMessage, Request, ResponseBody},
    error as codes, frame,
    host::{self, StorageSyncRequest},
    runtime::{
        CheckTxBatchRequest, CheckTxMetadata, CheckTxResult, ConsensusSyncRequest, ExecuteTxBatchRequest,
        ExecutionMode, LightBlock, LocalRpcCallRequest, QueryRequest,
    },
    transaction,
};

use super::{
    testing::{Answers, TestHost},
    *,
};

/// A test runtime's id.
const ID: Namespace = Namespace::from_bytes_unchecked({
    let mut id = [0; 32];
    id[0] = 0x80;
    id
});

/// A ParaTime whose transactions are `key=value` (set), `key-` (remove) and `!` (invalid batch).
struct Sets;

fn split(tx: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), Error> {
    let text = String::from_utf8(tx.to_vec()).map_err(Error::other)?;
    match (text.split_once('='), text.strip_suffix('-')) {
        (Some((key, value)), _) => Ok((key.into(), Some(value.into()))),
        (None, Some(key)) => Ok((key.into(), None)),
        _ => Err(Error::other("malformed")),
    }
}

impl Transactions for Sets {
    fn check(&self, _: &mut Context<'_>, batch: &[Bytes]) -> Result<Vec<CheckTxResult>, Error> {
        let check = |tx: &Bytes| match split(tx) {
            Ok(_) => CheckTxResult { meta: Field::Is(CheckTxMetadata::default()), ..CheckTxResult::default() },
            Err(error) => CheckTxResult { error: error.to_wire(), meta: Field::Null },
        };
        Ok(batch.iter().filter(|tx| ***tx != *b"lost").map(check).collect())
    }

    fn execute(
        &self,
        ctx: &mut Context<'_>,
        batch: &[Bytes],
        in_msgs: &[IncomingMessage],
    ) -> Result<BatchResult, Error> {
        let mut result = BatchResult { in_msgs_count: in_msgs.len(), ..BatchResult::default() };
        for tx in batch {
            let (key, value) = split(tx)?;
            let old = match &value {
                Some(value) => ctx.state.replace(&key, value)?,
                None => ctx.state.take(&key)?,
            };
            result.results.push(TxResult { output: old.unwrap_or_default(), tags: vec![Tag::new(*b"key", key)] });
        }
        result.block_tags.push(Tag::new(*b"block", *b"1"));
        Ok(result)
    }

    fn schedule(
        &self,
        ctx: &mut Context<'_>,
        batch: &mut Vec<Bytes>,
        in_msgs: &[IncomingMessage],
    ) -> Result<BatchResult, Error> {
        let (good, bad): (Vec<_>, Vec<_>) = batch.drain(..).partition(|tx| split(tx).is_ok());
        *batch = good;
        let more = ctx.host.tx_batch(batch.last().map(|tx| transaction::hash(tx)), 10)?;
        batch.extend(more);
        let result = self.execute(ctx, batch, in_msgs)?;
        Ok(BatchResult { rejected: bad.iter().map(|tx| transaction::hash(tx)).collect(), ..result })
    }

    fn query(&self, ctx: &mut Context<'_>, method: &str, args: &[u8]) -> Result<Vec<u8>, Error> {
        match method {
            "get" => Ok(ctx.state.get(args)?.unwrap_or_default()),
            "all" => {
                let mut all = Vec::new();
                ctx.state.iterate(b"", &mut |_, value| {
                    all.extend_from_slice(value);
                    std::ops::ControlFlow::Continue(())
                })?;
                Ok(all)
            }
            "slow" => {
                std::thread::sleep(Duration::from_millis(300));
                Ok(Vec::new())
            }
            _ => Err(Error::other("method not found")),
        }
    }
}

/// The state that the host holds, by root.
#[derive(Default)]
struct Store(Mutex<BTreeMap<Hash, Tree>>);

impl Store {
    fn put(&self, pairs: &[(&str, &str)]) -> Hash {
        let mut tree = Tree::in_memory();
        for (key, value) in pairs {
            tree.insert(key.as_bytes(), value.as_bytes()).unwrap();
        }
        let root = tree.commit(1, 0, &Sequential).root.hash;
        self.0.lock().insert(root, tree);
        root
    }

    fn sync(&self, request: &StorageSyncRequest) -> Result<Proof, String> {
        let of = request.get.as_ref().map(|r| r.tree.root);
        let of = of.or_else(|| request.iterate.as_ref().map(|r| r.tree.root)).ok_or("no tree")?;
        let trees = self.0.lock();
        let server = Server::new(trees.get(&of.hash).ok_or("unknown root")?, of, 1 << 20);
        match (&request.get, &request.iterate) {
            (Some(get), None) => server.get(get),
            (None, Some(iterate)) => server.iterate(iterate),
            _ => Err("one request".into()),
        }
    }
}

fn light_block(height: i64) -> LightBlock {
    let header = comet::Header { height, app_hash: vec![7; 32], ..comet::Header::default() };
    let signed = comet::SignedHeader { header: Some(header), commit: None };
    let block = comet::LightBlock { signed_header: Some(signed), validator_set: None };
    LightBlock { height, meta: Some(Bytes(block.encode_to_vec())) }
}

fn honest(store: &Arc<Store>) -> Answers {
    let store = Arc::clone(store);
    Box::new(move |request| match request {
        Body::HostStorageSyncRequest(request) => {
            let proof = store.sync(request).map_err(|text| WireError::new(codes::UNKNOWN, text))?;
            let proof_response = Some(ProofResponse { proof });
            Ok(Body::HostStorageSyncResponse(host::StorageSyncResponse { proof_response }))
        }
        Body::HostFetchTxBatchRequest(_) => {
            let batch = Some(vec![Bytes(b"more=4".to_vec())]);
            Ok(Body::HostFetchTxBatchResponse(host::FetchTxBatchResponse { batch }))
        }
        Body::HostFetchConsensusBlockRequest(request) => {
            let block = light_block(request.height.max(5) as i64);
            Ok(Body::HostFetchConsensusBlockResponse(host::FetchConsensusBlockResponse { block }))
        }
        _ => Err(WireError::method_not_supported()),
    })
}

fn init() -> Init {
    Box::new(|env| {
        let mut services = Services { transactions: Some(Box::new(Sets)), ..Services::default() };
        let id = env.runtime_id();
        services.methods.add("id", Kind::LOCAL_QUERY, move |_, _: Raw| Ok(id));
        Ok(services)
    })
}

fn start(store: &Arc<Store>) -> TestHost {
    let host = TestHost::start(Config::default(), init(), honest(store)).unwrap();
    host.call(TestHost::info(ID)).unwrap();
    host
}

fn header(state_root: Hash) -> Header {
    Header { namespace: ID, round: 3, state_root, ..Header::default() }
}

fn execute(state_root: Hash, mode: ExecutionMode, inputs: &[&str]) -> ExecuteTxBatchRequest {
    let inputs: Vec<Bytes> = inputs.iter().map(|tx| Bytes(tx.as_bytes().to_vec())).collect();
    let mut tree = Tree::in_memory();
    for (key, value) in transaction::input_pairs(&inputs).unwrap() {
        tree.insert(&key, &value).unwrap();
    }
    let io_root = if mode == ExecutionMode::SCHEDULE { Hash::default() } else { tree.root_hash(&Sequential) };
    ExecuteTxBatchRequest {
        mode,
        consensus_block: light_block(9),
        io_root,
        inputs: Some(inputs),
        block: Block { header: header(state_root) },
        ..ExecuteTxBatchRequest::default()
    }
}

fn run(
    host: &TestHost,
    request: ExecuteTxBatchRequest,
) -> Result<wire_runtime::runtime::ExecuteTxBatchResponse, WireError> {
    match host.call(Body::RuntimeExecuteTxBatchRequest(Box::new(request)))? {
        Body::RuntimeExecuteTxBatchResponse(response) => Ok(*response),
        other => panic!("{}", other.name()),
    }
}

fn query(state_root: Hash, method: &str, args: &str) -> Body {
    Body::RuntimeQueryRequest(Box::new(QueryRequest {
        consensus_block: light_block(9),
        header: header(state_root),
        method: method.into(),
        args: Bytes(args.as_bytes().to_vec()),
        ..QueryRequest::default()
    }))
}

fn answer(body: Body) -> Vec<u8> {
    match body {
        Body::RuntimeQueryResponse(response) => response.data.0,
        other => panic!("{}", other.name()),
    }
}

#[test]
fn the_handshake_comes_first_and_once() {
    let host = TestHost::start(Config::default(), init(), honest(&Arc::default())).unwrap();
    assert_eq!(host.call(Body::RuntimePingRequest(Empty {})), Ok(Body::Empty(Empty {})));
    let sync = Body::RuntimeConsensusSyncRequest(ConsensusSyncRequest { height: 7 });
    assert!(host.call(sync.clone()).unwrap_err().is(codes::DISPATCHER));
    let mut other = TestHost::info(ID);
    if let Body::RuntimeInfoRequest(info) = &mut other {
        info.consensus_backend = "other".into();
    }
    assert!(host.call(other).is_err());
    assert!(matches!(host.call(TestHost::info(ID)), Ok(Body::RuntimeInfoResponse(_))));
    assert!(host.call(TestHost::info(ID)).unwrap_err().message.contains("already initialized"));
    assert!(matches!(host.call(sync), Ok(Body::RuntimeConsensusSyncResponse(_))));
    for body in [Body::RuntimeAbortRequest(Empty {}), Body::RuntimeShutdownRequest(Empty {})] {
        assert!(host.call(body).unwrap_err().is(codes::DISPATCHER));
    }
    let request = Request { method: "id".into(), args: Raw::default() };
    let local = LocalRpcCallRequest { request: Some(Bytes(cbor::to_vec(&request))) };
    let Ok(Body::RuntimeLocalRPCCallResponse(response)) = host.call(Body::RuntimeLocalRPCCallRequest(local)) else {
        panic!("no answer")
    };
    let response: RpcMessage = cbor::from_slice(&response.response.unwrap()).unwrap();
    assert!(matches!(response, RpcMessage::Response(r) if r.body == ResponseBody::Success(Raw::of(&ID))));
    assert!(matches!(host.finish(), Ok(End::Closed)));
}

#[test]
fn batches_lead_to_the_roots_of_what_they_write() {
    let store = Arc::<Store>::default();
    let root = store.put(&[("a", "1"), ("b", "2"), ("c", "3")]);
    let host = start(&store);
    let response = run(&host, execute(root, ExecutionMode::EXECUTE, &["a=9", "b-", "x-"])).unwrap();
    let expected = store.put(&[("a", "9"), ("c", "3")]);
    assert_eq!(response.batch.header.state_root, Some(expected));
    assert_eq!(response.batch.header.round, 4);
    // A key that was never there and is removed is no change.
    assert_eq!(response.batch.state_write_log.as_ref().map(Vec::len), Some(2));
    let blob = cbor::to_vec(&response.batch.header);
    let rak = crate::identity::Identity::new(tee::Tee::None).unwrap().rak();
    let signature = response.batch.rak_sig;
    let context = &context::COMPUTE_RESULTS_HEADER;
    let signed = context::verify_with_context(rak.as_bytes(), context, None, None, &blob, signature.as_bytes());
    assert_eq!(signed, Ok(true));
    // The I/O tree is that of the write logs.
    let mut io = Tree::in_memory();
    let inputs = response.tx_input_write_log.into_option().unwrap();
    mkvs_tree::writelog::apply(&inputs, &mut io).unwrap();
    assert_eq!(io.root_hash(&Sequential), response.tx_input_root);
    mkvs_tree::writelog::apply(&response.batch.io_write_log.unwrap(), &mut io).unwrap();
    assert_eq!(Some(io.root_hash(&Sequential)), response.batch.header.io_root);

    // The next round starts from what is known already.
    let asked = host.asked().len();
    let mut next = execute(expected, ExecutionMode::EXECUTE, &["d=5"]);
    next.block.header.round = 4;
    let response = run(&host, next).unwrap();
    assert_eq!(response.batch.header.state_root, Some(store.put(&[("a", "9"), ("c", "3"), ("d", "5")])));
    assert_eq!(host.asked().len(), asked, "no node was fetched again");
}

#[test]
fn scheduling_chooses_and_asks_for_more() {
    let store = Arc::<Store>::default();
    let root = store.put(&[]);
    let host = start(&store);
    let response = run(&host, execute(root, ExecutionMode::SCHEDULE, &["a=1", "bad"])).unwrap();
    let hash = |tx: &str| transaction::hash(tx.as_bytes());
    assert_eq!(response.tx_hashes, Field::Is(vec![hash("a=1"), hash("more=4")]));
    assert_eq!(response.tx_reject_hashes, Field::Is(vec![hash("bad")]));
    assert_eq!(response.batch.header.state_root, Some(store.put(&[("a", "1"), ("more", "4")])));
    let check = CheckTxBatchRequest {
        consensus_block: light_block(9),
        inputs: Some(vec![Bytes(b"a=1".to_vec()), Bytes(b"bad".to_vec())]),
        block: Block { header: header(root) },
        ..CheckTxBatchRequest::default()
    };
    let Ok(Body::RuntimeCheckTxBatchResponse(checked)) =
        host.call(Body::RuntimeCheckTxBatchRequest(Box::new(check.clone())))
    else {
        panic!("no answer")
    };
    let verdicts: Vec<bool> = checked.results.as_slice().iter().map(|r| r.error.is_success()).collect();
    assert_eq!(verdicts, [true, false]);
    // A ParaTime that forgets a result is not passed on.
    let lost = CheckTxBatchRequest { inputs: Some(vec![Bytes(b"lost".to_vec())]), ..check };
    assert!(host.call(Body::RuntimeCheckTxBatchRequest(Box::new(lost))).is_err());
}

#[test]
fn requests_that_contradict_themselves_are_refused() {
    let store = Arc::<Store>::default();
    let root = store.put(&[("a", "1")]);
    let host = start(&store);
    let mut wrong_root = execute(root, ExecutionMode::EXECUTE, &["a=2"]);
    wrong_root.io_root = Hash::EMPTY;
    assert!(run(&host, wrong_root).unwrap_err().message.contains("I/O root inconsistent"));
    let mut other = execute(root, ExecutionMode::EXECUTE, &["a=2"]);
    other.block.header.namespace = Namespace::ZERO;
    assert!(run(&host, other).unwrap_err().message.contains("does not match runtime id"));
    let mut no_block = execute(root, ExecutionMode::EXECUTE, &["a=2"]);
    no_block.consensus_block.meta = None;
    assert!(run(&host, no_block).unwrap_err().is(codes::VERIFIER_VERIFICATION_FAILED));
    assert!(run(&host, execute(root, ExecutionMode::EXECUTE, &["!"])).is_err());
    let unknown = run(&host, execute(Hash::of(&[b"unknown"]), ExecutionMode::EXECUTE, &["a=2"]));
    assert!(unknown.unwrap_err().message.contains("unknown root"));
    let mut last = execute(root, ExecutionMode::EXECUTE, &["a=2"]);
    last.block.header.round = u64::MAX;
    assert!(run(&host, last).is_err());
    // Nothing of that has spoiled the state.
    assert_eq!(answer(host.call(query(root, "get", "a")).unwrap()), b"1");
}

#[test]
fn proofs_that_do_not_hold_are_not_believed() {
    let store = Arc::<Store>::default();
    let (root, other) = (store.put(&[("a", "1"), ("b", "2")]), store.put(&[("a", "6"), ("b", "2")]));
    let (asked, inner) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&store));
    let count = Arc::clone(&asked);
    let lies: Answers = Box::new(move |request| {
        let Body::HostStorageSyncRequest(request) = request else { return Err(WireError::method_not_supported()) };
        let mut request = (**request).clone();
        let proof_response = match count.fetch_add(1, Ordering::SeqCst) {
            // Of another tree, under its own name and under the name asked for.
            n @ (0 | 1) => {
                let get = request.get.as_mut().unwrap();
                get.tree.root.hash = other;
                get.tree.position = other;
                let mut proof = inner.sync(&request).unwrap();
                if n == 1 {
                    proof.untrusted_root = root;
                }
                Some(ProofResponse { proof })
            }
            2 => None,
            3 => Some(ProofResponse { proof: Proof { untrusted_root: root, ..Proof::default() } }),
            _ => Some(ProofResponse { proof: inner.sync(&request).unwrap() }),
        };
        Ok(Body::HostStorageSyncResponse(host::StorageSyncResponse { proof_response }))
    });
    let host = TestHost::start(Config::default(), init(), lies).unwrap();
    host.call(TestHost::info(ID)).unwrap();
    for lie in 0..4 {
        assert!(host.call(query(root, "get", "a")).is_err(), "lie {lie}");
    }
    assert_eq!(answer(host.call(query(root, "get", "a")).unwrap()), b"1");
    assert_eq!(answer(host.call(query(root, "all", "")).unwrap()), b"12");
    // One proof for the key, one for the rest.
    assert_eq!(asked.load(Ordering::SeqCst), 6);
}

#[test]
fn queries_run_side_by_side() {
    let store = Arc::<Store>::default();
    let root = store.put(&[]);
    let host = start(&store);
    host.call(query(root, "get", "a")).unwrap();
    let begin = Instant::now();
    let slow: Vec<_> = (0..10).map(|_| host.send(query(root, "slow", "")).unwrap()).collect();
    assert_eq!(host.call(Body::RuntimePingRequest(Empty {})), Ok(Body::Empty(Empty {})));
    slow.into_iter().for_each(|answer| drop(answer.recv().unwrap()));
    assert!(begin.elapsed() < Duration::from_millis(2500), "{:?}", begin.elapsed());
}

#[test]
fn malformed_frames_are_skipped_and_oversized_ones_end_the_connection() {
    let host = start(&Arc::default());
    for junk in
        [&b""[..], b"\xff", b"\xa0", b"\xa1\x62id\x01", b"\x9f\x9f\x9f", b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff"]
    {
        let mut bytes = (junk.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(junk);
        host.raw(&bytes).unwrap();
    }
    assert_eq!(host.call(Body::RuntimePingRequest(Empty {})), Ok(Body::Empty(Empty {})));
    assert!(host.call(Body::Unknown("RuntimeFlyRequest".into())).unwrap_err().is(codes::DISPATCHER));
    host.raw(&(frame::MAX_RUNTIME_FRAME_BYTES as u32 + 1).to_be_bytes()).unwrap();
    assert!(matches!(host.ended(), Ok(End::Frame(_))));
}

#[test]
fn a_host_that_answers_wrongly_is_not_believed_and_the_runtime_lives_on() {
    let store = Arc::<Store>::default();
    let root = store.put(&[("a", "1")]);
    for wrong in [
        Body::Empty(Empty {}),
        Body::Unknown("HostSomethingResponse".into()),
        Body::RuntimePingRequest(Empty {}),
        Body::HostLocalStorageSetResponse(Empty {}),
    ] {
        let right = honest(&store);
        let answers: Answers = Box::new(move |body| match body {
            Body::HostStorageSyncRequest(_) => Ok(wrong.clone()),
            other => right(other),
        });
        let host = TestHost::start(Config::default(), init(), answers).unwrap();
        host.call(TestHost::info(ID)).unwrap();
        assert!(host.call(query(root, "get", "a")).is_err());
        // Answers to nothing, twice, and of no kind.
        for message_type in [MessageType::RESPONSE, MessageType(0), MessageType(9)] {
            let message = WireMessage { id: 77, message_type, body: Body::Empty(Empty {}) };
            let frame = frame::encode(&message, frame::MAX_RUNTIME_FRAME_BYTES).unwrap();
            host.raw(&[frame.clone(), frame].concat()).unwrap();
        }
        assert_eq!(host.call(Body::RuntimePingRequest(Empty {})), Ok(Body::Empty(Empty {})));
    }
}

#[test]
fn a_host_that_leaves_ends_calls_that_wait_for_it() {
    let store = Arc::<Store>::default();
    let root = store.put(&[("a", "1")]);
    let never: Answers = Box::new(|_| {
        std::thread::sleep(Duration::from_secs(3600));
        Err(WireError::method_not_supported())
    });
    let host = TestHost::start(Config::default(), init(), never).unwrap();
    host.call(TestHost::info(ID)).unwrap();
    let waiting = host.send(query(root, "get", "a")).unwrap();
    while host.asked().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(matches!(host.finish(), Ok(End::Closed)));
    assert!(waiting.recv_timeout(Duration::from_secs(10)).is_err());
}

#[test]
fn a_host_that_asks_too_much_is_told_so() {
    let store = Arc::<Store>::default();
    let root = store.put(&[]);
    let host = start(&store);
    let wanted = MAX_WORKERS + BACKLOG + 100;
    let answers: Vec<_> = (0..wanted).map(|_| host.send(query(root, "slow", "")).unwrap()).collect();
    let refused = answers.into_iter().filter(|a| matches!(a.recv(), Ok(Body::Error(e)) if e.is(codes::DISPATCHER)));
    assert!(refused.count() >= 50);
    assert_eq!(host.call(Body::RuntimePingRequest(Empty {})), Ok(Body::Empty(Empty {})));
}

#[test]
fn states_survive_roots_that_were_never_finalized() {
    let store = Arc::<Store>::default();
    let root = store.put(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
    let host = start(&store);
    // The batch is executed, but another one becomes the round; then this one's state is gone.
    run(&host, execute(root, ExecutionMode::EXECUTE, &["a=7"])).unwrap();
    let response = run(&host, execute(root, ExecutionMode::EXECUTE, &["d=8"])).unwrap();
    let expected = store.put(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "8")]);
    assert_eq!(response.batch.header.state_root, Some(expected));
}
