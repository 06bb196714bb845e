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

#[test]
fn kubectl_plugin_talks_to_kubectls_context() {
    let machine = Machine::up();
    let plugin = machine.path("kubectl-kubetask");
    std::os::unix::fs::symlink(crate::machine::KUBETASK, &plugin).unwrap();
    let path = format!("{}:{}", machine.path("").display(), std::env::var("PATH").unwrap());
    let line = ["kubetask", "get", "serviceaccounts", "-n", "kubetask-system", "-o", "name"];
    let Some(mut command) = machine.kubectl_command(&line) else { return };
    let out: crate::machine::Outcome = command.env("PATH", &path).output().unwrap().into();
    assert!(out.ok().stdout.contains("serviceaccount/kubetask-agent"), "kubectl's KUBECONFIG is followed");
    let mut command = machine.kubectl_command(&["kubetask", "get", "agents"]).unwrap();
    command
        .env("PATH", &path)
        .env("KUBECONFIG", machine.path("nothing"))
        .env("KUBETASK_DATA_DIR", machine.path("other"));
    let out: crate::machine::Outcome = command.output().unwrap().into();
    assert_ne!(out.code, 0, "no server of its own is started: {out:?}");
    assert!(!machine.path("other").exists());
    let mut command = machine.kubectl_command(&["kubetask", "--help"]).unwrap();
    let out: crate::machine::Outcome = command.env("PATH", &path).output().unwrap().into();
    assert!(out.ok().stdout.contains("Usage: kubectl kubetask"));
}

#[test]
fn completion_knows_every_command() {
    let machine = Machine::new();
    let help = machine.kubetask(&["--help"]).ok().stdout;
    let commands: Vec<&str> = help
        .split("Commands:\n")
        .nth(1)
        .unwrap()
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = machine.kubetask(&["completion", shell]).ok().stdout;
        for command in &commands {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
    }
}
