//! Transactions: who pays, which nonce, again if need be.

use std::time::{Duration, Instant};

use base_codec::{Codec, cbor};
use base_crypto::context::ChainContext;
use base_crypto::ed25519::SecretKey;
use base_prims::{Address, PublicKey, Quantity};
use wire_consensus::errors::transaction::{INVALID_NONCE, UPGRADE_PENDING};
use wire_consensus::staking::{Escrow, METHOD_ADD_ESCROW, METHOD_TRANSFER, Transfer};
use wire_consensus::transaction::{Fee, SignedTransaction, Transaction};

use crate::node::{LATEST, MODULE, Node, WorkloadError};

/// How long a transaction is tried again.
const SUBMIT_TIME: Duration = Duration::from_secs(120);
/// The pause between attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// Argument of `Consensus.EstimateGas`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
struct EstimateGas {
    signer: PublicKey,
    transaction: Option<Transaction>,
}

/// The address of a key.
pub(crate) fn address(key: &SecretKey) -> Address {
    Address::of_key(&PublicKey::from(key.public()))
}

/// Sends transactions; fees come from the funding account.
pub(crate) struct Base {
    pub(crate) node: Node,
    pub(crate) chain: ChainContext,
    pub(crate) gas_price: u64,
    funding: SecretKey,
}

impl Base {
    pub(crate) fn new(node: Node, chain: ChainContext, gas_price: u64, funding: SecretKey) -> Self {
        Self { node, chain, gas_price, funding }
    }

    pub(crate) fn funding_address(&self) -> Address {
        address(&self.funding)
    }

    pub(crate) fn funding_key(&self) -> &SecretKey {
        &self.funding
    }

    /// Gas that a transaction would use.
    pub(crate) async fn gas(&self, signer: &SecretKey, tx: &Transaction) -> Result<u64, WorkloadError> {
        let request = EstimateGas { signer: signer.public().into(), transaction: Some(tx.clone()) };
        self.node.ask("Consensus", "EstimateGas", request).await
    }

    /// What so much gas costs.
    pub(crate) fn cost(&self, gas: u64) -> Quantity {
        Quantity::from(gas).mul(&Quantity::from(self.gas_price))
    }

    pub(crate) fn sign(&self, key: &SecretKey, tx: &Transaction) -> Result<SignedTransaction, WorkloadError> {
        tx.sign(key, &self.chain).map_err(|error| WorkloadError::Sign(error.to_string()))
    }

    /// Sends a signed transaction and waits until it is in a block, where it must succeed.
    pub(crate) async fn send(&self, tx: SignedTransaction) -> Result<(), WorkloadError> {
        self.node.send("Consensus", "SubmitTx", tx).await
    }

    /// The account's nonce, then the transaction; anew while the nonce is taken by another or the node is away.
    async fn submit_with(&self, key: &SecretKey, mut tx: Transaction) -> Result<(), WorkloadError> {
        let start = Instant::now();
        loop {
            tx.nonce = self.node.account(address(key), LATEST).await?.general.nonce;
            let error = match self.send(self.sign(key, &tx)?).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let passing = error.is(&INVALID_NONCE) || error.is(&UPGRADE_PENDING);
            if !passing || start.elapsed() > SUBMIT_TIME {
                tracing::error!(module = MODULE, err = %error, method = tx.method, "failed to submit transaction");
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Submits a call that its signer pays for.
    pub(crate) async fn submit<T: cbor::Encode>(
        &self,
        key: &SecretKey,
        method: &str,
        body: &T,
    ) -> Result<(), WorkloadError> {
        let tx = self.with_fee(key, method, body).await?;
        self.submit_with(key, tx).await
    }

    async fn with_fee<T: cbor::Encode>(
        &self,
        key: &SecretKey,
        method: &str,
        body: &T,
    ) -> Result<Transaction, WorkloadError> {
        let mut tx = Transaction::new(0, None, method, body);
        let gas = self.gas(key, &tx).await?;
        tx.fee = Some(Fee { amount: self.cost(gas), gas });
        Ok(tx)
    }

    /// Submits a call after giving its signer what the fee is.
    pub(crate) async fn funded<T: cbor::Encode>(
        &self,
        key: &SecretKey,
        method: &str,
        body: &T,
    ) -> Result<(), WorkloadError> {
        let tx = self.with_fee(key, method, body).await?;
        if let Some(fee) = &tx.fee {
            self.give_amount(address(key), fee.amount.clone()).await?;
        }
        tracing::debug!(module = MODULE, method, tx_caller = %PublicKey::from(key.public()), "submitting transaction");
        self.submit_with(key, tx).await
    }

    /// Transfers from the funding account.
    pub(crate) async fn give(&self, to: Address, amount: u64) -> Result<(), WorkloadError> {
        self.give_amount(to, amount.into()).await
    }

    pub(crate) async fn give_amount(&self, to: Address, amount: Quantity) -> Result<(), WorkloadError> {
        self.submit(&self.funding, METHOD_TRANSFER, &Transfer { to, amount }).await
    }

    /// Escrows from an account.
    pub(crate) async fn escrow(&self, from: &SecretKey, account: Address, amount: u64) -> Result<(), WorkloadError> {
        self.submit(from, METHOD_ADD_ESCROW, &Escrow { account, amount: amount.into() }).await
    }
}
