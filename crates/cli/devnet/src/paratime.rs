//! The ParaTime of a local network: its bundle and its descriptor.

use base_codec::Bytes;
use base_prims::{Hash, Namespace, PublicKey, Quantity, Version};
use rt_bundle::{Binary, Wrap};
use wire_consensus::registry::{
    Empty, ExecutorParameters, Runtime, RuntimeAdmissionPolicy, RuntimeGenesis, RuntimeGovernanceModel, RuntimeKind,
    RuntimeStakingParameters, StorageParameters, TxnSchedulerParameters, VersionInfo,
};

use crate::DevnetError;
use crate::plan::{ParaTime, Plan};

/// Version of the program, as it says itself.
const VERSION: Version = Version::new(0, 0, 0);
/// Version of the descriptor.
const DESCRIPTOR_VERSION: u16 = 3;
/// Blocks until a round times out.
const ROUND_TIMEOUT: i64 = 20;
/// How long a scheduler waits for a full batch, and others for a scheduler, in nanoseconds.
const BATCH_FLUSH_TIMEOUT: i64 = 1_000_000_000;
const PROPOSER_TIMEOUT: i64 = 2_000_000_000;
/// Most bytes of a round's transactions.
const MAX_BATCH_BYTES: u64 = 16 << 20;
/// Checkpoints that are kept, and bytes of a chunk.
const CHECKPOINTS_KEPT: u64 = 2;
const CHUNK_BYTES: u64 = 1 << 20;

/// The id of the ParaTime.
pub(crate) fn id() -> Namespace {
    let mut bytes = [0; 32];
    bytes[31] = 1;
    Namespace::from_bytes_unchecked(bytes)
}

/// Writes the bundle and gives the checksum of its manifest.
pub(crate) fn bundle(plan: &Plan, paratime: &ParaTime) -> Result<Hash, DevnetError> {
    let wrap = Wrap {
        runtime_id: id(),
        name: "devnet".to_owned(),
        version: Some(VERSION),
        binary: Binary::Elf(paratime.binary.clone()),
    };
    let wrong =
        |error: rt_bundle::Error| DevnetError::Bundle { path: paratime.binary.clone(), reason: error.to_string() };
    wrap.to_builder().map_err(wrong)?.write(&plan.bundle_file()).map_err(wrong)
}

/// The descriptor.
pub(crate) fn descriptor(paratime: &ParaTime, entity_id: PublicKey, bundle: Hash) -> Runtime {
    let backup = u16::from(paratime.computes >= 3);
    Runtime {
        v: DESCRIPTOR_VERSION,
        id: id(),
        entity_id,
        genesis: RuntimeGenesis { state_root: Hash::EMPTY, round: 0 },
        kind: RuntimeKind::COMPUTE,
        executor: ExecutorParameters {
            group_size: paratime.computes - backup,
            group_backup_size: backup,
            allowed_stragglers: 0,
            round_timeout: ROUND_TIMEOUT,
            max_messages: 128,
            ..ExecutorParameters::default()
        },
        txn_scheduler: TxnSchedulerParameters {
            batch_flush_timeout: BATCH_FLUSH_TIMEOUT,
            max_batch_size: paratime.max_batch_size,
            max_batch_size_bytes: MAX_BATCH_BYTES,
            max_in_messages: 128,
            proposer_timeout: PROPOSER_TIMEOUT,
        },
        storage: StorageParameters {
            checkpoint_interval: paratime.checkpoint_interval,
            checkpoint_num_kept: if paratime.checkpoint_interval > 0 { CHECKPOINTS_KEPT } else { 0 },
            checkpoint_chunk_size: if paratime.checkpoint_interval > 0 { CHUNK_BYTES } else { 0 },
        },
        admission_policy: RuntimeAdmissionPolicy { any_node: Some(Empty {}), ..RuntimeAdmissionPolicy::default() },
        staking: RuntimeStakingParameters {
            min_in_message_fee: Quantity::default(),
            ..RuntimeStakingParameters::default()
        },
        governance_model: RuntimeGovernanceModel::ENTITY,
        deployments: vec![Some(VersionInfo {
            version: VERSION,
            valid_from: 0,
            tee: None,
            bundle_checksum: Bytes(bundle.as_bytes().to_vec()),
        })],
        ..Runtime::default()
    }
}
