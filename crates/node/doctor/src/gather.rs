//! Collects facts from the system.

mod disk;
mod network;
mod sandbox;
mod system;

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use node_config::{Config, Mode};
use wire_consensus::genesis::Document;

use crate::{Chain, DataDir, DirState, Facts, Files, Genesis, Named, User};

/// Open files that the guides advise.
const RECOMMENDED_FILES: u64 = 50_000;
/// Key files in the data directory.
const KEYS: [&str; 7] = [
    "identity.pem",
    "consensus.pem",
    "p2p.pem",
    "vrf.pem",
    "p2p_entropy.pem",
    "tls_identity.pem",
    "sentry_client_tls_identity.pem",
];
/// Folders and files of the reference's program and of older releases, below the data directory.
const FOREIGN: [&str; 8] = [
    "tendermint",
    "tendermint-seed",
    "persistent-store.badger.db",
    "consensus/data/blockstore.badger.db",
    "consensus/data/state.badger.db",
    "consensus/data/evidence.badger.db",
    "consensus/state/mkvs_storage.badger.db",
    "consensus/state/mkvs_storage.pathbadger.db",
];
/// The file that guards against signing twice, below the data directory.
const GUARD: &str = "consensus/data/oasis_priv_validator.json";
/// Where it is in data directories of this program.
const GUARD_HERE: &str = "consensus/oasis_priv_validator.json";
/// Folders that hold a chain, below the data directory.
const CHAIN: [&str; 3] = ["consensus/data/store", "consensus/state", "consensus/data/blockstore.badger.db"];

/// What to do beside looking.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Do not connect to anything.
    pub offline: bool,
    /// Time server, `host` or `host:port`; `None`: not asked.
    pub time_server: Option<String>,
}

/// Whether somebody answers at the node's socket.
fn is_running(config: &Config, data_dir: &Path) -> bool {
    let path = match config.common.internal_socket_path.as_str() {
        "" => data_dir.join("internal.sock"),
        path => PathBuf::from(path),
    };
    UnixStream::connect(path).is_ok()
}

/// Collects everything. `compare` tells whether the data directory belongs to the genesis document; it is asked if there
/// is a chain and no node runs on it.
pub fn gather(config: &Config, options: &Options, compare: impl FnOnce(&Document) -> Result<(), String>) -> Facts {
    let path = PathBuf::from(&config.common.data_dir);
    let data_dir = data_dir(&path);
    let running = data_dir.state == DirState::Private && is_running(config, &path);
    let genesis_path = PathBuf::from(&config.genesis.file);
    let document = std::fs::read_to_string(&genesis_path)
        .map_err(|error| error.to_string())
        .and_then(|text| Document::from_json(&text).map_err(|error| error.to_string()));
    let chain = match &document {
        _ if running => Chain::Running,
        Ok(document) if data_dir.chain => compare(document).map_or_else(Chain::Differs, |()| Chain::Agrees),
        _ => Chain::None,
    };
    let hosts_runtimes = hosts_runtimes(config);
    let needs_sgx = needs_tee(config, "sgx") || !loader(config).is_empty() || config.runtime.environment == "sgx";
    let ports = network::ports(config, running);
    let reach = |list| if options.offline { Vec::new() } else { network::reach(list) };
    Facts {
        user: User { root: rustix::process::geteuid().is_root(), root_allowed: config.common.debug.allow_root },
        files: Files { hard: system::open_files(), required: config.required_files(), recommended: RECOMMENDED_FILES },
        machine: system::machine(),
        clock: system::clock(options.time_server.as_deref().filter(|_| !options.offline)),
        temp: disk::temp(),
        disk: matches!(data_dir.state, DirState::Private | DirState::Missing).then(|| disk::speed(&path)),
        open_keys: open_keys(&path),
        data_dir,
        genesis: Genesis { path: genesis_path, hash: document.map(|document| document.chain_context().to_string()) },
        chain,
        named: named(config),
        external: network::external(config, &ports, options.offline),
        ports,
        seeds: reach(network::seeds(config)),
        sandbox: (hosts_runtimes && config.runtime.provisioner == "sandboxed")
            .then(|| sandbox::try_out(Path::new(&config.runtime.sandbox_binary))),
        sgx: system::sgx(needs_sgx),
        tdx: system::tdx(needs_tee(config, "tdx")),
        cgroup: system::cgroup(),
    }
}

fn hosts_runtimes(config: &Config) -> bool {
    let runtime = &config.runtime;
    let configured = !(runtime.runtimes.is_empty() && runtime.paths.is_empty() && runtime.binaries.is_empty());
    configured || matches!(config.mode, Mode::Compute | Mode::Observer | Mode::KeyManager)
}

fn needs_tee(config: &Config, kind: &str) -> bool {
    config.runtime.runtimes.iter().flat_map(|runtime| &runtime.components).any(|component| component.0.tee == kind)
}

fn loader(config: &Config) -> &str {
    match config.runtime.sgx.loader.as_str() {
        "" => &config.runtime.sgx_loader,
        loader => loader,
    }
}

fn data_dir(path: &Path) -> DataDir {
    let state = if path.as_os_str().is_empty() {
        DirState::NotSet
    } else {
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => DirState::Missing,
            Err(error) => DirState::Error(error.to_string()),
            Ok(metadata) if !metadata.is_dir() => DirState::NotDirectory,
            Ok(metadata) if metadata.mode() & 0o777 != 0o700 => DirState::Open(metadata.mode() & 0o777),
            Ok(metadata) if metadata.uid() != rustix::process::geteuid().as_raw() => DirState::Owner(metadata.uid()),
            Ok(_) => DirState::Private,
        }
    };
    DataDir {
        free: disk::free(path),
        chain: CHAIN.iter().any(|name| path.join(name).exists()),
        guard: path.join(GUARD).is_file() || path.join(GUARD_HERE).is_file(),
        foreign: FOREIGN.into_iter().filter(|name| path.join(name).exists()).map(str::to_owned).collect(),
        path: path.to_owned(),
        state,
    }
}

fn open_keys(data_dir: &Path) -> Vec<PathBuf> {
    let open = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o777 != 0o600);
    KEYS.iter().map(|name| data_dir.join(name)).filter(open).collect()
}

/// Files that the configuration names, beside the genesis document.
fn named(config: &Config) -> Vec<Named> {
    let mut files: Vec<(String, &str)> = vec![
        ("registration.entity".to_owned(), config.registration.entity.as_str()),
        ("runtime.sgx.loader".to_owned(), loader(config)),
    ];
    let runtime = &config.runtime;
    files.extend(runtime.paths.iter().enumerate().map(|(at, path)| (format!("runtime.paths[{at}]"), path.as_str())));
    for (at, binary) in runtime.binaries.iter().enumerate() {
        files.push((format!("runtime.binaries[{at}].path"), &binary.path));
        files.push((format!("runtime.binaries[{at}].signature"), &binary.signature));
    }
    let given = files.into_iter().filter(|(_, path)| !path.is_empty());
    given
        .map(|(key, path)| {
            let found = std::fs::File::open(path).and_then(|file| file.metadata());
            let error = match found {
                Ok(metadata) if metadata.is_file() => None,
                Ok(_) => Some("not a file".to_owned()),
                Err(error) => Some(error.to_string()),
            };
            Named { key, path: path.into(), error }
        })
        .collect()
}

#[cfg(test)]
mod tests;
