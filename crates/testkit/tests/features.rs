//! `docs/features.md`, checked: every test that it names exists, and every area has its rows.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The areas that are promised.
const AREAS: &[&str] = &["API", "Contexts", "Agents", "Lifecycle", "CronTask", "Batch", "Engines", "CLI", "Operations"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Names of all tests of the workspace: functions below an attribute that makes them one.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut directories = vec![root().join("crates")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                tests_of(&std::fs::read_to_string(path).unwrap(), &mut found);
            }
        }
    }
    found
}

fn tests_of(text: &str, found: &mut BTreeSet<String>) {
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if line.starts_with("fn ") || line.starts_with("async fn ") {
            let name = line.trim_start_matches("async ").trim_start_matches("fn ").split('(').next();
            found.extend(name.filter(|_| is_test).map(str::to_owned));
            is_test = false;
        }
    }
}

/// The rows of the table: area, feature, tests.
fn rows() -> Vec<(String, String, Vec<String>)> {
    let text = std::fs::read_to_string(root().join("docs/features.md")).unwrap();
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1).map(cells);
    let named = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    rows.map(|cells| (cells[1].clone(), cells[2].clone(), named(&cells[3]))).collect()
}

#[test]
fn every_feature_has_a_test_that_exists() {
    let (tests, rows) = (tests(), rows());
    let mut wrong = Vec::new();
    for (area, feature, named) in &rows {
        if named.is_empty() {
            wrong.push(format!("{area}, {feature}: no test"));
        }
        let missing = named.iter().filter(|name| !tests.contains(*name));
        wrong.extend(missing.map(|name| format!("{area}, {feature}: there is no test {name}")));
    }
    assert!(wrong.is_empty(), "docs/features.md: {wrong:#?}");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (area, ..) in &rows {
        *counts.entry(area.as_str()).or_default() += 1;
    }
    let areas: BTreeSet<&str> = AREAS.iter().copied().collect();
    assert_eq!(counts.keys().copied().collect::<BTreeSet<_>>(), areas);
}

#[test]
fn tests_are_told_from_other_functions() {
    let mut found = BTreeSet::new();
    tests_of("#[test]\n#[cfg(unix)]\nfn a() {}\nfn b() {}\n    #[tokio::test(x)]\n    async fn c() {}", &mut found);
    assert_eq!(found, BTreeSet::from(["a".to_owned(), "c".to_owned()]));
}
