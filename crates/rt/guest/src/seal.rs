//! Sealing what is kept outside of the enclave, and the KMAC that keys are derived with.
//!
//! Source: `runtime/src/common/sgx/{seal,egetkey}.rs`. Outside of enclaves the keys are fixed and known to everybody.

use base_crypto::{
    cshake::cshake256,
    mrae::{MraeError, NONCE_LEN, SymmetricKey, TAG_LEN},
};
use zeroize::Zeroizing;

use crate::{
    identity::{IdentityError, random},
    tee::Tee,
};

const SEAL_KDF: &[u8] = b"Ekiden Expand SGX Seal Key";
const MOCK_KDF: &[u8] = b"Ekiden Extract Test SGX Seal Key";
const MOCK_MRENCLAVE_KEY: &[u8] = b"Ekiden Test MRENCLAVE KEY";
const MOCK_MRSIGNER_KEY: &[u8] = b"Ekiden Test MRSIGNER KEY";

/// Bytes of cSHAKE256's rate.
const RATE: usize = 136;

/// Who can unseal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealPolicy {
    /// This enclave alone.
    MrEnclave,
    /// Every enclave of this signer.
    MrSigner,
}

/// Why nothing was sealed or unsealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The TEE has no sealing keys.
    #[error("sealing is not supported here")]
    Unsupported,
    /// Not sealed by this enclave in this context.
    #[error("ciphertext is corrupted")]
    Corrupted,
    /// The cipher.
    #[error(transparent)]
    Cipher(#[from] MraeError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] IdentityError),
}

/// Whether what runs in this TEE can seal: trust domains have no keys of their own.
pub fn is_supported(tee: &Tee) -> bool {
    !matches!(tee, Tee::Tdx(_))
}

/// KMAC256 of `data` (NIST SP 800-185).
pub fn kmac256(key: &[u8], customization: &[u8], data: &[&[u8]], out: &mut [u8]) {
    let mut input = Zeroizing::new(Vec::with_capacity(RATE * 2));
    left_encode(&mut input, RATE as u64);
    left_encode(&mut input, (key.len() as u64).saturating_mul(8));
    input.extend_from_slice(key);
    let padded = input.len().next_multiple_of(RATE);
    input.resize(padded, 0);
    for part in data {
        input.extend_from_slice(part);
    }
    right_encode(&mut input, (out.len() as u64).saturating_mul(8));
    cshake256(b"KMAC", customization, &input, out);
}

/// The number's bytes without leading zeros, at least one.
fn shortest(n: u64) -> Vec<u8> {
    let bytes = n.to_be_bytes();
    let from = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len() - 1);
    bytes[from..].to_vec()
}

fn left_encode(out: &mut Vec<u8>, n: u64) {
    let bytes = shortest(n);
    out.push(bytes.len() as u8);
    out.extend_from_slice(&bytes);
}

fn right_encode(out: &mut Vec<u8>, n: u64) {
    let bytes = shortest(n);
    out.extend_from_slice(&bytes);
    out.push(bytes.len() as u8);
}

fn key(tee: &Tee, policy: SealPolicy, context: &[u8]) -> Result<SymmetricKey, SealError> {
    if !is_supported(tee) {
        return Err(SealError::Unsupported);
    }
    let secret = match policy {
        SealPolicy::MrEnclave => MOCK_MRENCLAVE_KEY,
        SealPolicy::MrSigner => MOCK_MRSIGNER_KEY,
    };
    let mut extracted = Zeroizing::new([0; 16]);
    kmac256(secret, MOCK_KDF, &[context], &mut *extracted);
    let mut expanded = Zeroizing::new([0; 32]);
    kmac256(&*extracted, SEAL_KDF, &[context], &mut *expanded);
    Ok(SymmetricKey::from_bytes(&expanded))
}

/// Seals `data`, and binds it to `aad`: ciphertext, tag, nonce.
///
/// # Errors
/// If the TEE cannot seal.
pub fn seal(tee: &Tee, policy: SealPolicy, context: &[u8], data: &[u8], aad: &[u8]) -> Result<Vec<u8>, SealError> {
    let nonce = random::<NONCE_LEN>()?;
    let mut sealed = key(tee, policy, context)?.seal(&nonce, data, aad)?;
    sealed.extend_from_slice(&nonce);
    Ok(sealed)
}

/// Opens what was sealed.
///
/// # Errors
/// If it was sealed by another enclave, in another context, or changed since.
pub fn unseal(
    tee: &Tee,
    policy: SealPolicy,
    context: &[u8],
    sealed: &[u8],
    aad: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (sealed, nonce) = sealed.split_last_chunk::<NONCE_LEN>().ok_or(SealError::Corrupted)?;
    if sealed.len() < TAG_LEN {
        return Err(SealError::Corrupted);
    }
    let opened = key(tee, policy, context)?.open(nonce, sealed, aad).map_err(|_| SealError::Corrupted)?;
    Ok(Zeroizing::new(opened))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples 4 to 6 of NIST's KMAC examples.
    #[test]
    fn kmac_samples() {
        let key: Vec<u8> = (0x40..0x60).collect();
        let long: Vec<u8> = (0..200).collect();
        let check = |data: &[u8], custom: &[u8], expected: &str| {
            let mut out = [0; 64];
            kmac256(&key, custom, &[data], &mut out);
            assert_eq!(hex::encode_upper(out), expected);
        };
        check(
            &[0, 1, 2, 3],
            b"My Tagged Application",
            "20C570C31346F703C9AC36C61C03CB64C3970D0CFC787E9B79599D273A68D2F7F69D4CC3DE9D104A351689F27CF6F5951F0103F33F4F24871024D9C27773A8DD",
        );
        check(
            &long,
            b"",
            "75358CF39E41494E949707927CEE0AF20A3FF553904C86B08F21CC414BCFD691589D27CF5E15369CBBFF8B9A4C2EB17800855D0235FF635DA82533EC6B759B69",
        );
        check(
            &long,
            b"My Tagged Application",
            "B58618F71F92E1D56C1B8C55DDD7CD188B97B4CA4D99831EB2699A837DA2E4D970FBACFDE50033AEA585F1A2708510C32D07880801BD182898FE476876FC8965",
        );
    }

    #[test]
    fn sealed_data_opens_in_its_own_context_only() {
        let tee = Tee::None;
        let sealed = seal(&tee, SealPolicy::MrEnclave, b"context", b"data", b"aad").unwrap();
        let open =
            |policy, context: &[u8], sealed: &[u8]| unseal(&tee, policy, context, sealed, b"aad").map(|d| d.to_vec());
        assert_eq!(open(SealPolicy::MrEnclave, b"context", &sealed).unwrap(), b"data");
        assert!(open(SealPolicy::MrSigner, b"context", &sealed).is_err());
        assert!(open(SealPolicy::MrEnclave, b"other", &sealed).is_err());
        assert!(open(SealPolicy::MrEnclave, b"context", &sealed[..20]).is_err());
        assert!(open(SealPolicy::MrEnclave, b"context", &[]).is_err());
        assert!(unseal(&tee, SealPolicy::MrEnclave, b"context", &sealed, b"").is_err());
        let mut changed = sealed;
        changed[0] ^= 1;
        assert!(open(SealPolicy::MrEnclave, b"context", &changed).is_err());
    }
}
