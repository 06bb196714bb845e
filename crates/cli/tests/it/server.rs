//! `kubetask up`, `down`, `status`, `kubeconfig`: the server as a process.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::machine::{Machine, eventually};

#[test]
fn up_serves_until_it_is_terminated() {
    let mut machine = Machine::up();
    let status: serde_json::Value =
        serde_json::from_str(&machine.kubetask(&["status", "-o", "json"]).ok().stdout).unwrap();
    assert_eq!(status["running"], true);
    assert_eq!(status["server"]["pid"], machine.server_pid());
    let again = machine.kubetask(&["up"]).code(1);
    assert!(again.stderr.contains("a server runs already"), "{}", again.stderr);
    assert_eq!(machine.terminate_server(), 0);
    machine.kubetask(&["status"]).code(1);
}

#[test]
fn up_detached_and_down() {
    let machine = Machine::new();
    let out = machine.kubetask(&["up", "--detach"]).ok();
    assert!(out.stderr.contains("KUBECONFIG="), "{}", out.stderr);
    machine.kubetask(&["status"]).ok();
    machine.kubetask(&["up", "--detach"]).ok();
    machine.kubetask(&["down"]).ok();
    machine.kubetask(&["status"]).code(1);
    // The port is the same next time, so that a kubeconfig that was copied stays right.
    let before = std::fs::read_to_string(machine.kubeconfig()).unwrap();
    machine.kubetask(&["up", "--detach"]).ok();
    assert_eq!(std::fs::read_to_string(machine.kubeconfig()).unwrap(), before);
    machine.kubetask(&["down"]).ok();
}

#[test]
fn everything_on_disk_is_private() {
    let machine = Machine::up();
    machine.kubetask(&["run", "--", "true"]).ok();
    let mut todo = vec![machine.data_dir()];
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let mode = meta.permissions().mode() & 0o777;
        if path == machine.data_dir() {
            assert_eq!(mode, 0o700, "{}", path.display());
        }
        if meta.is_file()
            && ["kubeconfig", "token", "ca.key", "sa.key", "server.json"].iter().any(|n| path.ends_with(n))
        {
            assert_eq!(mode, 0o600, "{}", path.display());
        }
        if meta.is_dir() && path == machine.data_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
        }
    }
}

#[test]
fn a_damaged_or_foreign_store_is_an_error_and_stays_as_it_is() {
    let machine = Machine::new();
    let store = machine.data_dir().join("store");
    std::fs::create_dir_all(&store).unwrap();
    std::fs::write(store.join("thesis.txt"), "do not delete").unwrap();
    let out = machine.kubetask(&["up"]).code(1);
    assert!(out.stderr.contains("not a store"), "{}", out.stderr);
    assert_eq!(std::fs::read_to_string(store.join("thesis.txt")).unwrap(), "do not delete");
    assert!(std::fs::read_dir(&store).unwrap().count() == 1);
}

#[test]
fn requests_without_the_key_are_refused() {
    let machine = Machine::up();
    let text = std::fs::read_to_string(machine.kubeconfig()).unwrap();
    let kubeconfig = kubetask_yaml::read_one(&text, kubetask_yaml::Limits::default()).unwrap().value;
    let server = kubeconfig["clusters"][0]["cluster"]["server"].as_str().unwrap();
    assert!(server.starts_with("https://127.0.0.1:"), "{server}");
    for (token, code) in [(None, 403), (Some("wrong"), 401)] {
        let mut stripped = kubeconfig.clone();
        stripped["users"][0]["user"] = token.map_or(serde_json::json!({}), |t| serde_json::json!({"token": t}));
        let file = machine.write("stripped", stripped.to_string());
        let out = machine.kubetask(&["--kubeconfig", &file, "get", "secrets"]).code(1);
        let word = if code == 403 { "forbidden" } else { "Unauthorized" };
        assert!(out.stderr.to_lowercase().contains(&word.to_lowercase()), "{}", out.stderr);
    }
}

#[test]
fn agents_outlive_a_restart_of_the_server() {
    let mut machine = Machine::up();
    machine
        .kubetask(&[
            "run",
            "--detach",
            "--name",
            "outlive",
            "--",
            "sh",
            "-c",
            "for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done",
        ])
        .ok();
    eventually("it runs", Duration::from_secs(20), || machine.kubetask(&["logs", "outlive"]).stdout.contains('1'));
    assert_eq!(machine.terminate_server(), 0);
    machine.start();
    machine.kubetask(&["wait", "outlive", "--timeout", "30s"]).ok();
    assert_eq!(machine.kubetask(&["logs", "outlive"]).ok().stdout, "1\n2\n3\n4\n5\n6\n");
}
