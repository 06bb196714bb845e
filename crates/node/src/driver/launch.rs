//! Starts a container: environment, image, mounts, record, engine; in this order, and only then is it running.

use std::collections::HashMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Pod};
use kubetask_engine::EngineError;
use kubetask_engine::spec::{ContainerSpec, ContainerState, LogSpec, Mount, Network, PullPolicy};
use kubetask_engine::traits::{ImageProgress, RegistryCredentials};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::container::{self, Run};
use super::security::{non_root, resources, security};
use super::{Driver, field};
use crate::config::{
    ATTEMPT_LABEL, CONTAINER_LABEL, NODE_LABEL, POD_NAME_LABEL, POD_NAMESPACE_LABEL, POD_UID_LABEL, isolated,
};
use crate::env::{self, Resolved};
use crate::events::From;
use crate::image;
use crate::machine::{Event, NotStarted};
use crate::objects::{Fetched, Refs};
use crate::record::Record;
use crate::registry;
use crate::volumes::{self, Places};

/// An image check that takes longer than this was a download.
const PULL: Duration = Duration::from_millis(300);

/// Between attempts to start a container for which its engine has no room.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a container may still take to start once its pod is to end; usually it takes less, and is ended as any other.
const HURRY: Duration = Duration::from_millis(500);

/// How often the progress of a download is told.
const PROGRESS: Duration = Duration::from_secs(10);

/// A container on its way to running.
struct Launch {
    run: Run,
    container: Arc<Container>,
    /// The pod as it was when the start was asked for.
    pod: Arc<Pod>,
    field: Option<String>,
}

/// Writes a pod's record, in order, and not twice.
pub(super) struct RecordWriter(Mutex<Option<Record>>);

impl RecordWriter {
    pub(super) fn new(written: Option<Record>) -> Self {
        Self(Mutex::new(written))
    }

    /// Returns once `record`, or a later one, is on disk.
    pub(super) async fn ensure(&self, path: PathBuf, record: Record) -> io::Result<()> {
        let mut written = self.0.lock().await;
        if written.as_ref().is_some_and(|written| covers(written, &record)) {
            return Ok(());
        }
        let record = tokio::task::spawn_blocking(move || {
            if let Some(directory) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            }
            record.write(&path).map(|()| record)
        });
        *written = Some(record.await.map_err(io::Error::other)??);
        Ok(())
    }
}

/// Whether everything that `wanted` says was started is in `written`.
fn covers(written: &Record, wanted: &Record) -> bool {
    wanted.slots.iter().all(|slot| {
        let same = written.slots.iter().find(|known| known.name == slot.name);
        same.is_some_and(|known| known.attempt >= slot.attempt)
    })
}

impl Driver {
    pub(super) fn start(&mut self, slot: usize, attempt: u32) {
        let run = match self.container_run(slot, attempt) {
            Ok(run) => run,
            Err(error) => {
                let why = NotStarted::Config(error);
                // Never sent while the machine is stepping: it hears of it as of any other outcome.
                self.events.tell(Event::NotStarted { slot, attempt, why });
                return;
            }
        };
        let launch = Launch {
            run,
            container: Arc::clone(&self.machine.slots()[slot].spec),
            pod: Arc::clone(self.machine.pod()),
            field: field(&self.machine, slot),
        };
        let cancel = self.shared.stop.child_token();
        self.cancels.insert(slot, cancel.clone());
        let (records, record) = (Arc::clone(&self.records), self.machine.record());
        let (places, fetched) = (Arc::clone(&self.places), self.fetched.clone());
        let refs = self.refs.clone();
        let stop = self.shared.stop.clone();
        self.shared.tasks.spawn(async move {
            let layout = &launch.run.shared.layout;
            let persist = records.ensure(layout.record(&launch.run.uid), record);
            // Not cut off when the node ends: what was begun with the engine is brought to its end.
            let started = launch.start(persist, places, fetched, refs, cancel).await;
            let run = launch.run;
            match started {
                Err(why) => run.tell(Event::NotStarted { slot, attempt, why }),
                Ok(state) => {
                    let at = container::time(state.started_at_nanos);
                    run.tell(Event::Started { slot, attempt, at, adopted: false });
                    run.forget_before().await;
                    // A task of its own, as this one keeps all the room that starting took.
                    let tasks = run.shared.tasks.clone();
                    tasks.spawn(async move { stop.run_until_cancelled(run.wait(at)).await });
                }
            }
        });
    }

    /// Writes down, before it is certain that the pod is this node's, what will be started first: by the time that the
    /// volumes are ready the record is on disk.
    pub(super) fn record_ahead(&self) {
        let (records, record) = (Arc::clone(&self.records), self.machine.first_record());
        let path = self.shared.layout.record(&self.uid);
        self.shared.tasks.spawn(async move {
            if let Err(error) = records.ensure(path, record).await {
                tracing::debug!(%error, "record not written ahead");
            }
        });
    }
}

impl Launch {
    fn emit(&self, warning: bool, reason: &'static str, message: &str) {
        self.run.shared.recorder.emit(From::Kubelet, &self.pod, self.field.clone(), warning, reason, message);
    }

    async fn start(
        &self,
        persist: impl Future<Output = io::Result<()>>,
        places: Arc<Places>,
        fetched: Option<Arc<Fetched>>,
        refs: Refs,
        cancel: CancellationToken,
    ) -> Result<ContainerState, NotStarted> {
        let began = Instant::now();
        let (persisted, prepared) = tokio::join!(persist, async {
            let image = self.ensure_image(&cancel).await?;
            let fetched = self.fetch(fetched, &refs).await?;
            self.spec(image, places, &fetched).await
        });
        let spec = prepared?;
        persisted.map_err(|error| NotStarted::Create(format!("cannot write the pod's record: {error}")))?;
        if cancel.is_cancelled() {
            return Err(NotStarted::Never);
        }
        let prepared = began.elapsed();
        let state = self.start_when_there_is_room(&spec, &cancel).await?;
        tracing::debug!(id = spec.id.0, ?prepared, engine = ?(began.elapsed() - prepared), "container start");
        let state = state.map_err(|error| match error {
            EngineError::Start(message) | EngineError::Invalid(message) => NotStarted::Start(message),
            EngineError::Image { reason, .. } => NotStarted::Pull(reason),
            other => NotStarted::Create(chain(&other)),
        })?;
        match state.exit.as_ref().and_then(|exit| exit.error.clone()) {
            Some(error) => Err(NotStarted::Start(error)),
            None => Ok(state),
        }
    }

    /// Starts it; an engine that has no room for it is asked again, until the pod goes away.
    async fn start_when_there_is_room(
        &self,
        spec: &ContainerSpec,
        cancel: &CancellationToken,
    ) -> Result<Result<ContainerState, EngineError>, NotStarted> {
        let mut told = String::new();
        loop {
            let reason = match self.start_or_stop(spec, cancel).await {
                (Err(EngineError::Waiting { reason, .. }), _) => reason,
                // It never ran, and nobody wants it any more: it has no end that is worth telling.
                (Err(EngineError::Start(_)), true) => {
                    self.run.remove().await;
                    return Err(NotStarted::Never);
                }
                (outcome, _) => return Ok(outcome),
            };
            if reason != told {
                self.emit(true, "Waiting", &format!("The container is not running yet: {reason}"));
                told = reason;
            }
            if cancel.is_cancelled() {
                // When only the node ends, it stays: the next start goes on waiting for it.
                if !self.run.shared.stop.is_cancelled() {
                    self.run.remove().await;
                }
                return Err(NotStarted::Never);
            }
            // An engine may tell at once.
            let _ = cancel.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
        }
    }

    /// Starts it. What is still starting a moment after its pod is to end is stopped, as an engine may wait long for room;
    /// also says whether that was so.
    async fn start_or_stop(
        &self,
        spec: &ContainerSpec,
        cancel: &CancellationToken,
    ) -> (Result<ContainerState, EngineError>, bool) {
        let mut start = std::pin::pin!(self.run.engine.start(spec));
        let unwanted = async {
            cancel.cancelled().await;
            tokio::time::sleep(HURRY).await;
        };
        tokio::select! {
            outcome = &mut start => return (outcome, false),
            () = unwanted => {}
        }
        let grace = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        let grace = Duration::from_secs(grace.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(30));
        // When only the node ends, what was begun is brought to its end.
        while !self.run.shared.stop.is_cancelled() {
            let stop = async {
                // There may be nothing to stop yet, or nobody who answers.
                let _ = self.run.engine.stop(&spec.id, grace).await;
                tokio::time::sleep(AGAIN).await;
            };
            tokio::select! {
                outcome = &mut start => return (outcome, true),
                () = stop => {}
            }
        }
        (start.await, false)
    }

    /// Checks the image; returns its full reference.
    async fn ensure_image(&self, cancel: &CancellationToken) -> Result<String, NotStarted> {
        let image = self.container.image.clone().unwrap_or_default();
        let full = image::normalise(&image).map_err(NotStarted::InvalidImage)?;
        let policy = match self.container.image_pull_policy.as_deref() {
            Some("Never") => PullPolicy::Never,
            Some("Always") => PullPolicy::Always,
            None if full.ends_with(":latest") => PullPolicy::Always,
            _ => PullPolicy::IfNotPresent,
        };
        let began = Instant::now();
        let credentials = if policy == PullPolicy::Never { Vec::new() } else { self.registry_credentials(&full).await };
        let (progress, told) = mpsc::channel(16);
        let pull = self.run.engine.pull_image_as(&full, policy, &credentials, progress);
        let both = async { tokio::join!(pull, self.tell_progress(&image, told)).0 };
        let ensured = cancel.run_until_cancelled(both).await;
        let took = began.elapsed();
        match ensured {
            None => Err(NotStarted::Never),
            Some(Ok(())) if took > PULL => {
                let took = format!("{:.3}s", took.as_secs_f64());
                let message = format!("Successfully pulled image \"{image}\" in {took} ({took} including waiting).");
                self.emit(false, "Pulled", &message);
                Ok(full)
            }
            Some(Ok(())) => {
                self.emit(
                    false,
                    "Pulled",
                    &format!("Container image \"{image}\" already present on machine and can be accessed by the pod"),
                );
                Ok(full)
            }
            Some(Err(EngineError::Image { .. })) if policy == PullPolicy::Never => Err(NotStarted::NeverPull(format!(
                "Container image \"{image}\" is not present with pull policy of Never"
            ))),
            Some(Err(EngineError::Image { reason, .. })) => Err(NotStarted::Pull(reason)),
            Some(Err(error)) => Err(NotStarted::Create(chain(&error))),
        }
    }

    /// What the pod's `imagePullSecrets` have for the image. One that is not there is told, and the pull is tried without.
    async fn registry_credentials(&self, image: &str) -> Vec<RegistryCredentials> {
        let named = self.pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
        let names: Vec<&String> = named.map(|reference| &reference.name).filter(|name| !name.is_empty()).collect();
        if names.is_empty() {
            return Vec::new();
        }
        let refs = Refs { secrets: names.iter().map(|name| (*name).clone()).collect(), ..Refs::default() };
        let namespace = self.run.namespace.as_str();
        let fetched = match self.run.shared.objects.fetch(namespace, &refs).await {
            Ok(fetched) => fetched,
            Err(error) => {
                tracing::warn!(%error, "the Secrets for the registry could not be fetched");
                return Vec::new();
            }
        };
        let missing: Vec<&str> =
            refs.secrets.iter().filter(|name| !fetched.secrets.contains_key(*name)).map(String::as_str).collect();
        if !missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            self.emit(true, "FailedToRetrieveImagePullSecret", &message);
        }
        registry::credentials(names.iter().filter_map(|name| fetched.secret(name).ok()), image)
    }

    /// Tells of a download when it begins, and now and then how far it is.
    async fn tell_progress(&self, image: &str, mut told: mpsc::Receiver<ImageProgress>) {
        let mut layers: HashMap<String, (u64, u64)> = HashMap::new();
        let mut next: Option<Instant> = None;
        while let Some(step) = told.recv().await {
            if let (Some(done), Some(total)) = (step.done_bytes, step.total_bytes.filter(|total| *total > 0))
                && step.status == "Downloading"
            {
                layers.insert(step.part, (done.min(total), total));
            }
            if next.is_some_and(|next| Instant::now() < next) {
                continue;
            }
            let (done, total) = layers.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
            match next {
                None => self.emit(false, "Pulling", &format!("Pulling image \"{image}\"")),
                Some(_) if total > 0 => {
                    let megabytes = |bytes: u64| bytes / 1_000_000;
                    let message = format!("Pulling image \"{image}\": {} of {} MB", megabytes(done), megabytes(total));
                    self.emit(false, "Pulling", &message);
                }
                Some(_) => {}
            }
            next = Some(Instant::now() + PROGRESS);
        }
    }

    async fn fetch(&self, known: Option<Arc<Fetched>>, refs: &Refs) -> Result<Arc<Fetched>, NotStarted> {
        if let Some(known) = known {
            return Ok(known);
        }
        if refs.is_empty() {
            return Ok(Arc::default());
        }
        let namespace = self.run.namespace.as_str();
        let fetched = self.run.shared.objects.fetch(namespace, refs).await;
        fetched
            .map(Arc::new)
            .map_err(|error| NotStarted::Config(format!("failed to fetch what the pod refers to: {error}")))
    }

    async fn spec(&self, image: String, places: Arc<Places>, fetched: &Fetched) -> Result<ContainerSpec, NotStarted> {
        let (pod, run, container) = (&self.pod, &self.run, &self.container);
        non_root(pod, container).map_err(NotStarted::Config)?;
        let mut resolved = env::resolve(pod, container, fetched, &self.run.shared.facts).map_err(NotStarted::Config)?;
        self.add_api_server(&mut resolved);
        let (log, last_words) = (run.log(run.attempt), run.termination(run.attempt));
        let words_at = container
            .termination_message_path
            .as_deref()
            .filter(|path| !path.is_empty())
            .unwrap_or("/dev/termination-log");
        let words = Mount { source: last_words.clone(), target: PathBuf::from(words_at), read_only: false };
        let (owned, env, directory) =
            (Arc::clone(container), resolved.env.clone(), log.parent().map(Path::to_path_buf));
        let mounts = tokio::task::spawn_blocking(move || {
            let failed = |error: io::Error| format!("cannot create the container's files: {error}");
            make_file(&last_words).map_err(failed)?;
            if let Some(directory) = directory {
                DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
            }
            volumes::mounts(&owned, &places, &env)
        });
        let mut mounts = match mounts.await {
            Ok(mounts) => mounts.map_err(NotStarted::Config)?,
            Err(error) => return Err(NotStarted::Create(format!("preparing mounts was interrupted: {error}"))),
        };
        mounts.push(words);
        let labels = [
            (NODE_LABEL, self.run.shared.config.name.clone()),
            (POD_UID_LABEL, run.uid.clone()),
            (POD_NAME_LABEL, run.pod.clone()),
            (POD_NAMESPACE_LABEL, run.namespace.clone()),
            (CONTAINER_LABEL, container.name.clone()),
            (ATTEMPT_LABEL, run.attempt.to_string()),
        ];
        let cut_off = isolated(pod);
        let hostname = pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
        let hostname = hostname
            .or_else(|| Some(run.pod.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()));
        Ok(ContainerSpec {
            id: run.id(),
            labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            image,
            command: resolved.command,
            args: resolved.args,
            env: resolved.env,
            working_dir: container.working_dir.clone().filter(|path| !path.is_empty()).map(PathBuf::from),
            hostname,
            mounts,
            resources: resources(container),
            network: if cut_off { Network::None } else { Network::Host },
            security: security(pod, container),
            tty: container.tty == Some(true),
            stdin: container.stdin == Some(true),
            log: LogSpec {
                path: log,
                max_bytes: self.run.shared.config.log_max_bytes,
                max_files: self.run.shared.config.log_max_files,
            },
        })
    }

    /// Pods that mount a token are told where the API server is.
    fn add_api_server(&self, resolved: &mut Resolved) {
        let Some((host, port)) = &self.run.shared.config.api_server else { return };
        let mounted = self.container.volume_mounts.iter().flatten();
        let mut mounted = mounted.filter(|mount| mount.mount_path == "/var/run/secrets/kubernetes.io/serviceaccount");
        if mounted.next().is_none() {
            return;
        }
        for (name, value) in [("KUBERNETES_SERVICE_HOST", host.clone()), ("KUBERNETES_SERVICE_PORT", port.to_string())]
        {
            if resolved.env.iter().all(|(known, _)| known != name) {
                resolved.env.push((name.to_owned(), value));
            }
        }
    }
}

/// An error with everything that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The file for a container's last words, which any user may write.
fn make_file(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o666))
}
