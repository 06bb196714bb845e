//! Jobs from beginning to end in a world made of values: plans are carried out by [`World`], Pods end as the test says.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::conditions;
use super::plan::{Plan, plan};
use crate::pods::{Facts, Phase, TRACKING};

/// A cluster with one Job.
struct World {
    job: Job,
    pods: Vec<Facts>,
    now: Timestamp,
    made: usize,
    /// What happened, in order.
    log: Vec<String>,
}

impl World {
    fn new(spec: Value) -> World {
        let mut full = json!({
            "parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": false,
            "podReplacementPolicy": "TerminatingOrFailed", "template": { "spec": { "containers": [], "restartPolicy": "Never" } },
        });
        if let (Value::Object(full), Value::Object(spec)) = (&mut full, spec) {
            full.extend(spec);
        }
        let job = json!({ "metadata": { "namespace": "ns", "name": "j", "uid": "u" }, "spec": full });
        let job = serde_json::from_value(job).unwrap();
        World { job, pods: Vec::new(), now: Timestamp::from_second(1_000_000).unwrap(), made: 0, log: Vec::new() }
    }

    /// Carries out plans until nothing is left to do; returns when it wants to look again.
    fn settle(&mut self) -> Option<Duration> {
        for _ in 0..100 {
            let plan = plan(&self.job, &self.facts(), self.now, false);
            let wake = plan.wake;
            if !self.carry_out(plan) {
                return wake;
            }
        }
        panic!("does not settle: {:?}", self.log);
    }

    fn facts(&self) -> Vec<Arc<Facts>> {
        self.pods.iter().cloned().map(Arc::new).collect()
    }

    fn carry_out(&mut self, plan: Plan) -> bool {
        let Plan { create, remove, status, release, notices, .. } = plan;
        let done = !create.is_empty() || !remove.is_empty() || status.is_some() || !release.is_empty();
        for slot in create {
            self.made += 1;
            let name = format!("p{}", self.made);
            self.log.push(slot.index.map_or(format!("+{name}"), |i| format!("+{name}[{i}]")));
            self.pods.push(Facts {
                namespace: "ns".into(),
                uid: name.clone(),
                name,
                created: Some(self.now),
                finalizers: vec![TRACKING.into()],
                index: slot.index,
                index_failures: slot.failures.unwrap_or(0),
                ..Facts::default()
            });
        }
        for removal in remove {
            self.log.push(format!("-{}", removal.pod.name));
            let now = self.now;
            let pod = self.pod(&removal.pod.name);
            pod.deleting = Some(now);
            if removal.uncounted {
                pod.finalizers.clear();
            }
        }
        if let Some(status) = status {
            self.job.status = Some(status);
        }
        for notice in notices {
            self.log.push(notice.reason);
        }
        for pod in release {
            self.pod(&pod.name).finalizers.clear();
        }
        done
    }

    fn pod(&mut self, name: &str) -> &mut Facts {
        self.pods.iter_mut().find(|p| p.name == name).unwrap()
    }

    fn end(&mut self, name: &str, code: i32) {
        let now = self.now;
        let pod = self.pod(name);
        pod.phase = if code == 0 { Phase::Succeeded } else { Phase::Failed };
        pod.ready = false;
        pod.finished = Some(now);
        pod.exits = vec![("main".into(), code)];
    }

    /// The node has stopped what was to be deleted.
    fn reap(&mut self) {
        self.pods.retain(|p| p.deleting.is_none() || !p.finalizers.is_empty());
    }

    fn pass(&mut self, seconds: i64) {
        self.now += Duration::from_secs(seconds.unsigned_abs());
    }

    fn status(&self) -> Value {
        let mut status = serde_json::to_value(self.job.status.clone().unwrap_or_default()).unwrap();
        for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
            *condition = json!(format!(
                "{}={} {}: {}",
                text(&condition["type"]),
                text(&condition["status"]),
                text(&condition["reason"]),
                text(&condition["message"])
            ));
        }
        for time in ["startTime", "completionTime"] {
            if let Some(time) = status.get_mut(time) {
                *time = json!("<time>");
            }
        }
        status
    }

    fn check(&self, expected: Value) {
        assert_eq!(self.status(), expected, "{:?}", self.log);
    }

    fn log(&mut self) -> String {
        std::mem::take(&mut self.log).join(" ")
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn succeeds() {
    let mut world = World::new(json!({}));
    assert_eq!(world.settle(), None);
    world.check(
        json!({ "active": 1, "ready": 0, "terminating": 0, "startTime": "<time>", "uncountedTerminatedPods": {} }),
    );
    world.pod("p1").ready = true;
    world.pod("p1").phase = Phase::Running;
    world.settle();
    world.end("p1", 0);
    world.settle();
    world.check(json!({
        "startTime": "<time>", "completionTime": "<time>", "succeeded": 1, "ready": 0, "terminating": 0,
        "uncountedTerminatedPods": {},
        "conditions": [
            "SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods",
            "Complete=True CompletionsReached: Reached expected number of succeeded pods",
        ],
    }));
    assert_eq!(world.log(), "+p1 Completed");
    assert!(world.pods[0].finalizers.is_empty());
}

#[test]
fn a_pod_is_named_then_released_then_counted() {
    let mut world = World::new(json!({}));
    world.settle();
    world.end("p1", 0);
    let first = plan(&world.job, &world.facts(), world.now, false);
    let uncounted = first.status.as_ref().and_then(|s| s.uncounted_terminated_pods.clone()).unwrap();
    assert_eq!((uncounted.succeeded, first.release.len()), (Some(vec!["p1".to_owned()]), 0));
    assert_eq!(first.status.as_ref().and_then(|s| s.succeeded), None);
    world.carry_out(first);
    let second = plan(&world.job, &world.facts(), world.now, false);
    assert_eq!((second.status, second.release.len()), (None, 1));
    // The Pod is lost before the answer comes: it is counted all the same, once.
    world.pods.clear();
    world.settle();
    assert_eq!(world.status()["succeeded"], 1);
    assert!(conditions::finished(world.job.status.as_ref().unwrap()).is_some());
}

#[test]
fn succeeds_before_anything_was_written() {
    let mut world = World::new(json!({}));
    let first = plan(&world.job, &world.facts(), world.now, false);
    world.carry_out(first);
    world.end("p1", 0);
    world.settle();
    let status = world.status();
    assert_eq!((text(&status["startTime"]), text(&status["completionTime"])), ("<time>", "<time>"));
}

#[test]
fn fails_at_the_limit_and_waits_longer_each_time() {
    let mut world = World::new(json!({ "backoffLimit": 2 }));
    world.settle();
    world.end("p1", 4);
    assert_eq!(world.settle(), Some(Duration::from_secs(10)));
    world.check(
        json!({ "failed": 1, "ready": 0, "terminating": 0, "startTime": "<time>", "uncountedTerminatedPods": {} }),
    );
    world.pass(10);
    world.settle();
    world.end("p2", 4);
    assert_eq!(world.settle(), Some(Duration::from_secs(20)));
    world.pass(20);
    world.settle();
    world.end("p3", 4);
    world.settle();
    world.check(json!({
        "failed": 3, "ready": 0, "terminating": 0, "startTime": "<time>", "uncountedTerminatedPods": {},
        "conditions": [
            "FailureTarget=True BackoffLimitExceeded: Job has reached the specified backoff limit",
            "Failed=True BackoffLimitExceeded: Job has reached the specified backoff limit",
        ],
    }));
    assert_eq!(world.log(), "+p1 +p2 +p3 BackoffLimitExceeded");
}

#[test]
fn past_the_deadline_pods_are_stopped_and_then_it_has_failed() {
    for policy in ["Failed", "TerminatingOrFailed"] {
        let mut world = World::new(json!({ "activeDeadlineSeconds": 5, "podReplacementPolicy": policy }));
        assert_eq!(world.settle(), Some(Duration::from_secs(5)));
        world.pass(5);
        world.settle();
        world.check(json!({
            "failed": 1, "ready": 0, "terminating": 1, "startTime": "<time>", "uncountedTerminatedPods": {},
            "conditions": ["FailureTarget=True DeadlineExceeded: Job was active longer than specified deadline"],
        }));
        world.reap();
        world.settle();
        world.check(json!({
            "failed": 1, "ready": 0, "terminating": 0, "startTime": "<time>", "uncountedTerminatedPods": {},
            "conditions": [
                "FailureTarget=True DeadlineExceeded: Job was active longer than specified deadline",
                "Failed=True DeadlineExceeded: Job was active longer than specified deadline",
            ],
        }));
        assert_eq!(world.log(), "+p1 -p1 DeadlineExceeded");
    }
}

#[test]
fn suspended_and_resumed() {
    let mut world = World::new(json!({ "suspend": true, "activeDeadlineSeconds": 100 }));
    assert_eq!(world.settle(), None, "the deadline does not run");
    let suspended = "Suspended=True JobSuspended: Job suspended";
    world.check(json!({ "ready": 0, "terminating": 0, "uncountedTerminatedPods": {}, "conditions": [suspended] }));
    world.job.spec.as_mut().unwrap().suspend = Some(false);
    world.pass(1000);
    assert_eq!(world.settle(), Some(Duration::from_secs(100)));
    assert_eq!(world.log(), "Suspended +p1 Resumed");

    world.job.spec.as_mut().unwrap().suspend = Some(true);
    world.settle();
    world.reap();
    world.settle();
    assert_eq!(world.log(), "-p1 Suspended");
    assert_eq!(world.status()["failed"], Value::Null, "stopping it was not its failure");
    world.pass(1000);
    world.job.spec.as_mut().unwrap().suspend = Some(false);
    world.settle();
    world.end("p2", 0);
    world.settle();
    assert_eq!(
        world.status()["conditions"],
        json!([
            "Suspended=False JobResumed: Job resumed",
            "SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods",
            "Complete=True CompletionsReached: Reached expected number of succeeded pods",
        ])
    );
}

#[test]
fn indexes() {
    let mut world = World::new(json!({ "completionMode": "Indexed", "completions": 4, "parallelism": 2 }));
    world.settle();
    assert_eq!(world.log(), "+p1[0] +p2[1]");
    world.end("p2", 0);
    world.settle();
    assert_eq!((world.log().as_str(), world.status()["completedIndexes"].clone()), ("+p3[2]", json!("1")));
    world.end("p1", 1);
    assert!(world.settle().is_some(), "a failure delays the next Pod");
    world.pass(10);
    world.settle();
    assert_eq!(world.log(), "+p4[0]");
    for pod in ["p3", "p4"] {
        world.end(pod, 0);
    }
    world.settle();
    assert_eq!(world.log(), "+p5[3]");
    world.end("p5", 0);
    world.settle();
    world.check(json!({
        "startTime": "<time>", "completionTime": "<time>", "succeeded": 4, "failed": 1, "ready": 0, "terminating": 0,
        "completedIndexes": "0-3", "uncountedTerminatedPods": {},
        "conditions": [
            "SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods",
            "Complete=True CompletionsReached: Reached expected number of succeeded pods",
        ],
    }));
    assert!(world.pods.iter().all(|p| p.finalizers.is_empty()));
}

#[test]
fn limits_per_index() {
    let mut world = World::new(json!({
        "completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimit": 2_147_483_647, "backoffLimitPerIndex": 1,
    }));
    world.settle();
    world.end("p1", 1);
    world.end("p2", 0);
    assert_eq!(world.settle(), Some(Duration::from_secs(10)));
    world.pass(10);
    world.settle();
    assert_eq!(world.log(), "+p1[0] +p2[1] +p3[0]");
    assert_eq!(world.pod("p3").index_failures, 1);
    world.end("p3", 1);
    world.settle();
    let status = world.status();
    assert_eq!((text(&status["completedIndexes"]), text(&status["failedIndexes"])), ("1", "0"));
    assert_eq!(
        status["conditions"],
        json!([
            "FailureTarget=True FailedIndexes: Job has failed indexes",
            "Failed=True FailedIndexes: Job has failed indexes"
        ])
    );
}

#[test]
fn policies() {
    let rule =
        |action: &str, code: i32| json!({ "action": action, "onExitCodes": { "operator": "In", "values": [code] } });
    let spec = |rules: Value| json!({ "podFailurePolicy": { "rules": rules }, "podReplacementPolicy": "Failed", "backoffLimit": 1 });

    let mut world = World::new(spec(json!([rule("FailJob", 42)])));
    world.settle();
    world.end("p1", 42);
    world.settle();
    let message = "Container main for pod ns/p1 failed with exit code 42 matching FailJob rule at index 0";
    assert_eq!(
        world.status()["conditions"],
        json!([
            format!("FailureTarget=True PodFailurePolicy: {message}"),
            format!("Failed=True PodFailurePolicy: {message}")
        ])
    );
    assert_eq!(world.status()["failed"], 1);

    let mut world = World::new(spec(json!([rule("Ignore", 7)])));
    for n in 1..5 {
        world.settle();
        world.end(&format!("p{n}"), 7);
    }
    world.settle();
    assert_eq!((world.status()["failed"].clone(), world.log().as_str()), (Value::Null, "+p1 +p2 +p3 +p4 +p5"));

    let mut world = World::new(json!({
        "completionMode": "Indexed", "completions": 3, "parallelism": 3,
        "successPolicy": { "rules": [{ "succeededIndexes": "1" }] },
    }));
    world.settle();
    world.end("p2", 0);
    world.settle();
    world.reap();
    world.settle();
    assert_eq!(
        world.status()["conditions"],
        json!([
            "SuccessCriteriaMet=True SuccessPolicy: Matched rules at index 0",
            "Complete=True SuccessPolicy: Matched rules at index 0"
        ])
    );
    assert_eq!(world.log(), "+p1[0] +p2[1] +p3[2] -p1 -p3 Completed");
}

#[test]
fn never_two_at_once_if_only_failed_pods_are_replaced() {
    let mut world = World::new(json!({ "podReplacementPolicy": "Failed" }));
    world.settle();
    world.pod("p1").deleting = Some(world.now);
    world.settle();
    assert_eq!((world.log().as_str(), world.status()["terminating"].clone()), ("+p1", json!(1)));
    world.end("p1", 1);
    world.settle();
    world.pass(10);
    world.settle();
    assert_eq!(world.log(), "+p2");

    let mut world = World::new(json!({}));
    world.settle();
    world.pod("p1").deleting = Some(world.now);
    world.settle();
    world.pass(10);
    world.settle();
    assert_eq!(world.log(), "+p1 +p2", "otherwise it is replaced while it is still stopping");
    assert_eq!(world.status()["failed"], 1);
}

#[test]
fn restarts_in_place_count() {
    let mut world = World::new(json!({
        "backoffLimit": 1, "template": { "spec": { "containers": [], "restartPolicy": "OnFailure" } },
    }));
    world.settle();
    world.pod("p1").phase = Phase::Running;
    world.pod("p1").restarts = 1;
    world.settle();
    world.reap();
    world.settle();
    assert_eq!(world.status()["failed"], 1);
    assert_eq!(world.log(), "+p1 -p1 BackoffLimitExceeded");
}

#[test]
fn more_or_fewer_at_once() {
    let mut world = World::new(json!({ "completions": 10, "parallelism": 0 }));
    world.settle();
    assert_eq!((world.log().as_str(), world.status()["conditions"].clone()), ("", Value::Null));
    world.job.spec.as_mut().unwrap().parallelism = Some(3);
    world.settle();
    world.pod("p2").phase = Phase::Running;
    world.job.spec.as_mut().unwrap().parallelism = Some(1);
    world.settle();
    assert_eq!(world.log(), "+p1 +p2 +p3 -p1 -p3", "what runs is kept");
    assert_eq!(world.status()["failed"], Value::Null);
}

#[test]
fn without_completions_the_first_success_ends_it() {
    let mut world = World::new(json!({ "completions": null, "parallelism": 2 }));
    world.settle();
    world.end("p1", 0);
    world.settle();
    assert_eq!(world.log(), "+p1 +p2", "the other one finishes its work");
    world.end("p2", 0);
    world.settle();
    assert_eq!((world.log().as_str(), world.status()["succeeded"].clone()), ("Completed", json!(2)));
}

#[test]
fn a_job_that_goes_lets_its_pods_go() {
    let mut world = World::new(json!({}));
    world.settle();
    world.job.metadata.deletion_timestamp = serde_json::from_value(json!("2030-01-01T00:00:00Z")).unwrap();
    world.settle();
    assert!(world.pods[0].finalizers.is_empty());
    assert_eq!(world.log(), "+p1");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// However Pods end, disappear and are interrupted: it comes to an end, never has more active Pods than it may, and
    /// counts each Pod at most once.
    #[test]
    fn every_job_ends(
        completions in 1..5i32,
        parallelism in 1..4i32,
        indexed: bool,
        failed_only: bool,
        limit in 0..4i32,
        steps in prop::collection::vec((0..6u8, any::<prop::sample::Index>(), 0..12u8), 0..60),
    ) {
        let mut world = World::new(json!({
            "completions": completions, "parallelism": parallelism, "backoffLimit": limit,
            "completionMode": if indexed { "Indexed" } else { "NonIndexed" },
            "podReplacementPolicy": if failed_only { "Failed" } else { "TerminatingOrFailed" },
        }));
        for (what, which, partial) in steps {
            let running: Vec<_> = world.pods.iter().filter(|p| !p.is_finished()).map(|p| p.name.clone()).collect();
            if !running.is_empty() {
                let name = which.get(&running).clone();
                match what {
                    0 | 1 => world.end(&name, 0),
                    2 => world.end(&name, 1),
                    3 => world.pod(&name).deleting = Some(world.now),
                    4 => world.reap(),
                    _ => world.pod(&name).phase = Phase::Running,
                }
            }
            // A crash between any two steps must not matter.
            for _ in 0..partial {
                let plan = plan(&world.job, &world.facts(), world.now, false);
                world.carry_out(plan);
            }
            let active = world.pods.iter().filter(|p| p.is_active()).count();
            prop_assert!(active <= parallelism as usize, "{:?}", world.log);
            world.pass(3);
        }
        for _ in 0..40 {
            world.settle();
            let stopping: Vec<_> = world.pods.iter().filter(|p| p.is_terminating()).map(|p| p.name.clone()).collect();
            stopping.iter().for_each(|name| world.end(name, 137));
            let running: Vec<_> = world.pods.iter().filter(|p| p.is_active()).map(|p| p.name.clone()).collect();
            running.iter().for_each(|name| world.end(name, 0));
            world.reap();
            world.pass(600);
        }
        world.settle();
        let status = world.job.status.clone().unwrap();
        prop_assert!(conditions::finished(&status).is_some(), "{status:?} {:?}", world.log);
        prop_assert!(world.pods.iter().all(|p| !p.is_tracked()));
        let counted = status.succeeded.unwrap_or(0) + status.failed.unwrap_or(0);
        prop_assert!(counted as usize <= world.made, "{counted} of {} {:?}", world.made, world.log);
        if conditions::find(&status, conditions::COMPLETE).is_some() {
            prop_assert!(status.succeeded.unwrap_or(0) >= completions);
        }
        // Nothing is left to do, ever.
        prop_assert_eq!(plan(&world.job, &world.facts(), Timestamp::MAX, false), Plan::default());
    }
}
