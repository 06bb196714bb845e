//! What Kubernetes says of a Task's Job and Pods stands in its status at once: measured by watching both, a row a cause.

use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::Api;
use kube::api::DeleteParams;
use kube::runtime::watcher::{self, watcher};
use kubetask_api::{Task, TaskPhase, reasons};
use kubetask_testkit::{Script, TestCluster, WAIT};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use crate::{agent, status, task};

/// How late a status may be on a machine that has much else to do. A second is what is promised; the figures are printed.
const LATE: Duration = Duration::from_secs(5);

/// What a watch showed.
#[derive(Debug)]
enum Seen {
    Task(Box<Task>),
    Job(Box<Job>),
    JobGone,
    Pod(Box<Pod>),
    Event(Box<Event>),
}

/// What is done to a Task that runs.
#[derive(Clone, Copy)]
enum Done {
    Nothing,
    DeleteJob,
    DeletePod,
}

/// Why a Task does not go on, and when Kubernetes has said so.
struct Cause {
    /// Name of the Task.
    name: &'static str,
    /// What is there before.
    objects: &'static str,
    agent: &'static str,
    spec: &'static str,
    done: Done,
    said: fn(&Seen) -> bool,
    reason: &'static str,
    /// Part of what tells the user what to do.
    advice: &'static str,
}

const CAUSES: &[Cause] = &[
    Cause {
        name: "image",
        objects: "",
        agent: "{agentImage: 'acme/none:1'}",
        spec: "",
        done: Done::Nothing,
        said: |seen| waits(seen, &["ErrImagePull", "ImagePullBackOff"]),
        reason: reasons::IMAGE_PULL,
        advice: "check the Agent's agentImage, imagePullSecrets",
    },
    Cause {
        name: "unschedulable",
        objects: "",
        agent: "{agentImage: acme, scheduling: {nodeSelector: {nowhere: to-be-found}}}",
        spec: "",
        done: Done::Nothing,
        said: |seen| pod(seen).is_some_and(|pod| condition(pod, "PodScheduled", "False")),
        reason: reasons::UNSCHEDULABLE,
        advice: "change its scheduling",
    },
    Cause {
        name: "evicted",
        objects: "",
        agent: "{agentImage: acme, workspace: {emptyDir: {sizeLimit: 1Ki}}}",
        spec: "",
        done: Done::Nothing,
        said: failed,
        reason: reasons::EVICTED,
        advice: "kubetask retry -n default evicted",
    },
    Cause {
        name: "pod-deleted",
        objects: "",
        agent: "{agentImage: acme}",
        spec: "",
        done: Done::DeletePod,
        said: failed,
        reason: reasons::POD_LOST,
        advice: "kubetask retry -n default pod-deleted",
    },
    Cause {
        name: "job-deleted",
        objects: "",
        agent: "{agentImage: acme}",
        spec: "",
        done: Done::DeleteJob,
        said: |seen| matches!(seen, Seen::JobGone),
        reason: reasons::JOB_LOST,
        advice: "kubetask retry -n default job-deleted",
    },
    Cause {
        name: "deadline",
        objects: "",
        agent: "{agentImage: acme}",
        spec: ", timeoutSeconds: 1",
        done: Done::Nothing,
        said: failed,
        reason: reasons::DEADLINE_EXCEEDED,
        advice: "set a greater one",
    },
    Cause {
        name: "memory",
        objects: "",
        agent: "{agentImage: acme}",
        spec: "",
        done: Done::Nothing,
        said: failed,
        reason: reasons::OUT_OF_MEMORY,
        advice: "raise resources.limits.memory",
    },
    Cause {
        name: "no-account",
        objects: "",
        agent: "{agentImage: acme, serviceAccountName: nobody}",
        spec: "",
        done: Done::Nothing,
        said: created,
        reason: reasons::SERVICE_ACCOUNT_NOT_FOUND,
        advice: "create it",
    },
    Cause {
        name: "no-secret",
        objects: "",
        agent: "{agentImage: acme, credentials: [{name: c, secretRef: {name: none, key: token}, env: TOKEN}]}",
        spec: "",
        done: Done::Nothing,
        said: created,
        reason: reasons::SECRET_NOT_FOUND,
        advice: "goes on when it is created",
    },
    // The last one: the quota holds for all.
    Cause {
        name: "quota",
        objects: "{apiVersion: v1, kind: ResourceQuota, metadata: {name: few}, spec: {hard: {pods: '0'}}}\n---\n",
        agent: "{agentImage: acme}",
        spec: "",
        done: Done::Nothing,
        said: |seen| matches!(seen, Seen::Event(event) if event.reason.as_deref() == Some("FailedCreate")),
        reason: reasons::POD_REJECTED,
        advice: "goes on when the quota",
    },
];

fn pod(seen: &Seen) -> Option<&Pod> {
    if let Seen::Pod(pod) = seen { Some(pod) } else { None }
}

fn condition(pod: &Pod, type_: &str, is: &str) -> bool {
    let all = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    all.into_iter().any(|condition| condition.type_ == type_ && condition.status == is)
}

fn waits(seen: &Seen, reasons: &[&str]) -> bool {
    let all = pod(seen).and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref());
    let why = |of: &ContainerStatus| of.state.as_ref()?.waiting.as_ref()?.reason.clone();
    all.into_iter().flatten().any(|container| why(container).is_some_and(|why| reasons.contains(&why.as_str())))
}

/// The Job has failed: before that a Pod that ended may still be run again.
fn failed(seen: &Seen) -> bool {
    let Seen::Job(job) = seen else { return false };
    let all = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    all.into_iter().any(|condition| condition.type_ == "Failed" && condition.status == "True")
}

/// What is missing is missing from the beginning.
fn created(seen: &Seen) -> bool {
    matches!(seen, Seen::Task(_))
}

/// Tells what a watch shows, and when.
fn watch<K>(api: Api<K>, tell: UnboundedSender<(Instant, Seen)>, seen: fn(K) -> Seen, gone: Option<fn() -> Seen>)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    tokio::spawn(async move {
        let mut changes = std::pin::pin!(watcher(api, watcher::Config::default()));
        while let Some(change) = changes.next().await {
            let told = match change {
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => seen(object),
                Ok(watcher::Event::Delete(_)) if let Some(gone) = gone => gone(),
                _ => continue,
            };
            if tell.send((Instant::now(), told)).is_err() {
                return;
            }
        }
    });
}

fn watch_all(cluster: &TestCluster) -> UnboundedReceiver<(Instant, Seen)> {
    let (tell, told) = unbounded_channel();
    watch(cluster.api::<Task>(), tell.clone(), |task| Seen::Task(Box::new(task)), None);
    watch(cluster.api::<Job>(), tell.clone(), |job| Seen::Job(Box::new(job)), Some(|| Seen::JobGone));
    watch(cluster.api::<Pod>(), tell.clone(), |pod| Seen::Pod(Box::new(pod)), None);
    watch(cluster.api::<Event>(), tell, |event| Seen::Event(Box::new(event)), None);
    told
}

async fn act(cluster: &TestCluster, cause: &Cause) -> anyhow::Result<()> {
    if matches!(cause.done, Done::Nothing) {
        return Ok(());
    }
    let running = cluster.wait_for_phase(cause.name, TaskPhase::Running).await?;
    let (job, pod) = (status(&running).job_name.clone().unwrap(), status(&running).pod_name.clone().unwrap());
    match cause.done {
        Done::Nothing => {}
        Done::DeleteJob => drop(cluster.api::<Job>().delete(&job, &DeleteParams::background()).await?),
        Done::DeletePod => drop(cluster.api::<Pod>().delete(&pod, &DeleteParams::default()).await?),
    }
    Ok(())
}

/// How long after Kubernetes has said it the status says it.
async fn measure(cluster: &TestCluster, cause: &Cause) -> anyhow::Result<Duration> {
    // From here on it is watched, and what is there has nothing to do with this Task.
    let mut watched = watch_all(cluster);
    let mut named = agent(cause.name, cause.agent);
    if cause.agent.contains("serviceAccountName") {
        named = named.replace("serviceAccountName: default, ", "");
    }
    let spec = format!("{{prompt: hi, agentRef: {}{}}}", cause.name, cause.spec);
    cluster.apply(&(cause.objects.to_owned() + &named + &task(cause.name, &spec))).await?;
    act(cluster, cause).await?;
    let (mut said, mut told) = (None, None);
    let deadline = Instant::now() + WAIT;
    while said.is_none() || told.is_none() {
        let next = tokio::time::timeout_at(deadline, watched.recv()).await;
        let Ok(Some((at, seen))) = next else {
            let task = cluster.task(cause.name).await?;
            anyhow::bail!("{}: said {}, told {}: {:?}", cause.name, said.is_some(), told.is_some(), task.status);
        };
        if said.is_none() && is_about(&seen, cause.name) && (cause.said)(&seen) {
            said = Some(at);
        }
        if let Seen::Task(task) = &seen
            && told.is_none()
            && is_about(&seen, cause.name)
            && task.status.as_ref().and_then(|status| status.reason.as_deref()) == Some(cause.reason)
        {
            let message = status(task).message.clone().unwrap_or_default();
            anyhow::ensure!(message.contains(cause.advice), "{}: what to do? {message}", cause.name);
            told = Some(at);
        }
    }
    Ok(told.unwrap().saturating_duration_since(said.unwrap()))
}

/// Whether something is about the Task of that name: its Job and Pods begin with it.
fn is_about(seen: &Seen, task: &str) -> bool {
    let name = match seen {
        Seen::Task(of) => return of.metadata.name.as_deref() == Some(task),
        Seen::Job(job) => job.metadata.name.as_deref(),
        Seen::Pod(pod) => pod.metadata.name.as_deref(),
        Seen::Event(event) => event.involved_object.name.as_deref(),
        // Only one of them is deleted.
        Seen::JobGone => return true,
    };
    name.is_some_and(|name| name.strip_prefix(task).is_some_and(|rest| rest.starts_with('-')))
}

#[tokio::test]
async fn lifecycle_troubles_are_in_the_status_within_a_second_with_what_to_do() -> anyhow::Result<()> {
    let cluster = TestCluster::start().await?;
    cluster.engine().missing_image("acme/none:1");
    cluster.engine().on(|spec| {
        let task = spec.env.iter().find(|(name, _)| name == "TASK_NAME")?.1.as_str();
        Some(match task {
            "memory" => Script::exits(137).after(Duration::from_millis(300)).out_of_memory(),
            "evicted" => Script::runs_until_stopped().writes("/workspace/large", &"x".repeat(64 * 1024)),
            _ => Script::runs_until_stopped(),
        })
    });
    let figures: Vec<(&str, Duration)> = stream::iter(CAUSES)
        .then(async |cause| measure(&cluster, cause).await.map(|late| (cause.name, late)))
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<anyhow::Result<_>>()?;
    for (name, late) in &figures {
        println!("{name:>14}: {} ms", late.as_millis());
    }
    assert!(figures.iter().all(|(_, late)| *late <= LATE), "{figures:?}");
    cluster.shutdown().await;
    Ok(())
}
