//! Minting: signer sets, multi-signatures, mint configurations and mints (reference: `mc-transaction-core`, `multisig`).

use merlin::Transcript;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::bytes::{Ed25519Key, Ed25519Sig, FogHint, Hash, Point};
use crate::digest::{Digestible, Label, aggregate, digest32};

/// Who must sign: at least `threshold` of the keys and nested sets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message, Serialize, Deserialize)]
pub struct SignerSet {
    /// Keys that count one each.
    #[prost(message, repeated, tag = "1")]
    pub individual_signers: Vec<Ed25519Key>,
    /// Sets that count one each when they are satisfied.
    #[prost(message, repeated, tag = "3")]
    #[serde(default)]
    pub multi_signers: Vec<SignerSet>,
    /// How many must sign.
    #[prost(uint32, tag = "2")]
    pub threshold: u32,
}

impl Digestible for SignerSet {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "SignerSet", transcript, |fields| {
            fields
                .field("signers", &self.individual_signers)
                .field("multi_signers", &self.multi_signers)
                .field("threshold", &self.threshold);
        });
    }
}

/// Signatures of some of a signer set, in any order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message, Serialize, Deserialize)]
pub struct MultiSig {
    /// The signatures.
    #[prost(message, repeated, tag = "1")]
    pub signatures: Vec<Ed25519Sig>,
}

impl Digestible for MultiSig {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "MultiSig", transcript, |fields| {
            fields.field("signatures", &self.signatures);
        });
    }
}

/// Who may mint how much of a token.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message, Serialize, Deserialize)]
pub struct MintConfig {
    /// The token.
    #[prost(uint64, tag = "1")]
    pub token_id: u64,
    /// Who must sign a mint.
    #[prost(message, required, tag = "2")]
    pub signer_set: SignerSet,
    /// How much may be minted under this configuration in all.
    #[prost(uint64, tag = "3")]
    pub mint_limit: u64,
}

impl Digestible for MintConfig {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "MintConfig", transcript, |fields| {
            fields
                .field("token_id", &self.token_id)
                .field("signer_set", &self.signer_set)
                .field("mint_limit", &self.mint_limit);
        });
    }
}

/// Sets the mint configurations of a token.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message, Serialize, Deserialize)]
pub struct MintConfigTxPrefix {
    /// The token.
    #[prost(uint64, tag = "1")]
    pub token_id: u64,
    /// The configurations, in order of preference.
    #[prost(message, repeated, tag = "2")]
    pub configs: Vec<MintConfig>,
    /// 64 bytes, never used twice for a token.
    #[prost(bytes = "vec", tag = "3")]
    pub nonce: Vec<u8>,
    /// Block index from which it is void.
    #[prost(uint64, tag = "4")]
    pub tombstone_block: u64,
    /// How much may be minted under all configurations together.
    #[prost(uint64, tag = "5")]
    pub total_mint_limit: u64,
}

impl MintConfigTxPrefix {
    /// What the governors sign: the digest under `mc_mint_config_tx_prefix`.
    pub fn hash(&self) -> Hash {
        Hash(digest32(b"mc_mint_config_tx_prefix", self))
    }
}

impl Digestible for MintConfigTxPrefix {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "MintConfigTxPrefix", transcript, |fields| {
            fields
                .field("token_id", &self.token_id)
                .field("configs", &self.configs)
                .field("nonce", &self.nonce)
                .field("tombstone_block", &self.tombstone_block)
                .field("total_mint_limit", &self.total_mint_limit);
        });
    }
}

/// A signed change of the mint configurations of a token.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message, Serialize, Deserialize)]
pub struct MintConfigTx {
    /// What it sets.
    #[prost(message, required, tag = "1")]
    pub prefix: MintConfigTxPrefix,
    /// Signatures of the token's governors.
    #[prost(message, required, tag = "2")]
    pub signature: MultiSig,
}

impl Digestible for MintConfigTx {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "MintConfigTx", transcript, |fields| {
            fields.field("prefix", &self.prefix).field("signature", &self.signature);
        });
    }
}

/// A change of mint configurations with the governors that allowed it, as blocks hold it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message, Serialize, Deserialize)]
pub struct ValidatedMintConfigTx {
    /// The change.
    #[prost(message, required, tag = "1")]
    pub mint_config_tx: MintConfigTx,
    /// The governors.
    #[prost(message, required, tag = "2")]
    pub signer_set: SignerSet,
}

impl Digestible for ValidatedMintConfigTx {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "ValidatedMintConfigTx", transcript, |fields| {
            fields.field("mint_config_tx", &self.mint_config_tx).field("signer_set", &self.signer_set);
        });
    }
}

/// Mints an amount to an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message, Serialize, Deserialize)]
pub struct MintTxPrefix {
    /// The token.
    #[prost(uint64, tag = "1")]
    pub token_id: u64,
    /// The amount.
    #[prost(uint64, tag = "2")]
    pub amount: u64,
    /// View key of the receiving subaddress.
    #[prost(message, required, tag = "3")]
    pub view_public_key: Point,
    /// Spend key of the receiving subaddress.
    #[prost(message, required, tag = "4")]
    pub spend_public_key: Point,
    /// 64 bytes, never used twice for a token.
    #[prost(bytes = "vec", tag = "5")]
    pub nonce: Vec<u8>,
    /// Block index from which it is void.
    #[prost(uint64, tag = "6")]
    pub tombstone_block: u64,
    /// Fog hint of the output, from block version 3 on.
    #[prost(message, optional, tag = "7")]
    pub e_fog_hint: Option<FogHint>,
}

impl MintTxPrefix {
    /// What the minters sign: the digest under `mc_mint_tx_prefix`.
    pub fn hash(&self) -> Hash {
        Hash(digest32(b"mc_mint_tx_prefix", self))
    }
}

impl Digestible for MintTxPrefix {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "MintTxPrefix", transcript, |fields| {
            fields
                .field("token_id", &self.token_id)
                .field("amount", &self.amount)
                .field("view_public_key", &self.view_public_key)
                .field("spend_public_key", &self.spend_public_key)
                .field("nonce", &self.nonce)
                .field("tombstone_block", &self.tombstone_block)
                .field("e_fog_hint", &self.e_fog_hint);
        });
    }
}

/// A signed mint.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Message, Serialize, Deserialize)]
pub struct MintTx {
    /// What it mints.
    #[prost(message, required, tag = "1")]
    pub prefix: MintTxPrefix,
    /// Signatures of the minters.
    #[prost(message, required, tag = "2")]
    pub signature: MultiSig,
}

impl Digestible for MintTx {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "MintTx", transcript, |fields| {
            fields.field("prefix", &self.prefix).field("signature", &self.signature);
        });
    }
}
