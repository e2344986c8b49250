//! Every transaction method with the type of its body, as one table for all families.

use base_codec::{Bytes, cbor, json};
use base_prims::Epoch;
use serde_json::{Value, json};
use wire_consensus::entity::{self, Entity};
use wire_consensus::signed::{MultiSigned, Signed};
use wire_consensus::{beacon, churp, governance, keymanager, meta, registry, roothash, staking, vault};

/// Text of what differs.
pub(super) type Checked<T> = Result<T, String>;

/// What is known of one method's body.
pub(super) struct Body {
    /// Name of the method.
    pub(super) method: &'static str,
    check: fn(&[u8]) -> Checked<Value>,
    from_json: fn(&Value) -> Checked<Vec<u8>>,
    validate: fn(&[u8]) -> Checked<()>,
}

/// A type that is on the wire in both forms.
trait Wire: cbor::Encode + cbor::Decode + json::ToJson + json::FromJson {}
impl<T: cbor::Encode + cbor::Decode + json::ToJson + json::FromJson> Wire for T {}

impl Body {
    /// The body of a method; an unknown method is an error.
    pub(super) fn of(method: &str) -> Checked<&'static Self> {
        BODIES.iter().find(|body| body.method == method).ok_or_else(|| format!("unknown method {method}"))
    }

    /// Decodes the body, encodes it again to the same bytes, also by way of its JSON form, which is returned.
    pub(super) fn check(&self, raw: &[u8]) -> Checked<Value> {
        let pretty = (self.check)(raw)?;
        let again = (self.from_json)(&pretty)?;
        same_bytes("body by way of JSON", &again, raw)?;
        Ok(pretty)
    }

    /// Encodes the body from its JSON form.
    pub(super) fn encode_json(&self, value: &Value) -> Checked<Vec<u8>> {
        (self.from_json)(value)
    }

    /// The rules that need nothing but the body.
    pub(super) fn validate(&self, raw: &[u8]) -> Checked<()> {
        (self.validate)(raw)
    }

    const fn plain<T: Wire>(method: &'static str) -> Self {
        Self { method, check: check::<T>, from_json: json_to_cbor::<T>, validate: |raw| decode::<T>(raw).map(|_| ()) }
    }
}

pub(super) fn same_bytes(what: &str, ours: &[u8], recorded: &[u8]) -> Checked<()> {
    if ours == recorded {
        return Ok(());
    }
    Err(format!("{what}: ours are {}, recorded {}", hex::encode(ours), hex::encode(recorded)))
}

/// Decodes a value.
pub(super) fn decode<T: cbor::Decode>(raw: &[u8]) -> Checked<T> {
    cbor::from_slice(raw).map_err(|e| format!("{e} in {}", hex::encode(raw)))
}

/// Decodes a value that encodes to the same bytes again.
pub(super) fn decode_exactly<T: cbor::Decode + cbor::Encode>(what: &str, raw: &[u8]) -> Checked<T> {
    let value: T = decode(raw).map_err(|e| format!("{what}: {e}"))?;
    same_bytes(what, &cbor::to_vec(&value), raw)?;
    Ok(value)
}

/// Reads a value from JSON, in which every field is known.
pub(super) fn from_json<T: json::FromJson>(value: &Value) -> Checked<T> {
    let mut context = json::Context::new();
    let out = T::from_json(value, &mut context).map_err(|e| format!("from JSON: {e}"))?;
    match context.unknown_fields().first() {
        Some(field) => Err(format!("from JSON: unknown field {field}")),
        None => Ok(out),
    }
}

fn check<T: Wire>(raw: &[u8]) -> Checked<Value> {
    Ok(decode_exactly::<T>("body", raw)?.to_json())
}

fn json_to_cbor<T: Wire>(value: &Value) -> Checked<Vec<u8>> {
    Ok(cbor::to_vec(&from_json::<T>(value)?))
}

/// An envelope's JSON form shows the content instead of its bytes.
fn check_entity(raw: &[u8]) -> Checked<Value> {
    let signed: Signed = decode_exactly("body", raw)?;
    let entity: Entity = decode_exactly("entity descriptor", signed.blob())?;
    Ok(json!({
        "untrusted_raw_value": json::ToJson::to_json(&entity),
        "signature": json::ToJson::to_json(&signed.signature),
    }))
}

fn encode_entity(value: &Value) -> Checked<Vec<u8>> {
    let entity: Entity = from_json(&value["untrusted_raw_value"])?;
    let signed =
        Signed { untrusted_raw_value: Some(Bytes(cbor::to_vec(&entity))), signature: from_json(&value["signature"])? };
    Ok(cbor::to_vec(&signed))
}

fn validate_entity(raw: &[u8]) -> Checked<()> {
    let signed: Signed = decode(raw)?;
    let entity: Entity = signed.open(entity::REGISTER_CONTEXT, None).map_err(|e| e.to_string())?;
    entity.validate_basic(true).map_err(|e| e.to_string())
}

/// A method without argument has no body; shown as an empty object.
const NOTHING: &[u8] = &[];

fn check_nothing(raw: &[u8]) -> Checked<Value> {
    same_bytes("body", NOTHING, raw)?;
    Ok(json!({}))
}

fn encode_nothing(value: &Value) -> Checked<Vec<u8>> {
    from_json::<registry::Empty>(value)?;
    Ok(NOTHING.to_vec())
}

fn validate_proposal(raw: &[u8]) -> Checked<()> {
    let content: governance::ProposalContent = decode(raw)?;
    content.validate_basic(&governance::Parameters::default()).map_err(|e| e.to_string())
}

const BODIES: &[Body] = &[
    Body::plain::<Epoch>(beacon::METHOD_SET_EPOCH),
    Body::plain::<beacon::VrfProve>(beacon::METHOD_VRF_PROVE),
    Body::plain::<meta::BlockMetadata>(meta::METHOD_META),
    Body {
        validate: validate_proposal,
        ..Body::plain::<governance::ProposalContent>(governance::METHOD_SUBMIT_PROPOSAL)
    },
    Body::plain::<governance::ProposalVote>(governance::METHOD_CAST_VOTE),
    Body::plain::<keymanager::SignedPolicySgx>(keymanager::METHOD_UPDATE_POLICY),
    Body::plain::<keymanager::SignedEncryptedMasterSecret>(keymanager::METHOD_PUBLISH_MASTER_SECRET),
    Body::plain::<keymanager::SignedEncryptedEphemeralSecret>(keymanager::METHOD_PUBLISH_EPHEMERAL_SECRET),
    Body::plain::<churp::CreateRequest>(churp::METHOD_CREATE),
    Body::plain::<churp::UpdateRequest>(churp::METHOD_UPDATE),
    Body::plain::<churp::SignedApplicationRequest>(churp::METHOD_APPLY),
    Body::plain::<churp::SignedConfirmationRequest>(churp::METHOD_CONFIRM),
    Body {
        method: registry::METHOD_REGISTER_ENTITY,
        check: check_entity,
        from_json: encode_entity,
        validate: validate_entity,
    },
    Body {
        method: registry::METHOD_DEREGISTER_ENTITY,
        check: check_nothing,
        from_json: encode_nothing,
        validate: |raw| check_nothing(raw).map(|_| ()),
    },
    Body::plain::<MultiSigned>(registry::METHOD_REGISTER_NODE),
    Body::plain::<[u8; 32]>(registry::METHOD_PROVE_FRESHNESS),
    Body::plain::<registry::UnfreezeNode>(registry::METHOD_UNFREEZE_NODE),
    Body::plain::<registry::Runtime>(registry::METHOD_REGISTER_RUNTIME),
    Body::plain::<roothash::ExecutorCommit>(roothash::METHOD_EXECUTOR_COMMIT),
    Body::plain::<roothash::Evidence>(roothash::METHOD_EVIDENCE),
    Body::plain::<roothash::SubmitMsg>(roothash::METHOD_SUBMIT_MSG),
    Body::plain::<staking::Transfer>(staking::METHOD_TRANSFER),
    Body::plain::<staking::Burn>(staking::METHOD_BURN),
    Body::plain::<staking::Escrow>(staking::METHOD_ADD_ESCROW),
    Body::plain::<staking::ReclaimEscrow>(staking::METHOD_RECLAIM_ESCROW),
    Body::plain::<staking::AmendCommissionSchedule>(staking::METHOD_AMEND_COMMISSION_SCHEDULE),
    Body::plain::<staking::Allow>(staking::METHOD_ALLOW),
    Body::plain::<staking::Withdraw>(staking::METHOD_WITHDRAW),
    Body::plain::<vault::Create>(vault::METHOD_CREATE),
    Body::plain::<vault::AuthorizeAction>(vault::METHOD_AUTHORIZE_ACTION),
    Body::plain::<vault::CancelAction>(vault::METHOD_CANCEL_ACTION),
];
