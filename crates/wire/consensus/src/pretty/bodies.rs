//! Text and JSON of the methods' bodies.

use base_codec::{
    Codec, cbor,
    json::{ToJson, Value},
};
use base_prims::{Epoch, ProtocolVersions, Quantity};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Writer, content, opened, percentage, value};
use crate::{
    beacon, churp,
    entity::Entity,
    governance::{self, ChangeParametersProposal, ProposalContent, ProposalMetadata, ProposalVote},
    keymanager, meta,
    node::Node,
    registry, roothash,
    signed::{MultiSigned, Signed},
    staking::{self, CommissionRateBoundStep, CommissionRateStep},
    upgrade::Descriptor,
    vault::{self, Action, Authority, WithdrawPolicy},
};

/// How the bodies of a method are shown.
pub(super) struct Kind {
    /// Writes the text.
    pub(super) print: fn(&[u8], &mut Writer<'_>),
    /// The JSON; `None` if there is none.
    pub(super) json: fn(&[u8]) -> Result<Option<Value>, cbor::Error>,
}

/// A method's body. By default its text is its JSON.
trait Body: cbor::Decode + ToJson {
    fn print(&self, w: &mut Writer<'_>, bytes: &[u8]) {
        match self.json() {
            Ok(Some(v)) => w.json(&v),
            Ok(None) => w.line(format_args!("  <raw: {}>", STANDARD.encode(bytes))),
            Err(e) => w.line(format_args!("<error: malformed signed blob: {e}>")),
        }
    }

    fn json(&self) -> Result<Option<Value>, cbor::Error> {
        Ok(Some(self.to_json()))
    }
}

/// Reads a body; an absent one is the default value, as in the reference.
fn decode<T: Body>(bytes: &[u8]) -> Result<T, cbor::Error> {
    if bytes.is_empty() { Ok(T::default()) } else { cbor::from_slice(bytes) }
}

fn of<T: Body>() -> Kind {
    fn print<T: Body>(bytes: &[u8], w: &mut Writer<'_>) {
        match decode::<T>(bytes) {
            Ok(body) => body.print(w, bytes),
            Err(e) => w.malformed(&e, bytes),
        }
    }
    Kind { print: print::<T>, json: |bytes| decode::<T>(bytes)?.json() }
}

/// How the bodies of `method` are shown, if it is known.
pub(super) fn kind(method: &str) -> Option<Kind> {
    Some(match method {
        staking::METHOD_TRANSFER => of::<staking::Transfer>(),
        staking::METHOD_BURN => of::<staking::Burn>(),
        staking::METHOD_ADD_ESCROW => of::<staking::Escrow>(),
        staking::METHOD_RECLAIM_ESCROW => of::<staking::ReclaimEscrow>(),
        staking::METHOD_AMEND_COMMISSION_SCHEDULE => of::<Amendment>(),
        staking::METHOD_ALLOW => of::<staking::Allow>(),
        staking::METHOD_WITHDRAW => of::<staking::Withdraw>(),
        registry::METHOD_REGISTER_ENTITY => of::<SignedEntity>(),
        registry::METHOD_DEREGISTER_ENTITY => of::<registry::Empty>(),
        registry::METHOD_REGISTER_NODE => of::<MultiSignedNode>(),
        registry::METHOD_UNFREEZE_NODE => of::<registry::UnfreezeNode>(),
        registry::METHOD_REGISTER_RUNTIME => of::<registry::Runtime>(),
        registry::METHOD_PROVE_FRESHNESS => of::<[u8; 32]>(),
        governance::METHOD_SUBMIT_PROPOSAL => of::<ProposalContent>(),
        governance::METHOD_CAST_VOTE => of::<ProposalVote>(),
        roothash::METHOD_EXECUTOR_COMMIT => of::<roothash::ExecutorCommit>(),
        roothash::METHOD_EVIDENCE => of::<roothash::Evidence>(),
        roothash::METHOD_SUBMIT_MSG => of::<roothash::SubmitMsg>(),
        beacon::METHOD_VRF_PROVE => of::<beacon::VrfProve>(),
        beacon::METHOD_SET_EPOCH => of::<Epoch>(),
        keymanager::METHOD_UPDATE_POLICY => of::<keymanager::SignedPolicySgx>(),
        keymanager::METHOD_PUBLISH_MASTER_SECRET => of::<keymanager::SignedEncryptedMasterSecret>(),
        keymanager::METHOD_PUBLISH_EPHEMERAL_SECRET => of::<keymanager::SignedEncryptedEphemeralSecret>(),
        churp::METHOD_CREATE => of::<churp::CreateRequest>(),
        churp::METHOD_UPDATE => of::<churp::UpdateRequest>(),
        // The reference registers the requests without their signatures as these methods' bodies, so what it shows of
        // a valid transaction is an error. Here too.
        churp::METHOD_APPLY => of::<churp::ApplicationRequest>(),
        churp::METHOD_CONFIRM => of::<churp::ConfirmationRequest>(),
        vault::METHOD_CREATE => of::<vault::Create>(),
        vault::METHOD_AUTHORIZE_ACTION => of::<vault::AuthorizeAction>(),
        vault::METHOD_CANCEL_ACTION => of::<vault::CancelAction>(),
        meta::METHOD_META => of::<meta::BlockMetadata>(),
        _ => return None,
    })
}

macro_rules! shown_as_json {
    ($($t:ty),* $(,)?) => { $(impl Body for $t {})* };
}

shown_as_json!(
    registry::Empty,
    registry::UnfreezeNode,
    [u8; 32],
    roothash::ExecutorCommit,
    roothash::Evidence,
    roothash::SubmitMsg,
    beacon::VrfProve,
    Epoch,
    keymanager::SignedPolicySgx,
    keymanager::SignedEncryptedMasterSecret,
    keymanager::SignedEncryptedEphemeralSecret,
    churp::CreateRequest,
    churp::UpdateRequest,
    churp::ApplicationRequest,
    churp::ConfirmationRequest,
    meta::BlockMetadata,
);

impl Body for registry::Runtime {
    fn json(&self) -> Result<Option<Value>, cbor::Error> {
        let named = self.governance_model.name().is_some()
            && self.staking.slashing.keys().all(|reason| reason.name().is_some());
        Ok(named.then(|| self.to_json()))
    }
}

/// An entity's descriptor, shown opened.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
struct SignedEntity(Signed);

impl Body for SignedEntity {
    fn json(&self) -> Result<Option<Value>, cbor::Error> {
        let entity: Entity = content(&self.0.untrusted_raw_value)?;
        Ok(Some(opened(entity.to_json(), "signature", self.0.signature.to_json())))
    }
}

/// A node's descriptor, shown opened.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
struct MultiSignedNode(MultiSigned);

impl Body for MultiSignedNode {
    fn json(&self) -> Result<Option<Value>, cbor::Error> {
        let node: Node = content(&self.0.untrusted_raw_value)?;
        Ok(Some(opened(node.to_json(), "signatures", self.0.signatures.to_json())))
    }
}

impl Body for staking::Transfer {
    fn print(&self, w: &mut Writer<'_>, _: &[u8]) {
        w.line(format_args!("To:     {}", w.address(&self.to)));
        w.line(format_args!("Amount: {}", w.amount(&self.amount)));
    }
}

impl Body for staking::Burn {
    fn print(&self, w: &mut Writer<'_>, _: &[u8]) {
        w.line(format_args!("Amount: {}", w.amount(&self.amount)));
    }
}

impl Body for staking::Escrow {
    fn print(&self, w: &mut Writer<'_>, _: &[u8]) {
        w.line(format_args!("To:     {}", w.address(&self.account)));
        w.line(format_args!("Amount: {}", w.amount(&self.amount)));
    }
}

impl Body for staking::ReclaimEscrow {
    fn print(&self, w: &mut Writer<'_>, _: &[u8]) {
        w.line(format_args!("From:   {}", w.address(&self.account)));
        w.line(format_args!("Shares: {}", self.shares));
    }
}

impl Body for staking::Allow {
    fn print(&self, w: &mut Writer<'_>, _: &[u8]) {
        let sign = if self.negative { '-' } else { '+' };
        w.line(format_args!("Beneficiary:   {}", w.address(&self.beneficiary)));
        w.line(format_args!("Amount change: {sign}{}", w.amount(&self.amount_change)));
    }
}

impl Body for staking::Withdraw {
    fn print(&self, w: &mut Writer<'_>, _: &[u8]) {
        w.line(format_args!("From:   {}", w.address(&self.from)));
        w.line(format_args!("Amount: {}", w.amount(&self.amount)));
    }
}

/// [`staking::AmendCommissionSchedule`], but absent lists differ from empty ones.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
struct Amendment {
    amendment: Schedule,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
struct Schedule {
    #[codec(omitempty)]
    rates: Option<Vec<CommissionRateStep>>,
    #[codec(omitempty)]
    bounds: Option<Vec<CommissionRateBoundStep>>,
}

impl Body for Amendment {
    fn print(&self, w: &mut Writer<'_>, _: &[u8]) {
        let percent = |what: &str, rate: &Quantity| format!("{what} {}", percentage(rate));
        w.line(format_args!("Amendment:"));
        w.nested(|w| {
            steps(w, "Rates", self.amendment.rates.as_deref(), |s| {
                vec![format!("start: epoch {}", s.start), percent("rate: ", &s.rate)]
            });
            steps(w, "Rate Bounds", self.amendment.bounds.as_deref(), |s| {
                vec![
                    format!("start:        epoch {}", s.start),
                    percent("minimum rate:", &s.rate_min),
                    percent("maximum rate:", &s.rate_max),
                ]
            });
        });
    }
}

/// Numbered steps of a schedule, each of several lines.
fn steps<T>(w: &mut Writer<'_>, title: &str, steps: Option<&[T]>, lines: impl Fn(&T) -> Vec<String>) {
    let Some(steps) = steps else { return w.line(format_args!("{title}: (none)")) };
    w.line(format_args!("{title}:"));
    w.nested(|w| {
        for (i, step) in steps.iter().enumerate() {
            let number = format!("({}) ", i + 1);
            for (k, line) in lines(step).iter().enumerate() {
                let head = if k == 0 { number.as_str() } else { "" };
                w.line(format_args!("{head:width$}{line}", width = number.len()));
            }
        }
    });
}

impl Body for ProposalContent {
    fn print(&self, w: &mut Writer<'_>, _: &[u8]) {
        if let Some(ProposalMetadata { title, description }) = &self.metadata {
            if !title.is_empty() {
                w.line(format_args!("Title: {title}"));
            }
            if !description.is_empty() {
                w.line(format_args!("Description:"));
                w.line(format_args!("{description}"));
            }
        }
        if let Some(upgrade) = &self.upgrade {
            w.line(format_args!("Upgrade:"));
            w.nested(|w| print_descriptor(upgrade, w));
        }
        if let Some(cancel) = &self.cancel_upgrade {
            w.line(format_args!("Cancel Upgrade:"));
            w.nested(|w| w.line(format_args!("Proposal ID: {}", cancel.proposal_id)));
        }
        if let Some(change) = &self.change_parameters {
            w.line(format_args!("Change Parameters:"));
            w.nested(|w| print_changes(change, w));
        }
    }
}

fn print_descriptor(d: &Descriptor, w: &mut Writer<'_>) {
    let ProtocolVersions { consensus_protocol, runtime_host_protocol, runtime_committee_protocol } = &d.target;
    w.line(format_args!("Handler: {}", d.handler));
    w.line(format_args!("Target Version:"));
    w.nested(|w| {
        w.line(format_args!("Consensus Protocol: {consensus_protocol}"));
        w.line(format_args!("Runtime Host Protocol: {runtime_host_protocol}"));
        w.line(format_args!("Runtime Committee Protocol: {runtime_committee_protocol}"));
    });
    w.line(format_args!("Epoch: {}", d.epoch));
}

/// The changes come in the order of their bytes (the reference's order changes from run to run).
fn print_changes(change: &ChangeParametersProposal, w: &mut Writer<'_>) {
    let entries = match value::entries(&change.changes) {
        Ok(entries) => entries,
        Err(e) => return w.nested(|w| w.malformed(&e, &change.changes)),
    };
    w.line(format_args!("Module: {}", change.module));
    w.line(format_args!("Changes: "));
    for (parameter, value) in entries {
        w.line(format_args!("  - Parameter: {parameter}"));
        w.line(format_args!("    Value: {value}"));
    }
}

impl Body for ProposalVote {
    fn print(&self, w: &mut Writer<'_>, _: &[u8]) {
        w.line(format_args!("Proposal ID: {}", self.id));
        match self.vote.name() {
            Some(name) => w.line(format_args!("Vote:        {name}")),
            None => w.line(format_args!("Vote:        [unknown vote: {}]", self.vote.0)),
        }
    }

    fn json(&self) -> Result<Option<Value>, cbor::Error> {
        Ok(self.vote.name().map(|_| self.to_json()))
    }
}

impl Body for vault::Create {
    fn print(&self, w: &mut Writer<'_>, _: &[u8]) {
        print_authority("Admin authority:", &self.admin_authority, w);
        print_authority("Suspend authority:", &self.suspend_authority, w);
    }
}

impl Body for vault::AuthorizeAction {
    fn print(&self, w: &mut Writer<'_>, _: &[u8]) {
        w.line(format_args!("Vault:  {}", self.vault));
        w.line(format_args!("Nonce:  {}", self.nonce));
        w.line(format_args!("Action:"));
        w.nested(|w| print_action(&self.action, w));
    }
}

impl Body for vault::CancelAction {
    fn print(&self, w: &mut Writer<'_>, _: &[u8]) {
        w.line(format_args!("Vault:  {}", self.vault));
        w.line(format_args!("Nonce:  {}", self.nonce));
    }
}

/// Messages nest no deeper than CBOR may, because their bodies are embedded items.
fn print_action(action: &Action, w: &mut Writer<'_>) {
    if action.suspend.is_some() {
        w.line(format_args!("Suspend vault"));
    }
    if action.resume.is_some() {
        w.line(format_args!("Resume vault"));
    }
    if let Some(message) = &action.execute_message {
        w.line(format_args!("Execute message:"));
        w.nested(|w| {
            w.line(format_args!("Method: {}", message.method));
            w.line(format_args!("Body:"));
            w.nested(|w| w.body(&message.method, &message.body));
        });
    }
    if let Some(update) = &action.update_withdraw_policy {
        w.line(format_args!("Update withdraw policy:"));
        w.nested(|w| {
            w.line(format_args!("Address: {}", update.address));
            w.line(format_args!("Policy:"));
            w.nested(|w| print_policy(&update.policy, w));
        });
    }
    if let Some(update) = &action.update_authority {
        w.line(format_args!("Update authority:"));
        w.nested(|w| {
            if let Some(authority) = &update.admin_authority {
                print_authority("New admin authority:", authority, w);
            }
            if let Some(authority) = &update.suspend_authority {
                print_authority("New suspend authority:", authority, w);
            }
        });
    }
}

fn print_policy(policy: &WithdrawPolicy, w: &mut Writer<'_>) {
    if policy.limit_amount.is_zero() || policy.limit_interval == 0 {
        return w.line(format_args!("Limit: not allowed"));
    }
    w.line(format_args!("Limit: {} / {} block(s)", w.amount(&policy.limit_amount), policy.limit_interval));
}

fn print_authority(title: &str, authority: &Authority, w: &mut Writer<'_>) {
    w.line(format_args!("{title}"));
    w.nested(|w| {
        w.line(format_args!("Addresses:"));
        for address in authority.addresses.iter().flatten() {
            w.line(format_args!("  - {address}"));
        }
        w.line(format_args!("Threshold: {}", authority.threshold));
    });
}
