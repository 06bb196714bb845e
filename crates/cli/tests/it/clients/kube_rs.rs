//! A kube-rs `Controller` with objects it owns and a finalizer, over TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use serde_json::json;

use super::fixture;
use crate::machine::Machine;

const FINALIZER: &str = "clients.example.test/goodbye";

struct Context {
    client: Client,
    runs: AtomicUsize,
    cleanups: AtomicUsize,
}

type Failure = kube::runtime::finalizer::Error<kube::Error>;

async fn reconcile(echo: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action, Failure> {
    context.runs.fetch_add(1, Ordering::Relaxed);
    let api = Api::<DynamicObject>::default_namespaced_with(context.client.clone(), &kind());
    finalizer(&api, FINALIZER, echo, |event| act(event, context)).await
}

async fn act(event: Event<DynamicObject>, context: Arc<Context>) -> Result<Action, kube::Error> {
    match event {
        Event::Apply(echo) => {
            let maps: Api<ConfigMap> = Api::default_namespaced(context.client.clone());
            let child = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": echo.name_any(),
                "ownerReferences": [echo.controller_owner_ref(&kind())]}, "data": {"text": echo.data["spec"]["text"]}});
            let params = PatchParams::apply("echo-controller").force();
            maps.patch(&echo.name_any(), &params, &Patch::Apply(child)).await?;
            let api = Api::<DynamicObject>::default_namespaced_with(context.client.clone(), &kind());
            let status = json!({"status": {"observedGeneration": echo.meta().generation}});
            api.patch_status(&echo.name_any(), &PatchParams::default(), &Patch::Merge(status)).await?;
        }
        Event::Cleanup(_) => {
            context.cleanups.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(Action::await_change())
}

fn kind() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("clients.example.test", "v1", "Echo"), "echoes")
}

async fn soon<T>(what: &str, future: impl Future<Output = Result<T, kube::runtime::wait::Error>>) -> T {
    let done = tokio::time::timeout(Duration::from_secs(30), future).await;
    done.unwrap_or_else(|_| panic!("not in time: {what}")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_owns_heals_and_cleans_up() {
    let machine = Machine::up();
    let kubeconfig = kube::config::Kubeconfig::read_from(machine.kubeconfig()).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let definition = std::fs::read_to_string(fixture("echo.yaml")).unwrap();
    let definition: DynamicObject = serde_saphyr::from_str(&definition).unwrap();
    let crds: Api<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> =
        Api::all(client.clone());
    let params = PatchParams::apply("test");
    crds.patch("echoes.clients.example.test", &params, &Patch::Apply(&definition)).await.unwrap();
    let established = conditions::is_crd_established();
    soon("established", await_condition(crds, "echoes.clients.example.test", established)).await;

    let echoes = Api::<DynamicObject>::default_namespaced_with(client.clone(), &kind());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let context = Arc::new(Context { client, runs: AtomicUsize::default(), cleanups: AtomicUsize::default() });
    let stop = Arc::new(tokio::sync::Notify::new());
    let stopped = stop.clone();
    let controller = Controller::new_with(echoes.clone(), watcher::Config::default(), kind())
        .owns(maps.clone(), watcher::Config::default())
        .graceful_shutdown_on(async move { stopped.notified().await })
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(100)), context.clone())
        .for_each(|_| async {});
    let controller = tokio::spawn(controller);

    let echo = json!({"apiVersion": "clients.example.test/v1", "kind": "Echo", "metadata": {"name": "e"},
        "spec": {"text": "one"}});
    let echo = echoes.create(&PostParams::default(), &serde_json::from_value(echo).unwrap()).await.unwrap();
    let says = |text: &'static str| {
        move |map: Option<&ConfigMap>| map.and_then(|m| m.data.as_ref()).is_some_and(|d| d["text"] == text)
    };
    let child = soon("the child is made", await_condition(maps.clone(), "e", says("one"))).await.unwrap();
    assert_eq!(child.owner_references()[0].uid, echo.uid().unwrap());

    let patch = Patch::Merge(json!({"spec": {"text": "two"}}));
    echoes.patch("e", &PatchParams::default(), &patch).await.unwrap();
    soon("the child follows", await_condition(maps.clone(), "e", says("two"))).await;
    let observed = |echo: Option<&DynamicObject>| {
        echo.is_some_and(|e| e.data["status"]["observedGeneration"] == json!(e.metadata.generation))
    };
    soon("the status follows", await_condition(echoes.clone(), "e", observed)).await;

    // What is owned heals: changed by hand, deleted by hand.
    let patch = Patch::Merge(json!({"data": {"text": "by hand"}}));
    maps.patch("e", &PatchParams::default(), &patch).await.unwrap();
    soon("a changed child is mended", await_condition(maps.clone(), "e", says("two"))).await;
    maps.delete("e", &DeleteParams::default()).await.unwrap();
    let another = |map: Option<&ConfigMap>| map.is_some_and(|m| m.uid() != child.uid());
    soon("a deleted child comes back", await_condition(maps.clone(), "e", another)).await;

    // It does not wake itself up for ever.
    let mut runs = context.runs.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = context.runs.load(Ordering::Relaxed);
        if now == runs {
            break;
        }
        assert!(now < 200, "the controller does not come to rest");
        runs = now;
    }

    echoes.delete("e", &DeleteParams::default()).await.unwrap();
    let uid = echo.uid().unwrap();
    let gone = conditions::is_deleted(&uid);
    soon("the finalizer lets go", await_condition(echoes, "e", gone)).await;
    assert!(context.cleanups.load(Ordering::Relaxed) >= 1);
    let gone = |map: Option<&ConfigMap>| map.is_none();
    soon("the child goes after its owner", await_condition(maps, "e", gone)).await;
    stop.notify_one();
    controller.await.unwrap();
}
