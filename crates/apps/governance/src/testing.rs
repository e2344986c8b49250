//! A small network for tests: a state in memory and contexts over it.

use apps_core::{BlockContext, Context, Env, Error, GasMeter, LocalConfig, Mode, Result, Service, kv};
use base_codec::cbor::{self, Decode, Encode};
use base_crypto::{blacklist::Blacklist, context::ChainContext};
use base_prims::{Address, Epoch, PublicKey, Quantity};
use comet_chain::app::Event;
use mkvs_tree::{KvWrite, Tree};
use wire_consensus::{
    beacon::EpochTimeState,
    consensus::Parameters,
    entity::Entity,
    events::{EVENT_TYPE_PREFIX, TypedEvent},
    scheduler::Validator,
    signed::Signed,
    staking::{Account, Delegation},
};

/// Height of the last block in every test.
pub(crate) const LAST_HEIGHT: i64 = 10;
/// Gas of transactions where nothing else is said.
pub(crate) const PLENTY: u64 = 1_000_000;

pub(crate) struct World {
    pub(crate) tree: Tree,
    pub(crate) services: Vec<Box<dyn Service>>,
    pub(crate) config: LocalConfig,
    chain: ChainContext,
    blacklist: Blacklist,
}

/// What a run leaves behind, besides the state.
#[derive(Debug)]
pub(crate) struct Run<T> {
    pub(crate) result: Result<T>,
    pub(crate) events: Vec<Event>,
    pub(crate) gas_used: u64,
}

impl<T: std::fmt::Debug> Run<T> {
    /// Module and code of the refusal.
    pub(crate) fn code(&self) -> (&'static str, u32) {
        self.result.as_ref().expect_err("this should be refused").code()
    }

    /// Kinds of the events.
    pub(crate) fn kinds(&self) -> Vec<&str> {
        self.events.iter().map(|e| e.attributes[0].key.as_str()).collect()
    }

    /// Whether exactly this event was emitted by the service.
    pub(crate) fn has<E: TypedEvent>(&self, service: &str, event: &E) -> bool {
        self.events.iter().any(|e| {
            e.kind == format!("{EVENT_TYPE_PREFIX}{service}")
                && e.attributes[0].key == E::KIND
                && e.attributes[0].value == event.attribute_value()
        })
    }
}

pub(crate) fn key(n: u8) -> PublicKey {
    PublicKey::new([n; 32])
}

/// Address of the account of key `n`.
pub(crate) fn addr(n: u8) -> Address {
    Address::of_key(&key(n))
}

pub(crate) fn q(n: u64) -> Quantity {
    Quantity::from(n)
}

impl World {
    pub(crate) fn new(services: Vec<Box<dyn Service>>) -> Self {
        let mut world = Self {
            tree: Tree::in_memory(),
            services,
            config: LocalConfig::default(),
            chain: ChainContext::from_hash(&[7; 32]),
            blacklist: Blacklist::allowing_test_keys(),
        };
        world.set_epoch(5);
        world
    }

    pub(crate) fn put<T: Encode>(&mut self, key: &[u8], value: &T) {
        self.tree.insert(key, &cbor::to_vec(value)).unwrap();
    }

    pub(crate) fn get<T: Decode>(&self, key: &[u8]) -> Option<T> {
        kv::get(&self.tree, key).unwrap()
    }

    /// The whole state.
    pub(crate) fn pairs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        kv::collect(&self.tree, &[]).unwrap()
    }

    pub(crate) fn set_epoch(&mut self, epoch: Epoch) {
        self.put(&[0x40], &EpochTimeState { epoch, height: 3 });
    }

    pub(crate) fn set_account(&mut self, address: &Address, account: &Account) {
        self.put(&kv::Key::new(0x50).address(address), account);
    }

    pub(crate) fn set_balance(&mut self, n: u8, balance: u64) {
        let mut account = self.account(n);
        account.general.balance = q(balance);
        self.set_account(&addr(n), &account);
    }

    pub(crate) fn account(&self, n: u8) -> Account {
        self.get(&kv::Key::new(0x50).address(&addr(n))).unwrap_or_default()
    }

    pub(crate) fn balance(&self, n: u8) -> Quantity {
        self.account(n).general.balance
    }

    /// Deposits, common pool.
    pub(crate) fn pools(&self) -> (Quantity, Quantity) {
        (self.get(&[0x59]).unwrap_or_default(), self.get(&[0x52]).unwrap_or_default())
    }

    /// Makes `node` of entity `entity` a validator, with `shares` shares and as much stake times `rate` in the
    /// entity's pool.
    pub(crate) fn add_validator(&mut self, entity: u8, node: u8, stake: u64, shares: u64) {
        let mut all: std::collections::BTreeMap<PublicKey, Validator> = self.get(&[0x61]).unwrap_or_default();
        all.insert(key(node), Validator { id: key(node), entity_id: key(entity), voting_power: 1 });
        self.put(&[0x61], &all);
        let mut account = self.account(entity);
        account.escrow.active.balance = q(stake);
        account.escrow.active.total_shares = q(shares);
        self.set_account(&addr(entity), &account);
    }

    pub(crate) fn register_entity(&mut self, n: u8, nodes: &[u8]) {
        let entity = Entity { v: 2, id: key(n), nodes: nodes.iter().map(|n| key(*n)).collect() };
        let signed = Signed { untrusted_raw_value: Some(cbor::to_vec(&entity).into()), ..Signed::default() };
        self.put(&kv::Key::new(0x10).key_hash(&key(n)), &signed);
    }

    pub(crate) fn delegate(&mut self, from: u8, to: u8, shares: u64) {
        let d = Delegation { shares: q(shares) };
        self.put(&kv::Key::new(0x53).address(&addr(to)).address(&addr(from)), &d);
        self.put(&kv::Key::new(0x5a).address(&addr(from)).address(&addr(to)), &d);
    }

    /// Runs `f` in a context and keeps what it wrote.
    pub(crate) fn run<T>(
        &mut self,
        mode: Mode,
        signer: Option<u8>,
        gas: u64,
        f: impl FnOnce(&mut Context<'_>) -> Result<T>,
    ) -> Run<T> {
        let env = Env {
            known: &wire_consensus::known::KnownSignatures::default(),
            services: &self.services,
            chain: &self.chain,
            config: &self.config,
            blacklist: &self.blacklist,
            params: &Parameters::default(),
            last_state_root: None,
            initial_height: 1,
        };
        let mut ctx = Context::new(&env, &self.tree, mode, BlockContext::default(), LAST_HEIGHT);
        if let Some(n) = signer {
            ctx.set_tx_signer(key(n));
        }
        ctx.set_gas(GasMeter::limited(gas));
        let result = f(&mut ctx);
        let events = ctx.events().to_vec();
        let gas_used = ctx.gas_used();
        let changes: Vec<_> = ctx.finish().0.into_changes().collect();
        for (key, value) in changes {
            match value {
                Some(value) => self.tree.insert(&key, &value).unwrap(),
                None => self.tree.remove(&key).unwrap(),
            };
        }
        Run { result, events, gas_used }
    }

    /// Executes a transaction of the service that has the method.
    pub(crate) fn tx<B: Encode>(&mut self, signer: u8, method: &str, body: &B) -> Run<()> {
        self.tx_in(Mode::DeliverTx, signer, PLENTY, method, body)
    }

    pub(crate) fn tx_in<B: Encode>(&mut self, mode: Mode, signer: u8, gas: u64, method: &str, body: &B) -> Run<()> {
        let body = base_codec::Raw::of(body);
        self.run(mode, Some(signer), gas, |ctx| ctx.resolve(method)?.execute_tx(ctx, method, &body))
    }

    /// Runs the beginning or the end of a block in which `epoch` has begun, for the service that has the method.
    pub(crate) fn new_epoch(&mut self, mode: Mode, epoch: Epoch, method: &str) -> Run<()> {
        self.run(mode, None, PLENTY, |ctx| {
            kv::put(&mut ctx.state(), &[0x40], &EpochTimeState { epoch, height: LAST_HEIGHT + 1 })?;
            let service = ctx.resolve(method)?;
            match mode {
                Mode::BeginBlock => service.begin_block(ctx),
                Mode::EndBlock => service.end_block(ctx).map(|_| ()),
                _ => Err(Error::uncoded("not a phase of a block")),
            }
        })
    }
}
