//! Nothing in the tree points at one machine, and nothing unfinished is marked for later.

use super::Problem;
use crate::tree::Tree;

/// Put together here so that this file does not hold them itself.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/ho", "me/"), "a path of one machine"),
    (concat!("/Us", "ers/"), "a path of one machine"),
    (concat!("FIX", "ME"), "unfinished work belongs in gaps.toml or an issue"),
    (concat!("TO", "DO"), "unfinished work belongs in gaps.toml or an issue"),
    (concat!("XX", "X:"), "unfinished work belongs in gaps.toml or an issue"),
    (concat!("<<<<", "<<< "), "a merge conflict"),
];

/// Recorded data is as it is; everything else is ours.
pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let ours = |path: &str| !path.starts_with("vectors/") || path.ends_with(".md");
    let mut out = Vec::new();
    for (path, text) in tree.texts(ours) {
        for (number, line) in text.lines().enumerate() {
            for (word, why) in FORBIDDEN.iter().filter(|(word, _)| line.contains(word)) {
                out.push(format!("{path}:{}: `{word}`: {why}", number + 1));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_machine_paths_in_our_files_only() {
        let line = concat!("cd /wo", "rk/main\n");
        assert_eq!(check(&Tree::of(&[("README.md", line)])).len(), 1);
        assert_eq!(check(&Tree::of(&[("vectors/rhp/README.md", line)])).len(), 1);
        assert!(check(&Tree::of(&[("vectors/cli/a.json", line)])).is_empty());
        assert!(check(&Tree::of(&[("README.md", "the working directory\n")])).is_empty());
    }
}
