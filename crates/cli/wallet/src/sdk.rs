//! ParaTimes that are built on the Oasis Runtime SDK: bytes of their transactions, bodies, queries, results and events.
//!
//! Source: `client-sdk/go` of `oasisprotocol/oasis-sdk`: `types`, `modules/accounts`, `modules/consensusaccounts`,
//! `modules/core`, `callformat`.

pub(crate) mod call;
pub(crate) mod pretty;

use std::collections::BTreeMap;

use base_codec::json::{self, JsonKey, ToJson, Value};
use base_codec::{Bytes, Codec, Raw, cbor};
use base_prims::{Address, Hash, Namespace, Quantity};

/// Version of transactions.
pub(crate) const TRANSACTION_VERSION: u16 = 1;
/// What signatures of transactions are made for, before the chain.
const SIGNATURE_CONTEXT: &str = "oasis-runtime-sdk/tx: v0 for chain ";
/// Longest name of a token.
const MAX_DENOMINATION: usize = 32;

/// Name of a token; empty for the ParaTime's own. A byte string in CBOR, text in JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Denomination(pub(crate) String);

impl cbor::Encode for Denomination {
    fn encode(&self, e: &mut cbor::Encoder) {
        e.bytes(self.0.as_bytes());
    }
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl cbor::Decode for Denomination {
    fn decode(d: &mut cbor::Decoder<'_>) -> Result<Self, cbor::Error> {
        let offset = d.offset();
        let bytes = d.bytes()?;
        if bytes.len() > MAX_DENOMINATION {
            return Err(cbor::Error::invalid(offset, "malformed denomination"));
        }
        Ok(Self(String::from_utf8_lossy(bytes).into_owned()))
    }
}

impl ToJson for Denomination {
    fn to_json(&self) -> Value {
        Value::String(self.0.clone())
    }
}

impl json::FromJson for Denomination {
    fn from_json(v: &Value, cx: &mut json::Context) -> Result<Self, json::Error> {
        String::from_json(v, cx).map(Self)
    }
}

impl JsonKey for Denomination {
    fn to_key(&self) -> String {
        self.0.clone()
    }
    fn from_key(s: &str) -> Result<Self, String> {
        Ok(Self(s.to_owned()))
    }
}

/// An amount of a token in base units.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
#[codec(array)]
pub(crate) struct BaseUnits {
    #[codec(json_rename = "Amount")]
    pub(crate) amount: Quantity,
    #[codec(json_rename = "Denomination")]
    pub(crate) denomination: Denomination,
}

/// What is called; encrypted, the method is in the body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct Call {
    #[codec(omitempty)]
    pub(crate) format: u8,
    #[codec(omitempty)]
    pub(crate) method: String,
    pub(crate) body: Raw,
    #[codec(rename = "ro", omitempty)]
    pub(crate) read_only: bool,
}

/// A key whose signature authenticates, and from which the address follows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct SignatureSpec {
    #[codec(omitempty)]
    pub(crate) ed25519: Option<Bytes>,
    #[codec(omitempty)]
    pub(crate) secp256k1eth: Option<Bytes>,
    #[codec(omitempty)]
    pub(crate) sr25519: Option<Bytes>,
}

/// A key as members of a group have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct MemberKey {
    #[codec(omitempty)]
    pub(crate) ed25519: Option<Bytes>,
    #[codec(omitempty)]
    pub(crate) secp256k1: Option<Bytes>,
    #[codec(omitempty)]
    pub(crate) sr25519: Option<Bytes>,
}

impl SignatureSpec {
    /// The key and what kind it is.
    pub(crate) fn key(&self) -> Option<(&'static str, &Bytes)> {
        let ed25519 = self.ed25519.as_ref().map(|key| ("ed25519", key));
        let secp256k1 = self.secp256k1eth.as_ref().map(|key| ("secp256k1eth", key));
        ed25519.or(secp256k1).or_else(|| self.sr25519.as_ref().map(|key| ("sr25519", key)))
    }
}

impl MemberKey {
    /// Whether it is that key.
    fn is(&self, spec: &SignatureSpec) -> bool {
        (&self.ed25519, &self.secp256k1, &self.sr25519) == (&spec.ed25519, &spec.secp256k1eth, &spec.sr25519)
    }
}

/// One of a group that authenticates together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct Member {
    pub(crate) public_key: MemberKey,
    pub(crate) weight: u64,
}

/// A group whose members authenticate together when their weights reach the threshold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct Multisig {
    pub(crate) signers: Vec<Member>,
    pub(crate) threshold: u64,
}

/// Who authenticates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct AddressSpec {
    #[codec(omitempty)]
    pub(crate) signature: Option<SignatureSpec>,
    #[codec(omitempty)]
    pub(crate) multisig: Option<Multisig>,
}

/// One signer and the number of transactions it has sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct SignerInfo {
    pub(crate) address_spec: AddressSpec,
    pub(crate) nonce: u64,
}

/// Who pays in the signer's place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct FeeProxy {
    pub(crate) module: String,
    pub(crate) id: Bytes,
}

/// What the sender pays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct Fee {
    pub(crate) amount: BaseUnits,
    #[codec(omitempty)]
    pub(crate) gas: u64,
    #[codec(omitempty)]
    pub(crate) consensus_messages: u32,
    #[codec(omitempty)]
    pub(crate) proxy: Option<FeeProxy>,
}

/// Signers and fee.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct AuthInfo {
    #[codec(rename = "si")]
    pub(crate) signers: Vec<SignerInfo>,
    pub(crate) fee: Fee,
    #[codec(omitempty)]
    pub(crate) not_before: Option<u64>,
    #[codec(omitempty)]
    pub(crate) not_after: Option<u64>,
}

/// A transaction without signatures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct Transaction {
    pub(crate) v: u16,
    pub(crate) call: Call,
    #[codec(rename = "ai")]
    pub(crate) auth: AuthInfo,
}

impl Transaction {
    /// A call of `method` with `body`, without signers and fee. What the consensus layer has to do takes one message to it.
    pub(crate) fn new(method: &str, body: &impl cbor::Encode) -> Self {
        let call = Call { method: method.to_owned(), body: Raw::of(body), ..Call::default() };
        let consensus_messages = u32::from(method.starts_with("consensus."));
        let auth = AuthInfo { fee: Fee { consensus_messages, ..Fee::default() }, ..AuthInfo::default() };
        Self { v: TRANSACTION_VERSION, call, auth }
    }

    /// Whether the form is one that a ParaTime would look at.
    pub(crate) fn is_plausible(&self) -> bool {
        self.v == TRANSACTION_VERSION && !self.auth.signers.is_empty()
    }

    /// Whether that key is among the signers by itself, not as a member of a group.
    pub(crate) fn has_signer(&self, spec: &SignatureSpec) -> bool {
        self.auth.signers.iter().any(|info| info.address_spec.signature.as_ref() == Some(spec))
    }

    /// With room for the proofs of all signers, and those proofs that `signature` (of that key) can give.
    /// `None` if the key is not among the signers.
    pub(crate) fn signed(
        &self,
        body: Bytes,
        mut proofs: Vec<AuthProof>,
        spec: &SignatureSpec,
        signature: &[u8],
    ) -> Option<UnverifiedTransaction> {
        proofs.resize_with(self.auth.signers.len(), AuthProof::default);
        let mut found = false;
        for (info, proof) in self.auth.signers.iter().zip(&mut proofs) {
            let signature = Bytes::from(signature);
            if info.address_spec.signature.as_ref() == Some(spec) {
                proof.signature = signature;
                found = true;
            } else if let Some(group) = &info.address_spec.multisig {
                let own = proof.multisig.get_or_insert_default();
                own.resize_with(group.signers.len(), || None);
                for (member, slot) in group.signers.iter().zip(own) {
                    if member.public_key.is(spec) {
                        *slot = Some(signature.clone());
                        found = true;
                    }
                }
            }
        }
        found.then_some(UnverifiedTransaction { body, auth_proofs: proofs })
    }
}

/// What authenticates one signer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct AuthProof {
    #[codec(omitempty)]
    pub(crate) signature: Bytes,
    #[codec(omitempty)]
    pub(crate) multisig: Option<Vec<Option<Bytes>>>,
    #[codec(omitempty)]
    pub(crate) module: String,
}

/// A transaction as it is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
#[codec(array)]
pub(crate) struct UnverifiedTransaction {
    /// A [`Transaction`], CBOR; signatures are over these bytes.
    #[codec(json_rename = "Body")]
    pub(crate) body: Bytes,
    /// In the order of the signers.
    #[codec(json_rename = "AuthProofs")]
    pub(crate) auth_proofs: Vec<AuthProof>,
}

impl UnverifiedTransaction {
    /// Its hash as clients know it.
    pub(crate) fn hash(&self) -> Hash {
        Hash::of_cbor(self)
    }
}

/// For which ParaTime of which chain a signature is made.
#[derive(Debug, Clone)]
pub(crate) struct SigningContext {
    pub(crate) runtime: Namespace,
    pub(crate) chain_context: String,
    /// The Ethereum address as the user wrote it, of which the transaction has but the hash: shown by hardware wallets.
    pub(crate) original_to: Option<[u8; 20]>,
}

impl SigningContext {
    /// The whole signature context.
    pub(crate) fn text(&self) -> String {
        let separator = Hash::of(&[self.runtime.as_bytes(), self.chain_context.as_bytes()]);
        format!("{SIGNATURE_CONTEXT}{separator}")
    }
}

/// What a call gave: one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct CallResult {
    #[codec(omitempty)]
    pub(crate) ok: Raw,
    #[codec(rename = "fail", omitempty)]
    pub(crate) failed: Option<Failed>,
    /// Encrypted for the caller.
    #[codec(omitempty)]
    pub(crate) unknown: Raw,
}

/// Why a call failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct Failed {
    pub(crate) module: String,
    pub(crate) code: u32,
    #[codec(omitempty)]
    pub(crate) message: String,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "module: {} code: {} message: {}", self.module, self.code, self.message)
    }
}

/// Names of methods that are called.
pub(crate) mod method {
    pub(crate) const TRANSFER: &str = "accounts.Transfer";
    pub(crate) const DEPOSIT: &str = "consensus.Deposit";
    pub(crate) const WITHDRAW: &str = "consensus.Withdraw";
    pub(crate) const DELEGATE: &str = "consensus.Delegate";
    pub(crate) const UNDELEGATE: &str = "consensus.Undelegate";
    pub(crate) const UPLOAD: &str = "contracts.Upload";
    pub(crate) const INSTANTIATE: &str = "contracts.Instantiate";
    pub(crate) const CALL: &str = "contracts.Call";
    pub(crate) const CHANGE_UPGRADE_POLICY: &str = "contracts.ChangeUpgradePolicy";
}

/// Body of `accounts.Transfer` and `consensus.Delegate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct ToAmount {
    pub(crate) to: Address,
    pub(crate) amount: BaseUnits,
}

/// Body of `consensus.Deposit` and `consensus.Withdraw`; without an address to the sender's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct MaybeToAmount {
    #[codec(omitempty)]
    pub(crate) to: Option<Address>,
    pub(crate) amount: BaseUnits,
}

/// Body of `consensus.Undelegate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct Undelegate {
    pub(crate) from: Address,
    pub(crate) shares: Quantity,
}

/// Argument of queries about an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct AddressQuery {
    pub(crate) address: Address,
}

/// Argument of `consensus.Delegations`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct FromQuery {
    pub(crate) from: Address,
}

/// Argument of `consensus.Undelegations`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct ToQuery {
    pub(crate) to: Address,
}

/// Answer of `accounts.Balances`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct Balances {
    pub(crate) balances: BTreeMap<Denomination, Quantity>,
}

/// One delegation from within a ParaTime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct Delegation {
    pub(crate) to: Address,
    pub(crate) shares: Quantity,
}

/// One delegation that is being taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct Undelegation {
    pub(crate) from: Address,
    pub(crate) epoch: u64,
    pub(crate) shares: Quantity,
}

/// Argument of `core.EstimateGas`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct EstimateGas {
    pub(crate) tx: Transaction,
}

/// A key of a ParaTime that its key manager signed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct SignedKey {
    pub(crate) key: [u8; 32],
    pub(crate) checksum: Bytes,
    pub(crate) signature: base_prims::RawSignature,
}

/// Answer of `core.CallDataPublicKey`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct CallDataKey {
    pub(crate) public_key: SignedKey,
    #[codec(omitempty)]
    pub(crate) epoch: u64,
}

/// An error of the consensus layer within an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct ConsensusError {
    #[codec(omitempty)]
    pub(crate) module: String,
    #[codec(omitempty)]
    pub(crate) code: u32,
}

/// What events of the module `consensus_accounts` say of an operation's end. Fields that the command does not need are
/// skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
pub(crate) struct OperationEvent {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) nonce: u64,
    #[codec(omitempty)]
    pub(crate) error: Option<ConsensusError>,
}

/// Codes of the events of the module `consensus_accounts`.
pub(crate) mod event {
    pub(crate) const MODULE: &str = "consensus_accounts";
    pub(crate) const DEPOSIT: u32 = 1;
    pub(crate) const WITHDRAW: u32 = 2;
    pub(crate) const DELEGATE: u32 = 3;
    pub(crate) const UNDELEGATE_START: u32 = 4;
}

/// An event: module and code from its key, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) module: String,
    pub(crate) code: u32,
    pub(crate) value: Vec<u8>,
    /// The transaction that emitted it.
    pub(crate) tx_hash: Option<Hash>,
}

impl Event {
    /// From key and value; `None` if the key is too short.
    pub(crate) fn read(key: &[u8], value: &[u8], tx_hash: Option<Hash>) -> Option<Self> {
        let (module, code) = key.split_last_chunk::<4>()?;
        let module = String::from_utf8_lossy(module).into_owned();
        Some(Self { module, code: u32::from_be_bytes(*code), value: value.to_vec(), tx_hash })
    }
}

/// Address of a key.
pub(crate) mod address {
    use super::{Address, Hash};
    use base_prims::address::ADDRESS_BYTES;

    const VERSION: u8 = 0;

    fn derive(context: &str, data: &[&[u8]]) -> Address {
        let parts: Vec<&[u8]> = [context.as_bytes(), &[VERSION]].into_iter().chain(data.iter().copied()).collect();
        let hash = Hash::of(&parts);
        let mut bytes = [VERSION; ADDRESS_BYTES];
        bytes[1..].copy_from_slice(&hash.as_bytes()[..ADDRESS_BYTES - 1]);
        Address::new(bytes)
    }

    /// Of an Ethereum address.
    pub(crate) fn of_ethereum(address: &[u8; 20]) -> Address {
        derive("oasis-runtime-sdk/address: secp256k1eth", &[address])
    }

    /// Of an Sr25519 key.
    pub(crate) fn of_sr25519(key: &[u8; 32]) -> Address {
        derive("oasis-runtime-sdk/address: sr25519", &[key])
    }

    /// Of an account of a module within a ParaTime: other than those of the consensus layer's modules.
    pub(crate) fn of_module(module: &str, kind: &str) -> Address {
        derive("oasis-runtime-sdk/address: module", &[module.as_bytes(), b".", kind.as_bytes()])
    }
}
