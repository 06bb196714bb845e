//! `kill -9` of the server: nothing acknowledged is lost, no agent runs twice, none is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::machine::{Machine, eventually};

#[test]
fn an_agent_survives_kill_9_of_the_server() {
    let mut machine = Machine::up();
    let script =
        "echo pid $$ $(cut -d' ' -f22 /proc/self/stat); for i in $(seq 1 12); do echo line $i; sleep 0.25; done";
    machine.kubetask(&["run", "--detach", "--name", "survivor", "--", "sh", "-c", script]).ok();
    let log = |machine: &Machine| machine.kubetask(&["logs", "survivor"]).stdout;
    eventually("it runs", Duration::from_secs(20), || log(&machine).contains("line 2"));
    let host_pids = |machine: &Machine| {
        let mut pids = crate::machine::processes_mentioning("for i in $(seq 1 12)");
        pids.retain(|pid| *pid != i32::try_from(machine.server_pid()).unwrap());
        pids
    };
    let before = host_pids(&machine);
    assert!(!before.is_empty());
    for _ in 0..3 {
        machine.kill_server();
        std::thread::sleep(Duration::from_millis(120));
        machine.start();
    }
    let after = host_pids(&machine);
    assert_eq!(after, before, "the same processes, none twice");
    machine.kubetask(&["wait", "survivor", "--timeout", "30s"]).ok();
    let text = log(&machine);
    let lines: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
    let expect: Vec<String> = (1..=12).map(|i| format!("line {i}")).collect();
    assert_eq!(lines, expect, "every line once");
    assert_eq!(text.lines().filter(|line| line.starts_with("pid ")).count(), 1, "started once");
    assert_eq!(machine.task_value("survivor", "/status/exitCode"), "0");
}

/// How often the server is killed: a hundred times with `KUBETASK_CRASHES=100`, a few otherwise.
fn crashes() -> usize {
    std::env::var("KUBETASK_CRASHES").ok().and_then(|n| n.parse().ok()).unwrap_or(15)
}

#[test]
fn every_acknowledged_task_runs_exactly_once_however_often_the_server_is_killed() {
    let mut machine = Machine::up();
    let ran = machine.path("ran");
    std::fs::create_dir(&ran).unwrap();
    let agent = format!(
        "apiVersion: kubetask.io/v1alpha1\nkind: Agent\nmetadata: {{name: default}}\nspec:\n  serviceAccountName: default\n  \
         workspace: {{hostPath: {{path: {}}}}}\n  command: [sh, -c, 'echo x >> /workspace/$TASK_NAME']\n",
        ran.display()
    );
    let agent = machine.write("agent.yaml", agent);
    machine.kubetask(&["apply", "-f", &agent]).ok();
    let mut acknowledged = BTreeSet::new();
    // A fixed sequence of odd delays: together with the machine's own noise, every moment is met sooner or later.
    let mut seed: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut number = 0;
    for round in 0..crashes() {
        let kubeconfig = machine.kubeconfig();
        let names: Vec<String> = (0..6).map(|i| format!("t{}", number + i)).collect();
        number += names.len();
        let creators: Vec<_> = names
            .into_iter()
            .map(|name| {
                let mut command = machine.command(&["--kubeconfig", kubeconfig.to_str().unwrap(), "apply", "-f", "-"]);
                std::thread::spawn(move || {
                    use std::io::Write;
                    let mut child = command
                        .stdin(std::process::Stdio::piped())
                        .stdout(std::process::Stdio::null())
                        .stderr(std::process::Stdio::null())
                        .spawn()
                        .unwrap();
                    let manifest = format!(
                        "apiVersion: kubetask.io/v1alpha1\nkind: Task\nmetadata: {{name: {name}}}\nspec: {{contexts: []}}\n"
                    );
                    let _ = child.stdin.take().unwrap().write_all(manifest.as_bytes());
                    child.wait().unwrap().success().then_some(name)
                })
            })
            .collect();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(20 + (seed >> 33) % 250));
        machine.kill_server();
        acknowledged.extend(creators.into_iter().filter_map(|thread| thread.join().unwrap()));
        machine.start();
        eprintln!("round {round}: {} acknowledged", acknowledged.len());
    }
    eventually("every Task ends", Duration::from_secs(120), || {
        let out = machine.kubetask(&["get", "tasks", "--no-headers"]).stdout;
        out.lines().all(|line| line.contains("Completed"))
    });
    let stored: BTreeSet<String> = machine
        .kubetask(&["get", "tasks", "-o", "name"])
        .ok()
        .stdout
        .lines()
        .map(|line| line.trim_start_matches("task.kubetask.io/").to_owned())
        .collect();
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert!(!acknowledged.is_empty(), "nothing was created");
    for name in &stored {
        let runs = std::fs::read_to_string(ran.join(name)).unwrap_or_default();
        assert_eq!(runs, "x\n", "{name} ran {} times", runs.lines().count());
    }
}
