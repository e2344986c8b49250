//! Components in TDX virtual machines, which QEMU runs.
//!
//! A machine is reached over a virtual socket: the host dials it, with the machine's number as address. Source:
//! `go/runtime/host/tdx`.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    process::Command,
    time::{Instant, sleep, timeout},
};
use wire_consensus::node::CapabilityTee;
use wire_runtime::bundle::Tdx as TdxManifest;

use crate::{
    api::{BoxFuture, ComponentConfig, HostError, HostInfo, PortForward, Provisioner, RuntimeHost},
    attest::{Attester, DEFAULT_INTERVAL, QuoteSource},
    component::{ComponentHost, Launched, Launcher, Timings},
    connection::Connection,
    process::{Process, ProcessSpec},
    sandbox::source,
    vsock,
};

/// QEMU.
pub const QEMU_PATH: &str = "/usr/bin/qemu-system-x86_64";
/// QEMU's tool for images.
pub const QEMU_IMG_PATH: &str = "/usr/bin/qemu-img";
/// Port on which machines serve the host protocol.
pub const HOST_PROTOCOL_PORT: u32 = 1;
/// How long a machine may take until it serves.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between attempts to reach it.
const DIAL_INTERVAL: Duration = Duration::from_secs(1);
/// How long the tool for images may take.
const IMAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Default of `runtime.tdx.cid_start`.
pub const DEFAULT_CID_START: u32 = 0xa515_0000;
/// Default of `runtime.tdx.cid_count`.
pub const DEFAULT_CID_COUNT: u32 = 1024;
/// Most machine numbers.
pub const MAX_CID_COUNT: u32 = 4096;
/// Numbers below are reserved.
pub const MIN_CID: u32 = 10;

/// Numbers for machines; each is used once at a time.
#[derive(Debug)]
pub struct CidPool {
    start: u32,
    count: u32,
    used: Mutex<BTreeSet<u32>>,
}

impl CidPool {
    /// Of `count` numbers from `start` on.
    ///
    /// # Errors
    /// If the range is not allowed.
    pub fn new(start: u32, count: u32) -> Result<Self, HostError> {
        if start < MIN_CID || count > MAX_CID_COUNT || start.checked_add(count).is_none() {
            return Err(HostError::Configuration(format!(
                "TDX CIDs {start} and the {count} that follow: must begin at {MIN_CID} or above and be at most {MAX_CID_COUNT}"
            )));
        }
        Ok(Self { start, count, used: Mutex::default() })
    }

    /// A free number.
    ///
    /// # Errors
    /// If there is none.
    pub fn allocate(&self) -> Result<u32, HostError> {
        let mut used = self.used.lock();
        let free = (self.start..self.start.saturating_add(self.count)).find(|cid| !used.contains(cid));
        let cid = free.ok_or_else(|| HostError::Start("failed to allocate CID: no free CIDs available".into()))?;
        used.insert(cid);
        Ok(cid)
    }

    /// Frees a number; whether it was used.
    pub fn release(&self, cid: u32) -> bool {
        self.used.lock().remove(&cid)
    }
}

/// Hosts components in virtual machines.
#[derive(Clone)]
pub struct Tdx {
    /// QEMU.
    pub qemu: PathBuf,
    /// Its tool for images.
    pub qemu_img: PathBuf,
    /// Numbers for machines.
    pub cids: Arc<CidPool>,
    /// What attestation needs.
    pub attester: Attester,
    /// What runtimes are told.
    pub info: HostInfo,
    /// Times.
    pub timings: Timings,
}

impl Tdx {
    /// With the usual paths and times.
    pub fn new(cids: Arc<CidPool>, attester: Attester, info: HostInfo) -> Self {
        Self {
            qemu: QEMU_PATH.into(),
            qemu_img: QEMU_IMG_PATH.into(),
            cids,
            attester,
            info,
            timings: Timings::default(),
        }
    }
}

/// One machine.
struct Machine {
    shared: Tdx,
    cid: u32,
}

fn configure(text: impl std::fmt::Display) -> HostError {
    HostError::Start(format!("failed to configure process: {text}"))
}

fn manifest(config: &ComponentConfig) -> Result<&TdxManifest, HostError> {
    let missing = || configure(format!("component '{}' is not a TDX component", config.component_id));
    config.component.tdx.as_ref().ok_or_else(missing)
}

/// A second stage as QEMU gets it: image, its format, and whether changes are kept.
struct Stage2 {
    image: PathBuf,
    format: String,
    persistent: bool,
}

/// QEMU's arguments.
fn arguments(config: &ComponentConfig, cid: u32, stage2: Option<&Stage2>) -> Result<Vec<OsString>, HostError> {
    let tdx = manifest(config)?;
    let mut out: Vec<OsString> = Vec::new();
    let mut add = |option: &str, value: OsString| out.extend([option.into(), value]);
    add("-accel", "kvm".into());
    add("-m", tdx.resources.memory.to_string().into());
    add("-smp", tdx.resources.cpus.to_string().into());
    add("-name", format!("oasis-{}-{}", config.runtime_id, config.component_id).into());
    add("-cpu", "host".into());
    add("-machine", "q35,kernel-irqchip=split,confidential-guest-support=tdx,hpet=off".into());
    add("-bios", config.bundle.file(&tdx.firmware).into());
    out.extend(["-nographic".into(), "-nodefaults".into()]);
    let mut add = |option: &str, value: OsString| out.extend([option.into(), value]);
    add("-serial", "stdio".into());
    add("-device", "virtio-serial,max_ports=1".into());
    add(
        "-object",
        r#"{"qom-type":"tdx-guest","id":"tdx","quote-generation-socket":{"type":"vsock","cid":"2","port":"4050"}}"#
            .into(),
    );
    add("-device", format!("vhost-vsock-pci,guest-cid={cid}").into());
    if !tdx.kernel.is_empty() {
        add("-kernel", config.bundle.file(&tdx.kernel).into());
        if !tdx.initrd.is_empty() {
            add("-initrd", config.bundle.file(&tdx.initrd).into());
        }
        if let Some(stage2) = stage2 {
            let mut drive = OsString::from(format!("format={},file=", stage2.format));
            drive.push(escape_commas(&stage2.image)?);
            drive.push(format!(",if=none,id=drive0,snapshot={}", if stage2.persistent { "off" } else { "on" }));
            add("-drive", drive);
            add("-device", "virtio-blk-pci,drive=drive0".into());
        }
        if !tdx.extra_kernel_options.is_empty() {
            add("-append", tdx.extra_kernel_options.join(" ").into());
        }
    }
    add("-netdev", network(config)?.into());
    add("-device", "virtio-net-pci,netdev=net0".into());
    Ok(out)
}

/// In QEMU's lists of options a comma within a value is doubled.
fn escape_commas(path: &Path) -> Result<String, HostError> {
    let text = path.to_str().ok_or_else(|| configure(format!("{} is not UTF-8", path.display())))?;
    Ok(text.replace(',', ",,"))
}

fn network(config: &ComponentConfig) -> Result<String, HostError> {
    if !config.component.is_network_allowed() {
        return Ok("user,id=net0,restrict=y".into());
    }
    let mut out = "user,id=net0".to_owned();
    for forward in &config.incoming {
        out.push_str(
            &forward_option(forward).map_err(|e| configure(format!("failed to create networking config: {e}")))?,
        );
    }
    Ok(out)
}

fn forward_option(forward: &PortForward) -> Result<String, String> {
    let protocol = match forward.protocol.as_str() {
        "" | "tcp" => "tcp",
        "udp" => "udp",
        other => return Err(format!("network protocol '{other}' not supported")),
    };
    let ip = match forward.ip.as_str() {
        "" => String::new(),
        text => match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) if ip.is_unspecified() => String::new(),
            Ok(IpAddr::V4(ip)) => ip.to_string(),
            Ok(IpAddr::V6(_)) => return Err("IPv6 forwarding not supported".into()),
            Err(_) => return Err(format!("IP address '{text}' is malformed")),
        },
    };
    if forward.src_port == 0 {
        return Err("source port not specified".into());
    }
    let inside = if forward.dst_port == 0 { forward.src_port } else { forward.dst_port };
    Ok(format!(",hostfwd={protocol}:{ip}:{}-:{inside}", forward.src_port))
}

impl Machine {
    async fn run_tool(&self, arguments: &[&std::ffi::OsStr], what: &str) -> Result<Vec<u8>, HostError> {
        let output = Command::new(&self.shared.qemu_img).args(arguments).kill_on_drop(true).output();
        let output = timeout(IMAGE_TIMEOUT, output)
            .await
            .map_err(|_| configure(format!("failed to {what}: no end after {IMAGE_TIMEOUT:?}")))?
            .map_err(|e| configure(format!("failed to {what}: {}: {e}", self.shared.qemu_img.display())))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let text: String = text.trim().chars().take(500).collect();
            return Err(configure(format!("failed to {what}: {text}")));
        }
        Ok(output.stdout)
    }

    /// The second stage; a persistent one is an overlay on the volume, made or brought up to date here.
    async fn stage2(&self, config: &ComponentConfig) -> Result<Option<Stage2>, HostError> {
        let tdx = manifest(config)?;
        if tdx.stage2_image.is_empty() || tdx.kernel.is_empty() {
            return Ok(None);
        }
        let image = config.bundle.file(&tdx.stage2_image);
        let format = match tdx.stage2_format.as_str() {
            "" | "raw" => "raw",
            "qcow2" => "qcow2",
            other => return Err(configure(format!("format '{other}' is not supported"))),
        };
        if !tdx.stage2_persist {
            return Ok(Some(Stage2 { image, format: format.into(), persistent: false }));
        }
        let volume = config
            .volumes
            .get(&tdx.stage2_image)
            .ok_or_else(|| configure(format!("volume for '{}' not attached", tdx.stage2_image)))?;
        let s = std::ffi::OsStr::new;
        let base = [s("-b"), image.as_os_str(), s("-F"), s(format)];
        let exists =
            volume.try_exists().map_err(|e| configure(format!("failed to stat persistent overlay image: {e}")))?;
        if exists {
            let info =
                self.run_tool(&[s("info"), s("--output"), s("json"), image.as_os_str()], "query base image").await?;
            let info: serde_json::Value =
                serde_json::from_slice(&info).map_err(|e| configure(format!("malformed base image metadata: {e}")))?;
            let size = info
                .get("virtual-size")
                .and_then(serde_json::Value::as_u64)
                .ok_or_else(|| configure("malformed base image metadata: no virtual-size"))?;
            let mut rebase = vec![s("rebase"), s("-u"), s("-f"), s("qcow2")];
            rebase.extend(base);
            rebase.push(volume.as_os_str());
            self.run_tool(&rebase, "rebase persistent overlay image").await?;
            let size = size.to_string();
            self.run_tool(&[s("resize"), volume.as_os_str(), s(&size)], "resize persistent overlay image").await?;
        } else {
            let mut create = vec![s("create"), s("-f"), s("qcow2")];
            create.extend(base);
            create.push(volume.as_os_str());
            self.run_tool(&create, "create persistent overlay image").await?;
        }
        Ok(Some(Stage2 { image: volume.clone(), format: "qcow2".into(), persistent: true }))
    }

    /// Dials the machine until it answers.
    async fn connect(&self, process: Process) -> Result<Launched, HostError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        loop {
            let error = match vsock::connect(self.cid, HOST_PROTOCOL_PORT).await {
                Ok(stream) => {
                    let (reader, writer) = tokio::io::split(stream);
                    return Ok(Launched { process, reader: Box::new(reader), writer: Box::new(writer) });
                }
                Err(e) => e,
            };
            let failed = tokio::select! {
                end = process.exited() => {
                    format!("runtime has terminated before a connection was established: {error} ({end})")
                }
                () = sleep(DIAL_INTERVAL) => {
                    if Instant::now() < deadline {
                        continue;
                    }
                    format!("failed to connect to the runtime VM: {error}")
                }
            };
            process.finish().await;
            return Err(HostError::Start(failed));
        }
    }
}

impl Launcher for Machine {
    fn name(&self) -> String {
        "tdx-qemu".into()
    }

    fn launch<'a>(&'a self, config: &'a ComponentConfig) -> BoxFuture<'a, Result<Launched, HostError>> {
        Box::pin(async move {
            let stage2 = self.stage2(config).await?;
            let process = Process::spawn(ProcessSpec {
                path: self.shared.qemu.clone(),
                args: arguments(config, self.cid, stage2.as_ref())?,
                env: std::collections::BTreeMap::new(),
                inherit_env: false,
                fds: Vec::new(),
                limits: config.limits,
                source: source(config, "tdx-qemu"),
                log: config.log.clone(),
            })
            .await
            .map_err(|e| HostError::Start(format!("failed to spawn process: {e}")))?;
            self.connect(process).await
        })
    }

    fn attest<'a>(
        &'a self,
        config: &'a ComponentConfig,
        connection: &'a Connection,
    ) -> BoxFuture<'a, Result<Option<Arc<CapabilityTee>>, HostError>> {
        Box::pin(async move { self.shared.attester.attest(&QuoteSource::Report, config, connection).await.map(Some) })
    }

    fn attest_interval(&self) -> Option<Duration> {
        Some(DEFAULT_INTERVAL)
    }

    fn release(&self, _config: &ComponentConfig) {
        if !self.shared.cids.release(self.cid) {
            tracing::error!(cid = self.cid, "previously allocated CID was already released");
        }
    }
}

impl Provisioner for Tdx {
    fn name(&self) -> String {
        "tdx-qemu".into()
    }

    fn provision(&self, config: ComponentConfig) -> Result<Arc<dyn RuntimeHost>, HostError> {
        manifest(&config)?;
        let machine = Machine { shared: self.clone(), cid: self.cids.allocate()? };
        Ok(ComponentHost::new(Arc::new(machine), self.info.clone(), config, self.timings.clone()))
    }
}

#[cfg(test)]
mod tests;
