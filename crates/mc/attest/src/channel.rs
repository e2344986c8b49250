//! Noise handshakes IX (between nodes) and NX (from clients) over X25519, AES-256-GCM and SHA-512, and the channels
//! that they open.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha512};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize as _, ZeroizeOnDrop};

/// The longest message of a handshake, as Noise has it.
pub const MAX_HANDSHAKE_MESSAGE: usize = 65_535;

const KEY: usize = 32;
const TAG: usize = 16;

/// Why a handshake or channel fails. After any failure there is no way but a new handshake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Longer or shorter than a message can be.
    #[error("handshake message of {0} bytes")]
    Length(usize),
    /// A tag is wrong: altered, of another channel, or out of order.
    #[error("decryption failed")]
    Decrypt,
    /// The pattern needs a static key, or has none.
    #[error("static key does not fit the pattern")]
    StaticKey,
    /// Steps out of order.
    #[error("handshake steps are out of order")]
    Order,
    /// A key agreement gave no secret.
    #[error("weak key")]
    WeakKey,
    /// The counter is used up.
    #[error("channel is used up")]
    Exhausted,
}

/// Who is known to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Both sides show static keys at once.
    Ix,
    /// Only the responder has a static key.
    Nx,
}

impl Pattern {
    /// The protocol's full name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ix => "Noise_IX_25519_AESGCM_SHA512",
            Self::Nx => "Noise_NX_25519_AESGCM_SHA512",
        }
    }

    /// The pattern of a protocol's full name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Ix, Self::Nx].into_iter().find(|pattern| pattern.name() == name)
    }
}

/// The public key of a private one.
pub fn public_key(private: &[u8; KEY]) -> [u8; KEY] {
    PublicKey::from(&StaticSecret::from(*private)).to_bytes()
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 64] {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("any key length is allowed");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Two outputs of Noise's key derivation.
fn derive(chaining_key: &[u8; 64], input: &[u8]) -> ([u8; 64], [u8; 64]) {
    let temporary = hmac(chaining_key, &[input]);
    let first = hmac(&temporary, &[&[1]]);
    let second = hmac(&temporary, &[&first, &[2]]);
    (first, second)
}

/// A key with its counter.
#[derive(Clone, ZeroizeOnDrop)]
struct Cipher {
    key: [u8; KEY],
    counter: u64,
}

impl Cipher {
    fn new(derived: &[u8; 64]) -> Self {
        Self { key: std::array::from_fn(|i| derived[i]), counter: 0 }
    }

    fn nonce(&mut self) -> Result<[u8; 12], Error> {
        let counter = self.counter;
        self.counter = counter.checked_add(1).ok_or(Error::Exhausted)?;
        let mut nonce = [0u8; 12];
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        Ok(nonce)
    }

    fn seal(&mut self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce = self.nonce()?;
        let cipher = Aes256Gcm::new(&self.key.into());
        cipher.encrypt(&nonce.into(), Payload { msg: plaintext, aad }).map_err(|_| Error::Exhausted)
    }

    fn open(&mut self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce = self.nonce()?;
        let cipher = Aes256Gcm::new(&self.key.into());
        cipher.decrypt(&nonce.into(), Payload { msg: sealed, aad }).map_err(|_| Error::Decrypt)
    }
}

/// Noise's symmetric state.
#[derive(Clone)]
struct Symmetric {
    chaining_key: [u8; 64],
    hash: [u8; 64],
    cipher: Option<Cipher>,
}

impl Drop for Symmetric {
    fn drop(&mut self) {
        self.chaining_key.zeroize();
    }
}

impl Symmetric {
    fn new(pattern: Pattern, prologue: &[u8]) -> Self {
        let mut hash = [0u8; 64];
        let name = pattern.name().as_bytes();
        hash[..name.len()].copy_from_slice(name);
        let mut state = Self { chaining_key: hash, hash, cipher: None };
        state.mix_hash(prologue);
        state
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = Sha512::new().chain_update(self.hash).chain_update(data).finalize().into();
    }

    fn mix_key(&mut self, private: &StaticSecret, public: &[u8; KEY]) -> Result<(), Error> {
        let shared = private.diffie_hellman(&PublicKey::from(*public));
        if !shared.was_contributory() {
            return Err(Error::WeakKey);
        }
        let (chaining_key, key) = derive(&self.chaining_key, shared.as_bytes());
        self.chaining_key = chaining_key;
        self.cipher = Some(Cipher::new(&key));
        Ok(())
    }

    fn seal(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let out = match &mut self.cipher {
            Some(cipher) => cipher.seal(&self.hash, plaintext)?,
            None => plaintext.to_vec(),
        };
        self.mix_hash(&out);
        Ok(out)
    }

    fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let out = match &mut self.cipher {
            Some(cipher) => cipher.open(&self.hash, sealed)?,
            None => sealed.to_vec(),
        };
        self.mix_hash(sealed);
        Ok(out)
    }

    /// The keys of the initiator's and the responder's messages.
    fn split(&self) -> (Cipher, Cipher) {
        let (first, second) = derive(&self.chaining_key, &[]);
        (Cipher::new(&first), Cipher::new(&second))
    }
}

/// Takes bytes off the front.
fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], Error> {
    let (head, tail) = rest.split_at_checked(len).ok_or(Error::Length(rest.len()))?;
    *rest = tail;
    Ok(head)
}

fn take_key(rest: &mut &[u8]) -> Result<[u8; KEY], Error> {
    let bytes = take(rest, KEY)?;
    Ok(std::array::from_fn(|i| bytes[i]))
}

fn check_length(message: &[u8]) -> Result<(), Error> {
    if message.len() > MAX_HANDSHAKE_MESSAGE { Err(Error::Length(message.len())) } else { Ok(()) }
}

/// The side that begins.
pub struct Initiator {
    symmetric: Symmetric,
    static_key: Option<StaticSecret>,
    ephemeral: StaticSecret,
    started: bool,
}

impl Initiator {
    /// A handshake with a fresh ephemeral key, 32 random bytes.
    ///
    /// # Errors
    /// If there is a static key where the pattern has none, or the other way round, or no ephemeral key.
    pub fn new(
        pattern: Pattern,
        prologue: &[u8],
        static_key: Option<&[u8; KEY]>,
        ephemeral: Option<[u8; KEY]>,
    ) -> Result<Self, Error> {
        if static_key.is_some() != (pattern == Pattern::Ix) {
            return Err(Error::StaticKey);
        }
        Ok(Self {
            symmetric: Symmetric::new(pattern, prologue),
            static_key: static_key.map(|key| StaticSecret::from(*key)),
            ephemeral: StaticSecret::from(ephemeral.ok_or(Error::StaticKey)?),
            started: false,
        })
    }

    /// The first message.
    ///
    /// # Errors
    /// If it was made before or is too long.
    pub fn start(&mut self, payload: &[u8]) -> Result<Vec<u8>, Error> {
        if std::mem::replace(&mut self.started, true) {
            return Err(Error::Order);
        }
        let ephemeral = PublicKey::from(&self.ephemeral).to_bytes();
        self.symmetric.mix_hash(&ephemeral);
        let mut out = ephemeral.to_vec();
        if let Some(key) = &self.static_key {
            let public = PublicKey::from(key).to_bytes();
            out.extend(self.symmetric.seal(&public)?);
        }
        out.extend(self.symmetric.seal(payload)?);
        check_length(&out)?;
        Ok(out)
    }

    /// Takes the answer: the channel and the answer's payload.
    ///
    /// # Errors
    /// If nothing was sent, or the answer is not one to it.
    pub fn finish(mut self, message: &[u8]) -> Result<(Channel, Vec<u8>), Error> {
        if !self.started {
            return Err(Error::Order);
        }
        check_length(message)?;
        let mut rest = message;
        let remote_ephemeral = take_key(&mut rest)?;
        self.symmetric.mix_hash(&remote_ephemeral);
        self.symmetric.mix_key(&self.ephemeral, &remote_ephemeral)?;
        if let Some(key) = &self.static_key {
            self.symmetric.mix_key(key, &remote_ephemeral)?;
        }
        let opened = self.symmetric.open(take(&mut rest, KEY + TAG)?)?;
        let remote_static: [u8; KEY] = opened.try_into().map_err(|_| Error::Decrypt)?;
        self.symmetric.mix_key(&self.ephemeral, &remote_static)?;
        let payload = self.symmetric.open(rest)?;
        let (send, receive) = self.symmetric.split();
        let id = self.symmetric.hash;
        let sent = send.clone();
        Ok((Channel { id, send, receive, sent, remote_static: Some(remote_static) }, payload))
    }
}

/// The side that answers.
pub struct Responder {
    symmetric: Symmetric,
    pattern: Pattern,
    static_key: StaticSecret,
    ephemeral: StaticSecret,
}

/// A responder that took the first message.
pub struct Accepted {
    responder: Responder,
    remote_ephemeral: [u8; KEY],
    remote_static: Option<[u8; KEY]>,
}

impl Responder {
    /// A handshake with a fresh ephemeral key, 32 random bytes.
    ///
    /// # Errors
    /// If there is no ephemeral key.
    pub fn new(
        pattern: Pattern,
        prologue: &[u8],
        static_key: &[u8; KEY],
        ephemeral: Option<[u8; KEY]>,
    ) -> Result<Self, Error> {
        Ok(Self {
            symmetric: Symmetric::new(pattern, prologue),
            pattern,
            static_key: StaticSecret::from(*static_key),
            ephemeral: StaticSecret::from(ephemeral.ok_or(Error::StaticKey)?),
        })
    }

    /// Takes the first message: what to answer with, and the message's payload.
    ///
    /// # Errors
    /// If it is too short or too long.
    pub fn accept(mut self, message: &[u8]) -> Result<(Accepted, Vec<u8>), Error> {
        check_length(message)?;
        let mut rest = message;
        let remote_ephemeral = take_key(&mut rest)?;
        self.symmetric.mix_hash(&remote_ephemeral);
        let remote_static = match self.pattern {
            Pattern::Nx => None,
            Pattern::Ix => {
                let opened = self.symmetric.open(take(&mut rest, KEY)?)?;
                Some(opened.try_into().map_err(|_| Error::Decrypt)?)
            }
        };
        let payload = self.symmetric.open(rest)?;
        Ok((Accepted { responder: self, remote_ephemeral, remote_static }, payload))
    }
}

impl Accepted {
    /// The static key of the other side, if it showed one.
    pub fn remote_static(&self) -> Option<[u8; KEY]> {
        self.remote_static
    }

    /// The answer, and the channel.
    ///
    /// # Errors
    /// If a key of the other side is weak or the answer is too long.
    pub fn answer(self, payload: &[u8]) -> Result<(Channel, Vec<u8>), Error> {
        let Responder { mut symmetric, static_key, ephemeral, .. } = self.responder;
        let public = PublicKey::from(&ephemeral).to_bytes();
        symmetric.mix_hash(&public);
        symmetric.mix_key(&ephemeral, &self.remote_ephemeral)?;
        if let Some(remote) = &self.remote_static {
            symmetric.mix_key(&ephemeral, remote)?;
        }
        let mut out = public.to_vec();
        out.extend(symmetric.seal(&PublicKey::from(&static_key).to_bytes())?);
        symmetric.mix_key(&static_key, &self.remote_ephemeral)?;
        out.extend(symmetric.seal(payload)?);
        check_length(&out)?;
        let (receive, send) = symmetric.split();
        let sent = send.clone();
        Ok((Channel { id: symmetric.hash, send, receive, sent, remote_static: self.remote_static }, out))
    }
}

/// An open channel.
pub struct Channel {
    id: [u8; 64],
    send: Cipher,
    receive: Cipher,
    sent: Cipher,
    remote_static: Option<[u8; KEY]>,
}

impl Channel {
    /// The handshake hash, by which the other side knows the channel.
    pub fn id(&self) -> &[u8; 64] {
        &self.id
    }

    /// The static key of the other side, if it has one.
    pub fn remote_static(&self) -> Option<[u8; KEY]> {
        self.remote_static
    }

    /// How many messages were sent.
    pub fn sent(&self) -> u64 {
        self.send.counter
    }

    /// Encrypts the next message.
    ///
    /// # Errors
    /// If the counter is used up.
    pub fn encrypt(&mut self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        self.send.seal(aad, plaintext)
    }

    /// Decrypts the next message.
    ///
    /// # Errors
    /// If it is altered or not the next.
    pub fn decrypt(&mut self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
        self.receive.open(aad, sealed)
    }

    /// Decrypts the next of the messages that this side sent itself, to check a record of them.
    ///
    /// # Errors
    /// If it is altered or not the next.
    pub fn decrypt_own(&mut self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
        self.sent.open(aad, sealed)
    }
}
