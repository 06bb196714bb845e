//! `kubetask install` and `uninstall` against an API server. The embedded one has no Deployments: a thin layer before it
//! keeps those, as a store would.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use kubetask::commands::install::{apply, check, prune};
use kubetask::commands::uninstall::{self, UninstallArgs};
use kubetask::output::Output;
use kubetask_core::deploy::{Release, Values};
use kubetask_testkit::TestCluster;
use serde_json::{Value, json};

use super::usual;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Objects of `apps` and `policy`, which the embedded server does not serve, by path.
#[derive(Clone, Default)]
struct Extra(Arc<Mutex<BTreeMap<String, Value>>>);

#[derive(Clone)]
struct Layer {
    extra: Extra,
    inner: Client,
}

impl tower::Service<http::Request<Body>> for Layer {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self { extra, inner } = self.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            if !path.starts_with("/apis/apps/") && !path.starts_with("/apis/policy/") {
                return Ok(inner.send(request).await?);
            }
            let method = request.method().clone();
            let query = request.uri().query().unwrap_or_default().to_owned();
            let body = request.into_body().collect().await?.to_bytes();
            let (code, answer) = extra.answer(&method, &path, &query, &body);
            let body = Body::from(answer.to_string().into_bytes());
            Ok(http::Response::builder().status(code).header("content-type", "application/json").body(body)?)
        })
    }
}

impl Extra {
    fn answer(&self, method: &http::Method, path: &str, query: &str, body: &[u8]) -> (u16, Value) {
        let mut all = self.0.lock().unwrap();
        let missing = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"});
        match method.as_str() {
            "GET" if path == "/apis/apps/v1" => {
                let resource = json!({"name": "deployments", "singularName": "deployment", "namespaced": true, "kind": "Deployment", "verbs": ["get"]});
                (
                    200,
                    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "apps/v1", "resources": [resource]}),
                )
            }
            "GET" => match all.get(path) {
                Some(object) => (200, object.clone()),
                None if path.ends_with("/deployments") || path.ends_with("/poddisruptionbudgets") => {
                    let plural = path.rsplit('/').next().unwrap();
                    let items: Vec<_> = all
                        .iter()
                        .filter(|(p, o)| p.contains(plural) && query.contains(manager(o)))
                        .map(|(_, o)| o.clone())
                        .collect();
                    (200, json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
                }
                None => (404, missing),
            },
            "PATCH" => {
                let object: Value = serde_json::from_slice(body).unwrap();
                if !query.contains("dryRun=All") {
                    all.insert(path.to_owned(), object.clone());
                }
                (200, object)
            }
            "DELETE" => match all.remove(path) {
                Some(object) => (200, object),
                None => (404, missing),
            },
            other => panic!("{other} {path}"),
        }
    }
}

/// Whose an object is, as it stands in a label selector.
fn manager(object: &Value) -> &str {
    object["metadata"]["labels"]["app.kubernetes.io/managed-by"].as_str().unwrap()
}

async fn cluster() -> (TestCluster, Extra, Client) {
    let cluster = TestCluster::start().await.unwrap();
    let extra = Extra::default();
    let client = Client::new(Layer { extra: extra.clone(), inner: cluster.client() }, "default");
    (cluster, extra, client)
}

fn args(force: bool, keep_crds: bool) -> UninstallArgs {
    UninstallArgs { yes: true, force, keep_crds, timeout: Duration::from_secs(60) }
}

fn quiet() -> Output {
    Output::new(true, kubetask::args::ColorChoice::Never)
}

const AGENT: &str = "{apiVersion: kubetask.io/v1alpha1, kind: Agent, metadata: {name: mine, namespace: default}, spec: {serviceAccountName: default}}";

#[tokio::test(flavor = "multi_thread")]
async fn install_upgrade_and_uninstall() {
    let (cluster, extra, client) = cluster().await;
    let (values, release) = usual();

    let tried = apply(&client, &values, &release, true).await.unwrap();
    assert!(tried.applied.contains(&"deployment.apps/kubetask-controller".to_owned()), "{:?}", tried.applied);
    assert!(extra.0.lock().unwrap().is_empty(), "a dry run changes nothing");

    let first = apply(&client, &values, &release, false).await.unwrap();
    assert!(prune(&client, &first).await.unwrap().is_empty());
    assert_eq!(extra.0.lock().unwrap().len(), 2, "Deployment and disruption budget");
    cluster.apply(AGENT).await.unwrap();

    // An upgrade with other choices: objects stay, what is not wanted any more goes.
    let fewer: Values =
        Values { metrics: serde_json::from_value(json!({"service": false})).unwrap(), ..values.clone() };
    let second = apply(&client, &fewer, &release, false).await.unwrap();
    assert_eq!(prune(&client, &second).await.unwrap(), ["service/kubetask-metrics"]);
    let agents: kube::Api<kubetask_api::Agent> = cluster.api();
    agents.get("mine").await.unwrap();

    // With objects of ours there it says no; then it takes them along.
    let plan = uninstall::look(&client, &release).await.unwrap();
    let refused = plan.refuse(&args(false, false)).unwrap_err();
    assert!(refused.lines[0].contains("1 agents"), "{refused:?}");
    plan.refuse(&args(false, true)).unwrap();
    plan.refuse(&args(true, false)).unwrap();
    uninstall::carry_out(&client, &plan, &args(true, false), quiet()).await.unwrap();

    assert!(extra.0.lock().unwrap().is_empty());
    let left = uninstall::look(&client, &release).await.unwrap();
    left.refuse(&args(false, false)).unwrap();
    let crds: kube::Api<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> =
        kube::Api::all(client.clone());
    assert!(crds.list(&Default::default()).await.unwrap().items.is_empty());
    let roles: kube::Api<k8s_openapi::api::rbac::v1::ClusterRole> = kube::Api::all(client.clone());
    let roles =
        roles.list(&kube::api::ListParams::default().labels("app.kubernetes.io/part-of=kubetask")).await.unwrap();
    assert!(roles.items.is_empty());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstall_can_leave_the_definitions_and_what_helm_made() {
    let (cluster, extra, client) = cluster().await;
    let (values, release) = usual();
    apply(&client, &values, &release, false).await.unwrap();
    cluster.apply(AGENT).await.unwrap();
    let plan = uninstall::look(&client, &release).await.unwrap();
    uninstall::carry_out(&client, &plan, &args(false, true), quiet()).await.unwrap();
    assert!(extra.0.lock().unwrap().is_empty());
    let agents: kube::Api<kubetask_api::Agent> = cluster.api();
    agents.get("mine").await.unwrap();

    let helm = Release { managed_by: "Helm".to_owned(), ..release };
    apply(&client, &values, &helm, false).await.unwrap();
    let plan = uninstall::look(&client, &usual().1).await.unwrap();
    let refused = plan.refuse(&args(true, false)).unwrap_err();
    assert!(refused.hint.unwrap().contains("helm uninstall"));
    cluster.shutdown().await;
}

#[tokio::test]
async fn old_clusters_are_refused() {
    let of = |minor: &'static str| {
        let version = json!({
            "major": "1", "minor": minor, "gitVersion": "", "gitCommit": "", "gitTreeState": "", "buildDate": "",
            "goVersion": "", "compiler": "", "platform": "",
        });
        let deployments = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "apps/v1", "resources": [
            {"name": "deployments", "singularName": "deployment", "namespaced": true, "kind": "Deployment", "verbs": ["get"]},
        ]});
        let answer = move |request: http::Request<Body>| {
            let answer = if request.uri().path() == "/version" { &version } else { &deployments };
            let body = Body::from(answer.to_string().into_bytes());
            async move { Ok::<_, BoxError>(http::Response::new(body)) }
        };
        Client::new(tower::service_fn(answer), "default")
    };
    let refused = check(&of("29+")).await.unwrap_err();
    assert_eq!(refused.lines, ["this cluster is Kubernetes 1.29+: KubeTask needs 1.30 or newer"]);
    check(&of("30")).await.unwrap();
}

#[test]
fn this_machines_own_server_is_no_cluster_to_install_into() {
    let machine = crate::machine::Machine::up();
    let kubeconfig = machine.kubeconfig();
    let out = machine.kubetask(&["install", "--kubeconfig", kubeconfig.to_str().unwrap()]).code(2);
    assert!(out.stderr.contains("runs no Deployments"), "{}", out.stderr);
}
