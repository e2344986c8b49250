//! The calls into the enclave that concern secrets, each with what follows from its answer.

use base_metrics::table;
use base_prims::Epoch;
use wire_consensus::keymanager::rpc::{
    GenerateEphemeralSecretRequest, GenerateEphemeralSecretResponse, GenerateMasterSecretRequest,
    GenerateMasterSecretResponse, InitRequest, LoadEphemeralSecretRequest, LoadMasterSecretRequest,
    METHOD_GENERATE_EPHEMERAL_SECRET, METHOD_GENERATE_MASTER_SECRET, METHOD_INIT, METHOD_LOAD_EPHEMERAL_SECRET,
    METHOD_LOAD_MASTER_SECRET,
};
use wire_consensus::keymanager::{
    METHOD_PUBLISH_EPHEMERAL_SECRET, METHOD_PUBLISH_MASTER_SECRET, SignedEncryptedEphemeralSecret,
    SignedEncryptedMasterSecret, SignedInitResponse, Status,
};
use wire_runtime::Empty;

use super::{Hex, MODULE};
use crate::shared::{Shared, TaskError};

/// Tells the enclave the status; it replicates the secrets that it lacks, which takes its time.
pub(super) async fn init(shared: &Shared, status: &Status) -> Result<SignedInitResponse, TaskError> {
    tracing::info!(module = MODULE, "initializing key manager enclave");
    let request = InitRequest { status: status.clone() };
    let answer: SignedInitResponse = shared.local(METHOD_INIT, &request).await?;
    answer.verify(&shared.attestation_key()?, &shared.blacklist)?;
    let response = &answer.init_response;
    if !response.is_secure {
        tracing::warn!(module = MODULE, "key manager enclave build is INSECURE");
    }
    tracing::info!(module = MODULE, is_secure = response.is_secure, checksum = %Hex(response.checksum()),
        next_checksum = %Hex(response.next_checksum()), policy_checksum = %Hex(response.policy_checksum()),
        "key manager enclave initialized");
    let label = [shared.label.as_str()];
    table::WORKER_KEYMANAGER_ENCLAVE_MASTER_SECRET_GENERATION_NUMBER.with(&label).set(status.generation as f64);
    let mut known = shared.secrets.lock();
    if known.worker.policy_checksum.as_ref().map_or(&[][..], |known| known.as_slice()) != response.policy_checksum() {
        table::WORKER_KEYMANAGER_POLICY_UPDATE_COUNT.with(&label).inc();
    }
    known.worker.policy = status.policy.clone();
    known.worker.policy_checksum = response.policy_checksum.clone();
    drop(known);
    Ok(answer)
}

/// Has the enclave make the next master secret, to be accepted at `epoch`, and proposes it.
pub(super) async fn make_master(shared: &Shared, status: &Status, epoch: Epoch) -> Result<(), TaskError> {
    let generation = status.next_generation();
    tracing::info!(module = MODULE, generation, epoch, "generating master secret");
    let request = GenerateMasterSecretRequest { generation, epoch };
    let answer: GenerateMasterSecretResponse = shared.local(METHOD_GENERATE_MASTER_SECRET, &request).await?;
    let (rak, reks) = (shared.attestation_key()?, shared.encryption_keys(status.nodes())?);
    answer.signed_secret.verify(generation, epoch, &reks, &rak, &shared.blacklist)?;
    shared.submission.submit(&shared.node_key, METHOD_PUBLISH_MASTER_SECRET, &answer.signed_secret).await?;
    let label = [shared.label.as_str()];
    table::WORKER_KEYMANAGER_ENCLAVE_GENERATED_MASTER_SECRET_GENERATION_NUMBER.with(&label).set(generation as f64);
    table::WORKER_KEYMANAGER_ENCLAVE_GENERATED_MASTER_SECRET_EPOCH_NUMBER.with(&label).set(epoch as f64);
    let stats = &mut shared.secrets.lock().worker.master_secrets;
    stats.num_generated += 1;
    stats.last_generated = generation;
    Ok(())
}

/// Has the enclave make the ephemeral secret of an epoch and publishes it.
pub(super) async fn make_ephemeral(shared: &Shared, status: &Status, epoch: Epoch) -> Result<(), TaskError> {
    tracing::info!(module = MODULE, epoch, "generating ephemeral secret");
    let request = GenerateEphemeralSecretRequest { epoch };
    let answer: GenerateEphemeralSecretResponse = shared.local(METHOD_GENERATE_EPHEMERAL_SECRET, &request).await?;
    let (rak, reks) = (shared.attestation_key()?, shared.encryption_keys(status.nodes())?);
    answer.signed_secret.verify(epoch, &reks, &rak, &shared.blacklist)?;
    shared.submission.submit(&shared.node_key, METHOD_PUBLISH_EPHEMERAL_SECRET, &answer.signed_secret).await?;
    let label = [shared.label.as_str()];
    table::WORKER_KEYMANAGER_ENCLAVE_GENERATED_EPHEMERAL_SECRET_EPOCH_NUMBER.with(&label).set(epoch as f64);
    let stats = &mut shared.secrets.lock().worker.ephemeral_secrets;
    stats.num_generated += 1;
    stats.last_generated = epoch;
    Ok(())
}

/// Hands a proposed master secret to the enclave.
pub(super) async fn load_master(shared: &Shared, secret: &SignedEncryptedMasterSecret) -> Result<(), TaskError> {
    let (generation, epoch) = (secret.secret.generation, secret.secret.epoch);
    tracing::info!(module = MODULE, generation, epoch, "loading master secret");
    let request = LoadMasterSecretRequest { signed_secret: secret.clone() };
    let _: Option<Empty> = shared.local(METHOD_LOAD_MASTER_SECRET, &request).await?;
    let label = [shared.label.as_str()];
    table::WORKER_KEYMANAGER_ENCLAVE_MASTER_SECRET_PROPOSAL_GENERATION_NUMBER.with(&label).set(generation as f64);
    table::WORKER_KEYMANAGER_ENCLAVE_MASTER_SECRET_PROPOSAL_EPOCH_NUMBER.with(&label).set(epoch as f64);
    let stats = &mut shared.secrets.lock().worker.master_secrets;
    stats.num_loaded += 1;
    stats.last_loaded = generation;
    Ok(())
}

/// Hands an ephemeral secret to the enclave.
pub(super) async fn load_ephemeral(shared: &Shared, secret: &SignedEncryptedEphemeralSecret) -> Result<(), TaskError> {
    let epoch = secret.secret.epoch;
    tracing::info!(module = MODULE, epoch, "loading ephemeral secret");
    let request = LoadEphemeralSecretRequest { signed_secret: secret.clone() };
    let _: Option<Empty> = shared.local(METHOD_LOAD_EPHEMERAL_SECRET, &request).await?;
    let label = [shared.label.as_str()];
    table::WORKER_KEYMANAGER_ENCLAVE_EPHEMERAL_SECRET_EPOCH_NUMBER.with(&label).set(epoch as f64);
    let stats = &mut shared.secrets.lock().worker.ephemeral_secrets;
    stats.num_loaded += 1;
    stats.last_loaded = epoch;
    Ok(())
}
