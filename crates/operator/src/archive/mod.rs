//! Finished Tasks are written to the archive that their namespace names, and are not deleted before.
//!
//! This happens as soon as a Task has ended, while its log is there. The condition `Archived` tells of it: whoever
//! deletes Tasks by age or count waits for it. What fails is tried again, for ever, with growing pauses; the condition
//! says why. Reconciliations do not wait for any of it.

mod target;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use kubetask_api::config::Archive;
use kubetask_api::{Task, conditions, reasons};
use kubetask_core::retention::wants_archive;
use kubetask_core::task::EventNote;
use serde_json::json;
use tokio::time::Instant;

pub use target::{ArchivePolicy, Files};

use crate::FIELD_MANAGER;
use crate::backlog::{Attempt, Backlog, Pace, backlog};
use crate::events::Recorder;
use crate::http::Http;
use crate::metrics::Metrics;
use crate::world::{TaskKey, World};

const PACE: Pace = Pace { together: 4, first: Duration::from_secs(1), most: Duration::from_secs(300) };
/// For how long a store that has just failed is left alone.
const STORE_PAUSE: Duration = Duration::from_secs(5);

/// Why a Task is not archived.
#[derive(Debug)]
enum Trouble {
    /// The Kubernetes API.
    Api(kube::Error),
    /// The store, or the configuration, in words.
    Said(String),
    /// The store has just failed for another Task, so.
    Paused(String),
}

/// Archives Tasks.
#[derive(Clone)]
struct Archiver {
    client: Client,
    world: World,
    recorder: Recorder,
    metrics: Metrics,
    policy: ArchivePolicy,
    http: Http,
    /// Stores that have just failed, and how.
    failed: Arc<Mutex<HashMap<String, (Instant, String)>>>,
}

/// Takes Tasks to be archived, and the future that does it.
pub(crate) fn archiver(
    client: Client,
    world: World,
    recorder: Recorder,
    metrics: Metrics,
    policy: ArchivePolicy,
    http: Http,
) -> (Backlog, BoxFuture<'static, ()>) {
    let counted = metrics.clone();
    let archiver = Archiver { client, world, recorder, metrics, policy, http, failed: Arc::default() };
    let attempt = move |key| -> BoxFuture<'static, Attempt> {
        let archiver = archiver.clone();
        Box::pin(async move { archiver.attempt(key).await })
    };
    backlog(PACE, move |count| counted.set_archive_pending(count), attempt)
}

impl Archiver {
    async fn attempt(&self, key: TaskKey) -> Attempt {
        let tasks: Api<Task> = Api::namespaced(self.client.clone(), &key.namespace);
        let (namespace, name) = (&*key.namespace, &*key.name);
        let task = match tasks.get_opt(name).await {
            Ok(Some(task)) => task,
            Ok(None) => return Attempt::Done,
            Err(error) => {
                tracing::debug!(namespace, task = name, %error, "cannot look at a Task to be archived");
                return Attempt::Failed;
            }
        };
        let config = self.world.lock().configs.get(namespace).cloned();
        let archive = config.as_deref().and_then(|config| config.spec.archive.clone());
        let (Some(archive), true) = (archive, task.phase().is_finished() && wants_archive(&task, config.as_deref()))
        else {
            return Attempt::Done;
        };
        let told = match self.archive(&task, &archive).await {
            Ok(place) => {
                self.metrics.archived(true);
                tracing::info!(namespace, task = name, uid = task.uid(), place, "archived");
                self.tell(&tasks, &task, true, &format!("{} in {}", place, archive.url)).await
            }
            Err(trouble) => {
                let said: String = self.failed(&task, &archive, trouble).chars().take(1024).collect();
                // When this is not told, the next attempt tells it.
                let _ =
                    self.tell(&tasks, &task, false, &format!("not archived yet, and kept until it is: {said}")).await;
                return Attempt::Failed;
            }
        };
        match told {
            Ok(()) => Attempt::Done,
            // Somebody was faster: archived once more, told with what is there then.
            Err(_) => Attempt::Failed,
        }
    }

    /// Takes a failure down; answers it in words. Every Task is told, also those for which the store was not asked.
    fn failed(&self, task: &Task, archive: &Archive, trouble: Trouble) -> String {
        let said = match trouble {
            Trouble::Paused(said) => return said,
            Trouble::Api(error) => crate::causes::chain(&error),
            Trouble::Said(said) => said,
        };
        self.metrics.archived(false);
        let (namespace, name) = (task.namespace(), task.name_any());
        tracing::warn!(namespace, task = name, uid = task.uid(), error = said, "not archived");
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.insert(archive.url.clone(), (Instant::now(), said.clone()));
        said
    }

    async fn archive(&self, task: &Task, archive: &Archive) -> Result<String, Trouble> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).get(&archive.url).cloned();
        if let Some((_, said)) = failed.filter(|(at, _)| at.elapsed() < STORE_PAUSE) {
            return Err(Trouble::Paused(said));
        }
        let secret = self.secret(task, archive).await?;
        let target = target::target(archive, &secret, &self.policy, &self.http).map_err(Trouble::Said)?;
        let place = write::write(&self.client, task, &target).await?;
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).remove(&archive.url);
        Ok(place)
    }

    async fn secret(&self, task: &Task, archive: &Archive) -> Result<BTreeMap<String, String>, Trouble> {
        let Some(named) = &archive.secret_ref else { return Ok(BTreeMap::new()) };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &task.namespace().unwrap_or_default());
        let secret = secrets.get_opt(&named.name).await.map_err(Trouble::Api)?;
        let missing = || Trouble::Said(format!("Secret \"{}\" of archive.secretRef does not exist", named.name));
        let data = secret.ok_or_else(missing)?.data.unwrap_or_default();
        Ok(data.into_iter().filter_map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?))).collect())
    }

    /// Writes the condition, where it is new; an event tells of a failure once.
    async fn tell(&self, tasks: &Api<Task>, task: &Task, ok: bool, message: &str) -> Result<(), kube::Error> {
        let mut all = task.status.clone().unwrap_or_default().conditions;
        let before = conditions::find(&all, conditions::ARCHIVED).cloned();
        let reason = if ok { reasons::ARCHIVED } else { reasons::ARCHIVE_FAILED };
        let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default());
        conditions::set(&mut all, &now, task.metadata.generation, (conditions::ARCHIVED, ok, reason), message);
        if conditions::find(&all, conditions::ARCHIVED) == before.as_ref() {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"resourceVersion": task.metadata.resource_version, "uid": task.metadata.uid},
            "status": {"conditions": all},
        });
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        tasks.patch_status(&task.name_any(), &params, &Patch::Merge(&patch)).await?;
        if !ok && before.is_none_or(|before| before.reason != reason) {
            self.recorder.publish(task, &EventNote { warning: true, reason, message: message.to_owned() });
        }
        Ok(())
    }
}
