//! The pages of the kinds: what their first example says, happens; every other example is accepted.

use std::path::Path;

use crate::machine::Machine;

/// The YAML blocks of a page.
fn examples(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.split("```yaml\n").skip(1).filter_map(|rest| Some(rest.split_once("\n```")?.0.to_owned())).collect()
}

/// Runs the first example of a page; returns what its agent wrote.
fn run(machine: &Machine, page: &str) -> String {
    let examples = examples(page);
    assert!(!examples.is_empty(), "{page} has no example");
    for example in examples.iter().skip(1) {
        machine.kubetask_with_input(&["apply", "--dry-run", "-f", "-"], example).ok();
    }
    machine.kubetask_with_input(&["run", "-f", "-"], &examples[0]).ok().stdout
}

#[test]
fn task_page() {
    let machine = Machine::new();
    let out = run(&machine, "task.md");
    assert!(
        out.contains("<context index=\"0\">\nUpdate the dependencies") && out.contains("One commit, one subject."),
        "{out}"
    );
    assert_eq!(machine.task_value("update-dependencies", "/status/result").trim(), "nothing to update");
}

#[test]
fn agent_page() {
    let out = run(&Machine::new(), "agent.md");
    assert_eq!(out, "hello, key of 14 characters\nNever push to main.\nSay what you were given.");
}

#[test]
fn kubetaskconfig_page() {
    let machine = Machine::new();
    assert_eq!(run(&machine, "kubetaskconfig.md"), "done\n");
    let config = machine.kubetask(&["get", "kubetaskconfig", "default", "-o", "yaml"]).ok().stdout;
    assert!(config.contains("ttlSecondsAfterFinished: 86400"), "{config}");
}
