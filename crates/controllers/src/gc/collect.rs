//! What to do about an object whose owners are gone or going, and about an owner that is going.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DynamicObject, Patch, PropagationPolicy};
use kube::core::{ApiResource, GroupVersionKind, ObjectMeta};
use serde_json::{Value, json};

use super::Collector;
use super::graph::{FOREGROUND, Node, ORPHAN, Uid};
use crate::error::{Answer, Error, Result, Step, is_conflict};
use crate::queue::Next;
use crate::requests;

/// Something to look into.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Task {
    /// Whether an object's owners are still there.
    Check(Uid),
    /// Whether an owner's dependents are gone, so that it may go as well.
    Foreground(Uid),
    /// An owner that is being deleted, and whose dependents stay.
    Orphan(Uid),
}

/// What an owner reference leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// It is there.
    Solid,
    /// It is there, and waits for its dependents to go.
    Waiting,
    /// It is not there.
    Absent,
    /// It is there, but not in the picture yet (or nobody can tell): if it goes now, nobody hears of it.
    Unseen,
}

/// What to do about an object.
#[derive(Debug, Clone, PartialEq)]
enum Verdict {
    /// It stays.
    Keep,
    /// It stays with these owners only.
    Disown(Vec<OwnerReference>),
    /// It goes.
    Delete(PropagationPolicy),
}

/// Decides from what the owner references lead to.
fn judge(meta: &ObjectMeta, owners: &[(OwnerReference, Owner)], has_dependents: bool) -> Verdict {
    if owners.is_empty() {
        return Verdict::Keep;
    }
    let solid: Vec<_> =
        owners.iter().filter(|(_, o)| matches!(o, Owner::Solid | Owner::Unseen)).map(|(r, _)| r.clone()).collect();
    if solid.len() == owners.len() {
        return Verdict::Keep;
    }
    if !solid.is_empty() {
        return Verdict::Disown(solid);
    }
    let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|f| f == finalizer);
    let waited_for = owners.iter().any(|(_, o)| *o == Owner::Waiting);
    Verdict::Delete(if waited_for && has_dependents {
        PropagationPolicy::Foreground
    } else if has(ORPHAN) {
        PropagationPolicy::Orphan
    } else if has(FOREGROUND) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    })
}

impl Collector {
    pub(super) async fn work(self: Arc<Self>, task: Task) -> Result<Next> {
        let uid = match &task {
            Task::Check(uid) | Task::Foreground(uid) | Task::Orphan(uid) => uid.clone(),
        };
        let Some(node) = self.graph().get(&uid).cloned() else { return Ok(Next::Wait) };
        let result = match task {
            Task::Check(_) if node.deleting || self.graph().is_solid(&uid) => return Ok(Next::Wait),
            Task::Check(_) => match self.check(&uid, &node).await {
                Ok(true) => Ok(()),
                Ok(false) => return Ok(Next::Retry),
                Err(error) => Err(error),
            },
            Task::Foreground(_) if node.is_waiting() => self.foreground(&uid, &node).await,
            Task::Orphan(_) if node.deleting && node.orphan => self.orphan(&uid, &node).await,
            Task::Foreground(_) | Task::Orphan(_) => return Ok(Next::Wait),
        };
        match result {
            // Somebody else changed it; what they did is looked at.
            Err(error) if is_conflict(&error.source) => Ok(Next::Retry),
            other => other.map(|()| Next::Wait),
        }
    }

    /// Whether that settles it.
    async fn check(&self, uid: &Uid, node: &Node) -> Result<bool> {
        // Deleting needs certainty, so the object as it is now counts, not the picture of it.
        let Some(meta) = self.read(uid, node).await? else { return Ok(true) };
        if meta.deletion_timestamp.is_some() {
            return Ok(true);
        }
        let mut owners = Vec::new();
        for reference in meta.owner_references.clone().unwrap_or_default() {
            let found = self.find_owner(node, &reference).await?;
            owners.push((reference, found));
        }
        let dependents = self.graph().dependents_of(uid);
        match judge(&meta, &owners, !dependents.is_empty()) {
            Verdict::Keep => {}
            Verdict::Disown(owners) => self.patch(uid, node, &meta, json!({ "ownerReferences": owners })).await?,
            Verdict::Delete(policy) => {
                if policy == PropagationPolicy::Foreground && self.is_circle(&dependents) {
                    // It waits for those that wait for it: one has to stop waiting.
                    let mut references = meta.owner_references.clone().unwrap_or_default();
                    references.iter_mut().for_each(|r| r.block_owner_deletion = Some(false));
                    self.patch(uid, node, &meta, json!({ "ownerReferences": references })).await?;
                    self.delete(node, uid, None, policy).await?;
                } else {
                    self.delete(node, uid, meta.resource_version, policy).await?;
                }
            }
        }
        Ok(owners.iter().all(|(_, owner)| *owner != Owner::Unseen))
    }

    fn is_circle(&self, dependents: &[Uid]) -> bool {
        let graph = self.graph();
        dependents.iter().any(|dependent| graph.get(dependent).is_some_and(Node::is_waiting))
    }

    async fn find_owner(&self, dependent: &Node, reference: &OwnerReference) -> Result<Owner> {
        {
            let graph = self.graph();
            if let Some(owner) = graph.owner(dependent, reference) {
                return Ok(if owner.is_waiting() { Owner::Waiting } else { Owner::Solid });
            }
            if graph.is_absent(&reference.uid) {
                return Ok(Owner::Absent);
            }
        }
        let Some((resource, namespaced)) = self.resolve(reference).await? else { return Ok(Owner::Unseen) };
        let namespace = match (namespaced, dependent.namespace.as_deref()) {
            (false, _) => None,
            (true, Some(namespace)) => Some(namespace),
            // An object of the cluster cannot be owned by one of a namespace; it is left alone.
            (true, None) => return Ok(Owner::Solid),
        };
        let api = requests::dynamic(&self.context.client, &resource, namespace);
        let found = api.get_metadata_opt(&reference.name).await.step("look up owner", &reference.name)?;
        match found.filter(|owner| owner.metadata.uid.as_deref() == Some(reference.uid.as_str())) {
            None => {
                // Only the uid is known not to be there; in another namespace it may be.
                if self.graph().get(&reference.uid).is_none() {
                    self.graph().note_absent(reference.uid.as_str().into());
                }
                Ok(Owner::Absent)
            }
            Some(owner) => {
                let waits = owner.metadata.finalizers.iter().flatten().any(|f| f == FOREGROUND);
                let waiting = owner.metadata.deletion_timestamp.is_some() && waits;
                Ok(if waiting { Owner::Waiting } else { Owner::Unseen })
            }
        }
    }

    /// The kind that a reference names. A kind that the server does not have (any more) cannot be asked for: `None`.
    async fn resolve(&self, reference: &OwnerReference) -> Result<Option<(ApiResource, bool)>> {
        let (group, version) = reference.api_version.rsplit_once('/').unwrap_or(("", &reference.api_version));
        let known = self.kinds.subscribe();
        let known = known.borrow().clone();
        let kind = known.iter().find(|k| k.resource.group == group && k.resource.kind == reference.kind);
        if let Some(kind) = kind {
            return Ok(Some((kind.resource.clone(), kind.namespaced)));
        }
        let wanted = GroupVersionKind::gvk(group, version, &reference.kind);
        let found = kube::discovery::pinned_kind(&self.context.client, &wanted).await;
        Ok(found.ok().map(|(resource, found)| (resource, found.scope == kube::discovery::Scope::Namespaced)))
    }

    async fn foreground(&self, uid: &Uid, node: &Node) -> Result<()> {
        let (dependents, blocking) = {
            let graph = self.graph();
            (graph.dependents_of(uid), graph.blocking(uid))
        };
        for dependent in dependents {
            self.queue.add(Task::Check(dependent));
        }
        if blocking > 0 {
            return Ok(());
        }
        self.unhold(uid, node, FOREGROUND).await
    }

    async fn orphan(&self, uid: &Uid, node: &Node) -> Result<()> {
        let dependents = self.graph().dependents_of(uid);
        for dependent in dependents {
            let Some(child) = self.graph().get(&dependent).cloned() else { continue };
            let Some(meta) = self.read(&dependent, &child).await? else { continue };
            let owners = meta.owner_references.clone().unwrap_or_default();
            let left: Vec<_> = owners.iter().filter(|r| *r.uid != **uid).cloned().collect();
            if left.len() < owners.len() {
                self.patch(&dependent, &child, &meta, json!({ "ownerReferences": left })).await?;
            }
        }
        self.unhold(uid, node, ORPHAN).await
    }

    /// Takes a finalizer off.
    async fn unhold(&self, uid: &Uid, node: &Node, finalizer: &str) -> Result<()> {
        let Some(meta) = self.read(uid, node).await? else { return Ok(()) };
        let held = meta.finalizers.clone().unwrap_or_default();
        let left: Vec<_> = held.iter().filter(|f| *f != finalizer).collect();
        if left.len() < held.len() {
            self.patch(uid, node, &meta, json!({ "finalizers": left })).await?;
        }
        Ok(())
    }

    fn api(&self, node: &Node) -> Api<DynamicObject> {
        requests::dynamic(&self.context.client, &node.kind.resource, node.namespace.as_deref())
    }

    /// The object as it is now; `None` if it is gone.
    async fn read(&self, uid: &Uid, node: &Node) -> Result<Option<ObjectMeta>> {
        let found = self.api(node).get_metadata_opt(&node.name).await.unless_missing().map(Option::flatten);
        let found = found.step("read", &*node.name)?.map(|object| object.metadata);
        let found = found.filter(|meta| meta.uid.as_deref() == Some(&**uid));
        if found.is_none() {
            self.remove(uid);
        }
        Ok(found)
    }

    /// Changes metadata, if nobody else has since it was read.
    async fn patch(&self, uid: &Uid, node: &Node, meta: &ObjectMeta, mut change: Value) -> Result<()> {
        change["resourceVersion"] = json!(meta.resource_version);
        change["uid"] = json!(&**uid);
        let body = Patch::Merge(json!({ "metadata": change }));
        let result = self.api(node).patch_metadata(&node.name, &requests::patch(), &body).await.unless_missing();
        result.map(drop).step("change the owners or finalizers of", &*node.name)
    }

    async fn delete(&self, node: &Node, uid: &Uid, version: Option<String>, policy: PropagationPolicy) -> Result<()> {
        let mut parameters = requests::delete(uid, policy);
        if let Some(preconditions) = &mut parameters.preconditions {
            preconditions.resource_version = version;
        }
        let result = self.api(node).delete(&node.name, &parameters).await.unless_missing();
        result.map(drop).map_err(|source| Error { step: "delete", object: node.name.to_string(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let check = |finalizers: &[&str], owners: &[Owner], dependents: bool, expected: &str| {
            let finalizers = (!finalizers.is_empty()).then(|| finalizers.iter().map(|f| (*f).to_owned()).collect());
            let meta = ObjectMeta { finalizers, ..ObjectMeta::default() };
            let reference = |i: usize| OwnerReference { name: i.to_string(), ..OwnerReference::default() };
            let owners: Vec<_> = owners.iter().enumerate().map(|(i, o)| (reference(i), *o)).collect();
            let text = match judge(&meta, &owners, dependents) {
                Verdict::Keep => "keep".to_owned(),
                Verdict::Disown(left) => {
                    format!("disown, left {}", left.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(","))
                }
                Verdict::Delete(policy) => format!("delete {policy:?}"),
            };
            assert_eq!(text, expected, "{owners:?}");
        };
        use Owner::{Absent, Solid, Unseen, Waiting};
        check(&[], &[], false, "keep");
        check(&[], &[Solid], true, "keep");
        check(&[], &[Solid, Absent, Solid], false, "disown, left 0,2");
        check(&[], &[Waiting, Solid], true, "disown, left 1");
        check(&[], &[Unseen], false, "keep");
        check(&[], &[Absent, Unseen], false, "disown, left 1");
        check(&[], &[Absent], false, "delete Background");
        check(&[], &[Absent, Absent], true, "delete Background");
        check(&[], &[Waiting], false, "delete Background");
        check(&[], &[Waiting, Absent], true, "delete Foreground");
        check(&[ORPHAN], &[Absent], true, "delete Orphan");
        check(&[FOREGROUND], &[Absent], true, "delete Foreground");
    }
}
