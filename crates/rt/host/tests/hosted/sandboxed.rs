//! Escape attempts from the sandbox, and limits.

use std::{
    net::TcpListener,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rt_host::{
    HostEvent, HostInfo, Provisioner, RuntimeHost,
    component::Timings,
    limits::{Enforcement, ResourceLimits, enforcement},
    logs::ComponentLog,
    sandbox::{DEFAULT_BINARY, Sandbox, probe},
};

use super::lifecycle::{WAIT, ask, config, timings, until};

crate::tests![
    runs_in_the_sandbox,
    cannot_reach_the_network,
    cannot_see_files_outside,
    cannot_signal_the_host,
    cannot_change_the_system,
    a_memory_hog_is_contained,
    a_fork_bomb_is_contained,
    broken_sandboxes_are_reported,
    what_a_failing_sandbox_prints_is_logged,
    enclaves_without_hardware_fail_alone,
    a_read_only_folder_for_temporary_files_is_named,
    one_mebibyte_for_temporary_files_is_enough,
    starts_quickly,
];

/// Somebody who is not root.
const NOBODY: u32 = 65_534;
/// Names the test that is run as nobody.
const FORK_BOMB: &str = "fork-bomb";
/// Begins the line that says why a test cannot be run.
const NOT_HERE: &str = "not run: ";

/// A sandboxed runtime, or why there is none on this machine.
async fn host(limits: ResourceLimits) -> Result<Arc<dyn RuntimeHost>, String> {
    probe(Path::new(DEFAULT_BINARY)).await.map_err(|e| e.to_string())?;
    // On a busy machine what is asked takes its time, and the runtime answers no pings meanwhile.
    let timings = Timings { ping: WAIT, ..timings() };
    let provisioner = Sandbox::new(DEFAULT_BINARY, HostInfo::default()).with_timings(timings);
    let mut config = config(&[]);
    config.limits = limits;
    let host = provisioner.provision(config).expect("provisions");
    host.start().await.expect("starts");
    Ok(host)
}

async fn stop(host: &dyn RuntimeHost) {
    host.stop(tokio::time::Instant::now() + WAIT).await.expect("stops");
}

macro_rules! host {
    ($limits:expr) => {
        match host($limits).await {
            Ok(host) => host,
            Err(why) => return Some(why),
        }
    };
}

async fn denied(host: &dyn RuntimeHost, what: &str) {
    let answer = ask(host, what).await.expect("the runtime lives on");
    assert!(answer.starts_with("denied"), "{what}: {answer}");
}

async fn allowed(host: &dyn RuntimeHost, what: &str) -> String {
    let answer = ask(host, what).await.expect("the runtime lives on");
    answer.strip_prefix("ok ").unwrap_or_else(|| panic!("{what}: {answer}")).to_owned()
}

async fn runs_in_the_sandbox() -> Option<String> {
    let host = host!(ResourceLimits::default());
    assert_eq!(allowed(&*host, "echo hi").await, "hi");
    assert_eq!(allowed(&*host, "hostname").await, "oasis-core");
    assert_eq!(allowed(&*host, "env OASIS_WORKER_HOST").await, "/host.sock");
    // Threads work although `clone3` is refused.
    assert_eq!(allowed(&*host, "threads 8").await, "");
    let pid = host.status().pid.expect("runs");
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).expect("readable");
    let words: Vec<String> = line.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    assert_eq!(words[..5], [DEFAULT_BINARY, "--args", "3", "--", "/entrypoint"]);
    stop(&*host).await;
    None
}

async fn cannot_reach_the_network() -> Option<String> {
    let host = host!(ResourceLimits::default());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::net::TcpStream::connect(address).expect("the host reaches it");
    denied(&*host, &format!("connect {address}")).await;
    denied(&*host, "connect 1.1.1.1:53").await;
    use std::os::linux::net::SocketAddrExt as _;
    let name = format!("rt-host-test-{}", std::process::id());
    let abstract_address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    let _listener = std::os::unix::net::UnixListener::bind_addr(&abstract_address).expect("binds");
    std::os::unix::net::UnixStream::connect_addr(&abstract_address).expect("the host reaches it");
    denied(&*host, &format!("abstract {name}")).await;
    // The host's socket takes one connection, and that one is made.
    denied(&*host, "unix /host.sock").await;
    stop(&*host).await;
    None
}

async fn cannot_see_files_outside() -> Option<String> {
    let host = host!(ResourceLimits::default());
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), "secret").expect("written");
    denied(&*host, &format!("read {}", secret.path().display())).await;
    for path in ["/etc/passwd", "/etc/hostname", "/home", "/root", "/proc/1/environ", "/sys/kernel", "/var/run"] {
        denied(&*host, &format!("read {path}")).await;
        denied(&*host, &format!("list {path}")).await;
    }
    assert_eq!(allowed(&*host, "list /").await, "dev entrypoint host.sock lib64 tmp usr");
    // Its own temporary folder is private, everything given to it is read-only.
    allowed(&*host, "write /tmp/file").await;
    assert_eq!(allowed(&*host, "list /tmp").await, "file");
    assert!(!Path::new("/tmp/file").exists());
    denied(&*host, "write /entrypoint").await;
    denied(&*host, "write /usr/lib/libc.so.6").await;
    stop(&*host).await;
    None
}

async fn cannot_signal_the_host() -> Option<String> {
    let host = host!(ResourceLimits::default());
    for pid in [std::process::id(), std::os::unix::process::parent_id()] {
        if pid > 2 {
            denied(&*host, &format!("signal {pid}")).await;
        }
    }
    assert!(allowed(&*host, "pid").await.parse::<u32>().expect("a number") < 10, "it has its own processes");
    stop(&*host).await;
    None
}

async fn cannot_change_the_system() -> Option<String> {
    let host = host!(ResourceLimits::default());
    denied(&*host, "mount").await;
    denied(&*host, "sethostname").await;
    stop(&*host).await;
    None
}

async fn a_memory_hog_is_contained() -> Option<String> {
    let limit = 512u64 << 20;
    let host = host!(ResourceLimits { memory_bytes: Some(limit), processes: None });
    let answer = ask(&*host, "memory 2048").await;
    // By process the allocation fails; by group the process is ended.
    match answer {
        Ok(answer) => assert!(answer.starts_with("denied"), "{answer}"),
        Err(e) => assert!(matches!(e, rt_host::HostError::Closed(_)), "{e}"),
    }
    assert_eq!(allowed(&*host, "echo alive").await, "alive");
    stop(&*host).await;
    // Without the limit the same amount is there.
    let host = host!(ResourceLimits::default());
    assert_eq!(allowed(&*host, "memory 600").await, "600");
    stop(&*host).await;
    None
}

async fn fork_bomb() -> Option<String> {
    let host = host!(ResourceLimits { memory_bytes: None, processes: Some(2000) });
    denied(&*host, "threads 20000").await;
    stop(&*host).await;
    None
}

async fn a_fork_bomb_is_contained() -> Option<String> {
    let Enforcement::ResourceLimits { reason, processes: false } = enforcement() else { return fork_bomb().await };
    // The system does not count what root starts, and `doctor` says so; so this is tried as somebody else.
    println!("the number of processes is not enforceable for root: {reason}; running as nobody");
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("open to all");
    let program = dir.path().join("hosted");
    std::fs::copy(std::env::current_exe().expect("a path"), &program).expect("copied");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
    let mut command = tokio::process::Command::new(program);
    command.uid(NOBODY).gid(NOBODY).env(crate::INNER, FORK_BOMB).current_dir("/");
    let outcome = command.output().await.expect("starts");
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success(), "{said}{}", String::from_utf8_lossy(&outcome.stderr));
    match said.split_once(NOT_HERE) {
        Some((_, why)) => Some(why.trim().to_owned()),
        None => {
            assert!(said.contains("inner test passed"), "{said}");
            None
        }
    }
}

async fn broken_sandboxes_are_reported() -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("bwrap");
    let cases = [
        (
            Some("echo 'bwrap: Failed to mount tmpfs: Permission denied' >&2; exit 1"),
            "process terminated with exit code 1",
        ),
        (Some("sleep 1000"), "i/o timeout"),
        // One that is too old for an argument.
        (Some("echo 'bwrap: Unknown option --args' >&2; exit 1"), "process terminated with exit code 1"),
        (None, "sandbox binary not found"),
    ];
    for (script, expected) in cases {
        let _ = std::fs::remove_file(&path);
        if let Some(script) = script {
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("executable");
        }
        let provisioner = Sandbox::new(&path, HostInfo::default()).with_timings(timings());
        let host = provisioner.provision(config(&[])).expect("provisions");
        let mut events = host.events();
        host.start().await.expect("starts");
        let event = until(&mut events, |event| matches!(event, HostEvent::FailedToStart { .. })).await;
        let HostEvent::FailedToStart { error } = event else { return None };
        assert!(error.contains(expected), "{error}");
        // The next attempt may have begun.
        let status = host.status();
        let remembered = status.last_error.as_ref().is_some_and(|(error, _)| error.contains(expected));
        assert!(remembered && status.to_string() != "running", "{status}");
        stop(&*host).await;
    }
    None
}

/// A program that prints a line and ends.
fn prints(dir: &Path, line: &str, to: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join("printing");
    std::fs::write(&path, format!("#!/bin/sh\necho '{line}' {to}\nexit 1\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("executable");
    path
}

/// Waits for failed starts; gives the errors.
async fn failures(host: &dyn RuntimeHost, count: usize) -> Vec<String> {
    let mut events = host.events();
    host.start().await.expect("starts");
    let mut errors = Vec::new();
    while errors.len() < count {
        if let HostEvent::FailedToStart { error } =
            until(&mut events, |event| matches!(event, HostEvent::FailedToStart { .. })).await
        {
            errors.push(error);
        }
    }
    errors
}

async fn what_a_failing_sandbox_prints_is_logged() -> Option<String> {
    for (line, to) in [
        ("bwrap: Failed to mount tmpfs: Permission denied", ">&2"),
        ("Enclave panicked: SgxEnclaveRun { function: EResume, exception_vector: 6 }", ""),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let provisioner = Sandbox::new(prints(dir.path(), line, to), HostInfo::default()).with_timings(timings());
        let mut config = config(&[]);
        let path = ComponentLog::path_in(dir.path(), &config.runtime_id, &config.component_id);
        config.log = Some(Arc::new(ComponentLog::create(path.clone(), 1 << 20).expect("a log")));
        let id = config.runtime_id.to_string();
        let host = provisioner.provision(config).expect("provisions");
        let errors = failures(&*host, 3).await;
        assert!(host.status().attempts >= 3 && errors.len() == 3, "it is tried again and again");
        stop(&*host).await;
        let text = std::fs::read_to_string(&path).expect("readable");
        let logged = text.lines().filter(|logged| logged.contains(line)).collect::<Vec<_>>();
        assert!(logged.len() >= 3, "one line for each attempt: {text}");
        for field in [
            r#""level":"warn""#,
            r#""module":"runtime""#,
            r#""runtime_name":"test""#,
            r#""component":"ronl""#,
            r#""provisioner":"sandbox""#,
            id.as_str(),
        ] {
            assert!(logged.iter().all(|line| line.contains(field)), "{field}: {logged:?}");
        }
    }
    None
}

/// An enclave on a machine without SGX: the loader is there, the device is not.
async fn enclaves_without_hardware_fail_alone() -> Option<String> {
    use rt_host::{
        attest::{Attester, NoPolicies},
        pcs::{QuoteService, system_clock},
        sgx::Sgx,
    };
    let options = rt_tee::VerifyOptions::default();
    let cache = Arc::new(base_kv::Memory::default());
    let quotes = QuoteService::new("http://127.0.0.1:9", cache, system_clock(), options);
    let attester = Attester { quotes, policies: Arc::new(NoPolicies), endorser: None, ias: Vec::new() };
    let isolation = rt_host::sandbox::Isolation::Sandbox(DEFAULT_BINARY.into());
    let mut sgx = Sgx::new(Some("/bin/true".into()), isolation, false, attester, HostInfo::default());
    sgx.devices = vec!["/nowhere/sgx_enclave".into()];
    sgx.timings = timings();
    let mut with_enclave = config(&[]);
    let image = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors/bundles/runtime.sgxs"));
    let wrap = rt_bundle::Wrap {
        runtime_id: with_enclave.runtime_id,
        name: "test".into(),
        version: None,
        binary: rt_bundle::Binary::detect(image).expect("an enclave"),
    };
    with_enclave.bundle = Arc::new(wrap.to_exploded().expect("signed"));
    with_enclave.component = with_enclave.bundle.manifest.component(&with_enclave.component_id).expect("there");
    let enclave = sgx.provision(with_enclave).expect("provisions");
    let errors = failures(&*enclave, 2).await;
    assert!(errors.iter().all(|error| error.contains("no SGX device was found on this system")), "{errors:?}");
    // Another runtime of the same node runs meanwhile.
    let plain = Sandbox::unconfined(HostInfo::default()).with_timings(timings());
    let plain = plain.provision(config(&[])).expect("provisions");
    plain.start().await.expect("starts");
    assert_eq!(ask(&*plain, "echo x").await.as_deref(), Ok("ok x"));
    stop(&*enclave).await;
    stop(&*plain).await;
    None
}

/// Runs a test of this program with another folder for temporary files; `None` if it passed.
async fn with_temporary_folder(arguments: &[&str], inner: &str) -> Option<String> {
    if let Err(e) = probe(Path::new(DEFAULT_BINARY)).await {
        return Some(e.to_string());
    }
    let program = std::env::current_exe().expect("a path");
    let outcome = tokio::process::Command::new(DEFAULT_BINARY)
        .args(["--dev-bind", "/", "/"])
        .args(arguments)
        .args(["--setenv", "TMPDIR", "/tmp", "--setenv", crate::INNER, inner, "--"])
        .arg(program)
        .output()
        .await
        .expect("starts");
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success(), "{said}{}", String::from_utf8_lossy(&outcome.stderr));
    assert!(said.contains("inner test passed"), "{said}");
    None
}

async fn a_read_only_folder_for_temporary_files_is_named() -> Option<String> {
    with_temporary_folder(&["--tmpfs", "/tmp", "--remount-ro", "/tmp"], "read-only").await
}

async fn one_mebibyte_for_temporary_files_is_enough() -> Option<String> {
    with_temporary_folder(&["--size", "1048576", "--tmpfs", "/tmp"], "small").await
}

/// What those tests do inside.
pub(crate) async fn inner(what: &str) {
    if what == FORK_BOMB {
        return match fork_bomb().await {
            Some(why) => println!("{NOT_HERE}{why}"),
            None => println!("inner test passed"),
        };
    }
    let provisioner = Sandbox::new(DEFAULT_BINARY, HostInfo::default()).with_timings(timings());
    let host = provisioner.provision(config(&[])).expect("provisions");
    if what == "read-only" {
        let errors = failures(&*host, 2).await;
        for error in errors {
            let text = error.to_lowercase();
            assert!(text.contains("failed to create temporary directory: mkdir /tmp/oasis-runtime"), "{error}");
            assert!(text.contains("read-only file system"), "{error}");
        }
    } else {
        std::fs::write("/tmp/full", vec![1; 2 << 20]).expect_err("no room for two");
        std::fs::remove_file("/tmp/full").expect("removed");
        host.start().await.expect("starts");
        assert_eq!(allowed(&*host, "echo hi").await, "hi");
    }
    stop(&*host).await;
    println!("inner test passed");
}

async fn starts_quickly() -> Option<String> {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let begin = Instant::now();
        let host = host!(ResourceLimits::default());
        assert_eq!(allowed(&*host, "echo x").await, "x");
        best = best.min(begin.elapsed());
        stop(&*host).await;
    }
    println!("sandboxed start to first answer, try-out of the sandbox included: {best:?}");
    // Generous: tests run on busy machines. The figure is in docs/benchmarks.md.
    assert!(best < Duration::from_secs(5), "{best:?}");
    None
}
