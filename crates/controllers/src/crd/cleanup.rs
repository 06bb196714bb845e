//! A definition that is being deleted: its objects are deleted first, then the finalizer is taken off.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, Patch};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;

use super::{Controller, Crd, decide};
use crate::error::{Answer, Error, Step, is_conflict};
use crate::gone;
use crate::queue::Next;
use crate::requests::{self, dynamic};

const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

impl Controller {
    pub(super) async fn clean_up(self: &Arc<Self>, name: &str, crd: &Crd) -> Result<Next, Error> {
        let finalizers = crd.metadata.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            return Ok(Next::Wait);
        }
        if let Some(resource) = resource(crd).filter(|_| decide::is_established(crd)) {
            let client = &self.context.client;
            if let Some(left) = self.delete_all(name, crd, &resource).await? {
                self.say(name, crd, true, "InstanceDeletionInProgress", "CustomResource deletion is in progress")
                    .await?;
                let (client, queue, name) = (client.clone(), self.queue.clone(), name.to_owned());
                self.context.spawn(async move {
                    gone::wait(&client, &left).await;
                    queue.add(name);
                });
                return Ok(Next::Wait);
            }
        }
        let api: Api<Crd> = Api::all(self.context.client.clone());
        let left: Vec<_> = finalizers.into_iter().filter(|f| f != FINALIZER).collect();
        let metadata = json!({ "resourceVersion": crd.metadata.resource_version, "finalizers": left });
        let body = Patch::Merge(json!({ "metadata": metadata }));
        match api.patch(name, &requests::patch(), &body).await.unless_missing() {
            Ok(_) => Ok(Next::Wait),
            Err(e) if is_conflict(&e) => Ok(Next::Retry),
            Err(e) => Err(e).step("take the finalizer off", name),
        }
    }

    /// Deletes the objects; what is left, if anything is.
    async fn delete_all(
        &self,
        name: &str,
        crd: &Crd,
        resource: &ApiResource,
    ) -> Result<Option<gone::Remaining>, Error> {
        let client = &self.context.client;
        let list = dynamic(client, resource, None).list_metadata(&ListParams::default()).await.unless_missing();
        let Some(list) = list.step("list the objects of", name)? else { return Ok(None) };
        if list.items.is_empty() {
            return Ok(None);
        }
        let namespaced = crd.spec.scope == "Namespaced";
        let places: BTreeSet<_> = list.items.into_iter().map(|o| o.metadata.namespace.filter(|_| namespaced)).collect();
        for namespace in places {
            let api = dynamic(client, resource, namespace.as_deref());
            let deleted = api.delete_collection(&DeleteParams::default(), &ListParams::default()).await;
            deleted.unless_missing().step("delete the objects of", name)?;
        }
        gone::any(client, resource, None).await.unless_missing().map(Option::flatten).step("list the objects of", name)
    }

    async fn say(&self, name: &str, crd: &Crd, status: bool, reason: &str, message: &str) -> Result<(), Error> {
        let old = crd.status.clone().unwrap_or_default();
        let mut conditions = old.conditions.clone().unwrap_or_default();
        decide::set(&mut conditions, Timestamp::now(), "Terminating", status, reason, message);
        if old.conditions.as_ref() != Some(&conditions) {
            self.write_status(name, crd, json!({ "conditions": conditions })).await?;
        }
        Ok(())
    }
}

/// The kind that the definition defines, in a version that is served.
fn resource(crd: &Crd) -> Option<ApiResource> {
    let version =
        crd.spec.versions.iter().find(|v| v.served && v.storage).or(crd.spec.versions.iter().find(|v| v.served))?;
    let kind = GroupVersionKind::gvk(&crd.spec.group, &version.name, &crd.spec.names.kind);
    Some(ApiResource::from_gvk_with_plural(&kind, &crd.spec.names.plural))
}
