//! What the controllers of makers, CronTasks and BatchRuns, share: creating, stopping and deleting Tasks.

use futures::{Stream, StreamExt, stream};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::reflector::ObjectRef;
use kubetask_api::Task;
use kubetask_core::child::{Child, Maker, MakerKind, NewTask};
use serde_json::json;
use tokio::sync::mpsc;

use crate::world::{TaskKey, World};
use crate::{FIELD_MANAGER, refusal};

/// Why a look at a maker must be repeated.
#[derive(Debug, thiserror::Error)]
#[error("{step} {name}")]
pub(crate) struct Error {
    /// What was being done.
    step: &'static str,
    /// To which object.
    name: String,
    /// Why.
    #[source]
    source: Box<kube::Error>,
}

impl Error {
    pub(crate) fn new(step: &'static str, name: &str, source: impl Into<Box<kube::Error>>) -> Self {
        Self { step, name: name.to_owned(), source: source.into() }
    }
}

/// How creating a Task ended.
pub(crate) enum Made {
    /// It is new.
    Now,
    /// It was there before, made by the same maker.
    Before,
    /// The server does not take it; its words.
    Refused(String),
}

/// Makes Tasks for one maker.
pub(crate) struct Workshop<'a> {
    pub(crate) client: &'a Client,
    pub(crate) world: &'a World,
    pub(crate) kind: MakerKind,
    /// Namespace and name of the maker.
    pub(crate) maker: &'a TaskKey,
    /// UID of the maker.
    pub(crate) uid: &'a str,
}

impl Workshop<'_> {
    fn tasks(&self) -> Api<Task> {
        Api::namespaced(self.client.clone(), &self.maker.namespace)
    }

    /// The Tasks that the maker made.
    pub(crate) fn children(&self) -> Vec<Child> {
        self.world.lock().children.of(self.kind, self.maker, self.uid)
    }

    /// Creates a Task; the world knows it at once.
    pub(crate) async fn create(&self, new: &NewTask) -> Result<Made, Error> {
        let name = new.task.metadata.name.as_deref().unwrap_or_default();
        let key = TaskKey::new(&self.maker.namespace, name);
        self.world.lock().children.creating(&key);
        let made = self.try_create(name, &new.task).await;
        let created = made.as_ref().ok().and_then(|(_, task)| task.as_deref());
        self.world.lock().children.created(&key, created);
        made.map(|(made, _)| made)
    }

    async fn try_create(&self, name: &str, task: &Task) -> Result<(Made, Option<Box<Task>>), Error> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.tasks().create(&params, task).await {
            Ok(created) => Ok((Made::Now, Some(Box::new(created)))),
            Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
                let there = self.tasks().get_opt(name).await.map_err(|e| Error::new("look at Task", name, e))?;
                let is_ours = |there: &Task| Maker::of(&there.metadata).is_some_and(|maker| maker.uid == self.uid);
                Ok(match there {
                    Some(there) if is_ours(&there) => (Made::Before, Some(Box::new(there))),
                    Some(_) => (Made::Refused(format!("Task \"{name}\" exists and belongs to somebody else")), None),
                    None => (Made::Refused(format!("Task \"{name}\" came and went")), None),
                })
            }
            Err(source) => match refusal::of(&source) {
                Some(said) => Ok((Made::Refused(said), None)),
                None => Err(Error::new("create Task", name, source)),
            },
        }
    }

    /// Whether the Task must be written to the archive of its namespace before it is deleted. Its maker is looked at again
    /// when it was.
    pub(crate) fn wants_archive(&self, child: &Child) -> bool {
        let state = self.world.lock();
        let config = state.configs.get(&*self.maker.namespace);
        config.is_some_and(|config| config.spec.archive.is_some()) && !child.archived
    }

    /// Stops a Task's agent.
    pub(crate) async fn stop(&self, child: &Child) -> Result<(), Error> {
        let patch = json!({"metadata": {"uid": child.uid}, "spec": {"stop": true}});
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match self.tasks().patch(&child.name, &params, &Patch::Merge(&patch)).await {
            Ok(_) => Ok(()),
            // It is gone, or another one by now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(source) => Err(Error::new("stop Task", &child.name, source)),
        }
    }

    /// Deletes a Task.
    pub(crate) async fn delete(&self, child: &Child) -> Result<(), Error> {
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(child.uid.clone()), resource_version: None }),
            ..DeleteParams::background()
        };
        match self.tasks().delete(&child.name, &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(source) => return Err(Error::new("delete Task", &child.name, source)),
        }
        self.world.lock().children.deleted(self.kind, self.maker, child);
        Ok(())
    }
}

/// What is told through a channel, as what a controller looks at.
pub(crate) fn keys<K>(mut receiver: mpsc::UnboundedReceiver<TaskKey>) -> impl Stream<Item = ObjectRef<K>>
where
    K: kube::Resource<DynamicType = ()>,
{
    stream::poll_fn(move |cx| receiver.poll_recv(cx)).map(|key| ObjectRef::new(&key.name).within(&key.namespace))
}
