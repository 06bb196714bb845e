//! The rights that `deploy/daemon/agents.yaml` gives are those that the Kubernetes engine uses: it works with them alone,
//! and what it asks of the API is compared with them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kubetask_engine::kubernetes::Access;
use kubetask_engine::{ContainerEngine as _, KubernetesEngine, KubernetesOptions};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use crate::world::{PATIENCE, World, collect, exec_sh, mount, text};

/// Who the server in a pod is.
const ACCOUNT: &str = "system:serviceaccount:default:kubetask-daemon";

/// What is granted though the engine does not ask for it, and why.
const NOT_ASKED: &[(&str, &str)] = &[
    // Kubernetes 1.35 and newer want it for a connection that is asked for with GET.
    ("pods/attach", "create"),
    ("pods/exec", "create"),
];

type Asked = Arc<Mutex<BTreeSet<(String, String)>>>;

fn manifests() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/daemon/agents.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let documents = kubetask_yaml::read_all(&text, kubetask_yaml::Limits::default()).unwrap();
    documents.into_iter().map(|document| document.value).collect()
}

fn granted() -> BTreeSet<(String, String)> {
    let words = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let role = manifests().into_iter().find(|object| object["kind"] == "Role").unwrap();
    let mut all = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        assert_eq!(rule["apiGroups"], serde_json::json!([""]));
        for resource in words(&rule["resources"]) {
            for verb in words(&rule["verbs"]) {
                assert!(all.insert((resource.clone(), verb)), "granted twice: {rule}");
            }
        }
    }
    all
}

/// What a request is to the authorizer: resource and verb. `None`: nothing that a Role could grant.
fn right(request: &http::Request<kube::client::Body>) -> Option<(String, String)> {
    let rest = request.uri().path().strip_prefix("/api/v1/namespaces/default/")?;
    let parts: Vec<&str> = rest.split('/').collect();
    let watch = request.uri().query().unwrap_or_default().contains("watch=");
    let verb = match (request.method().as_str(), parts.len()) {
        ("GET", 1) if watch => "watch",
        ("GET", 1) => "list",
        ("GET", _) => "get",
        ("POST", _) => "create",
        ("PATCH", _) => "patch",
        ("PUT", _) => "update",
        ("DELETE", 1) => "deletecollection",
        ("DELETE", _) => "delete",
        (other, _) => panic!("{other}"),
    };
    let resource = parts.get(2).map_or_else(|| parts[0].to_owned(), |sub| format!("{}/{sub}", parts[0]));
    Some((resource, verb.to_owned()))
}

/// A client that notes what is asked for.
fn noting(client: kube::Client, asked: Asked) -> kube::Client {
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        asked.lock().unwrap().extend(right(&request));
        let client = client.clone();
        async move { client.send(request).await }
    });
    kube::Client::new(service, "default")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_is_granted_what_it_uses_and_no_more() {
    if crate::kubernetes::elsewhere() {
        eprintln!("SKIPPED: that cluster's Roles are not ours to make");
        return;
    }
    let Some(world) = World::kubernetes().await else { return };
    let Access::Kubeconfig { path: Some(path), .. } = crate::kubernetes::cluster(KubernetesOptions::default()).1.access
    else {
        panic!("the embedded cluster has a kubeconfig")
    };
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let admin = kube::Client::try_from(config.clone()).unwrap();
    for object in manifests() {
        let kind = object["kind"].as_str().unwrap();
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(admin.clone(), "default", &kind);
        let name = object["metadata"]["name"].as_str().unwrap();
        api.patch(name, &PatchParams::apply("test"), &Patch::Apply(&object)).await.unwrap();
    }
    config.auth_info.impersonate = Some(ACCOUNT.to_owned());
    let asked = Asked::default();
    let client = noting(kube::Client::try_from(config).unwrap(), Arc::clone(&asked));
    // It can do no more than it should.
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::default_namespaced(client.clone());
    assert!(matches!(secrets.get("x").await, Err(kube::Error::Api(status)) if status.code == 403));
    asked.lock().unwrap().clear();

    let options = KubernetesOptions { access: Access::Client(client), ..KubernetesOptions::default() };
    let engine = KubernetesEngine::new(world.path("restricted"), options);
    engine.probe().await.unwrap();
    // Files, output, a program beside it, its streams, its end.
    let guide = world.path("guide");
    std::fs::write(&guide, "read me\n").unwrap();
    let mut spec = world.sh("cat /guide; read line; echo got $line; exit 3");
    (spec.stdin, spec.mounts) = (true, vec![mount(guide, "/guide", true)]);
    engine.start(&spec).await.unwrap();
    assert_eq!(collect(engine.exec(&spec.id, &exec_sh("cat /guide")).await.unwrap()).await.1, "read me\n");
    let mut session = engine.attach(&spec.id, true).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"this\n").await.unwrap();
    let exit = tokio::time::timeout(PATIENCE, engine.wait(&spec.id)).await.unwrap().unwrap();
    assert_eq!(exit.code, 3);
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, session.stdout.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(text(&spec.log.path), "read me\ngot this\n");
    // One that will not start, and one that is stopped.
    let mut missing = world.sh("true");
    missing.image = "registry.invalid/none:1".to_owned();
    engine.start(&missing).await.unwrap_err();
    let long = world.sh("sleep 1000");
    engine.start(&long).await.unwrap();
    engine.stop(&long.id, Duration::ZERO).await.unwrap();
    for id in [&spec.id, &long.id] {
        engine.inspect(id).await.unwrap();
        engine.remove(id).await.unwrap();
    }
    assert!(engine.list(None).await.unwrap().iter().all(|state| state.exit.is_some()));

    let (asked, granted) = (asked.lock().unwrap().clone(), granted());
    let missing: Vec<_> = asked.difference(&granted).collect();
    assert!(missing.is_empty(), "asked for, and not granted: {missing:?}");
    let excused: BTreeSet<(String, String)> =
        NOT_ASKED.iter().map(|(resource, verb)| ((*resource).to_owned(), (*verb).to_owned())).collect();
    let unused: Vec<_> = granted.difference(&asked).filter(|right| !excused.contains(*right)).collect();
    assert!(unused.is_empty(), "granted, and never asked for: {unused:?}");
}
