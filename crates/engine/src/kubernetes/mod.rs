//! Containers as Pods of a cluster.
//!
//! A container is one Pod, named after the caller's identity of the run, with that identity in its annotations: after any
//! crash it is found again, and starting one twice starts it once. A finalizer keeps a Pod that ended or was stopped until
//! its end was read and it is [removed](crate::ContainerEngine::remove), whoever deletes it. Output is copied into the
//! caller's log files by [`follow`], which goes on where it ended.
//!
//! What a cluster cannot do, or does otherwise:
//!
//! * Files of this machine are not there. They are sent before the container starts (the image needs `sh` and `tar` for
//!   that) and do not come back, unless [`KubernetesOptions::mappings`] says where the cluster has them: in a
//!   PersistentVolumeClaim, or on its nodes.
//! * Logs do not tell standard error from standard output.
//! * A program in a running container runs as the container's own user. As another it runs by what the image has for
//!   that (`setpriv`, `su`, …); without any of it that is an error.
//! * A program whose session is dropped is only cut off: the cluster does not end it.
//! * Images are fetched by the cluster's nodes when a container starts, and built beforehand by others.
//! * A container cannot be cut off from the network (use a NetworkPolicy), and its processes cannot be counted.
//! * As with Docker, an attach that is dropped closes the container's input, and the program is the container's first
//!   process.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::{OnceCell, watch};

use crate::check;
use crate::spec::{ContainerId, ContainerSpec, ContainerState, Exit, Network, PullPolicy};
use crate::traits::{ContainerEngine, EngineError, EngineInfo, ExecSpec, Result, Session};

mod files;
mod follow;
mod options;
mod pod;
mod session;
mod state;

pub use options::{Access, KubernetesOptions, Mapping, Place};
use pod::{PROBLEM, SCOPE_LABEL};
use state::Stage;

/// The engine's name in routes.
const NAME: &str = "kubernetes";
/// File with what tells our Pods from others'; where it is missing there are none.
const SCOPE: &str = "scope";
/// How long the rest of an ended container's output may take to arrive.
const LAST_OUTPUT: Duration = Duration::from_secs(30);
/// How much longer than its grace a container may take to end before its node counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(120);

/// Runs containers in a Kubernetes cluster.
#[derive(Clone)]
pub struct KubernetesEngine(Arc<Inner>);

struct Inner {
    root: PathBuf,
    options: KubernetesOptions,
    cluster: OnceCell<Cluster>,
    /// Logs that are being copied, or were.
    logs: StdMutex<HashMap<ContainerId, watch::Receiver<bool>>>,
    /// When to fetch images, where that is not "when it is missing".
    policies: StdMutex<HashMap<String, PullPolicy>>,
}

#[derive(Clone)]
struct Cluster {
    client: Client,
    namespace: String,
    address: String,
}

impl std::fmt::Debug for KubernetesEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesEngine").field("root", &self.0.root).field("options", &self.0.options).finish()
    }
}

impl KubernetesEngine {
    /// An engine for a cluster, which is only asked once a container is wanted. `root` is a directory for the little that
    /// it keeps: what tells its Pods from those of others who use the cluster.
    pub fn new(root: impl Into<PathBuf>, options: KubernetesOptions) -> Self {
        let root = root.into();
        Self(Arc::new(Inner {
            root,
            options,
            cluster: OnceCell::new(),
            logs: StdMutex::default(),
            policies: StdMutex::default(),
        }))
    }

    async fn cluster(&self) -> Result<&Cluster> {
        let connect = async || {
            let (client, namespace, address) = self.0.options.connect().await?;
            Ok(Cluster { client, namespace, address })
        };
        self.0.cluster.get_or_try_init(connect).await
    }

    async fn pods(&self) -> Result<Api<Pod>> {
        let cluster = self.cluster().await?;
        Ok(Api::namespaced(cluster.client.clone(), &cluster.namespace))
    }

    /// What tells our Pods from others'; `None` where there are none yet.
    fn scope(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.0.root.join(SCOPE)).ok()?;
        Some(text.trim().to_owned()).filter(|scope| !scope.is_empty())
    }

    /// As [`Self::scope`], made where it is missing, and on disk before any Pod is.
    fn own_scope(&self) -> Result<String> {
        if let Some(scope) = self.scope() {
            return Ok(scope);
        }
        let path = self.0.root.join(SCOPE);
        let write = || {
            std::fs::create_dir_all(&self.0.root)?;
            let random = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
            let scope: String = random.chars().filter(char::is_ascii_hexdigit).take(16).collect();
            let temporary = self.0.root.join(format!("{SCOPE}.{scope}"));
            std::fs::write(&temporary, &scope)?;
            std::fs::File::open(&temporary)?.sync_all()?;
            // Another may be as far: the first counts.
            let linked = std::fs::hard_link(&temporary, &path);
            std::fs::remove_file(&temporary)?;
            match linked {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
                _ => std::fs::File::open(&self.0.root)?.sync_all(),
            }
        };
        write().map_err(|source| EngineError::Io { step: format!("write {}", path.display()), source })?;
        self.scope().ok_or_else(|| EngineError::Invalid(format!("{} is empty: remove it", path.display())))
    }

    /// When to fetch an image.
    fn policy(&self, image: &str) -> PullPolicy {
        let policies = self.0.policies.lock().unwrap_or_else(PoisonError::into_inner);
        policies.get(image).copied().unwrap_or(PullPolicy::IfNotPresent)
    }

    /// The Pod of a container, whatever became of it.
    async fn look(&self, id: &ContainerId) -> Result<Option<(Api<Pod>, Pod)>> {
        let Some(scope) = self.scope() else { return Ok(None) };
        let api = self.pods().await?;
        let found = api.get_opt(&pod::name(&scope, &id.0)).await.map_err(failed)?;
        Ok(found.filter(|found| state::is_of(found, &scope, id)).map(|found| (api, found)))
    }

    /// As [`Self::look`], for a container that was started, or never will be.
    async fn started(&self, id: &ContainerId) -> Result<(Api<Pod>, Pod)> {
        let found = self.look(id).await?;
        let found = found.filter(|(_, pod)| matches!(state::stage(pod), Stage::Running | Stage::Ended(_)));
        found.ok_or_else(|| EngineError::NotFound(id.0.clone()))
    }

    async fn running(&self, id: &ContainerId) -> Result<(Api<Pod>, Pod)> {
        let (api, pod) = self.started(id).await?;
        match state::stage(&pod) {
            Stage::Ended(_) => Err(EngineError::Invalid(format!("container {:?} is not running", id.0))),
            _ => Ok((api, pod)),
        }
    }

    /// Sees to it that a container's output is copied.
    fn follow(&self, api: &Api<Pod>, id: &ContainerId, pod: &Pod) -> Option<watch::Receiver<bool>> {
        let mut logs = self.0.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(done) = logs.get(id) {
            return Some(done.clone());
        }
        let done = follow::spawn(api.clone(), pod.metadata.name.clone()?, state::log(pod)?);
        logs.insert(id.clone(), done.clone());
        Some(done)
    }

    /// The state of a container; that of an ended one is told once all its output is in the log, and its last words are
    /// in their file.
    async fn told(&self, api: &Api<Pod>, id: &ContainerId, pod: &Pod) -> Result<ContainerState> {
        let state = state::state(pod).ok_or_else(|| EngineError::NotFound(id.0.clone()))?;
        let began = state.exit.as_ref().is_none_or(|exit| exit.error.is_none());
        if began
            && let Some(mut done) = self.follow(api, id, pod)
            && state.exit.is_some()
        {
            let _ = tokio::time::timeout(LAST_OUTPUT, done.wait_for(|done| *done)).await;
        }
        if let Some((path, words)) = state::last_words(pod).filter(|_| began) {
            // Never made where it is missing: then nobody waits for it any more.
            let file = std::fs::OpenOptions::new().write(true).truncate(true).open(path);
            let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, words.as_bytes()));
            if let Err(error) = written {
                tracing::debug!(path, %error, "termination message not written");
            }
        }
        Ok(state)
    }

    /// Waits until a Pod is as wanted: `judge` answers once it is. `None`: the Pod went away.
    async fn until<T>(
        &self,
        api: &Api<Pod>,
        name: &str,
        mut judge: impl FnMut(&Pod) -> Option<T>,
    ) -> Result<Option<(T, Pod)>> {
        let stream = watch_object(api.clone(), name).default_backoff();
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(Some(pod)) => {
                    if let Some(verdict) = judge(&pod) {
                        return Ok(Some((verdict, pod)));
                    }
                }
                Ok(None) => return Ok(None),
                Err(watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) => {
                    return Err(failed(error));
                }
                // It begins anew by itself.
                Err(error) => tracing::debug!(%error, "watch of a Pod"),
            }
        }
        Err(unavailable("the watch ended"))
    }

    async fn create(&self, api: &Api<Pod>, pod: &Pod, image: &str) -> Result<()> {
        match api.create(&PostParams::default(), pod).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => match status.code {
                // It was started before.
                409 if status.reason == "AlreadyExists" => Ok(()),
                // A namespace that was just made gets its service account in a moment.
                403 if ["exceeded quota", "error looking up service account"]
                    .iter()
                    .any(|w| status.message.contains(w)) =>
                {
                    Err(EngineError::Waiting { engine: NAME, reason: status.message })
                }
                404 => Err(EngineError::Start(format!("{}: create it first", status.message))),
                400 | 422 => Err(EngineError::Invalid(status.message)),
                _ => Err(failed(kube::Error::Api(status))),
            },
            Err(error) => Err(failed(error)),
        }
        .map_err(|error| {
            tracing::debug!(image, %error, "Pod not created");
            error
        })
    }

    /// Waits until a created container runs or ended; sends its files.
    async fn bring_up(&self, api: &Api<Pod>, name: &str, plan: pod::Plan, image: &str) -> Result<Pod> {
        let waiting = std::sync::Mutex::new("it has no node yet".to_owned());
        let work = async {
            let mut sent = plan.files.is_empty();
            loop {
                let judge = |pod: &Pod| match state::stage(pod) {
                    Stage::Waiting(why) => {
                        *waiting.lock().unwrap_or_else(PoisonError::into_inner) = why;
                        None
                    }
                    Stage::WantsFiles if sent => None,
                    stage => Some(stage),
                };
                let found = self.until(api, name, judge).await?;
                let Some((stage, pod)) = found else {
                    return Err(EngineError::Start("its Pod was deleted while it was starting".to_owned()));
                };
                match stage {
                    Stage::WantsFiles => {
                        *waiting.lock().unwrap_or_else(PoisonError::into_inner) = "its files are being sent".to_owned();
                        let outcome = files::send(api, name, plan.files.clone()).await;
                        if let Err(error @ EngineError::Start(_)) = outcome {
                            return Err(self.give_up(api, &pod, error).await);
                        }
                        outcome?;
                        sent = true;
                    }
                    Stage::Stuck(trouble) => return Err(self.give_up(api, &pod, trouble.into_error(image)).await),
                    _ => return Ok(pod),
                }
            }
        };
        match tokio::time::timeout(self.0.options.start_timeout, work).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let reason = waiting.into_inner().unwrap_or_else(PoisonError::into_inner);
                Err(EngineError::Waiting { engine: NAME, reason })
            }
        }
    }

    /// Ends what will not start. Where the image is missing nothing is left of it, so that it can be tried again; otherwise
    /// its end is kept.
    async fn give_up(&self, api: &Api<Pod>, pod: &Pod, error: EngineError) -> EngineError {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let change = match &error {
            EngineError::Image { .. } => json!({"metadata": {"finalizers": null}}),
            error => {
                let problem = match error {
                    EngineError::Start(problem) => problem.clone(),
                    other => other.to_string(),
                };
                json!({"metadata": {"annotations": {PROBLEM: problem}}})
            }
        };
        let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(change)).await;
        let deleted = api.delete(name, &delete(pod, Duration::ZERO)).await;
        if let Some(failure) = patched.err().or(deleted.err()) {
            tracing::debug!(pod = name, error = %failure, "what did not start is not ended yet");
        }
        error
    }
}

/// Deletes this Pod and no later one of its name.
fn delete(pod: &Pod, grace: Duration) -> DeleteParams {
    let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
    DeleteParams {
        grace_period_seconds: Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
        preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    }
}

#[async_trait]
impl ContainerEngine for KubernetesEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn probe(&self) -> Result<EngineInfo> {
        let cluster = self.cluster().await?;
        let version = cluster.client.apiserver_version().await.map_err(failed)?;
        let api = self.pods().await?;
        api.list(&ListParams::default().limit(1)).await.map_err(failed)?;
        let at = if cluster.address.is_empty() { String::new() } else { format!(" at {}", cluster.address) };
        let description = format!("Kubernetes {}{at}, namespace {}", version.git_version, cluster.namespace);
        Ok(EngineInfo { name: NAME, description })
    }

    /// The cluster's nodes fetch images when containers start; what is wrong with an image is told then.
    async fn ensure_image(&self, image: &str, policy: PullPolicy) -> Result<()> {
        if image.is_empty() {
            return Err(EngineError::Image { image: String::new(), reason: "no image is named".to_owned() });
        }
        let mut policies = self.0.policies.lock().unwrap_or_else(PoisonError::into_inner);
        match policy {
            PullPolicy::IfNotPresent => drop(policies.remove(image)),
            other => drop(policies.insert(image.to_owned(), other)),
        }
        Ok(())
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<ContainerState> {
        supported(spec)?;
        let scope = self.own_scope()?;
        let api = self.pods().await?;
        let policy = self.policy(&spec.image);
        let plan = pod::plan(spec, &scope, &self.0.options, policy, |path| path.is_file())?;
        for (_, source) in &plan.files {
            let there = std::fs::symlink_metadata(source);
            there.map_err(|error| EngineError::Start(format!("cannot mount {}: {error}", source.display())))?;
        }
        self.create(&api, &plan.pod, &spec.image).await?;
        let name = pod::name(&scope, &spec.id.0);
        let pod = self.bring_up(&api, &name, plan, &spec.image).await?;
        if !state::is_of(&pod, &scope, &spec.id) {
            return Err(EngineError::Invalid(format!("Pod {name} is not of this engine")));
        }
        let state = state::state(&pod).ok_or_else(|| EngineError::NotFound(spec.id.0.clone()))?;
        match state.exit.as_ref().and_then(|exit| exit.error.as_ref()) {
            Some(error) => return Err(EngineError::Start(error.clone())),
            None => self.follow(&api, &spec.id, &pod),
        };
        if state.exit.is_some() { self.told(&api, &spec.id, &pod).await } else { Ok(state) }
    }

    async fn inspect(&self, id: &ContainerId) -> Result<ContainerState> {
        let (api, pod) = self.started(id).await?;
        self.told(&api, id, &pod).await
    }

    async fn list(&self, label: Option<(&str, &str)>) -> Result<Vec<ContainerState>> {
        let Some(scope) = self.scope() else { return Ok(Vec::new()) };
        let api = self.pods().await?;
        let params = ListParams::default().labels(&format!("{SCOPE_LABEL}={scope}"));
        let listed = api.list(&params).await.map_err(failed)?;
        let states = listed.items.iter().filter_map(state::state);
        let wanted = |state: &ContainerState| {
            label.is_none_or(|(name, value)| state.labels.get(name).is_some_and(|known| known == value))
        };
        Ok(states.filter(wanted).collect())
    }

    async fn wait(&self, id: &ContainerId) -> Result<Exit> {
        let (api, pod) = self.started(id).await?;
        self.follow(&api, id, &pod);
        let name = pod.metadata.name.clone().unwrap_or_default();
        let ended = |pod: &Pod| matches!(state::stage(pod), Stage::Ended(_)).then_some(());
        let found = self.until(&api, &name, ended).await?;
        let Some(((), pod)) = found else { return Err(EngineError::NotFound(id.0.clone())) };
        let exit = self.told(&api, id, &pod).await?.exit;
        exit.ok_or_else(|| EngineError::NotFound(id.0.clone()))
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<Exit> {
        let found = self.look(id).await?;
        let Some((api, pod)) = found else { return Err(EngineError::NotFound(id.0.clone())) };
        let name = pod.metadata.name.clone().unwrap_or_default();
        let running = match state::stage(&pod) {
            Stage::Ended(_) => return self.wait(id).await,
            stage => stage == Stage::Running,
        };
        if running {
            // Before anything is deleted somebody listens to what it says last.
            self.follow(&api, id, &pod);
        }
        match api.delete(&name, &delete(&pod, grace)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(failed(error)),
        }
        let ended = |pod: &Pod| matches!(state::stage(pod), Stage::Ended(_)).then_some(());
        match tokio::time::timeout(grace + LOST_AFTER, self.until(&api, &name, ended)).await {
            Ok(Ok(Some(((), pod)))) => {
                let exit = self.told(&api, id, &pod).await?.exit;
                exit.ok_or_else(|| EngineError::NotFound(id.0.clone()))
            }
            Ok(Ok(None)) => Err(EngineError::NotFound(id.0.clone())),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(unavailable(format!("Pod {name} does not end: is its node lost?"))),
        }
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        let Some((api, pod)) = self.look(id).await? else { return Ok(()) };
        if !matches!(state::stage(&pod), Stage::Ended(_)) {
            return Err(EngineError::Invalid(format!("container {:?} is running: stop it first", id.0)));
        }
        // What it said last is not lost with it.
        self.told(&api, id, &pod).await?;
        let name = pod.metadata.name.clone().unwrap_or_default();
        let gone = |error: kube::Error| match error {
            kube::Error::Api(status) if matches!(status.code, 404 | 409) => Ok(()),
            error => Err(failed(error)),
        };
        let kept = json!({"metadata": {"uid": pod.metadata.uid, "finalizers": null}});
        api.patch(&name, &PatchParams::default(), &Patch::Merge(kept)).await.map(drop).or_else(gone)?;
        api.delete(&name, &delete(&pod, Duration::ZERO)).await.map(drop).or_else(gone)?;
        self.0.logs.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }

    async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<Session> {
        let (api, pod) = self.running(id).await?;
        session::exec(&api, pod.metadata.name.as_deref().unwrap_or_default(), spec).await
    }

    async fn attach(&self, id: &ContainerId, stdin: bool) -> Result<Session> {
        let (api, pod) = self.running(id).await?;
        let (engine, own) = (self.clone(), id.clone());
        let ended = async move { session::code_of(&engine, &own).await };
        session::attach(&api, pod.metadata.name.as_deref().unwrap_or_default(), stdin, state::tty(&pod), ended).await
    }
}

fn supported(spec: &ContainerSpec) -> Result<()> {
    check::hosted(spec, NAME)?;
    if spec.network == Network::None {
        let what = "cutting a container off from the network: use a NetworkPolicy of the cluster".to_owned();
        return Err(EngineError::Unsupported { engine: NAME, what });
    }
    Ok(())
}

/// The engine cannot be asked.
fn unavailable(reason: impl Into<String>) -> EngineError {
    EngineError::Unavailable { engine: NAME, reason: reason.into() }
}

/// A failed request.
fn failed(error: kube::Error) -> EngineError {
    match error {
        kube::Error::Api(status) => unavailable(format!("the cluster refuses ({}): {}", status.code, status.message)),
        error => unavailable(format!("the cluster does not answer: {}", chain(&error))),
    }
}

/// An error with everything that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}
