//! The hash functions in use, each over a list of parts so that nothing is concatenated first.

use sha2::Digest;

/// Feeds every part to the hash function and returns its digest.
fn digest_parts<D: Digest, const N: usize>(parts: &[&[u8]]) -> [u8; N]
where
    [u8; N]: From<sha2::digest::Output<D>>,
{
    let mut h = D::new();
    for part in parts {
        h.update(part);
    }
    h.finalize().into()
}

/// SHA-512/256 of the concatenated parts: the network's general purpose hash (`go/common/crypto/hash`).
#[must_use]
pub fn sha512_256(parts: &[&[u8]]) -> [u8; 32] {
    digest_parts::<sha2::Sha512_256, 32>(parts)
}

/// SHA-256 of the concatenated parts, as CometBFT hashes headers, transactions and addresses.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    digest_parts::<sha2::Sha256, 32>(parts)
}

/// SHA-512 of the concatenated parts.
#[must_use]
pub fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    digest_parts::<sha2::Sha512, 64>(parts)
}

/// SHA3-256 of the concatenated parts.
#[must_use]
pub fn sha3_256(parts: &[&[u8]]) -> [u8; 32] {
    digest_parts::<sha3::Sha3_256, 32>(parts)
}

/// Incremental SHA-512/256 for input that comes piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Hasher(sha2::Sha512_256);

impl Hasher {
    /// A hasher that has seen nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends bytes to the input.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// The digest of everything appended.
    #[must_use]
    pub fn finalize(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4 and FIPS 202 sample digests of "abc".
    #[test]
    fn published_digests_of_abc() {
        let check = |got: &[u8], want: &str| assert_eq!(hex::encode(got), want);
        check(&sha512_256(&[b"a", b"", b"bc"]), "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23");
        check(&sha256(&[b"ab", b"c"]), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        check(&sha3_256(&[b"abc"]), "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532");
        check(
            &sha512(&[b"abc"]),
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        );
    }

    #[test]
    fn incremental_equals_one_shot() {
        let data: Vec<u8> = (0..=255).collect();
        let mut h = Hasher::new();
        for chunk in data.chunks(37) {
            h.update(chunk);
        }
        assert_eq!(h.finalize(), sha512_256(&[&data]));
    }
}
