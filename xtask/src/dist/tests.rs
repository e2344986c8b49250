//! Packages of small programs: equal bytes, right contents, and an image whose entrypoint runs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::dist::stage::{Entry, Kind, Stage};

/// A directory that goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wadi-dist-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn settings(dir: &Path, programs: &Path) -> Settings {
    let out = dir.join("out");
    fs::create_dir_all(&out).unwrap();
    Settings { programs: programs.to_owned(), out, epoch: 1_700_000_000, version: "1.2.3".to_owned() }
}

/// Programs that say what the real ones say when asked for help and completions.
fn stand_ins(dir: &Path) -> PathBuf {
    let programs = dir.join("programs");
    fs::create_dir_all(&programs).unwrap();
    for name in PROGRAMS {
        let text = format!(
            "#!/bin/sh\ncase \"$*\" in\n  completion*) echo \"# $*\" ;;\n  'sub --help') printf 'Does a \
             thing.\\n\\nUsage: {name} sub\\n' ;;\n  *) printf 'Says what it is.\\n\\nUsage: {name} \
             [COMMAND]\\n\\nCommands:\\n  sub   Does a thing\\n  help  Print this\\n\\nOptions:\\n  -h, --help  .Print\\n' \
             ;;\nesac\n"
        );
        let path = programs.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    programs
}

#[test]
fn archives_are_read_by_others_and_equal_for_equal_contents() {
    let dir = Scratch::new("archive");
    let programs = stand_ins(&dir.0);
    let settings = settings(&dir.0, &programs);
    let stage = stage::stage(&settings, &root()).unwrap();
    let path = archive::write(&settings, &stage).unwrap();
    let first = fs::read(&path).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    archive::write(&settings, &stage).unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
    let listed = Command::new("tar").arg("-tzvf").arg(&path).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for wanted in [
        "usr/bin/oasis-node\n",
        "usr/bin/oasis-devnet -> ../lib/wadi/oasis-devnet",
        "usr/lib/wadi/simple-keyvalue\n",
        "usr/lib/systemd/system/oasis-node.service",
        "usr/share/bash-completion/completions/oasis\n",
        "usr/share/man/man1/oasis-node.1.gz",
    ] {
        assert!(listed.contains(wanted), "{wanted} in {listed}");
    }
    assert!(listed.lines().all(|line| line.contains("0/0") || line.contains("root/root")), "{listed}");
}

#[test]
fn long_names_are_kept_and_too_long_ones_refused() {
    let entry = |path: String| Entry { path, kind: Kind::Bytes(b"x".to_vec()), mode: 0o644, owner: 0 };
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(90));
    let bytes = archive::tar(&[entry(long.clone())], 0).unwrap();
    let dir = Scratch::new("long");
    fs::write(dir.0.join("a.tar"), bytes).unwrap();
    let listed = Command::new("tar").arg("-tf").arg(dir.0.join("a.tar")).output().unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap().trim(), long);
    assert!(archive::tar(&[entry("f".repeat(101))], 0).is_err());
}

#[test]
fn manual_pages_have_every_subcommand() {
    let dir = Scratch::new("manual");
    let programs = stand_ins(&dir.0);
    let page = manual::page(&programs.join("oasis"), "oasis", "1.2.3", 1_700_000_000).unwrap();
    for wanted in
        [".TH OASIS 1 \"2023-11-14\"", "oasis \\- Says what it is", ".SS oasis sub", "  \\-h, \\-\\-help  .Print"]
    {
        assert!(page.contains(wanted), "{wanted} in {page}");
    }
    assert!(!page.contains(".SS oasis help"), "{page}");
    if has("mandoc") || has("man") {
        fs::write(dir.0.join("oasis.1"), &page).unwrap();
        let shown = Command::new("man").arg("-l").arg(dir.0.join("oasis.1")).env("MANPAGER", "cat").output();
        if let Ok(shown) = shown {
            let text = String::from_utf8_lossy(&shown.stdout).into_owned();
            assert!(!shown.status.success() || text.contains("SUBCOMMANDS"), "{text}");
        }
    }
}

#[test]
fn the_debian_package_is_equal_for_equal_contents_and_holds_everything() {
    if !has("dpkg-deb") {
        println!("skipped: 1 Debian package, dpkg-deb is missing");
        return;
    }
    let dir = Scratch::new("debian");
    let programs = stand_ins(&dir.0);
    let settings = settings(&dir.0, &programs);
    let stage = stage::stage(&settings, &root()).unwrap();
    let path = debian::write(&settings, &stage).unwrap();
    let first = sha256_of(&path).unwrap();
    debian::write(&settings, &stage).unwrap();
    assert_eq!(sha256_of(&path).unwrap(), first);
    let show = |words: &[&str]| {
        let out = Command::new("dpkg-deb").args(words).arg(&path).output().unwrap();
        assert!(out.status.success());
        String::from_utf8(out.stdout).unwrap()
    };
    assert!(show(&["--info"]).contains("Version: 1.2.3"));
    let listed = show(&["--contents"]);
    for wanted in
        ["./usr/bin/oasis-node", "./usr/lib/sysusers.d/oasis.conf", "./usr/share/fish/vendor_completions.d/oasis.fish"]
    {
        assert!(listed.contains(wanted), "{wanted} in {listed}");
    }
}

#[test]
fn the_newest_named_version_of_the_library_counts() {
    assert_eq!(debian::needed_glibc(b"..GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0GLIBC_PRIVATE\0"), (2, 34));
}

/// The image is put together from a program of this machine, unpacked, and its entrypoint started with nothing but
/// what is in it.
#[test]
fn the_image_runs_its_entrypoint_with_what_it_holds() {
    if !has("ldd") {
        println!("skipped: 1 OCI image, ldd is missing");
        return;
    }
    let dir = Scratch::new("image");
    let settings = settings(&dir.0, &dir.0);
    let mut stage = Stage::default();
    // The node, if it was built; another program that needs libraries shows the same.
    let beside = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("oasis-node");
    let program = if beside.is_file() { beside } else { PathBuf::from("/bin/ls") };
    stage.file("usr/bin/oasis-node", 0o755, Kind::File(program));
    let layout = image::assemble(&stage, &settings).unwrap();
    assert_eq!(layout, image::assemble(&stage, &settings).unwrap());

    let blobs = dir.0.join("layout");
    for entry in &layout {
        let path = blobs.join(&entry.path);
        match &entry.kind {
            Kind::Bytes(bytes) => fs::write(path, bytes).unwrap(),
            _ => fs::create_dir_all(path).unwrap(),
        }
    }
    let json = |path: PathBuf| -> serde_json::Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let blob = |value: &serde_json::Value| {
        let digest = value["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
        let path = blobs.join("blobs/sha256").join(&digest);
        assert_eq!(sha256_of(&path).unwrap(), digest);
        assert_eq!(fs::metadata(&path).unwrap().len(), value["size"].as_u64().unwrap());
        path
    };
    let manifest = json(blob(&json(blobs.join("index.json"))["manifests"][0]));
    let config = json(blob(&manifest["config"]));
    let unpacked = dir.0.join("root");
    fs::create_dir_all(&unpacked).unwrap();
    let layer = blob(&manifest["layers"][0]);
    let tar =
        Command::new("tar").args(["--no-same-owner", "-xzf"]).arg(&layer).arg("-C").arg(&unpacked).status().unwrap();
    assert!(tar.success());
    let entrypoint = config["config"]["Entrypoint"][0].as_str().unwrap().trim_start_matches('/');
    // The loader of the image, with its libraries only: the same without the rights that a container needs.
    let places = ["lib64", "lib"].iter().filter_map(|dir| fs::read_dir(unpacked.join(dir)).ok()).flatten();
    let mut files = places.map(|entry| entry.unwrap().path());
    let loader = files.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("ld-")).unwrap();
    let libraries: Vec<_> =
        ["lib/x86_64-linux-gnu", "lib64", "usr/lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "lib"]
            .iter()
            .map(|path| unpacked.join(path).display().to_string())
            .collect();
    let run = Command::new(loader)
        .args(["--inhibit-cache", "--library-path", &libraries.join(":")])
        .arg(unpacked.join(entrypoint))
        .arg("--version")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    assert!(!said.trim().is_empty());
    println!("the image's entrypoint says: {}", said.lines().next().unwrap_or_default());
}

#[test]
fn services_pass_the_judgement_of_systemd() {
    if !has("systemd-analyze") {
        println!("skipped: 1 verification of services, systemd-analyze is missing");
        return;
    }
    let dir = Scratch::new("systemd");
    let mut seen = 0;
    for entry in fs::read_dir(root().join("contrib/systemd")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        // The programs are not installed here; anything that can be executed stands for them.
        let text =
            text.replace("/usr/bin/oasis-node", "/bin/true").replace("/usr/bin/oasis-remote-signer", "/bin/true");
        // A template is judged by one of its instances.
        let name = path.file_name().unwrap().to_string_lossy().replace("@.", "@one.");
        let copy = dir.0.join(name);
        fs::write(&copy, text).unwrap();
        let run = Command::new("systemd-analyze").arg("--man=no").arg("verify").arg(&copy).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        let ours: Vec<_> = said.lines().filter(|line| line.contains("oasis-")).collect();
        assert!(run.status.success() && ours.is_empty(), "{}: {said}", copy.display());
        seen += 1;
    }
    assert!(seen >= 3, "{seen} services");
}
