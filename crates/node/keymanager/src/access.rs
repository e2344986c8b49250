//! Which peers may call which methods of the enclave.
//!
//! Source: `go/worker/keymanager/{acl,watcher}.go` and the `Authorize` methods of `secrets.go` and `churp.go`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use apps_committees::{registry::query as registry, scheduler::query as scheduler};
use base_prims::{Namespace, PublicKey};
use mkvs_tree::KvRead;
use p2p_net::PeerId;
use wire_consensus::churp::rpc as churp;
use wire_consensus::keymanager::rpc as secrets;
use wire_consensus::node::{Node, Roles, TeeHardware};
use wire_consensus::registry::{Runtime, RuntimeKind};
use wire_consensus::{churp::Status as ChurpStatus, keymanager::Status};
use wire_runtime::enclave_rpc::Kind;

/// The peer of a node's key.
pub(crate) fn peer_id(key: &PublicKey) -> PeerId {
    p2p_net::PublicKey::from_bytes((*key).into()).to_peer_id()
}

/// Who takes part in which runtime: nodes of the key manager, and of each runtime that uses it the observers and the
/// members of its executor committees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) by_runtime: BTreeMap<Namespace, Vec<PeerId>>,
    by_peer: HashMap<PeerId, BTreeSet<Namespace>>,
    /// Nodes of the key manager.
    key_managers: HashMap<PeerId, PublicKey>,
    /// Runtimes that use the key manager.
    pub(crate) clients: Vec<Namespace>,
}

impl Access {
    /// From the state after a block.
    pub(crate) fn read(state: &dyn KvRead, key_manager: &Namespace) -> apps_core::Result<Self> {
        let nodes: BTreeMap<PublicKey, Node> =
            registry::nodes(state)?.into_iter().map(|node| (node.id, node)).collect();
        let mut access = Self::default();
        for node in nodes.values().filter(|n| n.has_roles(Roles::KEY_MANAGER) && n.has_runtime(key_manager)) {
            let peer = peer_id(&node.p2p.id);
            access.key_managers.insert(peer, node.id);
            access.add(*key_manager, peer);
        }
        access.by_runtime.entry(*key_manager).or_default();
        for runtime in registry::runtimes(state, true)? {
            if runtime.kind != RuntimeKind::COMPUTE || runtime.key_manager != Some(*key_manager) {
                continue;
            }
            access.clients.push(runtime.id);
            access.by_runtime.entry(runtime.id).or_default();
            let mut members: BTreeSet<PublicKey> = scheduler::runtime_committees(state, &runtime.id)?
                .iter()
                .flat_map(|committee| committee.members().iter().map(|member| member.public_key))
                .collect();
            let observes = |node: &&Node| node.has_roles(Roles::OBSERVER) && node.has_runtime(&runtime.id);
            members.extend(nodes.values().filter(observes).map(|node| node.id));
            for node in members.iter().filter_map(|id| nodes.get(id)) {
                access.add(runtime.id, peer_id(&node.p2p.id));
            }
        }
        Ok(access)
    }

    fn add(&mut self, runtime: Namespace, peer: PeerId) {
        if self.by_peer.entry(peer).or_default().insert(runtime) {
            self.by_runtime.entry(runtime).or_default().push(peer);
        }
    }

    fn takes_part(&self, peer: &PeerId, runtime: &Namespace) -> bool {
        self.by_peer.get(peer).is_some_and(|runtimes| runtimes.contains(runtime))
    }
}

/// Why a peer may not call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("not initialized")]
    NotInitialized,
    #[error("unsupported RPC method")]
    UnknownMethod,
    #[error("unsupported method: {0}")]
    WrongKind(String),
    #[error("not authorized to connect")]
    Connect,
    #[error("not authorized: untrusted hardware")]
    UntrustedHardware,
    #[error("not authorized: unsupported hardware")]
    UnsupportedHardware,
    #[error("not authorized: policy not set")]
    NoPolicy,
    #[error("not authorized: query not allowed")]
    Query,
    #[error("not authorized: not a key manager")]
    NotKeyManager,
    #[error("not authorized: not applied to form committee")]
    NotApplied,
    #[error("not authorized: runtime not registered")]
    NoDescriptor,
}

/// What the rules look at.
pub(crate) struct Rules<'a> {
    pub(crate) key_manager: Namespace,
    pub(crate) descriptor: Option<&'a Runtime>,
    pub(crate) access: &'a Access,
    /// Peers that may call all methods for secrets.
    pub(crate) private: &'a HashSet<PeerId>,
    /// The key manager's status, once this node serves secrets.
    pub(crate) status: Option<&'a Status>,
    /// Of the schemes that this node takes part in.
    pub(crate) churp: Vec<&'a ChurpStatus>,
}

/// Which rules a method falls under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Public keys: for everybody.
    Public,
    /// Private keys: for runtimes that may query.
    Keys,
    /// Secrets: for other nodes of the key manager.
    Replication,
    /// Key shares: for runtimes that may query.
    KeyShares,
    /// Handoffs: for other nodes of the key manager that have applied.
    Handoff(Kind),
}

fn class(method: &str) -> Option<Class> {
    Some(match method {
        secrets::METHOD_GET_PUBLIC_KEY | secrets::METHOD_GET_PUBLIC_EPHEMERAL_KEY => Class::Public,
        secrets::METHOD_GET_OR_CREATE_KEYS | secrets::METHOD_GET_OR_CREATE_EPHEMERAL_KEYS => Class::Keys,
        secrets::METHOD_REPLICATE_MASTER_SECRET | secrets::METHOD_REPLICATE_EPHEMERAL_SECRET => Class::Replication,
        churp::METHOD_SGX_POLICY_KEY_SHARE => Class::KeyShares,
        churp::METHOD_VERIFICATION_MATRIX => Class::Handoff(Kind::INSECURE_QUERY),
        churp::METHOD_SHARE_REDUCTION_POINT
        | churp::METHOD_SHARE_DISTRIBUTION_POINT
        | churp::METHOD_BIVARIATE_SHARE => Class::Handoff(Kind::NOISE_SESSION),
        _ => return None,
    })
}

impl Class {
    fn kind(self) -> Kind {
        match self {
            Self::Public => Kind::INSECURE_QUERY,
            Self::Handoff(kind) => kind,
            Self::Keys | Self::Replication | Self::KeyShares => Kind::NOISE_SESSION,
        }
    }
}

impl Rules<'_> {
    /// Whether the peer may call the method so encoded. The enclave checks the method again, so a wrong one in the plain
    /// part of an encrypted frame gains nothing.
    pub(crate) fn authorize(&self, method: &str, kind: Kind, peer: &PeerId) -> Result<(), Denied> {
        if kind == Kind::NOISE_SESSION && method == secrets::METHOD_CONNECT {
            return if self.may_connect(peer) { Ok(()) } else { Err(Denied::Connect) };
        }
        let class = class(method).ok_or(Denied::UnknownMethod)?;
        let for_secrets = matches!(class, Class::Public | Class::Keys | Class::Replication);
        let status = match self.status {
            None if for_secrets => return Err(Denied::NotInitialized),
            status => status,
        };
        if class.kind() != kind {
            return Err(Denied::WrongKind(method.to_owned()));
        }
        if for_secrets && self.private.contains(peer) {
            return Ok(());
        }
        match (class, status) {
            (Class::Public, _) => Ok(()),
            (Class::Keys, Some(status)) => self.may_query(status, peer),
            (Class::Keys, None) => Err(Denied::NotInitialized),
            (Class::Replication, _) => self.is_key_manager(peer),
            (Class::KeyShares, _) => self.may_query_shares(peer),
            (Class::Handoff(_), _) => self.is_applicant(peer),
        }
    }

    /// Whether the peer may call any method of encrypted sessions.
    fn may_connect(&self, peer: &PeerId) -> bool {
        let for_secrets = self.status.is_some_and(|status| {
            self.private.contains(peer) || self.may_query(status, peer).is_ok() || self.is_key_manager(peer).is_ok()
        });
        for_secrets || self.may_query_shares(peer).is_ok() || self.is_applicant(peer).is_ok()
    }

    fn may_query(&self, status: &Status, peer: &PeerId) -> Result<(), Denied> {
        match self.descriptor.ok_or(Denied::NoDescriptor)?.tee_hardware {
            TeeHardware::INVALID if status.is_secure => Err(Denied::UntrustedHardware),
            TeeHardware::INVALID => Ok(()),
            TeeHardware::INTEL_SGX => {
                let policy = &status.policy.as_ref().ok_or(Denied::NoPolicy)?.policy;
                let enclaves = policy.enclaves.iter().flatten().filter_map(|(_, rules)| rules.as_ref());
                let mut runtimes = enclaves.flat_map(|rules| rules.may_query.iter().flatten().map(|(id, _)| id));
                if runtimes.any(|id| self.access.takes_part(peer, id)) { Ok(()) } else { Err(Denied::Query) }
            }
            _ => Err(Denied::UnsupportedHardware),
        }
    }

    fn may_query_shares(&self, peer: &PeerId) -> Result<(), Denied> {
        match self.descriptor.ok_or(Denied::NoDescriptor)?.tee_hardware {
            TeeHardware::INVALID => Ok(()),
            TeeHardware::INTEL_SGX => {
                let policies = self.churp.iter().map(|status| &status.policy.policy);
                let mut runtimes = policies.flat_map(|policy| policy.may_query.iter().flatten().map(|(id, _)| id));
                if runtimes.any(|id| self.access.takes_part(peer, id)) { Ok(()) } else { Err(Denied::Query) }
            }
            _ => Err(Denied::UnsupportedHardware),
        }
    }

    fn is_key_manager(&self, peer: &PeerId) -> Result<(), Denied> {
        if self.access.takes_part(peer, &self.key_manager) { Ok(()) } else { Err(Denied::NotKeyManager) }
    }

    fn is_applicant(&self, peer: &PeerId) -> Result<(), Denied> {
        self.is_key_manager(peer)?;
        let node = self.access.key_managers.get(peer).ok_or(Denied::NotKeyManager)?;
        let applied = self.churp.iter().any(|status| status.applications.contains_key(node));
        if applied { Ok(()) } else { Err(Denied::NotApplied) }
    }
}

#[cfg(test)]
mod tests;
