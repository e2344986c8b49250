//! The consensus layer's state at a height, read through proofs against a root that the verifier vouches for.
//!
//! Keys are those of `go/consensus/cometbft/apps/*/state`, of which runtimes read a few.

use std::{collections::BTreeMap, ops::ControlFlow};

use base_codec::cbor::Decode;
use base_prims::{Address, Epoch, Hash, Namespace, PublicKey};
use mkvs_tree::{KvRead, Root, TreeError, Visit, scan_prefix};
use wire_consensus::{
    beacon::EpochTimeState,
    churp,
    keymanager::{SignedEncryptedEphemeralSecret, SignedEncryptedMasterSecret, Status},
    node::{MultiSignedNode, Node},
    registry::Runtime,
    staking::{Account, Delegation},
};
use wire_runtime::host::StorageEndpoint;

use crate::{
    Error, Host,
    state::{HostSyncer, StateTree, decode},
};

const NODE: u8 = 0x11;
const RUNTIME: u8 = 0x13;
const SUSPENDED_RUNTIME: u8 = 0x18;
const STATE_ROOT: u8 = 0x25;
const EPOCH: u8 = 0x40;
const ACCOUNT: u8 = 0x50;
const DELEGATION: u8 = 0x53;
const KM_STATUS: u8 = 0x70;
const KM_MASTER_SECRET: u8 = 0x72;
const KM_EPHEMERAL_SECRET: u8 = 0x73;
const CHURP_STATUS: u8 = 0x75;

/// Bytes of consensus nodes kept per height.
const CACHE_BYTES: usize = 4 << 20;

/// Delegations by escrow account, then by delegator.
pub type Delegations = BTreeMap<Address, BTreeMap<Address, Delegation>>;

/// The consensus layer's state as of a height.
#[derive(Clone, Debug)]
pub struct ConsensusState {
    height: u64,
    tree: StateTree,
}

impl ConsensusState {
    /// The state under a root; `height` is what callers of [`ConsensusState::height`] are told.
    pub fn new(host: &Host, height: u64, root: Root) -> Self {
        let syncer = HostSyncer::new(host.clone(), StorageEndpoint::CONSENSUS);
        Self { height, tree: StateTree::open(syncer, root, CACHE_BYTES) }
    }

    /// The height that the state belongs to: its block was built on this state, or is the one that led to it.
    pub fn height(&self) -> u64 {
        self.height
    }

    fn value<T: Decode>(&self, what: &'static str, key: &[u8]) -> Result<Option<T>, Error> {
        self.tree.get(key)?.map(|raw| decode(what, &raw)).transpose()
    }

    /// The current epoch.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn epoch(&self) -> Result<Epoch, Error> {
        Ok(self.value::<EpochTimeState>("epoch", &[EPOCH])?.unwrap_or_default().epoch)
    }

    /// A runtime's descriptor, suspended or not.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn runtime(&self, id: &Namespace) -> Result<Option<Runtime>, Error> {
        let id = id.hash();
        match self.value("runtime", &key(RUNTIME, id.as_bytes()))? {
            None => self.value("runtime", &key(SUSPENDED_RUNTIME, id.as_bytes())),
            found => Ok(found),
        }
    }

    /// A node's descriptor.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn node(&self, id: &PublicKey) -> Result<Option<Node>, Error> {
        let signed: Option<MultiSignedNode> = self.value("node", &key(NODE, id.hash().as_bytes()))?;
        signed.map(|signed| decode("node", signed.blob())).transpose()
    }

    /// The state root of a runtime's newest block; the empty hash if there is none.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn runtime_state_root(&self, id: &Namespace) -> Result<Hash, Error> {
        let raw = self.tree.get(&key(STATE_ROOT, id.hash().as_bytes()))?;
        match raw {
            None => Ok(Hash::EMPTY),
            Some(raw) => Hash::try_from(raw.as_slice()).map_err(|_| Error::other("malformed state root in the state")),
        }
    }

    /// An account; empty if nothing was ever written.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn account(&self, address: &Address) -> Result<Account, Error> {
        Ok(self.value("account", &key(ACCOUNT, address.as_bytes()))?.unwrap_or_default())
    }

    /// All accounts.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn accounts(&self) -> Result<BTreeMap<Address, Account>, Error> {
        let mut accounts = BTreeMap::new();
        self.each(&[ACCOUNT], &mut |suffix, value| {
            accounts.insert(address(suffix)?, decode("account", value)?);
            Ok(())
        })?;
        Ok(accounts)
    }

    /// All delegations.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn delegations(&self) -> Result<Delegations, Error> {
        let mut delegations = Delegations::new();
        self.each(&[DELEGATION], &mut |suffix, value| {
            let (escrow, delegator) = suffix.split_at_checked(Address::LEN).unwrap_or_default();
            let delegation = decode("delegation", value)?;
            delegations.entry(address(escrow)?).or_default().insert(address(delegator)?, delegation);
            Ok(())
        })?;
        Ok(delegations)
    }

    /// A key manager's status.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn key_manager_status(&self, id: &Namespace) -> Result<Option<Status>, Error> {
        self.value("key manager status", &key(KM_STATUS, id.hash().as_bytes()))
    }

    /// The master secret that was published last.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn master_secret(&self, id: &Namespace) -> Result<Option<SignedEncryptedMasterSecret>, Error> {
        self.value("master secret", &key(KM_MASTER_SECRET, id.hash().as_bytes()))
    }

    /// The ephemeral secret that was published last.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn ephemeral_secret(&self, id: &Namespace) -> Result<Option<SignedEncryptedEphemeralSecret>, Error> {
        self.value("ephemeral secret", &key(KM_EPHEMERAL_SECRET, id.hash().as_bytes()))
    }

    /// Status of a secret sharing instance.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn churp_status(&self, runtime: &Namespace, id: u8) -> Result<Option<churp::Status>, Error> {
        let mut key = key(CHURP_STATUS, runtime.hash().as_bytes());
        key.push(id);
        self.value("churp status", &key)
    }

    /// Calls `visit` with what follows the prefix in each key, and the value.
    fn each(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut outcome = Ok(());
        scan_prefix(&self.tree, prefix, &mut |key, value| {
            outcome = visit(key.strip_prefix(prefix).unwrap_or_default(), value);
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        outcome
    }
}

impl KvRead for ConsensusState {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        self.tree.get(key)
    }

    fn iterate(&self, from: &[u8], visit: Visit<'_>) -> Result<(), TreeError> {
        self.tree.iterate(from, visit)
    }
}

fn key(prefix: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(rest.len() + 2);
    key.push(prefix);
    key.extend_from_slice(rest);
    key
}

fn address(bytes: &[u8]) -> Result<Address, Error> {
    Address::try_from(bytes).map_err(|_| Error::other("malformed address in a key of the state"))
}
