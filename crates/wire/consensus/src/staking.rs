//! Staking: accounts, delegations, commission, parameters, transactions and events.

use std::collections::BTreeMap;

use base_codec::{Codec, int_type};
use base_prims::{Address, Epoch, Hash, Quantity};

use crate::{transaction::Costs, typed_event};

pub mod claims;
pub mod commission;
pub mod pool;
pub mod sanity;

pub use claims::ClaimError;
pub use commission::{CommissionRateBoundStep, CommissionRateStep, CommissionSchedule, CommissionScheduleRules};
pub use pool::PoolError;

/// Module name.
pub const MODULE: &str = "staking";
/// Moves tokens.
pub const METHOD_TRANSFER: &str = "staking.Transfer";
/// Destroys tokens.
pub const METHOD_BURN: &str = "staking.Burn";
/// Delegates tokens.
pub const METHOD_ADD_ESCROW: &str = "staking.AddEscrow";
/// Starts to undelegate.
pub const METHOD_RECLAIM_ESCROW: &str = "staking.ReclaimEscrow";
/// Changes the commission schedule.
pub const METHOD_AMEND_COMMISSION_SCHEDULE: &str = "staking.AmendCommissionSchedule";
/// Sets an allowance.
pub const METHOD_ALLOW: &str = "staking.Allow";
/// Withdraws from another account's allowance.
pub const METHOD_WITHDRAW: &str = "staking.Withdraw";

/// Gas operation of a transfer.
pub const GAS_OP_TRANSFER: &str = "transfer";
/// Gas operation of a burn.
pub const GAS_OP_BURN: &str = "burn";
/// Gas operation of a delegation.
pub const GAS_OP_ADD_ESCROW: &str = "add_escrow";
/// Gas operation of an undelegation.
pub const GAS_OP_RECLAIM_ESCROW: &str = "reclaim_escrow";
/// Gas operation of a commission schedule amendment.
pub const GAS_OP_AMEND_COMMISSION_SCHEDULE: &str = "amend_commission_schedule";
/// Gas operation of an allowance.
pub const GAS_OP_ALLOW: &str = "allow";
/// Gas operation of a withdrawal.
pub const GAS_OP_WITHDRAW: &str = "withdraw";

/// Denominator of commission rates.
pub const COMMISSION_RATE_DENOMINATOR: u64 = 100_000;
/// Denominator of reward scales and factors.
pub const REWARD_AMOUNT_DENOMINATOR: u64 = 100_000_000;
/// Longest token symbol.
pub const TOKEN_SYMBOL_MAX_CHARS: usize = 8;
/// Largest token value exponent.
pub const TOKEN_VALUE_EXPONENT_MAX: u8 = 20;

int_type! { text
    /// What stake is required for. Source: `go/staking/api`.
    pub struct ThresholdKind: i64 {
        ENTITY = 0 => "entity",
        NODE_VALIDATOR = 1 => "node-validator",
        NODE_COMPUTE = 2 => "node-compute",
        NODE_OBSERVER = 3 => "node-observer",
        NODE_KEY_MANAGER = 4 => "node-keymanager",
        RUNTIME_COMPUTE = 5 => "runtime-compute",
        RUNTIME_KEY_MANAGER = 6 => "runtime-keymanager",
        KEY_MANAGER_CHURP = 7 => "keymanager-churp",
    }
}

/// Kinds that parameters must define (CHURP's is not among them).
pub const REQUIRED_THRESHOLDS: [ThresholdKind; 7] = [
    ThresholdKind::ENTITY,
    ThresholdKind::NODE_VALIDATOR,
    ThresholdKind::NODE_COMPUTE,
    ThresholdKind::NODE_OBSERVER,
    ThresholdKind::NODE_KEY_MANAGER,
    ThresholdKind::RUNTIME_COMPUTE,
    ThresholdKind::RUNTIME_KEY_MANAGER,
];

int_type! { text
    /// Why stake is taken away. Source: `go/staking/api/slashing.go`.
    pub struct SlashReason: u8 {
        CONSENSUS_EQUIVOCATION = 0 => "consensus-equivocation",
        CONSENSUS_LIGHT_CLIENT_ATTACK = 4 => "consensus-light-client-attack",
        RUNTIME_INCORRECT_RESULTS = 0x80 => "runtime-incorrect-results",
        RUNTIME_EQUIVOCATION = 0x81 => "runtime-equivocation",
        RUNTIME_LIVENESS = 0x82 => "runtime-liveness",
    }
}

int_type! { int
    /// What a hook on an account intercepts.
    pub struct HookKind: u8 {
        WITHDRAW = 1 => "withdraw",
    }
}

/// Penalty for a reason.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Slash {
    /// Tokens taken.
    pub amount: Quantity,
    /// Epochs for which the node is frozen.
    pub freeze_interval: Epoch,
}

/// A step of the reward schedule.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct RewardStep {
    /// The step ends before this epoch.
    pub until: Epoch,
    /// Scale of rewards.
    pub scale: Quantity,
}

/// Body of `staking.Transfer`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Transfer {
    /// Receiver.
    pub to: Address,
    /// Tokens.
    pub amount: Quantity,
}

/// Body of `staking.Burn`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Burn {
    /// Tokens.
    pub amount: Quantity,
}

/// Body of `staking.AddEscrow`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Escrow {
    /// Account to delegate to.
    pub account: Address,
    /// Tokens.
    pub amount: Quantity,
}

/// Body of `staking.ReclaimEscrow`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ReclaimEscrow {
    /// Account delegated to.
    pub account: Address,
    /// Shares to take back.
    pub shares: Quantity,
}

/// Body of `staking.AmendCommissionSchedule`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct AmendCommissionSchedule {
    /// Replaces the steps from its first start on.
    pub amendment: CommissionSchedule,
}

/// Body of `staking.Allow`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Allow {
    /// Who may withdraw.
    pub beneficiary: Address,
    /// Whether the change lowers the allowance.
    #[codec(omitempty)]
    pub negative: bool,
    /// Size of the change.
    pub amount_change: Quantity,
}

/// Body of `staking.Withdraw`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Withdraw {
    /// Account to withdraw from.
    pub from: Address,
    /// Tokens.
    pub amount: Quantity,
}

/// Result of a transfer by a runtime message.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct TransferResult {
    /// Sender.
    pub from: Address,
    /// Receiver.
    pub to: Address,
    /// Tokens.
    pub amount: Quantity,
}

/// Result of a withdrawal by a runtime message.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct WithdrawResult {
    /// Account withdrawn from.
    pub owner: Address,
    /// Who withdrew.
    pub beneficiary: Address,
    /// Allowance that is left.
    pub allowance: Quantity,
    /// Tokens.
    pub amount_change: Quantity,
}

/// Result of a delegation by a runtime message.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct AddEscrowResult {
    /// Delegator.
    pub owner: Address,
    /// Account delegated to.
    pub escrow: Address,
    /// Tokens.
    pub amount: Quantity,
    /// Shares received.
    pub new_shares: Quantity,
}

/// Result of an undelegation by a runtime message.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ReclaimEscrowResult {
    /// Delegator.
    pub owner: Address,
    /// Account delegated to.
    pub escrow: Address,
    /// Tokens.
    pub amount: Quantity,
    /// Shares of the debonding pool.
    pub debonding_shares: Quantity,
    /// Active shares that are left.
    pub remaining_shares: Quantity,
    /// When the tokens are free.
    pub debond_end_time: Epoch,
}

/// A pool of tokens that shares divide.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct SharePool {
    /// Tokens.
    #[codec(omitempty)]
    pub balance: Quantity,
    /// Shares.
    #[codec(omitempty)]
    pub total_shares: Quantity,
}

/// A required amount of stake: a kind's global threshold or a constant.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct StakeThreshold {
    /// Global threshold of a kind.
    #[codec(omitempty)]
    pub global: Option<ThresholdKind>,
    /// Constant amount.
    #[codec(rename = "const", omitempty)]
    pub constant: Option<Quantity>,
}

/// What an account's escrow must cover.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct StakeAccumulator {
    /// Thresholds by claim.
    #[codec(omitempty)]
    pub claims: BTreeMap<String, Option<Vec<StakeThreshold>>>,
}

/// Where a hook leads.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct HookDestination {
    /// Module that decides.
    pub module: String,
}

/// The spendable part of an account.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct GeneralAccount {
    /// Tokens.
    #[codec(omitempty)]
    pub balance: Quantity,
    /// Transactions sent.
    #[codec(omitempty)]
    pub nonce: u64,
    /// What others may withdraw.
    #[codec(omitempty)]
    pub allowances: BTreeMap<Address, Quantity>,
    /// Hooks.
    #[codec(omitempty)]
    pub hooks: BTreeMap<HookKind, HookDestination>,
}

/// The part of an account that others delegate to.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EscrowAccount {
    /// Active delegations.
    #[codec(omitempty)]
    pub active: SharePool,
    /// Delegations that are being taken back.
    #[codec(omitempty)]
    pub debonding: SharePool,
    /// Commission.
    #[codec(omitempty)]
    pub commission_schedule: CommissionSchedule,
    /// Claims on the active stake.
    #[codec(omitempty)]
    pub stake_accumulator: StakeAccumulator,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Account {
    /// Spendable part.
    #[codec(omitempty)]
    pub general: GeneralAccount,
    /// Delegated part.
    #[codec(omitempty)]
    pub escrow: EscrowAccount,
}

/// A delegation.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Delegation {
    /// Shares of the active pool.
    pub shares: Quantity,
}

/// A delegation with its pool, as queries give it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct DelegationInfo {
    /// Shares of the active pool.
    pub shares: Quantity,
    /// The pool.
    pub pool: SharePool,
}

/// A delegation that is being taken back.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct DebondingDelegation {
    /// Shares of the debonding pool.
    pub shares: Quantity,
    /// When the tokens are free.
    #[codec(rename = "debond_end")]
    pub debond_end_time: Epoch,
}

/// A debonding delegation with its pool, as queries give it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct DebondingDelegationInfo {
    /// Shares of the debonding pool.
    pub shares: Quantity,
    /// When the tokens are free.
    #[codec(rename = "debond_end")]
    pub debond_end_time: Epoch,
    /// The pool.
    pub pool: SharePool,
}

/// Delegations by escrow account, then delegator.
pub type Delegations = BTreeMap<Address, BTreeMap<Address, Delegation>>;
/// Debonding delegations by escrow account, then delegator.
pub type DebondingDelegations = BTreeMap<Address, BTreeMap<Address, Option<Vec<DebondingDelegation>>>>;

/// The section `staking` of a genesis document.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Genesis {
    /// Parameters.
    #[codec(rename = "params")]
    pub parameters: Parameters,
    /// Ticker symbol.
    pub token_symbol: String,
    /// Base-10 exponent of a token in base units.
    pub token_value_exponent: u8,
    /// All tokens.
    pub total_supply: Quantity,
    /// Tokens in the common pool.
    pub common_pool: Quantity,
    /// Fees of the last block.
    pub last_block_fees: Quantity,
    /// Deposits of governance proposals.
    pub governance_deposits: Quantity,
    /// Accounts.
    #[codec(omitempty)]
    pub ledger: BTreeMap<Address, Account>,
    /// Delegations.
    #[codec(omitempty)]
    pub delegations: Delegations,
    /// Debonding delegations.
    #[codec(omitempty)]
    pub debonding_delegations: DebondingDelegations,
}

/// Consensus parameters of staking.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Parameters {
    /// Ticker symbol.
    #[codec(omitempty)]
    pub token_symbol: String,
    /// Base-10 exponent of a token in base units.
    #[codec(omitempty)]
    pub token_value_exponent: u8,
    /// Required stake by kind.
    #[codec(omitempty)]
    pub thresholds: BTreeMap<ThresholdKind, Quantity>,
    /// Epochs until undelegated tokens are free.
    #[codec(omitempty)]
    pub debonding_interval: Epoch,
    /// Reward schedule.
    #[codec(omitempty)]
    pub reward_schedule: Vec<RewardStep>,
    /// Part of an epoch's blocks that must be signed for the reward: numerator.
    #[codec(omitempty)]
    pub signing_reward_threshold_numerator: u64,
    /// The same: denominator.
    #[codec(omitempty)]
    pub signing_reward_threshold_denominator: u64,
    /// Rules for commission schedules.
    #[codec(omitempty)]
    pub commission_schedule_rules: CommissionScheduleRules,
    /// Penalties.
    #[codec(omitempty)]
    pub slashing: BTreeMap<SlashReason, Slash>,
    /// Gas costs.
    #[codec(omitempty)]
    pub gas_costs: Costs,
    /// Smallest delegation.
    #[codec(rename = "min_delegation")]
    pub min_delegation_amount: Quantity,
    /// Smallest transfer.
    #[codec(rename = "min_transfer")]
    pub min_transfer_amount: Quantity,
    /// Balance that an account needs to transact.
    pub min_transact_balance: Quantity,
    /// No transfers.
    #[codec(omitempty)]
    pub disable_transfers: bool,
    /// No delegation to others.
    #[codec(omitempty)]
    pub disable_delegation: bool,
    /// Accounts that may transfer nevertheless.
    #[codec(omitempty)]
    pub undisable_transfers_from: BTreeMap<Address, bool>,
    /// Runtimes may delegate by message.
    #[codec(omitempty)]
    pub allow_escrow_messages: bool,
    /// Most allowances of an account.
    #[codec(omitempty)]
    pub max_allowances: u32,
    /// Weight of the proposer in the split of fees.
    pub fee_split_weight_propose: Quantity,
    /// Weight of the voters.
    pub fee_split_weight_vote: Quantity,
    /// Weight of the next proposer.
    pub fee_split_weight_next_propose: Quantity,
    /// Reward factor for signing blocks of an epoch.
    pub reward_factor_epoch_signed: Quantity,
    /// Reward factor for proposing a block.
    pub reward_factor_block_proposed: Quantity,
    /// Ignore stake claims (test networks).
    #[codec(omitempty)]
    pub debug_bypass_stake: bool,
}

/// Parameter changes that governance may make. Absent fields stay.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ParameterChanges {
    /// See [`Parameters::debonding_interval`].
    #[codec(omitempty)]
    pub debonding_interval: Option<Epoch>,
    /// See [`Parameters::reward_schedule`]. A pointer to a list: an empty list is a change.
    #[codec(omitempty)]
    pub reward_schedule: Option<Box<Option<Vec<RewardStep>>>>,
    /// See [`Parameters::gas_costs`].
    #[codec(omitempty)]
    pub gas_costs: Option<Costs>,
    /// See [`Parameters::min_delegation_amount`].
    #[codec(rename = "min_delegation")]
    pub min_delegation_amount: Option<Quantity>,
    /// See [`Parameters::min_transfer_amount`].
    #[codec(rename = "min_transfer")]
    pub min_transfer_amount: Option<Quantity>,
    /// See [`Parameters::min_transact_balance`].
    pub min_transact_balance: Option<Quantity>,
    /// See [`CommissionScheduleRules::min_commission_rate`].
    pub min_commission_rate: Option<Quantity>,
    /// See [`Parameters::disable_transfers`].
    #[codec(omitempty)]
    pub disable_transfers: Option<bool>,
    /// See [`Parameters::disable_delegation`].
    #[codec(omitempty)]
    pub disable_delegation: Option<bool>,
    /// See [`Parameters::allow_escrow_messages`].
    #[codec(omitempty)]
    pub allow_escrow_messages: Option<bool>,
    /// See [`Parameters::max_allowances`].
    #[codec(omitempty)]
    pub max_allowances: Option<u32>,
    /// See [`Parameters::fee_split_weight_propose`].
    pub fee_split_weight_propose: Option<Quantity>,
    /// See [`Parameters::fee_split_weight_vote`].
    pub fee_split_weight_vote: Option<Quantity>,
    /// See [`Parameters::fee_split_weight_next_propose`].
    pub fee_split_weight_next_propose: Option<Quantity>,
    /// See [`Parameters::reward_factor_epoch_signed`].
    pub reward_factor_epoch_signed: Option<Quantity>,
    /// See [`Parameters::reward_factor_block_proposed`].
    pub reward_factor_block_proposed: Option<Quantity>,
}

/// Tokens moved.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct TransferEvent {
    /// Sender.
    pub from: Address,
    /// Receiver.
    pub to: Address,
    /// Tokens.
    pub amount: Quantity,
}
typed_event!(TransferEvent, "transfer", provable);

/// Tokens destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct BurnEvent {
    /// Whose.
    pub owner: Address,
    /// Tokens.
    pub amount: Quantity,
}
typed_event!(BurnEvent, "burn", provable);

/// Tokens delegated.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct AddEscrowEvent {
    /// Delegator.
    pub owner: Address,
    /// Account delegated to.
    pub escrow: Address,
    /// Tokens.
    pub amount: Quantity,
    /// Shares received.
    pub new_shares: Quantity,
}
typed_event!(AddEscrowEvent, "add_escrow", provable);

/// Stake slashed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct TakeEscrowEvent {
    /// Whose.
    pub owner: Address,
    /// Tokens in all.
    pub amount: Quantity,
    /// Of these from the debonding pool.
    pub debonding_amount: Quantity,
}
typed_event!(TakeEscrowEvent, "take_escrow", provable);

/// Debonding began.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct DebondingStartEscrowEvent {
    /// Delegator.
    pub owner: Address,
    /// Account delegated to.
    pub escrow: Address,
    /// Tokens.
    pub amount: Quantity,
    /// Active shares given up.
    pub active_shares: Quantity,
    /// Debonding shares received.
    pub debonding_shares: Quantity,
    /// When the tokens are free.
    pub debond_end_time: Epoch,
}
typed_event!(DebondingStartEscrowEvent, "debonding_start", provable);

/// Debonding ended.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ReclaimEscrowEvent {
    /// Delegator.
    pub owner: Address,
    /// Account delegated to.
    pub escrow: Address,
    /// Tokens.
    pub amount: Quantity,
    /// Debonding shares given up.
    pub shares: Quantity,
}
typed_event!(ReclaimEscrowEvent, "reclaim_escrow", provable);

/// An allowance changed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct AllowanceChangeEvent {
    /// Whose tokens.
    pub owner: Address,
    /// Who may withdraw.
    pub beneficiary: Address,
    /// Allowance after the change.
    pub allowance: Quantity,
    /// Whether it was lowered.
    #[codec(omitempty)]
    pub negative: bool,
    /// Size of the change.
    pub amount_change: Quantity,
}
typed_event!(AllowanceChangeEvent, "allowance_change", provable);

/// An event of escrow accounts, as queries give it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct EscrowEvent {
    /// Tokens delegated.
    #[codec(omitempty)]
    pub add: Option<AddEscrowEvent>,
    /// Stake slashed.
    #[codec(omitempty)]
    pub take: Option<TakeEscrowEvent>,
    /// Debonding began.
    #[codec(omitempty)]
    pub debonding_start: Option<DebondingStartEscrowEvent>,
    /// Debonding ended.
    #[codec(omitempty)]
    pub reclaim: Option<ReclaimEscrowEvent>,
}

/// A staking event, as queries give it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Event {
    /// Height.
    #[codec(omitempty)]
    pub height: i64,
    /// Transaction, or the empty hash for block events.
    #[codec(omitempty)]
    pub tx_hash: Hash,
    /// Tokens moved.
    #[codec(omitempty)]
    pub transfer: Option<TransferEvent>,
    /// Tokens destroyed.
    #[codec(omitempty)]
    pub burn: Option<BurnEvent>,
    /// Escrow accounts.
    #[codec(omitempty)]
    pub escrow: Option<EscrowEvent>,
    /// An allowance changed.
    #[codec(omitempty)]
    pub allowance_change: Option<AllowanceChangeEvent>,
}

/// Query for a threshold.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ThresholdQuery {
    /// Height, 0 for the newest.
    pub height: i64,
    /// Kind.
    pub kind: ThresholdKind,
}

/// Query for an account.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct OwnerQuery {
    /// Height, 0 for the newest.
    pub height: i64,
    /// The account.
    pub owner: Address,
}

/// Query for an allowance.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct AllowanceQuery {
    /// Height, 0 for the newest.
    pub height: i64,
    /// Whose tokens.
    pub owner: Address,
    /// Who may withdraw.
    pub beneficiary: Address,
}
