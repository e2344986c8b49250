//! The Debian package, put together by `dpkg-deb`.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::dist::stage::{Kind, Stage};
use crate::dist::{PROGRAMS, Settings};

/// Makes the user and the directories, and lets systemd see the services, where these are.
const AFTER_INSTALL: &str = "#!/bin/sh
set -e
if [ \"$1\" = configure ]; then
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers oasis.conf
    elif ! getent passwd oasis >/dev/null; then
        useradd --system --user-group --home-dir /node --shell /usr/sbin/nologin oasis
    fi
    if command -v systemd-tmpfiles >/dev/null; then
        systemd-tmpfiles --create oasis.conf || true
    fi
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload || true
    fi
fi
";
/// Services are started by the operator, who has to write a configuration first; they are stopped when they go.
const BEFORE_REMOVAL: &str = "#!/bin/sh
set -e
if [ \"$1\" = remove ] && [ -d /run/systemd/system ]; then
    systemctl stop oasis-node.service oasis-remote-signer.service 'oasis-node@*.service' || true
fi
";

/// Writes the package.
pub(super) fn write(settings: &Settings, stage: &Stage) -> Result<PathBuf> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let tree = settings.out.join("deb-tree");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    let size = lay_out(&tree, stage)?;
    let control = tree.join("DEBIAN");
    fs::create_dir_all(&control)?;
    fs::write(control.join("control"), self::control(settings, arch, size)?)?;
    for (name, text) in [("postinst", AFTER_INSTALL), ("prerm", BEFORE_REMOVAL)] {
        fs::write(control.join(name), text)?;
        fs::set_permissions(control.join(name), fs::Permissions::from_mode(0o755))?;
    }
    let path = settings.out.join(format!("wadi_{}_{arch}.deb", settings.version));
    let made = Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build"])
        .args([&tree, &path])
        .env("SOURCE_DATE_EPOCH", settings.epoch.to_string())
        .output()
        .context("running dpkg-deb")?;
    ensure!(made.status.success(), "dpkg-deb: {}", String::from_utf8_lossy(&made.stderr));
    fs::remove_dir_all(&tree)?;
    Ok(path)
}

/// Puts the entries below a directory, and gives their size in KiB.
fn lay_out(tree: &Path, stage: &Stage) -> Result<u64> {
    let mut size = 0;
    for entry in stage.entries() {
        let path = tree.join(&entry.path);
        match &entry.kind {
            Kind::Directory => fs::create_dir_all(&path)?,
            Kind::Bytes(bytes) => fs::write(&path, bytes)?,
            Kind::File(from) => fs::copy(from, &path).map(|_| ()).with_context(|| from.display().to_string())?,
            Kind::Link(target) => symlink(target, &path)?,
        }
        if !matches!(entry.kind, Kind::Link(_)) {
            fs::set_permissions(&path, fs::Permissions::from_mode(entry.mode))?;
            size += fs::metadata(&path)?.len().div_ceil(1024);
        }
    }
    Ok(size)
}

fn control(settings: &Settings, arch: &str, size: u64) -> Result<String> {
    let mut glibc = (0, 0);
    for name in PROGRAMS {
        let bytes = fs::read(settings.programs.join(name))?;
        glibc = glibc.max(needed_glibc(&bytes));
    }
    Ok(format!(
        "Package: wadi
Version: {version}
Architecture: {arch}
Maintainer: Wadi developers <wadi@localhost>
Installed-Size: {size}
Depends: libc6 (>= {major}.{minor}), libgcc-s1
Recommends: bubblewrap
Conflicts: oasis-core
Section: net
Priority: optional
Homepage: https://github.com/wadi-network/wadi
Description: node, wallet and tools for the Oasis Network
 An independent implementation of the Oasis Network's node, with the wallet
 command line, a remote signer, a loader for enclaves, and a local network in
 one command. Services are installed but not started: they need a
 configuration in /node/etc/config.yml.
",
        version = settings.version,
        major = glibc.0,
        minor = glibc.1,
    ))
}

/// The newest version of the C library that a program names.
pub(super) fn needed_glibc(program: &[u8]) -> (u32, u32) {
    const NAME: &[u8] = b"GLIBC_";
    let found = program.windows(NAME.len()).enumerate().filter(|(_, bytes)| *bytes == NAME);
    let versions = found.filter_map(|(at, _)| {
        let rest = program.get(at + NAME.len()..)?.split(|byte| *byte == 0).next()?;
        let mut parts = std::str::from_utf8(rest.get(..rest.len().min(16))?).ok()?.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    });
    versions.max().unwrap_or((2, 17))
}
