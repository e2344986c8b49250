//! Writing the genesis document that a network could go on from. Source: `StateToGenesis` of
//! `go/consensus/cometbft/full/common.go`.

use apps_core::{Error, Result, Service, kv::KvRead, params};
use wire_consensus::{
    Time,
    genesis::{Document, GenesisTime},
};

/// The genesis document of a state. `height` and `time` are those of the block that the state is after; `base` is the
/// document that the network started with: the network's and the token's name are taken from there.
///
/// # Errors
/// If the state is unavailable.
pub fn export_genesis(
    services: &[Box<dyn Service>],
    state: &dyn KvRead,
    height: i64,
    time: Time,
    base: &Document,
) -> Result<Document> {
    let mut doc = Document {
        height,
        // Documents travel as CBOR, which has whole seconds only; so have those that the reference's command writes.
        time: GenesisTime(Time::new(time.seconds(), 0).map_err(|e| Error::Fatal(e.to_string()))?),
        chain_id: base.chain_id.clone(),
        consensus: base.consensus.clone(),
        ..Document::default()
    };
    doc.consensus.parameters = params::parameters(state)?;
    doc.staking.token_symbol.clone_from(&base.staking.token_symbol);
    doc.staking.token_value_exponent = base.staking.token_value_exponent;
    for service in services {
        service.export_genesis(state, height, &mut doc)?;
    }
    Ok(doc)
}
