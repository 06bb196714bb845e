//! From what people type (`task`, `tasks.kubetask.io`, `po`, a kind) to an API resource, by the server's discovery.

use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{ApiCapabilities, Scope};

use crate::error::{CommandError, CommandResult};

/// A resource and how it may be reached.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Group, version, kind and plural.
    pub api: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// The API for objects of this resource.
    pub fn objects(&self, client: &Client, namespace: &str) -> Api<DynamicObject> {
        if self.namespaced {
            Api::namespaced_with(client.clone(), namespace, &self.api)
        } else {
            Api::all_with(client.clone(), &self.api)
        }
    }

    /// The API for the objects of all namespaces.
    pub fn everywhere(&self, client: &Client) -> Api<DynamicObject> {
        Api::all_with(client.clone(), &self.api)
    }

    /// `tasks.kubetask.io`, or `pods` for the core group.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.api.group.is_empty() {
            self.api.plural.clone()
        } else {
            format!("{}.{}", self.api.plural, self.api.group)
        }
    }

    /// `task.kubetask.io/name`, as kubectl names objects.
    #[must_use]
    pub fn object_name(&self, name: &str) -> String {
        let kind = self.api.kind.to_lowercase();
        if self.api.group.is_empty() { format!("{kind}/{name}") } else { format!("{kind}.{}/{name}", self.api.group) }
    }

    fn from_discovery((api, capabilities): (ApiResource, ApiCapabilities)) -> Self {
        Self { api, namespaced: matches!(capabilities.scope, Scope::Namespaced) }
    }
}

/// Finds the resource of a manifest's `apiVersion` and `kind`.
///
/// # Errors
/// When the server does not know it.
pub async fn by_kind(client: &Client, api_version: &str, kind: &str) -> CommandResult<Resource> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    // Our own kinds need no question to the server.
    if let Some(resource) = own(group, version, |own| own.kind == kind) {
        return Ok(resource);
    }
    let gvk = GroupVersionKind::gvk(group, version, kind);
    match kube::discovery::pinned_kind(client, &gvk).await {
        Ok(found) => Ok(Resource::from_discovery(found)),
        Err(kube::Error::Api(status)) if status.code != 404 => Err(kube::Error::Api(status).into()),
        Err(kube::Error::Api(_) | kube::Error::Discovery(_)) => {
            Err(CommandError::usage(format!("the server knows no kind {kind:?} in version {api_version:?}")))
        }
        Err(other) => Err(other.into()),
    }
}

/// Finds the resource that somebody typed: plural, singular, short name or kind, with or without `.group`.
///
/// # Errors
/// When the server does not know it.
pub async fn by_name(client: &Client, typed: &str) -> CommandResult<Resource> {
    let wanted = typed.to_lowercase();
    let (name, group) = wanted.split_once('.').map_or((wanted.as_str(), None), |(name, group)| (name, Some(group)));
    if group.is_none_or(|group| group == "kubetask.io")
        && let Some(resource) = own("kubetask.io", "v1alpha1", |own| {
            own.plural == name || own.kind.to_lowercase() == name || own.short_names.contains(&name)
        })
    {
        return Ok(resource);
    }
    let discovery = kube::discovery::Discovery::new(client.clone()).run_aggregated().await?;
    let mut groups: Vec<_> = discovery.groups().filter(|g| group.is_none_or(|wanted| wanted == g.name())).collect();
    // The core group first, as kubectl looks.
    groups.sort_by_key(|g| (!g.name().is_empty(), g.name().to_owned()));
    for group in groups {
        for found in group.recommended_resources() {
            let api = &found.0;
            if api.plural == name || api.kind.to_lowercase() == name || short_name(&api.plural) == Some(name) {
                return Ok(Resource::from_discovery(found));
            }
        }
    }
    Err(CommandError::usage(format!("the server knows no resource {typed:?}")))
}

/// One of KubeTask's own kinds.
struct Own {
    kind: &'static str,
    plural: &'static str,
    short_names: &'static [&'static str],
}

const OWN: &[Own] = &[
    Own { kind: "Task", plural: "tasks", short_names: &[] },
    Own { kind: "CronTask", plural: "crontasks", short_names: &["ct"] },
    Own { kind: "Agent", plural: "agents", short_names: &[] },
    Own { kind: "KubeTaskConfig", plural: "kubetaskconfigs", short_names: &["ktc"] },
    Own { kind: "Batch", plural: "batches", short_names: &[] },
    Own { kind: "BatchRun", plural: "batchruns", short_names: &["br"] },
];

fn own(group: &str, version: &str, matches: impl Fn(&Own) -> bool) -> Option<Resource> {
    if group != "kubetask.io" || version != "v1alpha1" {
        return None;
    }
    let own = OWN.iter().find(|own| matches(own))?;
    let gvk = GroupVersionKind::gvk(group, version, own.kind);
    Some(Resource { api: ApiResource::from_gvk_with_plural(&gvk, own.plural), namespaced: true })
}

/// kubectl's short names of built-in resources; discovery by kube does not carry them.
fn short_name(plural: &str) -> Option<&'static str> {
    Some(match plural {
        "pods" => "po",
        "configmaps" => "cm",
        "namespaces" => "ns",
        "nodes" => "no",
        "serviceaccounts" => "sa",
        "persistentvolumeclaims" => "pvc",
        "persistentvolumes" => "pv",
        "resourcequotas" => "quota",
        "limitranges" => "limits",
        "events" => "ev",
        "networkpolicies" => "netpol",
        "customresourcedefinitions" => "crd",
        "services" => "svc",
        "cronjobs" => "cj",
        _ => return None,
    })
}
