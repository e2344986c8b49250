//! The methods of the key manager for master and ephemeral secrets.
//!
//! Source: `keymanager/src/runtime/secrets.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use base_codec::{Bytes, Raw, cbor};
use base_crypto::{
    context::{self, Context},
    mrae::{self, BoxSecretKey, NONCE_LEN},
};
use base_prims::{Epoch, Namespace, PublicKey, RawSignature};
use rt_guest::{
    Env,
    consensus::ConsensusState,
    policy::key_manager_status,
    rpc::{Caller, Methods},
    verifier::HEIGHT_LATEST,
};
use rt_tee::EnclaveIdentity;
use wire_consensus::{
    keymanager::{
        EncryptedEphemeralSecret, EncryptedMasterSecret, EncryptedSecret, InitResponse, SignedEncryptedEphemeralSecret,
        SignedEncryptedMasterSecret, SignedInitResponse, Status,
        rpc::{
            EphemeralKeyRequest, GenerateEphemeralSecretRequest, GenerateEphemeralSecretResponse,
            GenerateMasterSecretRequest, GenerateMasterSecretResponse, InitRequest, LoadEphemeralSecretRequest,
            LoadMasterSecretRequest, LongTermKeyRequest, METHOD_GENERATE_EPHEMERAL_SECRET,
            METHOD_GENERATE_MASTER_SECRET, METHOD_GET_OR_CREATE_EPHEMERAL_KEYS, METHOD_GET_OR_CREATE_KEYS,
            METHOD_GET_PUBLIC_EPHEMERAL_KEY, METHOD_GET_PUBLIC_KEY, METHOD_INIT, METHOD_LOAD_EPHEMERAL_SECRET,
            METHOD_LOAD_MASTER_SECRET, METHOD_REPLICATE_EPHEMERAL_SECRET, METHOD_REPLICATE_MASTER_SECRET,
            SignedPublicKey,
        },
    },
    node::X25519PublicKey,
};

use crate::{
    KeyManagerError,
    api::{
        KeyOf, KeyPair, ReplicateEphemeralSecretRequest, ReplicateEphemeralSecretResponse,
        ReplicateMasterSecretRequest, ReplicateMasterSecretResponse, Secret,
    },
    client::{Peers, RemoteClient},
    kdf::{Domains, Kdf, SecretProvider, SecretStorage},
    policy::{Policy, TrustedSigners},
};

/// Epochs after which ephemeral keys are no longer given out.
pub const MAX_EPHEMERAL_KEY_AGE: Epoch = 10;
/// Blocks by which a caller's view of the consensus layer may be behind.
pub const MAX_FRESH_HEIGHT_AGE: u64 = 600;

type Result<T> = std::result::Result<T, KeyManagerError>;

/// The key manager.
#[derive(Debug)]
pub struct Secrets {
    env: Env,
    signers: TrustedSigners,
    policy: Policy,
    kdf: Kdf,
}

impl Secrets {
    /// A key manager without secrets, which are to be brought by [`METHOD_INIT`].
    pub fn new(env: &Env, signers: TrustedSigners) -> Self {
        let tee = env.identity.tee();
        let storage = SecretStorage::new(tee.clone(), Box::new(env.host.clone()));
        let policy = Policy::new(signers.clone(), tee, env.runtime_id());
        Self { env: env.clone(), signers, policy, kdf: Kdf::new(Domains::of(tee), storage) }
    }

    /// Offers the methods: encrypted ones to enclaves, public keys to all, and those of the host.
    pub fn offer(self: &Arc<Self>, methods: &mut Methods) {
        crate::offer! { self, methods;
            METHOD_GET_OR_CREATE_KEYS, NOISE_SESSION => Self::keys;
            METHOD_GET_PUBLIC_KEY, INSECURE_QUERY => Self::public_key;
            METHOD_GET_OR_CREATE_EPHEMERAL_KEYS, NOISE_SESSION => Self::ephemeral_keys;
            METHOD_GET_PUBLIC_EPHEMERAL_KEY, INSECURE_QUERY => Self::public_ephemeral_key;
            METHOD_REPLICATE_MASTER_SECRET, NOISE_SESSION => Self::replicate_master_secret;
            METHOD_REPLICATE_EPHEMERAL_SECRET, NOISE_SESSION => Self::replicate_ephemeral_secret;
            METHOD_INIT, LOCAL_QUERY => Self::init;
            METHOD_GENERATE_MASTER_SECRET, LOCAL_QUERY => Self::generate_master_secret;
            METHOD_GENERATE_EPHEMERAL_SECRET, LOCAL_QUERY => Self::generate_ephemeral_secret;
            METHOD_LOAD_MASTER_SECRET, LOCAL_QUERY => Self::load_master_secret;
            METHOD_LOAD_EPHEMERAL_SECRET, LOCAL_QUERY => Self::load_ephemeral_secret;
        }
    }

    fn init(&self, _: &Caller, request: InitRequest) -> Result<SignedInitResponse> {
        let id = self.env.runtime_id();
        let status = self.published_status(&request.status)?;
        let policy_checksum = self.policy.init(status.policy.as_ref(), status.next_policy.as_ref())?;
        let peers = Peers::new(self.replication_client()?, status.nodes().to_vec());
        let epoch = self.epoch()?;
        let state = self.kdf.init(&id, status.generation, status.checksum(), epoch, &peers)?;
        let response = InitResponse {
            is_secure: self.kdf.domains().is_secure(),
            checksum: Some(Bytes(state.checksum.map(Vec::from).unwrap_or_default())),
            next_checksum: state.next_checksum.map(|c| Bytes(c.to_vec())),
            policy_checksum: Some(Bytes(policy_checksum)),
            rsk: state.signing_key,
            next_rsk: state.next_signing_key,
        };
        let signature = self.sign(&context::KEYMANAGER_INIT_RESPONSE, &response)?;
        let signature = Some(Bytes(signature.as_bytes().to_vec()));
        Ok(SignedInitResponse { init_response: response, signature })
    }

    fn sign(&self, context: &Context, value: &impl cbor::Encode) -> Result<RawSignature> {
        Ok(self.env.identity.sign(context, &cbor::to_vec(value)).map_err(rt_guest::Error::from)?)
    }

    fn keys(&self, caller: &Caller, request: LongTermKeyRequest) -> Result<KeyPair> {
        self.policy.may_query(enclave(caller), &request.id)?;
        self.check_height(request.height.unwrap_or_default())?;
        self.kdf.longterm_keys(&request.id, &request.key_pair_id, request.generation)
    }

    fn public_key(&self, _: &Caller, request: LongTermKeyRequest) -> Result<SignedPublicKey> {
        let keys = self.kdf.longterm_keys(&request.id, &request.key_pair_id, request.generation)?;
        self.kdf.sign(&KeyOf { runtime: request.id, id: request.key_pair_id, epoch: None }, &keys)
    }

    fn ephemeral_keys(&self, caller: &Caller, request: EphemeralKeyRequest) -> Result<KeyPair> {
        self.policy.may_query(enclave(caller), &request.id)?;
        self.check_epoch(request.epoch)?;
        self.check_height(request.height.unwrap_or_default())?;
        self.kdf.ephemeral_keys(&request.id, &request.key_pair_id, request.epoch)
    }

    fn public_ephemeral_key(&self, _: &Caller, request: EphemeralKeyRequest) -> Result<SignedPublicKey> {
        self.check_epoch(request.epoch)?;
        let keys = self.kdf.ephemeral_keys(&request.id, &request.key_pair_id, request.epoch)?;
        self.kdf.sign(&KeyOf { runtime: request.id, id: request.key_pair_id, epoch: Some(request.epoch) }, &keys)
    }

    fn replicate_master_secret(
        &self,
        caller: &Caller,
        request: ReplicateMasterSecretRequest,
    ) -> Result<ReplicateMasterSecretResponse> {
        self.policy.may_replicate(enclave(caller))?;
        self.check_height(request.height)?;
        let (master_secret, checksum) = self.kdf.share_master_secret(request.generation)?;
        Ok(ReplicateMasterSecretResponse { master_secret, checksum: Bytes(checksum) })
    }

    fn replicate_ephemeral_secret(
        &self,
        caller: &Caller,
        request: ReplicateEphemeralSecretRequest,
    ) -> Result<ReplicateEphemeralSecretResponse> {
        self.policy.may_replicate(enclave(caller))?;
        self.check_height(request.height)?;
        let ephemeral_secret = self.kdf.share_ephemeral_secret(request.epoch)?;
        Ok(ReplicateEphemeralSecretResponse { ephemeral_secret })
    }

    fn generate_master_secret(
        &self,
        _: &Caller,
        request: GenerateMasterSecretRequest,
    ) -> Result<GenerateMasterSecretResponse> {
        let (id, generation) = (self.kdf.key_manager()?, request.generation);
        let epoch = self.next_epoch(request.epoch)?;
        let secret = Secret::generate()?;
        let checksum = self.kdf.proposal_checksum(&secret, generation)?;
        let secret = self.encrypt(&secret, &checksum, &master_aad(&id, generation, epoch))?;
        let secret = EncryptedMasterSecret { id, generation, epoch, secret };
        let signature = self.sign(&context::KEYMANAGER_MASTER_SECRET, &secret)?;
        Ok(GenerateMasterSecretResponse { signed_secret: SignedEncryptedMasterSecret { secret, signature } })
    }

    fn generate_ephemeral_secret(
        &self,
        _: &Caller,
        request: GenerateEphemeralSecretRequest,
    ) -> Result<GenerateEphemeralSecretResponse> {
        let id = self.kdf.key_manager()?;
        let epoch = self.next_epoch(request.epoch)?;
        let secret = Secret::generate()?;
        let checksum = self.kdf.domains().ephemeral_checksum(&secret, &id, epoch);
        let secret = self.encrypt(&secret, &checksum, &ephemeral_aad(&id, epoch))?;
        let secret = EncryptedEphemeralSecret { id, epoch, secret };
        let signature = self.sign(&context::KEYMANAGER_EPHEMERAL_SECRET, &secret)?;
        Ok(GenerateEphemeralSecretResponse { signed_secret: SignedEncryptedEphemeralSecret { secret, signature } })
    }

    fn load_master_secret(&self, _: &Caller, request: LoadMasterSecretRequest) -> Result<Raw> {
        let id = request.signed_secret.secret.id;
        let published = self.latest_state()?.master_secret(&id)?.filter(|p| *p == request.signed_secret);
        let published = published.ok_or(KeyManagerError::MasterSecretNotPublished)?.secret;
        let aad = master_aad(&id, published.generation, published.epoch);
        if let Some(secret) = self.decrypt(&published.secret, &aad)? {
            self.kdf.add_proposal(&id, &secret, published.generation, published.secret.checksum())?;
        }
        Ok(Raw::default())
    }

    fn load_ephemeral_secret(&self, _: &Caller, request: LoadEphemeralSecretRequest) -> Result<Raw> {
        let id = request.signed_secret.secret.id;
        let published = self.latest_state()?.ephemeral_secret(&id)?.filter(|p| *p == request.signed_secret);
        let published = published.ok_or(KeyManagerError::EphemeralSecretNotPublished)?.secret;
        let (epoch, checksum) = (published.epoch, published.secret.checksum());
        let secret = match self.decrypt(&published.secret, &ephemeral_aad(&id, epoch))? {
            Some(secret) => secret,
            None => {
                // Not encrypted to this enclave, which was not registered then: one of the others has it.
                let reks = self.committee_reks(&id)?;
                let has = |rek: &X25519PublicKey| published.secret.ciphertexts.iter().flatten().any(|(k, _)| k == rek);
                let nodes = reks.iter().filter(|(_, rek)| has(rek)).map(|(node, _)| *node).collect();
                let mut found = None;
                Peers::new(self.replication_client()?, nodes).ephemeral_secret(epoch, &mut |secret| {
                    let right = self.kdf.domains().ephemeral_checksum(&secret, &id, epoch) == checksum;
                    found = right.then_some(secret);
                    right
                });
                found.ok_or(KeyManagerError::EphemeralSecretNotReplicated(epoch))?
            }
        };
        self.kdf.add_ephemeral_secret(&id, secret, epoch, checksum)?;
        Ok(Raw::default())
    }

    /// Encrypts a secret to every enclave of the committee.
    fn encrypt(&self, secret: &Secret, checksum: &[u8; 32], aad: &[u8]) -> Result<EncryptedSecret> {
        let reks: BTreeSet<_> = self.committee_reks(&self.env.runtime_id())?.into_values().collect();
        if !reks.contains(&self.env.identity.rek()) {
            return Err(KeyManagerError::RekNotPublished);
        }
        let key = BoxSecretKey::from_bytes(&Secret::generate()?.0);
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(KeyManagerError::Random)?;
        let mut ciphertexts = BTreeMap::new();
        for rek in reks {
            increment(&mut nonce);
            let sealed = mrae::seal(&key, rek.as_bytes(), &nonce, &secret.0, aad);
            let mut sealed = sealed.map_err(|_| KeyManagerError::InvalidCiphertext)?;
            sealed.extend_from_slice(&nonce);
            ciphertexts.insert(rek, Some(Bytes(sealed)));
        }
        Ok(EncryptedSecret {
            checksum: Some(Bytes(checksum.to_vec())),
            pub_key: X25519PublicKey::new(key.public()),
            ciphertexts: Some(ciphertexts),
        })
    }

    /// The secret, if it is encrypted to this enclave.
    fn decrypt(&self, encrypted: &EncryptedSecret, aad: &[u8]) -> Result<Option<Secret>> {
        let rek = self.env.identity.rek();
        let Some(ciphertext) = encrypted.ciphertexts.as_ref().and_then(|c| c.get(&rek)) else {
            return Ok(None);
        };
        let ciphertext = ciphertext.as_ref().map_or(&[][..], |c| c.as_slice());
        let opened = ciphertext
            .split_last_chunk::<NONCE_LEN>()
            .and_then(|(sealed, nonce)| self.env.identity.open(nonce, sealed, aad, encrypted.pub_key.as_bytes()).ok());
        let secret = opened.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
        secret.map(|bytes| Some(Secret(bytes))).ok_or(KeyManagerError::InvalidCiphertext)
    }

    /// Encryption keys of the committee's enclaves. Outside of enclaves all have the same.
    fn committee_reks(&self, id: &Namespace) -> Result<BTreeMap<PublicKey, X25519PublicKey>> {
        let status = self.latest_state()?.key_manager_status(id)?.ok_or(KeyManagerError::StatusNotFound)?;
        let state = self.latest_state()?;
        let in_enclave = self.env.identity.tee().enclave().is_some();
        let mut reks = BTreeMap::new();
        for key in status.nodes() {
            let Some(node) = state.node(key)? else { continue };
            let Some(runtime) = node.runtimes().iter().find(|rt| rt.id == *id) else { continue };
            let rek = if in_enclave {
                runtime.capabilities.tee.as_ref().and_then(|tee| tee.rek)
            } else {
                Some(self.env.identity.rek())
            };
            reks.extend(rek.map(|rek| (*key, rek)));
        }
        Ok(reks)
    }

    fn replication_client(&self) -> Result<RemoteClient> {
        Ok(RemoteClient::for_replication(&self.env, self.signers.clone(), self.policy.may_replicate_from())?)
    }

    /// Brings the verifier to the newest block first: secrets are published in the block before they are loaded.
    fn latest_state(&self) -> Result<ConsensusState> {
        self.env.verifier.sync(HEIGHT_LATEST)?;
        Ok(self.env.verifier.latest_state()?)
    }

    /// The published status, if it is the one that the host claims.
    fn published_status(&self, claimed: &Status) -> Result<Status> {
        let published = key_manager_status(&self.env.verifier.latest_state()?, &self.env.runtime_id())?;
        if rt_guest::policy::same_status(claimed, &published) {
            Ok(published)
        } else {
            Err(rt_guest::Error::from(rt_guest::policy::PolicyError::StatusMismatch).into())
        }
    }

    fn epoch(&self) -> Result<Epoch> {
        Ok(self.latest_state()?.epoch()?)
    }

    /// Secrets are made for the next epoch only.
    fn next_epoch(&self, got: Epoch) -> Result<Epoch> {
        let expected = self.epoch()?.saturating_add(1);
        if expected == got { Ok(got) } else { Err(KeyManagerError::InvalidEpoch { expected, got }) }
    }

    fn check_epoch(&self, got: Epoch) -> Result<()> {
        let now = self.epoch()?;
        if now.saturating_add(1) < got || now > got.saturating_add(MAX_EPHEMERAL_KEY_AGE) {
            return Err(KeyManagerError::InvalidEpoch { expected: now, got });
        }
        Ok(())
    }

    /// The caller knows blocks that are about as new as those known here.
    fn check_height(&self, height: u64) -> Result<()> {
        let oldest = self.env.verifier.latest_height()?.saturating_sub(MAX_FRESH_HEIGHT_AGE);
        if height < oldest { Err(KeyManagerError::HeightNotFresh) } else { Ok(()) }
    }
}

fn enclave(caller: &Caller) -> Option<&EnclaveIdentity> {
    caller.session.as_ref().map(|session| &session.quote.identity)
}

/// Adds one to the last four bytes, which are a counter; no secret is encrypted to 2^32 enclaves.
fn increment(nonce: &mut [u8; NONCE_LEN]) {
    if let Some(counter) = nonce.last_chunk_mut::<4>() {
        *counter = u32::from_be_bytes(*counter).wrapping_add(1).to_be_bytes();
    }
}

/// What an encrypted master secret is bound to.
pub(crate) fn master_aad(id: &Namespace, generation: u64, epoch: Epoch) -> Vec<u8> {
    [id.as_bytes().as_slice(), &generation.to_le_bytes(), &epoch.to_le_bytes()].concat()
}

/// What an encrypted ephemeral secret is bound to.
pub(crate) fn ephemeral_aad(id: &Namespace, epoch: Epoch) -> Vec<u8> {
    [id.as_bytes().as_slice(), &epoch.to_le_bytes()].concat()
}
