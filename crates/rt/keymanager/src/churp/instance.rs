//! The methods of the key manager for shared secrets.
//!
//! Source: `keymanager/src/churp/{handler,methods}.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use base_codec::{Bytes, Raw, cbor};
use base_crypto::context;
use base_prims::{Epoch, Hash, Namespace, PublicKey};
use parking_lot::Mutex;
use rt_guest::{
    Env,
    rpc::{Caller, Methods},
    seal::kmac256,
};
use rt_tee::EnclaveIdentity;
use wire_consensus::churp::{
    ApplicationRequest, ConfirmationRequest, HANDOFFS_DISABLED, HandoffKind as WireKind, Identity,
    SUITE_NIST_P384_SHA3_384, SignedApplicationRequest, SignedConfirmationRequest, Status,
    rpc::{
        FetchRequest, FetchResponse, HandoffRequest, METHOD_APPLY, METHOD_BIVARIATE_SHARE, METHOD_CONFIRM,
        METHOD_FINALIZE, METHOD_PROACTIVIZATION, METHOD_SGX_POLICY_KEY_SHARE, METHOD_SHARE_DISTRIBUTION,
        METHOD_SHARE_DISTRIBUTION_POINT, METHOD_SHARE_REDUCTION, METHOD_SHARE_REDUCTION_POINT,
        METHOD_VERIFICATION_MATRIX,
    },
};

use super::{
    ChurpError, Dealer, Handoff, HandoffKind, KeyShareRequest, Matrix, QueryRequest, Share, WireKeyShare, WireShare,
    storage::{ChurpStorage, Slot},
    suite::{Scalar, scalar_from_bytes, scalar_to_bytes, shareholder},
};
use crate::{
    KeyManagerError,
    client::RemoteClient,
    policy::{TrustedSigners, identity},
};

const MATRIX_CHECKSUM: &[u8] = b"oasis-core/keymanager/churp: verification matrix";
const SHAREHOLDER_DOMAIN: &[u8] = b"oasis-core/keymanager/churp: encode shareholder";
const KEY_ID_DOMAIN: &[u8] = b"oasis-core/keymanager/churp: encode SGX policy key ID";
/// Blocks by which an asker may be behind when a handoff completes.
const ALLOWED_BLOCKS_BEHIND: u64 = 5;

type Result<T> = std::result::Result<T, KeyManagerError>;

/// Secrets that this key manager shares with others.
#[derive(Debug)]
pub struct Churp {
    env: Env,
    node: PublicKey,
    signers: TrustedSigners,
    instances: Mutex<BTreeMap<u8, Arc<Instance>>>,
}

/// One secret.
struct Instance {
    storage: ChurpStorage,
    shareholder_domain: Vec<u8>,
    key_domain: Vec<u8>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    /// Shares by handoff: of the last one, the one before it for those who are behind, and the one that goes on.
    shares: BTreeMap<Epoch, Arc<Share>>,
    dealer: Option<(Epoch, Arc<Dealer>)>,
    handoff: Option<(Epoch, Arc<Mutex<Handoff>>)>,
}

fn domain(context: &[u8], runtime: &Namespace, churp: u8) -> Vec<u8> {
    [context, b" for runtime ", runtime.as_bytes(), b" for churp ", &[churp]].concat()
}

impl Instance {
    fn x(&self, node: &PublicKey) -> Result<Scalar> {
        Ok(shareholder(node.as_bytes(), &self.shareholder_domain)?)
    }

    fn share(&self, epoch: Epoch) -> Result<Arc<Share>> {
        Ok(self.state.lock().shares.get(&epoch).cloned().ok_or(ChurpError::ShareholderNotFound)?)
    }

    fn dealer(&self, epoch: Epoch) -> Result<Arc<Dealer>> {
        let state = self.state.lock();
        let dealer = state.dealer.as_ref().filter(|(of, _)| *of == epoch).map(|(_, dealer)| Arc::clone(dealer));
        Ok(dealer.ok_or(ChurpError::DealerNotFound)?)
    }

    fn handoff(&self, epoch: Epoch) -> Result<Arc<Mutex<Handoff>>> {
        let state = self.state.lock();
        let handoff = state.handoff.as_ref().filter(|(of, _)| *of == epoch).map(|(_, handoff)| Arc::clone(handoff));
        Ok(handoff.ok_or(ChurpError::HandoffNotFound)?)
    }

    fn handoff_or_new(&self, status: &Status, node: &PublicKey) -> Result<Arc<Mutex<Handoff>>> {
        let mut state = self.state.lock();
        match &state.handoff {
            Some((epoch, _)) if *epoch > status.next_handoff => return Err(ChurpError::InvalidHandoff.into()),
            Some((epoch, handoff)) if *epoch == status.next_handoff => return Ok(Arc::clone(handoff)),
            _ => {}
        }
        let nodes = status.applications.keys().map(|id| self.x(id)).collect::<Result<Vec<_>>>()?;
        let mut handoff = Handoff::new(kind(status), status.threshold, self.x(node)?, nodes)?;
        if handoff.kind() == HandoffKind::CommitteeUnchanged {
            let share = state.shares.get(&status.handoff).cloned().ok_or(ChurpError::ShareholderNotFound)?;
            handoff.set_share(share)?;
        }
        let handoff = Arc::new(Mutex::new(handoff));
        state.handoff = Some((status.next_handoff, Arc::clone(&handoff)));
        Ok(handoff)
    }
}

fn kind(status: &Status) -> HandoffKind {
    match status.handoff_kind() {
        WireKind::DealingPhase => HandoffKind::DealingPhase,
        WireKind::CommitteeUnchanged => HandoffKind::CommitteeUnchanged,
        WireKind::CommitteeChanged => HandoffKind::CommitteeChanged,
    }
}

/// Checksum of a commitment, which is what nodes publish of it.
pub(super) fn matrix_checksum(matrix: &[u8], of: &Identity, epoch: Epoch) -> Hash {
    let mut out = [0; 32];
    kmac256(matrix, MATRIX_CHECKSUM, &[of.runtime_id.as_bytes(), &[of.id], &epoch.to_le_bytes()], &mut out);
    Hash::new(out)
}

impl Churp {
    /// No instances yet. `node` is the node that this key manager runs on.
    pub fn new(env: &Env, node: PublicKey, signers: TrustedSigners) -> Self {
        Self { env: env.clone(), node, signers, instances: Mutex::default() }
    }

    /// Offers the methods: commitments to all, points and shares to enclaves, and those of the host.
    pub fn offer(self: &Arc<Self>, methods: &mut Methods) {
        crate::offer! { self, methods;
            METHOD_VERIFICATION_MATRIX, INSECURE_QUERY => Self::matrix;
            METHOD_SHARE_REDUCTION_POINT, NOISE_SESSION => Self::reduction_point;
            METHOD_SHARE_DISTRIBUTION_POINT, NOISE_SESSION => Self::distribution_point;
            METHOD_BIVARIATE_SHARE, NOISE_SESSION => Self::dealt_share;
            METHOD_SGX_POLICY_KEY_SHARE, NOISE_SESSION => Self::key_share;
            METHOD_APPLY, LOCAL_QUERY => Self::apply;
            METHOD_SHARE_REDUCTION, LOCAL_QUERY => Self::share_reduction;
            METHOD_SHARE_DISTRIBUTION, LOCAL_QUERY => Self::share_distribution;
            METHOD_PROACTIVIZATION, LOCAL_QUERY => Self::proactivization;
            METHOD_CONFIRM, LOCAL_QUERY => Self::confirm;
            METHOD_FINALIZE, LOCAL_QUERY => Self::finalize;
        }
    }

    fn status(&self, of: &Identity) -> Result<Status> {
        let state = self.env.verifier.latest_state()?;
        Ok(state.churp_status(&of.runtime_id, of.id)?.ok_or(ChurpError::StatusNotPublished)?)
    }

    fn last_handoff(&self, of: &Identity, epoch: Epoch) -> Result<Status> {
        let status = self.status(of)?;
        if status.handoff == epoch { Ok(status) } else { Err(ChurpError::HandoffMismatch.into()) }
    }

    fn next_handoff(&self, of: &Identity, epoch: Epoch) -> Result<Status> {
        let status = self.status(of)?;
        if status.next_handoff != epoch {
            return Err(ChurpError::HandoffMismatch.into());
        }
        if self.epoch()? != epoch {
            return Err(ChurpError::HandoffClosed.into());
        }
        Ok(status)
    }

    fn epoch(&self) -> Result<Epoch> {
        Ok(self.env.verifier.latest_state()?.epoch()?)
    }

    fn instance(&self, of: &Identity) -> Result<Arc<Instance>> {
        if of.runtime_id != self.env.runtime_id() {
            return Err(ChurpError::RuntimeMismatch.into());
        }
        let mut instances = self.instances.lock();
        if let Some(instance) = instances.get(&of.id) {
            return Ok(Arc::clone(instance));
        }
        let status = self.status(of)?;
        if status.suite_id != SUITE_NIST_P384_SHA3_384 {
            return Err(ChurpError::UnsupportedSuite.into());
        }
        let storage = ChurpStorage::new(self.env.identity.tee().clone(), Box::new(self.env.host.clone()), of.id);
        let instance = Arc::new(Instance {
            storage,
            shareholder_domain: domain(SHAREHOLDER_DOMAIN, &of.runtime_id, of.id),
            key_domain: domain(KEY_ID_DOMAIN, &of.runtime_id, of.id),
            state: Mutex::default(),
        });
        self.load(&instance, &status)?;
        instances.insert(of.id, Arc::clone(&instance));
        Ok(instance)
    }

    /// Brings an instance to where it was before the enclave was restarted.
    fn load(&self, instance: &Instance, status: &Status) -> Result<()> {
        let me = instance.x(&self.node)?;
        let mut state = instance.state.lock();
        let mut add = |epoch: Epoch, share: Option<Share>| match share {
            Some(share) if share.x != me => Err(ChurpError::InvalidHost),
            Some(share) => {
                state.shares.insert(epoch, Arc::new(share));
                Ok(())
            }
            None => Ok(()),
        };
        if status.handoff != 0 {
            let mut share = instance.storage.share(Slot::Last, status.handoff)?;
            if share.is_none() {
                // The handoff may have completed while the enclave was away.
                share = instance.storage.share(Slot::Next, status.handoff)?;
                if let Some(share) = &share {
                    instance.storage.set_share(Slot::Last, status.handoff, share)?;
                }
            }
            add(status.handoff, share)?;
        }
        if status.next_handoff == HANDOFFS_DISABLED {
            return Ok(());
        }
        add(status.next_handoff, instance.storage.share(Slot::Next, status.next_handoff)?)?;
        if let Some(polynomial) = instance.storage.polynomial(status.next_handoff)? {
            let dealer = Dealer::from(polynomial);
            if let Some(application) = status.applications.get(&self.node) {
                let promised = matrix_checksum(&dealer.matrix().to_bytes(), &status.identity, status.next_handoff);
                if application.checksum != promised {
                    return Err(ChurpError::InvalidBivariate.into());
                }
            }
            state.dealer = Some((status.next_handoff, Arc::new(dealer)));
        }
        Ok(())
    }

    // What policies allow. Outside of enclaves everybody may do everything, as with the other secrets.

    fn enclave<'c>(&self, caller: &'c Caller) -> Result<Option<&'c EnclaveIdentity>> {
        if self.env.identity.tee().enclave().is_none() {
            return Ok(None);
        }
        let session = caller.session.as_ref().ok_or(ChurpError::NotAuthenticated)?;
        Ok(Some(&session.quote.identity))
    }

    /// The caller is the enclave with which the node is registered, and may join the committee.
    fn check_peer(&self, caller: &Caller, node: &PublicKey, status: &Status) -> Result<()> {
        let Some(enclave) = self.enclave(caller)? else { return Ok(()) };
        let registered = self.env.verifier.latest_state()?.node(node)?;
        let runtimes = registered.as_ref().map(|n| n.runtimes()).unwrap_or_default();
        let id = self.env.runtime_id();
        let rak = runtimes.iter().find(|rt| rt.id == id).and_then(|rt| rt.capabilities.tee.as_ref()).map(|tee| tee.rak);
        if rak.is_none() || rak != caller.session.as_ref().map(|s| s.rak) {
            return Err(ChurpError::NotAuthorized.into());
        }
        self.signers.verify_churp(&status.policy)?;
        let may_join = status.policy.policy.may_join.iter().flatten().any(|id| identity(id) == *enclave);
        if may_join { Ok(()) } else { Err(ChurpError::NotAuthorized.into()) }
    }

    fn check_query(&self, caller: &Caller, runtime: &Namespace, status: &Status) -> Result<()> {
        let Some(enclave) = self.enclave(caller)? else { return Ok(()) };
        self.signers.verify_churp(&status.policy)?;
        let allowed = status.policy.policy.may_query.as_ref().and_then(|by_runtime| by_runtime.get(runtime));
        let may = allowed.into_iter().flatten().flatten().any(|id| identity(id) == *enclave);
        if may { Ok(()) } else { Err(ChurpError::NotAuthorized.into()) }
    }

    fn client(&self, status: &Status, new_committee: bool) -> Result<RemoteClient> {
        let enclaves = match self.env.identity.tee().enclave() {
            None => None,
            Some(_) => {
                self.signers.verify_churp(&status.policy)?;
                let policy = &status.policy.policy;
                let list = if new_committee { &policy.may_join } else { &policy.may_share };
                Some(list.iter().flatten().map(identity).collect::<BTreeSet<_>>())
            }
        };
        Ok(RemoteClient::for_replication(&self.env, self.signers.clone(), enclaves)?)
    }

    // For other enclaves.

    fn matrix(&self, _: &Caller, request: QueryRequest) -> Result<Bytes> {
        let instance = self.instance(&request.identity())?;
        let status = self.last_handoff(&request.identity(), request.epoch)?;
        if !status.committee.contains(&self.node) {
            return Err(ChurpError::NotInCommittee.into());
        }
        Ok(Bytes(instance.share(status.handoff)?.matrix.to_bytes()))
    }

    /// The node that asks, if it takes part in the handoff.
    fn applicant(&self, caller: &Caller, request: &QueryRequest, status: &Status) -> Result<PublicKey> {
        let node = request.node_id.ok_or(ChurpError::NotAuthenticated)?;
        if !status.applications.contains_key(&node) {
            return Err(ChurpError::NotInCommittee.into());
        }
        self.check_peer(caller, &node, status)?;
        Ok(node)
    }

    fn reduction_point(&self, caller: &Caller, request: QueryRequest) -> Result<Bytes> {
        let instance = self.instance(&request.identity())?;
        let status = self.next_handoff(&request.identity(), request.epoch)?;
        if !status.committee.contains(&self.node) {
            return Err(ChurpError::NotInCommittee.into());
        }
        if kind(&status) != HandoffKind::CommitteeChanged {
            return Err(ChurpError::InvalidHandoff.into());
        }
        let node = self.applicant(caller, &request, &status)?;
        let share = instance.share(status.handoff)?;
        Ok(Bytes(scalar_to_bytes(&share.switch_point(&instance.x(&node)?))))
    }

    fn distribution_point(&self, caller: &Caller, request: QueryRequest) -> Result<Bytes> {
        let instance = self.instance(&request.identity())?;
        let status = self.next_handoff(&request.identity(), request.epoch)?;
        if !status.applications.contains_key(&self.node) {
            return Err(ChurpError::NotInCommittee.into());
        }
        if kind(&status) != HandoffKind::CommitteeChanged {
            return Err(ChurpError::InvalidHandoff.into());
        }
        let node = self.applicant(caller, &request, &status)?;
        let share = instance.handoff(status.next_handoff)?.lock().reduced_share()?;
        Ok(Bytes(scalar_to_bytes(&share.switch_point(&instance.x(&node)?))))
    }

    fn dealt_share(&self, caller: &Caller, request: QueryRequest) -> Result<WireShare> {
        let instance = self.instance(&request.identity())?;
        let status = self.next_handoff(&request.identity(), request.epoch)?;
        let application = status.applications.get(&self.node).ok_or(ChurpError::NotInCommittee)?;
        let node = self.applicant(caller, &request, &status)?;
        let dealer = instance.dealer(status.next_handoff)?;
        let share = WireShare::from(&dealer.share(&instance.x(&node)?, kind(&status)));
        // The host may have had two polynomials made and kept the one that was not promised.
        let promised = matrix_checksum(&share.verification_matrix, &status.identity, status.next_handoff);
        if application.checksum == promised { Ok(share) } else { Err(ChurpError::InvalidBivariate.into()) }
    }

    fn key_share(&self, caller: &Caller, request: KeyShareRequest) -> Result<WireKeyShare> {
        let of = Identity { id: request.id, runtime_id: request.runtime_id };
        let instance = self.instance(&of)?;
        let mut status = self.status(&of)?;
        if status.handoff != request.epoch {
            let height = self.env.verifier.latest_height()?.saturating_sub(ALLOWED_BLOCKS_BEHIND).max(1);
            let before = self.env.verifier.state_at(height)?.churp_status(&of.runtime_id, of.id)?;
            status = before.ok_or(ChurpError::StatusNotPublished)?;
        }
        if status.handoff != request.epoch {
            return Err(ChurpError::HandoffMismatch.into());
        }
        if !status.committee.contains(&self.node) {
            return Err(ChurpError::NotInCommittee.into());
        }
        self.check_query(caller, &request.key_runtime_id, &status)?;
        let (x, part) = instance.share(status.handoff)?.key_share(&request.key_id, &instance.key_domain)?;
        Ok(WireKeyShare::new(&x, &part))
    }

    // For the host.

    fn apply(&self, _: &Caller, request: HandoffRequest) -> Result<SignedApplicationRequest> {
        let instance = self.instance(&request.identity)?;
        let status = self.status(&request.identity)?;
        if status.next_handoff != request.epoch {
            return Err(ChurpError::HandoffMismatch.into());
        }
        if status.next_handoff == HANDOFFS_DISABLED {
            return Err(ChurpError::HandoffsDisabled.into());
        }
        if status.applications.contains_key(&self.node) {
            return Err(ChurpError::ApplicationSubmitted.into());
        }
        if status.next_handoff != self.epoch()?.saturating_add(1) {
            return Err(ChurpError::ApplicationsClosed.into());
        }
        let dealing = status.committee.is_empty();
        let dealer = if dealing { Dealer::new(status.threshold)? } else { Dealer::proactive(status.threshold)? };
        instance.storage.set_polynomial(status.next_handoff, dealer.polynomial())?;
        let checksum = matrix_checksum(&dealer.matrix().to_bytes(), &request.identity, request.epoch);
        instance.state.lock().dealer = Some((status.next_handoff, Arc::new(dealer)));
        let application = ApplicationRequest { identity: request.identity, epoch: request.epoch, checksum };
        let signature = self.sign(&context::CHURP_APPLICATION_REQUEST, &application)?;
        Ok(SignedApplicationRequest { application, signature })
    }

    fn sign(&self, context: &context::Context, value: &impl cbor::Encode) -> Result<base_prims::RawSignature> {
        Ok(self.env.identity.sign(context, &cbor::to_vec(value)).map_err(rt_guest::Error::from)?)
    }

    fn share_reduction(&self, _: &Caller, request: FetchRequest) -> Result<FetchResponse> {
        let instance = self.instance(&request.identity)?;
        let status = self.next_handoff(&request.identity, request.epoch)?;
        let handoff = instance.handoff_or_new(&status, &self.node)?;
        let client = self.client(&status, false)?;
        Ok(fetch(&request, |node| self.fetch_reduction_point(&instance, &status, &handoff, &client, node)))
    }

    fn fetch_reduction_point(
        &self,
        instance: &Instance,
        status: &Status,
        handoff: &Mutex<Handoff>,
        client: &RemoteClient,
        node: PublicKey,
    ) -> Result<bool> {
        let x = instance.x(&node)?;
        if !handoff.lock().needs_reduction_point(&x) {
            return Err(ChurpError::UnknownShareholder.into());
        }
        if node == self.node {
            let share = instance.share(status.handoff)?;
            let mut handoff = handoff.lock();
            if handoff.needs_matrix() {
                handoff.set_matrix(Arc::clone(&share.matrix))?;
            }
            return Ok(handoff.add_reduction_point(x, share.switch_point(&x))?);
        }
        if handoff.lock().needs_matrix() {
            let request = self.query(status, status.handoff, None);
            let matrix: Bytes =
                client.rpc().insecure_call(METHOD_VERIFICATION_MATRIX, &request, &[node]).into_result()?;
            if status.checksum != Some(matrix_checksum(&matrix, &status.identity, status.handoff)) {
                return Err(ChurpError::InvalidChecksum.into());
            }
            let matrix = Arc::new(Matrix::from_bytes(&matrix)?);
            let mut handoff = handoff.lock();
            if handoff.needs_matrix() {
                handoff.set_matrix(matrix)?;
            }
        }
        let y = self.fetch_point(client, METHOD_SHARE_REDUCTION_POINT, status, node)?;
        Ok(handoff.lock().add_reduction_point(x, y)?)
    }

    fn query(&self, status: &Status, epoch: Epoch, node_id: Option<PublicKey>) -> QueryRequest {
        QueryRequest { id: status.identity.id, runtime_id: status.identity.runtime_id, epoch, node_id }
    }

    fn fetch_point(&self, client: &RemoteClient, method: &str, status: &Status, node: PublicKey) -> Result<Scalar> {
        let request = self.query(status, status.next_handoff, Some(self.node));
        let y: Bytes = client.rpc().secure_call(method, &request, &[node]).into_result()?;
        Ok(scalar_from_bytes(&y)?)
    }

    fn share_distribution(&self, _: &Caller, request: FetchRequest) -> Result<FetchResponse> {
        let instance = self.instance(&request.identity)?;
        let status = self.next_handoff(&request.identity, request.epoch)?;
        let handoff = instance.handoff(status.next_handoff)?;
        let client = self.client(&status, true)?;
        Ok(fetch(&request, |node| {
            let x = instance.x(&node)?;
            if !handoff.lock().needs_distribution_point(&x) {
                return Err(ChurpError::UnknownShareholder.into());
            }
            let y = if node == self.node {
                handoff.lock().reduced_share()?.switch_point(&x)
            } else {
                self.fetch_point(&client, METHOD_SHARE_DISTRIBUTION_POINT, &status, node)?
            };
            Ok(handoff.lock().add_distribution_point(x, y)?)
        }))
    }

    fn proactivization(&self, _: &Caller, request: FetchRequest) -> Result<FetchResponse> {
        let instance = self.instance(&request.identity)?;
        let status = self.next_handoff(&request.identity, request.epoch)?;
        let handoff = match kind(&status) {
            HandoffKind::CommitteeChanged => instance.handoff(status.next_handoff)?,
            _ => instance.handoff_or_new(&status, &self.node)?,
        };
        let client = self.client(&status, true)?;
        Ok(fetch(&request, |node| {
            let x = instance.x(&node)?;
            if !handoff.lock().needs_dealt_share(&x) {
                return Err(ChurpError::UnknownShareholder.into());
            }
            let share = if node == self.node {
                instance.dealer(status.next_handoff)?.share(&x, kind(&status))
            } else {
                let query = self.query(&status, status.next_handoff, Some(self.node));
                let share: WireShare =
                    client.rpc().secure_call(METHOD_BIVARIATE_SHARE, &query, &[node]).into_result()?;
                let dealt = matrix_checksum(&share.verification_matrix, &status.identity, status.next_handoff);
                let application = status.applications.get(&node).ok_or(ChurpError::UnknownShareholder)?;
                if application.checksum != dealt {
                    return Err(ChurpError::InvalidChecksum.into());
                }
                Share::try_from(&share)?
            };
            Ok(handoff.lock().add_dealt_share(&x, share)?)
        }))
    }

    fn confirm(&self, _: &Caller, request: HandoffRequest) -> Result<SignedConfirmationRequest> {
        let instance = self.instance(&request.identity)?;
        let status = self.next_handoff(&request.identity, request.epoch)?;
        if !status.applications.contains_key(&self.node) {
            return Err(ChurpError::ApplicationNotSubmitted.into());
        }
        let share = instance.handoff(status.next_handoff)?.lock().full_share()?;
        // Stored before it is confirmed: the others will rely on it.
        instance.storage.set_share(Slot::Next, status.next_handoff, &share)?;
        instance.state.lock().shares.insert(status.next_handoff, Arc::clone(&share));
        let checksum = matrix_checksum(&share.matrix.to_bytes(), &request.identity, status.next_handoff);
        let confirmation = ConfirmationRequest { identity: request.identity, epoch: request.epoch, checksum };
        let signature = self.sign(&context::CHURP_CONFIRMATION_REQUEST, &confirmation)?;
        Ok(SignedConfirmationRequest { confirmation, signature })
    }

    fn finalize(&self, _: &Caller, request: HandoffRequest) -> Result<Raw> {
        let instance = self.instance(&request.identity)?;
        let status = self.last_handoff(&request.identity, request.epoch)?;
        let mut state = instance.state.lock();
        let before = state.shares.range(..status.handoff).next_back().map(|(epoch, _)| *epoch);
        state.shares.retain(|epoch, _| *epoch == status.handoff || Some(*epoch) == before);
        state.dealer.take_if(|(epoch, _)| *epoch < status.next_handoff);
        state.handoff.take_if(|(epoch, _)| *epoch < status.next_handoff);
        let share = state.shares.get(&status.handoff).cloned();
        drop(state);
        if let Some(share) = share {
            instance.storage.set_share(Slot::Last, status.handoff, &share)?;
        }
        Ok(Raw::default())
    }
}

/// Fetches from one node after the other until all is there.
fn fetch(request: &FetchRequest, mut from: impl FnMut(PublicKey) -> Result<bool>) -> FetchResponse {
    let mut response = FetchResponse::default();
    for node in request.node_ids.iter().flatten() {
        if response.completed {
            break;
        }
        match from(*node) {
            Ok(completed) => {
                response.completed = completed;
                response.succeeded.push(*node);
            }
            Err(error) => {
                tracing::debug!(node = %node, err = %error, "node did not deliver");
                response.failed.push(*node);
            }
        }
    }
    response
}
