//! What is proposed and committed to holds by the network's own rules; flags are the reference's.

use base_codec::cbor;
use base_crypto::blacklist::Blacklist;
use base_crypto::context::ChainContext;
use base_crypto::ed25519::SecretKey;
use base_prims::{Hash, Namespace, PublicKey};
use clap::Parser;
use rt_tee::SgxAttestation;
use wire_consensus::known::KnownSignatures;
use wire_consensus::roothash::{Header, Verifier};

use crate::batch::{BOGUS, Signer, io_root, state_changes};
use crate::{BeaconMode, ByzantineArgs, ByzantineCommand, ExecutorMode};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ByzantineArgs,
}

fn parse(words: &str) -> ByzantineArgs {
    Line::try_parse_from(std::iter::once("byzantine").chain(words.split(' '))).expect("a command line").args
}

#[test]
fn flags_are_those_of_the_reference() {
    let args = parse("executor --genesis.file g.json --activation_epoch 1 --executor.mode executor_straggler");
    assert_eq!(args.command, ByzantineCommand::Executor);
    assert_eq!((args.behaviour.activation_epoch, args.behaviour.executor_mode), (1, ExecutorMode::Straggler));
    assert_eq!(args.behaviour.genesis.to_str(), Some("g.json"));
    assert!(!args.behaviour.primary_scheduler_expected && !args.behaviour.propose_bogus_tx);
    let args = parse(
        "executor --executor.primary_scheduler_expected --executor.propose_bogus_tx --storage.corrupt_get_diff \
         --fake_sgx=true --runtime_id 8000000000000000000000000000000000000000000000000000000000000001",
    );
    let behaviour = args.behaviour;
    assert!(behaviour.primary_scheduler_expected && behaviour.propose_bogus_tx && behaviour.fake_sgx);
    assert!(behaviour.corrupt_get_diff && !behaviour.fail_read_requests);
    assert_eq!(behaviour.executor_mode, ExecutorMode::Honest);
    assert!(behaviour.runtime_id.to_string().ends_with("01"));
    let args = parse("vrfbeacon --vrf_beacon_mode vrf_beacon_missing");
    assert_eq!((args.command, args.behaviour.beacon_mode), (ByzantineCommand::Vrfbeacon, BeaconMode::Missing));
    for mode in ["honest", "dishonest", "runaway", "straggler", "failure_indicating", "invalid_batch_hash"] {
        parse(&format!("executor --executor.mode executor_{mode}"));
    }
    assert!(Line::try_parse_from(["byzantine", "executor", "--executor.mode", "other"]).is_err());
}

/// What a test signs with.
struct Keys {
    key: SecretKey,
    chain: ChainContext,
    runtime: Namespace,
    blacklist: Blacklist,
    known: KnownSignatures,
}

impl Keys {
    fn new() -> Self {
        Self {
            key: SecretKey::from_seed(&[7; 32]),
            chain: ChainContext::parse(&"ab".repeat(32)).expect("a chain context"),
            runtime: Namespace::from_bytes_unchecked([3; 32]),
            blacklist: Blacklist::production(),
            known: KnownSignatures::default(),
        }
    }

    fn signer(&self) -> Signer<'_> {
        Signer { key: &self.key, chain: &self.chain, runtime: &self.runtime }
    }

    fn verifier(&self) -> Verifier<'_> {
        Verifier { chain: &self.chain, blacklist: &self.blacklist, known: &self.known }
    }
}

fn previous() -> Header {
    Header { round: 2, state_root: Hash::EMPTY, io_root: Hash::EMPTY, ..Header::default() }
}

#[test]
fn proposals_are_right_but_for_what_the_mode_wants() {
    let keys = Keys::new();
    let txs = [BOGUS.to_vec()];
    let proposal = keys.signer().propose(ExecutorMode::Honest, &previous(), &txs).expect("a proposal");
    assert!(proposal.verify(&keys.verifier(), &keys.runtime));
    assert_eq!((proposal.header.round, proposal.header.previous_hash), (3, previous().hash()));
    assert_eq!(proposal.batch, [wire_runtime::transaction::hash(BOGUS)]);
    assert_eq!(proposal.header.batch_hash, io_root(&txs, false).expect("a root"));
    let wrong = keys.signer().propose(ExecutorMode::InvalidBatchHash, &previous(), &txs).expect("a proposal");
    assert!(wrong.verify(&keys.verifier(), &keys.runtime));
    assert_ne!(wrong.header.batch_hash, proposal.header.batch_hash);
    let empty = keys.signer().propose(ExecutorMode::Honest, &previous(), &[]).expect("a proposal");
    assert_eq!(empty.header.batch_hash, Hash::EMPTY);
}

#[test]
fn commitments_are_valid_whatever_they_say() {
    let keys = Keys::new();
    let proposal = keys.signer().propose(ExecutorMode::Honest, &previous(), &[]).expect("a proposal");
    let rak = SecretKey::from_seed(&[9; 32]);
    let roots = (Hash::of(&[b"io"]), Hash::of(&[b"state"]));
    let done = keys.signer().commit(&proposal, Some(roots), Some(&rak)).expect("a commitment");
    done.validate_basic().expect("valid");
    assert!(done.verify(&keys.verifier(), &keys.runtime) && done.is_by_scheduler() && !done.indicates_failure());
    assert!(done.header.verify_rak(&keys.verifier(), &rak.public().into()));
    assert!(done.header.header.follows(&previous()));
    assert_eq!(done.header.header.messages_hash, Some(Hash::EMPTY));
    let failed = keys.signer().commit(&proposal, None, Some(&rak)).expect("a commitment");
    failed.validate_basic().expect("valid");
    assert!(failed.verify(&keys.verifier(), &keys.runtime) && failed.indicates_failure());
}

#[test]
fn liars_change_what_honest_nodes_do_not() {
    let honest = |transactions| state_changes(ExecutorMode::Honest, 2, transactions).expect("changes");
    let epoch = (vec![2], vec![0, 0, 0, 0, 0, 0, 0, 2]);
    assert_eq!(honest(0), std::slice::from_ref(&epoch));
    assert_eq!(honest(1), [epoch.clone(), (b"hello_key".to_vec(), b"hello_value".to_vec())]);
    let lie = state_changes(ExecutorMode::Dishonest, 2, 0).expect("changes");
    assert_eq!(lie, [epoch.clone(), (b"hello_key".to_vec(), b"wrong".to_vec())]);
    assert_eq!(state_changes(ExecutorMode::FailureIndicating, 2, 5).expect("changes"), [epoch]);
    assert!(state_changes(ExecutorMode::Honest, 2, 2).is_err());
}

#[test]
fn fake_evidence_is_bound_to_node_and_key() {
    let node = PublicKey::from(SecretKey::from_seed(&[1; 32]).public());
    let identity = format!("{}{}", "11".repeat(32), "22".repeat(32));
    let (rak, capabilities) =
        crate::enclave::fake(&node, &identity, SecretKey::from_seed(&[2; 32]), 1_700_000_000).expect("evidence");
    let tee = capabilities.tee.expect("a TEE");
    assert_eq!(tee.rak, rak.public().into());
    let attestation: SgxAttestation = cbor::from_slice(&tee.attestation.expect("evidence")).expect("an attestation");
    let body = attestation.quote.ias.expect("a report").body.expect("its text");
    let options = rt_tee::VerifyOptions { skip_avr_verify: true, allow_debug_enclaves: true, ..Default::default() };
    let report = rt_tee::ias::Report::parse_unverified(&body, &options).expect("a report");
    let quote = report.quote().expect("a quote");
    assert_eq!((quote.report.mr_enclave.as_bytes(), quote.report.mr_signer.as_bytes()), (&[0x11; 32], &[0x22; 32]));
    assert_eq!(quote.report.report_data[..32], rt_tee::hash_rak(&tee.rak));
    assert!(crate::enclave::fake(&node, "11", SecretKey::from_seed(&[2; 32]), 0).is_err());
}
