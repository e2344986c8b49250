//! Blocks: everything in them decodes, encodes to the same bytes, and every signature and proof verifies.

use std::collections::BTreeMap;

use base_codec::cbor;
use base_crypto::blacklist::{self, Blacklist};
use base_crypto::context::{self, ChainContext};
use base_crypto::vrf;
use base_prims::{Epoch, Namespace, PublicKey};
use dev_testkit::chains::{Chain, RecordedBlock};
use wire_cometbft::abci::AbciResponses;
use wire_cometbft::block::{Block, Commit, Header};
use wire_cometbft::evidence::{Evidence, EvidenceSum};
use wire_cometbft::validators::ValidatorSet;
use wire_consensus::entity::{self, Entity};
use wire_consensus::keymanager::SignedInitResponse;
use wire_consensus::node::{self, Node};
use wire_consensus::roothash::Verifier;
use wire_consensus::signed::{MultiSigned, Signed};
use wire_consensus::transaction::{SignedTransaction, Transaction};
use wire_consensus::{beacon, churp, keymanager, registry, roothash};

use super::super::Counts;
use super::super::bodies::{Body, Checked, decode, decode_exactly, same_bytes};
use super::{genesis, message, state, stated};

/// Name of the test key with which key managers outside of enclaves sign.
const INSECURE_RAK: &str = "ekiden test key manager RAK seed";

/// What the blocks so far say about those to come.
struct World {
    context: ChainContext,
    /// First 50 characters of the context.
    chain_id: String,
    /// VRF keys by node.
    vrf_keys: BTreeMap<PublicKey, PublicKey>,
    /// VRF input by epoch.
    alphas: BTreeMap<Epoch, Vec<u8>>,
    /// Validator sets by height.
    validators: BTreeMap<i64, ValidatorSet>,
    /// Enclave keys by node and runtime.
    raks: BTreeMap<(PublicKey, Namespace), PublicKey>,
    methods: BTreeMap<String, u64>,
    failed: u64,
}

pub(super) fn first_header(chain: &Chain) -> Checked<Header> {
    let blocks = chain.blocks().map_err(|e| e.to_string())?;
    let first = blocks.first().ok_or("no blocks")?;
    Ok(message::<Block>("block", &first.block)?.header)
}

/// App hash in the header of each height.
pub(super) fn app_hashes(chain: &Chain) -> Checked<BTreeMap<u64, Vec<u8>>> {
    let blocks = chain.blocks().map_err(|e| e.to_string())?;
    let header = |b: &RecordedBlock| Ok((b.height, message::<Block>("block", &b.block)?.header.app_hash));
    blocks.iter().map(header).collect()
}

pub(super) fn check(chain: &Chain, counts: &mut Counts) -> Checked<()> {
    let (document, context) = genesis(chain)?;
    let mut world = World {
        chain_id: context.as_str()[..50].to_owned(),
        context,
        vrf_keys: BTreeMap::new(),
        alphas: state::vrf_inputs(chain)?,
        validators: BTreeMap::new(),
        raks: BTreeMap::new(),
        methods: BTreeMap::new(),
        failed: 0,
    };
    for signed in &document.registry.nodes {
        world.take_node(signed, counts).map_err(|e| format!("node in genesis: {e}"))?;
    }
    let runtimes = document.registry.runtimes.iter().chain(&document.registry.suspended_runtimes);
    counts.add_many("runtime_descriptors", runtimes.count() as u64);
    for signed in &document.registry.entities {
        check_entity(signed, counts).map_err(|e| format!("entity in genesis: {e}"))?;
    }
    let blocks = chain.blocks().map_err(|e| e.to_string())?;
    for recorded in &blocks {
        world.block(recorded, counts).map_err(|e| format!("height {}: {e}", recorded.height))?;
    }
    if let Some(stated) = stated(chain)? {
        let transactions = world.methods.values().sum::<u64>();
        let ours = (blocks.len() as u64, transactions, world.failed);
        let theirs = (stated.blocks, stated.transactions, stated.failed);
        if ours != theirs {
            return Err(format!("blocks, transactions and failed are {ours:?}, stated {theirs:?}"));
        }
        let methods: BTreeMap<String, u64> = stated.methods.into_iter().collect();
        if methods != world.methods {
            return Err(format!("methods are {:?}, stated {methods:?}", world.methods));
        }
        counts.add("chains_as_stated");
    }
    Ok(())
}

/// Outside of enclaves key managers sign with a well-known key.
fn insecure_rak() -> PublicKey {
    PublicKey::new(blacklist::test_key(INSECURE_RAK).public())
}

fn check_entity(signed: &Signed, counts: &mut Counts) -> Checked<()> {
    let entity: Entity = signed.open(entity::REGISTER_CONTEXT, None).map_err(|e| e.to_string())?;
    same_bytes("entity descriptor", &cbor::to_vec(&entity), signed.blob())?;
    counts.add("entity_descriptors");
    counts.add("signatures");
    Ok(())
}

impl World {
    fn block(&mut self, recorded: &RecordedBlock, counts: &mut Counts) -> Checked<()> {
        let block: Block = message("block", &recorded.block)?;
        block.validate_basic().map_err(|e| e.to_string())?;
        same_bytes("block hash", &block.hash().ok_or("the header has no hash")?, &recorded.hash)?;
        if block.header.chain_id != self.chain_id {
            return Err(format!("chain id is {}, expected {}", block.header.chain_id, self.chain_id));
        }
        let validators: ValidatorSet = message("validator set", &recorded.validators)?;
        same_bytes("validators hash", &validators.hash(), &block.header.validators_hash)?;
        let height = block.header.height;
        if let (Some(commit), Some(last)) = (&block.last_commit, self.validators.get(&(height - 1))) {
            self.commit(commit, last, counts).map_err(|e| format!("last commit: {e}"))?;
        }
        for evidence in &block.evidence.evidence {
            self.evidence(evidence, counts).map_err(|e| format!("evidence: {e}"))?;
        }
        let seen: Commit = message("seen commit", &recorded.seen_commit)?;
        self.commit(&seen, &validators, counts).map_err(|e| format!("seen commit: {e}"))?;
        let results: AbciResponses = message("results", &recorded.abci_responses)?;
        if results.deliver_txs.len() != block.data.txs.len() {
            return Err(format!("{} results of {} transactions", results.deliver_txs.len(), block.data.txs.len()));
        }
        for (index, (raw, result)) in block.data.txs.iter().zip(&results.deliver_txs).enumerate() {
            let succeeded = result.code == 0;
            self.failed += u64::from(!succeeded);
            self.transaction(raw, succeeded, counts).map_err(|e| format!("transaction {index}: {e}"))?;
        }
        self.validators.insert(height, validators);
        counts.add("blocks");
        Ok(())
    }

    /// Verifies every vote of a commit.
    fn commit(&self, commit: &Commit, validators: &ValidatorSet, counts: &mut Counts) -> Checked<()> {
        if commit.signatures.len() != validators.validators.len() {
            return Err(format!("{} entries, {} validators", commit.signatures.len(), validators.validators.len()));
        }
        for (index, (entry, validator)) in commit.signatures.iter().zip(&validators.validators).enumerate() {
            if entry.is_absent() {
                continue;
            }
            same_bytes("validator address", &entry.validator_address, &validator.address)?;
            let key = validator.pub_key.as_ed25519().ok_or("the validator's key is not Ed25519")?;
            let bytes = commit.sign_bytes(&self.chain_id, index).ok_or("no such entry")?;
            check_vote(&key, &bytes, &entry.signature, counts).map_err(|e| format!("entry {index}: {e}"))?;
        }
        Ok(())
    }

    /// Verifies both votes of a double vote.
    fn evidence(&self, evidence: &Evidence, counts: &mut Counts) -> Checked<()> {
        let Some(EvidenceSum::DuplicateVote(double)) = &evidence.sum else {
            return Err("of a kind that cannot be judged".into());
        };
        let (a, b) = double.votes().map_err(|e| e.to_string())?;
        for vote in [a, b] {
            let set = self.validators.get(&vote.height).ok_or("for an unknown height")?;
            let voter = set.validators.iter().find(|v| v.address == vote.validator_address);
            let key = voter.and_then(|v| v.pub_key.as_ed25519()).ok_or("by no validator of its height")?;
            check_vote(&key, &vote.sign_bytes(&self.chain_id), &vote.signature, counts)?;
        }
        counts.add("evidence");
        Ok(())
    }

    fn take_node(&mut self, signed: &MultiSigned, counts: &mut Counts) -> Checked<Node> {
        let node: Node = signed.open(node::REGISTER_CONTEXT, None).map_err(|e| e.to_string())?;
        same_bytes("node descriptor", &cbor::to_vec(&node), signed.blob())?;
        self.vrf_keys.insert(node.id, node.vrf.id);
        for runtime in node.runtimes() {
            let rak = match &runtime.capabilities.tee {
                Some(tee) => tee.rak,
                None => insecure_rak(),
            };
            self.raks.insert((node.id, runtime.id), rak);
            // Only key managers register with more, their initialization response.
            if let Some(extra) = &runtime.extra_info {
                let response: SignedInitResponse = decode_exactly("initialization response", extra)?;
                let verified = response.verify(&rak, &Blacklist::allowing_test_keys());
                check_rak(verified.is_ok(), counts).map_err(|e| format!("initialization response: {e}"))?;
            }
        }
        counts.add("node_descriptors");
        counts.add_many("signatures", signed.signatures().len() as u64);
        Ok(node)
    }

    fn transaction(&mut self, raw: &[u8], succeeded: bool, counts: &mut Counts) -> Checked<()> {
        let signed: SignedTransaction = decode_exactly("signed transaction", raw)?;
        let transaction = signed.open(&self.context).map_err(|e| e.to_string())?;
        same_bytes("transaction", &cbor::to_vec(&transaction), signed.0.blob())?;
        counts.add("transactions");
        counts.add("signatures");
        *self.methods.entry(transaction.method.clone()).or_insert(0) += 1;
        Body::of(&transaction.method)?.check(transaction.body.as_slice())?;
        self.content(&transaction, signed.signer(), succeeded, counts)
            .map_err(|e| format!("{}: {e}", transaction.method))
    }

    /// Signatures and proofs inside of bodies.
    fn content(&mut self, tx: &Transaction, signer: PublicKey, succeeded: bool, counts: &mut Counts) -> Checked<()> {
        let body = tx.body.as_slice();
        // Test networks use the registered test keys; reserved keys stay refused.
        let refused = Blacklist::allowing_test_keys();
        let known = wire_consensus::known::KnownSignatures::default();
        let verifier = Verifier { chain: &self.context, blacklist: &refused, known: &known };
        match tx.method.as_str() {
            registry::METHOD_REGISTER_ENTITY => check_entity(&decode(body)?, counts)?,
            registry::METHOD_REGISTER_NODE => {
                self.take_node(&decode(body)?, counts)?;
            }
            roothash::METHOD_EXECUTOR_COMMIT => {
                let commit: roothash::ExecutorCommit = decode(body)?;
                for commitment in commit.commits.iter().flatten() {
                    if !commitment.verify(&verifier, &commit.id) {
                        return Err(format!("the commitment of {} does not verify", commitment.node_id));
                    }
                    counts.add("executor_commitments");
                    counts.add("signatures");
                    if commitment.header.rak_signature.is_some() {
                        let rak = self.rak(commitment.node_id, commit.id)?;
                        check_rak(commitment.header.verify_rak(&verifier, &rak), counts)?;
                    }
                }
            }
            beacon::METHOD_VRF_PROVE => self.vrf_proof(&decode(body)?, signer, succeeded, counts)?,
            roothash::METHOD_EVIDENCE => {
                let evidence: roothash::Evidence = decode(body)?;
                evidence.validate_basic(&verifier).map_err(|e| e.to_string())?;
                counts.add_many("signatures", 2);
            }
            registry::METHOD_REGISTER_RUNTIME => counts.add("runtime_descriptors"),
            _ => self.enclave_content(tx, signer, counts)?,
        }
        Ok(())
    }

    /// Policies of key managers, and what their enclaves sign.
    fn enclave_content(&self, tx: &Transaction, signer: PublicKey, counts: &mut Counts) -> Checked<()> {
        let body = tx.body.as_slice();
        // Test networks use the registered test keys; reserved keys stay refused.
        let refused = Blacklist::allowing_test_keys();
        match tx.method.as_str() {
            keymanager::METHOD_UPDATE_POLICY => {
                let policy: keymanager::SignedPolicySgx = decode(body)?;
                policy.verify(None, &refused).map_err(|e| e.to_string())?;
                counts.add_many("signatures", policy.signatures.map_or(0, |s| s.len() as u64));
            }
            keymanager::METHOD_PUBLISH_MASTER_SECRET => {
                let signed: keymanager::SignedEncryptedMasterSecret = decode(body)?;
                let rak = self.rak(signer, signed.secret.id)?;
                let raw = cbor::to_vec(&signed.secret);
                let (context, signature) = (&context::KEYMANAGER_MASTER_SECRET, signed.signature.as_bytes());
                check_rak(keymanager::verify_raw(&rak, context, &raw, signature, &refused), counts)?;
            }
            keymanager::METHOD_PUBLISH_EPHEMERAL_SECRET => {
                let signed: keymanager::SignedEncryptedEphemeralSecret = decode(body)?;
                let rak = self.rak(signer, signed.secret.id)?;
                let raw = cbor::to_vec(&signed.secret);
                let (context, signature) = (&context::KEYMANAGER_EPHEMERAL_SECRET, signed.signature.as_bytes());
                check_rak(keymanager::verify_raw(&rak, context, &raw, signature, &refused), counts)?;
            }
            churp::METHOD_CREATE => {
                let request: churp::CreateRequest = decode(body)?;
                request.policy.verify(None, &refused).map_err(|e| e.to_string())?;
                counts.add_many("signatures", request.policy.signatures.len() as u64);
            }
            churp::METHOD_APPLY => {
                let request: churp::SignedApplicationRequest = decode(body)?;
                let rak = self.rak(signer, request.application.identity.runtime_id)?;
                check_rak(request.verify_rak(&rak, &refused).is_ok(), counts)?;
            }
            churp::METHOD_CONFIRM => {
                let request: churp::SignedConfirmationRequest = decode(body)?;
                let rak = self.rak(signer, request.confirmation.identity.runtime_id)?;
                check_rak(request.verify_rak(&rak, &refused).is_ok(), counts)?;
            }
            // No signature or proof inside.
            _ => {}
        }
        Ok(())
    }

    /// With which key the node's enclave signs.
    fn rak(&self, node: PublicKey, runtime: Namespace) -> Checked<PublicKey> {
        let key = self.raks.get(&(node, runtime)).copied();
        key.ok_or_else(|| format!("{node} is not registered for runtime {runtime}"))
    }

    /// A proof verifies for its epoch's input; one that the network refused for an epoch without input cannot.
    fn vrf_proof(&self, body: &beacon::VrfProve, signer: PublicKey, ok: bool, counts: &mut Counts) -> Checked<()> {
        let Some(alpha) = self.alphas.get(&body.epoch) else {
            if ok {
                return Err(format!("accepted, but there is no input for epoch {}", body.epoch));
            }
            counts.add("vrf_proofs_without_input_refused");
            return Ok(());
        };
        let proof: &[u8; 80] =
            body.pi.as_ref().and_then(|pi| pi.as_slice().try_into().ok()).ok_or("the proof is not 80 bytes")?;
        let key = self.vrf_keys.get(&signer).ok_or_else(|| format!("{signer} is no known node"))?;
        if vrf::verify(key.as_bytes(), alpha, proof).is_none() {
            return Err("the proof does not verify".into());
        }
        counts.add("vrf_proofs");
        Ok(())
    }
}

fn check_vote(key: &[u8; 32], sign_bytes: &[u8], signature: &[u8], counts: &mut Counts) -> Checked<()> {
    let signature = signature.try_into().map_err(|_| "a signature is not 64 bytes".to_owned())?;
    if context::verify_with_context(key, &context::COMETBFT, None, None, sign_bytes, signature) != Ok(true) {
        return Err("the vote does not verify".into());
    }
    counts.add("votes");
    Ok(())
}

fn check_rak(verifies: bool, counts: &mut Counts) -> Checked<()> {
    if !verifies {
        return Err("the enclave's signature does not verify".into());
    }
    counts.add("signatures");
    Ok(())
}
