//! Bundles made, signed and compared through the commands, on files only.

use base_codec::json;
use base_prims::Hash;
use clap::Parser;
use wire_consensus::registry::VersionInfo;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: Command<Nobody>,
}

/// No node to ask.
#[derive(Debug, Args)]
struct Nobody {}

const ID: &str = "8000000000000000000000000000000000000000000000000000000000000042";

/// The words of a command, where `@NAME` is a file of the folder.
fn oasis(dir: &Path, words: &str) -> std::result::Result<(), String> {
    let words = words.split_whitespace().map(|word| match word.strip_prefix('@') {
        Some(name) => dir.join(name).into_os_string(),
        None => word.into(),
    });
    let line = Line::try_parse_from(std::iter::once("bundle".into()).chain(words)).map_err(|e| e.to_string())?;
    assert!(!line.command.asks_network());
    run(line.command, |_, _| Err("nobody to ask".into())).map_err(|e| e.to_string())
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).expect("written");
    put("runtime.elf", &[b"\x7fELF".as_slice(), &[3; 5000]].concat());
    put("enclave.sgxs", &[b"ECREATE\0".as_slice(), &[7; 5000]].concat());
    put("key.pem", include_bytes!("test_key.pem"));
    put("public.pem", include_bytes!("test_public.pem"));
    dir
}

fn descriptor(dir: &Path, id: &str, deployments: &[(Version, Option<Hash>)]) {
    let deployments = deployments.iter().map(|(version, hash)| {
        let bundle_checksum = hash.map(|hash| hash.as_bytes().to_vec()).unwrap_or_default().into();
        Some(VersionInfo { version: *version, bundle_checksum, ..VersionInfo::default() })
    });
    let id = id.parse().expect("an id");
    let runtime = Runtime { v: 3, id, deployments: deployments.collect(), ..Runtime::default() };
    std::fs::write(dir.join("descriptor.json"), json::to_string(&runtime)).expect("written");
}

#[test]
fn bare_executables_become_bundles_that_descriptors_can_name() {
    let dir = folder();
    let dir = dir.path();
    oasis(dir, &format!("init @runtime.elf --runtime-id {ID} --name demo --version 1.2.3 -o @one.orc")).expect("made");
    oasis(dir, &format!("init @runtime.elf --runtime-id {ID} --name demo --version 1.2.3 -o @two.orc")).expect("made");
    let read = |name: &str| std::fs::read(dir.join(name)).expect("there");
    assert_eq!(read("one.orc"), read("two.orc"), "equal inputs give equal bytes");
    oasis(dir, "show @one.orc").expect("is shown");
    let hash = open(&dir.join("one.orc")).expect("opens").manifest_hash();
    let version = Version::new(1, 2, 3);

    descriptor(dir, ID, &[(Version::new(1, 0, 0), None), (version, Some(hash))]);
    oasis(dir, "compare @one.orc --descriptor @descriptor.json").expect("matches");
    for (id, deployments, why) in [
        (ID, vec![(version, Some(Hash::new([1; 32])))], "matches no deployment"),
        (ID, vec![(Version::new(9, 0, 0), Some(hash))], "matches no deployment"),
        (ID, vec![(version, None)], "matches no deployment"),
        (&ID.replace("42", "43"), vec![(version, Some(hash))], "the descriptor of"),
    ] {
        descriptor(dir, id, &deployments);
        let error = oasis(dir, "compare @one.orc --descriptor @descriptor.json").expect_err("differs");
        assert!(error.contains(why), "{error}");
    }
    std::fs::write(dir.join("descriptor.json"), "{").expect("written");
    assert!(oasis(dir, "compare @one.orc --descriptor @descriptor.json").is_err());

    std::fs::write(dir.join("script"), "#!/bin/sh\n").expect("written");
    for words in [
        format!("init @script --runtime-id {ID} --version 1.0.0 -o @x.orc"),
        format!("init @missing --runtime-id {ID} --version 1.0.0 -o @x.orc"),
        format!("init @runtime.elf --runtime-id {ID} --version 1.0.0 --sgx-signature @key.pem -o @x.orc"),
        "init @runtime.elf --runtime-id 12 --version 1.0.0 -o @x.orc".to_owned(),
        "show @script".to_owned(),
        "sgx-sign @one.orc @key.pem --date 2026-01-02".to_owned(),
    ] {
        oasis(dir, &words).expect_err(&words);
    }
    assert!(!dir.join("x.orc").exists());
}

#[test]
fn enclaves_are_signed_here_or_elsewhere() {
    let dir = folder();
    let dir = dir.path();
    let init = format!("init @runtime.elf --sgx-executable @enclave.sgxs --runtime-id {ID} --version 1.0.0");
    for name in ["here", "elsewhere"] {
        oasis(dir, &format!("{init} -o @{name}.orc")).expect("made");
    }
    let statement = "--date 2026-01-02 --isv-svn 5";
    oasis(dir, &format!("sgx-sign @here.orc @key.pem {statement}")).expect("is signed");
    oasis(dir, "show @here.orc").expect("is shown");

    oasis(dir, &format!("sgx-gen-sign-data @elsewhere.orc {statement} -o @data")).expect("written");
    let data = std::fs::read(dir.join("data")).expect("there");
    let key = private_key_of(&dir.join("key.pem")).expect("a key");
    let signature = key.sign(Pkcs1v15Sign::new::<rsa::sha2::Sha256>(), &data).expect("signs");
    std::fs::write(dir.join("signature"), &signature).expect("written");
    oasis(dir, &format!("sgx-set-sig @elsewhere.orc @signature @public.pem {statement}")).expect("is put in");

    let read = |name: &str| std::fs::read(dir.join(name)).expect("there");
    assert_eq!(read("here.orc"), read("elsewhere.orc"), "both ways give the same bundle");
    let identities = open(&dir.join("here.orc")).expect("opens").enclave_identities(&ComponentId::Ronl, None);
    let identities = identities.expect("signed");
    assert_eq!(identities[0].mr_enclave, MrEnclave::new(Sha256::digest(read("enclave.sgxs")).into()));

    // Signing again replaces the signature; one for another statement or by another key is refused, and changes nothing.
    oasis(dir, &format!("sgx-sign @here.orc @key.pem {statement} --debug")).expect("is signed again");
    assert_ne!(read("here.orc"), read("elsewhere.orc"));
    let before = read("elsewhere.orc");
    for (words, why) in [
        ("sgx-set-sig @elsewhere.orc @signature @public.pem --date 2026-01-03 --isv-svn 5", "invalid signature"),
        ("sgx-set-sig @elsewhere.orc @data @public.pem --date 2026-01-02 --isv-svn 5", "invalid signature"),
        ("sgx-set-sig @elsewhere.orc @signature @key.pem --date 2026-01-02 --isv-svn 5", "the file holds a"),
        ("sgx-sign @elsewhere.orc @public.pem --date 2026-01-02", "the file holds a"),
        ("sgx-sign @elsewhere.orc @data --date 2026-01-02", "not a PEM file"),
        ("sgx-sign @elsewhere.orc @key.pem --date 2026-13-02", "no date"),
        ("sgx-sign @elsewhere.orc @key.pem --date 2026-01-02 --component rofl.other", "no component"),
    ] {
        let error = oasis(dir, words).expect_err(words);
        assert!(error.contains(why), "{words}: {error}");
        assert_eq!(read("elsewhere.orc"), before);
    }
}
