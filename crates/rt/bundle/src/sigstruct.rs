//! SIGSTRUCT: the signature of an SGX enclave.
//!
//! 1808 bytes. The signed part is bytes 0 to 127 and 900 to 1027; the key (RSA, 3072 bits, exponent 3) and the signature
//! (PKCS #1 v1.5 with SHA-256) are little-endian, and Q1 and Q2 are quotients that spare the processor divisions.
//! Source: Intel SDM volume 3, section 37.14; `go/common/sgx/sigstruct`.

use num_bigint::BigUint;
use sha2::{Digest as _, Sha256};
use wire_consensus::tee::{MrEnclave, MrSigner};

/// Bytes of a SIGSTRUCT.
pub const BYTES: usize = 1808;

const MODULUS_BYTES: usize = 384;
const MODULUS_BITS: u64 = 3072;
const EXPONENT: u32 = 3;

const DATE: usize = 20;
const HEADER2: usize = 24;
const SW_DEFINED: usize = 40;
const MODULUS: usize = 128;
const EXPONENT_AT: usize = 512;
const SIGNATURE: usize = 516;
const MISC_SELECT: usize = 900;
const MISC_MASK: usize = 904;
const ATTRIBUTES: usize = 928;
const ATTRIBUTES_MASK: usize = 944;
const ENCLAVE_HASH: usize = 960;
const ISV_PROD_ID: usize = 1024;
const ISV_SVN: usize = 1026;
const SIGNED_END: usize = 1028;
const Q1: usize = 1040;
const Q2: usize = 1424;

const HEADER_BYTES: [u8; 16] = [6, 0, 0, 0, 0xe1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
const HEADER2_BYTES: [u8; 16] = [1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0];

/// DER of the algorithm identifier before a SHA-256 digest in PKCS #1 v1.5.
const DIGEST_INFO: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];

/// Why a signature is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another size.
    #[error("sigstruct has {length} bytes instead of {BYTES}")]
    Length {
        /// Its size.
        length: usize,
    },
    /// Not a key of 3072 bits.
    #[error("key of {bits} bits instead of {MODULUS_BITS}, or an even one")]
    Modulus {
        /// Its size.
        bits: u64,
    },
    /// Another exponent than 3.
    #[error("public exponent is {exponent} instead of {EXPONENT}")]
    Exponent {
        /// The exponent.
        exponent: u32,
    },
    /// The signature does not verify.
    #[error("invalid signature; the file was changed after signing, or is of another enclave")]
    Signature,
    /// A quotient is not the signature's.
    #[error("invalid {quotient}")]
    Quotient {
        /// Which.
        quotient: &'static str,
    },
    /// The date is none.
    #[error("malformed date {date:08x}")]
    Date {
        /// Its digits.
        date: u32,
    },
    /// The signature is of another enclave.
    #[error("signature is of enclave {signed}, the image is {found}; sign this image or ship the one that was signed")]
    OtherEnclave {
        /// The enclave that was signed.
        signed: MrEnclave,
        /// The enclave in the bundle.
        found: MrEnclave,
    },
}

/// The signed statement about an enclave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sigstruct {
    /// Year, month and day of the build.
    pub build_date: (u16, u8, u8),
    /// For the signer's use.
    pub sw_defined: [u8; 4],
    /// Extended features.
    pub misc_select: u32,
    /// Which of them must be as they are here.
    pub misc_select_mask: u32,
    /// Attributes: flags and XFRM.
    pub attributes: [u64; 2],
    /// Which of them must be as they are here.
    pub attributes_mask: [u64; 2],
    /// The enclave.
    pub enclave_hash: MrEnclave,
    /// Product.
    pub isv_prod_id: u16,
    /// Security version.
    pub isv_svn: u16,
}

impl Sigstruct {
    /// The bytes without key, signature and quotients.
    pub fn unsigned_bytes(&self) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &HEADER_BYTES);
        put(DATE, &self.date_digits().to_le_bytes());
        put(HEADER2, &HEADER2_BYTES);
        put(SW_DEFINED, &self.sw_defined);
        put(MISC_SELECT, &self.misc_select.to_le_bytes());
        put(MISC_MASK, &self.misc_select_mask.to_le_bytes());
        put(ATTRIBUTES, &self.attributes[0].to_le_bytes());
        put(ATTRIBUTES + 8, &self.attributes[1].to_le_bytes());
        put(ATTRIBUTES_MASK, &self.attributes_mask[0].to_le_bytes());
        put(ATTRIBUTES_MASK + 8, &self.attributes_mask[1].to_le_bytes());
        put(ENCLAVE_HASH, self.enclave_hash.as_bytes());
        put(ISV_PROD_ID, &self.isv_prod_id.to_le_bytes());
        put(ISV_SVN, &self.isv_svn.to_le_bytes());
        out
    }

    /// SHA-256 of the signed part: what an offline signer signs.
    pub fn hash_for_signature(&self) -> [u8; 32] {
        signed_hash(&self.unsigned_bytes())
    }

    /// Puts a signature made elsewhere in place.
    ///
    /// `modulus` and `signature` are big-endian.
    ///
    /// # Errors
    /// If they do not verify over this statement.
    pub fn with_signature(&self, modulus: &[u8], signature: &[u8]) -> Result<Vec<u8>, Error> {
        let (modulus, signature) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(signature));
        check_modulus(&modulus)?;
        if signature >= modulus {
            return Err(Error::Signature);
        }
        let (q1, q2) = quotients(&signature, &modulus);
        let mut out = self.unsigned_bytes();
        put_le(&mut out[MODULUS..EXPONENT_AT], &modulus);
        out[EXPONENT_AT..SIGNATURE].copy_from_slice(&EXPONENT.to_le_bytes());
        put_le(&mut out[SIGNATURE..MISC_SELECT], &signature);
        put_le(&mut out[Q1..Q2], &q1);
        put_le(&mut out[Q2..], &q2);
        verify(&out)?;
        Ok(out.to_vec())
    }

    /// The build date as eight decimal digits, one per nibble.
    fn date_digits(&self) -> u32 {
        let (year, month, day) = self.build_date;
        let decimal = u32::from(year) * 10_000 + u32::from(month) * 100 + u32::from(day);
        let (mut rest, mut out) = (decimal, 0);
        for nibble in 0..8 {
            out |= (rest % 10) << (4 * nibble);
            rest /= 10;
        }
        out
    }
}

fn put_le(out: &mut [u8], value: &BigUint) {
    for (to, from) in out.iter_mut().zip(value.to_bytes_le()) {
        *to = from;
    }
}

fn signed_hash(bytes: &[u8; BYTES]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(&bytes[..MODULUS]);
    hasher.update(&bytes[MISC_SELECT..SIGNED_END]);
    hasher.finalize().into()
}

fn check_modulus(modulus: &BigUint) -> Result<(), Error> {
    if modulus.bits() != MODULUS_BITS || !modulus.bit(0) {
        return Err(Error::Modulus { bits: modulus.bits() });
    }
    Ok(())
}

/// `s² / n` and `(s³ - q1 · s · n) / n`, rounded down.
fn quotients(signature: &BigUint, modulus: &BigUint) -> (BigUint, BigUint) {
    let square = signature * signature;
    let q1 = &square / modulus;
    let rest = square - &q1 * modulus;
    let q2 = rest * signature / modulus;
    (q1, q2)
}

/// What a valid signature of `digest` gives when raised to the exponent.
fn padded(digest: &[u8; 32]) -> BigUint {
    let mut out = [0xff; MODULUS_BYTES];
    let info = MODULUS_BYTES - digest.len() - DIGEST_INFO.len();
    out[0] = 0;
    out[1] = 1;
    out[info - 1] = 0;
    out[info..info + DIGEST_INFO.len()].copy_from_slice(&DIGEST_INFO);
    out[MODULUS_BYTES - digest.len()..].copy_from_slice(digest);
    BigUint::from_bytes_be(&out)
}

fn u16_at(bytes: &[u8; BYTES], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; BYTES], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8; BYTES], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Verifies a SIGSTRUCT; returns what it says and who signed it.
///
/// # Errors
/// If it does not verify.
pub fn verify(bytes: &[u8]) -> Result<(Sigstruct, MrSigner), Error> {
    let Ok(bytes) = <&[u8; BYTES]>::try_from(bytes) else {
        return Err(Error::Length { length: bytes.len() });
    };
    let modulus = BigUint::from_bytes_le(&bytes[MODULUS..EXPONENT_AT]);
    check_modulus(&modulus)?;
    let exponent = u32_at(bytes, EXPONENT_AT);
    if exponent != EXPONENT {
        return Err(Error::Exponent { exponent });
    }
    let signature = BigUint::from_bytes_le(&bytes[SIGNATURE..MISC_SELECT]);
    let opened = signature.modpow(&BigUint::from(EXPONENT), &modulus);
    if signature >= modulus || opened != padded(&signed_hash(bytes)) {
        return Err(Error::Signature);
    }
    let (q1, q2) = quotients(&signature, &modulus);
    if q1 != BigUint::from_bytes_le(&bytes[Q1..Q2]) {
        return Err(Error::Quotient { quotient: "Q1" });
    }
    if q2 != BigUint::from_bytes_le(&bytes[Q2..]) {
        return Err(Error::Quotient { quotient: "Q2" });
    }
    let statement = parse(bytes)?;
    let signer = Sha256::digest(&bytes[MODULUS..EXPONENT_AT]);
    Ok((statement, MrSigner::new(signer.into())))
}

fn parse(bytes: &[u8; BYTES]) -> Result<Sigstruct, Error> {
    let date = u32_at(bytes, DATE);
    let build_date = date_of(date).ok_or(Error::Date { date })?;
    let mut sw_defined = [0; 4];
    sw_defined.copy_from_slice(&bytes[SW_DEFINED..SW_DEFINED + 4]);
    let mut enclave = [0; 32];
    enclave.copy_from_slice(&bytes[ENCLAVE_HASH..ENCLAVE_HASH + 32]);
    Ok(Sigstruct {
        build_date,
        sw_defined,
        misc_select: u32_at(bytes, MISC_SELECT),
        misc_select_mask: u32_at(bytes, MISC_MASK),
        attributes: [u64_at(bytes, ATTRIBUTES), u64_at(bytes, ATTRIBUTES + 8)],
        attributes_mask: [u64_at(bytes, ATTRIBUTES_MASK), u64_at(bytes, ATTRIBUTES_MASK + 8)],
        enclave_hash: MrEnclave::new(enclave),
        isv_prod_id: u16_at(bytes, ISV_PROD_ID),
        isv_svn: u16_at(bytes, ISV_SVN),
    })
}

/// Year, month and day of eight decimal digits, if they are a date.
fn date_of(digits: u32) -> Option<(u16, u8, u8)> {
    let mut decimal = 0u32;
    for nibble in (0..8).rev() {
        let digit = (digits >> (4 * nibble)) & 0xf;
        if digit > 9 {
            return None;
        }
        decimal = decimal * 10 + digit;
    }
    let (year, month, day) = (decimal / 10_000, decimal / 100 % 100, decimal % 100);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days).contains(&day) {
        return None;
    }
    Some((u16::try_from(year).ok()?, u8::try_from(month).ok()?, u8::try_from(day).ok()?))
}
