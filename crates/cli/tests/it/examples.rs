//! The examples run as the README says.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{Machine, Outcome, on_path, require};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

#[test]
fn repo_report_reports_on_the_checkout_it_runs_in() {
    if !require("git", on_path("git")) {
        return;
    }
    let machine = Machine::new();
    let checkout = machine.path("checkout");
    std::fs::create_dir(&checkout).unwrap();
    let script = "git init -q -b main . && git config user.email a@example.test && git config user.name a \
        && echo 'fn main() {}' > main.rs && git add . && git commit -qm 'First commit' \
        && echo '// more' >> main.rs && git commit -qam 'Second commit' && mkdir sub";
    assert!(Command::new("sh").args(["-c", script]).current_dir(&checkout).status().unwrap().success());
    let example = root().join("examples/repo-report.yaml");
    let mut command = machine.command(&["run", "-f", example.to_str().unwrap()]);
    let out: Outcome = command.current_dir(checkout.join("sub")).output().unwrap().into();
    let out = out.ok();
    for text in [
        "<context index=\"0\">\nReport on the repository in /workspace/repo.",
        "<context index=\"1\">\nCount, do not guess.",
        "2 commits by 1 authors; 1 files with 2 lines.",
        "Second commit",
    ] {
        assert!(out.stdout.contains(text), "{text}\n{}", out.stdout);
    }
    assert!(out.stderr.contains("result: 2 commits, 1 files, 2 lines; busiest file: main.rs"), "{}", out.stderr);
    // Again: generateName makes a new Task each time.
    let mut command = machine.command(&["run", "-f", example.to_str().unwrap()]);
    let out: Outcome = command.current_dir(&checkout).output().unwrap().into();
    out.ok();
    assert_eq!(machine.kubetask(&["get", "tasks", "-o", "name"]).ok().stdout.lines().count(), 2);
}

#[test]
fn hello_says_hello() {
    let machine = Machine::new();
    let example = root().join("examples/hello.yaml");
    let out = machine.kubetask(&["run", "-f", example.to_str().unwrap()]).ok();
    assert_eq!(out.stdout, "Say hello to the world.\n");
    assert!(out.stderr.contains("result: done"), "{}", out.stderr);
}
