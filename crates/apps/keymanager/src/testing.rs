//! A small network with a key manager for tests: a state in memory and contexts over it.

use std::sync::LazyLock;

use apps_core::{BlockContext, Context, Env, Error, GasMeter, LocalConfig, Mode, Result, Service, kv};
use base_codec::{
    Raw,
    cbor::{self, Decode, Encode},
};
use base_crypto::{
    blacklist::{Blacklist, test_key},
    context::{ChainContext, sign_with_context},
    ed25519::SecretKey,
};
use base_prims::{Address, Epoch, Namespace, PublicKey, Quantity, RawSignature, Version};
use comet_chain::app::Event;
use mkvs_tree::{KvWrite, Tree};
use wire_consensus::{
    beacon::EpochTimeState,
    consensus::{FEATURE_26_1, Parameters},
    events::TypedEvent,
    node::{Node, Roles, Runtime as NodeRuntime},
    registry::{self, Runtime, RuntimeGovernanceModel, RuntimeKind, VersionInfo},
    signed::MultiSigned,
    staking::{self, ThresholdKind},
};

use crate::KeyManager;

/// Height of the last block in every test.
pub(crate) const LAST_HEIGHT: i64 = 10;
/// Epoch at the start of every test.
pub(crate) const EPOCH: Epoch = 5;
/// Gas of transactions where nothing else is said.
pub(crate) const PLENTY: u64 = 1_000_000;
/// Key of the entity that owns the key manager.
pub(crate) const OWNER: u8 = 1;
/// Stake that each instance of secret sharing needs.
pub(crate) const CHURP_STAKE: u64 = 50;

/// The key of key managers without trusted hardware.
pub(crate) static RAK: LazyLock<SecretKey> = LazyLock::new(|| test_key("ekiden test key manager RAK seed"));

pub(crate) struct World {
    pub(crate) tree: Tree,
    pub(crate) blacklist: Blacklist,
    config: LocalConfig,
    pub(crate) params: Parameters,
    services: Vec<Box<dyn Service>>,
    chain: ChainContext,
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

    /// Checks that the refusal has no code and says `text`.
    pub(crate) fn says(&self, text: &str) {
        assert_eq!(self.code(), ("unknown", 1), "{:?}", self.result);
        let err = self.result.as_ref().expect_err("this should be refused").to_string();
        assert!(err.contains(text), "{err} should say {text}");
    }

    /// Kinds of the events.
    pub(crate) fn kinds(&self) -> Vec<&str> {
        self.events.iter().map(|e| e.attributes[0].key.as_str()).collect()
    }

    /// Whether exactly this event was emitted by the service.
    pub(crate) fn has<E: TypedEvent>(&self, event: &E) -> bool {
        self.events.iter().any(|e| {
            e.kind == "oasis_event_999_keymanager"
                && e.attributes[0].key == E::KIND
                && e.attributes[0].value == event.attribute_value()
        })
    }
}

pub(crate) fn key(n: u8) -> PublicKey {
    PublicKey::new([n; 32])
}

pub(crate) fn addr(n: u8) -> Address {
    Address::of_key(&key(n))
}

/// Identifier of the key manager.
pub(crate) fn km() -> Namespace {
    Namespace::try_from(&[&[0xc0, 0, 0, 0, 0, 0, 0, 0][..], &[1; 24]].concat()[..]).unwrap()
}

/// Identifier of a runtime that is no key manager.
pub(crate) fn compute() -> Namespace {
    Namespace::try_from(&[&[0x80, 0, 0, 0, 0, 0, 0, 0][..], &[2; 24]].concat()[..]).unwrap()
}

/// The version that nodes of the key manager run.
pub(crate) const VERSION: Version = Version::new(1, 0, 0);

pub(crate) fn runtime(id: Namespace, kind: RuntimeKind) -> Runtime {
    Runtime {
        v: 3,
        id,
        entity_id: key(OWNER),
        kind,
        governance_model: RuntimeGovernanceModel::ENTITY,
        deployments: vec![Some(VersionInfo { version: VERSION, ..VersionInfo::default() })],
        ..Runtime::default()
    }
}

pub(crate) fn sign(context: &base_crypto::context::Context, message: &[u8]) -> RawSignature {
    RawSignature::new(sign_with_context(&RAK, context, None, None, message).unwrap())
}

impl World {
    /// Epoch 5, release 26.1, test keys allowed; a key manager and a compute runtime of entity 1, which has stake for
    /// one instance of secret sharing; everything costs 1000 gas.
    pub(crate) fn new() -> Self {
        let mut w = Self {
            tree: Tree::in_memory(),
            blacklist: Blacklist::allowing_test_keys(),
            config: LocalConfig::default(),
            params: Parameters { feature_version: Some(FEATURE_26_1), ..Parameters::default() },
            services: vec![Box::new(KeyManager)],
            chain: ChainContext::from_hash(&[7; 32]),
        };
        w.set_epoch(EPOCH);
        w.put(&[0x16], &registry::Parameters::default());
        let thresholds = [(ThresholdKind::KEY_MANAGER_CHURP, Quantity::from(CHURP_STAKE))].into();
        w.put(&[0x56], &staking::Parameters { thresholds, ..Default::default() });
        let costs = ["update_policy", "publish_master_secret", "publish_ephemeral_secret"];
        let gas_costs = costs.map(|op| (op.to_owned(), 1000)).into();
        w.put(&[0x71], &wire_consensus::keymanager::Parameters { gas_costs });
        w.put(&[0x74], &wire_consensus::churp::Parameters::defaults());
        w.put_runtime(&runtime(km(), RuntimeKind::KEY_MANAGER));
        w.put_runtime(&runtime(compute(), RuntimeKind::COMPUTE));
        w.set_stake(CHURP_STAKE);
        w
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

    pub(crate) fn put_runtime(&mut self, r: &Runtime) {
        self.put(&kv::Key::new(0x13).namespace_hash(&r.id), r);
    }

    /// Sets the owner's active stake.
    pub(crate) fn set_stake(&mut self, stake: u64) {
        let key = kv::Key::new(0x50).address(&addr(OWNER));
        let mut account: staking::Account = self.get(&key).unwrap_or_default();
        account.escrow.active.balance = Quantity::from(stake);
        self.put(&key, &account);
    }

    /// The owner's claims.
    pub(crate) fn claims(&self) -> Vec<String> {
        let account: staking::Account = self.get(&kv::Key::new(0x50).address(&addr(OWNER))).unwrap();
        account.escrow.stake_accumulator.claims.into_keys().collect()
    }

    /// Registers node `n` of the key manager until the end of epoch 20, with `extra_info` for each version it runs.
    pub(crate) fn put_node(&mut self, n: u8, extra_info: &[Option<Vec<u8>>]) {
        let runtimes = extra_info
            .iter()
            .map(|info| NodeRuntime {
                id: km(),
                version: VERSION,
                extra_info: info.clone().map(Into::into),
                ..NodeRuntime::default()
            })
            .collect();
        self.put_node_with(n, |node| node.runtimes = Some(runtimes));
    }

    pub(crate) fn put_node_with(&mut self, n: u8, change: impl FnOnce(&mut Node)) {
        let mut node = Node {
            v: 3,
            id: key(n),
            entity_id: key(OWNER),
            expiration: 20,
            roles: Roles::KEY_MANAGER,
            runtimes: Some(vec![NodeRuntime { id: km(), version: VERSION, ..NodeRuntime::default() }]),
            ..Node::default()
        };
        change(&mut node);
        let signed = MultiSigned { untrusted_raw_value: Some(cbor::to_vec(&node).into()), signatures: None };
        self.put(&kv::Key::new(0x11).key_hash(&key(n)), &signed);
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
            params: &self.params,
            last_state_root: None,
            initial_height: 1,
        };
        let last_height = if mode == Mode::InitChain { 0 } else { LAST_HEIGHT };
        let mut ctx = Context::new(&env, &self.tree, mode, BlockContext::default(), last_height);
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
            }
        }
        Run { result, events, gas_used }
    }

    pub(crate) fn tx<B: Encode>(&mut self, signer: u8, method: &str, body: &B) -> Run<()> {
        self.tx_in(Mode::DeliverTx, signer, PLENTY, method, body)
    }

    pub(crate) fn tx_in<B: Encode>(&mut self, mode: Mode, signer: u8, gas: u64, method: &str, body: &B) -> Run<()> {
        let body = Raw::of(body);
        self.run(mode, Some(signer), gas, |ctx| KeyManager.execute_tx(ctx, method, &body))
    }

    /// Runs the beginning of the block with which `epoch` begins, and stays in that epoch.
    pub(crate) fn begin_epoch(&mut self, epoch: Epoch) -> Run<()> {
        let run = self.run(Mode::BeginBlock, None, PLENTY, |ctx| {
            kv::put(&mut ctx.state(), &[0x40], &EpochTimeState { epoch, height: LAST_HEIGHT + 1 })?;
            KeyManager.begin_block(ctx)
        });
        assert!(!matches!(run.result, Err(Error::Fatal(_))), "{:?}", run.result);
        run
    }
}
