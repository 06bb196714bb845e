//! The architecture's chapter "kubectl Usage", with an unchanged kubectl, against `kubetask up`.

use std::process::Stdio;
use std::time::Duration;

use crate::machine::{Machine, eventually};

const OBJECTS: &str = r#"
apiVersion: kubetask.io/v1alpha1
kind: Agent
metadata: {name: default, namespace: kubetask-system}
spec:
  serviceAccountName: kubetask-agent
  command: [sh, -c, 'cat /workspace/task.md /workspace/guide.md; sleep 1; echo finished > /dev/termination-log']
---
apiVersion: v1
kind: ConfigMap
metadata: {name: workflow-guides, namespace: kubetask-system}
data: {standard-pr-workflow.md: "open a pull request\n"}
"#;

const TASK: &str = r#"
apiVersion: kubetask.io/v1alpha1
kind: Task
metadata: {name: update-service-a, namespace: kubetask-system}
spec:
  contexts:
    - type: File
      file:
        filePath: /workspace/task.md
        source:
          inline: |
            Update dependencies to latest versions.
            Run tests and create PR.
    - type: File
      file:
        filePath: /workspace/guide.md
        source:
          configMapKeyRef: {name: workflow-guides, key: standard-pr-workflow.md}
"#;

#[test]
fn task_operations() {
    let machine = Machine::up();
    let n = ["-n", "kubetask-system"];
    let kubectl = |args: &[&str]| machine.kubectl(&[args, &n].concat());
    if machine.kubectl_with_input(&["apply", "-f", "-"], OBJECTS).map(|out| out.ok()).is_none() {
        return;
    }
    // A watch that was started before sees it all.
    let mut watch = machine
        .kubectl_command(&["get", "task", "-w", "-n", "kubetask-system", "--no-headers"])
        .unwrap()
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let created = machine.kubectl_with_input(&["apply", "-f", "-"], TASK).unwrap().ok();
    assert_eq!(created.stdout, "task.kubetask.io/update-service-a created\n");
    let again = machine.kubectl_with_input(&["apply", "-f", "-"], TASK).unwrap().ok();
    assert_eq!(again.stdout, "task.kubetask.io/update-service-a unchanged\n");
    kubectl(&["wait", "--for=jsonpath={.status.phase}=Completed", "task/update-service-a", "--timeout=30s"])
        .unwrap()
        .ok();
    kubectl(&["wait", "--for=condition=Complete", "task/update-service-a", "--timeout=5s"]).unwrap().ok();

    let listed = kubectl(&["get", "tasks"]).unwrap().ok().stdout;
    let (header, row) = listed.split_once('\n').unwrap();
    for column in ["NAME", "PHASE", "AGENT", "JOB", "AGE"] {
        assert!(header.contains(column), "{header}");
    }
    assert!(row.contains("update-service-a") && row.contains("Completed"), "{row}");
    let wide = kubectl(&["get", "tasks", "-o", "wide"]).unwrap().ok().stdout;
    assert!(wide.contains("REASON"), "{wide}");

    let yaml = kubectl(&["get", "task", "update-service-a", "-o", "yaml"]).unwrap().ok().stdout;
    assert!(yaml.contains("phase: Completed") && yaml.contains("result: |") && yaml.contains("exitCode: 0"), "{yaml}");

    let job = kubectl(&["get", "task", "update-service-a", "-o", "jsonpath={.status.jobName}"]).unwrap().ok().stdout;
    assert!(job.starts_with("update-service-a-"), "{job}");
    let logs = kubectl(&["logs", &format!("job/{job}")]).unwrap().ok().stdout;
    assert_eq!(logs, "Update dependencies to latest versions.\nRun tests and create PR.\nopen a pull request\n");

    let described = kubectl(&["describe", "task", "update-service-a"]).unwrap().ok().stdout;
    assert!(described.contains("Phase:") && described.contains("Events:"), "{described}");

    let patched = kubectl(&["patch", "task", "update-service-a", "--type=merge", "-p", r#"{"spec":{"priority":7}}"#]);
    patched.unwrap().ok();
    let refused =
        kubectl(&["patch", "task", "update-service-a", "--type=merge", "-p", r#"{"spec":{"agentRef":"other"}}"#]);
    let refused = refused.unwrap().code(1);
    assert!(refused.stderr.contains("cannot be changed once the Job exists"), "{}", refused.stderr);

    let all = machine.kubectl(&["get", "kubetask", "-A", "-o", "name"]).unwrap().ok().stdout;
    assert!(all.contains("task.kubetask.io/update-service-a") && all.contains("agent.kubetask.io/default"), "{all}");
    let explained = machine.kubectl(&["explain", "task.spec.contexts"]).unwrap().ok().stdout;
    assert!(explained.contains("FIELD: contexts <[]Object>") && explained.contains("repository"), "{explained}");

    let owned = || {
        kubectl(&["get", "job,pod,configmap", "-o", "name", "-l", "app.kubernetes.io/managed-by=kubetask"])
            .unwrap()
            .ok()
            .stdout
    };
    assert_eq!(owned().lines().count(), 3, "{}", owned());
    let deleted = kubectl(&["delete", "task", "update-service-a"]).unwrap().ok().stdout;
    assert!(deleted.contains("\"update-service-a\" deleted"), "{deleted}");
    eventually("Job, Pod and ConfigMap go with the Task", Duration::from_secs(20), || owned().is_empty());

    watch.kill().unwrap();
    let seen = String::from_utf8(watch.wait_with_output().unwrap().stdout).unwrap();
    let phases: Vec<&str> = ["Running", "Completed"].into_iter().filter(|phase| seen.contains(phase)).collect();
    assert_eq!(phases, ["Running", "Completed"], "{seen}");
}

#[test]
fn agent_operations() {
    let machine = Machine::up();
    let Some(applied) = machine.kubectl_with_input(&["apply", "-f", "-"], OBJECTS) else { return };
    assert!(applied.ok().stdout.contains("agent.kubetask.io/default created"));
    let agents = machine.kubectl(&["get", "agents", "-n", "kubetask-system"]).unwrap().ok().stdout;
    assert!(agents.contains("default"), "{agents}");
    let yaml =
        machine.kubectl(&["get", "agent", "default", "-n", "kubetask-system", "-o", "yaml"]).unwrap().ok().stdout;
    assert!(yaml.contains("serviceAccountName: kubetask-agent"), "{yaml}");
    let edited = OBJECTS.replace("finished", "done");
    let changed = machine.kubectl_with_input(&["apply", "-f", "-"], &edited).unwrap().ok().stdout;
    assert!(changed.contains("agent.kubetask.io/default configured") && changed.contains("unchanged"), "{changed}");
    let diff = machine.kubectl_with_input(&["diff", "-f", "-"], OBJECTS).unwrap().code(1).stdout;
    assert!(diff.contains("finished"), "{diff}");
}

#[test]
fn what_is_missing_is_named_and_heals() {
    let machine = Machine::up();
    let Some(out) = machine.kubectl_with_input(&["apply", "-f", "-"], TASK) else { return };
    out.ok();
    let message = || {
        let args = ["get", "task", "update-service-a", "-n", "kubetask-system", "-o", "jsonpath={.status.message}"];
        machine.kubectl(&args).unwrap().stdout
    };
    eventually("the missing ConfigMap is named", Duration::from_secs(10), || message().contains("workflow-guides"));
    machine.kubectl_with_input(&["apply", "-f", "-"], OBJECTS).unwrap().ok();
    let args = [
        "wait",
        "--for=jsonpath={.status.phase}=Completed",
        "task/update-service-a",
        "-n",
        "kubetask-system",
        "--timeout=30s",
    ];
    machine.kubectl(&args).unwrap().ok();
}

#[test]
fn kubectl_sees_real_status_objects() {
    let machine = Machine::up();
    let Some(out) = machine.kubectl(&["get", "task", "nope"]) else { return };
    assert_eq!(out.code(1).stderr, "Error from server (NotFound): tasks.kubetask.io \"nope\" not found\n");
    let bad = "apiVersion: kubetask.io/v1alpha1\nkind: Task\nmetadata: {name: x}\nspec: {promt: x}\n";
    let out = machine.kubectl_with_input(&["apply", "-f", "-"], bad).unwrap().code(1);
    assert!(out.stderr.contains("unknown field \"spec.promt\""), "{}", out.stderr);
}
