//! State of the vault service: keys `30`–`33`.

use std::{collections::BTreeMap, ops::ControlFlow};

use apps_core::{
    Error, Result,
    kv::{self, Key, KeyReader, KvRead, KvWrite},
};
use base_prims::Address;
use wire_consensus::{
    errors::vault as codes,
    vault::{AddressState, Parameters, PendingAction, Vault},
};

/// By vault: [`Vault`].
const VAULTS: u8 = 0x30;
/// By vault and address: [`AddressState`].
const ADDRESS_STATES: u8 = 0x31;
/// By vault and nonce: [`PendingAction`].
const PENDING_ACTIONS: u8 = 0x32;
/// [`Parameters`].
const PARAMETERS: u8 = 0x33;

/// The parameters; without any the service is disabled.
pub fn parameters(kv: &dyn KvRead) -> Result<Parameters> {
    Ok(kv::get(kv, &[PARAMETERS])?.unwrap_or_default())
}

/// Sets the parameters.
pub fn set_parameters(kv: &mut dyn KvWrite, p: &Parameters) -> Result<()> {
    kv::put(kv, &[PARAMETERS], p)
}

/// All vaults by address.
pub fn vaults(kv: &dyn KvRead) -> Result<Vec<Vault>> {
    kv::collect_values(kv, &[VAULTS])
}

/// A vault.
///
/// # Errors
/// `vault/2` if there is none at the address.
pub fn vault(kv: &dyn KvRead, address: &Address) -> Result<Vault> {
    kv::get(kv, &Key::new(VAULTS).address(address))?.ok_or_else(|| Error::from(&codes::NO_SUCH_VAULT))
}

/// Stores a vault at its own address.
pub fn set_vault(kv: &mut dyn KvWrite, v: &Vault) -> Result<()> {
    kv::put(kv, &Key::new(VAULTS).address(&v.address()), v)
}

/// What an address may withdraw from a vault.
///
/// # Errors
/// `vault/3` if that was never set.
pub fn address_state(kv: &dyn KvRead, vault: &Address, address: &Address) -> Result<AddressState> {
    kv::get(kv, &Key::new(ADDRESS_STATES).address(vault).address(address))?
        .ok_or_else(|| Error::from(&codes::NO_SUCH_STATE))
}

/// What each address may withdraw from a vault.
pub fn address_states(kv: &dyn KvRead, vault: &Address) -> Result<BTreeMap<Address, AddressState>> {
    let mut states = BTreeMap::new();
    kv::iterate(kv, &Key::new(ADDRESS_STATES).address(vault), &mut |key, value| {
        let mut parts = KeyReader::new(key)?;
        parts.address()?;
        states.insert(parts.address()?, kv::decode(key, value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(states)
}

/// Stores what an address may withdraw from a vault.
pub fn set_address_state(kv: &mut dyn KvWrite, vault: &Address, address: &Address, s: &AddressState) -> Result<()> {
    kv::put(kv, &Key::new(ADDRESS_STATES).address(vault).address(address), s)
}

/// A pending action of a vault.
///
/// # Errors
/// `vault/6` if there is none with the nonce.
pub fn pending_action(kv: &dyn KvRead, vault: &Address, nonce: u64) -> Result<PendingAction> {
    kv::get(kv, &Key::new(PENDING_ACTIONS).address(vault).u64(nonce))?
        .ok_or_else(|| Error::from(&codes::NO_SUCH_ACTION))
}

/// All pending actions of a vault by nonce.
pub fn pending_actions(kv: &dyn KvRead, vault: &Address) -> Result<Vec<PendingAction>> {
    kv::collect_values(kv, &Key::new(PENDING_ACTIONS).address(vault))
}

/// Stores a pending action of a vault.
pub fn set_pending_action(kv: &mut dyn KvWrite, vault: &Address, a: &PendingAction) -> Result<()> {
    kv::put(kv, &Key::new(PENDING_ACTIONS).address(vault).u64(a.nonce), a)
}

/// Removes a pending action of a vault.
pub fn remove_pending_action(kv: &mut dyn KvWrite, vault: &Address, nonce: u64) -> Result<()> {
    kv::remove(kv, &Key::new(PENDING_ACTIONS).address(vault).u64(nonce))
}
