//! Shares and dealt polynomials in the host's storage, sealed to the enclave and bound to instance and handoff.

use base_codec::cbor;
use base_prims::Epoch;
use rt_guest::{
    seal::{SealPolicy, seal, unseal},
    tee::Tee,
};

use super::{Bivariate, Share, WireShare};
use crate::{KeyManagerError, kdf::Storage};

const POLYNOMIAL_KEY: &[u8] = b"keymanager_churp_bivariate_polynomial";
const SHARE_KEY: &[u8] = b"keymanager_churp_secret_share";
const NEXT_SHARE_KEY: &[u8] = b"keymanager_churp_next_secret_share";
const POLYNOMIAL_CONTEXT: &[u8] = b"oasis-core/keymanager/churp: bivariate polynomial";
const SHARE_CONTEXT: &[u8] = b"oasis-core/keymanager/churp: secret share";

/// Which of the two shares that a node stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// Of the last handoff that the consensus layer completed.
    Last,
    /// Of a handoff that the node has completed, and maybe nobody else.
    Next,
}

/// What an instance stores.
pub(super) struct ChurpStorage {
    tee: Tee,
    storage: Box<dyn Storage>,
    churp: u8,
}

impl ChurpStorage {
    pub(super) fn new(tee: Tee, storage: Box<dyn Storage>, churp: u8) -> Self {
        Self { tee, storage, churp }
    }

    fn key(&self, prefix: &[u8]) -> Vec<u8> {
        [prefix, &[self.churp]].concat()
    }

    fn aad(&self, epoch: Epoch) -> Vec<u8> {
        [&[self.churp][..], &epoch.to_le_bytes()].concat()
    }

    /// What is stored for the handoff; what was stored for another one counts as nothing.
    fn open<T>(
        &self,
        key: &[u8],
        context: &[u8],
        epoch: Epoch,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, KeyManagerError> {
        let sealed = self.storage.get(&self.key(key))?;
        let opened = unseal(&self.tee, SealPolicy::MrEnclave, context, &sealed, &self.aad(epoch)).ok();
        Ok(opened.and_then(|bytes| read(&bytes)))
    }

    fn put(&self, key: &[u8], context: &[u8], epoch: Epoch, plain: &[u8]) -> Result<(), KeyManagerError> {
        let sealed = seal(&self.tee, SealPolicy::MrEnclave, context, plain, &self.aad(epoch));
        Ok(self.storage.set(&self.key(key), sealed.map_err(rt_guest::Error::other)?)?)
    }

    pub(super) fn polynomial(&self, epoch: Epoch) -> Result<Option<Bivariate>, KeyManagerError> {
        self.open(POLYNOMIAL_KEY, POLYNOMIAL_CONTEXT, epoch, |bytes| Bivariate::from_bytes(bytes).ok())
    }

    pub(super) fn set_polynomial(&self, epoch: Epoch, polynomial: &Bivariate) -> Result<(), KeyManagerError> {
        self.put(POLYNOMIAL_KEY, POLYNOMIAL_CONTEXT, epoch, &zeroize::Zeroizing::new(polynomial.to_bytes()))
    }

    fn slot(slot: Slot) -> &'static [u8] {
        match slot {
            Slot::Last => SHARE_KEY,
            Slot::Next => NEXT_SHARE_KEY,
        }
    }

    pub(super) fn share(&self, slot: Slot, epoch: Epoch) -> Result<Option<Share>, KeyManagerError> {
        self.open(Self::slot(slot), SHARE_CONTEXT, epoch, |bytes| {
            cbor::from_slice::<WireShare>(bytes).ok().and_then(|wire| Share::try_from(&wire).ok())
        })
    }

    pub(super) fn set_share(&self, slot: Slot, epoch: Epoch, share: &Share) -> Result<(), KeyManagerError> {
        let plain = zeroize::Zeroizing::new(cbor::to_vec(&WireShare::from(share)));
        self.put(Self::slot(slot), SHARE_CONTEXT, epoch, &plain)
    }
}
