//! Requests fail at random, answers are lost, watches are cut; every Task still ends as it should, with one Job.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use kubetask_api::{Agent, Task, TaskPhase};
use kubetask_operator::OperatorConfig;
use kubetask_testkit::{ContainerSpec, Faults, Requests, Script, TestCluster, TestConfig, WAIT};
use serde_json::json;

/// How many runs, each with a seed of its own, unless this variable says otherwise.
const RUNS: u64 = 40;
const RUNS_VARIABLE: &str = "KUBETASK_FAULT_RUNS";
/// Set: answers hang, and watches are badly behind.
const HARD_VARIABLE: &str = "KUBETASK_FAULTS_HARD";
/// How many run at a time.
const TOGETHER: usize = 10;
const TASKS: [(&str, TaskPhase); 7] = [
    ("bad", TaskPhase::Failed),
    ("early", TaskPhase::Completed),
    ("good", TaskPhase::Completed),
    ("queued-1", TaskPhase::Completed),
    ("queued-2", TaskPhase::Completed),
    ("queued-3", TaskPhase::Completed),
    ("secret", TaskPhase::Completed),
];

/// How many times [`WAIT`] a Task may take: many runs at a time, on a machine that does other things, are slow.
const PATIENCE: usize = 5;
/// How long everything goes wrong in each run.
const TROUBLE: Duration = Duration::from_millis(2500);

/// Seeds to try instead, separated by commas, to see one again.
const SEEDS: &str = "KUBETASK_SEEDS";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_converge_with_one_job_each() -> anyhow::Result<()> {
    let cluster = TestCluster::with(TestConfig { without_operator: true, ..TestConfig::default() }).await?;
    cluster.engine().on(|spec| {
        let task = &spec.env.iter().find(|(name, _)| name == "TASK_NAME")?.1;
        Some(Script::exits(if task == "bad" { 3 } else { 0 }))
    });
    let seeds: Vec<u64> = match std::env::var(SEEDS) {
        Ok(seeds) => seeds.split(',').map(|seed| seed.trim().parse()).collect::<Result<_, _>>()?,
        Err(_) => {
            let runs = std::env::var(RUNS_VARIABLE).ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
            (1..=runs).collect()
        }
    };
    println!("seeds {:?} to {:?}", seeds.first(), seeds.last());
    for seeds in seeds.chunks(TOGETHER) {
        let runs = seeds.iter().map(|seed| run(&cluster, *seed));
        for (seed, result) in seeds.iter().zip(futures::future::join_all(runs).await) {
            result.map_err(|error| error.context(format!("{SEEDS}={seed} shows it again")))?;
        }
    }
    cluster.shutdown().await;
    Ok(())
}

async fn run(cluster: &TestCluster, seed: u64) -> anyhow::Result<()> {
    let namespace = format!("run-{seed}");
    let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}}))?;
    Api::<Namespace>::all(cluster.client()).create(&PostParams::default(), &object).await?;
    let hard = std::env::var_os(HARD_VARIABLE).is_some();
    let faults = if hard { Faults::hard(seed) } else { Faults::seeded(seed) };
    let requests = Requests::default();
    let config = OperatorConfig { namespace: Some(namespace.clone()), ..OperatorConfig::default() };
    let operator = kubetask_operator::start(requests.of(faults.of(cluster.client())), config);

    let tasks: Api<Task> = Api::namespaced(cluster.client(), &namespace);
    let wanted = |name: &str| {
        let guide = json!({"type": "File", "file": {"filePath": "/workspace/g.md",
            "source": {"configMapKeyRef": {"name": "guide", "key": "k"}}}});
        let secret = json!({"type": "File", "file": {"filePath": "/workspace/s",
            "source": {"secretKeyRef": {"name": "key", "key": "k"}}}});
        let contexts = match name {
            "early" => vec![guide],
            "secret" => vec![guide, secret],
            _ => vec![],
        };
        let mut task = json!({
            "apiVersion": "kubetask.io/v1alpha1", "kind": "Task", "metadata": {"name": name},
            "spec": {"prompt": "hi", "contexts": contexts},
        });
        if name.starts_with("queued") {
            task["spec"]["agentRef"] = json!("one");
        }
        serde_json::from_value::<Task>(task)
    };
    let agent: Agent = serde_json::from_value(json!({
        "apiVersion": "kubetask.io/v1alpha1", "kind": "Agent", "metadata": {"name": "one"},
        "spec": {"serviceAccountName": "default", "maxConcurrentTasks": 1},
    }))?;
    Api::<Agent>::namespaced(cluster.client(), &namespace).create(&PostParams::default(), &agent).await?;
    for (name, _) in TASKS {
        tasks.create(&PostParams::default(), &wanted(name)?).await?;
    }
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "guide"}, "data": {"k": "v"}}))?;
    Api::<ConfigMap>::namespaced(cluster.client(), &namespace).create(&PostParams::default(), &map).await?;
    let secret: Secret = serde_json::from_value(json!({"metadata": {"name": "key"}, "stringData": {"k": "v"}}))?;
    Api::<Secret>::namespaced(cluster.client(), &namespace).create(&PostParams::default(), &secret).await?;

    let jobs: Api<Job> = Api::namespaced(cluster.client(), &namespace);
    let end = async {
        // Trouble ends some time; most Tasks have ended before, the others must recover.
        tokio::time::sleep(TROUBLE).await;
        faults.end();
        for (name, phase) in TASKS {
            let mut tries = 0;
            while let Err(error) =
                cluster.wait_for(&tasks, name, phase.as_str(), |task| task.is_some_and(|t| t.phase() == phase)).await
            {
                tries += 1;
                if tries == PATIENCE {
                    return Err(error);
                }
            }
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = end => ended?,
        broken = limit_is_broken(&jobs) => broken?,
    }
    let jobs = jobs.list(&ListParams::default()).await?;
    let mut owners: Vec<String> = jobs.items.iter().map(|j| j.owner_references()[0].name.clone()).collect();
    owners.sort();
    anyhow::ensure!(owners == TASKS.map(|(name, _)| name), "{owners:?}");
    for (name, _) in TASKS {
        let runs = |spec: &&ContainerSpec| {
            let has = |key: &str, value: &str| spec.env.iter().any(|(k, v)| k == key && v == value);
            has("TASK_NAMESPACE", &namespace) && has("TASK_NAME", name)
        };
        let runs = cluster.engine().started().iter().filter(runs).count();
        anyhow::ensure!(runs == 1, "{name} ran {runs} times");
    }
    anyhow::ensure!(faults.done() > 0, "nothing was harmed");
    let ending = tokio::time::timeout(WAIT, operator.shutdown()).await;
    anyhow::ensure!(ending.is_ok(), "the operator does not end");
    Ok(())
}

/// Ends when more Jobs of the Agent that runs one Task at a time are under way.
async fn limit_is_broken(jobs: &Api<Job>) -> anyhow::Result<()> {
    loop {
        let all = jobs.list(&ListParams::default()).await?;
        let under_way = |job: &&Job| {
            let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
            let ended = |c: &JobCondition| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed");
            job.name_any().starts_with("queued") && !conditions.into_iter().any(ended)
        };
        let under_way: Vec<String> = all.items.iter().filter(under_way).map(ResourceExt::name_any).collect();
        anyhow::ensure!(under_way.len() <= 1, "{under_way:?} at a time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
