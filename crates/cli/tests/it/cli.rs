//! The command line itself: help, version, completion, formats.

use crate::machine::Machine;

#[test]
fn version_names_the_version_and_the_commit() {
    let machine = Machine::new();
    let out = machine.kubetask(&["version"]).ok().stdout;
    assert!(out.starts_with(concat!("kubetask ", env!("CARGO_PKG_VERSION"), " (")), "{out}");
    let json: serde_json::Value =
        serde_json::from_str(&machine.kubetask(&["version", "-o", "json"]).ok().stdout).unwrap();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert!(json["gitCommit"].as_str().is_some_and(|c| !c.is_empty()));
}

#[test]
fn help_lists_the_commands() {
    let out = Machine::new().kubetask(&["--help"]).ok().stdout;
    insta::assert_snapshot!(out);
}

#[test]
fn run_help() {
    let out = Machine::new().kubetask(&["run", "--help"]).ok().stdout;
    insta::assert_snapshot!(out);
}

#[test]
fn completion_is_a_script() {
    for (shell, mark) in [("bash", "complete -F"), ("zsh", "#compdef kubetask"), ("fish", "complete -c kubetask")] {
        let out = Machine::new().kubetask(&["completion", shell]).ok().stdout;
        assert!(out.contains(mark), "{shell}");
    }
}

#[test]
fn crds_are_yaml_that_lists_all_kinds() {
    let out = Machine::new().kubetask(&["crds"]).ok().stdout;
    let documents = kubetask_yaml::read_all(&out, kubetask_yaml::Limits::default()).unwrap();
    let names: Vec<_> = documents.iter().map(|d| d.value["metadata"]["name"].as_str().unwrap()).collect();
    for kind in ["tasks", "crontasks", "agents", "kubetaskconfigs", "batches", "batchruns"] {
        assert!(names.contains(&format!("{kind}.kubetask.io").as_str()), "{names:?}");
    }
}

#[test]
fn usage_errors_end_with_2() {
    let machine = Machine::new();
    for args in [
        &["run"][..],
        &["nonsense"],
        &["get"],
        &["run", "-f", "x", "prompt"],
        &["logs"],
        &["run", "--timeout", "x", "p"],
    ] {
        let out = machine.kubetask(args).code(2);
        assert!(!out.stderr.is_empty() && out.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn nothing_is_created_for_commands_that_need_nothing() {
    let machine = Machine::new();
    machine.kubetask(&["version"]).ok();
    machine.kubetask(&["status"]).code(1);
    machine.kubetask(&["kubeconfig"]).code(1);
    machine.kubetask(&["down"]).ok();
    assert!(!machine.data_dir().exists());
}
