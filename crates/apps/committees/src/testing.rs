//! A small world for unit tests: a state in memory, and contexts over it.

use apps_core::{
    BlockContext, Context, Env, LocalConfig, Mode, Result, Service,
    kv::{self, KvRead, KvWrite},
};
use base_codec::cbor::{Decode, Encode};
use base_crypto::{blacklist::Blacklist, context::ChainContext};
use base_prims::{Hash, PublicKey};
use comet_chain::app::Event;
use mkvs_tree::Tree;
use wire_consensus::{Time, consensus::Parameters, events::EVENT_TYPE_PREFIX};

/// State, settings and services of a test.
pub(crate) struct World {
    pub(crate) state: Tree,
    pub(crate) chain: ChainContext,
    pub(crate) config: LocalConfig,
    pub(crate) blacklist: Blacklist,
    pub(crate) params: Parameters,
    pub(crate) services: Vec<Box<dyn Service>>,
    pub(crate) last_height: i64,
    pub(crate) initial_height: i64,
    pub(crate) time: i64,
    pub(crate) signer: PublicKey,
}

impl World {
    /// An empty state at height 10, with unsafe debug options and the newest rules.
    pub(crate) fn new() -> Self {
        let feature_version = Some(wire_consensus::consensus::FEATURE_26_1);
        let params = Parameters { feature_version, ..Parameters::default() };
        Self {
            state: Tree::in_memory(),
            chain: ChainContext::from_hash(Hash::of(&[b"test: oasis-core tests"]).as_bytes()),
            blacklist: Blacklist::production(),
            config: LocalConfig { allow_debug: true, ..LocalConfig::default() },
            params,
            services: Vec::new(),
            last_height: 10,
            initial_height: 1,
            time: 1_700_000_000,
            signer: PublicKey::default(),
        }
    }

    /// Sets a key.
    pub(crate) fn put<T: Encode>(&mut self, key: &[u8], value: &T) {
        kv::put(&mut self.state, key, value).unwrap();
    }

    /// The value of a key.
    pub(crate) fn get<T: Decode>(&self, key: &[u8]) -> Option<T> {
        kv::get(&self.state, key).unwrap()
    }

    /// Runs `f` in a context; what it changed is committed to the state, whatever it returns.
    pub(crate) fn run<T>(&mut self, mode: Mode, f: impl FnOnce(&mut Context<'_>) -> T) -> (T, Vec<Event>) {
        let (result, events, changes) = {
            let env = Env {
                known: &wire_consensus::known::KnownSignatures::default(),
                services: &self.services,
                chain: &self.chain,
                blacklist: &self.blacklist,
                config: &self.config,
                params: &self.params,
                last_state_root: None,
                initial_height: self.initial_height,
            };
            let mut block = BlockContext::default();
            block.time = Time::new(self.time, 0).unwrap();
            let mut ctx = Context::new(&env, &self.state, mode, block, self.last_height);
            if matches!(mode, Mode::CheckTx | Mode::DeliverTx | Mode::SimulateTx) {
                ctx.set_tx_signer(self.signer);
            }
            let result = f(&mut ctx);
            let events = ctx.begin_phase(mode);
            let (layers, _) = ctx.finish();
            (result, events, layers.into_changes().collect::<Vec<_>>())
        };
        for (key, value) in changes {
            match value {
                Some(value) => self.state.insert(&key, &value).unwrap(),
                None => self.state.remove(&key).unwrap(),
            }
        }
        (result, events)
    }

    /// Runs `f` as a transaction whose error is expected to be the same every time.
    pub(crate) fn deliver<T>(&mut self, f: impl FnOnce(&mut Context<'_>) -> Result<T>) -> Result<T> {
        self.run(Mode::DeliverTx, f).0
    }

    /// All pairs of the state.
    pub(crate) fn dump(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        kv::collect(&self.state, &[]).unwrap()
    }
}

/// Kinds of events as `service/kind`, first attributes only.
pub(crate) fn kinds(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|e| {
            let service = e.kind.strip_prefix(EVENT_TYPE_PREFIX).unwrap();
            format!("{service}/{}", e.attributes.first().map_or("", |a| a.key.as_str()))
        })
        .collect()
}

/// A service that takes messages for those that a test leaves out: it refuses those whose kind it was told to.
pub(crate) struct Sink {
    /// Messages that are answered with an error without code.
    pub(crate) refuse: fn(&apps_core::Message<'_>) -> bool,
}

impl Service for Sink {
    fn name(&self) -> &'static str {
        "sink"
    }
    fn methods(&self) -> &'static [&'static str] {
        &[]
    }
    fn init_chain(&self, _: &mut Context<'_>, _: &wire_consensus::genesis::Document) -> Result<()> {
        Ok(())
    }
    fn begin_block(&self, _: &mut Context<'_>) -> Result<()> {
        Ok(())
    }
    fn execute_tx(&self, _: &mut Context<'_>, _: &str, _: &base_codec::Raw) -> Result<()> {
        Ok(())
    }
    fn end_block(&self, _: &mut Context<'_>) -> Result<Vec<comet_chain::app::ValidatorUpdate>> {
        Ok(Vec::new())
    }
    fn handles(&self, _: apps_core::MessageKind) -> bool {
        true
    }
    fn message(&self, ctx: &mut Context<'_>, m: &apps_core::Message<'_>) -> Result<Option<apps_core::Reply>> {
        // Leaves a trace whatever the answer is: the number of messages seen.
        let seen: u64 = kv::get(&ctx.state(), b"\xeeseen")?.unwrap_or_default();
        kv::put(&mut ctx.state(), b"\xeeseen", &(seen + 1))?;
        if (self.refuse)(m) {
            return Err(apps_core::Error::uncoded("refused"));
        }
        Ok(None)
    }
    fn export_genesis(&self, _: &dyn KvRead, _: i64, _: &mut wire_consensus::genesis::Document) -> Result<()> {
        Ok(())
    }
}

/// Writes the sink's counter down to nothing.
pub(crate) fn forget(state: &mut dyn KvWrite) {
    kv::remove(state, b"\xeeseen").unwrap();
}
