//! Operations in a ParaTime, from the command line to the node and back: the node is a small one of its own, with one
//! ParaTime that checks signatures, nonces and fees, and keeps balances.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use base_codec::{Codec, Raw};
use base_crypto::mrae::{self, BoxSecretKey, NONCE_LEN};
use base_grpc::{Code, Listener, Router, RpcError, serve};
use base_prims::{Address, Hash};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use wire_consensus::roothash::Block;
use wire_runtime::client::QueryResponse;

use super::*;
use crate::sdk::{self, AddressSpec, SigningContext, Transaction, call, event, method};
use crate::wallet::{self, keys};

const CHAIN: &str = "7ca282757d728070a54898e76fa142ee92a78412d8fa630bdac1f242fe81ffc2";
const ID: &str = "00000000000000000000000000000000000000000000000000000000000000aa";
const GAS: u64 = 1_000;
const PRICE: u64 = 5;
/// The ParaTime's key for calls that only it can read.
const SECRET: [u8; 32] = [9; 32];

/// What the ParaTime knows.
#[derive(Default)]
struct State {
    nonces: BTreeMap<Address, u64>,
    balances: BTreeMap<Address, Quantity>,
    round: u64,
    events: BTreeMap<u64, Vec<Tag>>,
    executed: Vec<Transaction>,
    /// Every operation of the consensus layer fails with it.
    refuses: Option<(&'static str, u32)>,
}

#[derive(Debug, Default, Codec)]
#[codec(cbor_only)]
struct Envelope {
    pk: [u8; 32],
    nonce: [u8; NONCE_LEN],
    data: Bytes,
}

#[derive(Debug, Default, Codec)]
#[codec(cbor_only)]
struct Sealed {
    nonce: [u8; NONCE_LEN],
    data: Bytes,
}

#[derive(Debug, Default, Codec)]
#[codec(cbor_only)]
struct Ended {
    from: Address,
    nonce: u64,
    to: Address,
    amount: sdk::BaseUnits,
    #[codec(omitempty)]
    error: Option<sdk::ConsensusError>,
}

fn failed(module: &str, code: u32, message: &str) -> sdk::CallResult {
    let failed = sdk::Failed { module: module.to_owned(), code, message: message.to_owned() };
    sdk::CallResult { failed: Some(failed), ..sdk::CallResult::default() }
}

impl State {
    fn query(&self, request: &QueryRequest) -> Option<Raw> {
        let address = || cbor::from_slice::<sdk::AddressQuery>(&request.args).ok().map(|query| query.address);
        match request.method.as_str() {
            "accounts.Nonce" => Some(Raw::of(&self.nonces.get(&address()?).copied().unwrap_or_default())),
            "accounts.Balances" => {
                let balance = self.balances.get(&address()?).cloned().unwrap_or_default();
                let balances = [(Denomination::default(), balance)].into_iter().collect();
                Some(Raw::of(&sdk::Balances { balances }))
            }
            "core.MinGasPrice" => Some(Raw::of(&BTreeMap::from([(Denomination::default(), Quantity::from(PRICE))]))),
            "core.EstimateGas" => {
                let query: sdk::EstimateGas = cbor::from_slice(&request.args).ok()?;
                assert_eq!(query.tx.auth.signers.len(), 1, "gas is estimated of a transaction with its signer");
                Some(Raw::of(&GAS))
            }
            "core.CallDataPublicKey" => {
                let key = BoxSecretKey::from_bytes(&SECRET).public();
                let public_key = sdk::SignedKey { key, ..sdk::SignedKey::default() };
                Some(Raw::of(&sdk::CallDataKey { public_key, epoch: 3 }))
            }
            "consensus.Delegations" => {
                let one = sdk::Delegation { to: Address::burn(), shares: Quantity::from(500_u64) };
                Some(Raw::of(&vec![one]))
            }
            "consensus.Undelegations" => Some(Raw::of(&Vec::<sdk::Undelegation>::new())),
            _ => None,
        }
    }

    /// Checks and executes a transaction.
    fn submit(&mut self, bytes: &[u8]) -> SubmitTxMetaResponse {
        let signed: UnverifiedTransaction = cbor::from_slice(bytes).expect("a transaction");
        let tx: Transaction = cbor::from_slice(&signed.body).expect("a body");
        let context =
            SigningContext { runtime: ID.parse().expect("an id"), chain_context: CHAIN.to_owned(), original_to: None };
        let [info] = tx.auth.signers.as_slice() else { panic!("one signer") };
        let AddressSpec { signature: Some(spec), .. } = &info.address_spec else { panic!("a key") };
        let proof = &signed.auth_proofs[0].signature;
        assert!(keys::verifies(spec, &context, &signed.body, proof), "the signature verifies");
        let from = sender(spec);
        let nonce = self.nonces.entry(from).or_default();
        if info.nonce != *nonce {
            let error = wire_runtime::Error { module: "core".to_owned(), code: 4, message: "invalid nonce".to_owned() };
            return SubmitTxMetaResponse { check_tx_error: Some(error), ..SubmitTxMetaResponse::default() };
        }
        let fee = &tx.auth.fee;
        assert_eq!((fee.gas, &fee.amount.amount), (GAS + GAS / 5, &Quantity::from((GAS + GAS / 5) * PRICE)));
        *nonce += 1;
        self.round += 1;
        let output = if tx.call.format == call::ENCRYPTED {
            let envelope: Envelope = cbor::from_slice(&tx.call.body).expect("an envelope");
            let secret = BoxSecretKey::from_bytes(&SECRET);
            let plain = mrae::open(&secret, &envelope.pk, &envelope.nonce, &envelope.data, &[]).expect("for us");
            let call: sdk::Call = cbor::from_slice(&plain).expect("a call");
            let inner = self.execute(from, info.nonce, &call);
            self.executed.push(Transaction { call, ..tx });
            let nonce = [1; NONCE_LEN];
            let data = mrae::seal(&secret, &envelope.pk, &nonce, &cbor::to_vec(&inner), &[]).expect("sealed");
            sdk::CallResult { unknown: Raw::of(&Sealed { nonce, data: data.into() }), ..sdk::CallResult::default() }
        } else {
            let result = self.execute(from, info.nonce, &tx.call);
            self.executed.push(tx);
            result
        };
        let output = Some(Bytes::from(cbor::to_vec(&output)));
        SubmitTxMetaResponse { output, round: self.round, ..SubmitTxMetaResponse::default() }
    }

    fn execute(&mut self, from: Address, nonce: u64, call: &sdk::Call) -> sdk::CallResult {
        let done = sdk::CallResult { ok: Raw::of(&None::<u64>), ..sdk::CallResult::default() };
        match call.method.as_str() {
            method::TRANSFER => {
                let body: sdk::ToAmount = call.body.decode_as().expect("a body");
                let balance = self.balances.entry(from).or_default();
                if balance.sub_assign(&body.amount.amount).is_err() {
                    return failed("accounts", 2, "insufficient balance");
                }
                self.balances.entry(body.to).or_default().add_assign(&body.amount.amount);
                done
            }
            method::DEPOSIT | method::WITHDRAW => {
                let body: sdk::MaybeToAmount = call.body.decode_as().expect("a body");
                let code = if call.method == method::DEPOSIT { event::DEPOSIT } else { event::WITHDRAW };
                let error = self.refuses.map(|(module, code)| sdk::ConsensusError { module: module.to_owned(), code });
                let ended = Ended { from, nonce, to: body.to.unwrap_or(from), amount: body.amount, error };
                let key = [event::MODULE.as_bytes(), &code.to_be_bytes()].concat();
                // Somebody else's first, and two rounds later, as the consensus layer takes its time.
                let other = Ended { from: Address::burn(), nonce, ..Ended::default() };
                let value = Bytes::from(cbor::to_vec(&vec![other, ended]));
                self.round += 2;
                let tag = Tag { key: Bytes::from(key), value, tx_hash: Hash::default() };
                self.events.insert(self.round, vec![tag]);
                done
            }
            _ => failed("core", 1, "unknown method"),
        }
    }
}

fn sender(spec: &sdk::SignatureSpec) -> Address {
    let known = wallet::test_names().filter_map(|name| wallet::test_account(name).ok());
    known.map(|account| account.public()).find(|public| public.spec() == *spec).expect("a test account").address()
}

/// The node, and a configuration with its network.
struct Node {
    dir: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    stop: CancellationToken,
    server: Option<std::thread::JoinHandle<()>>,
}

fn router(state: &Arc<Mutex<State>>) -> Router {
    let mut router = Router::new();
    router.unary("oasis-core.Consensus", "GetChainContext", |(): ()| async { Ok(Cbor(CHAIN.to_owned())) });
    router.unary("oasis-core.Consensus", "GetLatestHeight", |(): ()| async { Ok(Cbor(77_i64)) });
    router.unary("oasis-core.Staking", "Account", |Cbor(_): Cbor<crate::remote::OwnerQuery>| async {
        Ok(Cbor(wire_consensus::staking::Account::default()))
    });
    for method in ["DelegationInfosFor", "DebondingDelegationInfosFor", "DelegationsTo", "DebondingDelegationsTo"] {
        router.unary("oasis-core.Staking", method, |Cbor(_): Cbor<crate::remote::OwnerQuery>| async {
            Ok(Cbor(BTreeMap::<Address, u64>::new()))
        });
    }
    let service = "oasis-core.RuntimeClient";
    let own = state.clone();
    router.unary(service, "Query", move |Cbor(request): Cbor<QueryRequest>| {
        let answer = own.lock().query(&request).map(|data| Cbor(QueryResponse { data: Bytes::from(data.0) }));
        async move { answer.ok_or_else(|| RpcError::with(Code::Unknown, "method not found".to_owned())) }
    });
    let own = state.clone();
    router.unary(service, "SubmitTxMeta", move |Cbor(request): Cbor<TxRequest>| {
        let answer = own.lock().submit(&request.data);
        async move { Ok(Cbor(answer)) }
    });
    let own = state.clone();
    router.unary(service, "GetBlock", move |Cbor(request): Cbor<RoundRequest>| {
        let mut block = Block::genesis(request.runtime_id, 0);
        block.header.round = if request.round == ROUND_LATEST { own.lock().round } else { request.round };
        async move { Ok(Cbor(block)) }
    });
    let own = state.clone();
    router.unary(service, "GetEvents", move |Cbor(request): Cbor<RoundRequest>| {
        let events = own.lock().events.get(&request.round).cloned().unwrap_or_default();
        async move { Ok(Cbor(events)) }
    });
    router
}

impl Node {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let state = Arc::new(Mutex::new(State::default()));
        let stop = CancellationToken::new();
        let (socket, router, stopped) = (dir.path().join("node.sock"), Arc::new(router(&state)), stop.clone());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = Listener::unix(&socket).expect("a socket");
                ready.send(()).expect("waited for");
                serve(listener, router, stopped).await;
            });
        });
        is_ready.recv().expect("it listens");
        let node = Self { dir, state, stop, server: Some(server) };
        let rpc = format!("unix:{}", node.path("node.sock").display());
        node.ok(&["network", "add", "local", &rpc, CHAIN, "--symbol", "TEST", "--num-decimals", "9", "-y"]);
        node.ok(&["network", "set-default", "local"]);
        node.ok(&["paratime", "add", "local", "pt", ID, "--symbol", "PT", "--num-decimals", "18", "-y"]);
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, args: &[&str]) -> ExitCode {
        let config: OsString = self.path("cli.toml").into();
        let words = ["oasis".into(), "--config".into(), config].into_iter();
        crate::run(words.chain(args.iter().map(OsString::from)))
    }

    fn ok(&self, args: &[&str]) {
        assert_eq!(format!("{:?}", self.run(args)), format!("{:?}", ExitCode::SUCCESS), "{args:?}");
    }

    fn fails(&self, args: &[&str]) {
        assert_eq!(format!("{:?}", self.run(args)), format!("{:?}", ExitCode::FAILURE), "{args:?}");
    }

    fn balance(&self, name: &str) -> String {
        let address = wallet::test_account(name).expect(name).address();
        let state = self.state.lock();
        state.balances.get(&address).map_or_else(|| "0".to_owned(), |amount| crate::amount::format(amount, 18))
    }

    fn give(&self, name: &str, tokens: &str) {
        let address = wallet::test_account(name).expect(name).address();
        let amount = crate::amount::parse(tokens, 18).expect(tokens);
        self.state.lock().balances.insert(address, amount);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(server) = self.server.take() {
            server.join().expect("it ends");
        }
    }
}

#[test]
fn keys_of_every_kind_transfer_within_a_paratime() {
    let node = Node::start();
    for name in ["alice", "dave", "frank"] {
        node.give(name, "10");
        let account = format!("test:{name}");
        node.ok(&["account", "transfer", "2.5", "test:bob", "--account", &account, "-y"]);
        node.ok(&[
            "account",
            "transfer",
            "1",
            "0x90adE3B7065fa715c7a150313877dF1d33e777D5",
            "--account",
            &account,
            "-y",
        ]);
        assert_eq!(node.balance(name), "6.5", "{name}");
        // More than there is, and a nonce that has been used.
        node.fails(&["account", "transfer", "100", "test:bob", "--account", &account, "-y"]);
        node.fails(&["account", "transfer", "1", "test:bob", "--account", &account, "--nonce", "0", "-y"]);
        node.ok(&["account", "show", &account, "--show-delegations"]);
        node.ok(&["account", "show", &account, "--format", "json"]);
    }
    assert_eq!(node.balance("bob"), "7.5");
    // 1200 gas at 5 base units.
    node.ok(&["account", "transfer", "1", "test:charlie", "--account", "test:alice", "--subtract-fee", "-y"]);
    assert_eq!(node.balance("charlie"), "0.999999999999994");
}

#[test]
fn encrypted_calls_are_read_by_the_paratime_only() {
    let node = Node::start();
    node.give("dave", "10");
    node.ok(&["account", "transfer", "4", "test:bob", "--account", "test:dave", "--encrypted", "-y"]);
    assert_eq!((node.balance("dave"), node.balance("bob")), ("6.0".to_owned(), "4.0".to_owned()));
    // Its failure is read as well.
    node.fails(&["account", "transfer", "40", "test:bob", "--account", "test:dave", "--encrypted", "-y"]);
    node.fails(&["account", "transfer", "1", "test:bob", "--account", "test:dave", "--encrypted", "--offline", "-y"]);
}

#[test]
fn deposits_and_withdrawals_wait_for_the_consensus_layer() {
    let node = Node::start();
    node.ok(&["account", "deposit", "5", "--account", "test:alice", "-y"]);
    node.ok(&["account", "withdraw", "1", "test:bob", "--account", "test:alice", "-y"]);
    node.state.lock().refuses = Some(("staking", 5));
    node.fails(&["account", "deposit", "5", "test:erin", "--account", "test:alice", "-y"]);
    let state = node.state.lock();
    let bodies: Vec<sdk::MaybeToAmount> =
        state.executed.iter().map(|tx| tx.call.body.decode_as().expect("a body")).collect();
    let to = |name: &str| Some(wallet::test_account(name).expect(name).address());
    assert_eq!(bodies.iter().map(|body| body.to).collect::<Vec<_>>(), [None, to("bob"), to("erin")]);
    assert_eq!(bodies[0].amount.amount.to_string(), "5000000000000000000");
}

#[test]
fn a_transaction_is_made_here_signed_there_and_sent_later() {
    let node = Node::start();
    node.give("dave", "10");
    let (unsigned, signed) = (node.path("u.json"), node.path("s.cbor"));
    let (unsigned, signed) = (unsigned.to_str().expect("text"), signed.to_str().expect("text"));
    node.ok(&["account", "transfer", "3", "test:bob", "--account", "test:dave", "--unsigned", "-o", unsigned, "-y"]);
    node.fails(&["transaction", "submit", unsigned]);
    let sign = ["transaction", "sign", unsigned, "--account", "test:dave", "--format", "cbor", "-o", signed, "-y"];
    node.ok(&sign);
    assert!(Path::new(signed).is_file());
    node.ok(&["transaction", "show", signed]);
    node.ok(&["transaction", "submit", signed]);
    assert_eq!(node.balance("bob"), "3.0");
    node.fails(&["transaction", "submit", signed]);
}
