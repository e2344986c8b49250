//! Checks of descriptors, in the order that decides which error a registration reports.
//!
//! Source: `go/registry/api/api.go`.

use std::collections::{BTreeMap, BTreeSet};

use apps_core::{Context, Error, Result, kv::KvRead};
use base_codec::{Codec, Raw, cbor};
use base_crypto::{blacklist::Blacklist, context};
use base_prims::{Epoch, Namespace, PublicKey, Version};
use wire_consensus::{
    entity::{self, Entity, SignedEntity},
    errors::{ErrorCode, registry as codes},
    known::{Claim, KnownSignatures},
    node::{self, MultiSignedNode, NetAddress, Node, Roles},
    registry::{Parameters, Runtime, RuntimeKind},
    signed::{MultiSigned, Signature},
};

use super::{state, tee::TeeRules};

/// Roles that need runtimes.
const RUNTIME_ROLES: Roles = Roles::COMPUTE.with(Roles::OBSERVER).with(Roles::KEY_MANAGER).with(Roles::STORAGE_RPC);
/// The same before feature version 26.1.
const OLD_RUNTIME_ROLES: Roles = Roles::COMPUTE.with(Roles::KEY_MANAGER).with(Roles::STORAGE_RPC);
/// Roles that need a P2P address.
const P2P_ADDRESS_ROLES: Roles =
    Roles::COMPUTE.with(Roles::KEY_MANAGER).with(Roles::VALIDATOR).with(Roles::STORAGE_RPC);

/// A coded error with a reason behind its message.
pub(super) fn refused_with(code: &'static ErrorCode, text: &str) -> Error {
    Error::Coded(code, format!("{}: {text}", code.message))
}

fn refused(text: &str) -> Error {
    refused_with(&codes::INVALID_ARGUMENT, text)
}

/// Where descriptors that a new one refers to are looked up.
pub trait Lookup {
    /// A runtime, suspended or not.
    ///
    /// # Errors
    /// [`Error::Fatal`] if the state is unavailable.
    fn any_runtime(&self, id: &Namespace) -> Result<Option<Runtime>>;

    /// The node that uses a key.
    ///
    /// # Errors
    /// [`Error::Fatal`] if the state is unavailable.
    fn node_by_subkey(&self, key: &PublicKey) -> Result<Option<Node>>;
}

/// Looks up in the state.
pub struct StateLookup<'a>(pub &'a dyn KvRead);

impl Lookup for StateLookup<'_> {
    fn any_runtime(&self, id: &Namespace) -> Result<Option<Runtime>> {
        state::any_runtime(self.0, id)
    }
    fn node_by_subkey(&self, key: &PublicKey) -> Result<Option<Node>> {
        state::node_by_subkey(self.0, key)
    }
}

/// Which signatures count.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// Keys that may not sign.
    pub blacklist: &'a Blacklist,
    /// Signatures that were verified before.
    pub known: &'a KnownSignatures,
}

impl<'a> Trust<'a> {
    /// The keys and signatures of a context.
    pub fn new(ctx: &Context<'a>) -> Self {
        Self { blacklist: ctx.blacklist(), known: ctx.known_signatures() }
    }
}

/// In what situation descriptors are checked.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Parameters of the registry.
    pub params: &'a Parameters,
    /// Which signatures count.
    pub trust: Trust<'a>,
    /// What attestations are judged by.
    pub tee: TeeRules<'a>,
    /// Current epoch.
    pub epoch: Epoch,
    /// Descriptors come from a genesis document.
    pub genesis: bool,
    /// Descriptors are checked because they are in the state already.
    pub sanity: bool,
    /// Unsafe debug options are allowed.
    pub allow_debug: bool,
}

impl<'a> Rules<'a> {
    /// The rules for transactions, or for the genesis document, in a context.
    pub fn new(ctx: &Context<'a>, params: &'a Parameters, epoch: Epoch) -> Self {
        Self {
            params,
            trust: Trust::new(ctx),
            tee: super::tee::rules(ctx, params),
            epoch,
            genesis: ctx.is_init_chain(),
            sanity: false,
            allow_debug: ctx.config().allow_debug,
        }
    }

    fn strict(&self) -> bool {
        !self.genesis && !self.sanity
    }

    fn is_valid(&self, key: &PublicKey) -> bool {
        !self.trust.blacklist.contains(key.as_bytes())
    }
}

fn signed_by(trust: &Trust<'_>, signature: &Signature, context: &context::Context, blob: &[u8]) -> bool {
    let claim = || signature.claim(context, None, blob);
    !trust.blacklist.contains(signature.public_key.as_bytes())
        && claim().is_some_and(|c| trust.known.holds(&c.key, &c.prepared, &c.signature))
}

/// The signature of an entity descriptor, to be verified with others.
pub(super) fn entity_claim(signed: &SignedEntity) -> Option<Claim> {
    signed.signature.claim(entity::REGISTER_CONTEXT, None, signed.blob())
}

/// The signatures of a node descriptor, to be verified with others.
pub(super) fn node_claims(signed: &MultiSignedNode) -> impl Iterator<Item = Claim> {
    let blob = signed.blob();
    signed.signatures().iter().filter_map(move |s| s.claim(node::REGISTER_CONTEXT, None, blob))
}

/// Checks an entity descriptor and returns it. `strict`: its version must be the latest.
///
/// # Errors
/// [`codes::INVALID_SIGNATURE`] or [`codes::INVALID_ARGUMENT`].
pub fn entity(signed: &SignedEntity, trust: &Trust<'_>, strict: bool) -> Result<Entity> {
    let bad_signature = || Error::from(&codes::INVALID_SIGNATURE);
    if !signed_by(trust, &signed.signature, entity::REGISTER_CONTEXT, signed.blob()) {
        return Err(bad_signature());
    }
    let entity: Entity = cbor::from_slice(signed.blob()).map_err(|_| bad_signature())?;
    if signed.signature.public_key != entity.id {
        return Err(refused("entity not signed by itself"));
    }
    entity.validate_basic(strict).map_err(|e| refused(&e.0))?;
    let mut seen = BTreeSet::new();
    for node in &entity.nodes {
        if trust.blacklist.contains(node.as_bytes()) {
            return Err(refused("malformed node id"));
        }
        if !seen.insert(node) {
            return Err(refused("duplicate nodes"));
        }
    }
    Ok(entity)
}

/// Verifies all signatures of a node descriptor and decodes it.
fn open_node(rules: &Rules<'_>, signed: &MultiSignedNode) -> Result<Node> {
    let bad_signature = || Error::from(&codes::INVALID_SIGNATURE);
    let signatures = signed.signatures();
    let good = !signatures.is_empty()
        && signatures.iter().all(|s| signed_by(&rules.trust, s, node::REGISTER_CONTEXT, signed.blob()));
    if !good {
        return Err(bad_signature());
    }
    cbor::from_slice(signed.blob()).map_err(|_| bad_signature())
}

/// Whether exactly these keys signed. Keys that are named twice never do; signatures may be doubled.
fn only_signed_by(signed: &MultiSigned, keys: &[PublicKey]) -> bool {
    let signers: BTreeSet<_> = signed.signatures().iter().map(|s| s.public_key).collect();
    signers.len() == keys.len() && keys.iter().all(|k| signers.contains(k))
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct RuntimesOnly {
    runtimes: Option<Vec<Option<Raw>>>,
}

/// Which runtimes of an encoded node are null: the list of a decoded node cannot tell.
fn null_runtimes(blob: &[u8]) -> Vec<bool> {
    let decoded: RuntimesOnly = cbor::from_slice_relaxed(blob).unwrap_or_default();
    decoded.runtimes.unwrap_or_default().iter().map(Option::is_none).collect()
}

/// Checks a node descriptor; returns it with the descriptors of its runtimes, each once.
///
/// # Errors
/// Whatever the reference reports first.
pub fn node(
    rules: &Rules<'_>,
    lookup: &dyn Lookup,
    signed: &MultiSignedNode,
    entity: &Entity,
) -> Result<(Node, Vec<Runtime>)> {
    let node = open_node(rules, signed)?;
    node.validate_basic(rules.strict()).map_err(|e| refused(&e.0))?;
    if entity.id != node.entity_id {
        return Err(refused("node entity ID does not match expected entity"));
    }
    if !signed.is_signed_by(&node.id) {
        return Err(refused("registration not signed by node identity"));
    }
    if !entity.has_node(&node.id) && (!rules.sanity || rules.genesis) {
        return Err(refused("node public key not found in entity's node list"));
    }
    let most = rules.epoch.wrapping_add(rules.params.max_node_expiration);
    if rules.params.max_node_expiration > 0 && node.expiration > most {
        return Err(refused("expiration period greater than allowed"));
    }
    let runtimes = node_runtimes(rules, lookup, &node, signed.blob())?;
    node_keys(rules, lookup, &node, signed)?;
    Ok((node, runtimes))
}

fn node_runtimes(rules: &Rules<'_>, lookup: &dyn Lookup, node: &Node, blob: &[u8]) -> Result<Vec<Runtime>> {
    if node.runtimes().is_empty() {
        let required = if rules.tee.feature_26_1 { RUNTIME_ROLES } else { OLD_RUNTIME_ROLES };
        if node.has_roles(required) {
            return Err(refused("missing runtimes"));
        }
        return Ok(Vec::new());
    }
    let nulls = null_runtimes(blob);
    let mut found: Vec<Runtime> = Vec::new();
    let mut versions = BTreeSet::new();
    for (i, registered) in node.runtimes().iter().enumerate() {
        if nulls.get(i).copied().unwrap_or_default() {
            return Err((&codes::INVALID_ARGUMENT).into());
        }
        if !versions.insert((registered.id, registered.version)) {
            return Err(refused("duplicate version for runtime"));
        }
        let known = found.iter().find(|r| r.id == registered.id);
        let runtime = match known {
            Some(runtime) => runtime.clone(),
            None => lookup
                .any_runtime(&registered.id)?
                .ok_or_else(|| Error::from(&codes::NO_SUCH_RUNTIME).context("failed to lookup runtime"))?,
        };
        let is_new = known.is_none();
        // Nodes of a genesis document may have evidence that is out of date; elections look at it again.
        if rules.strict() {
            rules.tee.verify_runtime(&node.id, registered, &runtime)?;
        }
        if runtime.kind == RuntimeKind::KEY_MANAGER && !node.has_roles(Roles::KEY_MANAGER) {
            return Err(refused("key manager runtime not allowed"));
        }
        if runtime.kind == RuntimeKind::COMPUTE && !node.has_roles(Roles::COMPUTE.with(Roles::OBSERVER)) {
            return Err(refused("compute runtime not allowed"));
        }
        if is_new {
            found.push(runtime);
        }
    }
    Ok(found)
}

/// Checks one of a node's keys: usable, and its owner agreed.
fn check_key(rules: &Rules<'_>, signed: &MultiSignedNode, key: &PublicKey, what: &str) -> Result<()> {
    if !rules.is_valid(key) {
        return Err(refused(&format!("invalid {what}")));
    }
    if !signed.is_signed_by(key) {
        return Err(refused(&format!("registration not signed by {what}")));
    }
    Ok(())
}

fn node_keys(rules: &Rules<'_>, lookup: &dyn Lookup, node: &Node, signed: &MultiSignedNode) -> Result<()> {
    check_key(rules, signed, &node.consensus.id, "consensus ID")?;
    let addresses = node.consensus_addresses();
    if addresses.is_empty() && node.has_roles(Roles::VALIDATOR) {
        return Err(refused("missing consensus address"));
    }
    for address in addresses {
        if !rules.is_valid(&address.id) {
            return Err(refused("consensus address ID invalid"));
        }
        check_address(rules, &address.address)?;
    }
    check_key(rules, signed, &node.vrf.id, "VRF ID")?;
    check_key(rules, signed, &node.tls.pub_key, "TLS public key")?;
    check_key(rules, signed, &node.p2p.id, "P2P ID")?;
    // Validators that registered before P2P addresses were required may stay.
    let exempt = !rules.strict() && node.has_roles(Roles::VALIDATOR);
    if node.p2p_addresses().is_empty() && node.has_roles(P2P_ADDRESS_ROLES) && !exempt {
        return Err(refused("missing node address"));
    }
    node.p2p_addresses().iter().try_for_each(|address| check_address(rules, address))?;

    let subkeys = [node.consensus.id, node.p2p.id, node.tls.pub_key, node.vrf.id];
    for key in &subkeys {
        if lookup.node_by_subkey(key)?.is_some_and(|other| other.id != node.id) {
            return Err(refused("key of another node"));
        }
    }
    if BTreeSet::from(subkeys).len() != subkeys.len() {
        return Err(refused("node consensus, P2P, VRF and TLS keys not unique"));
    }
    let expected = [node.id, node.consensus.id, node.vrf.id, node.tls.pub_key, node.p2p.id];
    if !only_signed_by(signed, &expected) {
        return Err(refused("unexpected number of signatures"));
    }
    Ok(())
}

fn check_address(rules: &Rules<'_>, address: &NetAddress) -> Result<()> {
    if rules.params.debug_allow_unroutable_addresses {
        return Ok(());
    }
    if !address.is_global_unicast() {
        return Err(refused("address not global unicast"));
    }
    if !address.is_routable() {
        return Err(refused("address not routable"));
    }
    Ok(())
}

type ByVersion<'a> = BTreeMap<Namespace, BTreeMap<Version, &'a node::Runtime>>;

/// Runtimes by id and version; absent if a version is listed twice.
fn by_version(runtimes: &[node::Runtime]) -> Option<ByVersion<'_>> {
    let mut map = ByVersion::new();
    for runtime in runtimes {
        if map.entry(runtime.id).or_default().insert(runtime.version, runtime).is_some() {
            return None;
        }
    }
    Some(map)
}

/// Checks that a registered node may be changed to a new descriptor.
///
/// # Errors
/// [`codes::NODE_UPDATE_NOT_ALLOWED`].
pub fn node_update(lookup: &dyn Lookup, current: &Node, new: &Node, epoch: Epoch) -> Result<()> {
    let allowed = current.id == new.id
        && current.entity_id == new.entity_id
        && current.consensus.id == new.consensus.id
        && (current.is_expired(epoch)
            || (runtimes_update(lookup, current.runtimes(), new.runtimes(), epoch)? && new.has_roles(current.roles)));
    if allowed { Ok(()) } else { Err((&codes::NODE_UPDATE_NOT_ALLOWED).into()) }
}

/// Whether runtimes may change so: none goes, and their hardware stays; versions go when they are over.
fn runtimes_update(
    lookup: &dyn Lookup,
    current: &[node::Runtime],
    new: &[node::Runtime],
    epoch: Epoch,
) -> Result<bool> {
    let (Some(current), Some(new)) = (by_version(current), by_version(new)) else { return Ok(false) };
    for (id, versions) in current {
        let Some(new_versions) = new.get(&id) else { return Ok(false) };
        let Some(runtime) = lookup.any_runtime(&id)? else { return Ok(false) };
        let active = runtime.active_deployment(epoch);
        for (version, registered) in versions {
            match (new_versions.get(&version), active) {
                (Some(updated), _) => {
                    let hardware = |r: &node::Runtime| r.capabilities.tee.as_ref().map(|t| t.hardware);
                    if hardware(registered) != hardware(updated) {
                        return Ok(false);
                    }
                }
                (None, None) => {}
                (None, Some(active)) => {
                    let over = version.to_u64() < active.version.to_u64();
                    if !over && runtime.deployment_for_version(version).is_some() {
                        return Ok(false);
                    }
                }
            }
        }
    }
    Ok(true)
}
