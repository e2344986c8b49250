//! Tests of the handshake: between two of ours, and against ends that break the rules.

use tokio::io::DuplexStream;

use super::*;
use crate::secret::Agreement;

fn key(byte: u8) -> SecretKey {
    SecretKey::from_seed(&[byte; 32])
}

async fn ours(io: DuplexStream) -> Result<[u8; 32], HandshakeError> {
    let (read, write) = tokio::io::split(io);
    secure(read, write, &key(1)).await.map(|secured| secured.remote_key)
}

/// The other end up to the point where it proves who it is.
async fn other_end(mut io: &mut DuplexStream) -> Agreement {
    let ephemeral = Ephemeral::from_bytes([5; 32]);
    let message = EphemeralKey { key: ephemeral.public().to_vec() };
    io.write_all(&message.encode_delimited()).await.unwrap();
    let theirs = EphemeralKey::decode(&read_plain(&mut io, 100).await.unwrap()).unwrap();
    ephemeral.agree(&theirs.key.try_into().unwrap()).unwrap()
}

async fn prove(message: impl FnOnce(&[u8; 32]) -> AuthSigMessage) -> Result<[u8; 32], HandshakeError> {
    let (local, mut remote) = tokio::io::duplex(1 << 16);
    let (result, ()) = tokio::join!(ours(local), async {
        let agreement = other_end(&mut remote).await;
        let message = message(&agreement.challenge).encode_delimited();
        SecretWriter::new(&mut remote, Sealer::new(&agreement.keys.send)).write(&message).await.unwrap();
    });
    result
}

fn auth(key: &SecretKey, signature: [u8; 64]) -> AuthSigMessage {
    AuthSigMessage { pub_key: PublicKey::ed25519(&key.public()), sig: signature.to_vec() }
}

#[tokio::test]
async fn two_ends_prove_their_keys_and_talk() {
    let (a, b) = tokio::io::duplex(1 << 16);
    let ((ar, aw), (br, bw)) = (tokio::io::split(a), tokio::io::split(b));
    let (a_key, b_key) = (key(1), key(2));
    let (a, b) = tokio::join!(secure(ar, aw, &a_key), secure(br, bw, &b_key));
    let (mut a, mut b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.remote_key, b_key.public());
    assert_eq!(b.remote_key, a_key.public());
    a.writer.write(&[2, 1, 2]).await.unwrap();
    assert_eq!(b.reader.read_delimited(2).await.unwrap(), [1, 2]);
    b.writer.write(&[1, 3]).await.unwrap();
    assert_eq!(a.reader.read_delimited(2).await.unwrap(), [3]);
}

#[tokio::test]
async fn the_right_proof_is_taken() {
    let other = key(2);
    let result = prove(|challenge| auth(&other, sign_challenge(&other, challenge).unwrap())).await;
    assert_eq!(result.unwrap(), other.public());
}

#[tokio::test]
async fn a_plain_signature_is_refused() {
    let other = key(2);
    let result = prove(|challenge| auth(&other, other.sign(challenge))).await;
    assert!(matches!(result, Err(HandshakeError::Signature)), "{result:?}");
}

#[tokio::test]
async fn somebody_elses_key_is_refused() {
    let (other, third) = (key(2), key(3));
    let result = prove(|challenge| auth(&third, sign_challenge(&other, challenge).unwrap())).await;
    assert!(matches!(result, Err(HandshakeError::Signature)), "{result:?}");
}

#[tokio::test]
async fn other_key_types_are_refused() {
    let result = prove(|_| AuthSigMessage {
        pub_key: wire_cometbft::keys::PublicKeySum::Secp256k1(vec![2; 33]).into(),
        sig: vec![0; 64],
    });
    assert!(matches!(result.await, Err(HandshakeError::KeyType)));
    let result = prove(|_| AuthSigMessage::default()).await;
    assert!(matches!(result, Err(HandshakeError::KeyType)), "{result:?}");
    let result = prove(|_| AuthSigMessage { sig: vec![0; 63], ..auth(&key(2), [0; 64]) }).await;
    assert!(matches!(result, Err(HandshakeError::Signature)), "{result:?}");
}

#[tokio::test]
async fn hostile_first_messages_are_refused() {
    let small_order = EphemeralKey { key: vec![0; 32] }.encode_delimited();
    let empty = EphemeralKey::default().encode_delimited();
    let too_long = EphemeralKey { key: vec![1; MAX_EPHEMERAL_BYTES] }.encode_delimited();
    for (bytes, expected) in [
        (small_order, "shared secret is zero"),
        (empty, "shared secret is zero"),
        (too_long, "message of 1027 bytes, at most 1024 allowed"),
        (vec![0xff; 20], "invalid message length"),
        (vec![2, 0xff, 0xff], "malformed handshake message: unexpected end of input"),
    ] {
        let (local, mut remote) = tokio::io::duplex(1 << 16);
        remote.write_all(&bytes).await.unwrap();
        assert_eq!(ours(local).await.unwrap_err().to_string(), expected);
    }
}

#[test]
fn short_and_long_keys_are_fitted() {
    assert_eq!(pad_key(&[1; 31])[30..], [1, 0]);
    assert_eq!(pad_key(&[1; 40]), [1; 32]);
}
