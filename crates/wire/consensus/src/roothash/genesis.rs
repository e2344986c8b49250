//! The service's section of a genesis document, and its parameters.
//!
//! Source: `go/roothash/api/{api,sanity_check}.go`.

use std::collections::BTreeMap;

use base_codec::Codec;
use base_prims::Namespace;

use super::MessageEvent;
use crate::{Invalid, invalid, registry::RuntimeGenesis, transaction::Costs};

/// The section `roothash` of a genesis document.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Genesis {
    /// Parameters.
    #[codec(rename = "params")]
    pub parameters: Parameters,
    /// Where each runtime continues.
    #[codec(omitempty)]
    pub runtime_states: BTreeMap<Namespace, GenesisRuntimeState>,
}

/// Where one runtime continues.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct GenesisRuntimeState {
    /// State root and round.
    #[codec(flatten)]
    pub genesis: RuntimeGenesis,
    /// Results of the last round's messages.
    #[codec(omitempty)]
    pub message_results: Vec<MessageEvent>,
}

/// Parameters of the service; state key `21`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Parameters {
    /// Gas costs.
    #[codec(omitempty)]
    pub gas_costs: Costs,
    /// Debug: runtimes are not suspended for lack of stake.
    #[codec(omitempty)]
    pub debug_do_not_suspend_runtimes: bool,
    /// Debug: no stake checks.
    #[codec(omitempty)]
    pub debug_bypass_stake: bool,
    /// Most messages that a runtime may emit in a round.
    pub max_runtime_messages: u32,
    /// Most incoming messages that may wait for a runtime.
    pub max_in_runtime_messages: u32,
    /// Oldest evidence that is accepted, in rounds.
    pub max_evidence_age: u64,
    /// Rounds whose roots are kept; 0 keeps none.
    #[codec(omitempty)]
    pub max_past_roots_stored: u64,
}

/// Changes of parameters that governance may make.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ParameterChanges {
    /// New gas costs.
    #[codec(omitempty)]
    pub gas_costs: Option<Costs>,
    /// New limit of emitted messages.
    pub max_runtime_messages: Option<u32>,
    /// New limit of waiting messages.
    pub max_in_runtime_messages: Option<u32>,
    /// New age limit of evidence.
    pub max_evidence_age: Option<u64>,
    /// New number of rounds whose roots are kept.
    #[codec(omitempty)]
    pub max_past_roots_stored: Option<u64>,
}

impl Genesis {
    /// Checks the section. `allow_debug` is set where unsafe debug options are allowed.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn sanity_check(&self, allow_debug: bool) -> Result<(), Invalid> {
        self.parameters
            .sanity_check(allow_debug)
            .map_err(|e| Invalid::new(format!("roothash: sanity check failed: {e}")))
    }
}

impl Parameters {
    /// Checks the parameters.
    ///
    /// # Errors
    /// If a debug option is set that is not allowed.
    pub fn sanity_check(&self, allow_debug: bool) -> Result<(), Invalid> {
        if (self.debug_do_not_suspend_runtimes || self.debug_bypass_stake) && !allow_debug {
            invalid!("one or more unsafe debug flags set");
        }
        Ok(())
    }
}

impl ParameterChanges {
    /// Checks that something changes.
    ///
    /// # Errors
    /// If nothing does.
    pub fn sanity_check(&self) -> Result<(), Invalid> {
        if *self == Self::default() {
            invalid!("consensus parameter changes should not be empty");
        }
        Ok(())
    }

    /// Changes `params`.
    pub fn apply(&self, params: &mut Parameters) {
        if let Some(v) = &self.gas_costs {
            params.gas_costs.clone_from(v);
        }
        if let Some(v) = self.max_runtime_messages {
            params.max_runtime_messages = v;
        }
        if let Some(v) = self.max_in_runtime_messages {
            params.max_in_runtime_messages = v;
        }
        if let Some(v) = self.max_evidence_age {
            params.max_evidence_age = v;
        }
        if let Some(v) = self.max_past_roots_stored {
            params.max_past_roots_stored = v;
        }
    }
}
