//! Opening transactions: decoding their envelopes and verifying signatures, which needs no state and can be done ahead.

use std::sync::{Arc, Mutex, PoisonError};

use base_codec::cbor;
use base_crypto::{blacklist::Blacklist, context::ChainContext, ed25519::PublicKeyCache};
use base_prims::PublicKey;
use wire_consensus::{
    errors,
    known::{Claim, KnownSignatures},
    transaction::{SIGNATURE_CONTEXT, SignedTransaction, Transaction},
};

use crate::{Error, Result, Service};

/// Decoded keys that are kept between blocks.
const CACHED_KEYS: usize = 8192;

/// Opens transactions of one network. Cheap to clone, and may be used on several threads at once.
#[derive(Clone)]
pub struct Opener {
    services: Arc<[Box<dyn Service>]>,
    chain: Arc<ChainContext>,
    blacklist: Arc<Blacklist>,
    keys: Arc<Mutex<PublicKeyCache>>,
    // Stays empty: for what is executed without having been opened with others.
    none_known: Arc<KnownSignatures>,
}

/// Transactions of a block, opened.
#[derive(Debug, Default)]
pub struct OpenedTxs {
    pub(crate) txs: Vec<OpenedTx>,
    // Shared by the blocks of one batch: a verdict on a signature does not depend on the block that it is in.
    pub(crate) known: Arc<KnownSignatures>,
}

/// A transaction whose envelope was looked at.
#[derive(Debug)]
pub(crate) struct OpenedTx {
    size: usize,
    outcome: Result<(Transaction, PublicKey)>,
}

impl OpenedTx {
    /// Transaction, signer and size, if nothing is wrong with it. The limit of its size is a parameter of the network
    /// (0: none), which may have changed since the transaction was opened.
    pub(crate) fn checked(self, max_tx_size: u64) -> Result<(Transaction, PublicKey, usize)> {
        if max_tx_size > 0 && u64::try_from(self.size).unwrap_or(u64::MAX) > max_tx_size {
            return Err((&errors::consensus::OVERSIZED_TX).into());
        }
        self.outcome.map(|(tx, signer)| (tx, signer, self.size))
    }
}

/// A decoded envelope whose signature is still open.
struct Envelope {
    claim: Claim,
    tx: std::result::Result<Transaction, cbor::Error>,
}

impl Opener {
    pub(crate) fn new(services: Vec<Box<dyn Service>>, chain: ChainContext, blacklist: Blacklist) -> Self {
        Self {
            services: services.into(),
            chain: Arc::new(chain),
            blacklist: Arc::new(blacklist),
            keys: Arc::new(Mutex::new(PublicKeyCache::new(CACHED_KEYS))),
            none_known: Arc::default(),
        }
    }

    /// The services in order.
    pub(crate) fn services(&self) -> &[Box<dyn Service>] {
        &self.services
    }

    /// The network.
    pub(crate) fn chain(&self) -> &ChainContext {
        &self.chain
    }

    /// Keys whose signatures never count.
    pub(crate) fn blacklist(&self) -> &Blacklist {
        &self.blacklist
    }

    /// No signatures.
    pub(crate) fn none_known(&self) -> &KnownSignatures {
        &self.none_known
    }

    fn verify(&self, claims: &[Claim]) -> (KnownSignatures, Vec<bool>) {
        // A cache that a panic left behind is still a cache of what was decoded.
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        KnownSignatures::verify(claims, &mut keys)
    }

    /// Decodes all transactions of a block and verifies their signatures, those inside of them included, in one batch.
    pub fn open(&self, txs: &[Vec<u8>]) -> OpenedTxs {
        self.open_all(&[txs]).pop().unwrap_or_default()
    }

    /// Opens the transactions of several blocks, with the signatures of all in one batch.
    pub fn open_all(&self, blocks: &[&[Vec<u8>]]) -> Vec<OpenedTxs> {
        let envelopes: Vec<Vec<_>> =
            blocks.iter().map(|txs| txs.iter().map(|raw| self.envelope(raw)).collect()).collect();
        let decoded = || envelopes.iter().flatten().flatten();
        let mut claims: Vec<Claim> = decoded().map(|e| e.claim).collect();
        for tx in decoded().filter_map(|e| e.tx.as_ref().ok()) {
            if let Some(service) = self.services.iter().find(|s| s.methods().contains(&tx.method.as_str())) {
                service.claims(&self.chain, &tx.method, &tx.body, &mut claims);
            }
        }
        let (known, verdicts) = self.verify(&claims);
        let known = Arc::new(known);
        let mut verdicts = verdicts.into_iter();
        let mut open = |envelope: Result<Envelope>, raw: &Vec<u8>| OpenedTx {
            size: raw.len(),
            outcome: envelope.and_then(|e| self.judge(e, verdicts.next().unwrap_or(false))),
        };
        let block = |(envelopes, txs): (Vec<_>, &&[Vec<u8>])| OpenedTxs {
            txs: envelopes.into_iter().zip(*txs).map(|(envelope, raw)| open(envelope, raw)).collect(),
            known: Arc::clone(&known),
        };
        envelopes.into_iter().zip(blocks).map(block).collect()
    }

    /// Opens a single transaction.
    pub(crate) fn open_one(&self, raw: &[u8], max_tx_size: u64) -> Result<(Transaction, PublicKey, usize)> {
        if max_tx_size > 0 && u64::try_from(raw.len()).unwrap_or(u64::MAX) > max_tx_size {
            return Err((&errors::consensus::OVERSIZED_TX).into());
        }
        let envelope = self.envelope(raw)?;
        let Claim { key, prepared, signature } = envelope.claim;
        let good = key.verify_prepared(&prepared, &signature);
        self.judge(envelope, good).map(|(tx, signer)| (tx, signer, raw.len()))
    }

    fn envelope(&self, raw: &[u8]) -> Result<Envelope> {
        let signed: SignedTransaction = cbor::from_slice(raw).map_err(|e| Error::uncoded(e.to_string()))?;
        let claim = signed.0.signature.claim(SIGNATURE_CONTEXT, Some(&self.chain), signed.0.blob());
        let claim = claim.ok_or_else(|| Error::uncoded("signature context cannot be used"))?;
        Ok(Envelope { claim, tx: cbor::from_slice(signed.0.blob()) })
    }

    fn judge(&self, envelope: Envelope, good: bool) -> Result<(Transaction, PublicKey)> {
        let signer = envelope.claim.key;
        if !good || self.blacklist.contains(signer.as_bytes()) {
            return Err(Error::uncoded("signed blob: verification failed"));
        }
        match envelope.tx {
            Err(e) => Err(Error::uncoded(e.to_string())),
            Ok(tx) if tx.method.is_empty() => Err(Error::uncoded("transaction: method must be set")),
            Ok(tx) => Ok((tx, signer)),
        }
    }
}
