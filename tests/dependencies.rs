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
    ("hyper-rustls", &["workers"]),
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

/// Each dependency of a member, with the directories of the code that may use it.
fn dependencies(member: &Value) -> impl Iterator<Item = (&str, bool)> {
    let named = member["dependencies"].as_array().unwrap();
    named.iter().map(|dependency| (dependency["name"].as_str().unwrap(), dependency["kind"] == "dev"))
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
