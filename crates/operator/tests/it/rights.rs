//! The operator's rights are what it uses: its flows are run, and what it asked of the API is compared with the role that
//! an installation gives it.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job;
use kube::api::DeleteParams;
use kubetask_api::TaskPhase;
use kubetask_core::deploy::controller_rules;
use kubetask_testkit::{Script, TestCluster};
use serde_json::{Value, json};

use crate::{agent, task};

/// What is granted though these flows do not ask for it, and why.
const NOT_ASKED_HERE: &[(&str, &str, &str)] = &[
    ("tasks/finalizers", "update", "owner references, on clusters with OwnerReferencesPermissionEnforcement"),
    ("crontasks/finalizers", "update", "as for tasks"),
    ("batchruns/finalizers", "update", "as for tasks"),
    ("configmaps", "update", "content that changed before the Job was made"),
    ("secrets", "update", "content that changed before the Job was made"),
    ("agents", "get", "what a watch that is late has not shown"),
    ("serviceaccounts", "get", "what a watch that is late has not shown"),
    ("configmaps", "list", "a list is how a watch begins on older clusters"),
    ("secrets", "get", "keys of archives and webhooks, and content of contexts"),
    ("pods/log", "get", "the archive keeps the log"),
    ("tasks", "create", "CronTasks and BatchRuns"),
    ("tasks", "patch", "children of CronTasks and BatchRuns"),
    ("tasks", "get", "children of CronTasks and BatchRuns, and what is to be archived"),
    ("agents/status", "patch", "what an Agent's queue looks like"),
    ("batches", "get", "a Batch that a run names"),
    ("batches", "list", "BatchRuns"),
    ("batches", "watch", "BatchRuns"),
    ("batchruns", "list", "BatchRuns"),
    ("batchruns", "watch", "BatchRuns"),
    ("batchruns/status", "patch", "BatchRuns"),
    ("crontasks", "list", "CronTasks"),
    ("crontasks", "watch", "CronTasks"),
    ("crontasks/status", "patch", "CronTasks"),
];

fn granted() -> BTreeSet<(String, String)> {
    let words = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut all = BTreeSet::new();
    for rule in controller_rules() {
        assert!(
            !words(&rule["verbs"]).contains(&"*".to_owned()) && !words(&rule["resources"]).contains(&"*".to_owned())
        );
        for resource in words(&rule["resources"]) {
            for verb in words(&rule["verbs"]) {
                assert!(all.insert((resource.clone(), verb)), "granted twice: {rule}");
            }
        }
    }
    all
}

#[tokio::test]
async fn operator_is_granted_what_it_uses_and_no_more() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.apply("{apiVersion: kubetask.io/v1alpha1, kind: KubeTaskConfig, metadata: {name: default}, spec: {taskLifecycle: {ttlSecondsAfterFinished: 1}}}").await?;
    cluster.apply("{apiVersion: v1, kind: Secret, metadata: {name: key}, stringData: {token: s3cret}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: guide}, data: {a: b}}").await?;
    cluster.apply(&agent("a", "{agentImage: acme, maxConcurrentTasks: 3}")).await?;

    // A whole life with ConfigMap and Secret, to its deletion.
    let contexts = "contexts: [
        {type: File, file: {filePath: /workspace/key, source: {secretKeyRef: {name: key, key: token}}}},
        {type: File, file: {filePath: /workspace/guide, source: {configMapKeyRef: {name: guide, key: a}}}}]";
    cluster.apply(&task("whole", &format!("{{agentRef: a, prompt: hi, {contexts}}}"))).await?;
    let gone = |task: Option<&kubetask_api::Task>| task.is_none();
    cluster.wait_for(&cluster.api(), "whole", "gone", gone).await?;

    // Stopped while it runs, suspended and resumed, its Job deleted by somebody.
    cluster.engine().always(Script::runs_until_stopped());
    for name in ["stopped", "held", "lost"] {
        cluster.apply(&task(name, "{agentRef: a, prompt: hi}")).await?;
        cluster.wait_for_agent(name, 1).await?;
    }
    cluster.patch::<kubetask_api::Task>("stopped", json!({"spec": {"stop": true}})).await?;
    cluster.patch::<kubetask_api::Task>("held", json!({"spec": {"suspend": true}})).await?;
    cluster.wait_for_reason("held", "Suspended").await?;
    cluster.patch::<kubetask_api::Task>("held", json!({"spec": {"suspend": false}})).await?;
    cluster.wait_for_agent("held", 2).await?;
    let lost = cluster.wait_for_phase("lost", TaskPhase::Running).await?;
    let job = lost.status.and_then(|s| s.job_name).unwrap_or_default();
    cluster.api::<Job>().delete(&job, &DeleteParams::background()).await?;
    cluster.wait_for(&cluster.api(), "lost", "gone", gone).await?;

    let asked: BTreeSet<(String, String)> =
        cluster.requests().all().into_iter().map(|r| (r.resource, r.verb.to_owned())).collect();
    let granted = granted();
    let missing: Vec<_> = asked.difference(&granted).collect();
    assert!(missing.is_empty(), "asked for, and not granted: {missing:?}");
    let excused: BTreeSet<(String, String)> =
        NOT_ASKED_HERE.iter().map(|(resource, verb, _)| ((*resource).to_owned(), (*verb).to_owned())).collect();
    let unused: Vec<_> = granted.difference(&asked).filter(|pair| !excused.contains(*pair)).collect();
    assert!(unused.is_empty(), "granted, and never asked for: {unused:?}");
    let stale: Vec<_> = excused.difference(&granted).collect();
    assert!(stale.is_empty(), "excused, and not granted: {stale:?}");
    cluster.shutdown().await;
    Ok(())
}
