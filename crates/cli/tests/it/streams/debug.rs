//! `kubectl debug` of a running pod: containers that join it, to be looked at, typed into, and kept in its status.

use std::time::Duration;

use serde_json::Value;

use super::kubectl::Terminal;
use super::phase;
use crate::machine::{Machine, eventually};

/// A pod that runs, with a volume; `None` where there is no kubectl.
fn running(machine: &Machine) -> Option<()> {
    let pod = "---\n{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {restartPolicy: Never, \
               automountServiceAccountToken: false, terminationGracePeriodSeconds: 1, \
               volumes: [{name: v, emptyDir: {}}], containers: [{name: main, image: busybox, \
               command: [sh, -c, 'echo from main >/shared/x; sleep 1000'], \
               volumeMounts: [{name: v, mountPath: /shared}]}]}}";
    super::create(machine, "p", pod)
}

/// Debugs the pod with a container of this name.
fn debug<'a>(name: &'a str, more: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
    let first = ["debug", "p", "--image=busybox", "--profile=general", "-c", name];
    [&first[..], more, &["--"], command].concat()
}

/// How a debugging container ended.
#[track_caller]
fn exit_code(machine: &Machine, name: &str) -> i64 {
    let mut code = None;
    eventually("the debugging container ended", Duration::from_secs(30), || {
        let pod = machine.kubectl(&["get", "pod", "p", "-o", "json"]).unwrap().ok().stdout;
        let pod: Value = serde_json::from_str(&pod).unwrap();
        let statuses = pod["status"]["ephemeralContainerStatuses"].as_array().cloned().unwrap_or_default();
        let status = statuses.iter().find(|status| status["name"] == name).cloned().unwrap_or_default();
        code = status["state"]["terminated"]["exitCode"].as_i64();
        code.is_some()
    });
    code.unwrap()
}

#[test]
fn debug_a_running_pod() {
    let machine = Machine::up();
    if running(&machine).is_none() {
        return;
    }
    let out = machine.kubectl(&debug("one", &["--target=main"], &["sh", "-c", "echo hello; exit 3"])).unwrap().ok();
    assert!((out.stdout.clone() + &out.stderr).contains("Targeting container \"main\""), "{out:?}");
    assert_eq!(exit_code(&machine, "one"), 3);
    let logs = |name: &str| machine.kubectl(&["logs", "p", "-c", name]).unwrap().ok().stdout;
    assert_eq!(logs("one"), "hello\n");
    // Its input is passed on, and what it says comes back.
    let args = debug("two", &["-i"], &["sh", "-c", "read x; echo got-$x; exit 4"]);
    let out = machine.kubectl_with_input(&args, "typed in\n").unwrap().ok();
    assert!(out.stdout.contains("got-typed in\n"), "{out:?}");
    assert_eq!(exit_code(&machine, "two"), 4);
    // The pod's volumes are seen where they are asked for.
    let custom = machine.path("custom.json");
    std::fs::write(&custom, r#"{"volumeMounts": [{"name": "v", "mountPath": "/there"}]}"#).unwrap();
    let custom = format!("--custom={}", custom.display());
    let args = debug("three", &["--env=A=b", &custom], &["sh", "-c", "cat /there/x; echo $A"]);
    machine.kubectl(&args).unwrap().ok();
    assert_eq!(exit_code(&machine, "three"), 0);
    assert_eq!(logs("three"), "from main\nb\n");
    // What joined a pod stays as it was.
    let again = machine.kubectl(&debug("three", &[], &["true"])).unwrap().code(1);
    let why = "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"three\" may not be changed";
    assert!(again.stderr.contains(why), "{again:?}");
    assert_eq!(phase(&machine, "p"), "Running", "who debugs does not end what is debugged");
    let described = machine.kubectl(&["describe", "pod", "p"]).unwrap().ok().stdout;
    assert!(described.contains("Ephemeral Containers:\n  one:\n"), "{described}");
    // A copy of the pod, with another container beside.
    let copy =
        ["debug", "p", "--image=busybox", "--profile=general", "-c", "beside", "--copy-to=copy", "--", "sleep", "1000"];
    machine.kubectl(&copy).unwrap().ok();
    machine.kubectl(&["wait", "--for=condition=Ready", "pod/copy", "--timeout=60s"]).unwrap().ok();
    assert_eq!(machine.kubectl(&["exec", "copy", "-c", "beside", "--", "echo", "in"]).unwrap().ok().stdout, "in\n");
}

#[test]
fn debug_in_a_terminal() {
    let machine = Machine::up();
    if running(&machine).is_none() {
        return;
    }
    let mut terminal = Terminal::run(&machine, &debug("shell", &["-it"], &["sh"]));
    terminal.until("If you don't see a command prompt");
    terminal.type_in("echo sum-$((40+2)); tty\r");
    terminal.until("sum-42");
    terminal.until("/dev/pts/");
    terminal.type_in("until [ \"$(stty size)\" = '30 100' ]; do sleep 0.05; done; echo si''zed\r");
    terminal.until("sized");
    terminal.resize(44, 111);
    terminal.type_in("until [ \"$(stty size)\" = '44 111' ]; do sleep 0.05; done; echo a''gain\r");
    terminal.until("again");
    terminal.type_in("exit 5\r");
    terminal.end();
    assert_eq!(exit_code(&machine, "shell"), 5);
    assert_eq!(phase(&machine, "p"), "Running");
}
