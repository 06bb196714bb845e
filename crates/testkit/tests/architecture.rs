//! What ARCHITECTURE.md says, checked: which crate may know which, and how large a file may grow.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The longest source file. Most are much shorter; a longer one holds more than one thing.
const LINES_MAX: usize = 600;

/// Which of our crates each may use, in what it ships. Arrows that are not here are forbidden.
const MAY_USE: &[(&str, &[&str])] = &[
    ("kubetask", &["api", "core", "operator", "embedded", "engine", "yaml"]),
    ("testkit", &["api", "operator", "embedded", "engine", "yaml"]),
    ("embedded", &["store", "apiserver", "controllers", "node", "engine"]),
    ("operator", &["api", "core"]),
    ("core", &["api"]),
    ("api", &[]),
    ("apiserver", &["store", "kinds", "patch", "schema", "yaml"]),
    ("controllers", &[]),
    ("node", &["engine"]),
    ("engine", &[]),
    ("kinds", &["schema"]),
    ("patch", &["schema"]),
    ("schema", &[]),
    ("store", &[]),
    ("yaml", &[]),
];

/// Crates of others that a crate must not use, in what it ships, and why.
const MUST_NOT_USE: &[(&[&str], &[&str], &str)] = &[
    (
        &["api", "core", "schema", "patch", "kinds", "yaml"],
        &["tokio", "tokio-util", "futures", "axum", "hyper", "tower", "rand", "ureq", "tracing"],
        "it is pure: no I/O, no clock, no randomness",
    ),
    (&["store"], &["kube", "k8s-openapi", "serde_json", "axum", "hyper"], "it knows bytes and keys only"),
    (&["schema", "patch", "kinds", "yaml", "apiserver"], &["kube"], "a server is no client"),
];

/// Crates of the embedded Kubernetes: none knows what a Task is, not even in tests.
const EMBEDDED: &[&str] =
    &["embedded", "apiserver", "controllers", "node", "engine", "kinds", "patch", "schema", "store", "yaml"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// What cargo says of each crate of the workspace: dependencies as (name, kind).
fn crates() -> BTreeMap<String, Vec<(String, String)>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or("normal").to_owned();
    let of = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap();
        let edges = dependencies.iter().map(|d| (short(&text(&d["name"])), text(&d["kind"]))).collect();
        (short(&text(&package["name"])), edges)
    };
    metadata["packages"].as_array().unwrap().iter().map(of).collect()
}

fn short(name: &str) -> String {
    name.strip_prefix("kubetask-").unwrap_or(name).to_owned()
}

#[test]
fn arrows_point_one_way() {
    let crates = crates();
    let table: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, edges) in &crates {
        let Some(may_use) = table.get(name.as_str()) else {
            wrong.push(format!("{name} is not in the table of this test"));
            continue;
        };
        for (used, kind) in edges {
            let ours = crates.contains_key(used);
            if ours && kind != "dev" && !may_use.contains(&used.as_str()) {
                wrong.push(format!("{name} must not use {used}"));
            }
            if used == "api" && EMBEDDED.contains(&name.as_str()) {
                wrong.push(format!("{name} must not know what a Task is, but uses api ({kind})"));
            }
            if used == "testkit" && kind != "dev" {
                wrong.push(format!("{name} ships testkit"));
            }
            for (who, others, because) in MUST_NOT_USE {
                if kind != "dev" && who.contains(&name.as_str()) && others.contains(&used.as_str()) {
                    wrong.push(format!("{name} must not use {used}: {because}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(crates.len(), table.len(), "the table of this test names crates that are gone");
}

#[test]
fn every_crate_stands_in_the_code_map() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let map = text.split("## Code map").nth(1).unwrap().split("\n## ").next().unwrap();
    let named: BTreeSet<String> =
        map.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect();
    let there: BTreeSet<String> = std::fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(named, there);
}

/// Every source file with its number of lines.
fn sources(directory: &Path, out: &mut Vec<(PathBuf, usize)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                sources(&path, out);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let lines = std::fs::read_to_string(&path).unwrap().lines().count();
            out.push((path, lines));
        }
    }
}

#[test]
fn files_stay_short() {
    let mut all = Vec::new();
    sources(&root().join("crates"), &mut all);
    assert!(all.len() > 100, "only {} files found", all.len());
    let long: Vec<String> = all
        .iter()
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines, more than {LINES_MAX}", path.display()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let mut all = Vec::new();
    sources(&root().join("crates"), &mut all);
    let silent: Vec<String> = all
        .iter()
        .filter(|(path, _)| path.components().any(|part| part.as_os_str() == "src"))
        .filter(|(path, _)| !std::fs::read_to_string(path).unwrap().starts_with("//!"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "without a header:\n{}", silent.join("\n"));
}

#[test]
fn every_dependency_has_a_reason() {
    let text = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = text.split("[workspace.dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let silent: Vec<&str> = section
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#') && !line.starts_with("kubetask-"))
        .filter(|line| !line.contains(" # "))
        .collect();
    assert!(silent.is_empty(), "without a reason:\n{}", silent.join("\n"));
}
