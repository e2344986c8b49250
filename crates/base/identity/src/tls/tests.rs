//! The reference's certificate byte for byte, and one refusal per check.

use super::*;
use serde_json::Value;

/// A data directory recorded from the reference.
pub(crate) fn recorded() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors/crypto/identity.json");
    serde_json::from_slice(&dev_testkit::read(path.as_ref()).unwrap()).unwrap()
}

fn file(v: &Value, name: &str) -> String {
    v["files"][name]["text"].as_str().unwrap().to_owned()
}

fn recorded_key() -> SecretKey {
    parse_pkcs8(&pem::decode(KEY_PEM, file(&recorded(), "tls_identity.pem").as_bytes()).unwrap()).unwrap()
}

const NOW: i64 = 1_750_000_000;

fn key() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

/// Issues with the template's parameters after a change.
fn changed(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, COMMON_NAME);
    params.distinguished_name = name;
    params.serial_number = Some(SerialNumber::from_slice(&[1]));
    params.not_before = OffsetDateTime::from_unix_timestamp(NOW - 3600).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(NOW + 3600).unwrap();
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    params.self_signed(&Signer { key: &key(), public: key().public() }).unwrap().der().to_vec()
}

#[test]
fn certificate_equals_the_references() {
    let v = recorded();
    let tls = TlsIdentity::issue(recorded_key(), v["now"].as_i64().unwrap()).unwrap();
    assert_eq!(hex::encode(tls.certificate_der()), v["certificate"].as_str().unwrap());
    assert_eq!(*pem::encode(KEY_PEM, &tls.key_pkcs8_der()), file(&v, "tls_identity.pem"));
    assert_eq!(*pem::encode(CERT_PEM, tls.certificate_der()), file(&v, "tls_identity_cert.pem"));
}

#[test]
fn references_certificate_is_accepted_while_valid() {
    let v = recorded();
    let der = hex::decode(v["certificate"].as_str().unwrap()).unwrap();
    let (now, to) = (v["now"].as_i64().unwrap(), v["certificate_expiry"].as_i64().unwrap());
    let key: [u8; 32] = hex::decode(v["tls"].as_str().unwrap()).unwrap().try_into().unwrap();
    let from = now - 3600;
    for t in [from, now, to] {
        assert_eq!(verify_tls_peer(&der, Some(&key), t), Ok(key));
        assert_eq!(verify_tls_peer(&der, None, t), Ok(key));
    }
    for now_unix in [i64::MIN, from - 1, to + 1, i64::MAX] {
        assert_eq!(verify_tls_peer(&der, None, now_unix), Err(TlsError::Validity { from, to, now_unix }));
    }
}

#[test]
fn pinned_key_counts() {
    let der = changed(|_| {});
    assert_eq!(verify_tls_peer(&der, Some(&key().public()), NOW), Ok(key().public()));
    let expected = [9; 32];
    let found = key().public();
    assert_eq!(verify_tls_peer(&der, Some(&expected), NOW), Err(TlsError::Key { found, expected }));
}

#[test]
fn deviations_from_the_template_are_refused() {
    let check = |want: TlsError, change: &dyn Fn(&mut CertificateParams)| {
        assert_eq!(verify_tls_peer(&changed(change), None, NOW), Err(want));
    };
    check(TlsError::CommonName { found: "other".into(), expected: COMMON_NAME }, &|p| {
        p.distinguished_name = DistinguishedName::new();
        p.distinguished_name.push(DnType::CommonName, "other");
    });
    check(TlsError::CommonName { found: String::new(), expected: COMMON_NAME }, &|p| {
        p.distinguished_name = DistinguishedName::new()
    });
    check(TlsError::Serial, &|p| p.serial_number = Some(SerialNumber::from_slice(&[2])));
    check(TlsError::KeyUsage { found: 0x21 }, &|p| p.key_usages.retain(|u| *u != KeyUsagePurpose::KeyEncipherment));
    check(TlsError::KeyUsage { found: 0 }, &|p| p.key_usages.clear());
    check(TlsError::KeyUsage { found: 0x27 }, &|p| p.key_usages.push(KeyUsagePurpose::ContentCommitment));
    check(TlsError::ExtendedKeyUsage, &|p| p.extended_key_usages.reverse());
    check(TlsError::ExtendedKeyUsage, &|p| p.extended_key_usages.truncate(1));
    check(TlsError::ExtendedKeyUsage, &|p| p.extended_key_usages.clear());
    check(TlsError::ExtendedKeyUsage, &|p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::CodeSigning));
    check(TlsError::Extensions { found: 4 }, &|p| p.is_ca = rcgen::IsCa::ExplicitNoCa);
    check(TlsError::Extensions { found: 3 }, &|p| {
        p.custom_extensions.push(rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]));
    });
}

#[test]
fn damage_is_refused_everywhere() {
    let der = changed(|_| {});
    for i in 0..der.len() {
        let mut damaged = der.clone();
        damaged[i] ^= 1;
        assert!(verify_tls_peer(&damaged, None, NOW).is_err(), "byte {i}");
        assert!(verify_tls_peer(&der[..i], None, NOW).is_err(), "cut to {i}");
    }
    let mut signature = der.clone();
    *signature.last_mut().unwrap() ^= 1;
    assert_eq!(verify_tls_peer(&signature, None, NOW), Err(TlsError::Signature));
    let longer = [der, vec![0]].concat();
    assert_eq!(verify_tls_peer(&longer, None, NOW), Err(TlsError::Malformed("bytes follow it")));
}

#[test]
fn another_kind_of_key_is_refused() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let der = CertificateParams::default().self_signed(&pair).unwrap().der().to_vec();
    assert_eq!(verify_tls_peer(&der, None, NOW), Err(TlsError::Algorithm));
}

#[test]
fn a_year_later() {
    let at = |y, m, d| time::Date::from_calendar_date(y, m, d).unwrap().midnight().assume_utc();
    assert_eq!(year_later(at(2026, Month::June, 8)), Some(at(2027, Month::June, 8)));
    assert_eq!(year_later(at(2028, Month::February, 29)), Some(at(2029, Month::March, 1)));
    assert_eq!(year_later(at(9999, Month::June, 8)), None);
    for clock in [i64::MIN, i64::MAX, 253_402_300_799] {
        assert!(TlsIdentity::issue(key(), clock).is_err());
    }
}

#[test]
fn pkcs8_forms() {
    let der = TlsIdentity::issue(key(), NOW).unwrap().key_pkcs8_der();
    assert_eq!(parse_pkcs8(&der).unwrap().public(), key().public());
    for i in 0..16 {
        let mut damaged = der.clone();
        damaged[i] ^= 4;
        assert!(parse_pkcs8(&damaged).is_none(), "byte {i}");
    }
    assert!((0..der.len()).all(|cut| parse_pkcs8(&der[..cut]).is_none()));
    // Version 2 carries the public key behind the seed.
    let mut v2 = [&der[..], &[0x81, 0x21, 0x00], &key().public()].concat();
    v2[1] += 35;
    v2[4] = 1;
    assert_eq!(parse_pkcs8(&v2).unwrap().public(), key().public());
}

#[test]
fn secrets_are_not_printed() {
    let tls = TlsIdentity::issue(key(), NOW).unwrap();
    assert!(!format!("{tls:?}").contains(&"07".repeat(8)));
}
