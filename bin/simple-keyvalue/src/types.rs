//! Transactions, their arguments and results. All are CBOR maps of the fields; `args` of a call is the map of its method.

use std::collections::BTreeMap;

use base_codec::{
    Bytes, Codec, Raw,
    cbor::{Encode, Encoder},
};
use base_prims::{Address, Quantity};
use wire_consensus::{registry, staking};

/// A transaction as it is read; all fields must be there.
#[derive(Default, Codec)]
#[codec(cbor_only)]
pub(crate) struct RawCall {
    sender: Option<Bytes>,
    nonce: Option<u64>,
    method: Option<String>,
    args: Raw,
}

impl RawCall {
    pub(crate) fn complete(self) -> Option<Call> {
        if self.args.is_empty() {
            return None;
        }
        Some(Call { sender: self.sender?.0, nonce: self.nonce?, method: self.method?, args: self.args })
    }
}

/// A transaction. Nothing proves the sender.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) sender: Vec<u8>,
    pub(crate) nonce: u64,
    pub(crate) method: String,
    pub(crate) args: Raw,
}

/// Result of a transaction. CBOR: `{"Success": value}` or `{"Error": text}`.
pub(crate) struct Output(pub(crate) Result<Raw, String>);

impl Encode for Output {
    fn encode(&self, e: &mut Encoder) {
        e.map(1);
        match &self.0 {
            Ok(value) => {
                e.text("Success");
                value.encode(e);
            }
            Err(text) => {
                e.text("Error");
                e.text(text);
            }
        }
    }
}

/// Names a key; encrypted ones also name the key that they are encrypted with.
#[derive(Clone, Debug, Default, Codec)]
#[codec(cbor_only)]
pub(crate) struct KeyArgs {
    pub(crate) key: String,
    pub(crate) generation: u64,
    pub(crate) churp_id: u8,
}

/// A key and its value.
#[derive(Clone, Debug, Default, Codec)]
#[codec(cbor_only)]
pub(crate) struct Insert {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) generation: u64,
    pub(crate) churp_id: u8,
}

#[derive(Clone, Debug, Default, Codec)]
#[codec(cbor_only)]
pub(crate) struct Encrypt {
    pub(crate) epoch: u64,
    pub(crate) key_pair_id: String,
    pub(crate) plaintext: Bytes,
}

#[derive(Clone, Debug, Default, Codec)]
#[codec(cbor_only)]
pub(crate) struct Decrypt {
    pub(crate) epoch: u64,
    pub(crate) key_pair_id: String,
    pub(crate) ciphertext: Bytes,
}

#[derive(Clone, Debug, Default, Codec)]
#[codec(cbor_only)]
pub(crate) struct Withdraw {
    pub(crate) withdraw: staking::Withdraw,
}

#[derive(Clone, Debug, Default, Codec)]
#[codec(cbor_only)]
pub(crate) struct Transfer {
    pub(crate) transfer: staking::Transfer,
}

#[derive(Clone, Debug, Default, Codec)]
#[codec(cbor_only)]
pub(crate) struct AddEscrow {
    pub(crate) escrow: staking::Escrow,
}

#[derive(Clone, Debug, Default, Codec)]
#[codec(cbor_only)]
pub(crate) struct ReclaimEscrow {
    pub(crate) reclaim_escrow: staking::ReclaimEscrow,
}

#[derive(Clone, Debug, Default, Codec)]
#[codec(cbor_only)]
pub(crate) struct UpdateRuntime {
    pub(crate) update_runtime: registry::Runtime,
}

/// An account as the reference's runtimes write it: parts that hold nothing are there, as empty maps.
#[derive(Default, Codec)]
#[codec(cbor_only)]
pub(crate) struct FullAccount {
    general: GeneralAccount,
    escrow: FullEscrow,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct GeneralAccount {
    #[codec(omitempty)]
    balance: Quantity,
    #[codec(omitempty)]
    nonce: u64,
    #[codec(omitempty)]
    allowances: BTreeMap<Address, Quantity>,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct FullEscrow {
    active: staking::SharePool,
    debonding: staking::SharePool,
    commission_schedule: staking::CommissionSchedule,
    stake_accumulator: staking::StakeAccumulator,
}

impl From<staking::Account> for FullAccount {
    fn from(account: staking::Account) -> Self {
        let staking::Account { general, escrow } = account;
        let staking::EscrowAccount { active, debonding, commission_schedule, stake_accumulator } = escrow;
        Self {
            general: GeneralAccount { balance: general.balance, nonce: general.nonce, allowances: general.allowances },
            escrow: FullEscrow { active, debonding, commission_schedule, stake_accumulator },
        }
    }
}
