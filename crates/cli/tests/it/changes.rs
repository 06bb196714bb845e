//! What an agent changed in a checkout comes back: counted in the status, as a patch, applied.

use std::path::Path;

use crate::machine::{Machine, Outcome, on_path, require};

/// An Agent whose work is a script, in the checkout.
fn agent(machine: &Machine, script: &str) {
    let agent = serde_json::json!({
        "apiVersion": "kubetask.io/v1alpha1", "kind": "Agent", "metadata": {"name": "default"},
        "spec": {"serviceAccountName": "default", "command": ["sh", "-ec", format!("cd /workspace/app; {script}")]},
    });
    machine.kubetask_with_input(&["apply", "-f", "-"], &agent.to_string()).ok();
}

fn sh(directory: &Path, script: &str) -> String {
    let out = std::process::Command::new("sh").args(["-ec", script]).current_dir(directory).output().unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// A machine, and a checkout on it with a file that is committed and one that is not.
fn world() -> Option<(Machine, std::path::PathBuf)> {
    if !require("git", on_path("git")) {
        return None;
    }
    let machine = Machine::new();
    let checkout = machine.path("app");
    std::fs::create_dir(&checkout).unwrap();
    sh(
        &checkout,
        "git init -q -b main .; git config user.name a; git config user.email a@example.test; echo one > f; \
         echo two > g; git add .; git commit -qm one; echo draft > new",
    );
    Some((machine, checkout))
}

fn run(machine: &Machine, directory: &Path, args: &[&str]) -> Outcome {
    machine.command(args).current_dir(directory).output().unwrap().into()
}

#[test]
fn changes_of_the_agent_are_counted_shown_and_applied() {
    let Some((machine, checkout)) = world() else { return };
    agent(&machine, "echo more >> f; rm g; mkdir -p d; printf '\\351\\0' > d/blob; echo kept >> new; git add f");
    let out = run(&machine, &checkout, &["run", "--name", "fix", "--repo", "--carry", "fix it"]).ok();
    assert!(out.stderr.contains("changes: /workspace/app: 4 files, +2 -1"), "{}", out.stderr);
    assert!(out.stderr.contains("kubetask changes fix"), "{}", out.stderr);
    // Nothing here has changed yet.
    assert_eq!(sh(&checkout, "cat f g new; git status --porcelain"), "one\ntwo\ndraft\n?? new\n");

    let task = machine.kubetask(&["get", "task", "fix", "-o", "json"]).ok().stdout;
    let task: serde_json::Value = serde_json::from_str(&task).unwrap();
    let status = &task["status"]["changes"][0];
    assert_eq!((&status["files"], &status["insertions"], &status["deletions"]), (&4.into(), &2.into(), &1.into()));
    assert!(machine.kubetask(&["describe", "task", "fix"]).ok().stdout.contains("4 files, +2 -1"));
    assert_eq!(machine.kubetask(&["changes", "fix", "--stat"]).ok().stdout, "/workspace/app: 4 files, +2 -1\n");
    let patch = machine.kubetask(&["changes", "fix"]).ok().stdout;
    assert_eq!(patch.len().to_string(), status["bytes"].to_string());
    assert!(patch.contains("+more\n"), "{patch}");

    let out = run(&machine, &checkout, &["changes", "fix", "--apply"]).ok();
    assert!(out.stderr.contains("4 files, +2 -1"), "{}", out.stderr);
    assert_eq!(sh(&checkout, "cat f new; test ! -e g; wc -c < d/blob"), "one\nmore\ndraft\nkept\n2\n");
    // They do not fit twice, and then nothing is touched.
    let out = run(&machine, &checkout, &["changes", "fix", "--apply"]).code(1);
    assert!(out.stderr.contains("nothing was changed") && out.stderr.contains("--3way"), "{}", out.stderr);
    assert_eq!(sh(&checkout, "cat f"), "one\nmore\n");
}

#[test]
fn changes_are_applied_by_the_run_itself_when_the_agent_did_it() {
    let Some((machine, checkout)) = world() else { return };
    agent(&machine, "git -c user.name=x -c user.email=x@example.test commit -q --allow-empty -m x; echo three > f");
    let out = run(&machine, &checkout, &["run", "--repo", "--apply", "fix it"]).ok();
    assert!(out.stderr.contains("applied to "), "{}", out.stderr);
    assert_eq!(sh(&checkout, "cat f; git log --oneline | wc -l"), "three\n1\n");

    agent(&machine, "echo four > f; exit 3");
    let out = run(&machine, &checkout, &["run", "--name", "fails", "--repo", "--apply", "fix it"]).code(3);
    assert!(!out.stderr.contains("applied"), "{}", out.stderr);
    assert_eq!(sh(&checkout, "cat f"), "three\n");
    // What it left is there to be seen all the same.
    assert!(machine.kubetask(&["changes", "fails"]).ok().stdout.contains("+four\n"));
}

#[test]
fn without_changes_there_is_nothing_to_apply() {
    let Some((machine, checkout)) = world() else { return };
    agent(&machine, "cat f");
    let out = run(&machine, &checkout, &["run", "--name", "reads", "--repo", "--apply", "look"]).ok();
    assert!(out.stderr.contains("no changes") && out.stderr.contains("nothing was changed"), "{}", out.stderr);
    let out = machine.kubetask(&["run", "--name", "other", "--", "true"]).ok();
    assert!(!out.stderr.contains("changes"), "{}", out.stderr);
    let out = machine.kubetask(&["changes", "other"]).code(1);
    assert!(out.stderr.contains("collectChanges: true"), "{}", out.stderr);
    let out = machine.kubetask(&["changes", "reads", "--repository", "/elsewhere"]).code(2);
    assert!(out.stderr.contains("/elsewhere"), "{}", out.stderr);
}
