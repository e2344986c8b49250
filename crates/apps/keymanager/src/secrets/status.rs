//! Generating the status of a key manager from its policy, its secrets and its registered nodes.

use apps_committees::registry;
use apps_core::{Context, Result};
use base_codec::cbor;
use base_crypto::hash::sha3_256;
use base_prims::{Epoch, PublicKey};
use wire_consensus::{
    keymanager::{CHECKSUM_BYTES, InitResponse, SignedEncryptedMasterSecret, SignedInitResponse, Status},
    node::{Node, Roles, Runtime as NodeRuntime},
    registry::{Parameters, Runtime},
};

use crate::common;

/// Percentage of the committee that must have replicated a proposed master secret for it to be accepted.
const MIN_REPLICATION_PERCENT: usize = 66;

/// What the statuses of all key managers are generated from.
pub struct Inputs {
    epoch: Epoch,
    /// By identifier.
    nodes: Vec<Node>,
    params: Parameters,
}

/// What is demanded of a node's enclave, besides agreement with nodes accepted before.
struct Demands<'a> {
    runtime: &'a Runtime,
    policy_hash: [u8; CHECKSUM_BYTES],
    /// Checksum with the proposed master secret; empty without one.
    next_checksum: &'a [u8],
}

/// What an accepted node brings.
#[derive(Debug)]
struct Accepted {
    is_secure: bool,
    rsk: Option<PublicKey>,
    next_rsk: Option<PublicKey>,
    /// Whether the node is ready for the next generation.
    replicated: bool,
}

impl Inputs {
    /// Loads nodes and parameters.
    ///
    /// # Errors
    /// [`apps_core::Error::Fatal`] if the state is unavailable.
    pub fn load(ctx: &mut Context<'_>, epoch: Epoch) -> Result<Self> {
        let mut nodes = registry::state::nodes(&ctx.state())?;
        nodes.sort_by_key(|n| n.id);
        let params = registry::state::parameters(&ctx.state())?;
        Ok(Self { epoch, nodes, params })
    }

    /// The status after `old`: takes up the next policy, forms a committee of the nodes that conform to it, and moves
    /// to the proposed master secret if enough of them have replicated it.
    ///
    /// # Errors
    /// [`apps_core::Error::Fatal`] if the state is unavailable.
    pub fn generate(
        &self,
        ctx: &mut Context<'_>,
        runtime: &Runtime,
        old: &Status,
        secret: Option<&SignedEncryptedMasterSecret>,
    ) -> Result<Status> {
        let mut status = Status {
            id: runtime.id,
            is_initialized: old.is_initialized,
            is_secure: old.is_secure,
            generation: old.generation,
            rotation_epoch: old.rotation_epoch,
            checksum: old.checksum.clone(),
            policy: old.next_policy.as_ref().or(old.policy.as_ref()).cloned(),
            ..Status::default()
        };
        let next_generation = status.next_generation();
        let next_checksum = secret
            .filter(|s| s.secret.generation == next_generation && s.secret.epoch == self.epoch)
            .and_then(|s| s.secret.secret.checksum.clone());
        let raw_policy = status.policy.as_ref().map(cbor::to_vec).unwrap_or_default();
        let demands = Demands {
            runtime,
            policy_hash: sha3_256(&[&raw_policy]),
            next_checksum: next_checksum.as_ref().map_or(&[], |c| c.as_slice()),
        };
        let mut next_rsk = None;
        let mut replicated = Vec::new();
        for node in self.nodes.iter().filter(|n| !n.is_expired(self.epoch) && n.has_roles(Roles::KEY_MANAGER)) {
            let Some(accepted) = self.judge(ctx, &demands, &status, next_rsk, node)? else { continue };
            if accepted.replicated {
                next_rsk = accepted.next_rsk;
                replicated.push(node.id);
            }
            if !status.is_initialized {
                status.is_initialized = true;
                status.is_secure = accepted.is_secure;
            }
            status.rsk = accepted.rsk;
            status.nodes.get_or_insert_default().push(node.id);
        }
        let committee = status.nodes().len();
        if committee > 0 && next_checksum.is_some() && replicated.len() * 100 / committee >= MIN_REPLICATION_PERCENT {
            status.generation = next_generation;
            status.rotation_epoch = self.epoch;
            status.checksum = next_checksum;
            status.rsk = next_rsk;
            status.nodes = Some(replicated);
        }
        Ok(status)
    }

    /// Whether every version of the key manager that the node runs conforms to the status so far, and there is one.
    fn judge(
        &self,
        ctx: &mut Context<'_>,
        demands: &Demands<'_>,
        status: &Status,
        next_rsk: Option<PublicKey>,
        node: &Node,
    ) -> Result<Option<Accepted>> {
        let mut secure = status.is_initialized.then_some(status.is_secure);
        let mut rsk = status.rsk;
        let mut next_rsk = next_rsk;
        let mut replicated = true;
        for entry in node.runtimes().iter().filter(|r| r.id == demands.runtime.id) {
            let Some(response) = self.init_response(ctx, demands.runtime, node, entry)? else { return Ok(None) };
            let policy_hash = match response.policy_checksum() {
                [] => sha3_256(&[]),
                checksum => match <[u8; CHECKSUM_BYTES]>::try_from(checksum) {
                    Ok(hash) => hash,
                    Err(_) => return Ok(None),
                },
            };
            // The first node fixes what is not known yet.
            let rsk_now = rsk.or(response.rsk);
            if policy_hash != demands.policy_hash
                || *secure.get_or_insert(response.is_secure) != response.is_secure
                || response.checksum() != status.checksum()
                || (response.rsk.is_some() && response.rsk != rsk_now)
            {
                return Ok(None);
            }
            rsk = rsk_now;
            replicated &= response.next_checksum() == demands.next_checksum;
            next_rsk = next_rsk.or(response.next_rsk);
            replicated &= response.next_rsk.is_none() || response.next_rsk == next_rsk;
        }
        // Without a single version nothing has been fixed by this node.
        let runs_it = node.has_runtime(&demands.runtime.id);
        Ok(secure.filter(|_| runs_it).map(|is_secure| Accepted { is_secure, rsk, next_rsk, replicated }))
    }

    /// The verified answer of a node's enclave with which the node registered.
    fn init_response(
        &self,
        ctx: &mut Context<'_>,
        runtime: &Runtime,
        node: &Node,
        entry: &NodeRuntime,
    ) -> Result<Option<InitResponse>> {
        match registry::tee::rules(ctx, &self.params).verify_runtime(&node.id, entry, runtime) {
            Err(e) if e.is_fatal() => return Err(e),
            Err(_) => return Ok(None),
            Ok(()) => {}
        }
        let (Some(info), Ok(rak)) = (&entry.extra_info, common::attestation_key(entry, runtime)) else {
            return Ok(None);
        };
        Ok(cbor::from_slice::<SignedInitResponse>(info)
            .ok()
            .filter(|r| r.verify(&rak, ctx.blacklist()).is_ok())
            .map(|r| r.init_response))
    }
}
