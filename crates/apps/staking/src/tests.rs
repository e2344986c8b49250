//! Tests of the service: refusals, rules of blocks and epochs, and invariants under a random workload.

use apps_core::{
    Authenticator, BlockContext, Context, Env, Error, LocalConfig, Message, MessageKind, Mode, Reply, Result, Service,
    epoch,
    kv::{self, KvRead, KvWrite},
};
use base_codec::Raw;
use base_crypto::{blacklist::Blacklist, context::ChainContext};
use base_prims::{Address, Epoch, PublicKey, Quantity};
use comet_chain::app::{Event, ValidatorUpdate};
use mkvs_tree::Tree;
use wire_consensus::{
    beacon::EpochTimeState,
    consensus,
    errors::ErrorCode,
    events::EVENT_TYPE_PREFIX,
    genesis::Document,
    staking::{Parameters, REQUIRED_THRESHOLDS},
    transaction::{Fee, Transaction},
};

use crate::{Staking, state};

mod blocks;
mod transactions;
mod workload;

/// A state in memory, and contexts over it.
struct World {
    state: Tree,
    config: LocalConfig,
    services: Vec<Box<dyn Service>>,
    epoch: Epoch,
}

fn q(n: u64) -> Quantity {
    n.into()
}

fn key(n: u8) -> PublicKey {
    PublicKey::new([n; 32])
}

fn addr(n: u8) -> Address {
    Address::of_key(&key(n))
}

fn parameters() -> Parameters {
    Parameters {
        thresholds: REQUIRED_THRESHOLDS.into_iter().map(|k| (k, q(100))).collect(),
        debonding_interval: 3,
        max_allowances: 2,
        fee_split_weight_propose: q(2),
        fee_split_weight_vote: q(1),
        fee_split_weight_next_propose: q(1),
        ..Parameters::default()
    }
}

impl World {
    /// Accounts 1 to 4 with 1000 tokens each, and 10000 in the common pool.
    fn new(params: Parameters) -> Self {
        let mut world = Self {
            state: Tree::in_memory(),
            config: LocalConfig { allow_debug: true, ..LocalConfig::default() },
            services: vec![Box::new(Staking), Box::new(Hook)],
            epoch: 10,
        };
        world.run(Mode::InitChain, |ctx| {
            state::set_parameters(ctx, &params).unwrap();
            for n in 1..=4 {
                let mut account = state::account(&ctx.state(), &addr(n)).unwrap();
                account.general.balance = q(1000);
                state::set_account(&mut ctx.state(), &addr(n), &account).unwrap();
            }
            state::set_common_pool(&mut ctx.state(), &q(10_000)).unwrap();
            state::set_total_supply(&mut ctx.state(), &q(14_000)).unwrap();
        });
        world.set_epoch(10);
        world
    }

    fn set_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        kv::put(&mut self.state, &epoch::KEY_CURRENT, &EpochTimeState { epoch, height: 5 }).unwrap();
    }

    /// Runs `f` in a context. What it changed stays, whatever it returns.
    fn run<T>(&mut self, mode: Mode, f: impl FnOnce(&mut Context<'_>) -> T) -> (T, Vec<Event>) {
        self.run_block(mode, BlockContext::default(), f)
    }

    fn run_block<T>(
        &mut self,
        mode: Mode,
        block: BlockContext,
        f: impl FnOnce(&mut Context<'_>) -> T,
    ) -> (T, Vec<Event>) {
        let params = consensus::Parameters {
            feature_version: Some(consensus::FEATURE_26_1),
            ..consensus::Parameters::default()
        };
        let chain = ChainContext::from_hash(&[7; 32]);
        let blacklist = Blacklist::production();
        let (result, events, changes) = {
            let env = Env {
                known: &wire_consensus::known::KnownSignatures::default(),
                services: &self.services,
                chain: &chain,
                config: &self.config,
                blacklist: &blacklist,
                params: &params,
                last_state_root: None,
                initial_height: 1,
            };
            let mut ctx = Context::new(&env, &self.state, mode, block, 10);
            let result = f(&mut ctx);
            let events = ctx.begin_phase(mode);
            (result, events, ctx.finish().0.into_changes().collect::<Vec<_>>())
        };
        for (key, value) in changes {
            match value {
                Some(value) => self.state.insert(&key, &value).unwrap(),
                None => self.state.remove(&key).unwrap(),
            }
        }
        (result, events)
    }

    /// Executes a method as account `n`.
    fn call<T: base_codec::cbor::Encode>(&mut self, n: u8, method: &str, body: &T) -> Result<()> {
        self.call_in(Mode::DeliverTx, n, method, body).0
    }

    fn call_in<T: base_codec::cbor::Encode>(
        &mut self,
        mode: Mode,
        n: u8,
        method: &str,
        body: &T,
    ) -> (Result<()>, Vec<Event>) {
        let body = Raw::of(body);
        self.run(mode, |ctx| {
            ctx.set_tx_signer(key(n));
            Staking.execute_tx(ctx, method, &body)
        })
    }

    fn balance(&self, n: u8) -> Quantity {
        state::account(&self.state, &addr(n)).unwrap().general.balance
    }

    fn dump(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        kv::collect(&self.state, &[]).unwrap()
    }
}

/// Kinds of events.
fn kinds(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .map(|e| {
            assert_eq!(e.kind.strip_prefix(EVENT_TYPE_PREFIX), Some(crate::NAME));
            e.attributes[0].key.as_str()
        })
        .collect()
}

/// Expects an error; `None` is one without code.
fn refused(result: Result<()>, expected: Option<&ErrorCode>, what: &str) {
    match (result, expected) {
        (Err(Error::Coded(code, _)), Some(expected)) => assert_eq!(code, expected, "{what}"),
        (Err(Error::Uncoded(_)), None) => {}
        (other, expected) => panic!("{what}: {other:?} instead of {expected:?}"),
    }
}

/// A service with a withdrawal hook: it writes a key, and refuses amounts above 50.
struct Hook;

const HOOK_KEY: [u8; 1] = [0xee];

impl Service for Hook {
    fn name(&self) -> &'static str {
        "500_hook"
    }
    fn methods(&self) -> &'static [&'static str] {
        &[]
    }
    fn init_chain(&self, _: &mut Context<'_>, _: &Document) -> Result<()> {
        Ok(())
    }
    fn begin_block(&self, _: &mut Context<'_>) -> Result<()> {
        Ok(())
    }
    fn execute_tx(&self, _: &mut Context<'_>, _: &str, _: &Raw) -> Result<()> {
        Ok(())
    }
    fn end_block(&self, _: &mut Context<'_>) -> Result<Vec<ValidatorUpdate>> {
        Ok(Vec::new())
    }
    fn handles(&self, kind: MessageKind) -> bool {
        kind == MessageKind::AccountHookWithdraw
    }
    fn message(&self, ctx: &mut Context<'_>, message: &Message<'_>) -> Result<Option<Reply>> {
        let Message::AccountHookWithdraw { amount, .. } = message else { return Ok(None) };
        kv::put_raw(&mut ctx.state(), &HOOK_KEY, &[1])?;
        if **amount > q(50) { Err(Error::uncoded("too much")) } else { Ok(Some(Reply::Done)) }
    }
    fn export_genesis(&self, _: &dyn KvRead, _: i64, _: &mut Document) -> Result<()> {
        Ok(())
    }
}

#[test]
fn authentication() {
    use wire_consensus::errors::{staking as codes, transaction as tx_codes};
    let params = Parameters { min_transact_balance: q(10), ..parameters() };
    let tx =
        |nonce, amount, gas| Transaction { nonce, fee: Some(Fee { amount: q(amount), gas }), ..Transaction::default() };
    let mut world = World::new(params);
    world.config.min_gas_price = q(3);
    let mut run = |mode, tx: &Transaction| {
        world.run(mode, |ctx| {
            ctx.set_tx_signer(key(1));
            let result = Staking.authenticate(ctx, tx);
            (result, ctx.gas_wanted(), state::account(&ctx.state(), &addr(1)).unwrap().general)
        })
    };
    for (mode, tx, code) in [
        (Mode::DeliverTx, tx(1, 0, 0), &tx_codes::INVALID_NONCE),
        (Mode::DeliverTx, tx(0, 991, 0), &codes::BALANCE_TOO_LOW),
        (Mode::CheckTx, tx(0, 991, 0), &codes::BALANCE_TOO_LOW),
        (Mode::CheckTx, tx(0, 29, 10), &tx_codes::GAS_PRICE_TOO_LOW),
    ] {
        refused(run(mode, &tx).0.0, Some(code), &format!("{tx:?}"));
    }
    // The local price plays no part in blocks, nor for transactions without gas.
    assert_eq!(run(Mode::CheckTx, &tx(0, 0, 0)).0.0, Ok(()));
    assert_eq!(run(Mode::SimulateTx, &tx(99, 5000, 10)).0.1, u64::MAX);
    let ((result, wanted, account), events) = run(Mode::DeliverTx, &tx(0, 29, 10));
    assert_eq!((result, wanted, account.nonce, account.balance), (Ok(()), 10, 1, q(971)));
    assert_eq!(kinds(&events), ["transfer"]);
}
