//! Random transactions, sensible and not.

use apps_governance::{governance::state as governance, vault::state as vault_state};
use apps_staking::state as staking;
use base_codec::{Bytes, Raw, cbor::Encode};
use base_crypto::{context::ChainContext, ed25519::SecretKey};
use base_prims::{Address, Epoch, Namespace, Quantity, version::PROTOCOLS};
use wire_consensus::{
    beacon,
    governance::{
        self as gov, CancelUpgradeProposal, ChangeParametersProposal, ProposalContent, ProposalMetadata, ProposalVote,
        Vote,
    },
    keymanager,
    registry::{self, UnfreezeNode},
    roothash::{self, SubmitMsg},
    scheduler,
    staking::{
        self as wire, Allow, AmendCommissionSchedule, Burn, CommissionRateBoundStep, CommissionRateStep,
        CommissionSchedule, Escrow, ReclaimEscrow, Transfer, Withdraw,
    },
    transaction::{Fee, Transaction},
    upgrade::{Descriptor, LATEST_DESCRIPTOR_VERSION},
    vault::{
        self, Action, ActionExecuteMessage, ActionResume, ActionSuspend, ActionUpdateAuthority,
        ActionUpdateWithdrawPolicy, Authority, AuthorizeAction, CancelAction, Create, Vault, WithdrawPolicy,
    },
};

use super::{
    Rng, public, secret,
    world::{USERS, VALIDATORS, World, address, node_keys, signed_entity, signed_node},
};

/// A compute runtime and a key manager runtime of the recorded genesis.
const RUNTIMES: [[u8; 2]; 2] = [[0x80, 0], [0xc0, 0xff]];

/// What the transactions are drawn from: the state after the last block.
pub(crate) struct Traffic {
    chain: ChainContext,
    nonces: Vec<u64>,
    node_nonces: Vec<u64>,
    epoch: Epoch,
    next_proposal: u64,
    vaults: Vec<Vault>,
}

impl Traffic {
    /// Methods that must succeed at times.
    pub(crate) const SUCCEEDING: &'static [&'static str] = &[
        wire::METHOD_TRANSFER,
        wire::METHOD_BURN,
        wire::METHOD_ADD_ESCROW,
        wire::METHOD_RECLAIM_ESCROW,
        wire::METHOD_AMEND_COMMISSION_SCHEDULE,
        wire::METHOD_ALLOW,
        wire::METHOD_WITHDRAW,
        registry::METHOD_REGISTER_ENTITY,
        registry::METHOD_DEREGISTER_ENTITY,
        registry::METHOD_REGISTER_NODE,
        gov::METHOD_SUBMIT_PROPOSAL,
        gov::METHOD_CAST_VOTE,
        vault::METHOD_CREATE,
        vault::METHOD_AUTHORIZE_ACTION,
        vault::METHOD_CANCEL_ACTION,
    ];

    pub(crate) fn new(chain: ChainContext) -> Self {
        Self { chain, nonces: Vec::new(), node_nonces: Vec::new(), epoch: 0, next_proposal: 0, vaults: Vec::new() }
    }

    /// Looks at the state before a block is filled.
    pub(crate) fn prepare(&mut self, world: &World) {
        let state = world.state();
        let nonce = |a: Address| staking::account(state, &a).unwrap().general.nonce;
        self.nonces = (0..USERS).map(|u| nonce(address(u))).collect();
        self.node_nonces = (0..VALIDATORS).map(|v| nonce(Address::of_key(&public(&node_keys(v)[0])))).collect();
        self.epoch = world.epoch();
        self.next_proposal = governance::next_proposal_id(state).unwrap();
        self.vaults = vault_state::vaults(state).unwrap();
    }

    /// A transaction and its method.
    pub(crate) fn transaction(&mut self, rng: &mut Rng) -> (String, Vec<u8>) {
        let user = u8::try_from(rng.below(USERS.into())).unwrap();
        let (method, body) = match rng.below(100) {
            0..60 => self.staking(rng, user),
            60..66 => return self.node(rng),
            66..74 => self.registry(rng, user),
            74..82 => self.governance(rng, user),
            82..97 => self.vault(rng, user),
            _ => other(rng),
        };
        let nonce = &mut self.nonces[usize::from(user)];
        let tx = Transaction { nonce: *nonce, fee: fee(rng), method: method.to_owned(), body };
        *nonce += 1;
        (method.to_owned(), self.seal(rng, tx, &secret(user)))
    }

    /// Signs; some transactions are spoiled before or after that.
    fn seal(&self, rng: &mut Rng, mut tx: Transaction, key: &SecretKey) -> Vec<u8> {
        match rng.below(200) {
            0..3 => tx.nonce = tx.nonce.wrapping_add(rng.draw() >> rng.below(64)),
            3..6 => {
                let n = rng.below(60);
                tx.body = Raw(base_codec::cbor::to_vec(&Bytes(rng.bytes(n))));
            }
            6 => tx.body = Raw::default(),
            7 => tx.method = "staking.Nothing".to_owned(),
            8 => tx.method = "consensus.Metadata".to_owned(),
            9 => tx.method.clear(),
            10 => tx.fee = Some(Fee { amount: amount(rng), gas: 9 }),
            _ => {}
        }
        let mut raw = base_codec::cbor::to_vec(&tx.sign(key, &self.chain).unwrap());
        if rng.percent(2) {
            let at = rng.below(raw.len());
            raw[at] ^= 1 << rng.below(8);
        }
        raw
    }

    /// A transfer between users, which adds no key to the state.
    pub(crate) fn transfer(&mut self, rng: &mut Rng) -> Vec<u8> {
        let [user, to] = [0, 0].map(|_: u8| u8::try_from(rng.below(USERS.into())).unwrap());
        let nonce = &mut self.nonces[usize::from(user)];
        let body = Transfer { to: address(to), amount: (1000 + rng.draw() % 1000).into() };
        let tx = Transaction::new(*nonce, Some(free(rng)), wire::METHOD_TRANSFER, &body);
        *nonce += 1;
        base_codec::cbor::to_vec(&tx.sign(&secret(user), &self.chain).unwrap())
    }

    fn anybody(&self, rng: &mut Rng) -> Address {
        match rng.below(40) {
            0 => Address::common_pool(),
            1 => Address::fee_accumulator(),
            2 => Address::burn(),
            3 => Address::of_runtime(&runtime(rng)),
            4..12 => self.vaults.get(rng.below(self.vaults.len() + 1)).map_or_else(|| address(0), Vault::address),
            _ => address(u8::try_from(rng.below(USERS.into())).unwrap()),
        }
    }

    fn staking(&self, rng: &mut Rng, user: u8) -> (&'static str, Raw) {
        let whom = self.anybody(rng);
        match rng.below(8) {
            0 | 1 => (wire::METHOD_TRANSFER, Raw::of(&Transfer { to: whom, amount: amount(rng) })),
            2 => (wire::METHOD_BURN, Raw::of(&Burn { amount: amount(rng).quo(&1000u64.into()).unwrap() })),
            3 => (wire::METHOD_ADD_ESCROW, Raw::of(&Escrow { account: whom, amount: amount(rng) })),
            4 => {
                // Escrow of the validators stays above what they need, most of the time.
                let account = if rng.percent(80) { whom } else { address(user) };
                let divisor: u64 = if account == address(user) && user < VALIDATORS { 1000 } else { 1 };
                let shares = amount(rng).quo(&divisor.into()).unwrap();
                (wire::METHOD_RECLAIM_ESCROW, Raw::of(&ReclaimEscrow { account, shares }))
            }
            5 => (wire::METHOD_AMEND_COMMISSION_SCHEDULE, Raw::of(&self.commission(rng))),
            6 => {
                let negative = rng.percent(30);
                (wire::METHOD_ALLOW, Raw::of(&Allow { beneficiary: whom, negative, amount_change: amount(rng) }))
            }
            _ => (wire::METHOD_WITHDRAW, Raw::of(&Withdraw { from: whom, amount: amount(rng) })),
        }
    }

    fn commission(&self, rng: &mut Rng) -> AmendCommissionSchedule {
        // Changes are possible at even epochs; bounds need some lead.
        let base = self.epoch + 2 - self.epoch % 2;
        let start = |rng: &mut Rng| if rng.percent(80) { base + 4 + 2 * (rng.draw() % 2) } else { rng.draw() >> 40 };
        let rate = |rng: &mut Rng| Quantity::from(rng.draw() % 120_000);
        let steps = rng.below(3);
        let rates = (0..steps).map(|_| CommissionRateStep { start: start(rng), rate: rate(rng) }).collect();
        let steps = if rng.percent(70) { 1 } else { rng.below(3) };
        let bound = |rng: &mut Rng| CommissionRateBoundStep {
            start: start(rng),
            rate_min: 1000u64.into(),
            rate_max: rate(rng).add(&1000u64.into()),
        };
        let bounds = (0..steps).map(|_| bound(rng)).collect();
        AmendCommissionSchedule { amendment: CommissionSchedule { rates, bounds } }
    }

    /// A validator's node announces itself again, with its own key.
    fn node(&mut self, rng: &mut Rng) -> (String, Vec<u8>) {
        let v = u8::try_from(rng.below(VALIDATORS.into())).unwrap();
        let expiration = if rng.percent(80) { 500_000 } else { rng.draw() >> 44 };
        // Nodes must not expire by chance.
        let expiration = if expiration > self.epoch { expiration.max(100_000) } else { expiration };
        let signatures = if rng.percent(90) { 5 } else { rng.below(5) };
        let port = u16::try_from(1 + rng.below(65_535)).unwrap();
        let signed = signed_node(v, expiration, port, signatures);
        let nonce = &mut self.node_nonces[usize::from(v)];
        let tx = Transaction::new(*nonce, Some(free(rng)), registry::METHOD_REGISTER_NODE, &signed);
        *nonce += 1;
        let [key, ..] = node_keys(v);
        (registry::METHOD_REGISTER_NODE.to_owned(), self.seal(rng, tx, &key))
    }

    fn registry(&self, rng: &mut Rng, user: u8) -> (&'static str, Raw) {
        match rng.below(10) {
            0..5 => {
                let signer = if rng.percent(90) { user } else { 0 };
                let nodes = match user {
                    0..VALIDATORS => vec![public(&node_keys(user)[0])],
                    _ if rng.percent(20) => vec![public(&node_keys(0)[0]); rng.below(3)],
                    _ => Vec::new(),
                };
                (registry::METHOD_REGISTER_ENTITY, Raw::of(&signed_entity(user, signer, nodes)))
            }
            5..8 => {
                // Null, the empty structure.
                let body = if rng.percent(90) { Raw(vec![0xf6]) } else { Raw(vec![0x01]) };
                (registry::METHOD_DEREGISTER_ENTITY, body)
            }
            _ => {
                let node = u8::try_from(rng.below(usize::from(VALIDATORS) + 1)).unwrap();
                let node_id = public(&node_keys(node)[0]);
                (registry::METHOD_UNFREEZE_NODE, Raw::of(&UnfreezeNode { node_id }))
            }
        }
    }

    fn governance(&self, rng: &mut Rng, user: u8) -> (&'static str, Raw) {
        if rng.percent(75) {
            let vote = match rng.below(10) {
                0 => Vote::NO,
                1 => Vote::ABSTAIN,
                _ => Vote::YES,
            };
            let back = 1 + rng.draw() % (3 + u64::from(user));
            let id = self.next_proposal.wrapping_sub(back);
            return (gov::METHOD_CAST_VOTE, Raw::of(&ProposalVote { id, vote }));
        }
        let mut content = ProposalContent::default();
        match rng.below(8) {
            0 => {
                let epoch = self.epoch + 6 + rng.draw() % 8;
                let handler = format!("test-{}", rng.below(3));
                content.upgrade = Some(Descriptor { v: LATEST_DESCRIPTOR_VERSION, handler, target: PROTOCOLS, epoch });
            }
            1 => {
                let proposal_id = rng.draw() % (self.next_proposal + 1);
                content.cancel_upgrade = Some(CancelUpgradeProposal { proposal_id });
            }
            2 => {
                let changes = Raw::of(&Bytes(rng.bytes(5)));
                content.change_parameters = Some(ChangeParametersProposal { module: "staking".to_owned(), changes });
            }
            3 => content.change_parameters = Some(changes("vaults", &1u64)),
            4 => {
                let max = Some(i64::try_from(rng.below(120)).unwrap() + 1);
                let change = scheduler::ParameterChanges { max_validators: max, ..Default::default() };
                content.change_parameters = Some(changes(scheduler::MODULE, &change));
            }
            _ => {
                let change = wire::ParameterChanges {
                    min_transfer_amount: Some((rng.draw() % 50).into()),
                    min_delegation_amount: Some((rng.draw() % 200).into()),
                    max_allowances: Some(u32::try_from(rng.below(20)).unwrap()),
                    fee_split_weight_vote: Some((rng.draw() % 5).into()),
                    debonding_interval: rng.percent(50).then_some(1 + rng.draw() % 3),
                    ..wire::ParameterChanges::default()
                };
                content.change_parameters = Some(changes(wire::MODULE, &change));
            }
        }
        if rng.percent(5) {
            content.metadata = Some(ProposalMetadata::default());
        }
        (gov::METHOD_SUBMIT_PROPOSAL, Raw::of(&content))
    }

    fn vault(&self, rng: &mut Rng, user: u8) -> (&'static str, Raw) {
        if self.vaults.is_empty() || (self.vaults.len() < 40 && rng.percent(10)) {
            let create = Create { admin_authority: authority(rng, user), suspend_authority: authority(rng, user) };
            return (vault::METHOD_CREATE, Raw::of(&create));
        }
        let of_user = |v: &&Vault| v.authorities_contain(&address(user));
        let own: Vec<_> = self.vaults.iter().filter(of_user).collect();
        let vault = if own.is_empty() || rng.percent(5) { rng.pick(&self.vaults) } else { *rng.pick(&own) };
        let nonce = if rng.percent(90) { vault.nonce } else { rng.draw() % (vault.nonce + 2) };
        if rng.percent(15) {
            return (vault::METHOD_CANCEL_ACTION, Raw::of(&CancelAction { vault: vault.address(), nonce }));
        }
        let action = self.action(rng, user, vault);
        (vault::METHOD_AUTHORIZE_ACTION, Raw::of(&AuthorizeAction { vault: vault.address(), nonce, action }))
    }

    /// What a vault is to do. Few different ones, so that several authorities agree at times.
    fn action(&self, rng: &mut Rng, user: u8, vault: &Vault) -> Action {
        let mut action = Action::default();
        match rng.below(12) {
            0 => action.suspend = Some(ActionSuspend {}),
            1..4 => action.resume = Some(ActionResume {}),
            4 | 5 => {
                let policy = WithdrawPolicy { limit_amount: 1_000_000u64.into(), limit_interval: 10 };
                let to = address(u8::try_from(rng.below(4)).unwrap());
                action.update_withdraw_policy = Some(ActionUpdateWithdrawPolicy { address: to, policy });
            }
            6 => {
                let admin_authority = rng.percent(50).then(|| authority(rng, user));
                action.update_authority = Some(ActionUpdateAuthority { admin_authority, suspend_authority: None });
            }
            7 => {
                // Calls itself, down to any depth.
                let inner = AuthorizeAction {
                    vault: vault.address(),
                    nonce: vault.nonce + 1,
                    action: Action { suspend: Some(ActionSuspend {}), ..Action::default() },
                };
                let body = Raw::of(&inner);
                let method = vault::METHOD_AUTHORIZE_ACTION.to_owned();
                action.execute_message = Some(ActionExecuteMessage { method, body });
            }
            _ => {
                let (method, body) = match rng.below(4) {
                    0 => self.governance(rng, user),
                    1 => (wire::METHOD_TRANSFER, Raw::of(&Transfer { to: address(0), amount: 10_000u64.into() })),
                    _ => self.staking(rng, USERS),
                };
                action.execute_message = Some(ActionExecuteMessage { method: method.to_owned(), body });
            }
        }
        action
    }
}

fn changes<T: Encode>(module: &str, body: &T) -> ChangeParametersProposal {
    ChangeParametersProposal { module: module.to_owned(), changes: Raw::of(body) }
}

fn authority(rng: &mut Rng, user: u8) -> Authority {
    let mut addresses = vec![address(user)];
    addresses.extend((0..rng.below(3)).map(|_| address(u8::try_from(rng.below(USERS.into())).unwrap())));
    let threshold = if rng.percent(70) { 1 } else { u8::try_from(rng.below(4)).unwrap() };
    Authority { addresses: Some(addresses), threshold }
}

fn runtime(rng: &mut Rng) -> Namespace {
    let [first, fill] = *rng.pick(&RUNTIMES);
    let mut id = [0; 32];
    id[0] = first;
    id[8..].fill(fill);
    Namespace::from_bytes_unchecked(id)
}

/// Calls that this network answers with errors only, or nearly so.
fn other(rng: &mut Rng) -> (&'static str, Raw) {
    match rng.below(5) {
        0 => {
            let (fee, tokens, n) = (amount(rng), amount(rng), rng.below(40));
            let msg = SubmitMsg { id: runtime(rng), tag: rng.draw(), fee, tokens, data: Some(Bytes(rng.bytes(n))) };
            (roothash::METHOD_SUBMIT_MSG, Raw::of(&msg))
        }
        1 => (beacon::METHOD_SET_EPOCH, Raw::of(&(rng.draw() % 1000))),
        2 => (beacon::METHOD_VRF_PROVE, Raw(vec![0xa0])),
        3 => (keymanager::METHOD_UPDATE_POLICY, Raw(vec![0xa0])),
        _ => (roothash::METHOD_EXECUTOR_COMMIT, Raw(vec![0xa0])),
    }
}

/// Anything from nothing to more than there is.
fn amount(rng: &mut Rng) -> Quantity {
    match rng.below(50) {
        0 => Quantity::ZERO,
        1 => Quantity::from_u128(u128::MAX),
        2 => Quantity::from_be_bytes(&rng.bytes(40)),
        3..8 => (rng.draw() % 200).into(),
        8..12 => (rng.draw() % 2_000_000_000).into(),
        _ => (rng.draw() % 2_000_000).into(),
    }
}

fn free(rng: &mut Rng) -> Fee {
    Fee { amount: Quantity::ZERO, gas: 2000 + rng.draw() % 100_000 }
}

fn fee(rng: &mut Rng) -> Option<Fee> {
    match rng.below(60) {
        0 => None,
        1 => Some(Fee { amount: amount(rng), gas: rng.draw() }),
        2 => Some(Fee { amount: 7u64.into(), gas: rng.draw() % 1200 }),
        _ => Some(Fee { amount: (rng.draw() % 1000).into(), ..free(rng) }),
    }
}
