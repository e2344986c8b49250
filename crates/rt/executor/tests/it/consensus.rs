//! The consensus layer of a simulation: the root hash service itself, over a state in memory.

use apps_committees::{registry, roothash, scheduler};
use apps_core::{BlockContext, Context, Env, LocalConfig, Mode, Service, kv, kv::KvWrite};
use base_codec::{Raw, cbor};
use base_crypto::{blacklist::Blacklist, context::ChainContext};
use base_prims::{Address, Hash, Namespace, PublicKey, Quantity};
use mkvs_tree::Tree;
use wire_consensus::node::{MultiSignedNode, Node};
use wire_consensus::registry::{NodeStatus, Runtime};
use wire_consensus::roothash::{
    Block, Evidence, ExecutorCommit, ExecutorCommitment, METHOD_EVIDENCE, METHOD_EXECUTOR_COMMIT, Parameters,
    RuntimeState,
};
use wire_consensus::{Time, scheduler::Committee, staking};

/// A transaction of a simulation.
#[derive(Clone, Debug)]
pub(crate) enum Tx {
    Commit(Box<ExecutorCommitment>),
    Evidence(Box<Evidence>),
}

/// The consensus layer.
pub(crate) struct Consensus {
    pub(crate) chain: ChainContext,
    pub(crate) blacklist: Blacklist,
    pub(crate) height: i64,
    state: Tree,
    config: LocalConfig,
    params: wire_consensus::consensus::Parameters,
    epoch: u64,
}

/// What a block brought.
pub(crate) struct Executed {
    /// Transactions that were accepted.
    pub(crate) accepted: Vec<Tx>,
    /// Those that were not, and why.
    pub(crate) refused: Vec<(Tx, String)>,
    /// Whether a discrepancy came to light.
    pub(crate) discrepancy: bool,
}

impl Consensus {
    pub(crate) fn new(runtime: &Runtime, nodes: &[Node], committee: &Committee) -> Self {
        let mut state = Tree::in_memory();
        let params = Parameters {
            max_runtime_messages: 8,
            max_in_runtime_messages: 8,
            max_evidence_age: 5,
            debug_do_not_suspend_runtimes: true,
            ..Parameters::default()
        };
        roothash::state::set_parameters(&mut state, &params).unwrap();
        kv::put(&mut state, &[0x56], &staking::Parameters::default()).unwrap();
        for node in nodes {
            let signed = MultiSignedNode { untrusted_raw_value: Some(cbor::to_vec(node).into()), signatures: None };
            kv::put(&mut state, kv::Key::new(0x11).key_hash(&node.id).as_slice(), &signed).unwrap();
            registry::state::set_node_status(&mut state, &node.id, &NodeStatus::default()).unwrap();
            let mut account = staking::Account::default();
            account.escrow.active.balance = Quantity::from(1_000_000u64);
            account.escrow.active.total_shares = Quantity::from(1_000_000u64);
            apps_staking::state::set_account(&mut state, &Address::of_key(&node.entity_id), &account).unwrap();
        }
        let block = Block::genesis(runtime.id, 1);
        let rt = RuntimeState {
            runtime: runtime.clone(),
            genesis_block: block.clone(),
            last_block: block,
            last_block_height: 10,
            last_normal_height: 10,
            committee: Some(committee.clone()),
            commitment_pool: Some(wire_consensus::roothash::Pool::new()),
            ..RuntimeState::default()
        };
        registry::state::set_runtime(&mut state, runtime, false).unwrap();
        roothash::state::set_runtime_state(&mut state, &rt).unwrap();
        let epoch = committee.valid_for;
        set_epoch(&mut state, epoch, 1, committee);
        Self {
            chain: ChainContext::from_hash(Hash::of(&[b"simulation"]).as_bytes()),
            blacklist: Blacklist::production(),
            height: 10,
            state,
            config: LocalConfig { allow_debug: true, ..LocalConfig::default() },
            params: wire_consensus::consensus::Parameters {
                feature_version: Some(wire_consensus::consensus::FEATURE_26_1),
                ..Default::default()
            },
            epoch,
        }
    }

    pub(crate) fn runtime_state(&self, id: &Namespace) -> RuntimeState {
        roothash::state::runtime_state(&self.state, id).unwrap().unwrap()
    }

    /// Executes a block. With a committee the block begins its epoch.
    pub(crate) fn block(&mut self, id: Namespace, txs: Vec<Tx>, committee: Option<Committee>) -> Executed {
        let mut executed = Executed { accepted: Vec::new(), refused: Vec::new(), discrepancy: false };
        let service = roothash::RootHash;
        let changes = {
            let known = wire_consensus::known::KnownSignatures::default();
            let env = Env {
                known: &known,
                services: &[],
                chain: &self.chain,
                blacklist: &self.blacklist,
                config: &self.config,
                params: &self.params,
                last_state_root: None,
                initial_height: 1,
            };
            let mut block = BlockContext::default();
            block.time = Time::new(1_700_000_000 + self.height, 0).unwrap();
            let mut ctx = Context::new(&env, &self.state, Mode::BeginBlock, block, self.height);
            if let Some(committee) = committee {
                self.epoch = committee.valid_for;
                set_epoch(&mut ctx.state(), committee.valid_for, self.height + 1, &committee);
            }
            service.begin_block(&mut ctx).unwrap();
            for tx in txs {
                ctx.begin_phase(Mode::DeliverTx);
                ctx.set_tx_signer(PublicKey::new([9; 32]));
                let (method, body) = match &tx {
                    Tx::Commit(c) => {
                        let body = ExecutorCommit { id, commits: Some(vec![(**c).clone()]) };
                        (METHOD_EXECUTOR_COMMIT, Raw(cbor::to_vec(&body)))
                    }
                    Tx::Evidence(e) => (METHOD_EVIDENCE, Raw(cbor::to_vec(&**e))),
                };
                match service.execute_tx(&mut ctx, method, &body) {
                    Ok(()) => executed.accepted.push(tx),
                    Err(e) => executed.refused.push((tx, e.to_string())),
                }
            }
            ctx.begin_phase(Mode::EndBlock);
            service.end_block(&mut ctx).unwrap();
            executed.discrepancy = ctx.has_event(roothash::NAME, "execution_discrepancy");
            let (layers, _) = ctx.finish();
            layers.into_changes().collect::<Vec<_>>()
        };
        for (key, value) in changes {
            match value {
                Some(value) => self.state.insert(&key, &value).unwrap(),
                None => self.state.remove(&key).unwrap(),
            }
        }
        self.height += 1;
        executed
    }
}

fn set_epoch(state: &mut dyn KvWrite, epoch: u64, height: i64, committee: &Committee) {
    kv::put(state, &apps_core::epoch::KEY_CURRENT, &wire_consensus::beacon::EpochTimeState { epoch, height }).unwrap();
    scheduler::state::set_committee(state, committee).unwrap();
}
