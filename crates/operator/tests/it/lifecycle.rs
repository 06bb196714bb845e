//! From Pending to the end.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, EvictParams};
use kubetask_api::{Task, TaskPhase, conditions, reasons};
use kubetask_testkit::{Script, TestCluster};

use crate::{agent, events, jobs, pods, reason, status, task};

#[tokio::test]
async fn task_runs_and_completes() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped().writes("/dev/termination-log", "did it"));
    cluster.apply(&task("t", "{prompt: hi}")).await?;

    let running = cluster.wait_for_phase("t", TaskPhase::Running).await?;
    assert_eq!(reason(&running, conditions::ACCEPTED, "True"), Some(reasons::BUILT_IN_AGENT));
    assert_eq!(reason(&running, conditions::CONTEXTS_RESOLVED, "True"), Some(reasons::RESOLVED));
    assert_eq!(reason(&running, conditions::ADMITTED, "True"), Some(reasons::ADMITTED));
    assert_eq!(reason(&running, conditions::RUNNING, "True"), Some(reasons::RUNNING));
    let at_work = status(&running);
    assert_eq!((at_work.agent.as_deref(), at_work.attempts), (Some("default"), Some(1)));
    assert!(at_work.start_time.is_some() && at_work.completion_time.is_none() && at_work.exit_code.is_none());
    assert_eq!(jobs(&cluster).await?, [at_work.job_name.clone().unwrap()]);
    assert_eq!(pods(&cluster).await?, [at_work.pod_name.clone().unwrap()]);

    let container = cluster.wait_for_agent("t", 1).await?;
    assert_eq!(cluster.file(&container, "/workspace/task.md")?, "hi");
    cluster.engine().finish(&container.id, 0);

    let done = cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    let end = status(&done);
    assert_eq!((end.exit_code, end.attempts, end.result.as_deref()), (Some(0), Some(1), Some("did it")));
    assert_eq!(end.reason.as_deref(), Some(reasons::COMPLETED));
    assert_eq!((&end.job_name, &end.pod_name), (&at_work.job_name, &at_work.pod_name));
    assert_eq!(end.start_time, at_work.start_time);
    assert!(end.completion_time >= end.start_time);
    assert_eq!(end.observed_generation, done.metadata.generation);
    assert_eq!(reason(&done, conditions::COMPLETE, "True"), Some(reasons::COMPLETED));
    assert_eq!(reason(&done, conditions::RUNNING, "False"), Some(reasons::FINISHED));

    // What happened is told as events, each once.
    assert_eq!(
        events(&cluster, "t", reasons::COMPLETED).await?,
        [reasons::COMPLETED, reasons::JOB_CREATED, reasons::RUNNING]
    );
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn task_fails_with_its_exit_code() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::exits(3));
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    let failed = cluster.wait_for_phase("t", TaskPhase::Failed).await?;
    let end = status(&failed);
    assert_eq!((end.exit_code, end.reason.as_deref()), (Some(3), Some(reasons::EXIT_CODE)));
    assert!(end.message.as_deref().unwrap().contains("kubectl logs -n default job/t-"), "{end:?}");
    assert_eq!(reason(&failed, conditions::FAILED, "True"), Some(reasons::EXIT_CODE));
    assert_eq!(reason(&failed, conditions::COMPLETE, "True"), None);
    assert_eq!(cluster.agents("t").len(), 1, "an agent never runs twice unless asked to");
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn task_out_of_memory_and_one_that_cannot_start() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().on(|spec| {
        let task = spec.env.iter().find(|(name, _)| name == "TASK_NAME")?.1.clone();
        Some(if task == "greedy" {
            Script::exits(137).out_of_memory()
        } else {
            Script::fails_to_start("no such program")
        })
    });
    cluster.apply(&(task("greedy", "{prompt: hi}") + &task("nowhere", "{prompt: hi}"))).await?;
    let greedy = cluster.wait_for_phase("greedy", TaskPhase::Failed).await?;
    assert_eq!(status(&greedy).reason.as_deref(), Some(reasons::OUT_OF_MEMORY));
    let nowhere = cluster.wait_for_phase("nowhere", TaskPhase::Failed).await?;
    assert_eq!(status(&nowhere).reason.as_deref(), Some(reasons::EXIT_CODE), "{:?}", status(&nowhere));
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn task_with_an_image_that_cannot_be_pulled_says_so() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().missing_image("acme/none:1");
    cluster.apply(&(agent("a", "{agentImage: 'acme/none:1'}") + &task("t", "{agentRef: a, prompt: hi}"))).await?;
    let waits = cluster.wait_for_reason("t", reasons::IMAGE_PULL).await?;
    assert_eq!(waits.phase(), TaskPhase::Pending);
    assert!(status(&waits).message.as_deref().unwrap().contains("acme/none:1"));
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn task_retries_as_often_as_asked() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    let engine = cluster.engine().clone();
    let count = std::sync::atomic::AtomicUsize::new(0);
    engine.on(move |_| {
        let earlier = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some(Script::exits(if earlier == 0 { 1 } else { 0 }).writes("/dev/termination-log", "second time"))
    });
    cluster.apply(&task("t", "{prompt: hi, retries: 2}")).await?;
    let done = cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    let end = status(&done);
    assert_eq!((end.attempts, end.exit_code, end.result.as_deref()), (Some(2), Some(0), Some("second time")));
    assert_eq!(cluster.agents("t").len(), 2);
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn task_that_runs_too_long_is_ended() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    cluster.apply(&task("t", "{prompt: hi, timeoutSeconds: 1}")).await?;
    let failed = cluster.wait_for_phase("t", TaskPhase::Failed).await?;
    assert_eq!(status(&failed).reason.as_deref(), Some(reasons::DEADLINE_EXCEEDED));
    assert!(status(&failed).message.as_deref().unwrap().contains("of 1 seconds"));
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn task_whose_job_is_deleted_is_lost() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    let running = cluster.wait_for_phase("t", TaskPhase::Running).await?;
    let job = status(&running).job_name.clone().unwrap();
    cluster.api::<Job>().delete(&job, &DeleteParams::background()).await?;
    let failed = cluster.wait_for_phase("t", TaskPhase::Failed).await?;
    assert_eq!(status(&failed).reason.as_deref(), Some(reasons::JOB_LOST));
    assert_eq!(jobs(&cluster).await?, Vec::<String>::new(), "it is not created again");
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn task_whose_pod_is_deleted_says_so() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    let running = cluster.wait_for_phase("t", TaskPhase::Running).await?;
    let pod = status(&running).pod_name.clone().unwrap();
    cluster.api::<Pod>().delete(&pod, &DeleteParams::default()).await?;
    let failed = cluster.wait_for_phase("t", TaskPhase::Failed).await?;
    let end = status(&failed);
    assert_eq!(end.reason.as_deref(), Some(reasons::POD_LOST), "{end:?}");
    assert_eq!(cluster.agents("t").len(), 1);
    cluster.shutdown().await;
    Ok(())
}

/// As `kubectl drain` does it.
#[tokio::test]
async fn task_whose_pod_is_evicted_says_so() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    cluster.wait_for_phase("t", TaskPhase::Running).await?;
    let pod = pods(&cluster).await?.remove(0);
    cluster.api::<Pod>().evict(&pod, &EvictParams::default()).await?;
    let failed = cluster.wait_for_phase("t", TaskPhase::Failed).await?;
    assert_eq!(status(&failed).reason.as_deref(), Some(reasons::EVICTED));
    let message = status(&failed).message.clone().unwrap_or_default();
    assert!(message.contains("Eviction API: evicting") && message.contains("kubetask retry"), "{message}");
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn task_deleted_while_it_runs_takes_everything_with_it() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    let running = cluster.wait_for_phase("t", TaskPhase::Running).await?;
    let (job, pod) = (status(&running).job_name.clone().unwrap(), status(&running).pod_name.clone().unwrap());
    cluster.api::<Task>().delete("t", &DeleteParams::default()).await?;
    cluster.wait_for(&cluster.api::<Job>(), &job, "gone", |job| job.is_none()).await?;
    cluster.wait_for(&cluster.api::<Pod>(), &pod, "gone", |pod| pod.is_none()).await?;
    let files = format!("{job}-files");
    cluster.wait_for(&cluster.api::<ConfigMap>(), &files, "gone", |map| map.is_none()).await?;

    // Another Task of that name has nothing to do with the old one.
    cluster.engine().always(Script::exits(0));
    cluster.apply(&task("t", "{prompt: again}")).await?;
    let done = cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    assert_ne!(status(&done).job_name, Some(job));
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn task_of_an_agent_sees_its_files_credentials_and_environment() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::exits(0).after(Duration::from_millis(200)));
    let objects = "
{apiVersion: v1, kind: ConfigMap, metadata: {name: guides}, data: {style.md: be brief}}
---
{apiVersion: v1, kind: Secret, metadata: {name: key}, stringData: {token: s3cret}}
---
";
    let agent = agent(
        "a",
        "{agentImage: acme, command: [agent, --run], env: [{name: MODE, value: fast}],
          defaultContexts: [{type: File, file: {filePath: /workspace/task.md, source: {configMapKeyRef: {name: guides, key: style.md}}}}],
          credentials: [{name: c, secretRef: {name: key, key: token}, env: TOKEN}]}",
    );
    cluster.apply(&(objects.to_owned() + "\n" + &agent + &task("t", "{agentRef: a, prompt: go}"))).await?;
    let container = cluster.wait_for_agent("t", 1).await?;
    let seen = cluster.file(&container, "/workspace/task.md")?;
    assert_eq!(seen, "<context index=\"0\">\nbe brief\n</context>\n\n<context index=\"1\">\ngo\n</context>");
    assert_eq!(container.command, ["agent", "--run"]);
    for (name, value) in [("MODE", "fast"), ("TOKEN", "s3cret"), ("TASK_NAMESPACE", "default")] {
        assert!(container.env.iter().any(|(n, v)| n == name && v == value), "{name}: {:?}", container.env);
    }
    cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    cluster.shutdown().await;
    Ok(())
}
