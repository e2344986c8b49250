//! The token file: fees and governors.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mc_crypto::ed25519;
use mc_tx::config::GovernorsMap;
use mc_tx::fees::FeeMap;
use serde::Deserialize;
use wire_mobilecoin::mint::SignerSet;
use wire_mobilecoin::{Ed25519Key, Ed25519Sig};

/// The first token's fee where the file gives none.
pub const DEFAULT_FEE: u64 = 400_000_000;
/// Bounds of the first token's fee unless any fee is allowed: from, below.
pub const FEE_BOUNDS: (u64, u64) = (10_000, 1_000_000_000_000);
/// How deep identities may nest.
const MAX_DEPTH: usize = 16;

/// Why a token file is refused. Names as in the reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not JSON of the expected shape.
    #[error("JSON: {0}")]
    Json(String),
    /// A token twice.
    #[error("token {0} is configured twice")]
    DuplicateTokenConfig(u64),
    /// No fee for a token but the first.
    #[error("token {0} has no minimum fee")]
    MissingMinimumFee(u64),
    /// The first token's fee is out of bounds.
    #[error("fee {0} is out of bounds")]
    FeeOutOfBounds(u64),
    /// The fees.
    #[error("fee map: {0}")]
    FeeMap(#[from] mc_tx::fees::Error),
    /// Governors of the first token.
    #[error("token 0 has no mints")]
    MintConfigNotAllowed,
    /// An identity that is not defined, a key that is none, or a set that nobody can satisfy.
    #[error("invalid signer set of token {0}")]
    InvalidSignerSet(u64),
    /// The signature of the governors is none.
    #[error("invalid signature of the governors")]
    InvalidGovernorsSignature,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Identity {
    Single {
        pub_key: String,
    },
    MultiSig {
        threshold: u32,
        signers: Vec<Identity>,
    },
    #[serde(rename = "Identity")]
    Named {
        name: String,
    },
}

#[derive(Deserialize)]
struct RawToken {
    token_id: u64,
    minimum_fee: Option<u64>,
    #[serde(default)]
    allow_any_fee: bool,
    #[serde(default)]
    signer_identities: BTreeMap<String, Identity>,
    governors: Option<Identity>,
}

#[derive(Deserialize)]
struct RawTokens {
    governors_signature: Option<String>,
    tokens: Vec<RawToken>,
}

/// A token file.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Minimum fees.
    pub fee_map: FeeMap,
    /// Governors.
    pub governors: GovernorsMap,
    /// Of the minting trust root over the governors.
    pub governors_signature: Option<Ed25519Sig>,
}

fn key_of(pem: &str) -> Option<Ed25519Key> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    ed25519::public_from_der(&STANDARD.decode(body).ok()?).ok()
}

impl Identity {
    /// The set that an identity stands for.
    fn signer_set(&self, names: &BTreeMap<String, Self>, depth: usize) -> Option<SignerSet> {
        let depth = depth.checked_sub(1)?;
        match self {
            Self::Single { pub_key } => {
                Some(SignerSet { individual_signers: vec![key_of(pub_key)?], multi_signers: Vec::new(), threshold: 1 })
            }
            Self::Named { name } => names.get(name)?.signer_set(names, depth),
            Self::MultiSig { threshold, signers } => {
                let mut out = SignerSet { threshold: *threshold, ..SignerSet::default() };
                for signer in signers {
                    let mut named = signer;
                    for _ in 0..depth {
                        match named {
                            Self::Named { name } => named = names.get(name)?,
                            _ => break,
                        }
                    }
                    match named {
                        Self::Single { pub_key } => out.individual_signers.push(key_of(pub_key)?),
                        other => out.multi_signers.push(other.signer_set(names, depth)?),
                    }
                }
                Some(out)
            }
        }
    }
}

impl Tokens {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// If it has another shape, or fees or governors do not go together.
    pub fn read(text: &str) -> Result<Self, Error> {
        let raw: RawTokens = serde_json::from_str(text).map_err(|e| Error::Json(e.to_string()))?;
        let mut fees = BTreeMap::new();
        let mut governors = Vec::new();
        for token in &raw.tokens {
            let id = token.token_id;
            let fee = match (token.minimum_fee, id) {
                (Some(fee), _) => fee,
                (None, 0) => DEFAULT_FEE,
                (None, _) => return Err(Error::MissingMinimumFee(id)),
            };
            if id == 0 && !token.allow_any_fee && !(FEE_BOUNDS.0..FEE_BOUNDS.1).contains(&fee) {
                return Err(Error::FeeOutOfBounds(fee));
            }
            if fees.insert(id, fee).is_some() {
                return Err(Error::DuplicateTokenConfig(id));
            }
            if let Some(identity) = &token.governors {
                if id == 0 {
                    return Err(Error::MintConfigNotAllowed);
                }
                let set = identity.signer_set(&token.signer_identities, MAX_DEPTH);
                governors.push((id, set.ok_or(Error::InvalidSignerSet(id))?));
            }
        }
        let invalid = |error| match error {
            mc_tx::config::Error::InvalidGovernors(id) => Error::InvalidSignerSet(id.0),
            _ => Error::InvalidSignerSet(0),
        };
        let signature = |text: &String| {
            let bytes = hex::decode(text).map_err(|_| Error::InvalidGovernorsSignature)?;
            Ed25519Sig::try_from(bytes.as_slice()).map_err(|_| Error::InvalidGovernorsSignature)
        };
        Ok(Self {
            fee_map: FeeMap::new(fees)?,
            governors: GovernorsMap::new(governors).map_err(invalid)?,
            governors_signature: raw.governors_signature.as_ref().map(signature).transpose()?,
        })
    }
}
