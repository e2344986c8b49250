//! Components in SGX enclaves, which a loader runs in the sandbox; and mock enclaves for tests, which are plain processes.
//!
//! Source: `go/runtime/host/sgx`.

use std::{
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rt_bundle::sigstruct;
use sha2::{Digest as _, Sha256};
use wire_consensus::node::CapabilityTee;

use crate::{
    aesm,
    api::{BoxFuture, ComponentConfig, HostError, HostInfo, Provisioner, RuntimeHost},
    attest::{Attester, DEFAULT_INTERVAL, QuoteSource},
    component::{ComponentHost, Launched, Launcher, Timings},
    connection::Connection,
    sandbox::{HostSocket, Isolation, SOCKET_IN_SANDBOX, SandboxSpec, elf_executable},
};

/// Where the enclave is in the sandbox.
const RUNTIME_PATH: &str = "/runtime";
/// Where its signature is.
const SIGNATURE_PATH: &str = "/runtime.sig";
/// Names of the device, by driver.
pub const DEVICES: [&str; 4] = ["/dev/sgx_enclave", "/dev/sgx/enclave", "/dev/sgx", "/dev/isgx"];
/// Most bytes of an enclave's image.
pub const MAX_IMAGE_BYTES: u64 = 1 << 30;
/// Tells a mock enclave whose measurement it is to claim.
pub const ENV_MOCK_MRENCLAVE: &str = "OASIS_MOCK_MRENCLAVE";

/// Hosts components in enclaves.
#[derive(Clone)]
pub struct Sgx {
    /// The loader; `None` refuses components with a clear error.
    pub loader: Option<PathBuf>,
    /// How the loader is started.
    pub isolation: Isolation,
    /// Whether enclaves are mock ones.
    pub mock: bool,
    /// The AESM daemon's socket.
    pub aesm_socket: PathBuf,
    /// Names under which the device is looked for.
    pub devices: Vec<PathBuf>,
    /// What attestation needs.
    pub attester: Attester,
    /// What runtimes are told.
    pub info: HostInfo,
    /// Times.
    pub timings: Timings,
}

impl Sgx {
    /// With the usual paths and times.
    pub fn new(loader: Option<PathBuf>, isolation: Isolation, mock: bool, attester: Attester, info: HostInfo) -> Self {
        Self {
            loader,
            isolation,
            mock,
            aesm_socket: aesm::SOCKET.into(),
            devices: DEVICES.iter().map(PathBuf::from).collect(),
            attester,
            info,
            timings: Timings::default(),
        }
    }

    fn device(&self) -> Result<&Path, HostError> {
        let is_device = |path: &&PathBuf| {
            std::fs::metadata(path).is_ok_and(|m| m.file_type().is_char_device() || m.file_type().is_block_device())
        };
        self.devices.iter().find(is_device).map(PathBuf::as_path).ok_or_else(|| {
            HostError::Start(
                "failed to configure process: host/sgx: no SGX device was found on this system; enable SGX in the \
                 firmware and use a kernel with its driver (see docs/hardware.md)"
                    .into(),
            )
        })
    }

    /// What is started for a component, given the socket's path as the loader sees it.
    fn spec(&self, config: &ComponentConfig, socket: &Path, dir: &Path) -> Result<SandboxSpec, HostError> {
        if self.mock {
            tracing::warn!(runtime_id = %config.runtime_id, "using mock SGX enclaves due to configuration options");
            let (image, _) = load(config, false)?;
            let mut spec = SandboxSpec {
                path: elf_executable(config)?,
                allow_network: config.component.is_network_allowed(),
                ..SandboxSpec::default()
            };
            spec.env.insert(ENV_MOCK_MRENCLAVE.into(), hex::encode(Sha256::digest(&image)).into());
            return Ok(spec);
        }
        let loader = self.loader.clone().ok_or_else(no_loader)?;
        let (image, signature) = load(config, true)?;
        let device = self.device()?.to_owned();
        let (socket, inside) = match &self.isolation {
            Isolation::Sandbox(_) => (Path::new(SOCKET_IN_SANDBOX).to_owned(), Path::new("/").to_owned()),
            Isolation::None => (socket.to_owned(), dir.to_owned()),
        };
        let place = |path: &str| inside.join(path.trim_start_matches('/'));
        let (runtime, signed) = (place(RUNTIME_PATH), place(SIGNATURE_PATH));
        Ok(SandboxSpec {
            path: loader,
            args: loader_arguments(&socket, &signed, &runtime, config.component.is_network_allowed()),
            bind_rw: vec![(self.aesm_socket.clone(), aesm::SOCKET.into())],
            bind_dev: vec![(device.clone(), device)],
            data: vec![(runtime, image), (signed, signature)],
            allow_network: config.component.is_network_allowed(),
            ..SandboxSpec::default()
        })
    }

    fn source(&self) -> QuoteSource {
        if self.mock { QuoteSource::Mock } else { QuoteSource::Aesm(aesm::Client::new(&self.aesm_socket)) }
    }
}

fn no_loader() -> HostError {
    HostError::Configuration("SGX loader binary path is not configured; set runtime.sgx.loader".into())
}

/// Arguments of the loader.
pub fn loader_arguments(
    socket: &Path,
    signature: &Path,
    runtime: &Path,
    allow_network: bool,
) -> Vec<std::ffi::OsString> {
    let mut out: Vec<std::ffi::OsString> = vec![
        "--host-socket".into(),
        socket.into(),
        "--type".into(),
        "sgxs".into(),
        "--signature".into(),
        signature.into(),
        runtime.into(),
    ];
    if allow_network {
        out.push("--allow-network".into());
    }
    out
}

/// The enclave's image, and its signature if that is needed. Both were verified when the bundle was opened, but the files
/// may have changed since.
fn load(config: &ComponentConfig, signed: bool) -> Result<(Vec<u8>, Vec<u8>), HostError> {
    let failed = |text: String| {
        HostError::Start(format!("failed to configure process: host/sgx: failed to load enclave/signature: {text}"))
    };
    let Some(sgx) = config.component.sgx.as_ref().filter(|sgx| !sgx.executable.is_empty()) else {
        return Err(failed("SGX executable not available in bundle".into()));
    };
    let read = |name: &str, limit: u64| -> Result<Vec<u8>, HostError> {
        use std::io::Read as _;
        let path = config.bundle.file(name);
        let mut out = Vec::new();
        std::fs::File::open(&path)
            .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut out))
            .map_err(|e| failed(format!("{}: {e}", path.display())))?;
        if out.len() as u64 > limit {
            return Err(failed(format!("{}: more than {limit} bytes", path.display())));
        }
        Ok(out)
    };
    let image = read(&sgx.executable, MAX_IMAGE_BYTES)?;
    if !signed {
        return Ok((image, Vec::new()));
    }
    if sgx.signature.is_empty() {
        return Err(failed("enclave SIGSTRUCT not available".into()));
    }
    let signature = read(&sgx.signature, sigstruct::BYTES as u64)?;
    let (parsed, _) =
        sigstruct::verify(&signature).map_err(|e| failed(format!("failed to validate SIGSTRUCT: {e}")))?;
    if parsed.enclave_hash.as_bytes() != Sha256::digest(&image).as_slice() {
        return Err(failed("enclave/SIGSTRUCT mismatch".into()));
    }
    Ok((image, signature))
}

impl Launcher for Sgx {
    fn name(&self) -> String {
        "sgx".into()
    }

    fn launch<'a>(&'a self, config: &'a ComponentConfig) -> BoxFuture<'a, Result<Launched, HostError>> {
        Box::pin(async move {
            let socket = HostSocket::create()?;
            // Images have hundreds of megabytes.
            let (this, owned, path, dir) = (self.clone(), config.clone(), socket.path(), socket.dir().to_owned());
            let spec = tokio::task::spawn_blocking(move || this.spec(&owned, &path, &dir))
                .await
                .map_err(|e| HostError::Start(e.to_string()))??;
            self.isolation.launch(config, "sgx", spec, socket).await
        })
    }

    fn attest<'a>(
        &'a self,
        config: &'a ComponentConfig,
        connection: &'a Connection,
    ) -> BoxFuture<'a, Result<Option<Arc<CapabilityTee>>, HostError>> {
        Box::pin(async move { self.attester.attest(&self.source(), config, connection).await.map(Some) })
    }

    fn attest_interval(&self) -> Option<Duration> {
        Some(DEFAULT_INTERVAL)
    }
}

impl Provisioner for Sgx {
    fn name(&self) -> String {
        Launcher::name(self)
    }

    fn provision(&self, config: ComponentConfig) -> Result<Arc<dyn RuntimeHost>, HostError> {
        if self.loader.is_none() && !self.mock {
            return Err(no_loader());
        }
        Ok(ComponentHost::new(Arc::new(self.clone()), self.info.clone(), config, self.timings.clone()))
    }
}

#[cfg(test)]
mod tests;
