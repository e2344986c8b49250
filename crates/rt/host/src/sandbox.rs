//! Runtimes in a bubblewrap sandbox, and without one for development.
//!
//! All but the command line of the runtime itself is told to `bwrap` over a pipe, in which every argument ends with a zero
//! byte. Source: `go/runtime/host/sandbox` and `process/bwrap.go` there.

mod probe;

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{
    io::AsyncWriteExt as _,
    net::{UnixListener, UnixStream, unix::pipe},
    time::timeout,
};

use crate::{
    api::{BoxFuture, ComponentConfig, HostError, Provisioner, RuntimeHost},
    component::{ComponentHost, Launched, Launcher, Timings},
    dynlib,
    exec::{FIRST_FD, MAX_FDS},
    logs::Source,
    process::{Process, ProcessSpec},
    seccomp,
};

pub use probe::{MIN_VERSION, Problem, Report, probe};

/// Default of `runtime.sandbox_binary`.
pub const DEFAULT_BINARY: &str = "/usr/bin/bwrap";
/// How long the sandbox may take to read what it is told.
pub const SANDBOX_START_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a runtime may take to connect.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Variable that tells a runtime where its host is.
pub const ENV_HOST: &str = "OASIS_WORKER_HOST";
/// Where the host's socket is in a sandbox.
pub const SOCKET_IN_SANDBOX: &str = "/host.sock";
/// Where the executable is in a sandbox.
const ENTRYPOINT: &str = "/entrypoint";
const LIBRARIES: &str = "/usr/lib";
const LOADER_LIBRARIES: &str = "/lib64";
const HOST_NAME: &str = "oasis-core";

/// What goes into a sandbox.
#[derive(Debug, Default)]
pub struct SandboxSpec {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables that are set.
    pub env: BTreeMap<String, OsString>,
    /// Files and sockets that may be written: path outside, path inside.
    pub bind_rw: Vec<(PathBuf, PathBuf)>,
    /// Files that may be read: path outside, path inside.
    pub bind_ro: Vec<(PathBuf, PathBuf)>,
    /// Devices: path outside, path inside.
    pub bind_dev: Vec<(PathBuf, PathBuf)>,
    /// Files made of bytes: path inside, content. At most ten.
    pub data: Vec<(PathBuf, Vec<u8>)>,
    /// Whether the network is shared.
    pub allow_network: bool,
}

impl SandboxSpec {
    /// The arguments that go through the pipe.
    ///
    /// `libraries` maps names to files; `seccomp` and `data` are the numbers of the descriptors.
    fn arguments(&self, libraries: &BTreeMap<String, PathBuf>, seccomp: i32, data: &[i32]) -> Vec<OsString> {
        let mut out: Vec<OsString> = Vec::new();
        let mut add = |parts: &[&OsStr]| out.extend(parts.iter().map(|part| OsString::from(*part)));
        let s = OsStr::new;
        add(&[s("--unshare-all"), s("--cap-drop"), s("ALL"), s("--hostname"), s(HOST_NAME)]);
        add(&[s("--tmpfs"), s("/tmp"), s("--dev"), s("/dev")]);
        add(&[s("--die-with-parent"), s("--new-session"), s("--chdir"), s("/")]);
        add(&[s("--ro-bind"), self.path.as_os_str(), s(ENTRYPOINT)]);
        if self.allow_network {
            add(&[s("--share-net"), s("--ro-bind"), s("/etc/resolv.conf"), s("/etc/resolv.conf")]);
        }
        for (key, value) in &self.env {
            add(&[s("--setenv"), s(key), value]);
        }
        let parent = |path: &Path| path.parent().unwrap_or(Path::new("/")).as_os_str().to_owned();
        for (option, binds) in [("--bind", &self.bind_rw), ("--ro-bind", &self.bind_ro)] {
            for (from, to) in binds {
                add(&[s("--dir"), &parent(to), s(option), from.as_os_str(), to.as_os_str()]);
            }
        }
        for (from, to) in &self.bind_dev {
            add(&[s("--dev-bind"), from.as_os_str(), to.as_os_str()]);
        }
        for (name, path) in libraries {
            let dir = if name.starts_with("ld-linux") { LOADER_LIBRARIES } else { LIBRARIES };
            add(&[s("--ro-bind"), path.as_os_str(), Path::new(dir).join(name).as_os_str()]);
        }
        add(&[s("--symlink"), s(LIBRARIES), s("/usr/lib64"), s("--seccomp"), s(&seccomp.to_string())]);
        for ((path, _), fd) in self.data.iter().zip(data) {
            add(&[s("--dir"), &parent(path), s("--ro-bind-data"), s(&fd.to_string()), path.as_os_str()]);
        }
        out
    }

    /// Starts the sandbox.
    ///
    /// # Errors
    /// If the libraries are not found, the system refuses, or the sandbox does not read what it is told.
    pub async fn spawn(
        self,
        binary: &Path,
        limits: crate::limits::ResourceLimits,
        source: Source,
        log: Option<Arc<crate::logs::ComponentLog>>,
    ) -> Result<Process, HostError> {
        let failed = |text: String| HostError::Start(format!("failed to spawn sandbox: {text}"));
        match std::fs::metadata(binary) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(failed(format!(
                    "sandbox binary not found at {}; install bubblewrap or set runtime.sandbox_binary",
                    binary.display()
                )));
            }
            Err(e) => return Err(failed(format!("failed to stat sandbox binary: {e}"))),
        }
        if self.data.len() + 2 > MAX_FDS {
            return Err(failed("too many files for a sandbox".into()));
        }
        let executable = self.path.clone();
        let libraries = tokio::task::spawn_blocking(move || {
            let cache = dynlib::Cache::load(Path::new(dynlib::LOADER_CACHE))?;
            dynlib::resolve(&executable, &cache, &library_path())
        })
        .await
        .map_err(|e| failed(e.to_string()))?
        .map_err(|e| failed(format!("sandbox: failed to resolve worker binary libraries: {e}")))?;

        let data_fds: Vec<i32> = (0..self.data.len()).map(|i| FIRST_FD + 2 + i as i32).collect();
        let mut told = Vec::new();
        for argument in self.arguments(&libraries, FIRST_FD + 1, &data_fds) {
            told.extend_from_slice(argument.as_bytes());
            told.push(0);
        }
        let (mut fds, mut feeds) = (Vec::new(), Vec::new());
        let contents = [(ARGS, told), (POLICY, seccomp::filter())]
            .into_iter()
            .chain(self.data.into_iter().map(|(_, content)| (DATA, content)));
        for (what, content) in contents {
            let (reader, writer) = feeding_pipe().map_err(|e| failed(format!("failed to create pipe: {e}")))?;
            fds.push(reader);
            feeds.push((what, writer, content));
        }
        let mut args = vec!["--args".into(), FIRST_FD.to_string().into(), "--".into(), ENTRYPOINT.into()];
        args.extend(self.args);
        let path = binary.into();
        let spec = ProcessSpec { path, args, env: BTreeMap::new(), inherit_env: true, fds, limits, source, log };
        let process = Process::spawn(spec).await.map_err(|e| failed(e.to_string()))?;
        let mut feeding = ARGS;
        let fed = timeout(SANDBOX_START_TIMEOUT, async {
            for (what, mut writer, content) in feeds {
                feeding = what;
                // The end of the pipe tells the sandbox that this is all.
                writer.write_all(&content).await?;
            }
            Ok::<(), std::io::Error>(())
        })
        .await;
        let error = match fed {
            Ok(Ok(())) => return Ok(process),
            Ok(Err(e)) => e.to_string(),
            Err(_) => "write |1: i/o timeout".into(),
        };
        // One that ended by itself closed the pipes a moment before.
        let end = timeout(Duration::from_millis(500), process.exited()).await;
        process.finish().await;
        let end = end.map(|end| format!(" ({end})")).unwrap_or_default();
        Err(failed(format!("sandbox: {feeding} to sandbox: {error}{end}")))
    }
}

/// What is being told when telling fails.
const ARGS: &str = "error while sending args";
const POLICY: &str = "error while sending SECCOMP policy";
const DATA: &str = "failed to copy bound data";

/// A pipe to a child.
fn feeding_pipe() -> std::io::Result<(OwnedFd, pipe::Sender)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((reader, pipe::Sender::from_owned_fd(writer)?))
}

/// Folders of `LD_LIBRARY_PATH`.
fn library_path() -> Vec<PathBuf> {
    std::env::var_os("LD_LIBRARY_PATH")
        .map(|list| std::env::split_paths(&list).filter(|dir| dir.is_absolute()).collect())
        .unwrap_or_default()
}

/// The socket to which a runtime connects, in a folder of its own that is removed with it.
#[derive(Debug)]
pub struct HostSocket {
    listener: UnixListener,
    dir: tempfile::TempDir,
}

impl HostSocket {
    /// Makes one in the folder for temporary files.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn create() -> Result<Self, HostError> {
        Self::create_in(&std::env::temp_dir())
    }

    /// Makes one in a folder.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn create_in(parent: &Path) -> Result<Self, HostError> {
        let dir = tempfile::Builder::new().prefix("oasis-runtime").tempdir_in(parent).map_err(|e| {
            // The file system's own words come first; which folder it was is in them.
            HostError::Start(format!("failed to create temporary directory: {}", describe_mkdir(parent, &e)))
        })?;
        let listener = UnixListener::bind(dir.path().join("host.sock"))
            .map_err(|e| HostError::Start(format!("failed to create host socket: {e}")))?;
        Ok(Self { listener, dir })
    }

    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("host.sock")
    }

    /// The folder that it is in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Waits until the process connects.
    ///
    /// # Errors
    /// If it ends or takes too long.
    pub async fn accept(&self, process: &Process) -> Result<UnixStream, HostError> {
        let accepted = tokio::select! {
            accepted = timeout(CONNECT_TIMEOUT, self.listener.accept()) => accepted,
            end = process.exited() => {
                return Err(HostError::Start(format!("terminated while waiting for runtime to connect ({end})")));
            }
        };
        let refused = |e: &str| HostError::Start(format!("error while accepting runtime connection: {e}"));
        match accepted {
            Ok(Ok((stream, _))) => Ok(stream),
            Ok(Err(e)) => Err(refused(&e.to_string())),
            Err(_) => Err(refused(&format!("accept unix {}: i/o timeout", self.path().display()))),
        }
    }
}

/// As operators know it: `mkdir PATH: read-only file system`.
fn describe_mkdir(parent: &Path, error: &std::io::Error) -> String {
    let reason = match error.kind() {
        std::io::ErrorKind::ReadOnlyFilesystem => "read-only file system".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        std::io::ErrorKind::StorageFull => "no space left on device".into(),
        std::io::ErrorKind::NotFound => "no such file or directory".into(),
        _ => error.to_string(),
    };
    format!("mkdir {}: {reason}; make the folder writable or set TMPDIR", parent.join("oasis-runtime").display())
}

/// Where a component's ELF executable lies.
///
/// # Errors
/// If it has none.
pub(crate) fn elf_executable(config: &ComponentConfig) -> Result<PathBuf, HostError> {
    let name = config.component.elf_executable().ok_or_else(|| {
        HostError::Start(format!(
            "failed to configure process: component {} has no ELF executable",
            config.component_id
        ))
    })?;
    Ok(config.bundle.file(name))
}

pub(crate) fn source(config: &ComponentConfig, provisioner: &str) -> Source {
    Source {
        runtime_id: config.runtime_id,
        runtime_name: config.runtime_name.clone(),
        component: config.component_id.clone(),
        provisioner: provisioner.into(),
    }
}

/// How processes of this machine are started: in a sandbox or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// With `bwrap` at that path.
    Sandbox(PathBuf),
    /// Without; for development only.
    None,
}

impl Isolation {
    /// Starts an executable that connects to a socket, and waits for that.
    ///
    /// # Errors
    /// If it cannot be started, ends, or does not connect in time.
    pub(crate) async fn launch(
        &self,
        config: &ComponentConfig,
        provisioner: &str,
        mut spec: SandboxSpec,
        socket: HostSocket,
    ) -> Result<Launched, HostError> {
        let source = source(config, provisioner);
        let process = match self {
            Self::Sandbox(binary) => {
                spec.env.insert(ENV_HOST.into(), SOCKET_IN_SANDBOX.into());
                spec.bind_rw.push((socket.path(), SOCKET_IN_SANDBOX.into()));
                let spawned = spec.spawn(binary, config.limits, source, config.log.clone()).await;
                if spawned.is_err() {
                    advise(binary, config).await;
                }
                spawned?
            }
            Self::None => {
                tracing::warn!(runtime_id = %config.runtime_id, component = %config.component_id,
                    "starting an UNSANDBOXED runtime");
                for (path, content) in &spec.data {
                    write_private(path, content).map_err(|e| {
                        HostError::Start(format!("failed to spawn process: failed to write bound data: {e}"))
                    })?;
                }
                spec.env.insert(ENV_HOST.into(), socket.path().into());
                let (path, args, env) = (spec.path, spec.args, spec.env);
                let (limits, log) = (config.limits, config.log.clone());
                let spec = ProcessSpec { path, args, env, inherit_env: false, fds: Vec::new(), limits, source, log };
                Process::spawn(spec).await.map_err(|e| HostError::Start(format!("failed to spawn process: {e}")))?
            }
        };
        tracing::info!(runtime_id = %config.runtime_id, pid = process.pid(), "waiting for runtime to connect");
        match socket.accept(&process).await {
            Ok(stream) => {
                tracing::info!(runtime_id = %config.runtime_id, pid = process.pid(), "runtime connected");
                let (reader, writer) = stream.into_split();
                Ok(Launched { process, reader: Box::new(reader), writer: Box::new(writer) })
            }
            Err(e) => {
                process.finish().await;
                if let Self::Sandbox(binary) = self {
                    advise(binary, config).await;
                }
                Err(e)
            }
        }
    }
}

/// Logs what is wrong with the sandbox itself, if something is, and what helps.
async fn advise(binary: &Path, config: &ComponentConfig) {
    if let Err(problem) = probe(binary).await {
        tracing::error!(runtime_id = %config.runtime_id, component = %config.component_id, err = %problem,
            "the sandbox does not work on this machine");
    }
}

fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)
}

/// Hosts components without TEE as processes, in a sandbox or not.
#[derive(Clone, Debug)]
pub struct Sandbox {
    isolation: Isolation,
    info: crate::api::HostInfo,
    timings: Timings,
}

impl Sandbox {
    /// In a sandbox made by the `bwrap` at that path.
    pub fn new(binary: impl Into<PathBuf>, info: crate::api::HostInfo) -> Self {
        Self { isolation: Isolation::Sandbox(binary.into()), info, timings: Timings::default() }
    }

    /// Without sandbox: a runtime may do whatever the node may. For development.
    pub fn unconfined(info: crate::api::HostInfo) -> Self {
        Self { isolation: Isolation::None, info, timings: Timings::default() }
    }

    /// Other times than the usual ones, for tests.
    #[must_use]
    pub fn with_timings(mut self, timings: Timings) -> Self {
        self.timings = timings;
        self
    }
}

impl Launcher for Sandbox {
    fn name(&self) -> String {
        "sandbox".into()
    }

    fn launch<'a>(&'a self, config: &'a ComponentConfig) -> BoxFuture<'a, Result<Launched, HostError>> {
        Box::pin(async move {
            let socket = HostSocket::create()?;
            let spec = SandboxSpec {
                path: elf_executable(config)?,
                allow_network: config.component.is_network_allowed(),
                ..SandboxSpec::default()
            };
            self.isolation.launch(config, "sandbox", spec, socket).await
        })
    }
}

impl Provisioner for Sandbox {
    fn name(&self) -> String {
        Launcher::name(self)
    }

    fn provision(&self, config: ComponentConfig) -> Result<Arc<dyn RuntimeHost>, HostError> {
        elf_executable(&config)?;
        Ok(ComponentHost::new(Arc::new(self.clone()), self.info.clone(), config, self.timings.clone()))
    }
}

#[cfg(test)]
mod tests;
