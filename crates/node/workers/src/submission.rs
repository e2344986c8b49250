//! Transactions of this node's own keys: nonce, fee, signature, submission, and again if the nonce was stale.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apps_core::submit::{Included, SubmitError};
use base_codec::cbor;
use base_crypto::ed25519::SecretKey;
use base_prims::{Address, PublicKey, Quantity};
use parking_lot::Mutex;
use wire_consensus::errors::transaction::{INVALID_NONCE, UPGRADE_PENDING};
use wire_consensus::transaction::{Fee, Transaction};

use crate::backoff::{Backoff, seed_of};
use crate::chain::{Chain, ChainError};

/// Longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// After this long there are no more attempts.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// Why a transaction did not make it into a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmissionError {
    /// The consensus layer could not be asked.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The fee would exceed what the configuration allows.
    #[error("computed fee exceeds configured maximum: {amount} (max: {max}); raise consensus.submission.max_fee")]
    Fee {
        /// Fee in base units.
        amount: Quantity,
        /// Highest allowed.
        max: Quantity,
    },
    /// The transaction could not be signed.
    #[error("failed to sign transaction: {0}")]
    Sign(String),
    /// It was refused, or could not be taken.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// It is in a block, but failed.
    #[error("transaction failed: {message} ({module}, {code})")]
    Failed {
        /// Codespace.
        module: String,
        /// Code.
        code: u32,
        /// Text.
        message: String,
    },
}

impl SubmissionError {
    /// Whether the same transaction with a new nonce may succeed.
    fn is_passing(&self) -> bool {
        let again = |module: &str, code: u32| {
            [&INVALID_NONCE, &UPGRADE_PENDING].iter().any(|error| (error.module, error.code) == (module, code))
        };
        match self {
            Self::Chain(ChainError::NoBlocks) => true,
            Self::Submit(SubmitError::Refused { module, code, .. } | SubmitError::Invalidated { module, code, .. })
            | Self::Failed { module, code, .. } => again(module, *code),
            _ => false,
        }
    }
}

/// Signs and submits transactions of this node's keys.
pub struct Submission {
    chain: Arc<dyn Chain>,
    gas_price: Quantity,
    max_fee: Quantity,
    nonces: Mutex<HashMap<Address, u64>>,
}

impl Submission {
    /// `gas_price` is paid per unit of gas; a fee above `max_fee` is refused (0: no limit).
    pub fn new(chain: Arc<dyn Chain>, gas_price: u64, max_fee: u64) -> Self {
        Self { chain, gas_price: gas_price.into(), max_fee: max_fee.into(), nonces: Mutex::new(HashMap::new()) }
    }

    /// The consensus layer.
    pub fn chain(&self) -> &Arc<dyn Chain> {
        &self.chain
    }

    /// Signs and submits a call of `method` and waits until it is in a block, where it must succeed. With a stale nonce,
    /// a pending upgrade or no block yet it tries again, for up to a minute.
    pub async fn submit<T: cbor::Encode>(
        &self,
        key: &SecretKey,
        method: &str,
        body: &T,
    ) -> Result<Included, SubmissionError> {
        let mut tx = Transaction::new(0, None, method, body);
        let start = Instant::now();
        let mut backoff = Backoff::new(LONGEST_WAIT, seed_of(&key.public()));
        loop {
            let error = match self.attempt(key, &mut tx).await {
                Ok(included) => return Ok(included),
                Err(error) => error,
            };
            let wait = backoff.wait();
            if !error.is_passing() || start.elapsed() + wait > GIVE_UP_AFTER {
                return Err(error);
            }
            tracing::debug!(module = "consensus/submission", method, err = %error, "retrying transaction submission");
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, key: &SecretKey, tx: &mut Transaction) -> Result<Included, SubmissionError> {
        let signer = PublicKey::from(key.public());
        let address = Address::of_key(&signer);
        tx.nonce = self.next_nonce(&address)?;
        tx.fee = None;
        tx.fee = Some(self.fee(signer, tx).inspect_err(|_| self.forget_nonce(&address))?);
        let signed = tx.sign(key, self.chain.context()).map_err(|error| SubmissionError::Sign(error.to_string()))?;
        let outcome = self.chain.submit(cbor::to_vec(&signed)).await;
        let failed = match outcome {
            Ok(included) if included.result.code == 0 => return Ok(included),
            Ok(included) => {
                let result = included.result;
                SubmissionError::Failed { module: result.codespace, code: result.code, message: result.log }
            }
            Err(error) => error.into(),
        };
        // Whether the nonce was used is not known: ask the state next time.
        self.forget_nonce(&address);
        Err(failed)
    }

    fn fee(&self, signer: PublicKey, tx: &Transaction) -> Result<Fee, SubmissionError> {
        let gas = self.chain.estimate_gas(signer, tx)?;
        let amount = self.gas_price.mul(&Quantity::from(gas));
        if !self.max_fee.is_zero() && amount > self.max_fee {
            return Err(SubmissionError::Fee { amount, max: self.max_fee.clone() });
        }
        Ok(Fee { amount, gas })
    }

    fn next_nonce(&self, address: &Address) -> Result<u64, SubmissionError> {
        let mut nonces = self.nonces.lock();
        let nonce = match nonces.get(address) {
            Some(nonce) => *nonce,
            None => {
                let state = self.chain.state(0)?;
                apps_staking::query::account(&*state, address).map_err(ChainError::from)?.general.nonce
            }
        };
        nonces.insert(*address, nonce.saturating_add(1));
        Ok(nonce)
    }

    fn forget_nonce(&self, address: &Address) {
        self.nonces.lock().remove(address);
    }
}
