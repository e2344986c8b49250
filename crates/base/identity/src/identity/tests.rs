//! Data directories: the reference's, fresh ones, and one case per error.

use super::*;
use crate::tls::tests::recorded;
use crate::{generate_key, load_key, load_key_file};
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};
use tempfile::TempDir;

const NOW: i64 = 1_750_000_000;

fn put(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A data directory as the reference wrote it.
fn reference_dir() -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, file) in recorded()["files"].as_object().unwrap() {
        put(&dir.path().join(name), file["text"].as_str().unwrap(), file["mode"].as_u64().unwrap() as u32);
    }
    dir
}

fn error(dir: &TempDir) -> FileError {
    Identity::load(dir.path(), NOW).unwrap_err()
}

/// Names the file, without its directory, in front of the message.
fn message(dir: &TempDir, e: &FileError) -> String {
    e.to_string().replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn reference_directory_loads_and_stays_as_it_is() {
    let (dir, v) = (reference_dir(), recorded());
    let id = Identity::load_or_generate(dir.path(), v["now"].as_i64().unwrap()).unwrap();
    let check = |name: &str, key: [u8; 32]| assert_eq!(hex::encode(key), v[name].as_str().unwrap(), "{name}");
    check("node", id.node.public());
    check("p2p", id.p2p.public());
    check("consensus", id.consensus.public());
    check("vrf", id.vrf.public());
    check("tls", id.tls.public());
    check("sentry_client", id.sentry_client_tls.public());
    check("p2p_entropy", *id.p2p_entropy.expose());
    assert!(id.replaced_tls_key.is_none());
    let files = v["files"].as_object().unwrap();
    for (name, file) in files {
        let path = dir.path().join(name);
        assert_eq!(fs::read_to_string(&path).unwrap(), file["text"].as_str().unwrap(), "{name}");
        assert_eq!(u64::from(mode(&path)), file["mode"].as_u64().unwrap(), "{name}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), files.len());
}

#[test]
fn fresh_directory_gets_the_same_files_and_keeps_them() {
    let dir = TempDir::new().unwrap();
    let first = Identity::load_or_generate(dir.path(), NOW).unwrap();
    let mut want: Vec<(String, u32)> = recorded()["files"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(n, f)| (n.clone(), f["mode"].as_u64().unwrap() as u32))
        .collect();
    let mut got: Vec<(String, u32)> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| (e.file_name().into_string().unwrap(), mode(&e.path())))
        .collect();
    want.sort();
    got.sort();
    assert_eq!(got, want);
    let second = Identity::load(dir.path(), NOW + 5).unwrap();
    let keys = |i: &Identity| {
        [&i.node, &i.p2p, &i.consensus, &i.vrf, i.tls.key(), i.sentry_client_tls.key()].map(SecretKey::public)
    };
    assert_eq!(keys(&first), keys(&second));
    assert_eq!(first.p2p_entropy.expose(), second.p2p_entropy.expose());
    assert_ne!(first.tls.certificate_der(), second.tls.certificate_der());
    let mut distinct = keys(&first).to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 6);
}

#[test]
fn load_alone_makes_no_secret_keys() {
    let dir = TempDir::new().unwrap();
    let e = error(&dir);
    assert!(e.is_not_found());
    assert_eq!(
        message(&dir, &e),
        "identity.pem: not found; generate the node's keys first or point to the right data directory"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn leftovers_are_removed() {
    let dir = reference_dir();
    for name in EPHEMERAL_FILES {
        put(&dir.path().join(name), "x", 0o600);
    }
    Identity::load(dir.path(), NOW).unwrap();
    assert!(EPHEMERAL_FILES.iter().all(|n| !dir.path().join(n).exists()));
}

#[test]
fn permissions_must_be_exact() {
    for (name, found) in [
        ("identity.pem", 0o644),
        ("p2p.pem", 0o640),
        ("consensus.pem", 0o400),
        ("vrf.pem", 0o700),
        ("p2p_entropy.pem", 0o604),
    ] {
        let dir = reference_dir();
        let path = dir.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(found)).unwrap();
        let path = path.display();
        assert_eq!(
            error(&dir).to_string(),
            format!("{path}: mode is {found:04o}, must be 0600; run `chmod 600 {path}`")
        );
    }
    let dir = reference_dir();
    fs::set_permissions(dir.path().join("vrf_pub.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    Identity::load(dir.path(), NOW).unwrap();
}

/// Replaces one file's text and checks the error message.
fn check_text(name: &str, change: impl FnOnce(String) -> String, want: &str) {
    let dir = reference_dir();
    let path = dir.path().join(name);
    let text = change(fs::read_to_string(&path).unwrap());
    put(&path, &text, 0o600);
    assert_eq!(message(&dir, &error(&dir)), want);
}

#[test]
fn damaged_files() {
    let backup = "restore the file from a backup";
    check_text(
        "identity.pem",
        |t| t[..60].into(),
        &format!("identity.pem: PEM block is cut off: no line ends it; {backup}"),
    );
    check_text("identity.pem", |_| String::new(), &format!("identity.pem: no PEM block found; {backup}"));
    check_text("consensus.pem", |t| t + "junk", &format!("consensus.pem: 4 bytes follow the PEM block; {backup}"));
    check_text(
        "vrf.pem",
        |t| t.replace("PRIVATE", "SECRET"),
        &format!("vrf.pem: PEM block is of type `ED25519 SECRET KEY`, expected `ED25519 PRIVATE KEY`; {backup}"),
    );
    check_text(
        "p2p.pem",
        |_| crate::pem::encode("ED25519 PRIVATE KEY", &[1; 32]).to_string(),
        &format!("p2p.pem: PEM block holds 32 bytes, expected 64; {backup}"),
    );
    check_text(
        "p2p_entropy.pem",
        |_| crate::pem::encode("STATIC ENTROPY", &[1; 31]).to_string(),
        &format!("p2p_entropy.pem: PEM block holds 31 bytes, expected 32; {backup}"),
    );
    check_text(
        "vrf.pem",
        |_| crate::pem::encode("ED25519 PRIVATE KEY", &[1; 64]).to_string(),
        &format!("vrf.pem: public half does not belong to the secret half; {backup}"),
    );
    check_text(
        "vrf.pem",
        |t| t.replacen("\n", "\n!", 1),
        &format!("vrf.pem: body of the PEM block is not base64; {backup}"),
    );
    check_text(
        "vrf.pem",
        |_| "x".repeat(70_000),
        "vrf.pem: longer than 65536 bytes, which no key file is; restore it from a backup",
    );
}

#[test]
fn public_key_of_another_key() {
    let dir = reference_dir();
    fs::copy(dir.path().join("p2p_pub.pem"), dir.path().join("consensus_pub.pem")).unwrap();
    assert_eq!(
        message(&dir, &error(&dir)),
        "consensus_pub.pem: holds public key ikH5alTIs3kjuO6Nt/mvo5SLrYQ9DWNpg51pUkaHZwE=, but the secret key's is \
         ke6AdzHzH6FzwLh+Kmy4sUJCF7aFpMMZOiBE+JyVeTs=; restore the secret key, or delete this file to have it written anew"
    );
    fs::remove_file(dir.path().join("consensus_pub.pem")).unwrap();
    Identity::load(dir.path(), NOW).unwrap();
    assert!(dir.path().join("consensus_pub.pem").exists());
}

#[test]
fn missing_entropy_is_generated() {
    let dir = reference_dir();
    fs::remove_file(dir.path().join("p2p_entropy.pem")).unwrap();
    let first = Identity::load(dir.path(), NOW).unwrap();
    let second = Identity::load(dir.path(), NOW).unwrap();
    assert_eq!(first.p2p_entropy.expose(), second.p2p_entropy.expose());
    assert_ne!(hex::encode(first.p2p_entropy.expose()), recorded()["p2p_entropy"].as_str().unwrap());
}

#[test]
fn unusable_tls_keys() {
    let dir = reference_dir();
    put(&dir.path().join("tls_identity.pem"), "broken", 0o600);
    let id = Identity::load(dir.path(), NOW).unwrap();
    assert_eq!(
        message(&dir, &id.replaced_tls_key.unwrap()),
        "tls_identity.pem: no PEM block found; restore the file from a backup"
    );
    assert_eq!(Identity::load(dir.path(), NOW).unwrap().tls.public(), id.tls.public());
    let path = dir.path().join("sentry_client_tls_identity.pem");
    put(&path, &crate::pem::encode("PRIVATE KEY", &[0x30, 0]), 0o600);
    assert_eq!(
        message(&dir, &error(&dir)),
        "sentry_client_tls_identity.pem: not an Ed25519 key in PKCS#8 form; delete the file to have a new one generated"
    );
}

#[test]
fn keys_are_never_replaced() {
    let dir = TempDir::new().unwrap();
    let key = generate_key(dir.path(), KeyRole::Entity).unwrap();
    let again = generate_key(dir.path(), KeyRole::Entity).unwrap_err();
    assert!(matches!(again, FileError::Exists { .. }), "{again}");
    let path: PathBuf = dir.path().join("entity.pem");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(load_key(dir.path(), KeyRole::Entity).unwrap().public(), key.public());
    assert_eq!(load_key_file(&path).unwrap().public(), key.public());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn not_a_file() {
    let dir = reference_dir();
    fs::remove_file(dir.path().join("vrf.pem")).unwrap();
    fs::create_dir(dir.path().join("vrf.pem")).unwrap();
    assert_eq!(message(&dir, &error(&dir)), "vrf.pem: not a regular file; move it away");
}

#[test]
fn missing_directory() {
    let e = Identity::load_or_generate(Path::new("/nonexistent/data"), NOW).unwrap_err();
    assert!(matches!(e, FileError::Io { action: "create", .. }), "{e}");
}

#[test]
fn secrets_are_not_printed() {
    let dir = reference_dir();
    let id = Identity::load(dir.path(), NOW).unwrap();
    let printed = format!("{id:?}");
    for secret in [&id.node, &id.p2p, &id.consensus, &id.vrf, id.tls.key()] {
        assert!(!printed.contains(&hex::encode(secret.seed().as_slice())));
    }
    assert!(!printed.contains(&hex::encode(id.p2p_entropy.expose())) && printed.contains("P2pEntropy(redacted)"));
}
