//! The genesis document.

use std::collections::BTreeMap;

use base_codec::{Bytes, Codec, cbor, json};
use base_crypto::{blacklist::Blacklist, context::ChainContext};
use base_prims::Hash;

use crate::{
    Invalid, Time, beacon, consensus, governance, invalid, keymanager, registry, roothash, scheduler, staking, vault,
};

pub mod comet;

/// CometBFT chain ids are the first characters of the chain context.
pub const COMET_CHAIN_ID_CHARS: usize = 50;

/// Point in time of a genesis document. CBOR: whole Unix seconds; JSON: RFC 3339 with nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct GenesisTime(pub Time);

impl cbor::Encode for GenesisTime {
    fn encode(&self, e: &mut cbor::Encoder) {
        e.int(self.0.seconds());
    }
}

impl cbor::Decode for GenesisTime {
    fn decode(d: &mut cbor::Decoder<'_>) -> Result<Self, cbor::Error> {
        let at = d.offset();
        let seconds = i64::decode(d)?;
        Time::new(seconds, 0).map(Self).map_err(|e| cbor::Error::invalid(at, e))
    }
}

impl json::ToJson for GenesisTime {
    fn to_json(&self) -> json::Value {
        json::Value::String(self.0.to_string())
    }
}

impl json::FromJson for GenesisTime {
    fn from_json(v: &json::Value, cx: &mut json::Context) -> Result<Self, json::Error> {
        match v {
            json::Value::Null => Ok(Self::default()),
            json::Value::String(s) => Time::parse_rfc3339(s).map(Self).map_err(|e| cx.error(e.to_string())),
            other => Err(cx.expected("a time as RFC 3339", other)),
        }
    }
}

/// What a network starts from. Source: `go/genesis/api`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Document {
    /// First height.
    pub height: i64,
    /// When the network starts.
    #[codec(rename = "genesis_time")]
    pub time: GenesisTime,
    /// Name of the network; not the chain context.
    pub chain_id: String,
    /// Registry.
    pub registry: registry::Genesis,
    /// Root hash.
    pub roothash: roothash::Genesis,
    /// Staking.
    pub staking: staking::Genesis,
    /// Key manager.
    pub keymanager: keymanager::Genesis,
    /// Scheduler.
    pub scheduler: scheduler::Genesis,
    /// Beacon.
    pub beacon: beacon::Genesis,
    /// Governance.
    pub governance: governance::Genesis,
    /// Vault.
    #[codec(omitempty)]
    pub vault: Option<vault::Genesis>,
    /// Consensus backend.
    pub consensus: consensus::Genesis,
    /// Anything else; no rule reads it.
    pub extra_data: Option<BTreeMap<String, Option<Bytes>>>,
}

impl Document {
    /// Reads a document from its JSON text; fields that nobody knows are ignored, as by the reference.
    ///
    /// # Errors
    /// Names the path of the offending field, what was found and what was expected.
    pub fn from_json(text: &str) -> Result<Self, json::Error> {
        json::from_str(text)
    }

    /// Reads a document and lists the paths of fields that nobody knows.
    ///
    /// # Errors
    /// As [`Document::from_json`].
    pub fn from_json_with_unknown(text: &str) -> Result<(Self, Vec<String>), json::Error> {
        let mut cx = json::Context::new();
        let doc = json::from_str_with(text, &mut cx)?;
        Ok((doc, cx.unknown_fields().to_vec()))
    }

    /// The canonical file form: two spaces of indentation and a final newline.
    pub fn to_canonical_json(&self) -> String {
        let mut text = json::to_string_pretty(self);
        text.push('\n');
        text
    }

    /// The document's hash: SHA-512/256 of its CBOR.
    pub fn hash(&self) -> Hash {
        Hash::of_cbor(self)
    }

    /// The chain context that separates signatures of this network from others.
    pub fn chain_context(&self) -> ChainContext {
        ChainContext::from_hash(self.hash().as_bytes())
    }

    /// The chain id that CometBFT uses.
    pub fn comet_chain_id(&self) -> String {
        comet_chain_id(&self.chain_context())
    }
}

/// The CometBFT chain id of a chain context.
pub fn comet_chain_id(chain: &ChainContext) -> String {
    chain.as_str().chars().take(COMET_CHAIN_ID_CHARS).collect()
}

impl Document {
    /// The checks of a genesis document that need no service's rules; `node_app::sanity_check` makes all. `allow_debug` is set where unsafe debug options are
    /// allowed (test networks). Source: `go/genesis/api/sanity_check.go`.
    ///
    /// # Errors
    /// Names the section and field that is wrong, what was found and what was expected.
    pub fn sanity_check(&self, allow_debug: bool) -> Result<(), Invalid> {
        if self.height < 1 {
            invalid!("genesis: sanity check failed: height must be >= 1, found {}", self.height);
        }
        if self.chain_id.trim().is_empty() {
            invalid!("genesis: sanity check failed: chain ID must not be empty");
        }
        self.consensus.sanity_check(allow_debug)?;
        self.beacon.sanity_check(allow_debug)?;
        let blacklist = self.blacklist(allow_debug);
        let epoch = self.beacon.base;
        self.roothash.sanity_check(allow_debug)?;
        self.keymanager.sanity_check(&blacklist)?;
        self.scheduler.sanity_check(&self.staking.total_supply, allow_debug)?;
        self.governance.sanity_check(epoch, &self.staking.governance_deposits)?;
        if let Some(vault) = &self.vault {
            vault.sanity_check()?;
        }
        Ok(())
    }

    /// Keys that may not sign on this network.
    pub fn blacklist(&self, allow_test_keys: bool) -> Blacklist {
        let mut blacklist = if allow_test_keys { Blacklist::allowing_test_keys() } else { Blacklist::production() };
        for key in &self.consensus.parameters.public_key_blacklist {
            blacklist.insert(*key.as_bytes());
        }
        blacklist
    }
}

#[cfg(test)]
mod tests;
