//! Whether a pod fits on the node, with the scheduler's words where it does not. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Node, Pod, PodAffinityTerm, Taint, Toleration};

use super::affinity::{Labels, node_matches, term_selects};
use crate::quantity;

/// What pods take of a node, by resource, in thousandths; `pods` and host ports among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Load {
    taken: BTreeMap<String, i128>,
}

impl Load {
    /// What `pod` asks for: its containers together, or its largest init container where that is more.
    pub(crate) fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        let mut taken: BTreeMap<String, i128> = BTreeMap::new();
        let mut sidecars: BTreeMap<String, i128> = BTreeMap::new();
        let mut largest: BTreeMap<String, i128> = BTreeMap::new();
        for container in &spec.containers {
            for (name, value) in requests(container) {
                *taken.entry(name).or_default() += value;
            }
        }
        for container in spec.init_containers.iter().flatten() {
            let stays = container.restart_policy.as_deref() == Some("Always");
            for (name, value) in requests(container) {
                let beside = sidecars.entry(name.clone()).or_default();
                let now = *beside + value;
                if stays {
                    *beside = now;
                }
                let most = largest.entry(name).or_default();
                *most = (*most).max(now);
            }
        }
        for (name, value) in sidecars {
            *taken.entry(name).or_default() += value;
        }
        for (name, value) in largest {
            let sum = taken.entry(name).or_default();
            *sum = (*sum).max(value);
        }
        for (name, value) in spec.overhead.iter().flatten() {
            *taken.entry(name.clone()).or_default() += quantity::milli(value).unwrap_or(0);
        }
        taken.retain(|_, value| *value > 0);
        taken.insert("pods".to_owned(), 1000);
        for container in &spec.containers {
            for port in container.ports.iter().flatten().filter_map(|port| {
                let protocol = port.protocol.as_deref().unwrap_or("TCP");
                Some(format!("hostPort/{protocol}/{}", port.host_port.filter(|port| *port > 0)?))
            }) {
                taken.insert(port, 1000);
            }
        }
        Self { taken }
    }

    /// Adds what others take.
    pub(crate) fn add(&mut self, other: &Self) {
        for (name, value) in &other.taken {
            *self.taken.entry(name.clone()).or_default() += value;
        }
    }
}

/// A pod that is on the node, as far as others that want to be there have to know it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Neighbour {
    load: Load,
    namespace: String,
    labels: Labels,
    /// The pods that it does not want beside itself.
    shuns: Vec<PodAffinityTerm>,
}

impl Neighbour {
    /// What there is to know of `pod`.
    pub(crate) fn of(pod: &Pod) -> Self {
        let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
        let away = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let shuns = away.and_then(|away| away.required_during_scheduling_ignored_during_execution.clone());
        Self {
            load: Load::of(pod),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            shuns: shuns.unwrap_or_default(),
        }
    }

    /// Whether a term of the affinity of `whose` selects this one.
    fn selected_by(&self, term: &PodAffinityTerm, whose: &Self) -> bool {
        term_selects(term, &whose.namespace, &self.namespace, &self.labels)
    }
}

fn requests(container: &Container) -> Vec<(String, i128)> {
    let requests = container.resources.iter().flat_map(|resources| resources.requests.iter().flatten());
    requests.filter_map(|(name, value)| Some((name.clone(), quantity::milli(value)?))).collect()
}

/// Why `pod` does not fit on `node`, on which `others` run: the whole message of the scheduler.
///
/// # Errors
/// The message.
pub(crate) fn check(
    pod: &Pod,
    node: &Node,
    others: &[&Neighbour],
    claims: impl Fn(&str) -> bool,
) -> Result<(), String> {
    if let Some(claim) = crate::claims::names(pod).find(|name| !claims(name)) {
        let reason = format!("persistentvolumeclaim \"{claim}\" not found");
        return Err(explained(&reason, "Preemption is not helpful for scheduling"));
    }
    // The first filter that refuses is the one that is told, as in kube-scheduler.
    if let Some(reason) = refused_outright(pod, node) {
        return Err(message(&[reason], "Preemption is not helpful for scheduling"));
    }
    let lacking = lacking(pod, node, others);
    if !lacking.is_empty() {
        return Err(message(&lacking, "No preemption victims found for incoming pod"));
    }
    if let Some(reason) = refused_by_pods(pod, others) {
        return Err(message(&[reason.to_owned()], "No preemption victims found for incoming pod"));
    }
    Ok(())
}

fn message(reasons: &[String], preemption: &str) -> String {
    let mut reasons: Vec<String> = reasons.iter().map(|reason| format!("1 {reason}")).collect();
    reasons.sort();
    explained(&reasons.join(", "), preemption)
}

fn explained(reasons: &str, preemption: &str) -> String {
    format!(
        "0/1 nodes are available: {reasons}. no new claims to deallocate, preemption: 0/1 nodes are available: 1 {preemption}."
    )
}

fn refused_outright(pod: &Pod, node: &Node) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let node_spec = node.spec.as_ref();
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let cordon =
        Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() };
    if node_spec.and_then(|spec| spec.unschedulable) == Some(true) && !tolerated(&cordon, tolerations) {
        return Some("node(s) were unschedulable".to_owned());
    }
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let required = spec.affinity.as_ref().and_then(|affinity| {
        affinity.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()
    });
    let taints = node_spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let hard = taints.iter().filter(|taint| taint.effect != "PreferNoSchedule" && taint.key != cordon.key);
    if hard.into_iter().any(|taint| !tolerated(taint, tolerations)) {
        return Some("node(s) had untolerated taint(s)".to_owned());
    }
    if !selected || required.is_some_and(|selector| !node_matches(selector, name, labels)) {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    None
}

fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| {
        let key = toleration.key.as_deref().unwrap_or_default();
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let exists = toleration.operator.as_deref() == Some("Exists");
        (effect.is_empty() || effect == taint.effect)
            && ((key.is_empty() && exists) || key == taint.key)
            && (exists || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default())
    })
}

fn lacking(pod: &Pod, node: &Node, others: &[&Neighbour]) -> Vec<String> {
    let wanted = Load::of(pod);
    let mut taken = Load::default();
    for other in others {
        taken.add(&other.load);
    }
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let mut reasons = Vec::new();
    for (name, value) in &wanted.taken {
        let used = taken.taken.get(name).copied().unwrap_or(0);
        if name.starts_with("hostPort/") {
            if used > 0 {
                reasons.push("node(s) didn't have free ports for the requested pod ports".to_owned());
            }
            continue;
        }
        let room = allocatable.and_then(|all| all.get(name)).and_then(quantity::milli).unwrap_or(0);
        if used + value > room {
            reasons.push(if name == "pods" { "Too many pods".to_owned() } else { format!("Insufficient {name}") });
        }
    }
    reasons.dedup();
    reasons
}

fn refused_by_pods(pod: &Pod, others: &[&Neighbour]) -> Option<&'static str> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref().and_then(|affinity| affinity.pod_affinity.as_ref());
    let near = affinity.and_then(|all| all.required_during_scheduling_ignored_during_execution.as_ref());
    let this = Neighbour::of(pod);
    for term in near.into_iter().flatten() {
        // The first of a group may begin it: its own labels count.
        if !this.selected_by(term, &this) && !others.iter().any(|other| other.selected_by(term, &this)) {
            return Some("node(s) didn't match pod affinity rules");
        }
    }
    if this.shuns.iter().any(|term| others.iter().any(|other| other.selected_by(term, &this))) {
        return Some("node(s) didn't match pod anti-affinity rules");
    }
    let averse = others.iter().any(|other| other.shuns.iter().any(|term| this.selected_by(term, other)));
    averse.then_some("node(s) didn't satisfy existing pods anti-affinity rules")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: &Value) -> Pod {
        let mut spec = spec.clone();
        if spec.get("containers").is_none() {
            spec["containers"] = json!([]);
        }
        serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "n", "labels": {"app": "x"}}, "spec": spec}),
        )
        .unwrap()
    }

    fn node(spec: Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n1", "labels": {"zone": "a"}}, "spec": spec,
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}}}))
        .unwrap()
    }

    #[track_caller]
    fn check_on(node: &Node, pod_spec: &Value, others: &[Value], expect: Result<(), &str>) {
        let others: Vec<Neighbour> = others.iter().map(|spec| Neighbour::of(&pod(spec))).collect();
        let others: Vec<&Neighbour> = others.iter().collect();
        let got = check(&pod(pod_spec), node, &others, |claim| claim == "there");
        let short = got.map_err(|text| {
            text.trim_start_matches("0/1 nodes are available: ").split(". ").next().unwrap_or_default().to_owned()
        });
        assert_eq!(short, expect.map_err(str::to_owned), "{pod_spec}");
    }

    fn asks(cpu: &str) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
    }

    #[test]
    fn resources() {
        let node = node(json!({}));
        check_on(&node, &asks("2"), &[], Ok(()));
        check_on(&node, &asks("2001m"), &[], Err("1 Insufficient cpu"));
        check_on(&node, &asks("1"), &[asks("500m"), asks("501m")], Err("1 Insufficient cpu"));
        check_on(&node, &json!({}), &[json!({}), json!({}), json!({})], Err("1 Too many pods"));
        let both = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "3", "memory": "2Gi"}}}]});
        check_on(&node, &both, &[], Err("1 Insufficient cpu, 1 Insufficient memory"));
        check_on(
            &node,
            &json!({"containers": [{"name": "c", "resources": {"requests": {"x.test/gpu": "1"}}}]}),
            &[],
            Err("1 Insufficient x.test/gpu"),
        );
        let with_init = |cpu: &str, policy: Value| {
            json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1500m"}}}],
            "initContainers": [{"name": "i", "restartPolicy": policy, "resources": {"requests": {"cpu": cpu}}}]})
        };
        check_on(&node, &with_init("2", Value::Null), &[], Ok(()));
        check_on(&node, &with_init("3", Value::Null), &[], Err("1 Insufficient cpu"));
        check_on(&node, &with_init("600m", json!("Always")), &[], Err("1 Insufficient cpu"));
        let port = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
        check_on(
            &node,
            &port,
            std::slice::from_ref(&port),
            Err("1 node(s) didn't have free ports for the requested pod ports"),
        );
        check_on(&node, &port, &[json!({})], Ok(()));
    }

    #[test]
    fn selectors_taints_and_claims() {
        let plain = node(json!({}));
        let selector = "1 node(s) didn't match Pod's node affinity/selector";
        check_on(&plain, &json!({"nodeSelector": {"zone": "a"}}), &[], Ok(()));
        check_on(&plain, &json!({"nodeSelector": {"zone": "b"}}), &[], Err(selector));
        let affinity = |zone: &str| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}]}}}})
        };
        check_on(&plain, &affinity("a"), &[], Ok(()));
        check_on(&plain, &affinity("b"), &[], Err(selector));
        let cordoned = node(
            json!({"unschedulable": true, "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}),
        );
        check_on(&cordoned, &json!({}), &[], Err("1 node(s) were unschedulable"));
        check_on(&cordoned, &json!({"tolerations": [{"operator": "Exists"}]}), &[], Ok(()));
        let tainted = node(
            json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}, {"key": "soft", "effect": "PreferNoSchedule"}]}),
        );
        check_on(&tainted, &json!({}), &[], Err("1 node(s) had untolerated taint(s)"));
        check_on(&tainted, &json!({"tolerations": [{"key": "k", "value": "v"}]}), &[], Ok(()));
        check_on(
            &tainted,
            &json!({"tolerations": [{"key": "k", "value": "w"}]}),
            &[],
            Err("1 node(s) had untolerated taint(s)"),
        );
        check_on(
            &tainted,
            &json!({"tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute"}]}),
            &[],
            Err("1 node(s) had untolerated taint(s)"),
        );
        let claim = |name: &str| json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]});
        check_on(&plain, &claim("there"), &[], Ok(()));
        check_on(&plain, &claim("gone"), &[], Err("persistentvolumeclaim \"gone\" not found"));
    }

    #[test]
    fn pods_that_want_or_shun_each_other() {
        let plain = node(json!({}));
        let term = |app: &str| json!([{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}}]);
        let with = |kind: &str, app: &str| json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": term(app)}}});
        check_on(&plain, &with("podAffinity", "y"), &[], Err("1 node(s) didn't match pod affinity rules"));
        check_on(&plain, &with("podAffinity", "x"), &[], Ok(()));
        check_on(&plain, &with("podAntiAffinity", "x"), &[], Ok(()));
        check_on(
            &plain,
            &with("podAntiAffinity", "x"),
            &[json!({})],
            Err("1 node(s) didn't match pod anti-affinity rules"),
        );
        check_on(
            &plain,
            &json!({}),
            &[with("podAntiAffinity", "x")],
            Err("1 node(s) didn't satisfy existing pods anti-affinity rules"),
        );
    }

    #[test]
    fn the_whole_message() {
        let got = check(&pod(&json!({"nodeSelector": {"a": "b"}})), &node(json!({})), &[], |_| true).unwrap_err();
        assert_eq!(
            got,
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, \
             preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        );
    }
}
