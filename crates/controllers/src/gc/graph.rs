//! [`Graph`]: all objects, and who owns whom.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ObjectMeta;

use crate::kinds::Kind;

/// An object's uid.
pub(super) type Uid = Arc<str>;

/// The finalizer of an owner that waits for its dependents to go.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner whose dependents are to stay.
pub(super) const ORPHAN: &str = "orphan";

/// How many of those that have gone are remembered, so that nobody has to ask for them.
const ABSENT: usize = 8192;

/// An object.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) kind: Arc<Kind>,
    kind_name: Arc<str>,
    pub(super) namespace: Option<Box<str>>,
    pub(super) name: Box<str>,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) deleting: bool,
    pub(super) foreground: bool,
    pub(super) orphan: bool,
}

impl Node {
    pub(super) fn of(kind: Arc<Kind>, kind_name: &str, meta: ObjectMeta) -> Node {
        let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|f| f == finalizer);
        Node {
            kind,
            kind_name: kind_name.into(),
            deleting: meta.deletion_timestamp.is_some(),
            foreground: has(FOREGROUND),
            orphan: has(ORPHAN),
            namespace: meta.namespace.map(Into::into),
            name: meta.name.unwrap_or_default().into(),
            owners: meta.owner_references.unwrap_or_default(),
        }
    }

    /// Waits for its dependents to go.
    pub(super) fn is_waiting(&self) -> bool {
        self.deleting && self.foreground
    }
}

/// What a new version of an object has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// It is new, or its owners are.
    pub(super) new_owners: bool,
    /// Owners it does not hold up any more.
    pub(super) lost_owners: Vec<Uid>,
}

/// All objects.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<Uid, Node>,
    dependents: HashMap<Uid, HashSet<Uid>>,
    absent: HashSet<Uid>,
    absent_order: VecDeque<Uid>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// Stores an object as it is now.
    pub(super) fn put(&mut self, uid: Uid, node: Node) -> Changed {
        let old = self.nodes.get(&uid).map(|n| n.owners.clone()).unwrap_or_default();
        if old == node.owners {
            let new_owners = !self.nodes.contains_key(&uid) && !node.owners.is_empty();
            self.nodes.insert(uid, node);
            return Changed { new_owners, lost_owners: Vec::new() };
        }
        let mut lost_owners = Vec::new();
        for owner in &old {
            let still = node.owners.iter().find(|o| o.uid == owner.uid);
            if still.is_none() {
                self.unlink(&owner.uid, &uid);
            }
            if still.is_none_or(|o| o.block_owner_deletion != owner.block_owner_deletion) {
                lost_owners.push(Uid::from(owner.uid.as_str()));
            }
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.as_str().into()).or_default().insert(uid.clone());
        }
        self.nodes.insert(uid, node);
        Changed { new_owners: true, lost_owners }
    }

    /// Forgets an object. Returns its owners and its dependents.
    pub(super) fn remove(&mut self, uid: &Uid) -> (Vec<Uid>, Vec<Uid>) {
        self.note_absent(uid.clone());
        let Some(node) = self.nodes.remove(uid) else { return (Vec::new(), Vec::new()) };
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
        }
        let owners = node.owners.iter().map(|o| Uid::from(o.uid.as_str())).collect();
        (owners, self.dependents_of(uid))
    }

    fn unlink(&mut self, owner: &str, dependent: &Uid) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    pub(super) fn dependents_of(&self, uid: &str) -> Vec<Uid> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Objects of a kind for which `wanted` holds.
    pub(super) fn of_kind(&self, kind: &str, wanted: impl Fn(&Uid) -> bool) -> Vec<Uid> {
        let of_kind = self.nodes.iter().filter(|(uid, node)| &*node.kind_name == kind && wanted(uid));
        of_kind.map(|(uid, _)| uid.clone()).collect()
    }

    /// Remembers that there is no such object (any more); uids are not used twice.
    pub(super) fn note_absent(&mut self, uid: Uid) {
        if self.absent.insert(uid.clone()) {
            self.absent_order.push_back(uid);
            if self.absent_order.len() > ABSENT
                && let Some(oldest) = self.absent_order.pop_front()
            {
                self.absent.remove(&oldest);
            }
        }
    }

    pub(super) fn is_absent(&self, uid: &str) -> bool {
        self.absent.contains(uid)
    }

    /// The owner a reference means, if it is known and in reach of the dependent.
    pub(super) fn owner(&self, dependent: &Node, reference: &OwnerReference) -> Option<&Node> {
        let owner = self.nodes.get(reference.uid.as_str())?;
        let reachable = owner.namespace.is_none() || owner.namespace == dependent.namespace;
        (reachable && *owner.name == *reference.name && owner.kind.resource.kind == reference.kind).then_some(owner)
    }

    /// Whether all owners are there and not waiting for it to go: then there is nothing to do about it.
    pub(super) fn is_solid(&self, uid: &str) -> bool {
        let Some(node) = self.nodes.get(uid) else { return true };
        node.owners.iter().all(|reference| self.owner(node, reference).is_some_and(|owner| !owner.is_waiting()))
    }

    /// The dependents that hold an owner up.
    pub(super) fn blocking(&self, owner: &str) -> usize {
        let blocks = |uid: &Uid| {
            let references = self.nodes.get(uid).map(|n| n.owners.as_slice()).unwrap_or_default();
            references.iter().any(|r| r.uid == owner && r.block_owner_deletion == Some(true))
        };
        self.dependents.get(owner).into_iter().flatten().filter(|uid| blocks(uid)).count()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(meta: Value) -> Node {
        let kind = Kind {
            resource: kube::core::ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&()),
            namespaced: true,
            verbs: Vec::new(),
        };
        Node::of(Arc::new(kind), "configmaps.", serde_json::from_value(meta).unwrap())
    }

    fn owned(name: &str, owner: &str, block: bool) -> Node {
        let reference = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": owner, "blockOwnerDeletion": block });
        node(json!({ "namespace": "ns", "name": name, "ownerReferences": [reference] }))
    }

    #[test]
    fn who_owns_whom() {
        let mut graph = Graph::default();
        let put = |graph: &mut Graph, uid: &str, node: Node| graph.put(uid.into(), node);
        assert!(!put(&mut graph, "o", node(json!({ "namespace": "ns", "name": "o" }))).new_owners);
        assert!(put(&mut graph, "d", owned("d", "o", true)).new_owners);
        assert!(!put(&mut graph, "d", owned("d", "o", true)).new_owners, "nothing new");
        assert!(graph.is_solid("d"));
        assert_eq!((graph.dependents_of("o").len(), graph.blocking("o")), (1, 1));

        let changed = put(&mut graph, "d", owned("d", "o", false));
        assert_eq!(changed.lost_owners, [Uid::from("o")], "it does not block any more");
        assert_eq!(graph.blocking("o"), 0);

        let waiting = json!({ "namespace": "ns", "name": "o", "deletionTimestamp": "2030-01-01T00:00:00Z", "finalizers": [FOREGROUND] });
        put(&mut graph, "o", node(waiting));
        assert!(!graph.is_solid("d"), "its owner waits for it");

        let (owners, dependents) = graph.remove(&"o".into());
        assert_eq!((owners, dependents), (vec![], vec![Uid::from("d")]));
        assert!(graph.is_absent("o") && !graph.is_solid("d"));
        let (owners, _) = graph.remove(&"d".into());
        assert_eq!(owners, [Uid::from("o")]);
        assert!(graph.dependents.is_empty() && graph.nodes.is_empty());
    }

    #[test]
    fn an_owner_is_who_the_reference_describes() {
        let check = |owner: Value, solid: bool| {
            let mut graph = Graph::default();
            graph.put("o".into(), node(owner.clone()));
            graph.put("d".into(), owned("d", "o", true));
            assert_eq!(graph.is_solid("d"), solid, "{owner}");
        };
        check(json!({ "namespace": "ns", "name": "o" }), true);
        check(json!({ "name": "o" }), true);
        check(json!({ "namespace": "other", "name": "o" }), false);
        check(json!({ "namespace": "ns", "name": "x" }), false);
    }

    #[test]
    fn the_absent_are_remembered_within_limits() {
        let mut graph = Graph::default();
        for n in 0..ABSENT + 10 {
            graph.note_absent(n.to_string().into());
        }
        assert_eq!((graph.absent.len(), graph.is_absent("9"), graph.is_absent("10")), (ABSENT, false, true));
    }
}
