//! Who may query and replicate secrets: policies, and whose signatures they need.
//!
//! Source: `keymanager/src/policy`.

use std::collections::{BTreeMap, BTreeSet};

use base_codec::cbor;
use base_crypto::{
    blacklist::{Blacklist, test_key},
    context,
    hash::sha3_256,
};
use base_prims::{Namespace, PublicKey};
use parking_lot::RwLock;
use rt_guest::tee::Tee;
use rt_tee::{EnclaveIdentity, MrEnclave, MrSigner};
use wire_consensus::{
    churp,
    keymanager::{SignedPolicySgx, verify_raw},
    signed::Signature,
    tee,
};

use crate::KeyManagerError;

/// Names of the keys that sign policies of test networks.
const TEST_SIGNERS: [&str; 3] = [
    "ekiden key manager test multisig key 0",
    "ekiden key manager test multisig key 1",
    "ekiden key manager test multisig key 2",
];

/// Whose signatures a policy needs, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedSigners {
    /// The keys.
    pub signers: BTreeSet<PublicKey>,
    /// How many of them.
    pub threshold: u64,
}

impl TrustedSigners {
    /// Signers of test networks, whose secret keys everybody knows.
    pub fn test() -> Self {
        let signers = TEST_SIGNERS.iter().map(|name| PublicKey::new(test_key(name).public())).collect();
        Self { signers, threshold: 2 }
    }

    fn check(&self, signatures: &[Signature]) -> Result<(), KeyManagerError> {
        let signed: BTreeSet<PublicKey> = signatures.iter().map(|s| s.public_key).collect();
        let trusted = self.signers.intersection(&signed).count();
        if u64::try_from(trusted).is_ok_and(|trusted| trusted >= self.threshold) {
            Ok(())
        } else {
            Err(KeyManagerError::InsufficientSignatures)
        }
    }

    /// Verifies a policy's signatures, that there are enough, and that it is that key manager's.
    ///
    /// # Errors
    /// If it is not.
    pub fn verify(&self, policy: &SignedPolicySgx, key_manager: &Namespace) -> Result<(), KeyManagerError> {
        let verified = policy.verify(None, &Blacklist::allowing_test_keys());
        verified.map_err(|e| KeyManagerError::InvalidSignature(e.to_string()))?;
        self.check(policy.signatures.as_deref().unwrap_or_default())?;
        if policy.policy.id == *key_manager { Ok(()) } else { Err(KeyManagerError::PolicyInvalidRuntime) }
    }

    /// As [`TrustedSigners::verify`] for a secret sharing instance, whose policies the consensus layer keeps in order.
    ///
    /// # Errors
    /// If the policy does not hold.
    pub fn verify_churp(&self, policy: &churp::SignedPolicySgx) -> Result<(), KeyManagerError> {
        let (raw, blacklist) = (cbor::to_vec(&policy.policy), Blacklist::allowing_test_keys());
        for s in &policy.signatures {
            if !verify_raw(&s.public_key, &context::CHURP_POLICY, &raw, s.signature.as_bytes(), &blacklist) {
                return Err(KeyManagerError::InvalidSignature(format!("by {}", s.public_key)));
            }
        }
        self.check(&policy.signatures)
    }
}

/// The two types of one shape, as the one that quotes give.
pub(crate) fn identity(id: &tee::EnclaveIdentity) -> EnclaveIdentity {
    EnclaveIdentity {
        mr_enclave: MrEnclave::new(*id.mr_enclave.as_bytes()),
        mr_signer: MrSigner::new(*id.mr_signer.as_bytes()),
    }
}

/// What a policy says about one enclave of the key manager.
#[derive(Clone, Debug, Default)]
struct Rules {
    serial: u32,
    checksum: [u8; 32],
    may_query: BTreeMap<Namespace, BTreeSet<EnclaveIdentity>>,
    may_replicate: BTreeSet<EnclaveIdentity>,
    may_replicate_from: BTreeSet<EnclaveIdentity>,
}

impl Rules {
    fn new(signed: &SignedPolicySgx, own: Option<&EnclaveIdentity>) -> Self {
        let checksum = sha3_256(&[&cbor::to_vec(signed)]);
        let mut rules = Self { serial: signed.policy.serial, checksum, ..Self::default() };
        let Some(own) = own else { return rules };
        for (id, enclave) in signed.policy.enclaves.iter().flatten() {
            let Some(enclave) = enclave else { continue };
            let may_replicate = || enclave.may_replicate.iter().flatten().map(identity);
            if identity(id) == *own {
                rules.may_replicate.extend(may_replicate());
                for (runtime, enclaves) in enclave.may_query.iter().flatten() {
                    rules.may_query.insert(*runtime, enclaves.iter().flatten().map(identity).collect());
                }
            }
            if may_replicate().any(|id| id == *own) {
                rules.may_replicate_from.insert(identity(id));
            }
        }
        rules
    }
}

/// The policy in force.
#[derive(Debug)]
pub struct Policy {
    signers: TrustedSigners,
    own: Option<EnclaveIdentity>,
    key_manager: Namespace,
    rules: RwLock<Option<Rules>>,
}

impl Policy {
    /// No policy yet, for a key manager in this TEE.
    ///
    /// Outside of a TEE nobody has an identity that a policy could name, and nothing is secret: everybody may do
    /// everything.
    pub fn new(signers: TrustedSigners, tee: &Tee, key_manager: Namespace) -> Self {
        Self { signers, own: tee.enclave().copied(), key_manager, rules: RwLock::new(None) }
    }

    /// Whether policies decide anything here.
    pub fn is_enforced(&self) -> bool {
        self.own.is_some()
    }

    /// Takes a published policy, and the one that follows if there is one. Returns the checksum to register with, which
    /// is that of the last of them; empty without a policy.
    ///
    /// # Errors
    /// If there is none although there must be, it is not signed as it must, or it is older.
    pub fn init(
        &self,
        policy: Option<&SignedPolicySgx>,
        next: Option<&SignedPolicySgx>,
    ) -> Result<Vec<u8>, KeyManagerError> {
        let Some(policy) = policy else {
            return if self.is_enforced() { Err(KeyManagerError::PolicyRequired) } else { Ok(Vec::new()) };
        };
        self.signers.verify(policy, &self.key_manager)?;
        let new = Rules::new(policy, self.own.as_ref());
        let mut rules = self.rules.write();
        if let Some(old) = rules.as_ref() {
            if old.serial > new.serial {
                return Err(KeyManagerError::PolicyRollback);
            }
            if old.serial == new.serial && old.checksum != new.checksum {
                return Err(KeyManagerError::PolicyChanged);
            }
        }
        let mut checksum = new.checksum;
        if let Some(next) = next {
            self.signers.verify(next, &self.key_manager)?;
            if next.policy.serial <= new.serial {
                return Err(KeyManagerError::PolicyRollback);
            }
            checksum = Rules::new(next, None).checksum;
        }
        *rules = Some(new);
        Ok(checksum.to_vec())
    }

    /// Whether a caller may have private keys of a runtime.
    ///
    /// # Errors
    /// If not.
    pub fn may_query(&self, caller: Option<&EnclaveIdentity>, runtime: &Namespace) -> Result<(), KeyManagerError> {
        self.allow(caller, |rules, caller| rules.may_query.get(runtime).is_some_and(|ids| ids.contains(caller)))
    }

    /// Whether a caller may have the secrets themselves. This very enclave always may.
    ///
    /// # Errors
    /// If not.
    pub fn may_replicate(&self, caller: Option<&EnclaveIdentity>) -> Result<(), KeyManagerError> {
        if caller.is_some() && caller == self.own.as_ref() {
            return Ok(());
        }
        self.allow(caller, |rules, caller| rules.may_replicate.contains(caller))
    }

    fn allow(
        &self,
        caller: Option<&EnclaveIdentity>,
        rule: impl FnOnce(&Rules, &EnclaveIdentity) -> bool,
    ) -> Result<(), KeyManagerError> {
        if !self.is_enforced() {
            return Ok(());
        }
        let caller = caller.ok_or(KeyManagerError::NotAuthenticated)?;
        let allowed = self.rules.read().as_ref().is_some_and(|rules| rule(rules, caller));
        if allowed { Ok(()) } else { Err(KeyManagerError::NotAuthorized) }
    }

    /// Enclaves that secrets are replicated from; `None` allows all.
    pub fn may_replicate_from(&self) -> Option<BTreeSet<EnclaveIdentity>> {
        let own = self.own?;
        let mut ids = self.rules.read().as_ref().map(|rules| rules.may_replicate_from.clone()).unwrap_or_default();
        ids.insert(own);
        Some(ids)
    }
}

#[cfg(test)]
mod tests {
    use rt_tee::TEST_MR_SIGNER;
    use wire_consensus::keymanager::{EnclavePolicySgx, PolicySgx};

    use super::*;

    const KM: Namespace = Namespace::from_bytes_unchecked([7; 32]);
    const RUNTIME: Namespace = Namespace::from_bytes_unchecked([8; 32]);

    fn enclave(n: u8) -> EnclaveIdentity {
        EnclaveIdentity { mr_enclave: MrEnclave::new([n; 32]), mr_signer: TEST_MR_SIGNER }
    }

    fn wire(n: u8) -> tee::EnclaveIdentity {
        tee::EnclaveIdentity {
            mr_enclave: tee::MrEnclave::new([n; 32]),
            mr_signer: tee::MrSigner::new(*TEST_MR_SIGNER.as_bytes()),
        }
    }

    fn signed(serial: u32, signers: &[&str]) -> SignedPolicySgx {
        let own = EnclavePolicySgx {
            may_query: Some([(RUNTIME, Some(vec![wire(3)]))].into()),
            may_replicate: Some(vec![wire(2)]),
        };
        let other = EnclavePolicySgx { may_query: None, may_replicate: Some(vec![wire(1)]) };
        let enclaves = Some([(wire(1), Some(own)), (wire(2), Some(other)), (wire(9), None)].into());
        let policy = PolicySgx { serial, id: KM, enclaves, ..PolicySgx::default() };
        let raw = cbor::to_vec(&policy);
        let sign = |name: &&str| Signature::sign(&test_key(name), &context::KEYMANAGER_POLICY, None, &raw).unwrap();
        SignedPolicySgx { policy, signatures: Some(signers.iter().map(sign).collect()) }
    }

    #[test]
    fn policies_say_who_may() {
        let policy = Policy::new(TrustedSigners::test(), &Tee::MockSgx(enclave(1)), KM);
        assert!(policy.may_query(Some(&enclave(3)), &RUNTIME).is_err(), "no policy yet");
        assert!(policy.may_replicate(Some(&enclave(1))).is_ok(), "itself");
        assert!(matches!(policy.init(None, None), Err(KeyManagerError::PolicyRequired)));
        let first = signed(1, &TEST_SIGNERS[..2]);
        let checksum = policy.init(Some(&first), None).unwrap();
        assert_eq!(checksum, sha3_256(&[&cbor::to_vec(&first)]));
        assert!(policy.may_query(Some(&enclave(3)), &RUNTIME).is_ok());
        assert!(matches!(policy.may_query(None, &RUNTIME), Err(KeyManagerError::NotAuthenticated)));
        assert!(matches!(policy.may_query(Some(&enclave(3)), &KM), Err(KeyManagerError::NotAuthorized)));
        assert!(policy.may_query(Some(&enclave(2)), &RUNTIME).is_err());
        assert!(policy.may_replicate(Some(&enclave(2))).is_ok());
        assert!(policy.may_replicate(Some(&enclave(3))).is_err());
        assert_eq!(policy.may_replicate_from(), Some([enclave(1), enclave(2)].into()));
    }

    #[test]
    fn policies_only_go_forward_and_need_their_signers() {
        let policy = Policy::new(TrustedSigners::test(), &Tee::MockSgx(enclave(1)), KM);
        let few = signed(1, &TEST_SIGNERS[..1]);
        assert!(matches!(policy.init(Some(&few), None), Err(KeyManagerError::InsufficientSignatures)));
        let twice = signed(1, &[TEST_SIGNERS[0], TEST_SIGNERS[0]]);
        assert!(matches!(policy.init(Some(&twice), None), Err(KeyManagerError::InsufficientSignatures)));
        let mut forged = signed(1, &TEST_SIGNERS[..2]);
        forged.policy.serial = 5;
        assert!(matches!(policy.init(Some(&forged), None), Err(KeyManagerError::InvalidSignature(_))));
        policy.init(Some(&signed(2, &TEST_SIGNERS)), None).unwrap();
        assert!(matches!(policy.init(Some(&signed(1, &TEST_SIGNERS)), None), Err(KeyManagerError::PolicyRollback)));
        let same_number = signed(2, &TEST_SIGNERS[..2]);
        assert!(matches!(policy.init(Some(&same_number), None), Err(KeyManagerError::PolicyChanged)));
        let (now, next) = (signed(2, &TEST_SIGNERS), signed(3, &TEST_SIGNERS));
        assert!(matches!(policy.init(Some(&now), Some(&now)), Err(KeyManagerError::PolicyRollback)));
        assert_eq!(policy.init(Some(&now), Some(&next)).unwrap(), sha3_256(&[&cbor::to_vec(&next)]));
        let other = Policy::new(TrustedSigners::test(), &Tee::MockSgx(enclave(1)), RUNTIME);
        assert!(matches!(other.init(Some(&now), None), Err(KeyManagerError::PolicyInvalidRuntime)));
    }

    #[test]
    fn outside_of_enclaves_everybody_may() {
        let policy = Policy::new(TrustedSigners::test(), &Tee::None, KM);
        assert_eq!(policy.init(None, None).unwrap(), Vec::<u8>::new());
        assert!(policy.may_query(None, &RUNTIME).is_ok() && policy.may_replicate(None).is_ok());
        assert_eq!(policy.may_replicate_from(), None);
    }
}
