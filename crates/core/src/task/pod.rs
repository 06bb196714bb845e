//! The pod of a Task: the agent's container, and the init containers that prepare its workspace.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, PodSpec, PodTemplateSpec,
    ResourceRequirements, SecretEnvSource, SecretKeySelector, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubetask_api::agent::AgentSpec;
use kubetask_api::{Task, labels};

use super::volumes::{self, TOOLS_DIR, Volumes};
use super::{Settings, Waiting, changes, human, ownership, security, trace};
use crate::context::{Resolved, fetch};

/// The name of the agent's container.
pub const AGENT_CONTAINER: &str = "agent";
/// Tells the agent where its first repository is.
const REPOSITORY_ENV: &str = "KUBETASK_REPOSITORY";
/// The annotation that tells kubectl which container is meant when none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// The search path when tools are mounted and the Agent sets none: what container images commonly have.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Builds the pod's template. `stored` is the name of the Task's ConfigMap and Secret.
pub(super) fn build(
    task: &Task,
    agent: &AgentSpec,
    resolved: &Resolved,
    stored: &str,
    settings: &Settings,
) -> Result<PodTemplateSpec, Waiting> {
    let keep_alive = human::keep_alive_seconds(task.spec.human_in_the_loop.as_ref(), agent.human_in_the_loop.as_ref());
    if keep_alive.is_some() && agent.command.is_empty() {
        let what = "humanInTheLoop needs the Agent's command: KubeTask cannot wrap an image's own entrypoint; set \
                    spec.command of the Agent, or turn humanInTheLoop off";
        return Err(Waiting::Invalid { what: what.to_owned() });
    }
    let mut volumes = volumes::build(agent, resolved, stored);
    if keep_alive.is_some() {
        volumes.human();
    }
    check_mounts(&volumes.agent)?;

    let command = match keep_alive {
        Some(_) => human::wrap(&agent.command),
        None => agent.command.clone(),
    };
    let (env, env_from) = environment(task, agent, resolved, keep_alive, settings);
    let container = Container {
        name: AGENT_CONTAINER.to_owned(),
        image: Some(agent.agent_image.clone().unwrap_or_else(|| settings.default_agent_image.clone())),
        image_pull_policy: agent.image_pull_policy.map(|p| p.as_str().to_owned()),
        command: (!command.is_empty()).then_some(command),
        env: Some(env),
        env_from: (!env_from.is_empty()).then_some(env_from),
        resources: agent.resources.clone(),
        volume_mounts: Some(volumes.agent.clone()),
        security_context: Some(agent.security_context.clone().unwrap_or_else(security::container)),
        termination_message_policy: Some("File".to_owned()),
        startup_probe: keep_alive.map(|_| human::probe()),
        ..Container::default()
    };
    let mut init_containers = init_containers(agent, resolved, &volumes, settings);
    init_containers.extend(changes::container(agent, resolved, &volumes, settings));
    let scheduling = agent.scheduling.clone().unwrap_or_default();
    let spec = PodSpec {
        init_containers: (!init_containers.is_empty()).then_some(init_containers),
        containers: vec![container],
        volumes: Some(volumes.volumes),
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(agent.service_account_name.clone()),
        automount_service_account_token: Some(agent.automount_service_account_token.unwrap_or(false)),
        enable_service_links: Some(false),
        node_selector: (!scheduling.node_selector.is_empty()).then_some(scheduling.node_selector),
        tolerations: (!scheduling.tolerations.is_empty()).then_some(scheduling.tolerations),
        affinity: scheduling.affinity,
        image_pull_secrets: (!agent.image_pull_secrets.is_empty()).then(|| agent.image_pull_secrets.clone()),
        runtime_class_name: agent.runtime_class_name.clone(),
        security_context: Some(agent.pod_security_context.clone().unwrap_or_else(|| security::pod(settings))),
        ..PodSpec::default()
    };
    let mut metadata = metadata(task, agent, keep_alive);
    if spec.init_containers.is_some() {
        // kubectl would say at each use that it chose among several.
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(DEFAULT_CONTAINER.to_owned(), AGENT_CONTAINER.to_owned());
    }
    Ok(PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) })
}

/// The Agent's labels, and ours over them.
fn metadata(task: &Task, agent: &AgentSpec, keep_alive: Option<i32>) -> ObjectMeta {
    let mut pod_labels: BTreeMap<String, String> = agent.pod_labels.clone();
    pod_labels.extend(ownership::task_labels(task, "agent"));
    let mut annotations = ownership::task_annotations(task);
    if let Some(runtime) = agent.runtime {
        annotations.insert(labels::ENGINE.to_owned(), runtime.engine().to_owned());
    }
    if let Some(seconds) = keep_alive {
        annotations.insert(labels::HUMAN.to_owned(), seconds.to_string());
    }
    ObjectMeta {
        labels: Some(pod_labels),
        annotations: (!annotations.is_empty()).then_some(annotations),
        ..ObjectMeta::default()
    }
}

/// Kubernetes would refuse two mounts at one path, in words that do not name the Agent's credentials.
fn check_mounts(mounts: &[VolumeMount]) -> Result<(), Waiting> {
    let mut seen = BTreeSet::new();
    match mounts.iter().find(|m| !seen.insert(m.mount_path.as_str())) {
        Some(twice) => Err(Waiting::Invalid {
            what: format!(
                "two things want to be mounted at {}: a context, a credential, the tools or the workspace; use \
                 different paths",
                twice.mount_path
            ),
        }),
        None => Ok(()),
    }
}

/// Variables, later ones in place of earlier ones of the same name; what KubeTask promises cannot be overridden.
fn environment(
    task: &Task,
    agent: &AgentSpec,
    resolved: &Resolved,
    keep_alive: Option<i32>,
    settings: &Settings,
) -> (Vec<EnvVar>, Vec<EnvFromSource>) {
    let mut env = vec![value("TASK_NAME", ownership::name(task)), value("TASK_NAMESPACE", ownership::namespace(task))];
    if let Some(first) = resolved.repositories.first() {
        env.push(value(REPOSITORY_ENV, &escape(&first.git.path)));
    }
    if let Some(seconds) = keep_alive {
        env.push(value(human::KEEP_ALIVE_ENV, &seconds.to_string()));
        for (name, path) in [("KUBETASK_POD_NAME", "metadata.name"), ("KUBETASK_POD_NAMESPACE", "metadata.namespace")] {
            let field = ObjectFieldSelector { field_path: path.to_owned(), api_version: None };
            let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
            env.push(EnvVar { name: name.to_owned(), value_from: Some(source), value: None });
        }
    }
    let promised = env.len();
    if settings.traces || trace::TraceContext::given(task).is_some() {
        env.push(value("TRACEPARENT", &trace::for_agent(task)));
    }
    for variable in &agent.env {
        set(&mut env, promised, variable.clone());
    }
    if agent.tools_image.is_some() {
        let path = agent.env.iter().find(|e| e.name == "PATH").and_then(|e| e.value.as_deref());
        set(&mut env, promised, value("PATH", &format!("{TOOLS_DIR}/bin:{}", path.unwrap_or(USUAL_PATH))));
    }
    let mut env_from = Vec::new();
    for credential in &agent.credentials {
        let secret = &credential.secret_ref;
        match (&credential.env, &secret.key) {
            (Some(name), Some(key)) => set(&mut env, promised, from_secret(name, &secret.name, key, None)),
            (None, None) if credential.mount_path.is_none() => {
                let source = SecretEnvSource { name: secret.name.clone(), optional: None };
                env_from.push(EnvFromSource { secret_ref: Some(source), ..EnvFromSource::default() });
            }
            _ => {}
        }
    }
    (env, env_from)
}

fn set(env: &mut Vec<EnvVar>, promised: usize, variable: EnvVar) {
    match env.iter().position(|e| e.name == variable.name) {
        Some(index) if index < promised => {}
        Some(index) => {
            if let Some(slot) = env.get_mut(index) {
                *slot = variable;
            }
        }
        None => env.push(variable),
    }
}

pub(super) fn value(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

fn from_secret(name: &str, secret: &str, key: &str, optional: Option<bool>) -> EnvVar {
    let selector = SecretKeySelector { name: secret.to_owned(), key: key.to_owned(), optional };
    let source = EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value_from: Some(source), value: None }
}

/// Tools first, then repositories in order, then files.
fn init_containers(agent: &AgentSpec, resolved: &Resolved, volumes: &Volumes, settings: &Settings) -> Vec<Container> {
    // The same resources as the agent's: a pod's need is the greater of the two, so it costs nothing, and a quota that
    // wants limits on every container is content.
    let resources = agent.resources.clone().map(|r| ResourceRequirements { claims: None, ..r });
    let base = |name: String, mounts: &[VolumeMount]| Container {
        name,
        volume_mounts: Some(mounts.to_vec()),
        resources: resources.clone(),
        security_context: Some(security::container()),
        ..Container::default()
    };
    let mut out = Vec::new();
    if let Some(image) = &agent.tools_image {
        let script = "cp -R \"$1\"/. \"$2\"";
        out.push(Container {
            image: Some(image.clone()),
            image_pull_policy: agent.image_pull_policy.map(|p| p.as_str().to_owned()),
            command: Some(["sh", "-c", script, "kubetask", TOOLS_DIR, "/kubetask/tools"].map(str::to_owned).to_vec()),
            ..base("tools".to_owned(), &volumes.tools)
        });
    }
    let own = |name: String, mounts: &[VolumeMount], command: &[&str], env: Vec<EnvVar>| Container {
        image: Some(settings.own_image.clone()),
        command: Some(["kubetask", "context"].iter().chain(command).map(|s| (*s).to_owned()).collect()),
        env: (!env.is_empty()).then_some(env),
        ..base(name, mounts)
    };
    for (index, (checkout, mounts)) in resolved.repositories.iter().zip(&volumes.git).enumerate() {
        let job = serde_json::to_string(&checkout.git).unwrap_or_default();
        out.push(own(format!("repository-{index}"), mounts, &["git"], vec![value(fetch::GIT_ENV, &escape(&job))]));
    }
    if !resolved.fetch.files.is_empty() {
        let headers = resolved.headers.iter();
        let env = headers.map(|h| from_secret(&h.env, &h.key.name, &h.key.key, h.key.optional)).collect();
        let plan = format!("{}/{}", fetch::FILES_DIR, fetch::PLAN_KEY);
        out.push(own("files".to_owned(), &volumes.fetch, &["fetch", &plan], env));
    }
    out
}

/// Kubernetes expands `$(NAME)` in values of environment variables; `$$` stands for a dollar sign.
pub(super) fn escape(value: &str) -> String {
    value.replace('$', "$$")
}
