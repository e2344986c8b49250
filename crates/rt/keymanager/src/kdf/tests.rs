//! Known values, and the life of secrets with providers that miss some and lie about others.

mod known;

use std::sync::Arc;

use known::KNOWN;

use super::*;

const KM: Namespace = Namespace::from_bytes_unchecked([1; 32]);

fn bytes(hex: &str) -> [u8; 32] {
    hex::decode(hex).unwrap().try_into().unwrap()
}

/// Known keys: master secret, ephemeral secret, runtime, key pair, generation's and epoch's keys.
struct Known {
    master: &'static str,
    ephemeral: &'static str,
    runtime: &'static str,
    id: &'static str,
    epoch: Epoch,
    longterm: (&'static str, &'static str),
    short: (&'static str, &'static str),
}

#[test]
fn known_keys_are_derived() {
    let domains = Domains { secure: false };
    for known in KNOWN {
        let (runtime, id) = (Namespace::from_bytes_unchecked(bytes(known.runtime)), bytes(known.id));
        let keys = domains.longterm_keys(&Secret(bytes(known.master)), &runtime, &id);
        let check = |keys: &KeyPair, (sk, pk): (&str, &str)| {
            assert_eq!(hex::encode(keys.input_keypair.sk.0), sk);
            assert_eq!(hex::encode(keys.input_keypair.pk.as_bytes()), pk);
        };
        check(&keys, known.longterm);
        check(&domains.ephemeral_key_pair(&Secret(bytes(known.ephemeral)), &runtime, &id, known.epoch), known.short);
    }
    // Real secrets lead to other keys.
    let secret = Secret([1; 32]);
    let of = |secure| Domains { secure }.longterm_keys(&secret, &KM, &[2; 32]).state_key.0;
    assert_ne!(of(true), of(false));
}

/// Other enclaves: they have every master secret, some lie first.
struct Others {
    lie: bool,
    missing: bool,
}

fn master(generation: u64) -> Secret {
    let mut secret = Secret([9; 32]);
    secret.0[..8].copy_from_slice(&generation.to_le_bytes());
    secret
}

fn checksum(generation: u64) -> Checksum {
    let domains = Domains { secure: false };
    (0..=generation).fold(*KM.as_bytes(), |last, g| domains.master_checksum(&master(g), &last))
}

impl SecretProvider for Others {
    fn master_secret(&self, generation: u64, take: &mut dyn FnMut(Secret, Vec<u8>) -> bool) {
        if self.missing {
            return;
        }
        let before = generation.checked_sub(1).map(|g| checksum(g).to_vec()).unwrap_or_default();
        if self.lie {
            assert!(!take(Secret([0; 32]), before.clone()));
            assert!(!take(master(generation), vec![5; 32]));
            assert!(!take(master(generation), vec![1; 3]));
        }
        assert!(take(master(generation), before));
    }

    fn ephemeral_secret(&self, epoch: Epoch, take: &mut dyn FnMut(Secret) -> bool) {
        if (3..=7).contains(&epoch) {
            take(Secret([epoch as u8; 32]));
        }
    }
}

fn kdf(storage: &Arc<MemoryStorage>) -> Kdf {
    let storage = SecretStorage::new(Tee::None, Box::new(Arc::clone(storage)));
    Kdf::new(Domains { secure: false }, storage)
}

#[test]
fn secrets_are_replicated_and_survive_a_restart() {
    let storage = Arc::new(MemoryStorage::default());
    let first = kdf(&storage);
    let others = Others { lie: true, missing: false };
    assert_eq!(first.init(&KM, 0, &[], 0, &others).unwrap(), KdfState::default());
    for generation in [0, 0, 1, 1, 2, 5, 5] {
        let state = first.init(&KM, generation, &checksum(generation), 0, &others).unwrap();
        assert_eq!(state.checksum, Some(checksum(generation)));
        let signer = first.domains().runtime_signing_key(&master(generation), &KM);
        assert_eq!(state.signing_key, Some(PublicKey::new(signer.public())));
    }
    // After a restart nobody else is needed.
    let alone = Others { lie: false, missing: true };
    let second = kdf(&storage);
    second.init(&KM, 5, &checksum(5), 0, &alone).unwrap();
    for generation in 0..=5 {
        assert_eq!(second.share_master_secret(generation).unwrap().0, master(generation));
        let keys = |kdf: &Kdf| kdf.longterm_keys(&KM, &[4; 32], generation).unwrap().state_key;
        assert_eq!(keys(&first), keys(&second));
    }
    let future = second.longterm_keys(&KM, &[4; 32], 6);
    assert!(matches!(future, Err(KeyManagerError::GenerationFromFuture { max: 5, got: 6 })));
    let missing = second.init(&KM, 6, &checksum(6), 0, &alone);
    assert!(matches!(missing, Err(KeyManagerError::MasterSecretNotReplicated(6))));
    let other = Namespace::from_bytes_unchecked([2; 32]);
    assert!(matches!(second.init(&other, 5, &checksum(5), 0, &alone), Err(KeyManagerError::RuntimeMismatch)));
}

#[test]
fn proposals_become_secrets_once_they_are_published() {
    let storage = Arc::new(MemoryStorage::default());
    let alone = Others { lie: false, missing: true };
    let kdf1 = kdf(&storage);
    kdf1.init(&KM, 0, &[], 0, &alone).unwrap();
    for generation in 0..4 {
        let next = kdf1.proposal_checksum(&master(generation), generation).unwrap();
        assert_eq!(next, checksum(generation));
        kdf1.add_proposal(&KM, &master(generation), generation, &next).unwrap();
        let proposed = kdf1.init(&KM, generation.saturating_sub(1), &before(generation), 0, &alone).unwrap();
        assert_eq!(proposed.next_checksum, Some(next));
        let state = kdf1.init(&KM, generation, &next, 0, &alone).unwrap();
        assert_eq!((state.checksum, state.next_checksum), (Some(next), None));
        assert_eq!(state.signing_key, proposed.next_signing_key);
    }
    // A proposal that was not accepted is not taken for the secret.
    let rejected = kdf1.proposal_checksum(&Secret([0; 32]), 4).unwrap();
    kdf1.add_proposal(&KM, &Secret([0; 32]), 4, &rejected).unwrap();
    assert!(matches!(kdf1.init(&KM, 4, &checksum(4), 0, &alone), Err(KeyManagerError::MasterSecretNotReplicated(4))));
    assert!(matches!(
        kdf1.add_proposal(&KM, &master(4), 4, &rejected),
        Err(KeyManagerError::MasterSecretChecksumMismatch)
    ));
    assert!(matches!(
        kdf1.add_proposal(&KM, &master(7), 7, &rejected),
        Err(KeyManagerError::InvalidGeneration { expected: 4, got: 7 })
    ));
}

fn before(generation: u64) -> Vec<u8> {
    generation.checked_sub(1).map(|g| checksum(g).to_vec()).unwrap_or_default()
}

#[test]
fn contradictions_are_found() {
    let storage = Arc::new(MemoryStorage::default());
    let others = Others { lie: false, missing: false };
    kdf(&storage).init(&KM, 3, &checksum(3), 0, &others).unwrap();
    // The consensus layer says something else than what was stored.
    assert!(matches!(kdf(&storage).init(&KM, 2, &checksum(2), 0, &others), Err(KeyManagerError::StateCorrupted)));
    let initialized = kdf(&storage);
    initialized.init(&KM, 3, &checksum(3), 0, &others).unwrap();
    assert!(matches!(initialized.init(&KM, 0, &[], 0, &others), Err(KeyManagerError::StateCorrupted)));
    // Stored bytes were changed, or moved to another generation.
    let key = |generation: u64| [b"keymanager_master_secret".as_slice(), &generation.to_le_bytes()].concat();
    let second = storage.get(&key(2)).unwrap();
    storage.set(&key(1), second).unwrap();
    assert!(matches!(kdf(&storage).init(&KM, 3, &checksum(3), 0, &others), Err(KeyManagerError::StorageCorrupted)));
}

#[test]
fn ephemeral_secrets_are_replicated_at_start_and_forgotten_in_time() {
    let storage = Arc::new(MemoryStorage::default());
    let kdf = kdf(&storage);
    let others = Others { lie: false, missing: false };
    // At epoch 7 the secret of epoch 8 may be missing; below 3 nobody has any.
    kdf.init(&KM, 0, &checksum(0), 7, &others).unwrap();
    for epoch in 3..=7 {
        assert_eq!(kdf.share_ephemeral_secret(epoch).unwrap(), Secret([epoch as u8; 32]));
    }
    assert!(matches!(kdf.share_ephemeral_secret(8), Err(KeyManagerError::EphemeralSecretNotFound(8))));
    assert!(kdf.ephemeral_keys(&KM, &[1; 32], 2).is_err());
    for epoch in 8..40 {
        let secret = Secret([epoch as u8; 32]);
        let checksum = kdf.domains().ephemeral_checksum(&secret, &KM, epoch);
        assert!(kdf.add_ephemeral_secret(&KM, secret.clone(), epoch, &[0; 32]).is_err());
        kdf.add_ephemeral_secret(&KM, secret, epoch, &checksum).unwrap();
    }
    assert!(kdf.share_ephemeral_secret(19).is_err() && kdf.share_ephemeral_secret(20).is_ok());
}
