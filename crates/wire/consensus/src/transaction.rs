//! Transactions of the consensus layer.

use std::collections::BTreeMap;

use base_codec::{Codec, Raw, cbor};
use base_crypto::{
    context::{self, ChainContext, Context},
    ed25519::SecretKey,
};
use base_prims::{Hash, PublicKey, Quantity};

use crate::signed::{OpenError, Signed};

/// Amount of gas.
pub type Gas = u64;

/// Price list: operation to gas. Operations that are missing are free.
pub type Costs = BTreeMap<String, Gas>;

/// Signature context of transactions (with chain separation).
pub const SIGNATURE_CONTEXT: &Context = &context::CONSENSUS_TX;

/// What the sender pays. Source: `go/consensus/api/transaction/gas.go`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Fee {
    /// Tokens to pay in all, in base units.
    pub amount: Quantity,
    /// The most gas that the transaction may use.
    pub gas: Gas,
}

impl Fee {
    /// Price of one unit of gas, rounded down; zero if amount or gas is zero.
    pub fn gas_price(&self) -> Quantity {
        self.amount.quo(&Quantity::from(self.gas)).unwrap_or_default()
    }
}

/// An unsigned transaction. Source: `go/consensus/api/transaction`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Transaction {
    /// Must equal the number of transactions that the signer has sent.
    pub nonce: u64,
    /// Fee; absent means none.
    #[codec(omitempty)]
    pub fee: Option<Fee>,
    /// Method name, such as `staking.Transfer`.
    pub method: String,
    /// The method's argument, an embedded CBOR item; absent where the method has none.
    #[codec(omitempty)]
    pub body: Raw,
}

impl Transaction {
    /// A transaction that calls `method` with `body`.
    pub fn new<T: cbor::Encode>(nonce: u64, fee: Option<Fee>, method: &str, body: &T) -> Self {
        Self { nonce, fee, method: method.to_owned(), body: Raw::of(body) }
    }

    /// Signs the transaction for a chain.
    ///
    /// # Errors
    /// [`OpenError::Context`] if the context cannot be prepared.
    pub fn sign(&self, key: &SecretKey, chain: &ChainContext) -> Result<SignedTransaction, OpenError> {
        Signed::sign(key, SIGNATURE_CONTEXT, Some(chain), self).map(SignedTransaction)
    }
}

/// A signed transaction: what goes into a block.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct SignedTransaction(pub Signed);

impl SignedTransaction {
    /// The transaction's hash as clients know it: SHA-512/256 of its CBOR.
    pub fn hash(&self) -> Hash {
        Hash::of_cbor(self)
    }

    /// Who signed.
    pub fn signer(&self) -> PublicKey {
        self.0.signature.public_key
    }

    /// Verifies the signature and decodes the transaction.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self, chain: &ChainContext) -> Result<Transaction, OpenError> {
        self.0.open(SIGNATURE_CONTEXT, Some(chain))
    }
}
