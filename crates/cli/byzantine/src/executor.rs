//! A node in a runtime's committee, in one round.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base_crypto::ed25519::SecretKey;
use base_prims::Namespace;
use mkvs_tree::{Root, RootType};
use node_workers::Chain as _;
use p2p_net::api::P2p;
use p2p_net::ids;
use p2p_net::rpc::Service;
use rt_executor::messages::CommitteeMessage;
use wire_consensus::node::{Roles, Runtime};
use wire_consensus::roothash::{ExecutorCommit, ExecutorCommitment, Header, METHOD_EXECUTOR_COMMIT, Proposal};
use wire_consensus::scheduler::{Committee, CommitteeKind, Role};

use crate::actor::{ActError, Actor, chain_error, play};
use crate::batch::{self, Signer};
use crate::diffs::Diffs;
use crate::gossip::Gossip;
use crate::remote::States;
use crate::{Behaviour, ExecutorMode, Launch, MODULE};

/// The round in which the node acts: the first after genesis and two epochs. Source: `doExecutorScenario`.
const ROUND: u64 = 3;
/// How long no transaction may have come before a batch is proposed.
const QUIET: Duration = Duration::from_secs(1);

pub(crate) async fn run(behaviour: Behaviour, launch: Launch) -> Result<(), ActError> {
    let (node, actor) = Box::pin(Actor::start(&behaviour, launch)).await?;
    let stop = actor.stop.clone();
    play(node, stop, act(&actor, &behaviour)).await
}

/// What the node has for its round.
struct Stage<'a> {
    actor: &'a Actor,
    behaviour: &'a Behaviour,
    chain: String,
    gossip: Gossip,
    states: States,
    rak: Option<SecretKey>,
    committee: Committee,
    /// Header of the round before.
    previous: Header,
}

async fn act(actor: &Actor, behaviour: &Behaviour) -> Result<(), ActError> {
    let (mode, runtime) = (behaviour.executor_mode, behaviour.runtime_id);
    let chain = actor.chain.context().to_string();
    let p2p: Arc<dyn P2p> = Arc::new(actor.p2p.clone());
    // From the start, so that nothing is missed.
    let gossip = Gossip::join(&*p2p, &chain, &runtime)?;
    p2p.serve(ids::STORAGE_SYNC.of_runtime(&chain, &runtime), Service::shared(Diffs::new(behaviour)))?;
    actor.wait_epoch(behaviour.activation_epoch).await?;
    let rak = register(actor, behaviour).await?;
    let start = behaviour.activation_epoch.saturating_add(1);
    tracing::debug!(module = MODULE, epoch = start, "waiting for the committee of an epoch");
    let (committee, previous) = elected(actor, &runtime, start).await?;
    check_committee(&committee, actor, behaviour.primary_scheduler_expected)?;
    let states = States::new(p2p, &chain, &runtime);
    if mode == ExecutorMode::Straggler {
        tracing::debug!(module = MODULE, "executor straggler: stopping");
        return Ok(());
    }
    if previous.round.saturating_add(1) != ROUND {
        let (expected, got) = (ROUND - 1, previous.round);
        let text = format!("latest roothash block has invalid round (expected {expected}, got {got})");
        return Err(ActError::Scenario(text));
    }
    let mut stage = Stage { actor, behaviour, chain, gossip, states, rak, committee, previous };
    stage.play().await?;
    if behaviour.corrupt_get_diff {
        // Answers peers until the test ends.
        actor.stop.cancelled().await;
    }
    Ok(())
}

async fn register(actor: &Actor, behaviour: &Behaviour) -> Result<Option<SecretKey>, ActError> {
    let mut descriptor = actor.descriptor(Roles::COMPUTE);
    let mut runtime = Runtime { id: behaviour.runtime_id, ..Runtime::default() };
    let mut rak = None;
    if behaviour.fake_sgx {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| ActError::Start(error.to_string()))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let key = SecretKey::from_seed(&seed);
        let (key, capabilities) =
            crate::enclave::fake(&actor.id(), &behaviour.fake_enclave_id, key, since.cast_signed())?;
        runtime.capabilities = capabilities;
        rak = Some(key);
    }
    descriptor.runtimes = Some(vec![runtime]);
    actor.register(&descriptor).await?;
    Ok(rak)
}

/// The committee of an epoch from `start` on, with the header of the runtime's newest block then.
async fn elected(actor: &Actor, runtime: &Namespace, start: u64) -> Result<(Committee, Header), ActError> {
    actor.wait_epoch(start).await?;
    actor
        .wait(|state| {
            let kind = CommitteeKind::COMPUTE_EXECUTOR;
            let found = apps_committees::scheduler::state::committee(state, kind, runtime).map_err(chain_error)?;
            let Some(committee) = found.filter(|committee| committee.valid_for >= start) else { return Ok(None) };
            let block = apps_committees::roothash::query::latest_block(state, runtime).map_err(chain_error)?;
            Ok(Some((committee, block.header)))
        })
        .await
}

/// Whether the node has the place that the scenario wants.
fn check_committee(committee: &Committee, actor: &Actor, primary: bool) -> Result<(), ActError> {
    let wrong = |text: &str| Err(ActError::Scenario(format!("error initializing node: {text}")));
    let id = actor.id();
    let roles: Vec<Role> = committee.members().iter().filter(|m| m.public_key == id).map(|m| m.role).collect();
    if roles.is_empty() {
        return wrong("we're not scheduled");
    }
    if !roles.contains(&Role::WORKER) {
        return wrong(&format!("we're scheduled as {roles:?}, expected worker"));
    }
    if (committee.scheduler_rank(ROUND, &id) == Some(0)) != primary {
        return wrong("not in expected executor primary scheduler role");
    }
    tracing::debug!(module = MODULE, epoch = committee.valid_for, "executor schedule ok");
    Ok(())
}

impl Stage<'_> {
    fn signer(&self) -> Signer<'_> {
        Signer { key: self.actor.key(), chain: self.actor.chain.context(), runtime: &self.behaviour.runtime_id }
    }

    async fn play(&mut self) -> Result<(), ActError> {
        let mode = self.behaviour.executor_mode;
        let batch = match self.behaviour.primary_scheduler_expected {
            true => self.schedule().await?,
            false => Some(self.receive().await?),
        };
        let Some((proposal, txs)) = batch else { return Ok(()) };
        let roots = match mode {
            ExecutorMode::Honest | ExecutorMode::Dishonest => Some(self.compute(&txs).await?),
            ExecutorMode::FailureIndicating => None,
            ExecutorMode::Runaway | ExecutorMode::Straggler | ExecutorMode::InvalidBatchHash => {
                return Err(ActError::Scenario(format!("unexpected executor mode: {mode:?}")));
            }
        };
        let commitment = self.signer().commit(&proposal, roots, self.rak.as_ref())?;
        self.publish(commitment).await?;
        tracing::debug!(module = MODULE, "executor: commitment sent");
        Ok(())
    }

    /// Proposes what has come. `None`: nothing more is to be done.
    async fn schedule(&mut self) -> Result<Option<(Proposal, Vec<Vec<u8>>)>, ActError> {
        let mode = self.behaviour.executor_mode;
        let mut txs = self.gossip.transactions(QUIET).await;
        tracing::debug!(module = MODULE, count = txs.len(), "executor: received transactions");
        if self.behaviour.propose_bogus_tx {
            tracing::debug!(module = MODULE, "executor scheduler: including bogus transactions");
            txs.push(batch::BOGUS.to_vec());
        }
        let proposal = self.signer().propose(mode, &self.previous, &txs)?;
        if mode == ExecutorMode::FailureIndicating {
            tracing::debug!(module = MODULE, "executor failure indicating: submitting commitment and stopping");
            let commitment = self.signer().commit(&proposal, None, None)?;
            self.publish(commitment).await?;
            return Ok(None);
        }
        let message = CommitteeMessage { epoch: self.committee.valid_for, proposal: Some(proposal.clone()) };
        let topic = ids::committee_topic(&self.chain, &self.behaviour.runtime_id);
        self.actor.p2p.publish(&topic, base_codec::cbor::to_vec(&message))?;
        tracing::debug!(module = MODULE, count = txs.len(), "executor scheduler: dispatched transactions");
        if matches!(mode, ExecutorMode::Runaway | ExecutorMode::InvalidBatchHash) {
            return self.leave().await;
        }
        Ok(Some((proposal, txs)))
    }

    /// Gives the proposal time to spread before the node is gone.
    async fn leave(&self) -> Result<Option<(Proposal, Vec<Vec<u8>>)>, ActError> {
        tokio::time::sleep(QUIET).await;
        Ok(None)
    }

    /// Waits for somebody's proposal.
    async fn receive(&mut self) -> Result<(Proposal, Vec<Vec<u8>>), ActError> {
        let previous = self.previous.hash();
        let committee = &self.committee;
        let wanted = |proposal: &Proposal| {
            proposal.header.round == ROUND
                && proposal.header.previous_hash == previous
                && committee.scheduler_rank(ROUND, &proposal.node_id).is_some()
        };
        let found = self.gossip.proposal(wanted).await;
        let found = found.ok_or_else(|| ActError::Scenario("the network closed before a proposal came".to_owned()))?;
        tracing::debug!(module = MODULE, scheduler = %found.0.node_id, count = found.1.len(), "executor: received proposal");
        Ok(found)
    }

    /// Roots of inputs and outputs, and of the state, as the mode wants them.
    async fn compute(&self, txs: &[Vec<u8>]) -> Result<(base_prims::Hash, base_prims::Hash), ActError> {
        let changes = batch::state_changes(self.behaviour.executor_mode, self.committee.valid_for, txs.len())?;
        let root = Root {
            namespace: self.behaviour.runtime_id,
            version: self.previous.round,
            root_type: RootType::STATE,
            hash: self.previous.state_root,
        };
        let state = self.states.changed(root, changes).await?;
        Ok((batch::io_root(txs, true)?, state))
    }

    async fn publish(&self, commitment: ExecutorCommitment) -> Result<(), ActError> {
        let body = ExecutorCommit { id: self.behaviour.runtime_id, commits: Some(vec![commitment]) };
        let sent = self.actor.submission.submit(self.actor.key(), METHOD_EXECUTOR_COMMIT, &body).await;
        let failed = |error: node_workers::SubmissionError| ActError::Submit {
            what: "compute publish to chain failed",
            reason: error.to_string(),
        };
        sent.map(|_| ()).map_err(failed)
    }
}
