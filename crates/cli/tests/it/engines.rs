//! Agents on all engines at once, and a server that is killed.

use std::time::Duration;

use crate::docker;
use crate::machine::{Machine, eventually};

/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// How often the server is killed: a hundred times with `KUBETASK_ENGINE_CRASHES=100`, a few otherwise.
fn crashes() -> usize {
    std::env::var("KUBETASK_ENGINE_CRASHES").ok().and_then(|n| n.parse().ok()).unwrap_or(3)
}

/// A machine whose `kubernetes` engine is another one's server.
pub(crate) fn with_cluster(away: &Machine) -> Machine {
    eventually("the other cluster is ready", PATIENCE, || {
        away.kubetask(&["get", "serviceaccount", "default"]).code == 0
    });
    let home = Machine::new();
    home.write(
        "config.yaml",
        format!("kubernetes: {{kubeconfig: {}, namespace: default}}", away.kubeconfig().display()),
    );
    home
}

#[test]
fn agents_of_all_engines_go_on_when_the_server_is_killed() {
    let away = Machine::up();
    let mut home = with_cluster(&away);
    home.start();
    let mut engines = vec![("Local", "local/agent:1"), ("Kubernetes", "local/agent:1")];
    if docker::image(&home) {
        engines.push(("Docker", docker::IMAGE));
    }
    let mut manifest = String::new();
    let object = |kind: &str, name: &str, spec: &str| {
        format!("---\napiVersion: kubetask.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    };
    let long = "echo started; until [ -e /tmp/go ]; do sleep 0.1; done; echo ended; echo the end > /dev/termination-log; exit 3";
    for (runtime, image) in &engines {
        let name = runtime.to_lowercase();
        for (agent, script) in [("long", long), ("short", "cat /workspace/task.md; echo ran")] {
            let spec = format!(
                "{{serviceAccountName: default, runtime: {runtime}, agentImage: '{image}', command: [sh, -c, '{script}']}}"
            );
            manifest += &object("Agent", &format!("{agent}-{name}"), &spec);
        }
        manifest += &object("Task", &format!("long-{name}"), &format!("{{agentRef: long-{name}, prompt: wait}}"));
    }
    home.kubetask_with_input(&["apply", "-f", "-"], &manifest).ok();
    let _leftovers = docker::Leftovers(home.data_dir());
    let names: Vec<String> = engines.iter().map(|(runtime, _)| runtime.to_lowercase()).collect();
    for name in &names {
        eventually(&format!("the agent on {name} runs"), PATIENCE, || {
            home.kubetask(&["logs", &format!("long-{name}")]).stdout == "started\n"
        });
    }
    // A fixed sequence of odd delays: the short ones are met at every stage of their lives.
    let mut seed: u64 = 0x9E37_79B9_7F4A_7C15;
    for round in 0..crashes() {
        let tasks: String = names
            .iter()
            .map(|name| {
                object("Task", &format!("short-{name}-{round}"), &format!("{{agentRef: short-{name}, prompt: p}}"))
            })
            .collect();
        home.kubetask_with_input(&["apply", "-f", "-"], &tasks).ok();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis((seed >> 33) % 1500));
        home.kill_server();
        home.start();
        for name in &names {
            let task = format!("short-{name}-{round}");
            eventually(&format!("{task} ends"), PATIENCE, || home.task_value(&task, "/status/phase") == "Completed");
            assert_eq!(home.kubetask(&["logs", &task]).stdout, "pran\n", "{task}: once, and all of it");
            assert_eq!(home.task_value(&task, "/status/attempts"), "1", "{task}");
        }
    }
    for name in &names {
        let task = format!("long-{name}");
        assert_eq!(home.task_value(&task, "/status/phase"), "Running", "{name}");
        // The container is found again, whatever runs it.
        eventually("it can be reached", PATIENCE, || {
            home.kubetask(&["exec", &task, "--", "touch", "/tmp/go"]).code == 0
        });
        eventually(&format!("{task} ends"), PATIENCE, || home.task_value(&task, "/status/phase") == "Failed");
        assert_eq!(home.task_value(&task, "/status/exitCode"), "3", "{name}");
        assert_eq!(home.task_value(&task, "/status/result").trim(), "the end", "{name}");
        assert_eq!(home.kubetask(&["logs", &task]).stdout, "started\nended\n", "{name}: once, and all of it");
    }
    home.kubetask(&["delete", "tasks", "--all"]).ok();
    eventually("nothing is left in the other cluster", PATIENCE, || {
        away.kubetask(&["get", "pods", "-o", "name"]).ok().stdout.is_empty()
    });
    eventually("nothing is left in Docker", PATIENCE, || docker::containers(&home).is_empty());
}

#[test]
fn what_a_cluster_has_no_room_for_is_told() {
    let away = Machine::up();
    let mut home = with_cluster(&away);
    home.start();
    let agent = "apiVersion: kubetask.io/v1alpha1\nkind: Agent\nmetadata: {name: big}\nspec: {serviceAccountName: default, \
                 runtime: Kubernetes, agentImage: local/agent:1, command: ['true'], resources: {limits: {memory: 1Pi}, \
                 requests: {memory: 1Mi}}}\n---\napiVersion: kubetask.io/v1alpha1\nkind: Task\nmetadata: {name: big}\nspec: \
                 {agentRef: big, prompt: x}\n";
    home.kubetask_with_input(&["apply", "-f", "-"], agent).ok();
    eventually("an event says why", PATIENCE, || {
        home.kubetask(&["get", "events", "-o", "json"]).stdout.contains("nsufficient memory")
    });
    home.kubetask(&["delete", "task", "big"]).ok();
    eventually("nothing is left in the other cluster", PATIENCE, || {
        away.kubetask(&["get", "pods", "-o", "name"]).ok().stdout.is_empty()
    });
}
