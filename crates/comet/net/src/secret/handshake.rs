//! The handshake of an encrypted connection over any stream.
//!
//! Both sides: ephemeral key in the clear, then `AuthSigMessage` encrypted; each preceded by its length.

use base_crypto::context::{COMETBFT, ContextError, sign_with_context};
use base_crypto::ed25519::{self, SecretKey};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use wire_cometbft::codec::{DecodeError, Message};
use wire_cometbft::keys::{PublicKey, signing_digest};
use wire_cometbft::p2p::{AuthSigMessage, EphemeralKey};

use super::stream::{READ_AHEAD, SecretReader, SecretWriter, StreamError, read_length};
use super::{Ephemeral, Opener, Sealer, SecretError};

/// Largest message with an ephemeral key; 34 bytes are usual.
///
/// DEVIATION: the reference reads up to 1 MiB.
pub const MAX_EPHEMERAL_BYTES: usize = 1024;
/// Largest message with a proof of identity; 102 bytes are usual.
///
/// DEVIATION: the reference reads up to 1 MiB.
pub const MAX_AUTH_BYTES: usize = 4096;

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The stream failed.
    #[error("{0}")]
    Stream(#[from] StreamError),
    /// The keys do not agree.
    #[error("{0}")]
    Secret(#[from] SecretError),
    /// A message is malformed.
    #[error("malformed handshake message: {0}")]
    Decode(#[from] DecodeError),
    /// The other side's key is not Ed25519.
    #[error("peer's key is not ed25519")]
    KeyType,
    /// The signature of the challenge does not hold.
    #[error("challenge verification failed")]
    Signature,
    /// Our own key gives no signature.
    #[error("{0}")]
    Signer(ContextError),
    /// The system has no randomness.
    #[error("no randomness")]
    Randomness,
    /// It took too long.
    #[error("handshake timed out")]
    Timeout,
}

impl From<std::io::Error> for HandshakeError {
    fn from(error: std::io::Error) -> Self {
        Self::Stream(StreamError::Io(error))
    }
}

/// An encrypted stream and who is at its other end.
pub struct Secured<R, W> {
    /// Reading half.
    pub reader: SecretReader<R>,
    /// Writing half.
    pub writer: SecretWriter<W>,
    /// The other side's proven key.
    pub remote_key: [u8; 32],
}

/// Signature of the challenge, by the rule for all signatures of the engine.
///
/// # Errors
/// If whoever holds the key does not sign.
pub fn sign_challenge(key: &SecretKey, challenge: &[u8; 32]) -> Result<[u8; 64], HandshakeError> {
    sign_with_context(key, &COMETBFT, None, None, challenge).map_err(HandshakeError::Signer)
}

/// Makes an encrypted stream; the caller limits the time.
pub async fn secure<R, W>(read: R, mut write: W, key: &SecretKey) -> Result<Secured<R, W>, HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|_| HandshakeError::Randomness)?;
    let ephemeral = Ephemeral::from_bytes(seed);
    let ours = EphemeralKey { key: ephemeral.public().to_vec() };
    write.write_all(&ours.encode_delimited()).await?;
    write.flush().await?;

    let mut read = BufReader::with_capacity(READ_AHEAD, read);
    let theirs = EphemeralKey::decode(&read_plain(&mut read, MAX_EPHEMERAL_BYTES).await?)?;
    let agreement = ephemeral.agree(&pad_key(&theirs.key))?;

    let mut reader = SecretReader::new(read, Opener::new(&agreement.keys.recv));
    let mut writer = SecretWriter::new(write, Sealer::new(&agreement.keys.send));
    let auth = AuthSigMessage {
        pub_key: PublicKey::ed25519(&key.public()),
        sig: sign_challenge(key, &agreement.challenge)?.to_vec(),
    };
    writer.write(&auth.encode_delimited()).await?;

    let auth = AuthSigMessage::decode(&reader.read_delimited(MAX_AUTH_BYTES).await?)?;
    let remote_key = auth.pub_key.as_ed25519().ok_or(HandshakeError::KeyType)?;
    let signature = auth.sig.as_slice().try_into().map_err(|_| HandshakeError::Signature)?;
    if !ed25519::verify(&remote_key, &signing_digest(&agreement.challenge), signature) {
        return Err(HandshakeError::Signature);
    }
    Ok(Secured { reader, writer, remote_key })
}

/// An ephemeral key as received: cut or filled up with zeros to 32 bytes, as the reference does.
fn pad_key(bytes: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    let len = bytes.len().min(key.len());
    key[..len].copy_from_slice(&bytes[..len]);
    key
}

/// Reads a message preceded by its length, and not a byte more.
async fn read_plain<R: AsyncRead + Unpin>(io: &mut R, max: usize) -> Result<Vec<u8>, StreamError> {
    let mut head = Vec::with_capacity(2);
    let len = loop {
        head.push(io.read_u8().await?);
        if let Some((len, _)) = read_length(&head)? {
            break len;
        }
    };
    let too_long = StreamError::TooLong { len, max };
    let len = usize::try_from(len).ok().filter(|len| *len <= max).ok_or(too_long)?;
    let mut body = vec![0; len];
    io.read_exact(&mut body).await?;
    Ok(body)
}

#[cfg(test)]
mod tests;
