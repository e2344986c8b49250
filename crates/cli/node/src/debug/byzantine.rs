//! `oasis-node debug byzantine …`: nodes that break rules, for tests of networks. Reference:
//! `go/oasis-node/cmd/debug/byzantine`.

use std::process::ExitCode;
use std::sync::Arc;

use base_codec::Bytes;
use base_crypto::ed25519::SecretKey;
use base_crypto::vrf;
use base_prims::{Epoch, PublicKey};
use clap::{Subcommand, ValueEnum};
use node_config::Config;
use node_run::{LocalChain, Node, Options};
use node_workers::{Chain as _, Submission};
use tokio_util::sync::CancellationToken;
use wire_consensus::beacon::{METHOD_VRF_PROVE, VrfProve, VrfState};
use wire_consensus::node::{ConsensusAddress, LATEST_VERSION, Node as Descriptor, REGISTER_CONTEXT, Roles};
use wire_consensus::registry::METHOD_REGISTER_NODE;
use wire_consensus::signed::MultiSigned;

use crate::args::{GenesisArgs, Session};
use crate::tool::{Done, Failure, OrFail as _, end};

const MODULE: &str = "cmd/byzantine";
/// Tells that a round of the beacon went as the mode wants it.
const ROUND_COMPLETED: &str = "byzantine/vrf_beacon/round_completed";
/// Epoch until which the node is registered: longer than any test.
const EXPIRATION: Epoch = 1000;

/// Subcommands of `debug byzantine`.
#[derive(Subcommand)]
pub(crate) enum ByzantineCommand {
    /// Act as a validator (for tests of the VRF beacon).
    Vrfbeacon {
        #[command(flatten)]
        genesis: GenesisArgs,
        /// Epoch at which the node becomes active.
        #[arg(long = "activation_epoch", default_value_t = 0)]
        activation_epoch: Epoch,
        /// What the node does.
        #[arg(long = "vrf_beacon_mode", value_enum, default_value_t = Mode::Honest)]
        mode: Mode,
    },
}

/// What a node does in a round of the beacon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Proves when it may.
    #[value(name = "vrf_beacon_honest")]
    Honest,
    /// Proves too early, which is refused.
    #[value(name = "vrf_beacon_early")]
    Early,
    /// Does not prove.
    #[value(name = "vrf_beacon_missing")]
    Missing,
}

pub(crate) fn run(command: &ByzantineCommand, session: &Session) -> ExitCode {
    let ByzantineCommand::Vrfbeacon { genesis, activation_epoch, mode } = command;
    end(vrf_beacon(session, genesis, *activation_epoch, *mode))
}

/// What the node needs of its keys and of its place in the network.
struct Actor {
    chain: Arc<LocalChain>,
    submission: Submission,
    keys: [SecretKey; 5],
    entity: PublicKey,
    descriptor: Descriptor,
}

fn vrf_beacon(session: &Session, genesis: &GenesisArgs, activation: Epoch, mode: Mode) -> Done {
    if !session.options.dont_blame_oasis {
        return Err(Failure::new(MODULE, "needs --debug.dont_blame_oasis: such a node harms a network"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.or_fail(MODULE, "failed to start the runtime")?;
    let mut config = session.config.clone();
    config.genesis.file = genesis.file.display().to_string();
    runtime.block_on(act(config, session, activation, mode))
}

async fn act(mut config: Config, session: &Session, activation: Epoch, mode: Mode) -> Done {
    let what = "error initializing node";
    let entity: PublicKey =
        config.registration.entity_id.parse().or_fail(MODULE, "registration.entity_id is needed")?;
    // The node registers by itself, in its own way.
    config.registration.entity_id.clear();
    let external = config.consensus.external_address.clone();
    let local = session.options.local();
    let options = Options {
        dont_blame_oasis: local.allow_debug,
        allow_test_keys: local.allow_test_keys,
        tee: local.tee,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        votes: true,
        signer: session.signer.config(),
    };
    let stop = base_service::signals::stop_token().or_fail(MODULE, what)?;
    let node = Node::start(config, options, stop.clone()).await.or_fail(MODULE, what)?;
    let actor = Actor::new(&node, entity, &external).or_fail(MODULE, what)?;
    let acting = act_forever(&actor, activation, mode, &stop);
    tokio::select! {
        failed = acting => {
            stop.cancel();
            failed.or_fail(MODULE, "failed beacon round")
        }
        // Ends when the test does.
        _ = node.run() => Ok(()),
    }
}

async fn act_forever(actor: &Actor, activation: Epoch, mode: Mode, stop: &CancellationToken) -> Result<(), String> {
    actor.wait_epoch(activation).await?;
    actor.register().await?;
    tracing::info!(module = MODULE, "waiting on initial VRF event");
    let mut iteration = 0u64;
    let mut state = actor.wait_round(None).await?;
    while !stop.is_cancelled() {
        state = actor.round(&state, mode).await?;
        tracing::info!(module = MODULE, log_event = ROUND_COMPLETED, iteration, "executed beacon round");
        iteration += 1;
    }
    Ok(())
}

impl Actor {
    fn new(node: &Node, entity: PublicKey, external: &str) -> Result<Self, String> {
        let chain = node.chain().ok_or("the node has no consensus layer")?.clone();
        let identity = node.identity();
        let keys = [
            identity.node.clone(),
            identity.p2p.clone(),
            identity.consensus.clone(),
            identity.vrf.clone(),
            identity.tls.key().clone(),
        ];
        let [id, p2p, consensus, vrf, tls] = [0, 1, 2, 3, 4].map(|index: usize| PublicKey::from(keys[index].public()));
        let mut descriptor = Descriptor {
            v: LATEST_VERSION,
            id,
            entity_id: entity,
            expiration: EXPIRATION,
            roles: Roles::VALIDATOR,
            ..Descriptor::default()
        };
        descriptor.tls.pub_key = tls;
        descriptor.p2p.id = p2p;
        descriptor.p2p.addresses = Some(node.p2p().addresses());
        descriptor.consensus.id = consensus;
        let address = external.trim_start_matches("tcp://").parse();
        let address = address.map_err(|error: base_prims::ParseError| error.to_string())?;
        descriptor.consensus.addresses = Some(vec![ConsensusAddress { id: p2p, address }]);
        descriptor.vrf.id = vrf;
        let submission = Submission::new(chain.clone(), 0, 0);
        Ok(Self { chain, submission, keys, entity, descriptor })
    }

    async fn wait_epoch(&self, wanted: Epoch) -> Result<(), String> {
        let mut synced = self.chain.synced();
        synced.wait_for(|synced| *synced).await.map_err(|error| error.to_string())?;
        let mut heights = self.chain.heights();
        loop {
            let state = self.chain.state(0).map_err(|error| error.to_string())?;
            let (epoch, _) = apps_committees::beacon::state::epoch(&*state).map_err(|error| error.to_string())?;
            if epoch >= wanted {
                return Ok(());
            }
            drop(state);
            heights.changed().await.map_err(|error| error.to_string())?;
        }
    }

    async fn register(&self) -> Result<(), String> {
        let keys: Vec<&SecretKey> = self.keys.iter().collect();
        let signed = MultiSigned::sign(&keys, REGISTER_CONTEXT, None, &self.descriptor);
        let signed = signed.map_err(|error| error.to_string())?;
        let sent = self.submission.submit(&self.keys[0], METHOD_REGISTER_NODE, &signed).await;
        sent.map_err(|error| format!("node registration: {error}"))?;
        tracing::info!(module = MODULE, entity_id = %self.entity, node_id = %self.descriptor.id, "node registered");
        Ok(())
    }

    /// The round of an epoch after the given one.
    async fn wait_round(&self, after: Option<Epoch>) -> Result<VrfState, String> {
        let mut heights = self.chain.heights();
        loop {
            let state = self.chain.state(0).map_err(|error| error.to_string())?;
            let found = apps_committees::beacon::state::vrf_state(&*state).map_err(|error| error.to_string())?;
            drop(state);
            let found = found.ok_or("beacon not configured for VRF backend")?;
            if after.is_none_or(|after| found.epoch > after) {
                return Ok(found);
            }
            heights.changed().await.map_err(|error| error.to_string())?;
        }
    }

    /// Takes part in a round as the mode wants, and waits for the next one.
    async fn round(&self, round: &VrfState, mode: Mode) -> Result<VrfState, String> {
        if mode == Mode::Honest {
            let mut heights = self.chain.heights();
            heights.wait_for(|height| *height >= round.submit_after).await.map_err(|error| error.to_string())?;
        }
        if mode != Mode::Missing {
            let proof = vrf::prove(&self.keys[3], &round.alpha.0);
            let body = VrfProve { epoch: round.epoch, pi: Some(Bytes(proof.to_vec())) };
            let sent = self.submission.submit(&self.keys[0], METHOD_VRF_PROVE, &body).await;
            match (mode, sent) {
                (Mode::Honest, Err(error)) => return Err(format!("failed to submit proof: {error}")),
                (Mode::Early, Ok(_)) => return Err("succeeded in submitting proof with no wait".to_owned()),
                (Mode::Early, Err(error)) => {
                    tracing::info!(module = MODULE, err = %error, "failed to submit proof");
                }
                _ => tracing::info!(module = MODULE, epoch = round.epoch, "submitted proof"),
            }
        }
        let next = self.wait_round(Some(round.epoch)).await?;
        self.check(round, mode)?;
        Ok(next)
    }

    /// Whether the last state of the round has this node's proof, as the mode wants it.
    fn check(&self, round: &VrfState, mode: Mode) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let state = self.chain.state(0).map_err(|error| text(&error))?;
        let (_, began) = apps_committees::beacon::state::epoch(&*state).map_err(|error| text(&error))?;
        let before = self.chain.state(began.saturating_sub(1)).map_err(|error| text(&error))?;
        let last = apps_committees::beacon::state::vrf_state(&*before).map_err(|error| text(&error))?;
        let last = last.filter(|last| last.epoch == round.epoch).ok_or("got VRF state for unexpected epoch")?;
        match (last.pi.contains_key(&self.descriptor.id), mode) {
            (false, Mode::Honest) => Err("proof missing in VRF state".to_owned()),
            (true, Mode::Early | Mode::Missing) => Err("proof present in VRF state".to_owned()),
            _ => Ok(()),
        }
    }
}
