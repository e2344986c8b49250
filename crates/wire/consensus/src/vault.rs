//! Vaults: accounts that several parties control together.

use std::collections::{BTreeMap, BTreeSet};

use base_codec::{Codec, Raw, cbor, int_type};
use base_prims::{Address, Hash, Quantity};

use crate::{Invalid, invalid, transaction::Costs, typed_event};

/// Module name.
pub const MODULE: &str = "vault";

/// Creates a vault; the body is [`Create`].
pub const METHOD_CREATE: &str = "vault.Create";
/// Authorizes an action; the body is [`AuthorizeAction`].
pub const METHOD_AUTHORIZE_ACTION: &str = "vault.AuthorizeAction";
/// Cancels an action; the body is [`CancelAction`].
pub const METHOD_CANCEL_ACTION: &str = "vault.CancelAction";
/// All methods.
pub const METHODS: &[&str] = &[METHOD_CREATE, METHOD_AUTHORIZE_ACTION, METHOD_CANCEL_ACTION];

/// Gas operation of [`METHOD_CREATE`].
pub const GAS_OP_CREATE: &str = "create";
/// Gas operation of [`METHOD_AUTHORIZE_ACTION`].
pub const GAS_OP_AUTHORIZE_ACTION: &str = "authorize_action";
/// Gas operation of [`METHOD_CANCEL_ACTION`].
pub const GAS_OP_CANCEL_ACTION: &str = "cancel_action";

/// The gas costs of [`Parameters::defaults`].
pub fn default_gas_costs() -> Costs {
    [(GAS_OP_CREATE, 10_000), (GAS_OP_AUTHORIZE_ACTION, 5_000), (GAS_OP_CANCEL_ACTION, 5_000)]
        .map(|(op, gas)| (op.to_owned(), gas))
        .into()
}

/// The section `vault` of a genesis document. Source: `go/vault/api`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Genesis {
    /// Parameters.
    #[codec(rename = "params")]
    pub parameters: Parameters,
    /// Vaults.
    #[codec(omitempty)]
    pub vaults: Vec<Vault>,
    /// By vault and address: what may be withdrawn from the vault by the address.
    #[codec(omitempty)]
    pub states: BTreeMap<Address, Option<BTreeMap<Address, AddressState>>>,
    /// By vault: actions that lack authorizations.
    #[codec(omitempty)]
    pub pending_actions: BTreeMap<Address, Option<Vec<PendingAction>>>,
}

impl Genesis {
    /// Checks the section.
    ///
    /// # Errors
    /// If the parameters are out of range.
    pub fn sanity_check(&self) -> Result<(), Invalid> {
        self.parameters.sanity_check().map_err(|e| Invalid::new(format!("vault: sanity check failed: {e}")))
    }
}

/// Consensus parameters; part of the state under the key `33`. Absent parameters are the default: disabled.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Parameters {
    /// Whether the service is enabled.
    #[codec(omitempty)]
    pub enabled: bool,
    /// Most addresses of an authority.
    #[codec(omitempty)]
    pub max_authority_addresses: u8,
    /// Gas costs.
    #[codec(omitempty)]
    pub gas_costs: Costs,
}

impl Parameters {
    /// The parameters that the upgrade `consensus240` installs.
    pub fn defaults() -> Self {
        Self { enabled: true, max_authority_addresses: 32, gas_costs: default_gas_costs() }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// If the service is enabled and authorities could have no addresses.
    pub fn sanity_check(&self) -> Result<(), Invalid> {
        if self.enabled && self.max_authority_addresses == 0 {
            invalid!("maximum number of authority addresses should be greater than zero");
        }
        Ok(())
    }
}

/// The parameters that governance may change; what is absent stays.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ParameterChanges {
    /// New value of [`Parameters::max_authority_addresses`].
    #[codec(omitempty)]
    pub max_authority_addresses: Option<u8>,
    /// New gas costs.
    #[codec(omitempty)]
    pub gas_costs: Option<Costs>,
}

impl ParameterChanges {
    /// Checks the changes by themselves.
    ///
    /// # Errors
    /// If nothing changes.
    pub fn sanity_check(&self) -> Result<(), Invalid> {
        if self.max_authority_addresses.is_none() && self.gas_costs.is_none() {
            invalid!("consensus parameter changes should not be empty");
        }
        Ok(())
    }

    /// Makes the changes.
    pub fn apply(&self, p: &mut Parameters) {
        if let Some(v) = self.max_authority_addresses {
            p.max_authority_addresses = v;
        }
        if let Some(v) = &self.gas_costs {
            p.gas_costs.clone_from(v);
        }
    }
}

int_type! { int
    /// State of a vault. Source: `go/vault/api/vault.go`.
    pub struct State: u8 {
        /// Nothing can be withdrawn.
        SUSPENDED = 0 => "suspended",
        /// Withdrawals are processed.
        ACTIVE = 1 => "active",
    }
}

/// A vault. Source: `go/vault/api/vault.go`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Vault {
    /// Who created the vault.
    pub creator: Address,
    /// Tells the creator's vaults apart: the creator's nonce after the creating transaction.
    pub id: u64,
    /// State.
    pub state: State,
    /// Number of the next action.
    #[codec(omitempty)]
    pub nonce: u64,
    /// Who may authorize any action.
    pub admin_authority: Authority,
    /// Who may, besides the admins, suspend and resume.
    pub suspend_authority: Authority,
}

impl Vault {
    /// The vault's account.
    pub fn address(&self) -> Address {
        Address::of_vault(&self.creator, self.id)
    }

    /// Whether withdrawals are processed.
    pub fn is_active(&self) -> bool {
        self.state == State::ACTIVE
    }

    /// Whether the address is in one of the authorities.
    pub fn authorities_contain(&self, address: &Address) -> bool {
        self.admin_authority.contains(address) || self.suspend_authority.contains(address)
    }
}

/// A group of addresses of which some number must agree.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Authority {
    /// The addresses.
    pub addresses: Option<Vec<Address>>,
    /// How many of them must agree.
    pub threshold: u8,
}

impl Authority {
    /// The addresses.
    pub fn addresses(&self) -> &[Address] {
        self.addresses.as_deref().unwrap_or_default()
    }

    /// Checks the group.
    ///
    /// # Errors
    /// If it has no or too many addresses, an address twice, or a threshold of zero or above their number.
    pub fn validate(&self, p: &Parameters) -> Result<(), Invalid> {
        let (addresses, max) = (self.addresses(), p.max_authority_addresses);
        if addresses.is_empty() {
            invalid!("no addresses");
        }
        if self.threshold == 0 {
            invalid!("threshold cannot be zero");
        }
        if usize::from(self.threshold) > addresses.len() {
            invalid!("threshold is larger than the number of addresses");
        }
        if addresses.len() > usize::from(max) {
            invalid!("too many addresses in authority (max: {max} got: {})", addresses.len());
        }
        let mut seen = BTreeSet::new();
        if let Some(a) = addresses.iter().find(|a| !seen.insert(**a)) {
            invalid!("duplicate address in authority: {a}");
        }
        Ok(())
    }

    /// Whether the address is in the group.
    pub fn contains(&self, address: &Address) -> bool {
        self.addresses().contains(address)
    }

    /// Whether enough of the group are among the addresses, each counted once.
    pub fn verify(&self, addresses: &[Address]) -> bool {
        let mut open: BTreeSet<_> = self.addresses().iter().collect();
        let count = addresses.iter().filter(|a| open.remove(a)).count();
        // A single match is needed even where a genesis document holds a threshold of zero.
        count > 0 && count >= usize::from(self.threshold)
    }
}

/// What one address may withdraw from a vault, and has withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct AddressState {
    /// The limits.
    pub withdraw_policy: WithdrawPolicy,
    /// Number of the interval that is accounted for.
    #[codec(rename = "bucket")]
    pub current_bucket: u64,
    /// What was withdrawn in that interval.
    #[codec(rename = "amount")]
    pub current_amount: Quantity,
}

impl AddressState {
    /// Installs new limits; accounting starts again if the interval changes.
    pub fn update_withdraw_policy(&mut self, policy: &WithdrawPolicy) {
        if self.withdraw_policy.limit_interval != policy.limit_interval {
            self.current_bucket = 0;
            self.current_amount = Quantity::ZERO;
        }
        self.withdraw_policy = policy.clone();
    }

    /// Whether the amount may be withdrawn at the height; if so it is accounted for.
    pub fn authorize_withdrawal(&mut self, height: i64, amount: &Quantity) -> bool {
        if amount.is_zero() {
            return true;
        }
        if self.withdraw_policy.is_disabled() {
            return false;
        }
        let bucket = height.cast_unsigned() / self.withdraw_policy.limit_interval;
        let wanted = if bucket == self.current_bucket { self.current_amount.add(amount) } else { amount.clone() };
        if wanted > self.withdraw_policy.limit_amount {
            return false;
        }
        self.current_bucket = bucket;
        self.current_amount = wanted;
        true
    }
}

/// Limits of withdrawals.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct WithdrawPolicy {
    /// Most base units in an interval.
    pub limit_amount: Quantity,
    /// Length of an interval in blocks.
    pub limit_interval: u64,
}

impl WithdrawPolicy {
    /// Whether nothing may be withdrawn.
    pub fn is_disabled(&self) -> bool {
        self.limit_amount.is_zero() || self.limit_interval == 0
    }
}

/// An action that lacks authorizations.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct PendingAction {
    /// Number of the action.
    pub nonce: u64,
    /// Who has authorized it.
    pub authorized_by: Option<Vec<Address>>,
    /// The action.
    pub action: Action,
}

impl PendingAction {
    /// Who has authorized the action.
    pub fn authorized_by(&self) -> &[Address] {
        self.authorized_by.as_deref().unwrap_or_default()
    }
}

/// What a vault is to do: exactly one of the fields. Source: `go/vault/api/action.go`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Action {
    /// Suspend the vault.
    #[codec(omitempty)]
    pub suspend: Option<ActionSuspend>,
    /// Resume the vault.
    #[codec(omitempty)]
    pub resume: Option<ActionResume>,
    /// Call a method as the vault.
    #[codec(omitempty, rename = "execute_msg")]
    pub execute_message: Option<ActionExecuteMessage>,
    /// Change what an address may withdraw.
    #[codec(omitempty)]
    pub update_withdraw_policy: Option<ActionUpdateWithdrawPolicy>,
    /// Change the authorities.
    #[codec(omitempty)]
    pub update_authority: Option<ActionUpdateAuthority>,
}

/// Suspends the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct ActionSuspend {}

/// Resumes the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct ActionResume {}

/// Calls a method as if the vault had sent a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ActionExecuteMessage {
    /// Name of the method.
    pub method: String,
    /// The method's argument.
    #[codec(omitempty)]
    pub body: Raw,
}

/// Changes what an address may withdraw.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ActionUpdateWithdrawPolicy {
    /// The address.
    pub address: Address,
    /// The new limits.
    pub policy: WithdrawPolicy,
}

/// Changes the authorities; what is absent stays.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ActionUpdateAuthority {
    /// New admins.
    #[codec(omitempty)]
    pub admin_authority: Option<Authority>,
    /// New suspenders.
    #[codec(omitempty)]
    pub suspend_authority: Option<Authority>,
}

impl ActionUpdateAuthority {
    /// Checks the new authorities.
    ///
    /// # Errors
    /// If one of them is malformed or there is none.
    pub fn validate(&self, p: &Parameters) -> Result<(), Invalid> {
        for (kind, authority) in [("admin", &self.admin_authority), ("suspend", &self.suspend_authority)] {
            if let Some(a) = authority {
                a.validate(p).map_err(|e| Invalid::new(format!("malformed updated {kind} authority: {e}")))?;
            }
        }
        if self.admin_authority.is_none() && self.suspend_authority.is_none() {
            invalid!("at least one authority must be updated");
        }
        Ok(())
    }

    /// Makes the change.
    pub fn apply(&self, vault: &mut Vault) {
        if let Some(a) = &self.admin_authority {
            vault.admin_authority = a.clone();
        }
        if let Some(a) = &self.suspend_authority {
            vault.suspend_authority = a.clone();
        }
    }
}

impl Action {
    /// Checks that there is exactly one action and that it is well-formed.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn validate(&self, p: &Parameters) -> Result<(), Invalid> {
        let set = [
            self.suspend.is_some(),
            self.resume.is_some(),
            self.execute_message.is_some(),
            self.update_withdraw_policy.is_some(),
            self.update_authority.is_some(),
        ];
        if set.iter().filter(|s| **s).count() != 1 {
            invalid!("exactly one action must be set");
        }
        if let Some(m) = &self.execute_message
            && m.method.is_empty()
        {
            invalid!("malformed execute message method");
        }
        if let Some(u) = &self.update_withdraw_policy
            && !u.address.is_valid()
        {
            invalid!("malformed address in update withdraw policy");
        }
        self.update_authority.as_ref().map_or(Ok(()), |u| u.validate(p))
    }

    /// Whether two actions have the same bytes.
    pub fn is_same(&self, other: &Self) -> bool {
        cbor::to_vec(self) == cbor::to_vec(other)
    }

    /// The vault's authorities of which any one may authorize this action.
    pub fn authorities<'v>(&self, vault: &'v Vault) -> Vec<&'v Authority> {
        if self.suspend.is_some() || self.resume.is_some() {
            vec![&vault.admin_authority, &vault.suspend_authority]
        } else if self.execute_message.is_some()
            || self.update_withdraw_policy.is_some()
            || self.update_authority.is_some()
        {
            vec![&vault.admin_authority]
        } else {
            Vec::new()
        }
    }

    /// Whether the address is in an authority that may authorize this action.
    pub fn is_authorized(&self, vault: &Vault, address: &Address) -> bool {
        self.authorities(vault).iter().any(|a| a.contains(address))
    }
}

/// Body of [`METHOD_CREATE`].
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Create {
    /// Who may authorize any action.
    pub admin_authority: Authority,
    /// Who may, besides the admins, suspend and resume.
    pub suspend_authority: Authority,
}

impl Create {
    /// Checks the authorities.
    ///
    /// # Errors
    /// If one of them is malformed.
    pub fn validate(&self, p: &Parameters) -> Result<(), Invalid> {
        self.admin_authority.validate(p)?;
        self.suspend_authority.validate(p)
    }
}

/// Body of [`METHOD_AUTHORIZE_ACTION`].
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct AuthorizeAction {
    /// The vault.
    pub vault: Address,
    /// Number of the action.
    pub nonce: u64,
    /// The action.
    pub action: Action,
}

impl AuthorizeAction {
    /// Checks address and action.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn validate(&self, p: &Parameters) -> Result<(), Invalid> {
        if !self.vault.is_valid() {
            invalid!("invalid vault address");
        }
        self.action.validate(p).map_err(|e| Invalid::new(format!("invalid action: {e}")))
    }
}

/// Body of [`METHOD_CANCEL_ACTION`].
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct CancelAction {
    /// The vault.
    pub vault: Address,
    /// Number of the action.
    pub nonce: u64,
}

impl CancelAction {
    /// Checks the address.
    ///
    /// # Errors
    /// If it is reserved.
    pub fn validate(&self) -> Result<(), Invalid> {
        if !self.vault.is_valid() {
            invalid!("invalid vault address");
        }
        Ok(())
    }
}

/// Query for data of a vault.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct VaultQuery {
    /// Height; 0 is the newest.
    pub height: i64,
    /// The vault.
    pub address: Address,
}

/// Query for what an address may withdraw from a vault.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct AddressQuery {
    /// Height; 0 is the newest.
    pub height: i64,
    /// The vault.
    pub vault: Address,
    /// The address.
    pub address: Address,
}

/// An event as clients see it: exactly one of the optional fields. Source: `go/vault/api/events.go`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Event {
    /// Height of the block.
    #[codec(omitempty)]
    pub height: i64,
    /// Hash of the transaction; the empty hash for events of the block.
    #[codec(omitempty)]
    pub tx_hash: Hash,
    /// An action was submitted or approved.
    #[codec(omitempty)]
    pub action_submitted: Option<ActionSubmittedEvent>,
    /// An action was canceled.
    #[codec(omitempty)]
    pub action_canceled: Option<ActionCanceledEvent>,
    /// An action was executed.
    #[codec(omitempty)]
    pub action_executed: Option<ActionExecutedEvent>,
    /// A vault was suspended or resumed.
    #[codec(omitempty)]
    pub state_changed: Option<StateChangedEvent>,
    /// A withdraw policy changed.
    pub policy_updated: Option<PolicyUpdatedEvent>,
    /// An authority changed.
    pub authority_updated: Option<AuthorityUpdatedEvent>,
}

/// An action was submitted or approved.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ActionSubmittedEvent {
    /// Who did.
    pub submitter: Address,
    /// The vault.
    pub vault: Address,
    /// Number of the action.
    pub nonce: u64,
}
typed_event!(ActionSubmittedEvent, "action_submitted");

/// An action was canceled.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ActionCanceledEvent {
    /// The vault.
    pub vault: Address,
    /// Number of the action.
    pub nonce: u64,
}
typed_event!(ActionCanceledEvent, "action_canceled");

/// An action was executed, whether it succeeded or not.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ActionExecutedEvent {
    /// The vault.
    pub vault: Address,
    /// Number of the action.
    pub nonce: u64,
    /// What came of it.
    #[codec(omitempty)]
    pub result: ActionExecutionResult,
}
typed_event!(ActionExecutedEvent, "action_executed");

/// Outcome of an action: module and code of an error, or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ActionExecutionResult {
    /// Module of the error.
    #[codec(omitempty)]
    pub module: String,
    /// Code of the error; 0 for success.
    #[codec(omitempty)]
    pub code: u32,
}

/// A vault was suspended or resumed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct StateChangedEvent {
    /// The vault.
    pub vault: Address,
    /// State before.
    pub old_state: State,
    /// State after.
    pub new_state: State,
}
typed_event!(StateChangedEvent, "state_changed");

/// What an address may withdraw changed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct PolicyUpdatedEvent {
    /// The vault.
    pub vault: Address,
    /// The address.
    pub address: Address,
}
typed_event!(PolicyUpdatedEvent, "policy_updated");

/// An authority changed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct AuthorityUpdatedEvent {
    /// The vault.
    pub vault: Address,
}
typed_event!(AuthorityUpdatedEvent, "authority_updated");

#[cfg(test)]
mod tests;
