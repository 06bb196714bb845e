//! The relay's Job at home, in place of the agent's.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvVar, KeyToPath, PodSpec, PodTemplateSpec,
    ResourceRequirements, Secret, SecretVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubetask_api::agent::ClusterTarget;
use kubetask_api::{Task, labels};
use serde::{Deserialize, Serialize};

use super::references::{self, Kind};
use super::spec::{CLUSTER_DIR, CONFIG_MAPS_DIR, Copied, KUBECONFIG_KEY, OWNER, SECRETS_DIR, SPEC_ENV, SUBMIT, Spec};
use crate::names;
use crate::task::{AGENT_CONTAINER, Action, CHANGES_CONTAINER, HUMAN_DIR, Settings, Waiting, human_probe};

/// The volume with word that the agent waits for a person.
const HUMAN: &str = "human";
/// Finalizer of Tasks that have a Job on another cluster: it is deleted before the Task goes.
pub const FINALIZER: &str = "kubetask.io/cluster";

/// Where a Task's Job is, as the annotation [`labels::CLUSTER`] records it before the Job is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// The cluster.
    #[serde(flatten)]
    pub target: ClusterTarget,
    /// The Job's name there.
    pub job: String,
    /// The Job's namespace there.
    pub job_namespace: String,
}

/// Where the Task's Job on another cluster is, if it has one.
pub fn recorded(task: &Task) -> Option<Recorded> {
    let text = task.metadata.annotations.as_ref()?.get(labels::CLUSTER)?;
    serde_json::from_str(text).ok()
}

/// Puts the relay's Job in place of the agent's in a plan's actions. `kubeconfig` is what the operator read for a
/// context of its own; a kubeconfig in a Secret is mounted from there.
///
/// # Errors
/// When the pod needs something that another cluster cannot have.
pub fn relay(
    task: &Task,
    target: &ClusterTarget,
    kubeconfig: Option<&str>,
    actions: Vec<Action>,
    settings: &Settings,
) -> Result<Vec<Action>, Waiting> {
    let mut out = Vec::with_capacity(actions.len() + 2);
    for action in actions {
        let Action::CreateJob(job) = action else {
            out.push(action);
            continue;
        };
        let there = there(task, target, &job)?;
        let record = Recorded {
            target: target.clone(),
            job: there.job.metadata.name.clone().unwrap_or_default(),
            job_namespace: there.job.metadata.namespace.clone().unwrap_or_default(),
        };
        // Before anything is made there, so that it is never left there.
        let held = task.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER);
        if !held || recorded(task).as_ref() != Some(&record) {
            out.insert(0, Action::HoldForCluster { record: serde_json::to_string(&record).unwrap_or_default() });
        }
        let config = match &target.kubeconfig_secret_ref {
            Some(secret) => (secret.name.clone(), secret.key.clone().unwrap_or_else(|| KUBECONFIG_KEY.to_owned())),
            None => {
                let secret = kubeconfig_secret(&job, kubeconfig.unwrap_or_default());
                let name = secret.metadata.name.clone().unwrap_or_default();
                out.push(Action::PutSecret(Box::new(secret)));
                (name, KUBECONFIG_KEY.to_owned())
            }
        };
        out.push(Action::CreateJob(Box::new(here(*job, &there, config, settings))));
    }
    Ok(out)
}

/// What the relay makes on the other cluster.
fn there(task: &Task, target: &ClusterTarget, job: &Job) -> Result<Spec, Waiting> {
    let mut job = job.clone();
    let name = job.metadata.name.clone().unwrap_or_default();
    let namespace = target.namespace.clone().or(task.metadata.namespace.clone()).unwrap_or_default();
    let uid = task.metadata.uid.clone().unwrap_or_default();
    let mut annotations = job.metadata.annotations.take().unwrap_or_default();
    annotations.insert(OWNER.to_owned(), uid.clone());
    job.metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: Some(namespace),
        labels: job.metadata.labels.take(),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    };
    let mut spec = Spec {
        cluster: target.to_string(),
        context: target.context.clone(),
        task: task.metadata.name.clone().unwrap_or_default(),
        namespace: task.metadata.namespace.clone().unwrap_or_default(),
        uid: uid.clone(),
        job: Job::default(),
        config_maps: Vec::new(),
        secrets: Vec::new(),
    };
    if let Some(pod) = job.spec.as_mut().and_then(|s| s.template.spec.as_mut()) {
        let local = pod.volumes.iter().flatten().find(|v| v.host_path.is_some() && v.name.starts_with("repository-"));
        if let Some(path) = local.and_then(|v| v.host_path.as_ref()) {
            let what = format!(
                "the repository {} is a directory of this machine, which another cluster cannot see; give a URL that \
                 it can reach",
                path.path
            );
            return Err(Waiting::Invalid { what });
        }
        references::visit(pod, &mut |kind, reference| {
            let copies = if kind == Kind::ConfigMap { &mut spec.config_maps } else { &mut spec.secrets };
            let type_ = (kind == Kind::PullSecret).then(|| "kubernetes.io/dockerconfigjson".to_owned());
            let from = reference.clone();
            // What was made for this Task has a name of its own already.
            let to = if from.starts_with(&name) {
                from.clone()
            } else {
                names::shorten(&format!("{name}-{from}"), names::NAME_MAX)
            };
            reference.clone_from(&to);
            match copies.iter_mut().find(|copied| copied.from == from) {
                Some(known) => known.type_ = known.type_.take().or(type_),
                None => copies.push(Copied { from, to, type_ }),
            }
        });
    }
    spec.job = job;
    Ok(spec)
}

/// The kubeconfig of a context of the operator's.
fn kubeconfig_secret(job: &Job, kubeconfig: &str) -> Secret {
    let mut metadata = job.metadata.clone();
    metadata.name = metadata.name.map(|name| format!("{name}-cluster"));
    let data = BTreeMap::from([(KUBECONFIG_KEY.to_owned(), ByteString(kubeconfig.as_bytes().to_vec()))]);
    Secret { metadata, data: Some(data), ..Secret::default() }
}

/// The relay's Job.
fn here(job: Job, there: &Spec, config: (String, String), settings: &Settings) -> Job {
    let mut volumes = Vec::new();
    let mut mounts = Vec::new();
    let items = vec![KeyToPath { key: config.1, path: KUBECONFIG_KEY.to_owned(), mode: Some(0o400) }];
    let source =
        SecretVolumeSource { secret_name: Some(config.0), items: Some(items), ..SecretVolumeSource::default() };
    volumes.push(Volume { name: "cluster".to_owned(), secret: Some(source), ..Volume::default() });
    mounts.push(mount("cluster", CLUSTER_DIR.to_owned()));
    for (index, copied) in there.config_maps.iter().enumerate() {
        let volume = format!("configmap-{index}");
        // What is missing is missing there too, and said there.
        let source = ConfigMapVolumeSource { name: copied.from.clone(), optional: Some(true), ..Default::default() };
        mounts.push(mount(&volume, format!("{CONFIG_MAPS_DIR}/{}", copied.from)));
        volumes.push(Volume { name: volume, config_map: Some(source), ..Volume::default() });
    }
    for (index, copied) in there.secrets.iter().enumerate() {
        let volume = format!("secret-{index}");
        let name = Some(copied.from.clone());
        let source = SecretVolumeSource { secret_name: name, optional: Some(true), ..Default::default() };
        mounts.push(mount(&volume, format!("{SECRETS_DIR}/{}", copied.from)));
        volumes.push(Volume { name: volume, secret: Some(source), ..Volume::default() });
    }
    // Where the relay leaves word that the agent there waits for a person.
    let template = job.spec.as_ref().map(|spec| &spec.template);
    let metadata = template.and_then(|template| template.metadata.clone());
    let human = metadata.as_ref().and_then(|m| m.annotations.as_ref()).is_some_and(|a| a.contains_key(labels::HUMAN));
    if human {
        let empty_dir = Some(EmptyDirVolumeSource::default());
        volumes.push(Volume { name: HUMAN.to_owned(), empty_dir, ..Volume::default() });
    }
    // Kubernetes expands `$(NAME)` in values of environment variables; `$$` stands for a dollar sign.
    let spec = serde_json::to_string(there).unwrap_or_default().replace('$', "$$");
    let container = |name: &str, step: &str| Container {
        name: name.to_owned(),
        image: Some(settings.own_image.clone()),
        command: Some(["kubetask", "relay", step].map(str::to_owned).to_vec()),
        env: Some(vec![EnvVar { name: SPEC_ENV.to_owned(), value: Some(spec.clone()), value_from: None }]),
        volume_mounts: Some(mounts.clone()),
        resources: Some(resources()),
        security_context: Some(crate::task::restricted_container()),
        ..Container::default()
    };
    let mut init_containers = vec![container(SUBMIT, "submit")];
    if template.is_some_and(collects_changes) {
        let always = Some("Always".to_owned());
        init_containers.push(Container { restart_policy: always, ..container(CHANGES_CONTAINER, "changes") });
    }
    // What was changed is still to be fetched when the agent has ended.
    let grace = if init_containers.len() > 1 { 30 } else { 5 };
    let mut follow = container(AGENT_CONTAINER, "follow");
    if human {
        let mount = VolumeMount { read_only: None, ..mount(HUMAN, HUMAN_DIR.to_owned()) };
        follow.volume_mounts.get_or_insert_default().push(mount);
        // The container counts as started, as the agent's there does, once that waits.
        follow.startup_probe = Some(human_probe(["kubetask", "relay", "waits"].map(str::to_owned).to_vec()));
    }
    let metadata = metadata.map(|metadata| ObjectMeta {
        annotations: metadata.annotations.map(|mut annotations| {
            // The relay is ours: the engine that the agent asks for is not for it.
            annotations.remove(labels::ENGINE);
            annotations
        }),
        ..metadata
    });
    let mut metadata_here = job.metadata.clone();
    if let Some(labels) = metadata_here.labels.as_mut() {
        // The queue is the other cluster's.
        labels.remove(kubetask_api::labels::KUEUE_QUEUE);
    }
    metadata_here
        .annotations
        .get_or_insert_with(BTreeMap::new)
        .insert(labels::CLUSTER.to_owned(), there.cluster.clone());
    Job {
        metadata: metadata_here,
        spec: Some(JobSpec {
            // How often the agent may fail is counted there; a relay that is lost is replaced.
            backoff_limit: Some(i32::MAX),
            pod_replacement_policy: Some("Failed".to_owned()),
            template: PodTemplateSpec {
                metadata,
                spec: Some(PodSpec {
                    init_containers: Some(init_containers),
                    containers: vec![follow],
                    volumes: Some(volumes),
                    // A relay that ends before it has told how the agent ended is started again.
                    restart_policy: Some("OnFailure".to_owned()),
                    automount_service_account_token: Some(false),
                    enable_service_links: Some(false),
                    termination_grace_period_seconds: Some(grace),
                    security_context: Some(crate::task::restricted_pod(settings)),
                    ..PodSpec::default()
                }),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn collects_changes(template: &PodTemplateSpec) -> bool {
    let containers = template.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    containers.into_iter().any(|container| container.name == CHANGES_CONTAINER)
}

fn mount(volume: &str, path: String) -> VolumeMount {
    VolumeMount { name: volume.to_owned(), mount_path: path, read_only: Some(true), ..VolumeMount::default() }
}

/// A relay mostly waits.
fn resources() -> ResourceRequirements {
    let of = |cpu: &str, memory: &str| {
        let quantity = |text: &str| Quantity(text.to_owned());
        Some(BTreeMap::from([("cpu".to_owned(), quantity(cpu)), ("memory".to_owned(), quantity(memory))]))
    };
    ResourceRequirements { requests: of("10m", "32Mi"), limits: of("1", "256Mi"), ..ResourceRequirements::default() }
}
