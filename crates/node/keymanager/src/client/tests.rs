//! Which nodes are called, and what becomes of the runtime's judgement. Peers answer as they are told.

use base_codec::{Raw, cbor};
use p2p_net::rpc::{Handler, RpcError, Service};
use wire_consensus::node::{Node, Roles};
use wire_consensus::registry::Runtime;
use wire_consensus::signed::MultiSigned;
use wire_runtime::enclave_rpc::Kind;

use super::*;
use crate::testing::{CONTEXT, Link, Links, TestChain, compute, key, km, public};

/// Answers with its number, and counts.
struct Peer(u8);

impl Handler for Peer {
    fn handle<'a>(
        &'a self,
        _: PeerId,
        method: &'a str,
        body: &'a Raw,
    ) -> p2p_net::api::BoxFuture<'a, Result<Raw, RpcError>> {
        Box::pin(async move {
            assert_eq!(method, "CallEnclave");
            let request: CallEnclaveRequest = cbor::from_slice(&body.0).expect("a call");
            assert_eq!(request.kind, Kind::INSECURE_QUERY);
            Ok(Raw::of(&CallEnclaveResponse { data: Some(vec![self.0].into()) }))
        })
    }
}

struct World {
    chain: Arc<TestChain>,
    links: Arc<Links>,
    link: Arc<Link>,
    client: Arc<Client>,
    told: watch::Sender<RuntimeView>,
}

fn peer(n: u8) -> PeerId {
    crate::access::peer_id(&public(n + 100))
}

/// A client of a key manager with nodes 10 and 11 in its committee, and 12 outside of it.
async fn world() -> World {
    let chain = Arc::new(TestChain::new());
    let links: Arc<Links> = Arc::default();
    for n in [10, 11, 12] {
        let link = Links::join(&links, peer(n));
        link.serve(ids::KEY_MANAGER.of_runtime(CONTEXT, &km()), Service::shared(Peer(n))).expect("serves");
    }
    chain.change(|state| {
        for n in [10, 11, 12] {
            let mut node = Node { v: 3, id: public(n), expiration: 99, roles: Roles::KEY_MANAGER, ..Node::default() };
            node.p2p.id = public(n + 100);
            let context = wire_consensus::node::REGISTER_CONTEXT;
            let signed = MultiSigned::sign(&[&key(n)], context, None, &node).expect("signs");
            apps_committees::registry::state::set_node(state, None, &node, &signed).expect("sets");
        }
    });
    let link = Links::join(&links, peer(1));
    let (told, view) = watch::channel(RuntimeView::default());
    let client = Client::new(Arc::clone(&link) as _, CONTEXT.to_owned(), Arc::clone(&chain) as _, view);
    World { chain, links, link, client, told }
}

impl World {
    /// A status with that committee, and a block.
    fn committee(&self, nodes: &[u8], initialized: bool) {
        let nodes = Some(nodes.iter().map(|n| public(*n)).collect());
        let status = Status { id: km(), is_initialized: initialized, nodes, ..Status::default() };
        self.chain.change(|state| apps_keymanager::secrets::state::set_status(state, &status).expect("sets"));
        self.follow(Some(km()));
    }

    fn follow(&self, key_manager: Option<Namespace>) {
        let height = self.chain.advance(None);
        let descriptor = Runtime { id: compute(), kind: RuntimeKind::COMPUTE, key_manager, ..Runtime::default() };
        let view = RuntimeView { height, epoch: 5, descriptor: Some(Arc::new(descriptor)) };
        self.told.send_replace(view.clone());
        self.client.follow(&view).expect("readable");
    }

    async fn call(&self, request_id: u64, nodes: &[u8]) -> Result<(u8, PublicKey), String> {
        self.call_with(request_id, nodes, None).await
    }

    async fn call_with(
        &self,
        request_id: u64,
        nodes: &[u8],
        pf: Option<PeerFeedback>,
    ) -> Result<(u8, PublicKey), String> {
        let request = host::RpcCallRequest {
            endpoint: host::ENDPOINT_KEY_MANAGER.to_owned(),
            request_id,
            request: Some(vec![1].into()),
            kind: Some(Kind::INSECURE_QUERY),
            nodes: Some(nodes.iter().map(|n| public(*n)).collect()),
            pf,
        };
        let answer = self.client.call(request).await.map_err(|error| error.message)?;
        Ok((answer.response.expect("an answer")[0], answer.node))
    }

    fn verdicts(&self) -> Vec<(PeerId, &'static str)> {
        std::mem::take(&mut self.link.verdicts.lock())
    }
}

#[tokio::test]
async fn only_members_of_the_committee_are_called() {
    let w = world().await;
    assert_eq!(w.call(1, &[]).await, Err("key manager not available".to_owned()));
    assert!(!*w.client.ready().borrow());
    w.committee(&[10], false);
    assert!(!*w.client.ready().borrow(), "it serves nobody yet");
    assert_eq!(w.call(1, &[]).await, Err("no peers to ask".to_owned()));
    w.committee(&[10, 11], true);
    assert!(*w.client.ready().borrow());
    assert_eq!(w.link.tracked.lock().len(), 1);
    assert_eq!(w.client.peers().borrow().len(), 2);
    let (answer, node) = w.call(1, &[]).await.expect("answers");
    assert!([10, 11].contains(&answer) && node == public(answer));
    // Among those asked for.
    for n in [10, 11] {
        assert_eq!(w.call(2, &[n, 12]).await, Ok((n, public(n))));
    }
    assert_eq!(w.call(3, &[12]).await, Err("nodes not in committee".to_owned()));
    // The committee follows the chain; one that vanishes stays the last one known.
    w.committee(&[11], true);
    assert_eq!(w.call(4, &[]).await, Ok((11, public(11))));
    w.committee(&[], true);
    assert_eq!(w.call(5, &[]).await, Ok((11, public(11))));
    // A runtime that needs none has none, and is ready.
    w.follow(None);
    assert_eq!(w.call(6, &[]).await, Err("key manager not available".to_owned()));
    assert!(*w.client.ready().borrow());
}

#[tokio::test]
async fn another_node_answers_when_one_fails() {
    let w = world().await;
    w.committee(&[10, 11], true);
    for (cut, other) in [(10, 11), (11, 10)] {
        *w.links.cut.lock() = [peer(cut)].into();
        assert_eq!(w.call(1, &[]).await, Ok((other, public(other))));
        assert!(w.verdicts().iter().all(|verdict| *verdict == (peer(cut), "failure")));
    }
    *w.links.cut.lock() = [peer(10), peer(11)].into();
    let error = w.call(1, &[]).await.expect_err("nobody can be reached");
    assert!(error.starts_with("call failed on all peers"), "{error}");
    assert_eq!(w.verdicts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn judgements_reach_the_peer_that_answered() {
    let w = world().await;
    w.committee(&[10, 11], true);
    for (verdict, said) in
        [(PeerFeedback::SUCCESS, "success"), (PeerFeedback::FAILURE, "failure"), (PeerFeedback::BAD_PEER, "bad")]
    {
        w.call(7, &[10]).await.expect("answers");
        w.call(8, &[11]).await.expect("answers");
        w.client.feedback(7, verdict);
        assert_eq!(w.verdicts(), [(peer(10), said)]);
        w.client.feedback(7, verdict);
        w.client.feedback(99, verdict);
        assert!(w.verdicts().is_empty(), "once, and for calls that were made");
        w.client.feedback(8, PeerFeedback(77));
        assert!(w.verdicts().is_empty(), "not a judgement");
    }
    w.call(9, &[10]).await.expect("answers");
    tokio::time::advance(MAX_FEEDBACK_AGE + Duration::from_secs(1)).await;
    w.client.feedback(9, PeerFeedback::BAD_PEER);
    assert!(w.verdicts().is_empty(), "too late");
    // No more are remembered than allowed; the oldest goes first.
    for id in 0..=MAX_FEEDBACKS as u64 {
        w.call(id + 1000, &[10]).await.expect("answers");
    }
    assert_eq!(w.client.feedbacks.lock().waiting.len(), MAX_FEEDBACKS);
    w.client.feedback(1000, PeerFeedback::SUCCESS);
    assert!(w.verdicts().is_empty());
    w.client.feedback(1001, PeerFeedback::SUCCESS);
    assert_eq!(w.verdicts().len(), 1);
}

#[tokio::test]
async fn the_older_form_judges_the_call_before() {
    let w = world().await;
    w.committee(&[10, 11], true);
    w.call(0, &[10]).await.expect("answers");
    assert!(w.verdicts().is_empty());
    w.call_with(0, &[11], Some(PeerFeedback::FAILURE)).await.expect("answers");
    assert_eq!(w.verdicts(), [(peer(10), "failure")]);
    w.call(0, &[11]).await.expect("answers");
    assert_eq!(w.verdicts(), [(peer(11), "success")], "no judgement is a good one");
}

#[tokio::test]
async fn follows_until_stopped() {
    let w = world().await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&w.client).run(stop.clone()));
    w.committee(&[10], true);
    let mut ready = w.client.ready();
    ready.wait_for(|ready| *ready).await.expect("is told");
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), running).await.expect("ends").expect("without panic");
}
