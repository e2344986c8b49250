//! The OCI image: the programs, the C library that they were linked with, bubblewrap, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::dist::Settings;
use crate::dist::archive::{gzip, tar};
use crate::dist::stage::{Entry, Kind, Stage};

/// The user in the image.
const USER: u32 = 10_000;
/// Makes sandboxes for ParaTimes.
const SANDBOX: &str = "/usr/bin/bwrap";
/// Where certificates of servers are, for what is fetched from the internet.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Writes the image as an archive of an OCI layout.
pub(super) fn write(settings: &Settings, stage: &Stage) -> Result<PathBuf> {
    let mut stage = stage.clone();
    let sandbox = Path::new(SANDBOX);
    if sandbox.is_file() {
        stage.file(SANDBOX.trim_start_matches('/'), 0o755, Kind::File(sandbox.to_owned()));
    } else {
        println!("note: this machine has no {SANDBOX}, and so has the image: it hosts no ParaTimes in sandboxes");
    }
    let layout = assemble(&stage, settings)?;
    let path = settings.out.join(format!("wadi-{}-{}.oci.tar", settings.version, std::env::consts::ARCH));
    fs::write(&path, tar(&layout, settings.epoch)?).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// The files of the OCI layout.
pub(super) fn assemble(stage: &Stage, settings: &Settings) -> Result<Vec<Entry>> {
    let mut stage = stage.clone();
    add_libraries(&mut stage)?;
    let text = |text: &str| Kind::Bytes(text.as_bytes().to_vec());
    stage.file(
        "etc/passwd",
        0o644,
        text(&format!("root:x:0:0:root:/:/bin/false\noasis:x:{USER}:{USER}:oasis:/node:/bin/false\n")),
    );
    stage.file("etc/group", 0o644, text(&format!("root:x:0:\noasis:x:{USER}:\n")));
    if Path::new(CERTIFICATES).is_file() {
        stage.file(CERTIFICATES.trim_start_matches('/'), 0o644, Kind::File(CERTIFICATES.into()));
    }
    stage.directory("tmp", 0o1777, 0);
    for dir in ["node", "node/data", "node/etc"] {
        stage.directory(dir, 0o700, USER);
    }
    let plain = tar(&stage.entries(), settings.epoch)?;
    let layer = gzip(&plain)?;
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::to_vec(&json!({
        "architecture": arch,
        "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Entrypoint": ["/usr/bin/oasis-node"],
            "Cmd": ["--config", "/node/etc/config.yml"],
            "Env": ["PATH=/usr/bin:/usr/lib/wadi", format!("SSL_CERT_FILE={CERTIFICATES}")],
            "WorkingDir": "/node",
            "Volumes": { "/node/data": {}, "/node/etc": {} },
            "ExposedPorts": { "26656/tcp": {}, "9200/tcp": {}, "9200/udp": {} },
            "StopSignal": "SIGTERM",
            "Labels": { "org.opencontainers.image.title": "wadi", "org.opencontainers.image.version": settings.version },
        },
        "rootfs": { "type": "layers", "diff_ids": [digest(&plain)] },
    }))?;
    let described = |kind: &str, bytes: &[u8]| json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(bytes), "size": bytes.len() });
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("config.v1+json", &config),
        "layers": [described("layer.v1.tar+gzip", &layer)],
    }))?;
    let mut listed = described("manifest.v1+json", &manifest);
    listed["annotations"] = json!({ "org.opencontainers.image.ref.name": settings.version });
    listed["platform"] = json!({ "architecture": arch, "os": "linux" });
    let index: Value = json!({ "schemaVersion": 2, "manifests": [listed] });
    let mut layout = Stage::default();
    layout.file("oci-layout", 0o644, text(&json!({ "imageLayoutVersion": "1.0.0" }).to_string()));
    layout.file("index.json", 0o644, Kind::Bytes(serde_json::to_vec(&index)?));
    for bytes in [config, layer, manifest] {
        let name = digest(&bytes).replace("sha256:", "blobs/sha256/");
        layout.file(name, 0o644, Kind::Bytes(bytes));
    }
    Ok(layout.entries())
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Adds the shared libraries that the programs need, at the paths where the loader found them here.
fn add_libraries(stage: &mut Stage) -> Result<()> {
    let mut found = BTreeSet::new();
    for entry in stage.entries() {
        let Kind::File(path) = &entry.kind else { continue };
        if entry.mode & 0o111 == 0 {
            continue;
        }
        let out = Command::new("ldd").arg(path).env("LC_ALL", "C").output().context("running ldd")?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        ensure!(out.status.success() || text.contains("not a dynamic"), "ldd {}: {text}", path.display());
        let words = text.lines().flat_map(str::split_whitespace);
        found.extend(words.filter(|word| word.starts_with('/')).map(|word| word.trim_end_matches(':').to_owned()));
    }
    for library in found {
        let path = Path::new(&library);
        if path.is_file() {
            stage.file(library.trim_start_matches('/'), 0o755, Kind::File(path.to_owned()));
        }
    }
    Ok(())
}
