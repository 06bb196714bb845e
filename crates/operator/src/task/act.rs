//! Carries a plan out. Nothing is chosen here: doing it twice is harmless.

use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use kubetask_api::Task;
use kubetask_core::cluster;
use kubetask_core::task::{Action, is_owned};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::reconcile::{Context, Error};
use super::remote;
use crate::{FIELD_MANAGER, refusal};

/// How carrying out an action ended.
pub(super) enum Acted {
    /// It is done.
    Done,
    /// The server refuses it for good (quota, admission, validation); its words.
    Refused(String),
}

/// Carries one action out.
///
/// # Errors
/// When it may succeed later.
pub(super) async fn act(context: &Context, namespace: &str, task: &Task, action: &Action) -> Result<Acted, Error> {
    let client = &context.client;
    match action {
        Action::PutConfigMap(object) => put(client, namespace, task, object.as_ref()).await,
        Action::PutSecret(object) => put(client, namespace, task, object.as_ref()).await,
        Action::CreateJob(job) => create_job(context, namespace, task, job).await,
        Action::HoldForCluster { record } => remote::hold(context, namespace, task, record).await,
        Action::ReleaseCluster { record } => remote::release(context, namespace, task, record.as_deref()).await,
        Action::SuspendJob { name, suspend } => {
            if let Some(record) = cluster::recorded(task) {
                remote::suspend(context, namespace, &record, *suspend).await?;
            }
            let api: Api<Job> = Api::namespaced(client.clone(), namespace);
            let patch = json!({"spec": {"suspend": suspend}});
            merge(&api, name, &patch, "suspend Job").await
        }
        Action::StopPod { name, uid } => {
            if let Some(record) = cluster::recorded(task) {
                // The relay sees it, and tells the last of the log.
                return remote::delete(context, namespace, task, &record).await.map(|()| Acted::Done);
            }
            let api: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client.clone(), namespace);
            let patch = json!({"metadata": {"uid": uid}, "spec": {"activeDeadlineSeconds": 1}});
            merge(&api, name, &patch, "stop Pod").await
        }
        Action::DeleteTask { name, uid } => {
            let api: Api<Task> = Api::namespaced(client.clone(), namespace);
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
                ..DeleteParams::background()
            };
            match api.delete(name, &params).await {
                Ok(_) => Ok(Acted::Done),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Acted::Done),
                Err(source) => Err(Error::act("delete Task", name, source)),
            }
        }
    }
}

/// Creates the Job; the world knows it at once.
async fn create_job(context: &Context, namespace: &str, task: &Task, job: &Job) -> Result<Acted, Error> {
    let name = job.name_any();
    context.world.lock().jobs.creating(namespace, &name);
    let created = create(&context.client, namespace, task, job).await;
    if let Ok(Created::Now(_)) = &created {
        super::tell::job_created(&context.config.metrics, task, &name);
    }
    let mut world = context.world.lock();
    match created {
        Ok(Created::Now(job) | Created::Before(job)) => {
            world.jobs.created(namespace, &name, Some(*job));
            Ok(Acted::Done)
        }
        Ok(Created::Refused(said)) => {
            world.jobs.created(namespace, &name, None);
            Ok(Acted::Refused(said))
        }
        Err(error) => {
            world.jobs.unanswered(namespace, &name);
            Err(error)
        }
    }
}

async fn merge<K>(api: &Api<K>, name: &str, patch: &Value, step: &'static str) -> Result<Acted, Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(name, &params, &Patch::Merge(patch)).await {
        Ok(_) => Ok(Acted::Done),
        // Gone: the watch tells.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Acted::Done),
        Err(source) => Err(Error::act(step, name, source)),
    }
}

enum Created<K> {
    Now(Box<K>),
    Before(Box<K>),
    Refused(String),
}

/// Creates an object of the Task's; one that exists and belongs to it counts as created.
async fn create<K>(client: &Client, namespace: &str, task: &Task, object: &K) -> Result<Created<K>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let name = object.name_any();
    match api.create(&params, object).await {
        Ok(created) => Ok(Created::Now(Box::new(created))),
        Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
            match api.get_opt(&name).await.map_err(|source| Error::act("look at", &name, source))? {
                Some(existing) if is_owned(task, existing.meta()) => Ok(Created::Before(Box::new(existing))),
                Some(_) => Ok(Created::Refused(format!("{} \"{name}\" belongs to somebody else", K::kind(&())))),
                None => Err(Error::Vanished(name)),
            }
        }
        Err(source) => match refusal::of(&source) {
            Some(said) => Ok(Created::Refused(said)),
            None => Err(Error::act("create", &name, source)),
        },
    }
}

/// Creates a ConfigMap or Secret of the Task's; one that exists gets its content.
async fn put<K>(client: &Client, namespace: &str, task: &Task, object: &K) -> Result<Acted, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    match create(client, namespace, task, object).await? {
        Created::Now(_) => Ok(Acted::Done),
        Created::Refused(said) => Ok(Acted::Refused(said)),
        Created::Before(existing) => {
            if content(existing.as_ref()) == content(object) {
                return Ok(Acted::Done);
            }
            // Whole: keys that are not wanted any more must go.
            let mut wanted = object.clone();
            wanted.meta_mut().resource_version = existing.meta().resource_version.clone();
            let api: Api<K> = Api::namespaced(client.clone(), namespace);
            let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            let name = object.name_any();
            api.replace(&name, &params, &wanted).await.map_err(|source| Error::act("update", &name, source))?;
            Ok(Acted::Done)
        }
    }
}

/// What a ConfigMap or Secret holds.
fn content<K: Serialize>(object: &K) -> Option<[Option<Value>; 2]> {
    let mut value = serde_json::to_value(object).ok()?;
    Some(["data", "binaryData"].map(|member| value.get_mut(member).map(Value::take)))
}
