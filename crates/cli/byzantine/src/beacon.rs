//! A validator that takes part in rounds of the VRF beacon, or does not.

use base_codec::Bytes;
use base_crypto::vrf;
use base_prims::Epoch;
use node_workers::Chain as _;
use wire_consensus::beacon::{METHOD_VRF_PROVE, VrfProve, VrfState};
use wire_consensus::node::{ConsensusAddress, Roles};

use crate::actor::{ActError, Actor, chain_error, play};
use crate::{BeaconMode, Behaviour, Launch, MODULE};

/// Tells that a round of the beacon went as the mode wants it.
const ROUND_COMPLETED: &str = "byzantine/vrf_beacon/round_completed";

pub(crate) async fn run(behaviour: Behaviour, mut launch: Launch) -> Result<(), ActError> {
    launch.options.votes = true;
    let (node, actor) = Box::pin(Actor::start(&behaviour, launch)).await?;
    let stop = actor.stop.clone();
    play(node, stop, act_forever(&actor, &behaviour)).await
}

async fn act_forever(actor: &Actor, behaviour: &Behaviour) -> Result<(), ActError> {
    actor.wait_epoch(behaviour.activation_epoch).await?;
    let mut descriptor = actor.descriptor(Roles::VALIDATOR);
    let address = actor.external_address.trim_start_matches("tcp://").parse();
    let address = address.map_err(|error: base_prims::ParseError| ActError::Start(error.to_string()))?;
    descriptor.consensus.addresses = Some(vec![ConsensusAddress { id: descriptor.p2p.id, address }]);
    actor.register(&descriptor).await?;
    tracing::info!(module = MODULE, "waiting on initial VRF event");
    let mut iteration = 0u64;
    let mut state = wait_round(actor, None).await?;
    while !actor.stop.is_cancelled() {
        state = round(actor, &state, behaviour.beacon_mode).await?;
        tracing::info!(module = MODULE, log_event = ROUND_COMPLETED, iteration, "executed beacon round");
        iteration += 1;
    }
    Ok(())
}

/// The round of an epoch after the given one.
async fn wait_round(actor: &Actor, after: Option<Epoch>) -> Result<VrfState, ActError> {
    actor
        .wait(|state| {
            let found = apps_committees::beacon::state::vrf_state(state).map_err(chain_error)?;
            let found = found.ok_or_else(|| ActError::Chain("beacon not configured for VRF backend".to_owned()))?;
            Ok(after.is_none_or(|after| found.epoch > after).then_some(found))
        })
        .await
}

/// Takes part in a round as the mode wants, and waits for the next one.
async fn round(actor: &Actor, round: &VrfState, mode: BeaconMode) -> Result<VrfState, ActError> {
    let wrong = |text: String| Err(ActError::Scenario(format!("failed beacon round: {text}")));
    if mode == BeaconMode::Honest {
        let mut heights = actor.chain.heights();
        heights.wait_for(|height| *height >= round.submit_after).await.map_err(chain_error)?;
    }
    if mode != BeaconMode::Missing {
        let proof = vrf::prove(&actor.keys[3], &round.alpha.0);
        let body = VrfProve { epoch: round.epoch, pi: Some(Bytes(proof.to_vec())) };
        let sent = actor.submission.submit(actor.key(), METHOD_VRF_PROVE, &body).await;
        match (mode, sent) {
            (BeaconMode::Honest, Err(error)) => return wrong(format!("failed to submit proof: {error}")),
            (BeaconMode::Early, Ok(_)) => return wrong("succeeded in submitting proof with no wait".to_owned()),
            (BeaconMode::Early, Err(error)) => {
                tracing::info!(module = MODULE, err = %error, "failed to submit proof");
            }
            _ => tracing::info!(module = MODULE, epoch = round.epoch, "submitted proof"),
        }
    }
    let next = wait_round(actor, Some(round.epoch)).await?;
    check(actor, round, mode)?;
    Ok(next)
}

/// Whether the last state of the round has this node's proof, as the mode wants it.
fn check(actor: &Actor, round: &VrfState, mode: BeaconMode) -> Result<(), ActError> {
    let (_, began) = apps_committees::beacon::state::epoch(&*actor.state()?).map_err(chain_error)?;
    let before = actor.chain.state(began.saturating_sub(1)).map_err(chain_error)?;
    let last = apps_committees::beacon::state::vrf_state(&*before).map_err(chain_error)?;
    let unexpected = || ActError::Scenario("got VRF state for unexpected epoch".to_owned());
    let last = last.filter(|last| last.epoch == round.epoch).ok_or_else(unexpected)?;
    match (last.pi.contains_key(&actor.id()), mode) {
        (false, BeaconMode::Honest) => Err(ActError::Scenario("proof missing in VRF state".to_owned())),
        (true, BeaconMode::Early | BeaconMode::Missing) => {
            Err(ActError::Scenario("proof present in VRF state".to_owned()))
        }
        _ => Ok(()),
    }
}
