//! What the system says of this process.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::table;

/// Clock ticks per second in `/proc/<pid>/stat`; the kernel shows 100 to programs on every architecture the node runs on.
const TICKS: f64 = 100.0;
/// Size of a page in `/proc/<pid>/stat`.
const PAGE: f64 = 4096.0;
/// Most entries of the data directory that are counted.
const MAX_ENTRIES: usize = 1_000_000;
/// Deepest folder of the data directory that is counted.
const MAX_DEPTH: usize = 32;

/// Measures the process and its data directory.
#[derive(Debug, Clone)]
pub struct Resources {
    data_dir: PathBuf,
}

impl Resources {
    /// For the given data directory; empty: none.
    pub fn new(data_dir: PathBuf) -> Self {
        Self { data_dir }
    }

    /// Measures everything now. Blocks for as long as the data directory takes to walk.
    pub fn update(&self) {
        if let Some(stat) = std::fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
            stat.set();
        }
        if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
            memory(&status);
        }
        if let Ok(io) = std::fs::read_to_string("/proc/self/io") {
            disk(&io);
        }
        if let Ok(dev) = std::fs::read_to_string("/proc/net/dev") {
            net(&dev);
        }
        if let Some(most) = std::fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(max_files) {
            table::PROCESS_MAX_FDS.get().set(most);
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            table::PROCESS_OPEN_FDS.get().set_count(open.count());
        }
        if !self.data_dir.as_os_str().is_empty() {
            let mut left = MAX_ENTRIES;
            table::NODE_DISK_USAGE_BYTES.get().set(usage(&self.data_dir, MAX_DEPTH, &mut left) as f64);
        }
    }
}

/// What `/proc/<pid>/stat` says; times in seconds, sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stat {
    user: f64,
    system: f64,
    threads: f64,
    /// Since the start of the machine.
    start: f64,
    virtual_memory: f64,
    resident: f64,
}

impl Stat {
    fn parse(stat: &str) -> Option<Self> {
        // The program's name in parentheses may hold anything; what follows is counted from the third field.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<f64> = rest.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0.0)).collect();
        let at = |number: usize| fields.get(number - 4).copied();
        Some(Self {
            user: at(14)? / TICKS,
            system: at(15)? / TICKS,
            threads: at(20)?,
            start: at(22)? / TICKS,
            virtual_memory: at(23)?,
            resident: at(24)? * PAGE,
        })
    }

    fn set(self) {
        table::NODE_CPU_UTIME_SECONDS.get().set(self.user);
        table::NODE_CPU_STIME_SECONDS.get().set(self.system);
        table::PROCESS_CPU_SECONDS.get().raise_to(self.user + self.system);
        table::PROCESS_THREADS.get().set(self.threads);
        table::PROCESS_VIRTUAL_MEMORY.get().set(self.virtual_memory);
        table::PROCESS_RESIDENT_MEMORY.get().set(self.resident);
        if table::PROCESS_START_TIME.get().get() == 0.0 {
            let up = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
            let up: f64 = up.split_whitespace().next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            table::PROCESS_START_TIME.get().set(now - up + self.start);
        }
    }
}

/// The value in bytes of a line such as `VmSize:  12 kB`.
fn kilobytes(status: &str, name: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = line.and_then(|value| value.split_whitespace().next()?.parse::<f64>().ok());
    value.unwrap_or_default() * 1024.0
}

fn memory(status: &str) {
    table::NODE_MEM_VM_SIZE_BYTES.get().set(kilobytes(status, "VmSize"));
    table::NODE_MEM_RSS_ANON_BYTES.get().set(kilobytes(status, "RssAnon"));
    table::NODE_MEM_RSS_FILE_BYTES.get().set(kilobytes(status, "RssFile"));
    table::NODE_MEM_RSS_SHMEM_BYTES.get().set(kilobytes(status, "RssShmem"));
}

fn disk(io: &str) {
    let value = |name: &str| {
        let line = io.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or_default()
    };
    table::NODE_DISK_READ_BYTES.get().set(value("read_bytes"));
    table::NODE_DISK_WRITTEN_BYTES.get().set(value("write_bytes"));
}

fn net(dev: &str) {
    for line in dev.lines().skip(2) {
        let Some((device, counts)) = line.split_once(':') else { continue };
        let counts: Vec<f64> = counts.split_whitespace().map(|count| count.parse().unwrap_or(0.0)).collect();
        let at = |column: usize| counts.get(column).copied().unwrap_or_default();
        let device = [device.trim()];
        table::NODE_NET_RECEIVE_BYTES_TOTAL.with(&device).set(at(0));
        table::NODE_NET_RECEIVE_PACKETS_TOTAL.with(&device).set(at(1));
        table::NODE_NET_TRANSMIT_BYTES_TOTAL.with(&device).set(at(8));
        table::NODE_NET_TRANSMIT_PACKETS_TOTAL.with(&device).set(at(9));
    }
}

fn max_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Bytes in files below a folder; links are not followed.
fn usage(folder: &Path, depth: usize, left: &mut usize) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let mut bytes = 0u64;
    for entry in entries.flatten() {
        let Some(rest) = left.checked_sub(1) else { return bytes };
        *left = rest;
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() && depth > 0 {
            bytes = bytes.saturating_add(usage(&entry.path(), depth - 1, left));
        } else if metadata.is_file() {
            bytes = bytes.saturating_add(metadata.len());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_this_process() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/b"), vec![0; 12_345]).unwrap();
        std::fs::write(dir.path().join("c"), "x").unwrap();
        Resources::new(dir.path().into()).update();
        assert_eq!(table::NODE_DISK_USAGE_BYTES.get().get(), 12_346.0);
        assert!(table::NODE_MEM_VM_SIZE_BYTES.get().get() > 1e6);
        assert!(table::PROCESS_RESIDENT_MEMORY.get().get() > 1e5);
        assert!(table::PROCESS_OPEN_FDS.get().get() >= 3.0);
        assert!(table::PROCESS_THREADS.get().get() >= 1.0);
        let start = table::PROCESS_START_TIME.get().get();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(start > now - 86_400.0 && start <= now + 1.0, "{start} {now}");
    }

    #[test]
    fn reads_what_the_kernel_writes() {
        let stat = "7 (a) b) S 1 1 1 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 1000 8192 3 18446744073709551615";
        let expected =
            Stat { user: 2.5, system: 0.5, threads: 9.0, start: 10.0, virtual_memory: 8192.0, resident: 3.0 * PAGE };
        assert_eq!(Stat::parse(stat), Some(expected));
        net("x\ny\n  test0: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\nbroken\n");
        assert_eq!(table::NODE_NET_TRANSMIT_PACKETS_TOTAL.with(&["test0"]).get(), 4.0);
        assert_eq!(kilobytes("VmSize:\t  12 kB\n", "VmSize"), 12_288.0);
        assert_eq!(
            max_files("Max open files            1024                 4096                 files\n"),
            Some(1024.0)
        );
        for odd in ["", "()", ":", "a:\n:b"] {
            assert_eq!(Stat::parse(odd), None);
            net(odd);
        }
    }
}
