//! The dependency rules of the workspace, as far as `Cargo.toml` files can break them: which crate may use what, and
//! that it uses what it names.

#![expect(clippy::unwrap_used, reason = "a test's unwrap is an assertion")]

use std::{fs, path::Path, process::Command};

use serde_json::Value;

/// A dependency, and the only members that may name it.
const RESERVED: [(&str, &[&str]); 12] = [
    ("axum", &["api"]),
    ("utoipa-axum", &["api"]),
    ("hyper", &["api"]),
    ("apalis-redis", &["queue"]),
    ("apalis", &["queue", "workers"]),
    ("stripe", &["workers"]),
    ("lettre", &["workers"]),
    ("diesel", &["domain"]),
    ("diesel-async", &["domain"]),
    ("diesel_migrations", &["domain"]),
    ("api", &["evently"]),
    ("workers", &["evently"]),
];

fn members() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Each dependency of a member by the name that code uses, and whether it is for tests.
fn dependencies(member: &Value) -> impl Iterator<Item = (&str, bool)> {
    let named = member["dependencies"].as_array().unwrap();
    named.iter().map(|dependency| {
        let name = dependency["rename"].as_str().or(dependency["name"].as_str());
        (name.unwrap(), dependency["kind"] == "dev")
    })
}

#[test]
fn reserved_crates_are_used_where_they_belong() {
    for member in &members() {
        let name = member["name"].as_str().unwrap();
        for (dependency, _) in dependencies(member) {
            if let Some((_, allowed)) = RESERVED.iter().find(|(reserved, _)| *reserved == dependency) {
                assert!(allowed.contains(&name), "{name} must not depend on {dependency}");
            }
        }
    }
}

#[test]
fn every_dependency_is_used() {
    for member in &members() {
        let root = Path::new(member["manifest_path"].as_str().unwrap()).parent().unwrap();
        let (source, tests) = (code(&root.join("src")), code(&root.join("tests")));
        for (dependency, dev) in dependencies(member) {
            let word = dependency.replace('-', "_");
            let used = names(&source, &word) || dev && names(&tests, &word);
            assert!(used, "{} names {dependency} and does not use it", member["name"]);
        }
    }
}

/// What `cargo build` makes cannot be told to die, nor what time it is: those features come with the tests of the root
/// package alone, and this resolver keeps what dev-dependencies ask for out of every other build.
#[test]
fn only_tests_are_built_with_kill_points() {
    let manifest = |dir: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).unwrap();
    assert!(manifest("Cargo.toml").contains("resolver = \"3\""));
    assert!(!manifest("domain/Cargo.toml").contains("\ndefault = "), "domain has no default features");
    for feature in ["kill-points", "test-clock"] {
        let mut asked = Vec::new();
        for member in &members() {
            for dependency in member["dependencies"].as_array().unwrap() {
                if dependency["features"].as_array().unwrap().iter().any(|asked| asked == feature) {
                    asked.push((member["name"].as_str().unwrap().to_owned(), dependency["kind"].clone()));
                }
            }
            let passed_on = member["features"].to_string().contains(&format!("domain/{feature}"));
            assert!(!passed_on, "{} passes {feature} on", member["name"]);
        }
        assert_eq!(asked, [("evently".to_owned(), Value::from("dev"))], "{feature}");
    }
}

/// `task-tracking` ends apalis's workers, and its board lets strangers enqueue.
#[test]
fn what_breaks_the_queue_is_not_compiled_in() {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    assert!(lock.contains("name = \"apalis-redis\""));
    assert!(!lock.contains("apalis-board"));
    for member in &members() {
        for dependency in member["dependencies"].as_array().unwrap() {
            if dependency["name"] == "apalis-redis" {
                let features = dependency["features"].to_string();
                assert!(!features.contains("task-tracking"), "{}: {features}", member["name"]);
                assert_eq!(dependency["req"], "=1.0.0", "queue/ relies on this release's keys");
            }
        }
    }
}

/// All Rust below a directory.
fn code(dir: &Path) -> String {
    let Ok(entries) = fs::read_dir(dir) else { return String::new() };
    let mut code = String::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            code += &self::code(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            code += &fs::read_to_string(path).unwrap();
        }
    }
    code
}

/// Whether the code names the crate: as the head of a path, or in a `use`.
fn names(code: &str, word: &str) -> bool {
    let whole = |at: usize| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    };
    [format!("{word}::"), format!("use {word};"), format!("use {word} as")]
        .iter()
        .any(|pattern| code.match_indices(pattern.as_str()).any(|(at, _)| whole(at)))
}
