//! Recorded bundles and verdicts, round trips, the store, and properties.

mod properties;
mod recorded;
mod store;
mod writing;

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use wire_consensus::tee::{EnclaveIdentity, MrSigner};

use crate::{Bundle, Error, OpenOptions};

/// The publicly known signer of debug enclaves.
fn test_signer() -> MrSigner {
    "9affcfae47b848ec2caf1c49b4b283531e1cc425f93582b36806e52a43d78d1a".parse().unwrap()
}

fn vectors() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors/bundles"))
}

/// A recorded file, noted as read if it exists: one test asks for a file that does not.
fn vector(name: &str) -> PathBuf {
    let path = vectors().join(name);
    if path.exists() {
        dev_testkit::note_read(&path).unwrap();
    }
    path
}

fn open(path: &Path) -> Result<Bundle, Error> {
    Bundle::open(path, &OpenOptions::default())
}

fn contents(bundle: &mut Bundle, name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    bundle.copy(name, &mut out).unwrap();
    out
}

/// What the reference said to a file.
struct Verdict {
    file: String,
    ok: bool,
    value: serde_json::Value,
}

fn verdicts() -> Vec<Verdict> {
    let text = std::fs::read_to_string(vector("verdicts.json")).unwrap();
    let list: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    list.into_iter()
        .map(|value| Verdict {
            file: value["file"].as_str().unwrap().to_owned(),
            ok: value["ok"].as_bool().unwrap(),
            value,
        })
        .collect()
}

fn good() -> Vec<Verdict> {
    let mut out = verdicts();
    out.retain(|v| v.ok && !recorded::STRICTER.contains(&v.file.as_str()));
    out
}

fn identity_texts(ids: &[EnclaveIdentity]) -> Vec<String> {
    ids.iter().map(|id| STANDARD.encode([*id.mr_enclave.as_bytes(), *id.mr_signer.as_bytes()].concat())).collect()
}
