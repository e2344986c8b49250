//! Arguments and answers of the consensus service. Source: `go/consensus/api`, `go/consensus/cometbft/api`.

use base_codec::{Bytes, Codec, Raw, cbor, json};
use base_prims::{Address, Hash, PublicKey};
use mkvs_tree::Root;
use wire_consensus::consensus::Parameters as CoreParameters;
use wire_consensus::transaction::Transaction;
use wire_consensus::{Time, governance, registry, roothash, staking};

/// A point in time. CBOR: whole Unix seconds, null for the zero time; JSON: RFC 3339.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamp(pub Time);

impl Timestamp {
    /// The whole seconds of a time.
    pub fn whole(time: Time) -> Self {
        Self(Time::new(time.seconds(), 0).unwrap_or_default())
    }
}

impl cbor::Encode for Timestamp {
    fn encode(&self, e: &mut cbor::Encoder) {
        if self.0.is_zero() { e.null() } else { e.int(self.0.seconds()) }
    }
}

impl cbor::Decode for Timestamp {
    fn decode(d: &mut cbor::Decoder<'_>) -> Result<Self, cbor::Error> {
        if d.take_null() {
            return Ok(Self::default());
        }
        let at = d.offset();
        let seconds = i64::decode(d)?;
        Time::new(seconds, 0).map(Self).map_err(|error| cbor::Error::invalid(at, error))
    }
}

impl json::ToJson for Timestamp {
    fn to_json(&self) -> json::Value {
        json::Value::String(self.0.to_string())
    }
}

impl json::FromJson for Timestamp {
    fn from_json(v: &json::Value, cx: &mut json::Context) -> Result<Self, json::Error> {
        match v {
            json::Value::Null => Ok(Self::default()),
            json::Value::String(s) => Time::parse_rfc3339(s).map(Self).map_err(|e| cx.error(e.to_string())),
            other => Err(cx.expected("a time as RFC 3339", other)),
        }
    }
}

/// A block without its transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct Block {
    /// Height.
    pub height: i64,
    /// Hash of the header.
    pub hash: Hash,
    /// Time, in whole seconds.
    pub time: Timestamp,
    /// State before the block.
    pub state_root: Root,
    /// Size in bytes.
    #[codec(omitempty)]
    pub size: u64,
    /// A [`BlockMeta`].
    pub meta: Raw,
}

/// What of a block is CometBFT's; both are protobuf messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct BlockMeta {
    /// `Header`.
    pub header: Bytes,
    /// `Commit` for the block before.
    pub last_commit: Bytes,
}

/// Results of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct BlockResults {
    /// Height.
    pub height: i64,
    /// A [`BlockResultsMeta`].
    pub meta: Raw,
}

/// CometBFT's results.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct BlockResultsMeta {
    /// One result per transaction.
    pub txs_results: Option<Vec<TxResult>>,
    /// Events of the block's beginning.
    pub begin_block_events: Option<Vec<Event>>,
    /// Events of its end.
    pub end_block_events: Option<Vec<Event>>,
}

/// Result of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct TxResult {
    /// 0: success.
    #[codec(omitempty)]
    pub code: u32,
    /// Result data.
    #[codec(omitempty)]
    pub data: Bytes,
    /// Error text.
    #[codec(omitempty)]
    pub log: String,
    /// More text.
    #[codec(omitempty)]
    pub info: String,
    /// Gas asked for.
    #[codec(omitempty)]
    pub gas_wanted: i64,
    /// Gas used.
    #[codec(omitempty)]
    pub gas_used: i64,
    /// Events.
    #[codec(omitempty)]
    pub events: Vec<Event>,
    /// Module that the code belongs to.
    #[codec(omitempty)]
    pub codespace: String,
}

/// An event as the application emitted it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct Event {
    /// Type.
    #[codec(rename = "type", omitempty)]
    pub kind: String,
    /// Keys and values.
    #[codec(omitempty)]
    pub attributes: Vec<Attribute>,
}

/// A key and value of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct Attribute {
    /// Key.
    #[codec(omitempty)]
    pub key: String,
    /// Value.
    #[codec(omitempty)]
    pub value: String,
    /// Whether an indexer should index it.
    #[codec(omitempty)]
    pub index: bool,
}

impl From<&comet_chain::app::Event> for Event {
    fn from(event: &comet_chain::app::Event) -> Self {
        let attributes = event.attributes.iter();
        Self {
            kind: event.kind.clone(),
            attributes: attributes
                .map(|a| Attribute { key: a.key.clone(), value: a.value.clone(), index: a.index })
                .collect(),
        }
    }
}

impl From<&comet_chain::app::TxResult> for TxResult {
    fn from(r: &comet_chain::app::TxResult) -> Self {
        Self {
            code: r.code,
            data: Bytes(r.data.clone()),
            log: r.log.clone(),
            info: r.info.clone(),
            gas_wanted: r.gas_wanted,
            gas_used: r.gas_used,
            events: r.events.iter().map(Into::into).collect(),
            codespace: r.codespace.clone(),
        }
    }
}

/// A light block or a validator set: a height and a protobuf message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct AtHeight {
    /// Height.
    pub height: i64,
    /// The message.
    pub meta: Bytes,
}

/// Consensus parameters of a height.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct Parameters {
    /// Height.
    pub height: i64,
    /// The network's.
    pub parameters: CoreParameters,
    /// CometBFT's: protobuf `ConsensusParams`.
    pub meta: Bytes,
}

/// Evidence: a protobuf `Evidence`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct Evidence {
    /// The message.
    pub meta: Bytes,
}

/// Asks what gas a transaction would use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct EstimateGasRequest {
    /// Who would sign.
    pub signer: PublicKey,
    /// The transaction.
    pub transaction: Option<Transaction>,
}

/// Transactions of a block with their results.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct TransactionsWithResults {
    /// As they are in the block.
    pub transactions: Vec<Bytes>,
    /// In the same order.
    pub results: Vec<TransactionResult>,
}

/// Result of a transaction as clients see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct TransactionResult {
    /// What went wrong; empty on success.
    pub error: TransactionError,
    /// Events of the services.
    pub events: Option<Vec<TransactionEvent>>,
    /// Gas used.
    #[codec(omitempty)]
    pub gas_used: u64,
}

/// Why a transaction failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct TransactionError {
    /// Module.
    #[codec(omitempty)]
    pub module: String,
    /// Code; 0 is success.
    #[codec(omitempty)]
    pub code: u32,
    /// Text.
    #[codec(omitempty)]
    pub message: String,
}

/// An event of a transaction: exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct TransactionEvent {
    /// Of the staking service.
    #[codec(omitempty)]
    pub staking: Option<staking::Event>,
    /// Of the registry.
    #[codec(omitempty)]
    pub registry: Option<registry::Event>,
    /// Of the root hash service.
    #[codec(omitempty)]
    pub roothash: Option<roothash::Event>,
    /// Of the governance service.
    #[codec(omitempty)]
    pub governance: Option<governance::Event>,
}

/// Transactions of a block with proofs that they are in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct TransactionsWithProofs {
    /// As they are in the block.
    pub transactions: Vec<Bytes>,
    /// CBOR items [`MerkleProof`], in the same order.
    pub proofs: Vec<Bytes>,
}

/// Proof that a transaction's SHA-256 is in the list whose root is the header's data hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct MerkleProof {
    /// Length of the list.
    pub total: i64,
    /// Place in the list.
    pub index: i64,
    /// Hash of the leaf.
    pub leaf_hash: Bytes,
    /// Sibling hashes from the leaf up.
    #[codec(omitempty)]
    pub aunts: Vec<Bytes>,
}

/// Where a transaction is, proven.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct Proof {
    /// Height of the block.
    pub height: i64,
    /// A [`MerkleProof`] in CBOR.
    pub raw_proof: Bytes,
}

/// Where the round machine stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct NextBlockState {
    /// Height being decided.
    pub height: i64,
    /// Number of validators.
    pub num_validators: u64,
    /// Their power.
    pub voting_power: u64,
    /// Prevotes of the round.
    pub prevotes: Votes,
    /// Precommits of the round.
    pub precommits: Votes,
}

/// Votes of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Votes {
    /// Power that voted.
    pub voting_power: u64,
    /// Its share of all power: a CBOR floating-point number.
    pub ratio: Raw,
    /// Who voted.
    pub votes: Option<Vec<Vote>>,
}

/// A validator that voted; keys are zero where the registry does not know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Vote {
    /// Node.
    pub node_id: PublicKey,
    /// Its entity.
    pub entity_id: PublicKey,
    /// The entity's account.
    pub entity_address: Address,
    /// Power.
    pub voting_power: u64,
}

/// The number that a CBOR floating-point item holds.
pub fn float_of(raw: &Raw) -> Option<f64> {
    match raw.0.as_slice() {
        [0xf9, high, low] => {
            let bits = u16::from_be_bytes([*high, *low]);
            let (exponent, fraction) = (i32::from((bits >> 10) & 0x1f), f64::from(bits & 0x3ff));
            let magnitude = match exponent {
                0 => fraction * 2f64.powi(-24),
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                exponent => (1024.0 + fraction) * 2f64.powi(exponent - 25),
            };
            Some(if bits & 0x8000 == 0 { magnitude } else { -magnitude })
        }
        [0xfa, rest @ ..] => Some(f64::from(f32::from_be_bytes(rest.try_into().ok()?))),
        [0xfb, rest @ ..] => Some(f64::from_be_bytes(rest.try_into().ok()?)),
        _ => None,
    }
}

/// A floating-point number in the shortest CBOR form that holds it.
pub(crate) fn float(v: f64) -> Raw {
    const HALF_STEP: f64 = 16_777_216.0;
    const HALF_MAX: f64 = 65_504.0;
    if v.is_nan() {
        return Raw(vec![0xf9, 0x7e, 0x00]);
    }
    let (sign, magnitude) = (if v.is_sign_negative() { 0x8000 } else { 0 }, v.abs());
    let bits = magnitude.to_bits();
    let exponent = i32::try_from(bits >> 52).unwrap_or(i32::MAX) - 1023;
    let half = if magnitude * HALF_STEP < 1024.0 && (magnitude * HALF_STEP).fract() == 0.0 {
        // Zero and subnormal numbers.
        Some((magnitude * HALF_STEP) as u16)
    } else if (-14..=15).contains(&exponent) && magnitude <= HALF_MAX && bits.trailing_zeros() >= 42 {
        let fraction = ((bits >> 42) & 0x3ff) as u16;
        u16::try_from(exponent + 15).ok().map(|exponent| (exponent << 10) | fraction)
    } else {
        magnitude.is_infinite().then_some(0x7c00)
    };
    let mut out = Vec::with_capacity(9);
    if let Some(half) = half {
        out.push(0xf9);
        out.extend_from_slice(&(sign | half).to_be_bytes());
    } else if f64::from(v as f32) == v {
        out.push(0xfa);
        out.extend_from_slice(&(v as f32).to_be_bytes());
    } else {
        out.push(0xfb);
        out.extend_from_slice(&v.to_be_bytes());
    }
    Raw(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_take_the_shortest_form() {
        let cases: [(f64, &str); 12] = [
            (0.0, "f90000"),
            (1.0, "f93c00"),
            (0.5, "f93800"),
            (0.75, "f93a00"),
            (1.0 / 3.0, "fb3fd5555555555555"),
            (1.1, "fb3ff199999999999a"),
            (-4.0, "f9c400"),
            (65504.0, "f97bff"),
            (100_000.0, "fa47c35000"),
            (5.960_464_477_539_063e-8, "f90001"),
            (0.000_061_035_156_25, "f90400"),
            (f64::NAN, "f97e00"),
        ];
        for (value, expected) in cases {
            let hex: String = float(value).0.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex, expected, "{value}");
            assert!(
                float_of(&float(value)).is_some_and(|read| read == value || value.is_nan() && read.is_nan()),
                "{value}"
            );
        }
    }

    #[test]
    fn the_zero_time_is_null() {
        assert_eq!(cbor::to_vec(&Timestamp::default()), [0xf6]);
        assert_eq!(cbor::from_slice::<Timestamp>(&[0xf6]).unwrap(), Timestamp::default());
        let time = Timestamp(Time::new(1000, 0).unwrap());
        assert_eq!(cbor::from_slice::<Timestamp>(&cbor::to_vec(&time)).unwrap(), time);
        assert_eq!(cbor::to_vec(&Timestamp::whole(Time::new(5, 999).unwrap())), [5]);
    }
}
