//! The shipped dashboards and alert rules use metrics that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use base_metrics::table::{self, Row};

fn contrib() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../contrib")
}

/// Names of metrics in a text, without what summaries and histograms append.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    let ours = words.filter(|word| {
        ["oasis_", "cometbft_", "process_"].iter().any(|prefix| word.starts_with(prefix) && word.len() > prefix.len())
    });
    let known: BTreeMap<&str, &Row> = table::all().map(|row| (row.name, row)).collect();
    ours.map(|word| {
        let base = ["_sum", "_count", "_bucket"].iter().find_map(|end| word.strip_suffix(end));
        let compound = |base: &&str| known.get(base).is_some_and(|row| matches!(row.kind, "summary" | "histogram"));
        base.filter(compound).unwrap_or(word).to_owned()
    })
    .collect()
}

fn row(name: &str) -> &'static Row {
    table::all().find(|row| row.name == name).unwrap_or_else(|| panic!("there is no metric {name}"))
}

#[test]
fn dashboards_name_metrics_that_exist() {
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(contrib().join("grafana")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_i64().unwrap()), "{}: a panel's id twice", path.display());
            for target in panel["targets"].as_array().into_iter().flatten() {
                let found = metrics(target["expr"].as_str().unwrap());
                assert!(!found.is_empty(), "{}: {target}", path.display());
                for name in found {
                    row(&name);
                    seen.insert(name);
                }
            }
        }
    }
    assert!(seen.len() > 50, "{}", seen.len());
}

#[test]
fn alerts_use_what_is_measured() {
    let text = std::fs::read_to_string(contrib().join("prometheus/alerts.yml")).unwrap();
    // Expressions only: names of alerts and texts follow on lines of their own.
    let mut expressions = String::new();
    let mut within = false;
    for line in text.lines() {
        let trimmed = line.trim_start();
        within = trimmed.starts_with("expr:") || within && !trimmed.contains(": ");
        if within {
            expressions.push_str(line);
            expressions.push('\n');
        }
    }
    let names = metrics(&expressions);
    assert!(names.len() >= 14, "{names:?}");
    for name in names {
        assert!(row(&name).fed, "{name} is set by nothing, so the alert could not fire");
    }
    let alerts = text.matches("- alert:").count();
    for part in ["expr:", "severity:", "summary:", "description:"] {
        assert_eq!(text.matches(part).count(), alerts, "{part}");
    }
}

#[test]
fn promtool_accepts_rules_and_exposition() {
    let rules = contrib().join("prometheus/alerts.yml");
    let Ok(check) = Command::new("promtool").arg("check").arg("rules").arg(&rules).output() else {
        println!("skipped 2 cases: promtool is not installed");
        return;
    };
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    use std::io::Write as _;
    let mut child =
        Command::new("promtool").args(["check", "metrics"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(base_metrics::render().as_bytes()).unwrap();
    // Exit code 3 is for style: names are the reference's.
    assert!(matches!(child.wait().unwrap().code(), Some(0 | 3)));
}
