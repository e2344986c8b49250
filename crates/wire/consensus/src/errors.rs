//! The table of error codes: (module, code) pairs are wire data and enter block results.
//!
//! Source: the `errors.New` calls of the reference; `go/common/errors`. Never invent a code.

/// One coded error of the reference.
#[derive(Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// Module name: the codespace of a transaction result.
    pub module: &'static str,
    /// Code within the module.
    pub code: u32,
    /// Text that clients see.
    pub message: &'static str,
}

/// Module of errors without a code.
pub const UNKNOWN_MODULE: &str = "unknown";
/// Code of errors without a code.
pub const UNKNOWN_CODE: u32 = 1;

macro_rules! codes {
    ($(#[$doc:meta] $module:ident = $name:literal { $($id:ident = $code:literal, $message:literal;)* })*) => {
        $(
            #[$doc]
            pub mod $module {
                use super::ErrorCode;
                /// The module's name on the wire.
                pub const MODULE: &str = $name;
                $(
                    #[doc = $message]
                    pub const $id: ErrorCode = ErrorCode { module: $name, code: $code, message: $message };
                )*
            }
        )*
        /// Every error code.
        pub const ALL: &[&ErrorCode] = &[$($(&$module::$id,)*)*];
    };
}

codes! {
    /// Consensus backend.
    consensus = "consensus" {
        NO_COMMITTED_BLOCKS = 1, "consensus: no committed blocks";
        OVERSIZED_TX = 2, "consensus: oversized transaction";
        VERSION_NOT_FOUND = 3, "consensus: version not found";
        UNSUPPORTED = 4, "consensus: method not supported";
        DUPLICATE_TX = 5, "consensus: duplicate transaction";
        INVALID_ARGUMENT = 6, "consensus: invalid argument";
    }
    /// Transaction authentication.
    transaction = "consensus/transaction" {
        INVALID_NONCE = 1, "transaction: invalid nonce";
        INSUFFICIENT_FEE_BALANCE = 2, "transaction: insufficient balance to pay fees";
        GAS_PRICE_TOO_LOW = 3, "transaction: gas price too low";
        UPGRADE_PENDING = 4, "transaction: upgrade pending";
        METHOD_NOT_SUPPORTED = 5, "transaction: method not supported";
    }
    /// Staking.
    staking = "staking" {
        INVALID_ARGUMENT = 1, "staking: invalid argument";
        INVALID_SIGNATURE = 2, "staking: invalid signature";
        INSUFFICIENT_BALANCE = 3, "staking: insufficient balance";
        INSUFFICIENT_STAKE = 4, "staking: insufficient stake";
        FORBIDDEN = 5, "staking: forbidden by policy";
        INVALID_THRESHOLD = 6, "staking: invalid threshold";
        TOO_MANY_ALLOWANCES = 7, "staking: too many allowances";
        UNDER_MIN_DELEGATION = 8, "staking: amount is lower than the minimum delegation amount";
        UNDER_MIN_TRANSFER = 9, "staking: amount is lower than the minimum transfer amount";
        BALANCE_TOO_LOW = 10, "staking: balance too low";
        ALLOWANCE_GREATER_THAN_SUPPLY = 11, "staking: allowance greater than total supply";
    }
    /// Registry.
    registry = "registry" {
        INVALID_ARGUMENT = 1, "registry: invalid argument";
        INVALID_SIGNATURE = 2, "registry: invalid signature";
        BAD_ENTITY_FOR_NODE = 3, "registry: unknown entity in node registration";
        BAD_ENTITY_FOR_RUNTIME = 4, "registry: unknown entity in runtime registration";
        NO_ENCLAVE_FOR_RUNTIME = 5, "registry: no enclaves for TEE runtime registration";
        BAD_ENCLAVE_IDENTITY = 6, "registry: bad enclave id";
        BAD_CAPABILITIES_TEE_HARDWARE = 7, "registry: bad capabilities.TEE.Hardware";
        TEE_HARDWARE_MISMATCH = 8, "registry: runtime TEE.Hardware mismatches the one in registry";
        NO_SUCH_ENTITY = 9, "registry: no such entity";
        NO_SUCH_NODE = 10, "registry: no such node";
        NO_SUCH_RUNTIME = 11, "registry: no such runtime";
        INCORRECT_TX_SIGNER = 12, "registry: incorrect tx signer";
        NODE_EXPIRED = 13, "registry: node expired";
        NODE_CANNOT_BE_UNFROZEN = 14, "registry: node cannot be unfrozen yet";
        ENTITY_HAS_NODES = 15, "registry: entity still has nodes";
        FORBIDDEN = 16, "registry: forbidden by policy";
        NODE_UPDATE_NOT_ALLOWED = 17, "registry: node update not allowed";
        RUNTIME_UPDATE_NOT_ALLOWED = 18, "registry: runtime update not allowed";
        ENTITY_HAS_RUNTIMES = 19, "registry: entity still has runtimes";
    }
    /// Root hash.
    roothash = "roothash" {
        INVALID_ARGUMENT = 1, "roothash: invalid argument";
        NOT_FOUND = 2, "roothash: block not found";
        INVALID_RUNTIME = 3, "roothash: invalid runtime";
        NO_EXECUTOR_POOL = 4, "roothash: no executor pool";
        RUNTIME_SUSPENDED = 5, "roothash: runtime is suspended";
        NO_COMMITTEE = 6, "roothash: no committee";
        MAX_MESSAGES_TOO_BIG = 7, "roothash: max runtime messages is too big";
        RUNTIME_DOES_NOT_SLASH = 8, "roothash: runtime does not slash";
        DUPLICATE_EVIDENCE = 9, "roothash: duplicate evidence";
        INVALID_EVIDENCE = 10, "roothash: invalid evidence";
        INCOMING_MESSAGE_QUEUE_FULL = 11, "roothash: incoming message queue full";
        INCOMING_MESSAGE_INSUFFICIENT_FEE = 12, "roothash: insufficient fee";
        MAX_IN_MESSAGES_TOO_BIG = 13, "roothash: max incoming runtime messages is too big";
    }
    /// Commitments of the root hash service.
    commitment = "roothash/commitment" {
        NO_RUNTIME = 1, "roothash/commitment: no runtime configured";
        NO_COMMITTEE = 2, "roothash/commitment: no committee configured";
        INVALID_COMMITTEE_KIND = 3, "roothash/commitment: invalid committee kind";
        RAK_SIG_INVALID = 4, "roothash/commitment: batch RAK signature invalid";
        NOT_IN_COMMITTEE = 5, "roothash/commitment: node not part of committee";
        ALREADY_COMMITTED = 6, "roothash/commitment: node already sent commitment";
        NOT_BASED_ON_CORRECT_BLOCK = 7, "roothash/commitment: submitted commitment is not based on correct block";
        DISCREPANCY_DETECTED = 8, "roothash/commitment: discrepancy detected";
        STILL_WAITING = 9, "roothash/commitment: still waiting for commits";
        INSUFFICIENT_VOTES = 10, "roothash/commitment: insufficient votes to finalize discrepancy resolution round";
        BAD_EXECUTOR_COMMITMENT = 11, "roothash/commitment: bad executor commitment";
        INVALID_MESSAGES = 13, "roothash/commitment: invalid messages";
        TIMEOUT_NOT_CORRECT_ROUND = 15, "roothash/commitment: timeout not for correct round";
        INVALID_ROUND = 16, "roothash/commitment: invalid round";
        NO_SCHEDULER_COMMITMENT = 17, "roothash/commitment: no scheduler commitment";
        BAD_SCHEDULER_COMMITMENT = 18, "roothash/commitment: bad scheduler commitment";
    }
    /// Governance.
    governance = "governance" {
        INVALID_ARGUMENT = 1, "governance: invalid argument";
        UPGRADE_TOO_SOON = 2, "governance: upgrade too soon";
        UPGRADE_ALREADY_PENDING = 3, "governance: upgrade already pending";
        NO_SUCH_UPGRADE = 4, "governance: no such upgrade";
        NO_SUCH_PROPOSAL = 5, "governance: no such proposal";
        NOT_ELIGIBLE = 6, "governance: not eligible";
        VOTING_IS_CLOSED = 7, "governance: voting is closed";
    }
    /// Vault.
    vault = "vault" {
        INVALID_ARGUMENT = 1, "vault: invalid argument";
        NO_SUCH_VAULT = 2, "vault: no such vault";
        NO_SUCH_STATE = 3, "vault: no such state";
        INVALID_NONCE = 4, "vault: invalid nonce";
        FORBIDDEN = 5, "vault: forbidden";
        NO_SUCH_ACTION = 6, "vault: no such action";
        UNSUPPORTED_ACTION = 7, "vault: action not supported";
    }
    /// Beacon.
    beacon = "beacon" {
        INVALID_ARGUMENT = 1, "beacon: invalid argument";
        BEACON_NOT_AVAILABLE = 2, "beacon: random beacon not available";
    }
    /// Key manager.
    keymanager = "keymanager" {
        INVALID_ARGUMENT = 1, "keymanager: invalid argument";
        NO_SUCH_STATUS = 2, "keymanager: no such status";
        NO_SUCH_MASTER_SECRET = 3, "keymanager: no such master secret";
        NO_SUCH_EPHEMERAL_SECRET = 4, "keymanager: no such ephemeral secret";
    }
    /// Key manager CHURP.
    churp = "keymanager/churp" {
        NO_SUCH_STATUS = 1, "keymanager: churp: no such status";
    }
    /// Upgrades.
    upgrade = "upgrade" {
        STOP_FOR_UPGRADE = 1, "upgrade: reached upgrade epoch";
        ALREADY_PENDING = 5, "upgrade: submitted upgrade is already pending, can not resubmit descriptor";
        UPGRADE_IN_PROGRESS = 6, "upgrade: can not cancel upgrade in progress";
        UPGRADE_NOT_FOUND = 7, "upgrade: not found";
        BAD_DESCRIPTOR = 8, "upgrade: bad descriptor";
    }
    /// Checkpoints.
    checkpoint = "storage/mkvs/checkpoint" {
        NOT_FOUND = 1, "checkpoint: not found";
        CHUNK_NOT_FOUND = 2, "checkpoint: chunk not found";
        RESTORE_ALREADY_IN_PROGRESS = 3, "checkpoint: restore already in progress";
        NO_RESTORE_IN_PROGRESS = 4, "checkpoint: no restore in progress";
        CHUNK_ALREADY_RESTORED = 5, "checkpoint: chunk already restored";
        CHUNK_PROOF_VERIFICATION_FAILED = 6, "chunk: chunk proof verification failed";
        CHUNK_CORRUPTED = 7, "chunk: corrupted chunk";
    }
    /// Clients of runtimes: `go/runtime/client/api`.
    runtime_client = "runtime/client" {
        NOT_FOUND = 1, "client: not found";
        INTERNAL = 2, "client: internal error";
        TRANSACTION_EXPIRED = 3, "client: transaction expired";
        NOT_SYNCED = 4, "client: not finished initial sync";
        CHECK_TX_FAILED = 5, "client: transaction check failed";
        NO_HOSTED_RUNTIME = 6, "client: no hosted runtime is available";
    }
    /// The storage worker: `go/worker/storage/api`.
    worker_storage = "worker/storage" {
        RUNTIME_NOT_FOUND = 1, "worker/storage: runtime not found";
        CANT_PAUSE_CHECKPOINTER = 2, "worker/storage: pausing checkpointer only available in debug mode";
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique() {
        let set: BTreeSet<_> = ALL.iter().map(|e| (e.module, e.code)).collect();
        assert_eq!(set.len(), ALL.len());
    }
}
