//! The arithmetic of the encrypted connection: key agreement, challenge and sealed frames, without any I/O.
//!
//! Reference: `cometbft:p2p/conn/secret_connection.go`.
//!
//! Both sides send an X25519 key in the clear, agree on two AEAD keys and a challenge, and prove who they are by signing
//! the challenge inside of the encrypted stream. The stream is cut into frames of fixed length.

pub mod handshake;
pub mod stream;

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce, Tag};
use hkdf::Hkdf;
use merlin::Transcript;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroize;

/// Most bytes of payload in one frame.
pub const FRAME_PAYLOAD: usize = 1024;
/// Bytes of the payload's length, little endian, before the payload.
pub const FRAME_LENGTH: usize = 4;
/// Bytes of a frame before sealing; what the payload leaves is padding.
pub const FRAME_SIZE: usize = FRAME_LENGTH + FRAME_PAYLOAD;
/// Bytes of the authentication tag after the sealed frame.
pub const TAG_SIZE: usize = 16;
/// Bytes of a sealed frame.
pub const SEALED_SIZE: usize = FRAME_SIZE + TAG_SIZE;

const TRANSCRIPT_LABEL: &[u8] = b"TENDERMINT_SECRET_CONNECTION_TRANSCRIPT_HASH";
const KEY_LABEL: &[u8] = b"TENDERMINT_SECRET_CONNECTION_KEY_AND_CHALLENGE_GEN";

/// Why the key agreement or a frame does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The other side's ephemeral key is a point of small order.
    #[error("shared secret is zero")]
    ZeroSecret,
    /// A frame was not sealed with the agreed key, or not in this order.
    #[error("frame cannot be decrypted")]
    Decrypt,
    /// The length within the frame.
    #[error("frame claims {0} bytes of payload")]
    PayloadLength(u32),
    /// 2^64 frames were sent.
    #[error("no frame numbers left")]
    OutOfNonces,
}

/// The keys of both directions.
#[derive(Clone, PartialEq, Eq)]
pub struct FrameKeys {
    /// Opens what the other side sends.
    pub recv: [u8; 32],
    /// Seals what we send.
    pub send: [u8; 32],
}

impl Drop for FrameKeys {
    fn drop(&mut self) {
        self.recv.zeroize();
        self.send.zeroize();
    }
}

/// Derives the keys of both directions from the shared secret; `least` if our ephemeral key is the lower one.
pub fn derive_keys(shared: &[u8; 32], least: bool) -> FrameKeys {
    let mut output = [0; 96];
    Hkdf::<Sha256>::new(None, shared)
        .expand(KEY_LABEL, &mut output)
        .expect("96 bytes are far below the limit of 255 hashes");
    let (mut first, mut second) = ([0; 32], [0; 32]);
    first.copy_from_slice(&output[..32]);
    second.copy_from_slice(&output[32..64]);
    output.zeroize();
    if least { FrameKeys { recv: first, send: second } } else { FrameKeys { recv: second, send: first } }
}

/// The challenge that both sides sign, from both ephemeral keys in their order and the shared secret.
pub fn challenge(lower: &[u8; 32], upper: &[u8; 32], shared: &[u8; 32]) -> [u8; 32] {
    let mut transcript = Transcript::new(TRANSCRIPT_LABEL);
    transcript.append_message(b"EPHEMERAL_LOWER_PUBLIC_KEY", lower);
    transcript.append_message(b"EPHEMERAL_UPPER_PUBLIC_KEY", upper);
    transcript.append_message(b"DH_SECRET", shared);
    let mut challenge = [0; 32];
    transcript.challenge_bytes(b"SECRET_CONNECTION_MAC", &mut challenge);
    challenge
}

/// Our ephemeral key.
pub struct Ephemeral(StaticSecret);

/// What both sides agreed on.
pub struct Agreement {
    /// Keys of the frames.
    pub keys: FrameKeys,
    /// What both sides sign.
    pub challenge: [u8; 32],
}

impl Ephemeral {
    /// Key from 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(StaticSecret::from(bytes))
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// Agrees with the other side, given its ephemeral key.
    pub fn agree(&self, remote: &[u8; 32]) -> Result<Agreement, SecretError> {
        let local = self.public();
        let shared = self.0.diffie_hellman(&PublicKey::from(*remote));
        if !shared.was_contributory() {
            return Err(SecretError::ZeroSecret);
        }
        let least = local < *remote;
        let (lower, upper) = if least { (&local, remote) } else { (remote, &local) };
        let shared = shared.as_bytes();
        Ok(Agreement { keys: derive_keys(shared, least), challenge: challenge(lower, upper, shared) })
    }
}

/// Frame number within its direction, as nonce: four zero bytes, then eight bytes little endian.
#[derive(Default)]
struct Counter(u64);

impl Counter {
    fn next(&mut self) -> Result<Nonce, SecretError> {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.0.to_le_bytes());
        self.0 = self.0.checked_add(1).ok_or(SecretError::OutOfNonces)?;
        Ok(nonce.into())
    }
}

/// Seals frames of one direction.
pub struct Sealer {
    cipher: ChaCha20Poly1305,
    counter: Counter,
}

impl Sealer {
    /// Sealer from the sending key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self { cipher: ChaCha20Poly1305::new(&Key::from(*key)), counter: Counter::default() }
    }

    /// Appends the sealed frames that carry `payload`, each as full as possible.
    pub fn seal(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), SecretError> {
        for chunk in payload.chunks(FRAME_PAYLOAD) {
            let mut frame = [0; FRAME_SIZE];
            let len = u32::try_from(chunk.len()).expect("a chunk has at most 1024 bytes");
            frame[..FRAME_LENGTH].copy_from_slice(&len.to_le_bytes());
            frame[FRAME_LENGTH..FRAME_LENGTH + chunk.len()].copy_from_slice(chunk);
            let nonce = self.counter.next()?;
            let tag = self
                .cipher
                .encrypt_in_place_detached(&nonce, &[], &mut frame)
                .expect("a frame is far below the cipher's limit");
            out.extend_from_slice(&frame);
            out.extend_from_slice(&tag);
        }
        Ok(())
    }
}

/// Opens frames of one direction.
pub struct Opener {
    cipher: ChaCha20Poly1305,
    counter: Counter,
}

impl Opener {
    /// Opener from the receiving key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self { cipher: ChaCha20Poly1305::new(&Key::from(*key)), counter: Counter::default() }
    }

    /// Opens a frame in place and gives its payload; the padding may hold anything.
    pub fn open<'a>(&mut self, frame: &'a mut [u8; SEALED_SIZE]) -> Result<&'a [u8], SecretError> {
        let (text, sealed_tag) = frame.split_at_mut(FRAME_SIZE);
        let mut tag = [0; TAG_SIZE];
        tag.copy_from_slice(sealed_tag);
        let nonce = self.counter.next()?;
        self.cipher.decrypt_in_place_detached(&nonce, &[], text, &Tag::from(tag)).map_err(|_| SecretError::Decrypt)?;
        let (len, payload) = text.split_at(FRAME_LENGTH);
        let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]);
        usize::try_from(len).ok().and_then(|len| payload.get(..len)).ok_or(SecretError::PayloadLength(len))
    }
}

#[cfg(test)]
mod tests;
