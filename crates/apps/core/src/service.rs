//! What a service is, and what services say to each other.

use base_codec::Raw;
use base_crypto::context::ChainContext;
use base_prims::{Address, Epoch, Quantity};
use comet_chain::app::ValidatorUpdate;
use wire_consensus::{
    genesis::Document,
    known::Claim,
    registry::Runtime,
    roothash::message::{GovernanceMessage, RegistryMessage, StakingMessage},
    transaction::Transaction,
};

use crate::{Context, Error, Result, kv::KvRead};

/// A message from one service to others. Source: `go/consensus/cometbft/api`, message kinds.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// Apply parameter changes of a passed proposal. A module that is not addressed answers nothing.
    ChangeParameters {
        /// Module whose parameters change.
        module: &'a str,
        /// CBOR of the module's parameter changes.
        changes: &'a Raw,
    },
    /// Check parameter changes without applying them.
    ValidateParameterChanges {
        /// Module whose parameters would change.
        module: &'a str,
        /// CBOR of the module's parameter changes.
        changes: &'a Raw,
    },
    /// A runtime's staking message; the caller is the runtime's account.
    RuntimeStaking(&'a StakingMessage),
    /// A runtime's registry message.
    RuntimeRegistry(&'a RegistryMessage),
    /// A runtime's governance message.
    RuntimeGovernance(&'a GovernanceMessage),
    /// A runtime was registered for the first time.
    NewRuntimeRegistered(&'a Runtime),
    /// A runtime's descriptor was updated.
    RuntimeUpdated(&'a Runtime),
    /// A suspended runtime was resumed.
    RuntimeResumed(&'a Runtime),
    /// Committees are about to be elected for the epoch.
    BeforeSchedule {
        /// The new epoch.
        epoch: Epoch,
    },
    /// A withdrawal from an account with a hook; failing refuses it.
    AccountHookWithdraw {
        /// Module that the hook names.
        module: &'a str,
        /// Account withdrawn from.
        from: &'a Address,
        /// Who withdraws.
        to: &'a Address,
        /// Tokens.
        amount: &'a Quantity,
    },
    /// State sync has finished.
    StateSyncCompleted,
    /// Call a method in another account's name; handled by the multiplexer.
    ExecuteSubcall {
        /// The account.
        caller: &'a Address,
        /// Method name.
        method: &'a str,
        /// The method's argument.
        body: &'a Raw,
    },
}

/// What a service subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MessageKind {
    ChangeParameters,
    ValidateParameterChanges,
    RuntimeStaking,
    RuntimeRegistry,
    RuntimeGovernance,
    NewRuntimeRegistered,
    RuntimeUpdated,
    RuntimeResumed,
    BeforeSchedule,
    AccountHookWithdraw,
    StateSyncCompleted,
    ExecuteSubcall,
}

impl Message<'_> {
    /// The kind.
    pub fn kind(&self) -> MessageKind {
        match self {
            Self::ChangeParameters { .. } => MessageKind::ChangeParameters,
            Self::ValidateParameterChanges { .. } => MessageKind::ValidateParameterChanges,
            Self::RuntimeStaking(_) => MessageKind::RuntimeStaking,
            Self::RuntimeRegistry(_) => MessageKind::RuntimeRegistry,
            Self::RuntimeGovernance(_) => MessageKind::RuntimeGovernance,
            Self::NewRuntimeRegistered(_) => MessageKind::NewRuntimeRegistered,
            Self::RuntimeUpdated(_) => MessageKind::RuntimeUpdated,
            Self::RuntimeResumed(_) => MessageKind::RuntimeResumed,
            Self::BeforeSchedule { .. } => MessageKind::BeforeSchedule,
            Self::AccountHookWithdraw { .. } => MessageKind::AccountHookWithdraw,
            Self::StateSyncCompleted => MessageKind::StateSyncCompleted,
            Self::ExecuteSubcall { .. } => MessageKind::ExecuteSubcall,
        }
    }
}

/// What a service answers to a message it was addressed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done; nothing more to say.
    Done,
    /// CBOR of the result of a runtime message.
    Result(Raw),
}

/// One service of the consensus layer. Source: `go/consensus/cometbft/api/app.go`.
///
/// Services hold no state of their own: everything is in the context.
pub trait Service: Send + Sync {
    /// Name, which also orders services: `100_staking`.
    fn name(&self) -> &'static str;

    /// Methods that it executes.
    fn methods(&self) -> &'static [&'static str];

    /// Whether the service is switched on in this network.
    ///
    /// # Errors
    /// [`Error::Fatal`] if the state is unavailable.
    fn is_enabled(&self, _state: &dyn KvRead) -> Result<bool> {
        Ok(true)
    }

    /// Writes the service's part of the genesis state.
    ///
    /// # Errors
    /// Any error is fatal.
    fn init_chain(&self, ctx: &mut Context<'_>, doc: &Document) -> Result<()>;

    /// Runs at the beginning of a block.
    ///
    /// # Errors
    /// Any error is fatal.
    fn begin_block(&self, ctx: &mut Context<'_>) -> Result<()>;

    /// Executes a method.
    ///
    /// # Errors
    /// What the result of the transaction reports.
    fn execute_tx(&self, ctx: &mut Context<'_>, method: &str, body: &Raw) -> Result<()>;

    /// Adds the signatures in the argument of a method that its execution will verify, as far as they can be told
    /// without state. They are verified ahead, together with those of the whole block; what is missing here is verified
    /// when it is needed.
    fn claims(&self, _chain: &ChainContext, _method: &str, _body: &Raw, _claims: &mut Vec<Claim>) {}

    /// Runs at the end of a block. Only the scheduler returns validator updates.
    ///
    /// # Errors
    /// Any error is fatal.
    fn end_block(&self, ctx: &mut Context<'_>) -> Result<Vec<ValidatorUpdate>>;

    /// Whether it subscribes to messages of the kind.
    fn handles(&self, kind: MessageKind) -> bool;

    /// Handles a message; `None` if it was not addressed.
    ///
    /// # Errors
    /// What the sender is told.
    fn message(&self, ctx: &mut Context<'_>, message: &Message<'_>) -> Result<Option<Reply>>;

    /// Writes the service's section of a genesis document that continues from this state.
    ///
    /// # Errors
    /// [`Error::Fatal`] if the state is unavailable.
    fn export_genesis(&self, state: &dyn KvRead, height: i64, doc: &mut Document) -> Result<()>;
}

/// Authenticates transactions and takes their fees; implemented by staking.
pub trait Authenticator: Send + Sync {
    /// Checks signer, nonce and balance; when executing a block, takes the fee and counts the nonce up. Sets the
    /// context's gas meter.
    ///
    /// # Errors
    /// What the result of the transaction reports.
    fn authenticate(&self, ctx: &mut Context<'_>, tx: &Transaction) -> Result<()>;

    /// Takes the fee and counts the nonce up after a transaction passed all checks for the pool.
    ///
    /// # Errors
    /// What the check reports.
    fn after_check(&self, ctx: &mut Context<'_>, tx: &Transaction) -> Result<()>;
}

/// Why a block is not executed although nothing is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// An upgrade is due that this program does not have, or that needs a restart.
    #[error("upgrade: reached upgrade epoch")]
    Upgrade,
    /// The operator asked to stop here.
    #[error("reached the configured halt height or epoch")]
    Configured,
}

/// Applies upgrades that are due; implemented by governance with the node's pending upgrades.
pub trait Upgrader: Send + Sync {
    /// Runs the stage that is due at the beginning or end of a block (told apart by the context's mode).
    ///
    /// # Errors
    /// The outer error is fatal; the inner one stops the node before the block.
    fn consensus_upgrade(&self, ctx: &mut Context<'_>, epoch: Epoch) -> Result<std::result::Result<(), Halt>>;

    /// Whether an upgrade is pending at the height: transactions are then not taken into the pool.
    ///
    /// # Errors
    /// [`Error::Fatal`] if that is unknown.
    fn has_pending_upgrade_at(&self, height: i64) -> Result<bool>;
}

/// The error for a message that nobody subscribes to.
pub(crate) fn no_subscribers() -> Error {
    Error::uncoded("no subscribers to given message kind")
}
