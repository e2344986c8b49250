//! Validators and validator sets as messages, and the hash of a set.
//!
//! Reference: `cometbft:types/{validator,validator_set}.go`, `proto/tendermint/types/validator.proto`. The rotation of
//! proposers is in `comet_chain::validators`.

use crate::block::BasicError;
use crate::codec::{Message, messages};
use crate::keys::{Address, PublicKey};
use crate::limits::MAX_VOTES;
use crate::merkle::{self, Hash};

messages! {
    /// A validator.
    pub struct Validator [at most MAX_VOTES] {
        /// Address of the key.
        1 => address: Vec<u8>,
        /// Consensus key.
        2 => pub_key: PublicKey,
        /// Voting power.
        3 => voting_power: i64,
        /// Standing in the rotation of proposers.
        4 => proposer_priority: i64,
    }

    /// What of a validator the set's hash covers.
    pub struct SimpleValidator {
        /// Consensus key.
        1 => pub_key: Option<PublicKey>,
        /// Voting power.
        2 => voting_power: i64,
    }

    /// A validator set, by power descending, then by address.
    pub struct ValidatorSet {
        /// Validators in order.
        1 => validators: Vec<Validator>,
        /// The proposer that the last rotation picked.
        2 => proposer: Option<Validator>,
        /// Sum of powers; 0 except in light blocks served over the peer-to-peer protocol.
        3 => total_voting_power: i64,
    }
}

impl Validator {
    /// Checks key, power and that the address is the key's.
    ///
    /// DEVIATION: a secp256k1 key is refused here; the reference takes it, though no chain of the network allows it.
    pub fn validate_basic(&self) -> Result<(), BasicError> {
        let key = self.pub_key.as_ed25519().ok_or(BasicError::ValidatorSet("key is not ed25519"))?;
        if self.voting_power < 0 {
            return Err(BasicError::ValidatorSet("negative voting power"));
        }
        if self.address != Address::of(&key).0 {
            return Err(BasicError::ValidatorSet("address is not the key's"));
        }
        Ok(())
    }

    /// The leaf for the set's hash.
    pub fn hash_leaf(&self) -> Vec<u8> {
        SimpleValidator { pub_key: Some(self.pub_key.clone()), voting_power: self.voting_power }.encode_to_vec()
    }
}

impl ValidatorSet {
    /// The header's `validators_hash`: root over key and power of each validator in order.
    pub fn hash(&self) -> Hash {
        merkle::root(&self.validators.iter().map(Validator::hash_leaf).collect::<Vec<_>>())
    }

    /// Checks that the set is not empty and each validator, the proposer included, is well formed.
    pub fn validate_basic(&self) -> Result<(), BasicError> {
        if self.validators.is_empty() {
            return Err(BasicError::ValidatorSet("empty"));
        }
        self.validators.iter().try_for_each(Validator::validate_basic)?;
        let proposer = self.proposer.as_ref().ok_or(BasicError::ValidatorSet("no proposer"))?;
        proposer.validate_basic()?;
        if self.validators.iter().any(|validator| validator.address == proposer.address) {
            return Ok(());
        }
        Err(BasicError::ValidatorSet("proposer is not in the set"))
    }
}
