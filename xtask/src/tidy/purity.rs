//! L0–L2 see the world only through arguments: no I/O, clock, randomness, threads or async runtime.

use super::Problem;
use crate::layers::{Layer, layer_of};
use crate::source::{code_only, without_tests};
use crate::tree::Tree;

/// What pure code must not name. Plain address types of `std::net` are data and allowed.
const NAMES: &[&str] = &[
    "async_std",
    "getrandom::",
    "Instant::now",
    "OsRng",
    "println!",
    "eprintln!",
    "SystemTime",
    "std::env",
    "std::fs",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "stdin()",
    "TcpListener",
    "TcpStream",
    "thread_rng",
    "tokio",
    "ToSocketAddrs",
    "UdpSocket",
    "UnixStream",
];

/// Packages that pure crates must not depend on, tests aside.
const PACKAGES: &[&str] =
    &["async-std", "getrandom", "hyper", "libp2p", "mio", "rand", "rcgen", "redb", "reqwest", "tokio", "tonic"];

/// Looks at sources and manifests of the pure crates.
pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let pure = |dir: &str| layer_of(dir).is_some_and(|layer| layer <= Layer::L2);
    let mut out = Vec::new();
    for package in tree.packages.iter().filter(|p| pure(&p.dir)) {
        for dep in package.deps.iter().filter(|d| PACKAGES.contains(&d.as_str())) {
            out.push(format!("{}/Cargo.toml: a pure crate depends on {dep}", package.dir));
        }
    }
    for (path, text) in tree.production() {
        let inside = tree.package_of(path).is_some_and(|p| pure(&p.dir) && path[p.dir.len()..].starts_with("/src/"));
        if !inside {
            continue;
        }
        let code = without_tests(&code_only(text));
        for (number, line) in code.lines().enumerate() {
            for name in NAMES.iter().filter(|name| names(line, name)) {
                out.push(format!("{path}:{}: {name} in a pure crate", number + 1));
            }
        }
    }
    out
}

/// Does the line hold the name as a word of its own?
fn names(line: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(word);
        let after = line[at + name.len()..].chars().next().is_some_and(word);
        !before && (!after || name.ends_with("::"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Package;

    fn problems(dir: &str, file: &str, text: &str) -> usize {
        let mut tree = Tree::of(&[(&format!("{dir}/{file}"), text)]);
        tree.packages.push(Package { name: "x".into(), dir: dir.into(), ..Package::default() });
        check(&tree).len()
    }

    #[test]
    fn sees_the_world_in_pure_code() {
        let pure = "crates/base/prims";
        assert_eq!(problems(pure, "src/a.rs", "use std::fs;\nfn a() { let t = SystemTime::now(); }"), 2);
        assert_eq!(problems(pure, "src/a.rs", "use std::net::TcpStream;"), 1);
        assert_eq!(problems(pure, "src/a.rs", "use std::net::IpAddr;"), 0);
        assert_eq!(problems(pure, "src/a.rs", "// std::fs\nconst A: &str = \"tokio\"; fn my_tokio_like() {}"), 0);
        assert_eq!(problems(pure, "src/a.rs", "#[cfg(test)]\nmod tests { use std::fs; }"), 0);
        assert_eq!(problems(pure, "src/a/tests.rs", "use std::fs;"), 0);
        assert_eq!(problems("crates/base/kv", "src/a.rs", "use std::fs;"), 0);
    }

    #[test]
    fn sees_forbidden_dependencies() {
        let mut tree = Tree::default();
        let deps = vec!["tokio".to_owned(), "hex".to_owned()];
        tree.packages.push(Package { name: "x".into(), dir: "crates/wire/x".into(), deps, ..Package::default() });
        assert_eq!(check(&tree), ["crates/wire/x/Cargo.toml: a pure crate depends on tokio"]);
    }
}
