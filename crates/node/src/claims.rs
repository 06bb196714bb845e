//! A simple provisioner: every PersistentVolumeClaim is a directory under the node's root.
//!
//! A claim is bound as soon as it is seen; its directory is made when a pod first uses it, and goes when the claim is
//! deleted. Data of a claim lies in a directory named after the claim's uid, so a new claim of an old name is empty.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;

use crate::names::Layout;
use crate::shared::Shared;
use crate::sources::Changed;
use crate::volumes;

const BOUND: &str = "pv.kubernetes.io/bind-completed";
const BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const OURS: &str = "node.kubetask.io/directory";

/// The directory of a claim.
///
/// # Errors
/// Where it is not bound, or not to a directory of this node.
pub(crate) fn directory(layout: &Layout, claim: &PersistentVolumeClaim) -> Result<PathBuf, String> {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let uid = claim.metadata.uid.as_deref().unwrap_or_default();
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    if volume.is_empty() {
        return Err(format!("persistentvolumeclaim \"{name}\" is not bound"));
    }
    if volume != volume_name(uid) {
        return Err(format!(
            "persistentvolumeclaim \"{name}\" is bound to {volume}, which is not a directory of this node"
        ));
    }
    Ok(layout.claim(uid))
}

fn volume_name(uid: &str) -> String {
    format!("pvc-{uid}")
}

/// Binds claims until the node ends.
pub(crate) async fn run(shared: Arc<Shared>) {
    let api: Api<PersistentVolumeClaim> = Api::all(shared.client());
    let stream = watcher(api, watcher::Config::default()).default_backoff();
    pin_mut!(stream);
    let mut listed = BTreeSet::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(claim)) => {
                listed.extend(claim.metadata.uid.clone());
                seen(&shared, &claim).await;
            }
            Ok(watcher::Event::InitDone) => remove_unknown(&shared, &listed).await,
            Ok(watcher::Event::Apply(claim)) => seen(&shared, &claim).await,
            Ok(watcher::Event::Delete(claim)) => {
                tell(&shared, &claim);
                remove(&shared, &claim).await;
            }
            Err(error) => tracing::debug!(%error, "watch of claims"),
        }
    }
}

fn tell(shared: &Shared, claim: &PersistentVolumeClaim) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    shared.claims_changed.notify_one();
    shared.sources.tell(Changed::Claim(&text(&claim.metadata.namespace), &text(&claim.metadata.name)));
}

async fn seen(shared: &Shared, claim: &PersistentVolumeClaim) {
    let unbound = claim.spec.as_ref().is_none_or(|spec| spec.volume_name.as_deref().unwrap_or_default().is_empty());
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    let annotated = claim.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(OURS));
    let wants = claim.metadata.deletion_timestamp.is_none() && (unbound || (annotated && phase != Some("Bound")));
    if wants && let Err(error) = bind(shared, claim).await {
        tracing::warn!(%error, claim = claim.metadata.name, "claim not bound");
    }
    tell(shared, claim);
}

async fn bind(shared: &Shared, claim: &PersistentVolumeClaim) -> Result<(), kube::Error> {
    let meta = &claim.metadata;
    let (name, uid) = (meta.name.clone().unwrap_or_default(), meta.uid.clone().unwrap_or_default());
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(shared.client(), meta.namespace.as_deref().unwrap_or_default());
    let node = &shared.config.name;
    let annotations = json!({BOUND: "yes", BY_CONTROLLER: "yes", PROVISIONER: "kubetask.io/directory", OURS: node});
    let params = PatchParams::default();
    let patch =
        json!({"metadata": {"uid": uid, "annotations": annotations}, "spec": {"volumeName": volume_name(&uid)}});
    api.patch(&name, &params, &Patch::Merge(patch)).await?;
    let spec = claim.spec.as_ref();
    let capacity = spec.and_then(|spec| spec.resources.as_ref()?.requests.clone()).unwrap_or_default();
    let status =
        json!({"phase": "Bound", "accessModes": spec.and_then(|spec| spec.access_modes.clone()), "capacity": capacity});
    api.patch_status(&name, &params, &Patch::Merge(json!({"metadata": {"uid": uid}, "status": status}))).await?;
    Ok(())
}

/// Removes what a deleted claim leaves. While a pod uses it, it stays until the next start of the node.
async fn remove(shared: &Arc<Shared>, claim: &PersistentVolumeClaim) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (namespace, name) = (text(&claim.metadata.namespace), text(&claim.metadata.name));
    if shared.any_pod(|pod| !pod.over && pod.namespace == namespace && pod.claims.contains(&name)) {
        return;
    }
    let path = shared.layout.claim(claim.metadata.uid.as_deref().unwrap_or_default());
    let done = tokio::task::spawn_blocking(move || volumes::remove_tree(&path)).await;
    if let Ok(Err(error)) = done {
        tracing::warn!(%error, claim = name, "directory of a claim not removed");
    }
}

/// Removes directories of claims that were deleted while the node was away.
async fn remove_unknown(shared: &Arc<Shared>, known: &BTreeSet<String>) {
    // One of them may be what a running pod uses.
    if shared.any_pod(|pod| !pod.over && !pod.claims.is_empty()) {
        return;
    }
    let known: BTreeSet<PathBuf> = known.iter().map(|uid| shared.layout.claim(uid)).collect();
    let root = shared.layout.claims();
    let work = move || {
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            let path = entry.path();
            if !known.contains(&path)
                && let Err(error) = volumes::remove_tree(&path)
            {
                tracing::warn!(%error, path = %path.display(), "directory of a deleted claim not removed");
            }
        }
    };
    let _ = tokio::task::spawn_blocking(work).await;
}

/// Names of the claims that a pod uses.
pub(crate) fn names(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn only_own_directories_are_used() {
        let layout = Layout::new(Path::new("/r"), None);
        let claim = |volume: Option<&str>| -> PersistentVolumeClaim {
            serde_json::from_value(json!({"metadata": {"name": "c", "uid": "u1"}, "spec": {"volumeName": volume}}))
                .unwrap()
        };
        assert_eq!(directory(&layout, &claim(Some("pvc-u1"))), Ok(PathBuf::from("/r/claims/pvc-u1")));
        assert_eq!(directory(&layout, &claim(None)), Err("persistentvolumeclaim \"c\" is not bound".to_owned()));
        assert!(directory(&layout, &claim(Some("pv-7"))).is_err());
    }
}
