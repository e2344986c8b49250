//! The machine: limits, memory, clock, devices.

use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};

use crate::{Cgroup, Clock, Devices, Machine, Sgx};

/// Longest wait for a time server.
const PATIENCE: Duration = Duration::from_secs(2);
/// Seconds from 1900, where the time of time servers begins, to 1970.
const SINCE_1900: f64 = 2_208_988_800.0;
/// Socket of Intel's service.
const AESM: &str = "/var/run/aesmd/aesm.socket";

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

pub(super) fn open_files() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

pub(super) fn machine() -> Machine {
    let kilobytes = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    Machine {
        memory: kilobytes.unwrap_or_default().saturating_mul(1024),
        aes: has_flag("aes"),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

fn has_flag(flag: &str) -> bool {
    let text = read("/proc/cpuinfo");
    let flags = text.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    flags.is_some_and(|line| line.split_whitespace().any(|word| word == flag))
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Seconds since 1970 that a time server's answer gives.
pub(super) fn server_time(answer: &[u8]) -> Option<f64> {
    let field = |at: usize| Some(f64::from(u32::from_be_bytes(answer.get(at..at + 4)?.try_into().ok()?)));
    // Mode 4 is an answer; stratum 0 is a refusal.
    if answer.first()? & 7 != 4 || *answer.get(1)? == 0 {
        return None;
    }
    let (seconds, fraction) = (field(40)?, field(44)?);
    (seconds > 0.0).then(|| seconds - SINCE_1900 + fraction / 4_294_967_296.0)
}

fn ask(server: &str) -> Result<f64, String> {
    let server = if server.contains(':') { server.to_owned() } else { format!("{server}:123") };
    let failed = |error: std::io::Error| format!("{server}: {error}");
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(failed)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    socket.connect(&server).map_err(failed)?;
    let mut packet = [0; 48];
    // Version 4, mode 3: a client's question.
    packet[0] = 0x23;
    let sent = now();
    socket.send(&packet).map_err(failed)?;
    let n = socket.recv(&mut packet).map_err(failed)?;
    let received = now();
    let time = packet.get(..n).and_then(server_time).ok_or_else(|| format!("{server}: not a time"))?;
    Ok((sent + received) / 2.0 - time)
}

pub(super) fn clock(server: Option<&str>) -> Clock {
    Clock { ahead: server.map(ask) }
}

fn device(path: &str) -> (PathBuf, Option<String>) {
    let opened = std::fs::File::options().read(true).write(true).open(path);
    (path.into(), opened.err().map(|error| error.to_string()))
}

pub(super) fn sgx(needed: bool) -> Sgx {
    let mounts = read("/proc/mounts");
    let noexec = mounts.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.nth(1) == Some("/dev") && words.nth(1).is_some_and(|options| options.split(',').any(|o| o == "noexec"))
    });
    let aesm = match UnixStream::connect(AESM) {
        _ if !needed => None,
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    };
    Sgx {
        devices: Devices { needed, devices: vec![device("/dev/sgx_enclave"), device("/dev/sgx_provision")] },
        legacy: Path::new("/dev/isgx").exists(),
        processor: has_flag("sgx"),
        noexec,
        aesm: (AESM.into(), aesm),
    }
}

pub(super) fn tdx(needed: bool) -> Devices {
    let devices = if needed { vec![device("/dev/kvm"), device("/dev/vhost-vsock")] } else { Vec::new() };
    Devices { needed, devices }
}

/// The least of a limit in a group and all groups above it.
fn least(group: &Path, name: &str) -> Option<u64> {
    let root = Path::new("/sys/fs/cgroup");
    let groups = group.ancestors().take_while(|above| above.starts_with(root));
    groups.filter_map(|above| read(above.join(name)).trim().parse().ok()).min()
}

pub(super) fn cgroup() -> Cgroup {
    let own = read("/proc/self/cgroup");
    let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::")) else { return Cgroup::default() };
    let group = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    Cgroup {
        memory: least(&group, "memory.max"),
        tasks: least(&group, "pids.max"),
        unified: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
    }
}
