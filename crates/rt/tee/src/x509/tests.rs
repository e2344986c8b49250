//! Tests of certificates: the pinned roots, genuine chains, and what may change outside the signed part.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use super::*;

const CHAIN: &[u8] = include_bytes!("../../data/mock-pck-chain.pem");
const NOW: i64 = 1_671_497_404;

fn chain() -> Vec<Certificate> {
    certificates_from_pem(CHAIN).unwrap()
}

fn verify(leaf: &Certificate, middle: &Certificate) -> Result<(), CertificateError> {
    let root = &chain()[2];
    verify_chain(leaf, Some(middle), root, &INTEL_SGX_ROOT, NOW.into())
}

#[test]
fn pinned_roots() {
    let digest = |c: &Certificate| hex::encode(Sha256::digest(c.der()));
    // Fingerprints that Intel publishes for its two roots.
    assert_eq!(digest(&INTEL_SGX_ROOT), "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3");
    assert_eq!(digest(&INTEL_IAS_ROOT), "7b42e41ec43b91db834a065de4f98a13c44d695570e839cfa8921e584e40735d");
    for root in [&*INTEL_SGX_ROOT, &*INTEL_IAS_ROOT] {
        assert!(root.is_signed_by(root));
        assert_eq!(root.issuer, root.subject);
        assert!(matches!(root.basic, Some((true, _))));
        assert!(root.may_sign_certificates());
    }
}

#[test]
fn genuine_chain() {
    let list = chain();
    let [leaf, middle, root] = list.as_slice() else { panic!("three certificates") };
    assert_eq!(verify(leaf, middle), Ok(()));
    assert_eq!(verify(middle, leaf), Ok(()), "the intermediate itself chains directly");
    assert_eq!(verify(leaf, leaf), Err(CertificateError::UnknownAuthority));
    assert_eq!(verify(leaf, root), Err(CertificateError::UnknownAuthority));
    let other_root = verify_chain(leaf, Some(middle), middle, &INTEL_SGX_ROOT, NOW.into());
    assert_eq!(other_root, Err(CertificateError::UnexpectedRoot));
    let without = verify_chain(leaf, None, root, &INTEL_SGX_ROOT, NOW.into());
    assert_eq!(without, Err(CertificateError::UnknownAuthority));
    let other_trust = verify_chain(leaf, Some(middle), root, &INTEL_IAS_ROOT, NOW.into());
    assert_eq!(other_trust, Err(CertificateError::UnknownAuthority));
    assert_eq!(verify(root, middle), Ok(()), "the root chains to itself");
}

#[test]
fn leaf_may_not_sign() {
    let list = chain();
    assert!(!list[0].may_sign_certificates());
    assert_eq!(list[0].basic, Some((false, None)));
    assert!(matches!(
        list[0].check_parent(&Certificate { issuer: list[0].subject.clone(), ..list[1].clone() }, 0, false, NOW.into()),
        Err(CertificateError::NotAcceptable { .. })
    ));
}

#[test]
fn validity_ends_are_inclusive() {
    let leaf = &chain()[0];
    assert_eq!((leaf.not_before.seconds(), leaf.not_after.seconds()), (1_670_238_721, 1_891_163_521));
    assert!(leaf.check(leaf.not_before, 0).is_ok());
    assert!(leaf.check(leaf.not_after, 0).is_ok());
    assert!(leaf.check(UnixTime::new(1_670_238_720, 999_999_999), 0).is_err());
    assert!(leaf.check(UnixTime::new(1_891_163_521, 1), 0).is_err());
}

/// Rebuilds a DER element with a definite length.
fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(n) if n < 128 => out.push(n),
        _ => {
            let length = u16::try_from(content.len()).unwrap().to_be_bytes();
            if length[0] == 0 {
                out.extend([0x81, length[1]]);
            } else {
                out.push(0x82);
                out.extend(length);
            }
        }
    }
    out.extend_from_slice(content);
    out
}

/// The leaf with its signature's bit string content replaced and bytes added after it.
fn with_signature(content: &[u8], after: &[u8]) -> Vec<u8> {
    let leaf = chain()[0].clone();
    let mut outer = Der::new(leaf.der()).read(tag::SEQUENCE).unwrap();
    let signed = outer.any().unwrap();
    let algorithm = outer.any().unwrap();
    wrap(tag::SEQUENCE, &[signed.full, algorithm.full, &wrap(tag::BIT_STRING, content), after].concat())
}

#[test]
fn changes_outside_the_signed_part() {
    let list = chain();
    let signature = list[0].signature.clone();
    let plain = [&[0][..], &signature].concat();
    let verdict = |der: Vec<u8>| Certificate::from_der(&der).and_then(|c| verify(&c, &list[1]));
    assert_eq!(with_signature(&plain, b""), list[0].der());
    assert_eq!(verdict(with_signature(&plain, b"")), Ok(()));
    assert_eq!(verdict(with_signature(&plain, b"anything")), Ok(()), "not looked at");
    assert!(verdict([list[0].der(), b"x"].concat()).is_err(), "after the certificate");

    // The same signature, moved left by two bits with two unused bits at the end.
    let mut moved = vec![2];
    let mut number: Vec<u8> = signature.clone();
    let mut carry = 0;
    for byte in number.iter_mut().rev() {
        let next = *byte >> 6;
        *byte = (*byte << 2) | carry;
        carry = next;
    }
    assert_eq!(carry, 0);
    moved.extend(number);
    assert_eq!(verdict(with_signature(&moved, b"")), Ok(()));

    // The other root of the signature equation.
    let parsed = ecdsa_from_der(&signature).unwrap();
    let (r, s) = parsed.split_scalars();
    let negated = p256::ecdsa::Signature::from_scalars(r, -s).unwrap();
    let integer = |bytes: &[u8]| {
        let start = bytes.iter().position(|b| *b != 0).unwrap();
        let sign: &[u8] = if bytes[start] & 0x80 != 0 { &[0] } else { &[] };
        wrap(tag::INTEGER, &[sign, &bytes[start..]].concat())
    };
    let (r, s) = negated.split_bytes();
    let der = wrap(tag::SEQUENCE, &[integer(&r), integer(&s)].concat());
    assert_eq!(verdict(with_signature(&[&[0][..], &der].concat(), b"")), Ok(()));

    // Anything after the two numbers, or inside, is refused.
    let inner = [integer(&r), integer(&s), vec![5, 0]].concat();
    let der = wrap(tag::SEQUENCE, &inner);
    assert_eq!(verdict(with_signature(&[&[0][..], &der].concat(), b"")), Err(CertificateError::UnknownAuthority));
    let trailing = [&[0][..], &signature, &[0]].concat();
    assert_eq!(verdict(with_signature(&trailing, b"")), Err(CertificateError::UnknownAuthority));
}

#[test]
fn pem_blocks() {
    let text = String::from_utf8(CHAIN.to_vec()).unwrap();
    assert_eq!(certificates_from_pem(b"").map(|l| l.len()), Ok(0));
    assert_eq!(certificates_from_pem(format!("{text}\nend").as_bytes()).map(|l| l.len()), Ok(3));
    let other = text.replacen("CERTIFICATE", "PRIVATE KEY", 2);
    assert!(matches!(certificates_from_pem(other.as_bytes()), Err(CertificateError::Label { .. })));
    let junk = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(b"junk"));
    assert_eq!(certificates_from_pem(junk.as_bytes()), Err(malformed("certificate")));
}

proptest! {
    #[test]
    fn mutated_certificates_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut der = chain()[0].der().to_vec();
        let index = at.index(der.len());
        if cut { der.truncate(index) } else { der[index] = byte }
        if let Ok(certificate) = Certificate::from_der(&der) {
            let unchanged = certificate.signed == chain()[0].signed;
            prop_assert!(unchanged || verify(&certificate, &chain()[1]).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Certificate::from_der(&data);
        let _ = certificates_from_pem(&data);
        let _ = ecdsa_from_der(&data);
    }
}
