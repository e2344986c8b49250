//! From facts to verdicts.

use crate::{
    Chain, Check, Clock, DataDir, DirState, Disk, Facts, Files, Machine, PortState, Reach, Sandbox, Sgx, State, Temp,
};

/// Oldest bubblewrap that has what the sandbox uses.
const BWRAP: [u64; 3] = [0, 3, 3];
/// Memory that a node needs, in bytes; a little less than 2 GiB, since the kernel keeps some.
const MEMORY: u64 = 1_900 << 20;
/// Free bytes that the temporary directory needs.
const TEMP_FREE: u64 = 1 << 20;
/// Free bytes of the data directory below which the node will soon stop, and those that are comfortable.
const DISK_FREE: (u64, u64) = (5 << 30, 50 << 30);
/// Milliseconds of a synced write that slow the node down.
const SLOW_SYNC: f64 = 20.0;
/// Bytes per second of large writes below which synchronisation drags.
const SLOW_RATE: f64 = 50e6;
/// Seconds that the clock may be wrong, and those with which nothing works.
const CLOCK: (f64, f64) = (0.5, 10.0);
/// Tasks that a node with sandboxes needs.
const TASKS: u64 = 512;

fn check(name: &'static str, state: State, found: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check { name, state, found: found.into(), remedy: remedy.into() }
}

fn ok(name: &'static str, found: impl Into<String>) -> Check {
    check(name, State::Ok, found, "")
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1u32 << 30)),
    }
}

/// All verdicts.
pub fn examine(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![user(facts), files(&facts.files)];
    checks.extend(machine(&facts.machine));
    checks.push(cgroup(facts));
    checks.push(clock(&facts.clock));
    checks.push(temp(&facts.temp));
    checks.extend(data_dir(&facts.data_dir));
    checks.extend(facts.disk.as_ref().map(disk));
    checks.push(match &facts.genesis.hash {
        Ok(hash) => ok("genesis", format!("{} has chain context {hash}", facts.genesis.path.display())),
        Err(error) => check(
            "genesis",
            State::Fail,
            format!("{}: {error}", facts.genesis.path.display()),
            "download the network's genesis document and set genesis.file to its path",
        ),
    });
    checks.push(chain(&facts.chain));
    checks.push(keys(facts));
    checks.extend(named(facts));
    checks.extend(facts.ports.iter().map(port));
    checks.extend(facts.external.iter().map(external));
    checks.extend(seeds(&facts.seeds));
    checks.extend(sandbox(facts.sandbox.as_ref()));
    checks.extend(sgx(&facts.sgx));
    checks.push(tdx(facts));
    checks
}

fn user(facts: &Facts) -> Check {
    match (facts.user.root, facts.user.root_allowed) {
        (false, _) => ok("user", "not root"),
        (true, true) => {
            check("user", State::Warn, "root, as the configuration allows", "run the node as a user of its own")
        }
        (true, false) => {
            check("user", State::Fail, "root", "run the node as a user of its own; it refuses to run as root")
        }
    }
}

fn files(files: &Files) -> Check {
    let Files { hard, required, recommended } = *files;
    let remedy = format!("set LimitNOFILE={recommended} in the service, or nofile in /etc/security/limits.conf");
    let found = format!("{hard} open files allowed");
    match hard {
        _ if hard < required => check("open files", State::Fail, format!("{found}, {required} required"), remedy),
        _ if hard < recommended => check("open files", State::Warn, format!("{found}, {recommended} advised"), remedy),
        _ => ok("open files", found),
    }
}

fn machine(machine: &Machine) -> Vec<Check> {
    let memory = size(machine.memory);
    let mut checks = vec![if machine.memory < MEMORY {
        check("memory", State::Warn, format!("{memory}, 2 GiB advised"), "use a machine with more memory")
    } else {
        ok("memory", memory)
    }];
    checks.push(match (machine.processors, machine.aes) {
        (n, true) => ok("processor", format!("{n}, with AES instructions")),
        (n, false) => check(
            "processor",
            State::Warn,
            format!("{n}, without AES instructions"),
            "enable AES-NI in the BIOS or pass it through to the virtual machine; runtimes in enclaves need it",
        ),
    });
    checks
}

fn cgroup(facts: &Facts) -> Check {
    let group = &facts.cgroup;
    let name = "control group";
    match (group.memory, group.tasks) {
        (Some(memory), _) if memory < MEMORY => check(
            name,
            State::Warn,
            format!("memory limited to {}", size(memory)),
            "raise MemoryMax= of the service, or the container's memory limit, to 2 GiB",
        ),
        (_, Some(tasks)) if tasks < TASKS => check(
            name,
            State::Warn,
            format!("at most {tasks} tasks"),
            format!("raise TasksMax= of the service, or the container's limit on processes, to {TASKS}"),
        ),
        (memory, _) => {
            let memory =
                memory.map_or("no limit on memory".to_owned(), |memory| format!("memory limited to {}", size(memory)));
            ok(name, format!("{memory}{}", if group.unified { "" } else { "; no unified hierarchy" }))
        }
    }
}

fn clock(clock: &Clock) -> Check {
    let remedy = "keep the clock right by NTP, for example `systemctl enable --now systemd-timesyncd` or chrony";
    match &clock.ahead {
        None => ok("clock", "not compared"),
        Some(Err(error)) => check(
            "clock",
            State::Warn,
            format!("could not be compared: {error}"),
            "see to it that NTP keeps the clock right",
        ),
        Some(Ok(ahead)) => {
            let found = format!("{:.3} s {}", ahead.abs(), if *ahead < 0.0 { "behind" } else { "ahead" });
            match ahead.abs() {
                off if off > CLOCK.1 => check("clock", State::Fail, found, remedy),
                off if off > CLOCK.0 => check("clock", State::Warn, found, remedy),
                _ => ok("clock", found),
            }
        }
    }
}

fn temp(temp: &Temp) -> Check {
    let (name, path) = ("temporary directory", temp.path.display());
    let remedy = format!(
        "make {path} writable for the node's user with at least 1 MiB free; in Kubernetes mount an emptyDir there"
    );
    match &temp.error {
        Some(error) => check(name, State::Fail, format!("failed to create temporary directory: {error}"), remedy),
        None if temp.free < TEMP_FREE => {
            check(name, State::Fail, format!("{path} has {} free", size(temp.free)), remedy)
        }
        None => ok(name, format!("{path} is writable, {} free", size(temp.free))),
    }
}

fn data_dir(dir: &DataDir) -> Vec<Check> {
    let (name, path) = ("data directory", dir.path.display());
    let state = match &dir.state {
        DirState::NotSet => check(name, State::Fail, "not set", "set common.data_dir in the configuration"),
        DirState::Missing => ok(name, format!("{path} will be made")),
        DirState::Private => ok(name, format!("{path} is for this user alone")),
        DirState::Open(mode) => {
            check(name, State::Fail, format!("{path} has mode {mode:04o}, expected 0700"), format!("chmod 700 {path}"))
        }
        DirState::Owner(owner) => check(
            name,
            State::Fail,
            format!("{path} belongs to user {owner}"),
            format!("chown it to the node's user: chown -R $(id -u) {path}"),
        ),
        DirState::NotDirectory => {
            check(name, State::Fail, format!("{path} is not a directory"), "set common.data_dir to a directory")
        }
        DirState::Error(error) => check(
            name,
            State::Fail,
            format!("{path}: {error}"),
            "see to it that the node's user can reach the directory and all directories above it",
        ),
    };
    let mut checks = vec![state];
    if dir.state == DirState::NotSet {
        return checks;
    }
    let found = format!("{} free", size(dir.free));
    let remedy = "make room, prune (consensus.prune, `oasis-node storage prune`), or move the data directory";
    checks.push(match dir.free {
        free if free < DISK_FREE.0 => check("disk space", State::Fail, found, remedy),
        free if free < DISK_FREE.1 => check("disk space", State::Warn, found, remedy),
        _ => ok("disk space", found),
    });
    if dir.chain && !dir.guard {
        checks.push(check(
            "signing guard",
            State::Fail,
            "there is a chain but no oasis_priv_validator.json",
            "put the file back from the machine that signed last; without it a validator could sign a height twice",
        ));
    }
    if !dir.foreign.is_empty() {
        checks.push(check(
            "older data",
            State::Warn,
            format!("{} left by another program or release", dir.foreign.join(", ")),
            "it is not used; remove it when you do not want to go back",
        ));
    }
    checks
}

fn disk(disk: &Result<Disk, String>) -> Check {
    let name = "disk speed";
    match disk {
        Err(error) => check(name, State::Warn, format!("not measured: {error}"), "run this as the node's user"),
        Ok(Disk { sync_ms, rate }) => {
            let found = format!("{sync_ms:.1} ms per synced write, {:.0} MB/s", rate / 1e6);
            if *sync_ms > SLOW_SYNC || *rate < SLOW_RATE {
                check(name, State::Warn, found, "use a local SSD; a slow disk makes a validator miss blocks")
            } else {
                ok(name, found)
            }
        }
    }
}

fn chain(chain: &Chain) -> Check {
    let name = "chain data";
    match chain {
        Chain::None => ok(name, "none yet"),
        Chain::Running => ok(name, "in use by the running node"),
        Chain::Agrees => ok(name, "belongs to the genesis document"),
        Chain::Differs(error) => check(
            name,
            State::Fail,
            error.clone(),
            "set genesis.file to the document of the chain that the data is of, or give the node another data directory (a \
             damaged one: `oasis-node unsafe-reset`, which keeps the keys)",
        ),
    }
}

fn keys(facts: &Facts) -> Check {
    if facts.open_keys.is_empty() {
        return ok("key files", "private");
    }
    let paths: Vec<String> = facts.open_keys.iter().map(|path| path.display().to_string()).collect();
    let remedy = format!("chmod 600 {}", paths.join(" "));
    check("key files", State::Fail, format!("{} can be used by others", paths.join(", ")), remedy)
}

fn named(facts: &Facts) -> Vec<Check> {
    let wrong = facts.named.iter().filter_map(|file| file.error.as_ref().map(|error| (file, error)));
    let mut checks: Vec<Check> = wrong
        .map(|(file, error)| {
            let found = format!("{}: {}: {error}", file.key, file.path.display());
            check("configured files", State::Fail, found, format!("correct {} or put the file there", file.key))
        })
        .collect();
    if checks.is_empty() {
        checks.push(ok("configured files", format!("{} readable", facts.named.len())));
    }
    checks
}

fn port(port: &crate::Port) -> Check {
    let (name, address) = ("port", format!("{} of {}", port.address, port.key));
    match &port.state {
        PortState::Free => ok(name, format!("{address} is free")),
        PortState::Ours => ok(name, format!("{address} is used by the running node")),
        PortState::Taken => check(
            name,
            State::Fail,
            format!("{address} is used by another program"),
            format!("stop that program (`ss -ltnp`) or change {}", port.key),
        ),
        PortState::Error(error) => {
            check(name, State::Fail, format!("{address}: {error}"), format!("change {}", port.key))
        }
    }
}

fn external(reach: &Reach) -> Check {
    let name = "reachable";
    match &reach.error {
        None => ok(name, format!("{} of {}", reach.address, reach.key)),
        Some(error) => check(
            name,
            State::Warn,
            format!("{} of {}: {error}", reach.address, reach.key),
            "open the port for TCP in the firewall and forward it to this machine; some routers refuse the way back from \
             inside, so try from another machine too",
        ),
    }
}

fn seeds(seeds: &[Reach]) -> Option<Check> {
    let reached = seeds.iter().filter(|seed| seed.error.is_none()).count();
    let found = format!("{reached} of {} reached", seeds.len());
    let failed = seeds.iter().find_map(|seed| seed.error.as_ref().map(|error| format!("; {}: {error}", seed.address)));
    let found = format!("{found}{}", failed.unwrap_or_default());
    let remedy = "allow outgoing TCP connections to the seeds' ports, and compare the seeds with the network's page";
    match (seeds.len(), reached) {
        (0, _) => None,
        (all, n) if n == all => Some(ok("seeds", found)),
        (_, 0) => Some(check("seeds", State::Fail, found, remedy)),
        _ => Some(check("seeds", State::Warn, found, remedy)),
    }
}

/// The numbers of `bubblewrap 0.8.0`.
fn version(text: &str) -> Option<[u64; 3]> {
    let mut numbers = text.split_whitespace().last()?.split('.').map(|part| part.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)])
}

fn sandbox(sandbox: Option<&Sandbox>) -> Vec<Check> {
    let name = "bubblewrap";
    let Some(sandbox) = sandbox else { return vec![ok(name, "not needed: no runtimes are configured")] };
    let path = sandbox.path.display();
    let said = match &sandbox.version {
        Ok(said) => said,
        Err(error) => {
            let remedy =
                "install it (`apt install bubblewrap`, `dnf install bubblewrap`) or set runtime.sandbox_binary";
            return vec![check(name, State::Fail, format!("{path}: {error}"), remedy)];
        }
    };
    let mut checks = vec![match version(said) {
        Some(version) if version >= BWRAP => ok(name, format!("{path}: {said}")),
        Some(_) => check(
            name,
            State::Fail,
            format!("{path}: {said}, 0.3.3 or newer required"),
            "install a newer one from the distribution's backports or build it from source with prefix /usr",
        ),
        None => check(
            name,
            State::Warn,
            format!("{path} calls itself {said:?}"),
            "see to it that runtime.sandbox_binary is bubblewrap 0.3.3 or newer",
        ),
    }];
    checks.push(match &sandbox.trial {
        Ok(()) => ok("sandbox", "a program ran in it"),
        Err(error) => {
            let remedy = if sandbox.apparmor {
                "the system restricts namespaces of users: give bubblewrap an AppArmor profile with `userns,`, or set \
                 kernel.apparmor_restrict_unprivileged_userns=0; in Docker add --security-opt apparmor=unconfined \
                 --security-opt seccomp=unconfined"
            } else if sandbox.forbidden {
                "the system forbids namespaces of users: set kernel.unprivileged_userns_clone=1 and \
                 user.max_user_namespaces above 0"
            } else {
                "in Docker add --security-opt apparmor=unconfined --security-opt seccomp=unconfined; elsewhere look for \
                 seccomp, AppArmor or SELinux denials in the kernel's log"
            };
            check("sandbox", State::Fail, error.clone(), remedy)
        }
    });
    checks
}

fn sgx(sgx: &Sgx) -> Vec<Check> {
    let missing: Vec<String> = sgx
        .devices
        .devices
        .iter()
        .filter_map(|(path, error)| error.as_ref().map(|error| format!("{}: {error}", path.display())))
        .collect();
    if !sgx.devices.needed {
        let found = if missing.is_empty() { "not needed, available" } else { "not needed" };
        return vec![ok("SGX", found)];
    }
    let mut checks = Vec::new();
    checks.push(match missing.as_slice() {
        [] => ok("SGX", "devices can be used"),
        _ if sgx.legacy => check(
            "SGX",
            State::Fail,
            "only the legacy driver's /dev/isgx is there",
            "use a kernel from 5.11 on, which has the driver, or the DCAP driver, and remove the legacy one",
        ),
        wrong if sgx.processor => check(
            "SGX",
            State::Fail,
            wrong.join("; "),
            "use a kernel from 5.11 on with SGX, map /dev/sgx_enclave and /dev/sgx_provision into containers, and add the \
             node's user to the groups that own them",
        ),
        wrong => check(
            "SGX",
            State::Fail,
            format!("the processor does not offer it; {}", wrong.join("; ")),
            "enable SGX in the BIOS (not `software controlled`) or use a machine that has it",
        ),
    });
    if sgx.noexec {
        checks.push(check(
            "SGX",
            State::Fail,
            "/dev is mounted noexec, enclaves can't be mapped",
            "mount -o remount,exec /dev, and `devtmpfs /dev devtmpfs defaults,exec 0 0` in /etc/fstab",
        ));
    }
    let (path, error) = &sgx.aesm;
    checks.push(match error {
        None => ok("AESM", format!("{} answers", path.display())),
        Some(error) => check(
            "AESM",
            State::Fail,
            format!("{}: {error}", path.display()),
            "install and start aesmd (sgx-aesm-service with the DCAP plugins libsgx-aesm-ecdsa-plugin and \
             libsgx-aesm-quote-ex-plugin), and map /var/run/aesmd into containers",
        ),
    });
    checks
}

fn tdx(facts: &Facts) -> Check {
    let wrong: Vec<String> = facts
        .tdx
        .devices
        .iter()
        .filter_map(|(path, error)| error.as_ref().map(|error| format!("{}: {error}", path.display())))
        .collect();
    match (facts.tdx.needed, wrong.is_empty()) {
        (false, _) => ok("TDX", "not needed"),
        (true, true) => ok("TDX", "devices can be used"),
        (true, false) => check(
            "TDX",
            State::Fail,
            wrong.join("; "),
            "enable virtualisation and TDX in the BIOS, load kvm_intel with tdx=1 and vhost_vsock, and add the node's user to \
             the group kvm",
        ),
    }
}

#[cfg(test)]
mod tests;
