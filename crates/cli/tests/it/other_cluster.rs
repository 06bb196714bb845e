//! Agents on another cluster: two real servers, one at home and one away, over TLS.

use std::os::unix::process::CommandExt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::Value;

use crate::machine::{Machine, eventually};

const SOON: Duration = Duration::from_secs(60);

/// A server at home whose Agents run on another one, in its namespace `agents`.
struct Pair {
    home: Machine,
    away: Machine,
}

impl Pair {
    fn new() -> Self {
        let pair = Self { home: Machine::up(), away: Machine::up() };
        pair.away
            .kubetask_with_input(&["apply", "-f", "-"], "apiVersion: v1\nkind: Namespace\nmetadata: {name: agents}\n")
            .ok();
        pair.knows_away();
        pair
    }

    /// The pair that tests running at the same time share.
    fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Pair>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pair) = shared.upgrade() {
            return pair;
        }
        let pair = Arc::new(Self::new());
        *shared = Arc::downgrade(&pair);
        pair
    }

    /// Puts the kubeconfig of the other server into a Secret at home.
    fn knows_away(&self) {
        let kubeconfig = std::fs::read_to_string(self.away.kubeconfig()).unwrap();
        let indented = kubeconfig.replace('\n', "\n    ");
        let secret = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: away}}\nstringData:\n  kubeconfig: |\n    {indented}\n"
        );
        self.home.kubetask_with_input(&["apply", "-f", "-"], &secret).ok();
    }

    /// A Task, and an Agent of the same name on the other cluster that runs `script`.
    fn submit(&self, name: &str, script: &str) {
        self.submit_with(name, script, "", "");
    }

    fn submit_with(&self, name: &str, script: &str, agent: &str, task: &str) {
        let manifest = format!(
            "apiVersion: kubetask.io/v1alpha1
kind: Agent
metadata: {{name: {name}}}
spec:
  serviceAccountName: default
  cluster: {{kubeconfigSecretRef: {{name: away}}, namespace: agents}}
  command:
  - sh
  - -c
  - |
    {}
{agent}
---
apiVersion: kubetask.io/v1alpha1
kind: Task
metadata: {{name: {name}}}
spec:
  agentRef: {name}
  contexts: []
{task}
",
            script.replace('\n', "\n    ")
        );
        self.home.kubetask_with_input(&["apply", "-f", "-"], &manifest).ok();
    }

    /// The Job of that Task on the other cluster.
    fn job(&self, task: &str) -> Option<Value> {
        let out = self.away.kubetask(&[
            "-n",
            "agents",
            "get",
            "jobs",
            "-l",
            &format!("kubetask.io/task={task}"),
            "-o",
            "json",
        ]);
        let list: Value = serde_json::from_str(&out.ok().stdout).unwrap();
        list["items"].get(0).cloned()
    }

    fn ends(&self, task: &str) {
        eventually(&format!("{task} ends"), SOON, || {
            matches!(self.home.task_value(task, "/status/phase").as_str(), "Completed" | "Failed")
        });
    }

    fn runs(&self, task: &str) {
        eventually(&format!("{task} runs"), SOON, || self.home.task_value(task, "/status/phase") == "Running");
    }

    fn log(&self, task: &str) -> String {
        self.home.kubetask(&["logs", task]).stdout
    }
}

#[test]
fn a_job_is_submitted_to_the_other_cluster() {
    let pair = Pair::shared();
    pair.submit("submitted", "true");
    eventually("the Job is there", SOON, || pair.job("submitted").is_some());
    let job = pair.job("submitted").unwrap();
    assert_eq!(
        job["metadata"]["annotations"]["kubetask.io/task-uid"],
        pair.home.task_value("submitted", "/metadata/uid")
    );
    assert_eq!(job["metadata"].get("ownerReferences"), None, "its owner is not on that cluster");
}

#[test]
fn the_jobs_status_is_followed_until_it_is_complete() {
    let pair = Pair::shared();
    pair.submit("followed", "while [ ! -e /tmp/never ]; do sleep 0.2; [ $((n=n+1)) -lt 8 ] || exit 0; done");
    pair.runs("followed");
    assert!(pair.job("followed").unwrap()["status"].get("completionTime").is_none(), "Running while it runs there");
    pair.ends("followed");
    assert_eq!(pair.home.task_value("followed", "/status/phase"), "Completed");
    assert!(pair.job("followed").unwrap()["status"]["completionTime"].is_string());
}

#[test]
fn the_jobs_log_is_streamed_home() {
    let pair = Pair::shared();
    pair.submit("streamed", "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.3; done; printf 'no newline'");
    eventually("the log comes while it runs", SOON, || pair.log("streamed").contains("line 2"));
    pair.ends("streamed");
    assert_eq!(pair.log("streamed"), "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\nno newline");
    if let Some(out) =
        pair.home.kubectl(&["logs", &format!("job/{}", pair.home.task_value("streamed", "/status/jobName"))])
    {
        assert!(out.ok().stdout.contains("line 6"));
    }
}

#[test]
fn success_is_told_with_the_result() {
    let pair = Pair::shared();
    pair.submit("succeeds", "printf 'all is \"well\"' > /dev/termination-log");
    pair.ends("succeeds");
    assert_eq!(pair.home.task_value("succeeds", "/status/phase"), "Completed");
    assert_eq!(pair.home.task_value("succeeds", "/status/exitCode"), "0");
    assert_eq!(pair.home.task_value("succeeds", "/status/result"), "all is \"well\"");
}

#[test]
fn failure_is_told_with_the_exit_code() {
    let pair = Pair::shared();
    pair.submit("fails", "echo about to fail; exit 7");
    pair.ends("fails");
    assert_eq!(pair.home.task_value("fails", "/status/phase"), "Failed");
    assert_eq!(pair.home.task_value("fails", "/status/exitCode"), "7");
    assert_eq!(pair.home.task_value("fails", "/status/reason"), "ExitCode");
    assert!(pair.log("fails").contains("about to fail"));
}

/// A process and those that it started, ended when this goes.
struct Group(std::process::Child);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::process::Command::new("kill").args(["--", &format!("-{}", self.0.id())]).status();
        let _ = self.0.wait();
    }
}

#[test]
fn changes_on_another_cluster_come_home() {
    if !crate::machine::require("git", crate::machine::on_path("git")) {
        return;
    }
    let pair = Pair::shared();
    let upstream = tempfile::tempdir().unwrap();
    let script = "git init -q -b main .; echo one > f; git add .; \
        git -c user.name=a -c user.email=a@example.test commit -qm one";
    let made = std::process::Command::new("sh").args(["-ec", script]).current_dir(upstream.path()).status();
    assert!(made.unwrap().success());
    // A directory of this machine is none that another cluster can see.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = std::process::Command::new("git")
        .args(["daemon", "--listen=127.0.0.1", &format!("--port={port}"), "--export-all", "--reuseaddr"])
        .arg(format!("--base-path={}", upstream.path().display()))
        .arg(upstream.path())
        .stderr(std::process::Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let _server = Group(server);
    pair.submit_with("changes", "echo two >> /workspace/repo/f", "", "");
    let task = serde_json::json!({
        "apiVersion": "kubetask.io/v1alpha1", "kind": "Task", "metadata": {"name": "changes-home"},
        "spec": {"agentRef": "changes", "contexts": [{"type": "Repository", "repository": {
            "url": format!("git://127.0.0.1:{port}/"), "path": "/workspace/repo", "collectChanges": true}}]},
    });
    pair.home.kubetask_with_input(&["apply", "-f", "-"], &task.to_string()).ok();
    pair.home.kubetask(&["wait", "changes-home", "--timeout", "60s"]).ok();
    let stat = pair.home.kubetask(&["changes", "changes-home", "--stat"]).ok().stdout;
    assert_eq!(stat, "/workspace/repo: 1 file, +1 -0\n");
    let patch = pair.home.kubetask(&["changes", "changes-home"]).ok().stdout;
    assert!(patch.contains("\n one\n+two\n"), "{patch}");
}

#[test]
fn a_running_job_is_cancelled() {
    let pair = Pair::shared();
    pair.submit("cancelled", "trap 'echo asked to end; exit 0' TERM; echo started; sleep 600 & wait");
    eventually("it runs", SOON, || pair.log("cancelled").contains("started"));
    pair.home.kubetask(&["stop", "cancelled"]).ok();
    pair.ends("cancelled");
    assert_eq!(pair.home.task_value("cancelled", "/status/reason"), "Stopped");
    eventually("the Job is gone there", SOON, || pair.job("cancelled").is_none());
    assert!(pair.log("cancelled").contains("started"), "the log stays");
}

#[test]
fn a_cluster_that_does_not_answer_is_waited_for() {
    let mut pair = Pair { home: Machine::up(), away: Machine::up() };
    pair.away
        .kubetask_with_input(&["apply", "-f", "-"], "apiVersion: v1\nkind: Namespace\nmetadata: {name: agents}\n")
        .ok();
    pair.knows_away();
    pair.away.kill_server();
    pair.submit("waits", "echo here at last");
    eventually("it says what it waits for", SOON, || {
        pair.home.task_value("waits", "/status/reason") == "ClusterUnavailable"
    });
    assert_eq!(pair.home.task_value("waits", "/status/phase"), "Pending", "never a false failure");
    assert!(pair.home.task_value("waits", "/status/message").contains("Secret away"));
    pair.away.start();
    pair.ends("waits");
    assert_eq!(pair.home.task_value("waits", "/status/phase"), "Completed");
}

#[test]
fn an_unknown_cluster_is_named() {
    let pair = Pair::shared();
    let manifest = "apiVersion: kubetask.io/v1alpha1\nkind: Agent\nmetadata: {name: nowhere}\nspec:\n  \
                    serviceAccountName: default\n  cluster: {context: no-such-context}\n  command: ['true']\n---\n\
                    apiVersion: kubetask.io/v1alpha1\nkind: Task\nmetadata: {name: nowhere}\nspec: {agentRef: nowhere, contexts: []}\n";
    pair.home.kubetask_with_input(&["apply", "-f", "-"], manifest).ok();
    eventually("it says so", SOON, || pair.home.task_value("nowhere", "/status/reason") == "ClusterUnavailable");
    assert!(pair.home.task_value("nowhere", "/status/message").contains("no-such-context"));
}

#[test]
fn namespace_and_resources_are_exact() {
    let pair = Pair::shared();
    let resources = "  resources: {limits: {cpu: 1500m, memory: 4Gi}, requests: {cpu: 250m, memory: 64Mi}}";
    pair.submit_with("sized", "true", resources, "  timeoutSeconds: 90\n  retries: 2");
    eventually("the Job is there", SOON, || pair.job("sized").is_some());
    let job = pair.job("sized").unwrap();
    assert_eq!(job["metadata"]["namespace"], "agents");
    assert_eq!(job["spec"]["backoffLimit"], 2);
    assert_eq!(job["spec"]["activeDeadlineSeconds"], 90);
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["resources"]["limits"], serde_json::json!({"cpu": "1500m", "memory": "4Gi"}));
    assert_eq!(container["resources"]["requests"], serde_json::json!({"cpu": "250m", "memory": "64Mi"}));
}

#[test]
fn a_task_for_another_cluster_is_accepted_like_any_other() {
    let pair = Pair::shared();
    pair.submit("accepted", "true");
    assert_eq!(pair.home.task_value("accepted", "/kind"), "Task");
    eventually("it is accepted", SOON, || {
        let conditions = pair.home.task_value("accepted", "/status/conditions");
        conditions.contains("Accepted")
    });
}

#[test]
fn it_is_dispatched_to_the_cluster_that_its_agent_names_and_nowhere_else() {
    let pair = Pair::shared();
    pair.submit("dispatched", "true");
    pair.ends("dispatched");
    assert!(pair.job("dispatched").is_some());
    let here = pair.home.kubetask(&["get", "jobs", "-l", "kubetask.io/task=dispatched", "-o", "json"]).ok().stdout;
    let here: Value = serde_json::from_str(&here).unwrap();
    let containers = &here["items"][0]["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers[0]["command"], serde_json::json!(["kubetask", "relay", "follow"]));
}

#[test]
fn its_status_is_tracked_like_any_other() {
    let pair = Pair::shared();
    pair.submit_with("tracked", "echo attempt; [ -e /workspace/no ]", "", "  retries: 1");
    pair.ends("tracked");
    assert_eq!(pair.home.task_value("tracked", "/status/attempts"), "2");
    assert_eq!(pair.log("tracked"), "attempt\nattempt\n", "the log of every attempt, in order");
}

#[test]
fn it_goes_through_the_whole_life_of_a_task() {
    let pair = Pair::shared();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: model}\nstringData: {key: sesame}\n";
    pair.home.kubetask_with_input(&["apply", "-f", "-"], secret).ok();
    let credentials = "  credentials:\n  - {name: key, secretRef: {name: model, key: key}, env: MODEL_KEY}";
    let script = "cat /workspace/task.md; echo key $MODEL_KEY";
    pair.submit_with("lives", script, credentials, "  prompt: Mind the $(GAP).");
    pair.ends("lives");
    let log = pair.log("lives");
    assert!(log.contains("Mind the $(GAP).") && log.contains("key sesame"), "{log}");
    pair.home.kubetask(&["delete", "task", "lives"]).ok();
    eventually("it is gone", SOON, || pair.home.kubetask(&["get", "task", "lives"]).code != 0);
    eventually("and everything of it there", SOON, || {
        ["jobs", "pods", "configmaps", "secrets"].iter().all(|kind| {
            let selector = "kubetask.io/task=lives";
            pair.away.kubetask(&["-n", "agents", "get", kind, "-l", selector, "-o", "name"]).stdout.is_empty()
        })
    });
}

#[test]
fn a_connection_that_is_lost_for_a_while_loses_nothing() {
    let mut pair = Pair::new();
    pair.submit("patient", "for i in $(seq 1 20); do echo line $i; sleep 0.25; done");
    eventually("it runs", SOON, || pair.log("patient").contains("line 3"));
    pair.away.kill_server();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(pair.home.task_value("patient", "/status/phase"), "Running", "not a failure");
    pair.away.start();
    pair.ends("patient");
    assert_eq!(pair.home.task_value("patient", "/status/phase"), "Completed");
    let expect: String = (1..=20).map(|i| format!("line {i}\n")).collect();
    assert_eq!(pair.log("patient"), expect, "every line once");
}

#[test]
fn a_person_is_told_of_an_agent_that_waits_on_the_other_cluster() {
    let pair = Pair::shared();
    let human = "  humanInTheLoop: {enabled: true, keepAliveSeconds: 3600}";
    pair.submit_with("human", "echo worked", human, "");
    let reason = || pair.home.task_value("human", "/status/reason");
    eventually("human waits for a person", SOON, || reason() == "WaitingForHuman");
    let message = pair.home.task_value("human", "/status/message");
    assert!(message.contains("on the other cluster"), "{message}");
    eventually("the log says how to enter it", SOON, || {
        pair.log("human").contains("kubectl exec -it -n agents human-")
    });
    pair.home.kubetask(&["stop", "human"]).ok();
    pair.ends("human");
    eventually("its Job goes", SOON, || pair.job("human").is_none());
}
