//! Dependencies go down the layers; manifests take everything from the workspace.

use std::collections::BTreeMap;

use super::Problem;
use crate::layers::{layer_of, refuse};
use crate::tree::Tree;

/// Crates that stand in for a foreign one (`[patch.crates-io]`) and so bear its name, by folder below `crates`.
const STAND_INS: &[(&str, &str)] = &[("p2p/identity", "libp2p-identity")];

/// Every crate is in the table, named by its path, and depends on nothing above it.
pub(super) fn layers(tree: &Tree) -> Vec<Problem> {
    let dirs: BTreeMap<&str, &str> = tree.packages.iter().map(|p| (p.name.as_str(), p.dir.as_str())).collect();
    let mut out = Vec::new();
    for package in &tree.packages {
        if layer_of(&package.dir).is_none() {
            out.push(format!("{}: not in the table of xtask/src/layers.rs", package.dir));
        }
        if let Some(path) = package.dir.strip_prefix("crates/") {
            let stand_in = STAND_INS.iter().find(|(dir, _)| *dir == path);
            let expected = stand_in.map_or_else(|| path.replace('/', "-"), |(_, name)| (*name).to_owned());
            if package.name != expected {
                out.push(format!("{}: the package is called {}, not {expected}", package.dir, package.name));
            }
        }
        for (deps, dev) in [(&package.deps, false), (&package.dev_deps, true)] {
            let inside = deps.iter().filter_map(|d| dirs.get(d.as_str()));
            out.extend(inside.filter_map(|to| refuse(&package.dir, to, dev)));
        }
    }
    out
}

/// Versions and features stand in the root manifest only, and every crate takes the workspace's lints.
pub(super) fn manifests(tree: &Tree) -> Vec<Problem> {
    let mut out = Vec::new();
    for package in &tree.packages {
        let path = format!("{}/Cargo.toml", package.dir);
        let Some(text) = tree.text(&path) else {
            out.push(format!("{path}: not readable"));
            continue;
        };
        let mut section = "";
        let mut lints = false;
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            if line.starts_with('[') {
                section = line;
                if section.contains("dependencies.") {
                    out.push(format!("{path}: {section}: write the dependency as one line"));
                }
                continue;
            }
            let workspace = line.contains("workspace = true");
            if section.ends_with("dependencies]") && !workspace {
                out.push(format!("{path}: `{line}`: versions and features belong in the root manifest"));
            }
            lints |= section == "[lints]" && workspace;
        }
        if !lints {
            out.push(format!("{path}: lacks [lints] workspace = true"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Package;

    fn package(name: &str, dir: &str, deps: &[&str], dev_deps: &[&str]) -> Package {
        let own = |l: &[&str]| l.iter().map(|d| (*d).to_owned()).collect();
        Package { name: name.into(), dir: dir.into(), deps: own(deps), dev_deps: own(dev_deps) }
    }

    #[test]
    fn sees_edges_that_go_up_and_crates_out_of_place() {
        let tree = |packages| Tree { packages, ..Tree::default() };
        let prims = || package("base-prims", "crates/base/prims", &["thiserror"], &[]);
        let good = package("wire-consensus", "crates/wire/consensus", &["base-prims"], &[]);
        assert!(layers(&tree(vec![prims(), good.clone()])).is_empty());
        let bad = package("base-prims", "crates/base/prims", &["wire-consensus"], &[]);
        assert_eq!(layers(&tree(vec![bad, good])).len(), 1);
        assert_eq!(layers(&tree(vec![package("prims", "crates/base/prims", &[], &[])])).len(), 1);
        assert_eq!(layers(&tree(vec![package("new-crate", "crates/new/crate", &[], &[])])).len(), 1);
    }

    #[test]
    fn sees_versions_outside_the_root_and_missing_lints() {
        let check = |manifest: &str| {
            let mut tree = Tree::of(&[("xtask/Cargo.toml", manifest)]);
            tree.packages.push(package("xtask", "xtask", &[], &[]));
            manifests(&tree).len()
        };
        let lints = "[lints]\nworkspace = true\n";
        assert_eq!(check(&format!("[dependencies]\nhex.workspace = true\n{lints}")), 0);
        assert_eq!(check(&format!("[dependencies]\nhex = {{ workspace = true }}\n{lints}")), 0);
        assert_eq!(check(&format!("[dev-dependencies]\nhex = \"0.4\"\n{lints}")), 1);
        assert_eq!(check("[dependencies]\nhex.workspace = true\n"), 1);
        assert_eq!(check(&format!("[dependencies.hex]\nworkspace = true\n{lints}")), 1);
    }
}
