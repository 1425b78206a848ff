//! What is watched: dashboards and alert rules name only metrics that Evently exports, and each alert has its line in
//! the runbook.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The words of a text that begin with `evently_`.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("evently_")).map(str::to_owned).collect()
}

/// What the product's code exports, and whether it is a histogram: the names that stand, as whole literals, in the calls
/// that record, or in those of a helper called `set`.
fn exported() -> BTreeMap<String, bool> {
    let mut exported = BTreeMap::new();
    for crate_dir in ["api", "domain", "queue", "workers"] {
        for file in files(&root().join(crate_dir).join("src")) {
            let Ok(code) = fs::read_to_string(&file) else { continue };
            for (at, _) in code.match_indices("\"evently_") {
                let name = code[at + 1..].split('"').next().unwrap();
                let before = code[..at].trim_end();
                let records =
                    ["counter!(", "gauge!(", "histogram!(", "set("].iter().any(|end| before.ends_with(end));
                if records {
                    exported.insert(name.to_owned(), before.ends_with("histogram!("));
                }
            }
        }
    }
    exported
}

#[test]
fn every_metric_in_dashboards_and_rules_is_exported() {
    let exported = exported();
    assert!(exported.len() > 20, "{exported:?}");
    let mut named = BTreeSet::new();
    for file in files(&root().join("docker")) {
        let watches = file.extension().is_some_and(|kind| kind == "json" || kind == "yml");
        if watches && !file.ends_with("compose.yml") {
            named.extend(names(&fs::read_to_string(file).unwrap()));
        }
    }
    for text in [read("README.md"), read("docker/RUNBOOK.md")] {
        named.extend(names(&text).into_iter().filter(|name| !name.ends_with('_')));
    }
    assert!(named.len() > 15, "{named:?}");
    for name in &named {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let known = exported.contains_key(name)
            || of_histogram.is_some_and(|histogram| exported.get(histogram) == Some(&true));
        assert!(known, "nothing exports {name}");
    }
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard: Value = serde_json::from_str(&read("docker/grafana/dashboards/evently.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        for target in panel["targets"].as_array().unwrap() {
            let expr = target["expr"].as_str().unwrap();
            assert!(!names(expr).is_empty(), "{expr}");
            assert_eq!(expr.matches('(').count(), expr.matches(')').count(), "{expr}");
        }
    }
}

#[test]
fn every_alert_has_its_test_and_its_line_in_the_runbook() {
    let (rules, tests, runbook) = (
        read("docker/prometheus/rules.yml"),
        read("docker/prometheus/rules_test.yml"),
        read("docker/RUNBOOK.md"),
    );
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in &alerts {
        assert!(runbook.contains(&format!("## {alert}\n")), "the runbook lacks {alert}");
        assert!(rules.contains(&format!("docker/RUNBOOK.md#{}\n", alert.to_lowercase())), "{alert}");
        assert!(
            tests.contains(&format!("\n        alertname: {alert}\n        exp_alerts:\n")),
            "{alert} never fires"
        );
    }
    let lines = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    assert_eq!(lines.collect::<BTreeSet<_>>(), alerts.into_iter().collect(), "of the runbook");
}

/// Where there is a `promtool` (Debian has it in `prometheus`), as there is in CI, the rules are tested by it.
#[test]
fn the_rules_do_as_their_tests_say() {
    for args in [
        &["check", "config", "prometheus.yml"][..],
        &["check", "rules", "rules.yml"],
        &["test", "rules", "rules_test.yml"],
    ] {
        let mut promtool = Command::new("promtool");
        match promtool.args(args).current_dir(root().join("docker/prometheus")).output() {
            Ok(output) => assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat())
            ),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
                assert!(std::env::var_os("CI").is_none(), "promtool is not there");
            }
        }
    }
}

#[test]
fn every_pool_has_its_process_everywhere() {
    let (procfile, compose, scraped) =
        (read("Procfile"), read("docker/compose.yml"), read("docker/prometheus/prometheus.yml"));
    for pool in domain::jobs::Pool::ALL {
        assert!(procfile.lines().any(|line| {
            line.starts_with(&format!("{pool}: ")) && line.ends_with(&format!("exec evently worker {pool}"))
        }));
        assert!(
            compose
                .contains(&format!("\n  {pool}:\n    <<: *evently\n    command: [\"worker\", \"{pool}\"]\n"))
        );
        let names = scraped.split("names: [").last().unwrap().split(']').next().unwrap();
        assert!(names.split(", ").any(|name| name == pool.name()), "{pool} is not scraped");
    }
}
