//! Scheduled tasks and batches through the binary: the examples of their pages in docs/.

use std::time::Duration;

use crate::examples::root;
use crate::machine::{Machine, eventually};

fn example(name: &str) -> String {
    root().join("examples").join(name).display().to_string()
}

#[test]
fn crontask_example_runs_when_it_is_triggered() {
    let machine = Machine::up();
    machine.kubetask(&["apply", "-f", &example("crontask.yaml")]).ok();
    let next = machine.kubetask(&["cron", "next", "daily-report", "--count", "6"]).ok().stdout;
    assert_eq!(next.lines().count(), 7, "{next}");
    assert!(next.starts_with("TIME") && next.contains(" 09:00 CE"), "{next}");
    assert!(!next.contains("Sat") && !next.contains("Sun"), "{next}");
    let triggered = machine.kubetask(&["cron", "trigger", "daily-report"]).ok().stdout;
    let task = triggered.trim().strip_prefix("task.kubetask.io/").unwrap().strip_suffix(" triggered").unwrap();
    eventually("the task completes", Duration::from_secs(30), || {
        machine.task_value(task, "/status/phase") == "Completed"
    });
    assert_eq!(machine.task_value(task, "/status/result"), "reported\n");
    assert_eq!(machine.task_value(task, "/metadata/labels/app"), "daily-report");
    let log = machine.kubetask(&["logs", task]).ok().stdout;
    assert!(log.contains("Report on what changed since yesterday."), "{log}");

    machine.kubetask(&["cron", "suspend", "daily-report"]).ok();
    let next = machine.kubetask(&["cron", "next", "daily-report"]).ok();
    assert!(next.stderr.contains("suspended"), "{}", next.stderr);
    let resumed = machine.kubetask(&["cron", "resume", "daily-report"]).ok().stdout;
    assert_eq!(resumed, "crontask.kubetask.io/daily-report resumed\n");
    let missing = machine.kubetask(&["cron", "trigger", "nothing"]).code(1);
    assert!(missing.stderr.contains("\"nothing\" not found"), "{}", missing.stderr);
}

#[test]
fn batch_example_fails_for_one_service_which_is_run_again() {
    // Without a server: the command brings one for as long as it takes.
    let machine = Machine::new();
    machine.kubetask(&["apply", "-f", &example("batch.yaml")]).ok();
    let run = ["batch", "run", "update-dependencies", "--name", "spring", "--max-parallelism", "2"];
    let failed = machine.kubetask(&run).code(1);
    assert_eq!(failed.stdout, "batchrun.kubetask.io/spring created\n");
    assert!(failed.stderr.contains("failed: spring-2"), "{}", failed.stderr);
    assert!(failed.stderr.contains("hint: run them again with: kubetask batch retry spring"), "{}", failed.stderr);
    let status = machine.kubetask(&["batch", "status", "spring"]).ok().stdout;
    let expect =
        "spring: Failed, 2 of 3 completed, 1 failed, 0 running, 0 pending\nfailed: task.kubetask.io/spring-2\n";
    assert_eq!(status, expect);
    let retried = machine.kubetask(&["batch", "retry", "spring"]).code(1);
    assert_eq!(retried.stdout, "batchrun.kubetask.io/spring retried: 1 tasks\n");
    assert!(retried.stderr.contains("1 pending"), "{}", retried.stderr);
    let log = machine.kubetask(&["logs", "spring-0"]).ok().stdout;
    assert_eq!(log, "Update the dependencies of the service named in /workspace/service.\nservice-a");
    machine.kubetask(&["batch", "run", "nothing"]).code(1);
}
