//! A network of one proposer with accounts whose keys the tests hold, and what must hold of its state.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use apps_core::epoch;
use apps_governance::governance::state as governance;
use apps_staking::state as staking;
use base_codec::{Bytes, cbor};
use base_crypto::{ed25519::SecretKey, hash::sha256};
use base_prims::{Address, Epoch, PublicKey, Quantity};
use comet_chain::app::{
    BlockResults, CheckKind, LastCommitInfo, Misbehavior, MisbehaviorKind, PrepareProposal, ProposedBlock, VoteInfo,
};
use mkvs_tree::{KvRead, Sequential};
use wire_cometbft::keys::Address as Address20;
use wire_consensus::{
    Time,
    entity::{self, Entity, SignedEntity},
    genesis::{Document, comet},
    governance::ProposalState,
    node::{self, ConsensusAddress, ConsensusInfo, NetAddress, Node, P2pInfo, Roles, TlsInfo, VrfInfo},
    signed::{MultiSigned, Signed},
    staking::{Account, Delegation, EscrowAccount, GeneralAccount, SharePool, ThresholdKind},
    vault,
};

use super::{Rng, chain, local, public, secret, signature};
use crate::{MemoryStore, NodeApp, NodeOptions, StateStore, build_mux, sanity_check};

/// Entities with a validator each; they are the first of the users.
pub(crate) const VALIDATORS: u8 = 4;
/// Accounts with a balance.
pub(crate) const USERS: u8 = 24;
/// Blocks in an epoch.
const INTERVAL: i64 = 10;
const BALANCE: u64 = 1_000_000_000;
const STAKE: u64 = 50_000_000;

/// The five keys of an entity's node: identity, consensus, P2P, TLS, VRF.
pub(crate) fn node_keys(entity: u8) -> [SecretKey; 5] {
    [0, 1, 2, 3, 4].map(|k| secret(100 + entity * 5 + k))
}

pub(crate) fn address(user: u8) -> Address {
    Address::of_key(&public(&secret(user)))
}

pub(crate) fn signed_entity(user: u8, signer: u8, nodes: Vec<PublicKey>) -> SignedEntity {
    let entity = Entity { v: entity::LATEST_VERSION, id: public(&secret(user)), nodes };
    let blob = cbor::to_vec(&entity);
    let signature = signature(entity::REGISTER_CONTEXT, &secret(signer), &blob);
    Signed { untrusted_raw_value: Some(Bytes(blob)), signature }
}

pub(crate) fn signed_node(entity: u8, expiration: Epoch, port: u16, signatures: usize) -> MultiSigned {
    let keys = node_keys(entity);
    let address: NetAddress = format!("8.8.8.8:{port}").parse().unwrap();
    let consensus = public(&keys[1]);
    let node = Node {
        v: node::LATEST_VERSION,
        id: public(&keys[0]),
        entity_id: public(&secret(entity)),
        expiration,
        tls: TlsInfo { pub_key: public(&keys[3]) },
        p2p: P2pInfo { id: public(&keys[2]), addresses: Some(vec![address.clone()]) },
        consensus: ConsensusInfo { id: consensus, addresses: Some(vec![ConsensusAddress { id: consensus, address }]) },
        vrf: VrfInfo { id: public(&keys[4]) },
        runtimes: None,
        roles: Roles::VALIDATOR,
        software_version: String::new(),
    };
    let blob = cbor::to_vec(&node);
    let signatures = keys.iter().take(signatures).map(|k| signature(node::REGISTER_CONTEXT, k, &blob)).collect();
    MultiSigned { untrusted_raw_value: Some(Bytes(blob)), signatures: Some(signatures) }
}

/// A recorded genesis with the accounts, entities and nodes of the test in it.
pub(crate) fn genesis() -> Document {
    let (_, mut doc) = chain("insecure-beacon-rewards");
    doc.beacon.parameters.insecure_parameters.as_mut().unwrap().interval = INTERVAL;
    doc.registry.parameters.max_node_expiration = 1_000_000;
    doc.registry.nodes = (0..VALIDATORS).map(|v| signed_node(v, 500_000, 26656, 5)).collect();
    doc.registry.entities.extend((0..VALIDATORS).map(|v| signed_entity(v, v, vec![public(&node_keys(v)[0])])));
    doc.vault = Some(vault::Genesis { parameters: vault::Parameters::defaults(), ..vault::Genesis::default() });
    doc.governance.parameters.voting_period = 2;
    doc.governance.parameters.stake_threshold = 68;
    doc.governance.parameters.upgrade_min_epoch_diff = 8;
    doc.governance.parameters.upgrade_cancel_min_epoch_diff = 4;
    let params = &mut doc.staking.parameters;
    params.thresholds.insert(ThresholdKind::ENTITY, 1000u64.into());
    params.thresholds.insert(ThresholdKind::NODE_VALIDATOR, 2000u64.into());
    params.reward_schedule.iter_mut().for_each(|step| step.until = step.until.saturating_mul(1000));
    // The recorded account that stakes everything would decide every proposal and holds no validator here.
    for user in 0..USERS {
        let mut account = Account {
            general: GeneralAccount { balance: BALANCE.into(), ..GeneralAccount::default() },
            ..Account::default()
        };
        doc.staking.total_supply.add_assign(&BALANCE.into());
        if user < VALIDATORS {
            let pool = SharePool { balance: STAKE.into(), total_shares: STAKE.into() };
            account.escrow = EscrowAccount { active: pool, ..EscrowAccount::default() };
            let own = BTreeMap::from([(address(user), Delegation { shares: STAKE.into() })]);
            doc.staking.delegations.insert(address(user), own);
            doc.staking.total_supply.add_assign(&STAKE.into());
        }
        doc.staking.ledger.insert(address(user), account);
    }
    // Recorded entities need the stake that is now asked for.
    let recorded: Vec<_> = doc.registry.entities.iter().map(|e| Address::of_key(&e.signature.public_key)).collect();
    for entity in recorded.into_iter().filter(|a| (0..USERS).all(|u| address(u) != *a)) {
        let account = doc.staking.ledger.entry(entity).or_default();
        if account.escrow.active.total_shares.is_zero() {
            account.escrow.active = SharePool { balance: STAKE.into(), total_shares: STAKE.into() };
            let own = BTreeMap::from([(entity, Delegation { shares: STAKE.into() })]);
            doc.staking.delegations.insert(entity, own);
            doc.staking.total_supply.add_assign(&STAKE.into());
        }
    }
    sanity_check(&doc, &local()).unwrap();
    doc
}

/// Time that this thread has had a processor, zero where that is unknown.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|n| n.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// The network: an application that proposes and, if wanted, one that follows.
pub(crate) struct World {
    pub(crate) app: NodeApp,
    follower: Option<NodeApp>,
    doc: Document,
    pub(crate) height: i64,
    // Power of every validator by address.
    validators: BTreeMap<[u8; 20], i64>,
    /// How long the follower has executed and committed blocks, by the clock and by its processor.
    pub(crate) following: (Duration, Duration),
}

impl World {
    pub(crate) fn new(follower: bool) -> Self {
        let store = || Box::new(MemoryStore::new(Box::new(Sequential))) as Box<dyn StateStore>;
        Self::followed_by(follower.then(store))
    }

    /// A network whose follower, if any, keeps its state in the store.
    pub(crate) fn followed_by(follower: Option<Box<dyn StateStore>>) -> Self {
        let doc = genesis();
        let node = |key, store| {
            let options = NodeOptions { local: local(), upgrades: None };
            let mut app = NodeApp::new(build_mux(&doc, options), store, key);
            app.init_chain(&doc).unwrap();
            app
        };
        let validators = comet::validators(&doc).unwrap();
        let validators =
            validators.iter().map(|v| (PublicKey::new(*v.pub_key.as_bytes()).comet_address(), v.power)).collect();
        let [_, proposer, ..] = node_keys(0);
        let follower = follower.map(|store| node(None, store));
        let app = node(Some(proposer), Box::new(MemoryStore::new(Box::new(Sequential))));
        Self { app, follower, height: doc.height - 1, validators, doc, following: Default::default() }
    }

    pub(crate) fn state(&self) -> &dyn KvRead {
        self.app.store().state()
    }

    pub(crate) fn epoch(&self) -> Epoch {
        epoch::of_state(self.state()).unwrap().epoch
    }

    pub(crate) fn time(&self, height: i64) -> Time {
        Time::new(self.doc.time.0.seconds() + 6 * height, 0).unwrap()
    }

    /// Builds, executes and commits a block of these transactions, all of which must fit.
    pub(crate) fn block(&mut self, rng: &mut Rng, txs: &[Vec<u8>]) -> BlockResults {
        for tx in txs.iter().filter(|_| rng.percent(5)) {
            self.app.check_tx(tx, CheckKind::New);
        }
        self.height += 1;
        let first = self.height == self.doc.height;
        let [_, proposer, ..] = node_keys(0).map(|k| public(&k).comet_address());
        let vote = |(address, power): (&[u8; 20], &i64)| VoteInfo {
            address: Address20(*address),
            power: *power,
            signed_last_block: *address == proposer || rng.percent(80),
        };
        let votes: Vec<_> = if first { Vec::new() } else { self.validators.iter().map(vote).collect() };
        let total_voting_power = self.validators.values().sum();
        let guilty = public(&node_keys(VALIDATORS - 1)[1]).comet_address();
        let misbehavior = match self.validators.get(&guilty) {
            Some(power) if rng.percent(3) && !first => vec![Misbehavior {
                kind: MisbehaviorKind::DuplicateVote,
                address: Address20(guilty),
                power: *power,
                height: self.height - 1,
                time: self.time(self.height - 1),
                total_voting_power,
            }],
            _ => Vec::new(),
        };
        let request = PrepareProposal {
            max_tx_bytes: 1 << 24,
            txs: txs.to_vec(),
            last_commit: LastCommitInfo { round: 0, votes },
            misbehavior,
            height: self.height,
            time: self.time(self.height),
            next_validators_hash: Vec::new(),
            proposer_address: Address20(proposer),
        };
        let built = self.app.prepare_proposal(&request).unwrap();
        assert_eq!(built.len(), txs.len() + 1, "block {} could not be built", self.height);
        let block = ProposedBlock {
            hash: sha256(&[&self.height.to_be_bytes()]).to_vec(),
            height: self.height,
            time: request.time,
            proposer_address: request.proposer_address,
            txs: built,
            last_commit: request.last_commit,
            misbehavior: request.misbehavior,
            ..ProposedBlock::default()
        };
        let results = self.app.execute(&block).unwrap();
        let committed = self.app.commit().unwrap();
        if let Some(follower) = &mut self.follower {
            let (started, processor) = (Instant::now(), processor_time());
            let (same, same_root) = (follower.execute(&block).unwrap(), follower.commit().unwrap());
            self.following.0 += started.elapsed();
            self.following.1 += processor_time().saturating_sub(processor);
            assert_eq!(same, results, "block {}", self.height);
            assert_eq!(same_root, committed, "block {}", self.height);
        }
        for update in &results.validator_updates {
            let address = PublicKey::new(update.pub_key).comet_address();
            if update.power == 0 {
                self.validators.remove(&address);
            } else {
                self.validators.insert(address, update.power);
            }
        }
        assert!(!self.validators.is_empty());
        results
    }

    /// What must hold after every block.
    pub(crate) fn check(&self) {
        let (state, height) = (self.state(), self.height);
        let delegations = staking::delegations(state).unwrap();
        let debonding = staking::debonding_delegations(state).unwrap();
        let mut pools: BTreeMap<Address, (Quantity, Quantity)> = BTreeMap::new();
        for (to, all) in &delegations {
            all.values().for_each(|d| pools.entry(*to).or_default().0.add_assign(&d.shares));
        }
        for (to, all) in &debonding {
            let all = all.values().flatten().flatten();
            all.for_each(|d| pools.entry(*to).or_default().1.add_assign(&d.shares));
        }
        let deposits = staking::governance_deposits(state).unwrap();
        let mut total = staking::common_pool(state).unwrap();
        total.add_assign(&staking::last_block_fees(state).unwrap());
        total.add_assign(&deposits);
        for address in staking::addresses(state).unwrap() {
            let account = staking::account(state, &address).unwrap();
            for part in [&account.general.balance, &account.escrow.active.balance, &account.escrow.debonding.balance] {
                total.add_assign(part);
            }
            let (active, debonding) = pools.remove(&address).unwrap_or_default();
            assert_eq!(account.escrow.active.total_shares, active, "height {height}: active shares of {address}");
            assert_eq!(account.escrow.debonding.total_shares, debonding, "height {height}: debonding of {address}");
        }
        assert!(pools.is_empty(), "height {height}: delegations without an account");
        assert_eq!(staking::total_supply(state).unwrap(), total, "height {height}: total supply");
        let mut open = Quantity::ZERO;
        for proposal in governance::proposals(state).unwrap() {
            if proposal.state == ProposalState::ACTIVE {
                open.add_assign(&proposal.deposit);
            }
        }
        assert_eq!(open, deposits, "height {height}: governance deposits");
    }

    /// The document that the network could start from anew.
    pub(crate) fn export(&self) -> Document {
        let mut doc = self.doc.clone();
        doc.height = self.height + 1;
        for service in self.app.mux().services() {
            service.export_genesis(self.state(), self.height, &mut doc).unwrap();
        }
        doc
    }
}
