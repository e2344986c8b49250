//! What the sandbox is told.

use super::*;

fn words(spec: &SandboxSpec, libraries: &[(&str, &str)]) -> Vec<String> {
    let libraries = libraries.iter().map(|(name, path)| ((*name).to_owned(), PathBuf::from(path))).collect();
    spec.arguments(&libraries, 4, &[5, 6]).iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

#[test]
fn a_plain_runtime_gets_nothing_but_itself() {
    let spec = SandboxSpec {
        path: "/data/e".into(),
        env: BTreeMap::from([("A".into(), "b".into())]),
        bind_rw: vec![("/tmp/x/host.sock".into(), SOCKET_IN_SANDBOX.into())],
        ..SandboxSpec::default()
    };
    let libraries = [("ld-linux-x86-64.so.2", "/usr/lib/x/ld.so"), ("libc.so.6", "/usr/lib/x/libc.so.6")];
    assert_eq!(
        words(&spec, &libraries).join(" "),
        "--unshare-all --cap-drop ALL --hostname oasis-core --tmpfs /tmp --dev /dev --die-with-parent --new-session \
         --chdir / --ro-bind /data/e /entrypoint --setenv A b --dir / --bind /tmp/x/host.sock /host.sock \
         --ro-bind /usr/lib/x/ld.so /lib64/ld-linux-x86-64.so.2 --ro-bind /usr/lib/x/libc.so.6 /usr/lib/libc.so.6 \
         --symlink /usr/lib /usr/lib64 --seccomp 4"
    );
}

#[test]
fn network_devices_and_data_are_added_where_asked() {
    let spec = SandboxSpec {
        path: "/loader".into(),
        bind_ro: vec![("/a".into(), "/b/c".into())],
        bind_dev: vec![("/dev/sgx_enclave".into(), "/dev/sgx_enclave".into())],
        data: vec![("/runtime".into(), vec![1]), ("/runtime.sig".into(), vec![2])],
        allow_network: true,
        ..SandboxSpec::default()
    };
    let line = words(&spec, &[]).join(" ");
    for part in [
        "--share-net --ro-bind /etc/resolv.conf /etc/resolv.conf",
        "--dir /b --ro-bind /a /b/c",
        "--dev-bind /dev/sgx_enclave /dev/sgx_enclave",
        "--seccomp 4 --dir / --ro-bind-data 5 /runtime --dir / --ro-bind-data 6 /runtime.sig",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn an_unwritable_temporary_folder_is_named() {
    let error = |path: &str| HostSocket::create_in(Path::new(path)).map(drop).expect_err("refused").to_string();
    let missing = error("/nowhere");
    assert!(missing.starts_with("failed to create temporary directory: mkdir /nowhere/oasis-runtime"), "{missing}");
    assert!(missing.contains("no such file or directory"), "{missing}");
    let kind = std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem);
    let text = describe_mkdir(Path::new("/tmp"), &kind);
    assert!(text.starts_with("mkdir /tmp/oasis-runtime: read-only file system"), "{text}");
}

#[tokio::test]
async fn a_sandbox_that_reads_nothing_is_given_up() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a folder");
    let binary = dir.path().join("bwrap");
    std::fs::write(&binary, "#!/bin/sh\nexec sleep 1000\n").expect("written");
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o700)).expect("executable");
    // More than a pipe holds, as an enclave's image is.
    let spec = SandboxSpec {
        path: std::env::current_exe().expect("a path"),
        data: vec![("/runtime".into(), vec![0; 1 << 20])],
        ..SandboxSpec::default()
    };
    let source = Source {
        runtime_id: Default::default(),
        runtime_name: "test".into(),
        component: wire_runtime::bundle::ComponentId::Ronl,
        provisioner: "sgx".into(),
    };
    let begin = std::time::Instant::now();
    let error =
        spec.spawn(&binary, Default::default(), source, None).await.map(drop).expect_err("given up").to_string();
    assert_eq!(error, "failed to spawn sandbox: sandbox: failed to copy bound data to sandbox: write |1: i/o timeout");
    assert!(begin.elapsed() < SANDBOX_START_TIMEOUT + Duration::from_secs(15));
}
