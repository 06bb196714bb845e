//! An installation as it lies in a cluster: applied, pruned, waited for.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use kubetask_core::deploy::{self, CONTROLLER, PART_OF, Release, Values};
use serde_json::Value;

use crate::error::{CommandError, CommandResult, chain};
use crate::exit_codes;

/// Field manager of what the command applies.
pub const FIELD_MANAGER: &str = "kubetask-install";

/// Every kind that an installation may hold, besides its namespace and the definitions; what must go first stands first.
pub const KINDS: &[(&str, &str, &str, &str, bool)] = &[
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", true),
    ("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors", true),
    ("", "v1", "Service", "services", true),
    ("apps", "v1", "Deployment", "deployments", true),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", true),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", true),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles", true),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", false),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", false),
    ("", "v1", "ServiceAccount", "serviceaccounts", true),
];

/// What an installation consists of now.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The objects, as `kind.group/name`, in the order in which they were applied.
    pub applied: Vec<String>,
    /// Kind, namespace and name of each.
    identities: BTreeSet<(String, String, String)>,
    /// Whose they are.
    managed_by: String,
}

/// Refuses a server that runs no Deployments, or is too old.
///
/// # Errors
/// When it does not run them, is older, or does not answer.
pub async fn check(client: &Client) -> CommandResult<()> {
    let version = client.apiserver_version().await?;
    if let Some(why) = deploy::too_old(&version.major, &version.minor) {
        return Err(CommandError::usage(why)
            .hint("older ones lack the rules that check tasks, and the sidecars that look at what agents changed"));
    }
    let gvk = GroupVersionKind::gvk("apps", "v1", "Deployment");
    match kube::discovery::pinned_kind(client, &gvk).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code != 404 => Err(kube::Error::Api(status).into()),
        Err(kube::Error::Api(_) | kube::Error::Discovery(_)) => {
            Err(CommandError::usage("this server runs no Deployments: it is no cluster to install into")
                .hint("KubeTask's own server has the operator in it already"))
        }
        Err(other) => Err(other.into()),
    }
}

/// Applies everything. What people changed in fields that are not ours stays.
///
/// # Errors
/// When the server refuses an object; those before it are applied.
pub async fn apply(client: &Client, values: &Values, release: &Release, dry_run: bool) -> CommandResult<Outcome> {
    let mut outcome = Outcome { managed_by: release.managed_by.clone(), ..Outcome::default() };
    let mut objects = deploy::objects(values, release);
    let others = objects.split_off(usize::from(values.namespace.create));
    for object in &objects {
        send(client, object, dry_run, &mut outcome).await?;
    }
    if values.crds.install {
        if dry_run {
            for crd in kubetask_api::crds_json() {
                send(client, &crd, true, &mut outcome).await?;
            }
        } else {
            let made = kubetask_operator::install::definitions(client, crate::version::long()).await;
            made.map_err(|e| CommandError::failure(chain(&e)))?;
            outcome.applied.extend(kubetask_api::crds_json().iter().map(title));
        }
    }
    for object in &others {
        send(client, object, dry_run, &mut outcome).await?;
    }
    Ok(outcome)
}

async fn send(client: &Client, object: &Value, dry_run: bool, outcome: &mut Outcome) -> CommandResult<()> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, namespace, name) = (text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
    let resource = resource(&text("/apiVersion"), &kind);
    let api = api(client, &resource, &namespace);
    let params = PatchParams { dry_run, ..PatchParams::apply(FIELD_MANAGER).force() };
    match api.patch(&name, &params, &Patch::Apply(object)).await {
        Ok(_) => {}
        // Its namespace would be made by this very command.
        Err(kube::Error::Api(status)) if dry_run && status.code == 404 && !namespace.is_empty() => {}
        Err(kube::Error::Api(status)) => {
            let code = if status.code == 403 { exit_codes::FAILURE } else { exit_codes::USAGE };
            return Err(CommandError::of(code, vec![format!("{}: {}", title(object), status.message)]));
        }
        Err(error) => return Err(error.into()),
    }
    outcome.applied.push(title(object));
    outcome.identities.insert((kind, namespace, name));
    Ok(())
}

/// Deletes what an earlier installation made and this one does not have any more.
///
/// # Errors
/// When the server says no.
pub async fn prune(client: &Client, outcome: &Outcome) -> CommandResult<Vec<String>> {
    let mut deleted = Vec::new();
    for (resource, object) in found(client, &outcome.managed_by).await? {
        let namespace = object.namespace().unwrap_or_default();
        let name = object.name_any();
        if outcome.identities.contains(&(resource.kind.clone(), namespace.clone(), name.clone())) {
            continue;
        }
        remove(&api(client, &resource, &namespace), &name).await?;
        deleted.push(title_of(&resource, &name));
    }
    Ok(deleted)
}

/// Everything of an installation that is there, by its labels.
///
/// # Errors
/// When the server says no.
pub(crate) async fn found(client: &Client, managed_by: &str) -> CommandResult<Vec<(ApiResource, DynamicObject)>> {
    let selector = format!("{PART_OF}=kubetask,app.kubernetes.io/managed-by={managed_by}");
    let params = ListParams::default().labels(&selector);
    let mut all = Vec::new();
    for (group, version, kind, plural, _) in KINDS {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        match Api::<DynamicObject>::all_with(client.clone(), &resource).list(&params).await {
            Ok(list) => all.extend(list.items.into_iter().map(|object| (resource.clone(), object))),
            // A kind that this server does not have.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(all)
}

/// Deletes an object; one that is gone already is as good.
///
/// # Errors
/// When the server says no.
pub(crate) async fn remove(api: &Api<DynamicObject>, name: &str) -> CommandResult<()> {
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits until all replicas of the operator are ready.
///
/// # Errors
/// When they are not in time; with what the Deployment says of itself.
pub(super) async fn wait(client: &Client, release: &Release, timeout: Duration) -> CommandResult<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &release.namespace);
    let ready = await_condition(deployments.clone(), CONTROLLER, |deployment: Option<&Deployment>| {
        deployment.is_some_and(|deployment| {
            let wanted = deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
            let status = deployment.status.clone().unwrap_or_default();
            status.observed_generation >= deployment.metadata.generation
                && status.updated_replicas.unwrap_or(0) >= wanted
                && status.available_replicas.unwrap_or(0) >= wanted
        })
    });
    match tokio::time::timeout(timeout, ready).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(CommandError::failure(chain(&error))),
        Err(_) => {
            let said = deployments.get(CONTROLLER).await.ok().and_then(|d| d.status).unwrap_or_default();
            let why: Vec<String> = said
                .conditions
                .unwrap_or_default()
                .into_iter()
                .filter(|c| c.status != "True")
                .filter_map(|c| c.message)
                .collect();
            let message = format!("the operator is not ready after {}s {}", timeout.as_secs(), why.join("; "));
            let hint = format!("kubectl -n {} describe deployment {CONTROLLER}", release.namespace);
            Err(CommandError::timeout(message).hint(hint))
        }
    }
}

pub(crate) fn api(client: &Client, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
    if namespace.is_empty() {
        Api::all_with(client.clone(), resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, resource)
    }
}

fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let plural = KINDS.iter().find(|known| known.2 == kind).map(|known| known.3);
    let plural = plural.unwrap_or(if kind == "Namespace" { "namespaces" } else { "customresourcedefinitions" });
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// `deployment.apps/name`.
fn title(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    title_of(&resource(text("/apiVersion"), text("/kind")), text("/metadata/name"))
}

pub(crate) fn title_of(resource: &ApiResource, name: &str) -> String {
    let kind = resource.kind.to_lowercase();
    if resource.group.is_empty() { format!("{kind}/{name}") } else { format!("{kind}.{}/{name}", resource.group) }
}
