//! What of pods is answered by a node: the paths and the streams, with a stand-in for the kubelet.

use std::convert::Infallible;

use anyhow::Result;
use axum::body::Body;
use http::{Request, Response};
use serde_json::{Value, json};
use tower::service_fn;
use tower::util::BoxCloneSyncService;

use crate::server::TestServer;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "main", "image": "x"}]}})
}

async fn with_pod() -> Result<TestServer> {
    let server = TestServer::start().await?;
    let echo = service_fn(|request: Request<Body>| async move {
        Ok::<_, Infallible>(Response::new(Body::from(format!("{} {}", request.method(), request.uri()))))
    });
    server.api.set_kubelet(BoxCloneSyncService::new(echo));
    server
        .post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}}))
        .await?
        .expect(201);
    server.post(PODS, &pod("p")).await?.expect(201);
    Ok(server)
}

#[tokio::test]
async fn a_pod_gets_its_service_account() -> Result<()> {
    let server = TestServer::start().await?;
    let refused = server.post(PODS, &pod("p")).await?.expect(403);
    assert!(refused.text.contains("error looking up service account default/default"), "{}", refused.text);
    let server = with_pod().await?;
    let made = server.get(&format!("{PODS}/p")).await?.expect(200);
    assert_eq!(made.at("/spec/serviceAccountName"), "default");
    assert_eq!(made.at("/spec/containers/0/volumeMounts/0/mountPath"), "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(made.at("/spec/volumes/0/projected/sources/0/serviceAccountToken/path"), "token");
    Ok(())
}

/// The mount of the token must not leave a null where the Pod had no init containers: every later change would be
/// refused as a change of the spec.
#[tokio::test]
async fn a_pod_with_its_service_account_can_still_be_changed() -> Result<()> {
    let server = with_pod().await?;
    let made = server.get(&format!("{PODS}/p")).await?.expect(200);
    assert!(!made.text.contains("initContainers"), "{}", made.text);
    let patch = json!({"metadata": {"labels": {"a": "b"}}});
    let changed = server.patch(&format!("{PODS}/p"), "merge", &patch).await?.expect(200);
    assert_eq!(changed.at("/metadata/labels/a"), "b");
    Ok(())
}

#[tokio::test]
async fn bound_pods_have_logs_and_grace() -> Result<()> {
    let server = with_pod().await?;
    server.get(&format!("{PODS}/p/log")).await?.expect(204);
    let binding = json!({"target": {"kind": "Node", "name": "n"}});
    server.post(&format!("{PODS}/p/binding"), &binding).await?.expect(201);
    server.post(&format!("{PODS}/p/binding"), &binding).await?.expect(409);
    let log = server.get(&format!("{PODS}/p/log?follow=1&tailLines=3")).await?.expect(200);
    assert_eq!(log.text, "GET /containerLogs/default/p/main?follow=true&tailLines=3");
    server.get(&format!("{PODS}/p/log?container=none")).await?.expect(400);
    server.get(&format!("{PODS}/p/log?tailLines=-1")).await?.expect(422);
    let exec =
        server.get(&format!("{PODS}/p/exec?command=sh&command=-c&command=a%20b&stdout=1&tty=false")).await?.expect(200);
    assert_eq!(exec.text, "GET /exec/default/p/main?stdout=true&command=sh&command=-c&command=a%20b");
    let marked = server.delete(&format!("{PODS}/p")).await?.expect(200);
    assert_eq!(marked.at("/metadata/deletionGracePeriodSeconds"), &json!(30));
    server.delete(&format!("{PODS}/p?gracePeriodSeconds=0")).await?.expect(200);
    server.get(&format!("{PODS}/p")).await?.expect(404);
    Ok(())
}

#[tokio::test]
async fn quotas_and_limits() -> Result<()> {
    let server = with_pod().await?;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2", "count/configmaps": "1"}}});
    server.post("/api/v1/namespaces/default/resourcequotas", &quota).await?.expect(201);
    server.post(PODS, &pod("p2")).await?.expect(201);
    let refused = server.post(PODS, &pod("p3")).await?.expect(403);
    let message = "pods \"p3\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2";
    assert_eq!(refused.body["message"], message);
    let range = json!({"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}, "max": {"cpu": "2"}}]}});
    server.post("/api/v1/namespaces/default/limitranges", &range).await?.expect(201);
    server.delete(&format!("{PODS}/p2?gracePeriodSeconds=0")).await?.expect(200);
    let mut big = pod("big");
    big["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "3"}});
    let refused = server.post(PODS, &big).await?.expect(403);
    assert!(refused.text.contains("maximum cpu usage per Container is 2, but limit is 3"), "{}", refused.text);
    let small = server.post(PODS, &pod("small")).await?.expect(201);
    assert_eq!(small.at("/spec/containers/0/resources/limits/cpu"), "1");
    Ok(())
}

#[tokio::test]
async fn quotas_tell_what_is_used() -> Result<()> {
    const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
    let server = TestServer::start().await?;
    server
        .post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}}))
        .await?
        .expect(201);
    let hard = json!({"pods": "5", "requests.cpu": "2", "limits.memory": "1Gi", "count/configmaps": "3"});
    let made = server.post(QUOTAS, &json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await?.expect(201);
    assert!(made.headers.get("warning").is_none(), "{:?}", made.headers);
    let refused = server.post(PODS, &pod("bare")).await?.expect(403);
    let message =
        "pods \"bare\" is forbidden: failed quota: q: must specify limits.memory for: main; requests.cpu for: main";
    assert_eq!(refused.body["message"], message);
    let mut fits = pod("fits");
    fits["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "64Mi"}});
    server.post(PODS, &fits).await?.expect(201);
    let used = server.get(&format!("{QUOTAS}/q")).await?.expect(200);
    assert_eq!(used.at("/status/hard"), &hard);
    let want = json!({"pods": "1", "requests.cpu": "250m", "limits.memory": "64Mi", "count/configmaps": "0"});
    assert_eq!(used.at("/status/used"), &want);
    // What goes away is told a little later.
    server.delete(&format!("{PODS}/fits?gracePeriodSeconds=0")).await?.expect(200);
    let freed = async {
        loop {
            let quota = server.get(&format!("{QUOTAS}/q")).await?;
            if quota.at("/status/used/pods") == "0" {
                return anyhow::Ok(quota);
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let freed = tokio::time::timeout(std::time::Duration::from_secs(30), freed).await??;
    assert_eq!(freed.at("/status/used/limits.memory"), "0");
    Ok(())
}

#[tokio::test]
async fn claims_have_bounds() -> Result<()> {
    let server = TestServer::start().await?;
    let range = json!({"metadata": {"name": "l"}, "spec": {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "2Gi"}}]}});
    server.post("/api/v1/namespaces/default/limitranges", &range).await?.expect(201);
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "3Gi"}}}});
    let refused = server.post("/api/v1/namespaces/default/persistentvolumeclaims", &claim).await?.expect(403);
    let want = "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi";
    assert!(refused.text.contains(want), "{}", refused.text);
    Ok(())
}

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";

fn claim(name: &str, storage: &str, class: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class,
        "resources": {"requests": {"storage": storage}}}})
}

#[tokio::test]
async fn quotas_hold_when_a_claim_grows() -> Result<()> {
    let server = TestServer::start().await?;
    let gold = "gold.storageclass.storage.k8s.io/requests.storage";
    let hard = json!({"requests.storage": "10Gi", "count/persistentvolumeclaims": "2", gold: "4Gi"});
    server.post(QUOTAS, &json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await?.expect(201);
    server.post(CLAIMS, &claim("a", "3Gi", "gold")).await?.expect(201);
    server.post(CLAIMS, &claim("b", "5Gi", "")).await?.expect(201);
    let used = server.get(&format!("{QUOTAS}/q")).await?.expect(200);
    assert_eq!(
        used.at("/status/used"),
        &json!({"requests.storage": "8Gi", "count/persistentvolumeclaims": "2", gold: "3Gi"})
    );
    for name in ["a", "b"] {
        let bound = json!({"status": {"phase": "Bound"}});
        server.patch(&format!("{CLAIMS}/{name}/status"), "merge", &bound).await?.expect(200);
    }
    let grow = async |name: &str, storage: &str| {
        let size = json!({"spec": {"resources": {"requests": {"storage": storage}}}});
        server.patch(&format!("{CLAIMS}/{name}"), "merge", &size).await
    };
    let refused = grow("b", "8Gi").await?.expect(403);
    let message = "persistentvolumeclaims \"b\" is forbidden: exceeded quota: q, requested: requests.storage=3Gi, used: requests.storage=8Gi, limited: requests.storage=10Gi";
    assert_eq!(refused.body["message"], message);
    let refused = grow("a", "5Gi").await?.expect(403);
    let message = format!(
        "persistentvolumeclaims \"a\" is forbidden: exceeded quota: q, requested: {gold}=2Gi, used: {gold}=3Gi, limited: {gold}=4Gi"
    );
    assert_eq!(refused.body["message"], message);
    grow("b", "7Gi").await?.expect(200);
    // Nothing grows: a quota that is exhausted is no matter.
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    server.patch(&format!("{CLAIMS}/b"), "merge", &label).await?.expect(200);
    Ok(())
}

#[tokio::test]
async fn quotas_have_scopes() -> Result<()> {
    let server = with_pod().await?;
    server.delete(&format!("{PODS}/p?gracePeriodSeconds=0")).await?.expect(200);
    let quota = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let none = json!({"pods": "0"});
    let class = |operator: &str, values: Value| {
        json!({"hard": {"pods": "0"}, "scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": values}]}})
    };
    let cases = [
        (json!({"hard": none, "scopes": ["BestEffort"]}), json!({}), true),
        (json!({"hard": none, "scopes": ["NotBestEffort"]}), json!({}), false),
        (json!({"hard": none, "scopes": ["Terminating"]}), json!({"activeDeadlineSeconds": 5}), true),
        (json!({"hard": none, "scopes": ["NotTerminating"]}), json!({"activeDeadlineSeconds": 5}), false),
        (class("In", json!(["system-node-critical"])), json!({"priorityClassName": "system-node-critical"}), true),
        (class("In", json!(["other"])), json!({"priorityClassName": "system-node-critical"}), false),
        (class("NotIn", json!(["other"])), json!({"priorityClassName": "system-node-critical"}), true),
        (class("DoesNotExist", json!([])), json!({"priorityClassName": "system-node-critical"}), false),
        (class("DoesNotExist", json!([])), json!({}), true),
        (class("Exists", json!([])), json!({}), false),
    ];
    for (spec, more, refused) in cases {
        server.post(QUOTAS, &quota("q", spec.clone())).await?.expect(201);
        let mut one = pod("x");
        for (name, value) in more.as_object().unwrap() {
            one["spec"][name] = value.clone();
        }
        let answer = server.post(&format!("{PODS}?dryRun=All"), &one).await?;
        assert_eq!(answer.status, if refused { 403 } else { 201 }, "{spec} {}", answer.text);
        server.delete(&format!("{QUOTAS}/q")).await?.expect(200);
    }
    Ok(())
}

#[tokio::test]
async fn containers_come_to_look_into_a_pod() -> Result<()> {
    let server = with_pod().await?;
    let path = format!("{PODS}/p/ephemeralcontainers");
    let debug =
        json!({"spec": {"ephemeralContainers": [{"name": "debugger", "image": "b:1", "stdin": true, "tty": true}]}});
    let changed = server.patch(&path, "strategic-merge-patch", &debug).await?.expect(200);
    assert_eq!(changed.at("/spec/ephemeralContainers/0/terminationMessagePolicy"), "File");
    let fields = changed.at("/metadata/managedFields").as_array().unwrap();
    assert!(fields.iter().any(|f| f["subresource"] == "ephemeralcontainers"), "{fields:?}");
    assert_eq!(server.get(&path).await?.expect(200).at("/spec/ephemeralContainers/0/name"), "debugger");
    // Elsewhere they are not to be set.
    let more = json!({"spec": {"ephemeralContainers": [{"name": "more", "image": "b:1"}]}});
    server.patch(&format!("{PODS}/p"), "strategic-merge-patch", &more).await?.expect(422);
    let mut new = pod("q");
    new["spec"]["ephemeralContainers"] = more["spec"]["ephemeralContainers"].clone();
    let refused = server.post(PODS, &new).await?.expect(422);
    assert!(refused.text.contains("spec.ephemeralContainers: Forbidden: cannot be set on create"), "{}", refused.text);
    // Their streams are those of any container.
    let binding = json!({"target": {"kind": "Node", "name": "n"}});
    server.post(&format!("{PODS}/p/binding"), &binding).await?.expect(201);
    let log = server.get(&format!("{PODS}/p/log?container=debugger")).await?.expect(200);
    assert_eq!(log.text, "GET /containerLogs/default/p/debugger");
    Ok(())
}

#[tokio::test]
async fn pods_have_the_priority_of_their_class() -> Result<()> {
    const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let server = with_pod().await?;
    let of = |class: &str, more: Value| {
        let mut one = pod("x");
        one["spec"]["priorityClassName"] = json!(class);
        for (name, value) in more.as_object().unwrap() {
            one["spec"][name] = value.clone();
        }
        one
    };
    let dry = format!("{PODS}?dryRun=All");
    let refused = server.post(&dry, &of("high", json!({}))).await?.expect(403);
    assert_eq!(refused.body["message"], "pods \"x\" is forbidden: no PriorityClass with name high was found");
    let class = |name: &str, value: i64, all: bool| json!({"metadata": {"name": name}, "value": value, "globalDefault": all, "preemptionPolicy": "Never"});
    server.post(CLASSES, &class("high", 1000, false)).await?.expect(201);
    let made = server.post(&dry, &of("high", json!({}))).await?.expect(201);
    assert_eq!((made.at("/spec/priority"), made.at("/spec/preemptionPolicy")), (&json!(1000), &json!("Never")));
    let refused = server.post(&dry, &of("high", json!({"priority": 5}))).await?.expect(403);
    assert!(refused.text.contains("the integer value of priority (5) must not be provided"), "{}", refused.text);
    assert_eq!(server.post(&dry, &of("", json!({}))).await?.expect(201).at("/spec/priority"), 0);
    server.post(CLASSES, &class("usual", 7, true)).await?.expect(201);
    let made = server.post(&dry, &of("", json!({}))).await?.expect(201);
    assert_eq!((made.at("/spec/priority"), made.at("/spec/priorityClassName")), (&json!(7), &json!("usual")));
    let refused = server.post(CLASSES, &class("other", 8, true)).await?.expect(403);
    let message = "priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass usual is already marked as default. Only one default can exist";
    assert_eq!(refused.body["message"], message);
    Ok(())
}

/// The condition comes before the deletion, so that whoever asks why the pod ended finds it there.
#[tokio::test]
async fn an_evicted_pod_tells_why_it_goes() -> Result<()> {
    let server = with_pod().await?;
    let eviction = |name: &str, options: Value| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}, "deleteOptions": options});
    let path = format!("{PODS}/p/eviction");
    let refused = server.post(&path, &eviction("q", Value::Null)).await?.expect(400);
    assert!(refused.text.contains("name in URL does not match"), "{}", refused.text);
    let other = json!({"preconditions": {"uid": "other"}});
    server.post(&path, &eviction("p", other)).await?.expect(409);
    server.post(&format!("{path}?dryRun=All"), &eviction("p", Value::Null)).await?.expect(201);
    let untouched = server.get(&format!("{PODS}/p")).await?.expect(200);
    assert_eq!(untouched.at("/metadata/deletionTimestamp"), &Value::Null);
    assert!(!untouched.text.contains("DisruptionTarget"), "{}", untouched.text);

    // On a node it is given time, and is there to be looked at.
    let binding = json!({"target": {"kind": "Node", "name": "n"}});
    server.post(&format!("{PODS}/p/binding"), &binding).await?.expect(201);
    let version = server.get(&format!("{PODS}/p")).await?.at("/metadata/resourceVersion").clone();
    let exactly = json!({"preconditions": {"resourceVersion": version}});
    let evicted = server.post(&path, &eviction("p", exactly.clone())).await?.expect(201);
    assert_eq!(evicted.at("/status"), "Success");
    let pod = server.get(&format!("{PODS}/p")).await?.expect(200);
    assert!(pod.at("/metadata/deletionTimestamp").is_string(), "{}", pod.text);
    let conditions = pod.at("/status/conditions").as_array().unwrap();
    let told = conditions.iter().find(|c| c["type"] == "DisruptionTarget").unwrap();
    assert_eq!((&told["status"], &told["reason"]), (&json!("True"), &json!("EvictionByEvictionAPI")));
    assert_eq!(told["message"], "Eviction API: evicting");
    assert!(conditions.iter().any(|c| c["type"] == "PodScheduled"), "{conditions:?}");
    server.post(&path, &eviction("p", exactly)).await?.expect(409);
    Ok(())
}
