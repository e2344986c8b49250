//! The multiplexer: runs genesis, blocks and checks through all services.
//!
//! Source: `go/consensus/cometbft/abci/{mux,transaction,system}.go`.

use base_codec::cbor;
use base_crypto::context::ChainContext;
use base_prims::{EPOCH_INVALID, Epoch, Hash, PublicKey};
use comet_chain::app::{BlockResults, CheckResult, Event, ProposedBlock, TxResult, ValidatorUpdate};
use wire_cometbft::merkle;
use wire_consensus::{
    Time,
    consensus::{GAS_OP_TX_BYTE, Parameters},
    errors,
    genesis::Document,
    meta::{BlockMetadata, METHOD_META},
    transaction::{Fee, Gas, SignedTransaction, Transaction},
};

use crate::{
    Authenticator, BlockContext, Context, Env, Error, GasMeter, Halt, LocalConfig, Mode, Result, Service, Upgrader,
    epoch,
    kv::KvRead,
    open::{OpenedTx, OpenedTxs, Opener},
    params,
};

/// Data of a successful transaction: no handler returns any, and the reference encodes that as CBOR null.
const CBOR_NULL: u8 = 0xf6;

/// What a multiplexer is made of.
pub struct MuxConfig {
    /// Services; they run in order of their names.
    pub services: Vec<Box<dyn Service>>,
    /// Who authenticates transactions.
    pub authenticator: Box<dyn Authenticator>,
    /// Who applies upgrades, if anybody.
    pub upgrader: Option<Box<dyn Upgrader>>,
    /// This node's settings.
    pub local: LocalConfig,
}

/// Runs services over a state that somebody else keeps.
pub struct Mux {
    opener: Opener,
    authenticator: Box<dyn Authenticator>,
    upgrader: Option<Box<dyn Upgrader>>,
    local: LocalConfig,
    initial_height: i64,
    // As of the last commit.
    params: Parameters,
    last_height: i64,
    last_root: Option<Hash>,
    last_time: Time,
    // Events of the genesis, until the first block reports them.
    init_events: Vec<Event>,
}

/// Why a block was not executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The state is unavailable, or a service failed where it must not.
    #[error("{0}")]
    Fatal(String),
    /// The block breaks a rule that its proposer had to keep.
    #[error("invalid block: {0}")]
    Invalid(String),
    /// The node has to stop before this block.
    #[error(transparent)]
    Halt(#[from] Halt),
}

impl From<Error> for BlockError {
    fn from(e: Error) -> Self {
        Self::Fatal(e.to_string())
    }
}

/// A block that was executed and awaits its commit.
#[derive(Debug)]
pub struct Executed {
    /// Results, for the engine.
    pub results: BlockResults,
    /// Changes to the state.
    pub changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Root of the provable events.
    pub events_root: [u8; 32],
    /// Time of the block.
    pub time: Time,
    metadata: Vec<Transaction>,
}

/// Whether a block is executed to build it or to follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The node proposes: there is no metadata transaction yet.
    Propose,
    /// Somebody proposed or committed it.
    Follow,
}

impl Executed {
    /// Checks the block metadata transaction against the state root after the block.
    ///
    /// # Errors
    /// [`BlockError::Invalid`] if it is missing, doubled, malformed or wrong.
    pub fn verify_metadata(&self, state_root: &Hash) -> std::result::Result<(), BlockError> {
        let invalid = |text: String| Err(BlockError::Invalid(text));
        let [tx] = self.metadata.as_slice() else {
            return invalid(format!("expected one block metadata transaction, found {}", self.metadata.len()));
        };
        let meta: BlockMetadata = match cbor::from_slice(&tx.body) {
            Ok(meta) => meta,
            Err(e) => return invalid(format!("malformed block metadata: {e}")),
        };
        if let Err(e) = meta.validate_basic() {
            return invalid(format!("malformed block metadata: {e}"));
        }
        if meta.state_root != *state_root {
            return invalid(format!(
                "invalid state root in block metadata (expected: {state_root} got: {})",
                meta.state_root
            ));
        }
        if meta.events_root.as_ref().map(|b| b.as_slice()) != Some(&self.events_root[..]) {
            return invalid("invalid events root in block metadata".to_owned());
        }
        Ok(())
    }

    /// Adds the result of the metadata transaction that the proposer appends after execution.
    pub fn push_metadata_result(&mut self) {
        self.results.tx_results.push(TxResult { data: vec![CBOR_NULL], ..TxResult::default() });
    }
}

/// A state without keys.
struct EmptyState;

impl KvRead for EmptyState {
    fn get(&self, _: &[u8]) -> std::result::Result<Option<Vec<u8>>, mkvs_tree::TreeError> {
        Ok(None)
    }
    fn iterate(
        &self,
        _: &[u8],
        _: &mut dyn FnMut(&[u8], &[u8]) -> std::ops::ControlFlow<()>,
    ) -> std::result::Result<(), mkvs_tree::TreeError> {
        Ok(())
    }
}

impl Mux {
    /// A multiplexer for a network that starts with the genesis document.
    pub fn new(config: MuxConfig, doc: &Document) -> Self {
        let MuxConfig { mut services, authenticator, upgrader, local } = config;
        services.sort_by_key(|s| s.name());
        let opener = Opener::new(services, doc.chain_context(), doc.blacklist(local.allow_test_keys));
        Self {
            opener,
            authenticator,
            upgrader,
            local,
            initial_height: doc.height,
            params: doc.consensus.parameters.clone(),
            last_height: doc.height.saturating_sub(1),
            last_root: None,
            last_time: doc.time.0,
            init_events: Vec::new(),
        }
    }

    /// The network.
    pub fn chain(&self) -> &ChainContext {
        self.opener.chain()
    }

    /// What opens transactions; may be used on other threads, ahead of their execution.
    pub fn opener(&self) -> &Opener {
        &self.opener
    }

    /// Height of the last committed block; the one before the first height if there is none.
    pub fn last_height(&self) -> i64 {
        self.last_height
    }

    /// Consensus parameters as of the last commit.
    pub fn params(&self) -> &Parameters {
        &self.params
    }

    /// The services in order.
    pub fn services(&self) -> &[Box<dyn Service>] {
        self.opener.services()
    }

    fn env(&self) -> Env<'_> {
        Env {
            services: self.opener.services(),
            chain: self.opener.chain(),
            config: &self.local,
            blacklist: self.opener.blacklist(),
            known: self.opener.none_known(),
            params: &self.params,
            last_state_root: self.last_root,
            initial_height: self.initial_height,
        }
    }

    /// Executes the genesis document over an empty state and returns the changes.
    ///
    /// # Errors
    /// If a service refuses the document, naming service and reason.
    pub fn init_chain(&mut self, doc: &Document) -> Result<Vec<(Vec<u8>, Option<Vec<u8>>)>> {
        let (changes, events) = {
            let env = self.env();
            let block = BlockContext { time: doc.time.0, ..BlockContext::default() };
            let mut ctx =
                Context::new(&env, &EmptyState, Mode::InitChain, block, self.initial_height.saturating_sub(1));
            params::set_chain_context(&mut ctx.state(), self.opener.chain())?;
            for service in self.opener.services() {
                service
                    .init_chain(&mut ctx, doc)
                    .map_err(|e| e.context(format!("genesis of service {}", service.name())))?;
            }
            params::set_parameters(&mut ctx.state(), &doc.consensus.parameters)?;
            let events = ctx.begin_phase(Mode::InitChain);
            let (layers, _) = ctx.finish();
            (layers.into_changes().collect(), events)
        };
        self.init_events = events;
        self.params = doc.consensus.parameters.clone();
        self.last_time = doc.time.0;
        Ok(changes)
    }

    /// Executes a block over the committed state.
    ///
    /// # Errors
    /// See [`BlockError`]; the state is untouched in any case.
    pub fn execute(
        &self,
        state: &dyn KvRead,
        block: &ProposedBlock,
        purpose: Purpose,
    ) -> std::result::Result<Executed, BlockError> {
        self.execute_opened(state, block, self.opener.open(&block.txs), purpose)
    }

    /// Executes a block whose transactions were opened before, by this multiplexer's [`Opener`].
    ///
    /// # Errors
    /// As [`Mux::execute`].
    pub fn execute_opened(
        &self,
        state: &dyn KvRead,
        block: &ProposedBlock,
        opened: OpenedTxs,
        purpose: Purpose,
    ) -> std::result::Result<Executed, BlockError> {
        let env = Env { known: &opened.known, ..self.env() };
        let gas =
            if self.params.max_block_gas > 0 { GasMeter::limited(self.params.max_block_gas) } else { GasMeter::Nop };
        let context = BlockContext {
            time: block.time,
            proposer_address: block.proposer_address.as_ref().to_vec(),
            last_commit: block.last_commit.clone(),
            misbehavior: block.misbehavior.clone(),
            gas,
            ..BlockContext::default()
        };
        let mut ctx = Context::new(&env, state, Mode::BeginBlock, context, self.last_height);

        self.begin_block(&mut ctx)?;
        let mut begin_events = if ctx.last_block_height() == 0 { self.init_events.clone() } else { Vec::new() };
        begin_events.extend(ctx.begin_phase(Mode::DeliverTx));

        let mut tx_results = Vec::with_capacity(opened.txs.len());
        for opened in opened.txs {
            tx_results.push(self.deliver(&mut ctx, opened, purpose)?);
        }

        ctx.begin_phase(Mode::EndBlock);
        let validator_updates = self.end_block(&mut ctx)?;
        let end_events = ctx.begin_phase(Mode::EndBlock);
        let (layers, context) = ctx.finish();
        let leaves: Vec<&[u8]> = context.provable_events.iter().map(Vec::as_slice).collect();
        Ok(Executed {
            results: BlockResults {
                begin_events,
                tx_results,
                end_events,
                validator_updates,
                consensus_param_updates: Some(app_version_update()),
            },
            changes: layers.into_changes().collect(),
            events_root: merkle::root(&leaves),
            time: block.time,
            metadata: context.system_transactions,
        })
    }

    /// Takes note that an executed block was committed with the state root.
    ///
    /// # Errors
    /// If the parameters cannot be read from the new state.
    pub fn committed(&mut self, executed: &Executed, state: &dyn KvRead, root: Hash) -> Result<()> {
        self.params = params::parameters(state)?;
        self.last_height = self.last_height.saturating_add(1);
        self.last_root = Some(root);
        self.last_time = executed.time;
        self.init_events = Vec::new();
        Ok(())
    }

    /// Starts from a state that was restored or kept from an earlier run.
    ///
    /// # Errors
    /// If the state is of another network or unreadable.
    pub fn resume(&mut self, state: &dyn KvRead, height: i64, root: Hash, time: Time) -> Result<()> {
        let found = params::chain_context(state)?;
        if found != *self.chain() {
            return Err(Error::Fatal(format!("state belongs to chain {found}, expected {}", self.chain())));
        }
        self.params = params::parameters(state)?;
        self.last_height = height;
        self.last_root = Some(root);
        self.last_time = time;
        Ok(())
    }

    /// Tells services that the node goes on from a state that it has not executed block by block, or that it kept
    /// from an earlier run. Nothing they change in the state is kept.
    ///
    /// # Errors
    /// If a service fails; the node cannot go on then.
    pub fn state_synced(&self, state: &dyn KvRead) -> Result<()> {
        let env = self.env();
        let block = BlockContext { time: self.last_time, ..BlockContext::default() };
        let mut ctx = Context::new(&env, state, Mode::EndBlock, block, self.last_height);
        ctx.dispatch(&crate::Message::StateSyncCompleted).map(drop)
    }

    /// Whether the node is to halt before a block, as its operator said; `epoch` is that of the block.
    pub fn halts_before(&self, height: i64, epoch: Epoch) -> bool {
        let height_due = self.local.halt_height.is_some_and(|h| height >= h);
        let epoch_due =
            epoch != EPOCH_INVALID && self.local.halt_epoch.is_some_and(|e| e != EPOCH_INVALID && epoch >= e);
        height_due || epoch_due
    }

    fn begin_block(&self, ctx: &mut Context<'_>) -> std::result::Result<(), BlockError> {
        let epoch = epoch::current_epoch(ctx)?;
        if let Some(upgrader) = &self.upgrader {
            upgrader.consensus_upgrade(ctx, epoch)??;
        }
        if self.halts_before(ctx.current_height(), epoch) {
            return Err(Halt::Configured.into());
        }
        for service in self.opener.services() {
            service.begin_block(ctx).map_err(|e| {
                if e.is(&errors::upgrade::STOP_FOR_UPGRADE) {
                    return BlockError::Halt(Halt::Upgrade);
                }
                e.context(format!("beginning of block in service {}", service.name())).into()
            })?;
        }
        Ok(())
    }

    fn end_block(&self, ctx: &mut Context<'_>) -> std::result::Result<Vec<ValidatorUpdate>, BlockError> {
        let mut updates = Vec::new();
        for service in self.opener.services() {
            updates.extend(
                service.end_block(ctx).map_err(|e| e.context(format!("end of block in service {}", service.name())))?,
            );
        }
        if let Some(upgrader) = &self.upgrader {
            let epoch = epoch::current_epoch(ctx)?;
            upgrader.consensus_upgrade(ctx, epoch)??;
        }
        Ok(updates)
    }

    fn deliver(
        &self,
        ctx: &mut Context<'_>,
        opened: OpenedTx,
        purpose: Purpose,
    ) -> std::result::Result<TxResult, BlockError> {
        ctx.begin_phase(Mode::DeliverTx);
        let outcome = match opened.checked(self.params.max_tx_size) {
            Err(e) => Err(e),
            Ok((tx, signer, _)) if tx.method == METHOD_META => {
                system_transaction(ctx, tx, signer, purpose)?;
                Ok(())
            }
            Ok((tx, signer, size)) => {
                ctx.set_tx_signer(signer);
                self.process(ctx, &tx, size)
            }
        };
        let (gas_wanted, gas_used) = (ctx.gas_wanted().cast_signed(), ctx.gas_used().cast_signed());
        let events = ctx.begin_phase(Mode::DeliverTx);
        match outcome {
            Ok(()) => Ok(TxResult { data: vec![CBOR_NULL], gas_wanted, gas_used, events, ..TxResult::default() }),
            Err(Error::Fatal(text)) => Err(BlockError::Fatal(text)),
            Err(e) => {
                let (module, code) = e.code();
                Ok(TxResult {
                    code,
                    codespace: module.to_owned(),
                    log: e.to_string(),
                    gas_wanted,
                    gas_used,
                    events,
                    ..TxResult::default()
                })
            }
        }
    }

    /// Everything behind the signature check. Source: `processTx`.
    fn process(&self, ctx: &mut Context<'_>, tx: &Transaction, size: usize) -> Result<()> {
        if tx.method == METHOD_META {
            return Err(Error::uncoded("system methods are not allowed to be called"));
        }
        let service = ctx.resolve(&tx.method)?;
        self.authenticator.authenticate(ctx, tx)?;
        let params = ctx.consensus_params();
        ctx.use_gas(u64::try_from(size).unwrap_or(u64::MAX), GAS_OP_TX_BYTE, &params.gas_costs)?;
        if params.min_gas_price > 0 && !ctx.is_simulation() {
            let price = tx.fee.as_ref().map(Fee::gas_price).ok_or(&errors::transaction::GAS_PRICE_TOO_LOW)?;
            if price < params.min_gas_price.into() {
                return Err((&errors::transaction::GAS_PRICE_TOO_LOW).into());
            }
        }
        service.execute_tx(ctx, &tx.method, &tx.body)?;
        if ctx.is_check_only() { self.authenticator.after_check(ctx, tx) } else { Ok(()) }
    }

    /// Checks a transaction for the pool over the state that earlier checks have left. Returns the verdict and the
    /// changes for that state.
    pub fn check(&self, state: &dyn KvRead, raw: &[u8]) -> (CheckResult, Vec<(Vec<u8>, Option<Vec<u8>>)>) {
        let env = self.env();
        let block = BlockContext { time: self.last_time, ..BlockContext::default() };
        let mut ctx = Context::new(&env, state, Mode::CheckTx, block, self.last_height);
        let outcome = self.check_inner(&mut ctx, raw);
        let mut result = CheckResult {
            gas_wanted: ctx.gas_wanted().cast_signed(),
            gas_used: ctx.gas_used().cast_signed(),
            ..CheckResult::default()
        };
        match outcome {
            Ok(()) => result.priority = ctx.priority(),
            Err(e) => {
                let (module, code) = e.code();
                result.code = code;
                module.clone_into(&mut result.codespace);
                result.log = e.to_string();
            }
        }
        let (layers, _) = ctx.finish();
        (result, layers.into_changes().collect())
    }

    fn check_inner(&self, ctx: &mut Context<'_>, raw: &[u8]) -> Result<()> {
        let (tx, signer, size) = self.opener.open_one(raw, self.params.max_tx_size)?;
        ctx.set_tx_signer(signer);
        if let Some(upgrader) = &self.upgrader
            && upgrader.has_pending_upgrade_at(ctx.current_height())?
        {
            return Err((&errors::transaction::UPGRADE_PENDING).into());
        }
        self.process(ctx, &tx, size)
    }

    /// Gas that a transaction of the caller would use; errors of the transaction are not reported.
    ///
    /// # Errors
    /// If there is no block yet or the transaction is too large.
    pub fn estimate_gas(&self, state: &dyn KvRead, caller: PublicKey, tx: &Transaction) -> Result<Gas> {
        let encoded = u64::try_from(cbor::to_vec(tx).len()).unwrap_or(u64::MAX);
        if self.params.max_tx_size > 0 && encoded > self.params.max_tx_size {
            return Err((&errors::consensus::OVERSIZED_TX).into());
        }
        let env = self.env();
        let block = BlockContext { time: self.last_time, ..BlockContext::default() };
        let mut ctx = Context::new(&env, state, Mode::SimulateTx, block, self.last_height);
        if ctx.last_block_height() == 0 {
            return Err((&errors::consensus::NO_COMMITTED_BLOCKS).into());
        }
        let tx = Transaction { fee: Some(Fee { amount: u64::MAX.into(), gas: Gas::MAX }), ..tx.clone() };
        let mut envelope = SignedTransaction::default();
        envelope.0.untrusted_raw_value = Some(base_codec::Bytes(cbor::to_vec(&tx)));
        let size = cbor::to_vec(&envelope).len();
        ctx.set_tx_signer(caller);
        // What the transaction would fail with does not matter here.
        let _ = self.process(&mut ctx, &tx, size);
        Ok(ctx.gas_used())
    }
}

/// A system transaction of the block's proposer. Source: `processSystemTx`.
fn system_transaction(
    ctx: &mut Context<'_>,
    tx: Transaction,
    signer: PublicKey,
    purpose: Purpose,
) -> std::result::Result<(), BlockError> {
    let invalid = |text: &str| Err(BlockError::Invalid(text.to_owned()));
    if purpose == Purpose::Propose {
        return invalid("system transaction included during proposal phase");
    }
    if tx.nonce != 0 || tx.fee.is_some() {
        return invalid("malformed system transaction in block");
    }
    if signer.comet_address()[..] != ctx.block().proposer_address[..] {
        return invalid("system transaction not signed by block proposer");
    }
    ctx.block_mut().system_transactions.push(tx);
    Ok(())
}

fn app_version_update() -> comet_chain::app::ConsensusParamsUpdate {
    comet_chain::app::ConsensusParamsUpdate {
        version: Some(comet_chain::app::VersionParams { app: base_prims::version::COMET_APP_VERSION }),
        ..Default::default()
    }
}
