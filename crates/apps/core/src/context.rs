//! The execution context: what a service sees of the block, the transaction and the network.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    mem,
    num::NonZeroU64,
};

use base_crypto::{blacklist::Blacklist, context::ChainContext};
use base_prims::{Address, Hash, PublicKey, Quantity};
use comet_chain::app::{Event, EventAttribute, LastCommitInfo, Misbehavior};
use wire_consensus::{
    Time,
    consensus::{FEATURE_26_1, Parameters},
    events::{EVENT_TYPE_PREFIX, TypedEvent},
    known::KnownSignatures,
    transaction::{Costs, Gas, Transaction},
};

use crate::{
    Error, GasMeter, Layers, Level, Message, Reply, Result, Service, View, gas, kv::KvRead, service::no_subscribers,
};

/// What is being executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The genesis document.
    InitChain,
    /// A transaction, to see whether it may wait in the pool.
    CheckTx,
    /// A transaction of a block.
    DeliverTx,
    /// A transaction or message, to see what it would cost; its effects are dropped.
    SimulateTx,
    /// The beginning of a block.
    BeginBlock,
    /// The end of a block.
    EndBlock,
}

/// Deepest nesting of calls between services.
pub(crate) const MAX_CALL_DEPTH: usize = 8;

/// What this node's operator set; nothing here may change the outcome of a block, save the unsafe debug switches.
#[derive(Clone, Debug, Default)]
pub struct LocalConfig {
    /// Unsafe debug options of a genesis document are allowed (test networks).
    pub allow_debug: bool,
    /// Well-known test keys may sign (test networks).
    pub allow_test_keys: bool,
    /// How attestations are verified.
    pub tee: rt_tee::VerifyOptions,
    /// Lowest gas price of transactions taken into the pool.
    pub min_gas_price: Quantity,
    /// The node's own signer, whose transactions are always taken into the pool.
    pub own_tx_signer: Option<PublicKey>,
    /// Stop before the block of this height.
    pub halt_height: Option<i64>,
    /// Stop before the first block of this epoch.
    pub halt_epoch: Option<u64>,
    /// Check the whole state now and then; never if absent.
    pub supplementary_sanity: Option<SanitySchedule>,
}

/// At which heights the whole state is checked: one in each interval of blocks.
///
/// Which one differs from node to node and from interval to interval, so that not all nodes are slow at once, and is told
/// by the seed alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SanitySchedule {
    /// Length of an interval in blocks.
    pub interval: NonZeroU64,
    /// What the heights are drawn from; any number, best a random one of the node.
    pub seed: u64,
}

impl SanitySchedule {
    /// Whether the state is checked after the block of this height.
    pub fn is_due(&self, height: i64) -> bool {
        let Ok(height) = u64::try_from(height) else { return false };
        let (number, place) = (height / self.interval, height % self.interval);
        // SplitMix64 of seed and number of the interval.
        let mut z = self.seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        place == (z ^ (z >> 31)) % self.interval
    }
}

/// What is the same for a whole block.
pub struct Env<'a> {
    /// Services in order of their names.
    pub services: &'a [Box<dyn Service>],
    /// The network.
    pub chain: &'a ChainContext,
    /// This node's settings.
    pub config: &'a LocalConfig,
    /// Keys whose signatures never count on this network.
    pub blacklist: &'a Blacklist,
    /// Signatures of the block's transactions that were verified ahead.
    pub known: &'a KnownSignatures,
    /// Consensus parameters as of the last commit.
    pub params: &'a Parameters,
    /// State root of the last committed block; absent before the first.
    pub last_state_root: Option<Hash>,
    /// First height of the network.
    pub initial_height: i64,
}

/// Data of the block that is being executed.
#[derive(Default)]
pub struct BlockContext {
    /// Time of the block.
    pub time: Time,
    /// CometBFT address of the proposer.
    pub proposer_address: Vec<u8>,
    /// Who signed the block before.
    pub last_commit: LastCommitInfo,
    /// Proven misbehaviour.
    pub misbehavior: Vec<Misbehavior>,
    /// Gas of the whole block.
    pub gas: GasMeter,
    /// System transactions so far.
    pub system_transactions: Vec<Transaction>,
    /// Leaves of the events root so far.
    pub provable_events: Vec<Vec<u8>>,
    pub(crate) data: HashMap<TypeId, Box<dyn Any + Send>>,
}

impl BlockContext {
    /// Data that a service keeps for the length of the block, by its type.
    pub fn data<T: Default + Send + 'static>(&mut self) -> &mut T {
        self.data
            .entry(TypeId::of::<T>())
            .or_insert_with(|| Box::<T>::default())
            .downcast_mut()
            .expect("entries are stored under the id of their own type")
    }
}

/// The execution context. Source: `go/consensus/cometbft/api/context.go`.
pub struct Context<'a> {
    env: &'a Env<'a>,
    layers: Layers<'a>,
    block: BlockContext,
    mode: Mode,
    now: Time,
    last_height: i64,
    gas: GasMeter,
    tx_signer: PublicKey,
    caller: Address,
    depth: usize,
    priority: i64,
    events: Vec<Event>,
    provable: Vec<Vec<u8>>,
}

impl<'a> Context<'a> {
    /// A context over a committed state. `last_height` is the height of that state.
    pub fn new(env: &'a Env<'a>, base: &'a dyn KvRead, mode: Mode, block: BlockContext, last_height: i64) -> Self {
        Self {
            env,
            layers: Layers::new(base),
            now: block.time,
            block,
            mode,
            last_height,
            gas: GasMeter::Nop,
            tx_signer: PublicKey::default(),
            caller: Address::default(),
            depth: 0,
            priority: 0,
            events: Vec::new(),
            provable: Vec::new(),
        }
    }

    /// Starts the next phase of a block: another mode, no signer, no gas meter. Returns the events of the phase before.
    pub fn begin_phase(&mut self, mode: Mode) -> Vec<Event> {
        self.mode = mode;
        self.gas = GasMeter::Nop;
        self.tx_signer = PublicKey::default();
        self.caller = Address::default();
        self.priority = 0;
        self.block.provable_events.append(&mut self.provable);
        mem::take(&mut self.events)
    }

    /// Ends the context: the changes to the state, and the block's data.
    pub fn finish(self) -> (Layers<'a>, BlockContext) {
        (self.layers, self.block)
    }

    /// Mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the genesis document is being executed.
    pub fn is_init_chain(&self) -> bool {
        self.mode == Mode::InitChain
    }

    /// Whether a transaction is checked for the pool.
    pub fn is_check_only(&self) -> bool {
        self.mode == Mode::CheckTx
    }

    /// Whether this is a simulation.
    pub fn is_simulation(&self) -> bool {
        self.mode == Mode::SimulateTx
    }

    /// Time of the block (of the last block outside of one).
    pub fn now(&self) -> Time {
        self.now
    }

    /// First height of the network.
    pub fn initial_height(&self) -> i64 {
        self.env.initial_height
    }

    /// Height of the committed state.
    pub fn last_height(&self) -> i64 {
        self.last_height
    }

    /// Height of the block being built.
    pub fn current_height(&self) -> i64 {
        self.last_height.saturating_add(1)
    }

    /// Height of the last committed block; 0 before the first.
    pub fn last_block_height(&self) -> i64 {
        if self.last_height < self.env.initial_height { 0 } else { self.last_height }
    }

    /// The network.
    pub fn chain(&self) -> &'a ChainContext {
        self.env.chain
    }

    /// This node's settings.
    pub fn config(&self) -> &'a LocalConfig {
        self.env.config
    }

    /// Keys whose signatures never count: reserved ones, those of the genesis document, and test keys unless allowed.
    pub fn blacklist(&self) -> &'a Blacklist {
        self.env.blacklist
    }

    /// Consensus parameters as of the last commit.
    pub fn consensus_params(&self) -> &'a Parameters {
        self.env.params
    }

    /// Whether the rules of feature version 26.1 hold; always so at genesis.
    pub fn is_feature_26_1(&self) -> bool {
        self.is_init_chain() || self.env.params.has_feature(FEATURE_26_1)
    }

    /// State root of the last committed block; empty before the first.
    pub fn last_state_root(&self) -> &[u8] {
        self.env.last_state_root.as_ref().map_or(&[], |h| h.as_bytes())
    }

    /// Who signed the transaction.
    pub fn tx_signer(&self) -> PublicKey {
        self.tx_signer
    }

    /// Sets the signer, who becomes the caller too.
    pub fn set_tx_signer(&mut self, signer: PublicKey) {
        self.tx_signer = signer;
        self.caller = Address::of_key(&signer);
    }

    /// In whose name the method runs.
    pub fn caller(&self) -> Address {
        self.caller
    }

    /// How deep calls are nested.
    pub fn call_depth(&self) -> usize {
        self.depth
    }

    /// Priority in the pool.
    pub fn priority(&self) -> i64 {
        self.priority
    }

    /// Sets the priority in the pool; higher goes first.
    pub fn set_priority(&mut self, priority: i64) {
        self.priority = priority;
    }

    // State.

    /// State at the innermost layer.
    pub fn state(&mut self) -> View<'_, 'a> {
        let top = self.layers.top();
        self.layers.view(top)
    }

    /// The innermost layer, to come back to it with [`Context::state_at`].
    pub fn level(&self) -> Level {
        self.layers.top()
    }

    /// State at a layer, past those inside it.
    pub fn state_at(&mut self, level: Level) -> View<'_, 'a> {
        self.layers.view(level)
    }

    /// The committed state, without any change of this block.
    pub fn committed_state(&self) -> &'a dyn KvRead {
        self.layers.base()
    }

    // Children.

    /// Runs `f` as a call one deeper, with an event list of its own; `close` says what becomes of its events.
    fn nested<T>(
        &mut self,
        f: impl FnOnce(&mut Self) -> Result<T>,
        keep: impl FnOnce(&Self, bool) -> bool,
    ) -> Result<T> {
        let events = mem::take(&mut self.events);
        let provable = mem::take(&mut self.provable);
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        let kept = keep(self, result.is_ok());
        let child_events = mem::replace(&mut self.events, events);
        let child_provable = mem::replace(&mut self.provable, provable);
        if kept {
            self.events.extend(child_events);
            self.provable.extend(child_provable);
        }
        result
    }

    /// Runs `f` in a child that shares the state. Its events are appended at the end, even if it fails, but not in a
    /// simulation.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn child<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.nested(f, |ctx, _| !ctx.is_simulation())
    }

    /// Runs `f` in a sub-transaction: if it fails, neither state nor events remain.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn transaction<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.layers.push();
        let result = self.nested(f, |_, ok| ok);
        if result.is_ok() {
            self.layers.commit();
        } else {
            self.layers.discard();
        }
        result
    }

    /// Runs `f` in a sub-transaction of which neither state nor events remain.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn discarded_transaction<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.layers.push();
        let result = self.nested(f, |_, _| false);
        self.layers.discard();
        result
    }

    /// Runs `f` as a child in another caller's name.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn with_caller<T>(&mut self, caller: Address, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = mem::replace(&mut self.caller, caller);
        let result = self.child(f);
        self.caller = before;
        result
    }

    /// Runs `f` as a child in simulation mode. The state is shared: wrap it to drop changes.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn with_simulation<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = mem::replace(&mut self.mode, Mode::SimulateTx);
        let result = self.child(f);
        self.mode = before;
        result
    }

    // Events.

    /// Emits an event of a service with one typed attribute.
    pub fn emit<E: TypedEvent>(&mut self, service: &str, event: &E) {
        self.emit_with(service, event, &[]);
    }

    /// Emits an event of a service with one typed attribute and further ones behind it.
    pub fn emit_with<E: TypedEvent>(&mut self, service: &str, event: &E, more: &[(&str, &str)]) {
        let value = event.attribute_value();
        let mut attributes = vec![(E::KIND, value.as_str())];
        attributes.extend_from_slice(more);
        self.emit_raw(service, &attributes);
        if E::PROVABLE {
            self.provable.push(base_codec::cbor::to_vec(event));
        }
    }

    /// Emits an event of a service with the attributes as they are.
    pub fn emit_raw(&mut self, service: &str, attributes: &[(&str, &str)]) {
        let attributes = attributes
            .iter()
            .map(|(key, value)| EventAttribute { key: (*key).to_owned(), value: (*value).to_owned(), index: false })
            .collect();
        self.events.push(Event { kind: format!("{EVENT_TYPE_PREFIX}{service}"), attributes });
    }

    /// Whether this context itself (not its parent) has emitted an attribute of a service.
    pub fn has_event(&self, service: &str, key: &str) -> bool {
        self.events.iter().any(|e| {
            e.kind.strip_prefix(EVENT_TYPE_PREFIX) == Some(service) && e.attributes.iter().any(|a| a.key == key)
        })
    }

    /// The events of this context so far.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    // Gas.

    /// Charges an operation `multiplier` times. Source: `go/consensus/cometbft/api/gas.go`.
    ///
    /// # Errors
    /// If it exceeds the transaction's or the block's limit. If only the block's, the transaction's meter keeps it.
    pub fn use_gas(&mut self, multiplier: u64, op: &str, costs: &Costs) -> Result<()> {
        let Some(amount) = gas::cost(multiplier, op, costs) else {
            return Ok(());
        };
        self.gas.charge(amount)?;
        if matches!(self.gas, GasMeter::LimitedInBlock { .. }) {
            self.block.gas.charge(amount)?;
        }
        Ok(())
    }

    /// The limit of the transaction.
    pub fn gas_wanted(&self) -> Gas {
        self.gas.wanted()
    }

    /// Gas as reported: of the transaction, or of the block so far if that is more and counted.
    pub fn gas_used(&self) -> Gas {
        match self.gas {
            GasMeter::LimitedInBlock { used, .. } => used.max(self.block.gas.own_used()),
            _ => self.gas.own_used(),
        }
    }

    /// Sets the gas meter.
    pub fn set_gas(&mut self, meter: GasMeter) {
        self.gas = meter;
    }

    /// Runs `f` with another gas meter, and returns that meter's final state too.
    pub fn with_gas<T>(&mut self, meter: GasMeter, f: impl FnOnce(&mut Self) -> T) -> (T, GasMeter) {
        let before = mem::replace(&mut self.gas, meter);
        let result = f(self);
        (result, mem::replace(&mut self.gas, before))
    }

    // Block.

    /// Data of the block.
    pub fn block(&self) -> &BlockContext {
        &self.block
    }

    /// Data of the block, to change it.
    pub fn block_mut(&mut self) -> &mut BlockContext {
        &mut self.block
    }

    /// Signatures of the block's transactions that were verified ahead.
    pub fn known_signatures(&self) -> &'a KnownSignatures {
        self.env.known
    }

    /// Data that a service keeps for the length of the block, by its type.
    pub fn block_data<T: Default + Send + 'static>(&mut self) -> &mut T {
        self.block.data()
    }

    // Messages.

    /// Sends a message to every service that subscribes to its kind and is enabled.
    ///
    /// # Errors
    /// If a subscriber fails (all are asked nevertheless) or nobody subscribes.
    pub fn dispatch(&mut self, message: &Message<'_>) -> Result<Option<Reply>> {
        if let Message::ExecuteSubcall { caller, method, body } = message {
            return self.subcall(**caller, method, body).map(|()| Some(Reply::Done));
        }
        let (mut reply, mut error, mut subscribers) = (None, None::<Error>, 0);
        for service in self.env.services.iter().filter(|s| s.handles(message.kind())) {
            if !service.is_enabled(&self.state())? {
                continue;
            }
            subscribers += 1;
            match service.message(self, message) {
                Ok(answer) => reply = reply.or(answer),
                Err(e) if e.is_fatal() => return Err(e),
                // Of several errors the first coded one decides the result.
                Err(e) => {
                    error = match error {
                        Some(first) if matches!(first, Error::Coded(..)) || matches!(e, Error::Uncoded(_)) => {
                            Some(first)
                        }
                        _ => Some(e),
                    }
                }
            }
        }
        match error {
            _ if subscribers == 0 => Err(no_subscribers()),
            Some(e) => Err(e),
            None => Ok(reply),
        }
    }

    /// Executes a method in another account's name, without authentication and fee.
    fn subcall(&mut self, caller: Address, method: &str, body: &base_codec::Raw) -> Result<()> {
        if self.depth > MAX_CALL_DEPTH {
            return Err(Error::uncoded("call depth exceeded"));
        }
        self.with_caller(caller, |ctx| {
            ctx.transaction(|ctx| {
                let service = ctx.resolve(method)?;
                service.execute_tx(ctx, method, body)
            })
        })
    }

    /// The service that executes a method.
    ///
    /// # Errors
    /// If there is none or it is switched off.
    pub fn resolve(&mut self, method: &str) -> Result<&'a dyn Service> {
        let unknown = || Error::Uncoded(format!("mux: unknown method: {method}"));
        let service = self.env.services.iter().find(|s| s.methods().contains(&method)).ok_or_else(unknown)?;
        if service.is_enabled(&self.state())? { Ok(service.as_ref()) } else { Err(unknown()) }
    }
}
