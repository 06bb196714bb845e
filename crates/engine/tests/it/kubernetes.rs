//! What only the Kubernetes engine promises.
//!
//! The cluster is another embedded Kubernetes, reached over TLS by its kubeconfig; or, with `KUBETASK_TEST_KUBECONFIG`, any
//! cluster, where `KUBETASK_TEST_IMAGE` (busybox) is run in the namespace of the kubeconfig's context.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use kubetask_embedded::{Embedded, EmbeddedConfig};
use kubetask_engine::kubernetes::{Access, Mapping, Place};
use kubetask_engine::spec::{ContainerId, PullPolicy};
use kubetask_engine::traits::BuildSpec;
use kubetask_engine::{ContainerEngine as _, EngineError, KubernetesEngine, KubernetesOptions};
use tokio::sync::mpsc;

use crate::world::{World, mount, text};

/// Whether the tests are to use a cluster that is not ours.
pub(crate) fn elsewhere() -> bool {
    std::env::var_os("KUBETASK_TEST_KUBECONFIG").is_some()
}

/// What containers are made of.
pub(crate) fn image() -> String {
    let usual = if elsewhere() { "busybox:1" } else { "local/any:1" };
    std::env::var("KUBETASK_TEST_IMAGE").unwrap_or_else(|_| usual.to_owned())
}

/// An embedded Kubernetes that others reach over TLS, in a runtime of its own.
pub(crate) struct Cluster {
    kubeconfig: PathBuf,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("kubetask-away-").tempdir().unwrap();
        let config = EmbeddedConfig {
            listen: Some(([127, 0, 0, 1], 0).into()),
            program: env!("CARGO_BIN_EXE_kubetask-engine-shim").into(),
            ..EmbeddedConfig::new(dir.path().join("data"))
        };
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let embedded = Embedded::start(config).await.unwrap();
                let accounts: kube::Api<k8s_openapi::api::core::v1::ServiceAccount> =
                    kube::Api::namespaced(embedded.client("test"), "default");
                while accounts.get_opt("default").await.unwrap().is_none() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                tell.send(embedded.kubeconfig().to_owned()).unwrap();
                let _ = ended.await;
                embedded.shutdown().await;
            });
        });
        let kubeconfig = told.recv_timeout(Duration::from_secs(60)).expect("the cluster starts");
        Self { kubeconfig, end: Some(end), thread: Some(thread), _dir: dir }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// The cluster that tests running at the same time share, and how to reach it.
pub(crate) fn cluster(options: KubernetesOptions) -> (Option<Arc<Cluster>>, KubernetesOptions) {
    if let Some(path) = std::env::var_os("KUBETASK_TEST_KUBECONFIG") {
        let access = Access::Kubeconfig { path: Some(path.into()), context: None };
        return (None, KubernetesOptions { access, ..options });
    }
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = shared.upgrade().unwrap_or_else(|| {
        let cluster = Arc::new(Cluster::start());
        *shared = Arc::downgrade(&cluster);
        cluster
    });
    let access = Access::Kubeconfig { path: Some(cluster.kubeconfig.clone()), context: None };
    (Some(cluster), KubernetesOptions { access, ..options })
}

/// Another engine of the same cluster and directory, as after a restart of the caller.
fn again(world: &World, options: KubernetesOptions) -> KubernetesEngine {
    KubernetesEngine::new(world.path("kubernetes"), cluster(options).1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_tells_what_it_talks_to() {
    let Some(world) = World::kubernetes().await else { return };
    let info = world.engine.probe().await.unwrap();
    assert!(info.description.starts_with("Kubernetes v1.") && info.description.contains(", namespace "), "{info:?}");
    // Nothing was started: nobody has to be asked, and nothing is written.
    assert!(world.engine.list(None).await.unwrap().is_empty());
    assert!(!world.path("kubernetes").exists());
}

#[tokio::test]
async fn without_a_cluster_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let reach = |text: &str| {
        let path = dir.path().join("kubeconfig");
        std::fs::write(&path, text).unwrap();
        let access = Access::Kubeconfig { path: Some(path), context: Some("c".to_owned()) };
        KubernetesEngine::new(dir.path().join("k"), KubernetesOptions { access, ..KubernetesOptions::default() })
    };
    let reason = async |engine: KubernetesEngine| match engine.probe().await {
        Err(EngineError::Unavailable { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let none = reason(reach("{apiVersion: v1, kind: Config, contexts: []}")).await;
    assert!(none.contains("kubeconfig") && none.contains('c'), "{none}");
    let text = "{apiVersion: v1, kind: Config, contexts: [{name: c, context: {cluster: x, user: x}}], users: [{name: x, user: \
                {}}], clusters: [{name: x, cluster: {server: 'http://127.0.0.1:1'}}]}";
    let refused = reason(reach(text)).await;
    assert!(refused.contains("does not answer"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_built_elsewhere() {
    let Some(world) = World::kubernetes().await else { return };
    let spec = BuildSpec { image: "x:1".to_owned(), context: world.path(""), dockerfile: None, args: Vec::new() };
    let (output, _lines) = mpsc::channel(1);
    let error = world.engine.build_image(&spec, output).await.unwrap_err().to_string();
    assert_eq!(error, "kubernetes engine does not support building images: build x:1 beforehand");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_not_there() {
    let Some(world) = World::kubernetes().await else { return };
    let mut spec = world.sh("true");
    spec.image = "registry.invalid/none:1".to_owned();
    world.engine.ensure_image(&spec.image, PullPolicy::IfNotPresent).await.unwrap();
    for _ in 0..2 {
        let Err(EngineError::Image { image, .. }) = world.engine.start(&spec).await else { panic!("it starts") };
        assert_eq!(image, spec.image);
    }
    let found = async || world.engine.list(None).await.unwrap().len();
    let gone = async {
        while found().await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::world::PATIENCE, gone).await.expect("nothing is left of it");
}

/// Files are sent, with their modes and links; what the container writes into a directory stays its own, and what it
/// writes into a file comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_sent() {
    let Some(world) = World::kubernetes().await else { return };
    let (space, guide, words) = (world.directory("work"), world.path("guide"), world.path("words"));
    std::fs::create_dir(space.join("deep")).unwrap();
    std::fs::write(space.join("deep/file"), "x".repeat(3_000_000)).unwrap();
    std::os::unix::fs::symlink("deep/file", space.join("link")).unwrap();
    std::fs::write(space.join("run"), "#!/bin/sh\necho it runs\n").unwrap();
    std::fs::set_permissions(space.join("run"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(&guide, "read me\n").unwrap();
    std::fs::write(&words, "").unwrap();
    let mut spec = world.sh(
        "wc -c < /workspace/link | tr -d ' '; /workspace/run; cat /guide; echo new > /workspace/new && cat /workspace/new; \
         (echo no > /guide) 2>/dev/null || echo refused; printf 'the end' > /dev/termination-log; exit 3",
    );
    spec.mounts = vec![
        mount(space.clone(), "/workspace", false),
        mount(guide, "/guide", true),
        mount(words.clone(), "/dev/termination-log", false),
    ];
    assert_eq!(world.run(&spec).await.code, 3);
    assert_eq!(text(&spec.log.path), "3000000\nit runs\nread me\nnew\nrefused\n");
    assert_eq!(std::fs::read_to_string(&words).unwrap(), "the end");
    assert!(!space.join("new").exists());
    let mut spec = world.sh("true");
    spec.mounts = vec![mount(world.path("missing"), "/x", false)];
    let error = world.engine.start(&spec).await.unwrap_err().to_string();
    assert!(error.contains("missing: No such file or directory"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_start_waits_for_is_told() {
    let Some(world) = World::kubernetes().await else { return };
    let claim = Mapping { path: "/claims/none".into(), place: Place::Claim("no-such-claim".to_owned()) };
    let short = Duration::from_secs(3);
    let options = KubernetesOptions { mappings: vec![claim], start_timeout: short, ..KubernetesOptions::default() };
    let engine = again(&world, options);
    let mut spec = world.sh("true");
    spec.mounts.push(mount("/claims/none".into(), "/x", false));
    let Err(EngineError::Waiting { reason, .. }) = engine.start(&spec).await else { panic!("it starts") };
    assert!(reason.contains("no-such-claim"), "{reason}");
    let mut big = world.sh("true");
    big.resources.memory_bytes = Some(1 << 50);
    let Err(EngineError::Waiting { reason, .. }) = engine.start(&big).await else { panic!("it starts") };
    assert!(reason.contains("nsufficient memory"), "{reason}");
    // It is listed, does not count as started, and can be stopped.
    assert_eq!(engine.list(None).await.unwrap().len(), 2);
    for id in [&spec.id, &big.id] {
        assert!(matches!(engine.inspect(id).await, Err(EngineError::NotFound(_))));
        let exit = engine.stop(id, Duration::ZERO).await.unwrap();
        assert_eq!((exit.code, exit.error.as_deref()), (128, Some("it was stopped before it started")));
        engine.remove(id).await.unwrap();
    }
    assert!(engine.list(None).await.unwrap().is_empty());
}

/// The caller was killed: another finds the container by its identity, and the log has every line once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_engine_goes_on() {
    let Some(world) = World::kubernetes().await else { return };
    let spec = world.sh("i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line $i; sleep 0.03; done; exit 4");
    // In a runtime of its own, which is dropped in the middle of it all.
    let (copy, engine) = (spec.clone(), again(&world, KubernetesOptions::default()));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            engine.start(&copy).await.unwrap();
            while !text(&copy.log.path).contains("line 10") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        runtime.shutdown_background();
    })
    .join()
    .unwrap();
    let engine = again(&world, KubernetesOptions::default());
    let state = engine.inspect(&spec.id).await.unwrap();
    assert_eq!((&state.id, state.exit.is_none()), (&spec.id, true));
    assert_eq!(engine.start(&spec).await.unwrap().started_at_nanos, state.started_at_nanos, "it is not started again");
    assert_eq!(engine.wait(&spec.id).await.unwrap().code, 4);
    let expect: String = (1..=60).map(|number| format!("line {number}\n")).collect();
    assert_eq!(text(&spec.log.path), expect);
}

/// Somebody else deletes the Pod: its end is told all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_pod_has_an_end() {
    let Some(world) = World::kubernetes().await else { return };
    let spec = world.sh("trap 'echo asked; exit 5' TERM; echo ready; while :; do sleep 0.02; done");
    let id = world.start(&spec).await;
    world.printed(&spec, "ready").await;
    let Access::Kubeconfig { path: Some(path), .. } = cluster(KubernetesOptions::default()).1.access else { panic!() };
    let (kubeconfig, usual) = (kube::config::Kubeconfig::read_from(path).unwrap(), Default::default());
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &usual).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::default_namespaced(client);
    let scope = std::fs::read_to_string(world.path("kubernetes/scope")).unwrap();
    let params = kube::api::ListParams::default().labels(&format!("engine.kubetask.io/scope={scope}"));
    for pod in pods.list(&params).await.unwrap() {
        pods.delete(pod.metadata.name.as_deref().unwrap(), &kube::api::DeleteParams::default()).await.unwrap();
    }
    assert_eq!(world.wait(&id).await.code, 5);
    assert_eq!(world.engine.inspect(&id).await.unwrap().exit.unwrap().code, 5, "it is known until it is removed");
    assert_eq!(text(&spec.log.path), "ready\nasked\n");
}

/// Two engines with one namespace do not see each other's containers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_shared() {
    let (Some(one), Some(two)) = (World::kubernetes().await, World::kubernetes().await) else { return };
    let id = one.start(&one.sh("sleep 1000")).await;
    assert_eq!(two.run(&two.sh("exit 2")).await.code, 2);
    for (world, ended) in [(&one, false), (&two, true)] {
        let listed = world.engine.list(None).await.unwrap();
        let listed: Vec<(ContainerId, bool)> = listed.into_iter().map(|s| (s.id, s.exit.is_some())).collect();
        assert_eq!(listed, [(id.clone(), ended)]);
    }
    one.engine.stop(&id, Duration::ZERO).await.unwrap();
}
