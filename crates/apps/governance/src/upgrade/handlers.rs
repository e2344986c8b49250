//! The handlers that migrate the state, by the names that upgrade descriptors give.
//!
//! Source: `go/upgrade/migrations`.

use apps_committees::registry::state as registry;
use apps_core::{Context, Error, Mode, Result, params};
use apps_keymanager::churp::state as churp;
use apps_staking::state as staking;
use base_codec::{Bytes, cbor};
use base_crypto::{blacklist::test_key, context::sign_with_context};
use base_prims::{Address, PublicKey, Quantity, RawSignature, Version};
use wire_consensus::{
    churp as churp_wire,
    consensus::FEATURE_26_1,
    entity::{self, Entity},
    registry::STAKE_CLAIM_REGISTER_ENTITY,
    signed::{Signature, Signed},
    staking::{Account, StakeThreshold, ThresholdKind},
    vault as vault_wire,
};

use crate::{governance, vault};

/// Largest transaction after `consensus240`, in bytes.
const MAX_TX_SIZE_240: u64 = 131_072;
/// Largest block after `consensus240`, in bytes.
const MAX_BLOCK_SIZE_240: u64 = 4_194_304;
/// Most gas in a block after `consensus240`.
const MAX_BLOCK_GAS_240: u64 = 5_000_000;
/// Stake for an instance of secret sharing after `consensus240`, in base units.
const CHURP_THRESHOLD_240: u64 = 10_000_000_000_000;
/// Name of the key of the entity that the test handler registers.
const TEST_ENTITY: &str = "__e2e-test-migration-entity";

/// A handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// Release 24.0: secret sharing, vaults, larger transactions.
    Consensus240,
    /// Release 26.1: turns the feature version on.
    Consensus261,
    /// Changes nothing.
    Empty,
    /// For tests: registers an entity and counts the transaction size up.
    Test,
}

impl Handler {
    /// Every handler with its name.
    pub const ALL: [(&'static str, Self); 4] = [
        ("consensus240", Self::Consensus240),
        ("consensus261", Self::Consensus261),
        ("empty", Self::Empty),
        ("__e2e-test-valid", Self::Test),
    ];

    /// The handler of a name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, h)| *h)
    }

    /// Whether the handler has a stage that runs at the start of the node, so that the node must be restarted.
    pub fn has_startup_stage(self) -> bool {
        self == Self::Test
    }

    /// Migrates the state at the beginning or the end of a block.
    ///
    /// # Errors
    /// Any error is fatal.
    pub fn consensus_upgrade(self, ctx: &mut Context<'_>) -> Result<()> {
        match (self, ctx.mode()) {
            (Self::Empty, _) | (Self::Consensus240 | Self::Consensus261, Mode::BeginBlock) => Ok(()),
            (Self::Consensus240, Mode::EndBlock) => consensus240(ctx),
            (Self::Consensus261, Mode::EndBlock) => set_feature_version(ctx, FEATURE_26_1),
            (Self::Test, Mode::BeginBlock) => register_test_entity(ctx),
            (Self::Test, Mode::EndBlock) => {
                let mut p = params::parameters(&ctx.state())?;
                p.max_tx_size = p.max_tx_size.wrapping_add(1);
                params::set_parameters(&mut ctx.state(), &p)
            }
            (_, mode) => Err(Error::Fatal(format!("upgrade handler called in unexpected context: {mode:?}"))),
        }
    }
}

fn set_feature_version(ctx: &mut Context<'_>, version: Version) -> Result<()> {
    let mut p = params::parameters(&ctx.state())?;
    p.feature_version = Some(version);
    params::set_parameters(&mut ctx.state(), &p)
}

fn consensus240(ctx: &mut Context<'_>) -> Result<()> {
    let mut p = params::parameters(&ctx.state())?;
    p.max_tx_size = MAX_TX_SIZE_240;
    p.max_block_size = MAX_BLOCK_SIZE_240;
    p.max_block_gas = MAX_BLOCK_GAS_240;
    params::set_parameters(&mut ctx.state(), &p)?;

    let mut p = registry::parameters(&ctx.state())?;
    p.deprecated_enable_key_manager_churp = true;
    registry::set_parameters(ctx, &p)?;

    churp::set_parameters(&mut ctx.state(), &churp_wire::Parameters::defaults())?;

    let mut p = staking::parameters(&ctx.state())?;
    p.thresholds.insert(ThresholdKind::KEY_MANAGER_CHURP, Quantity::from(CHURP_THRESHOLD_240));
    staking::set_parameters(ctx, &p)?;

    let mut p = governance::state::parameters(&ctx.state())?;
    p.allow_vote_without_entity = true;
    p.allow_proposal_metadata = true;
    governance::state::set_parameters(&mut ctx.state(), &p)?;

    vault::state::set_parameters(&mut ctx.state(), &vault_wire::Parameters::defaults())
}

/// Registers an entity without stake, whose key is publicly known.
fn register_test_entity(ctx: &mut Context<'_>) -> Result<()> {
    let key = test_key(TEST_ENTITY);
    let id = PublicKey::new(key.public());
    let entity = Entity { v: entity::LATEST_VERSION, id, nodes: Vec::new() };
    let blob = cbor::to_vec(&entity);
    let signature = sign_with_context(&key, entity::REGISTER_CONTEXT, Some(ctx.chain()), None, &blob)
        .map_err(|e| Error::Fatal(e.to_string()))?;
    let signed = Signed {
        untrusted_raw_value: Some(Bytes(blob)),
        signature: Signature { public_key: id, signature: RawSignature::new(signature) },
    };
    registry::set_entity(&mut ctx.state(), &id, &signed)?;
    let mut account = Account::default();
    let thresholds = vec![StakeThreshold { global: Some(ThresholdKind::ENTITY), constant: None }];
    account.escrow.stake_accumulator.claims.insert(STAKE_CLAIM_REGISTER_ENTITY.to_owned(), Some(thresholds));
    staking::set_account(&mut ctx.state(), &Address::of_key(&id), &account)
}
