//! One look at one BatchRun: plan, make Tasks, tell.

use std::sync::Arc;
use std::time::Duration;

use futures::future;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::Api;
use kube::runtime::controller::Action as Next;
use kube::runtime::reflector::{ObjectRef, Store};
use kubetask_api::{Batch, BatchRun};
use kubetask_core::batch::plan;
use kubetask_core::child::MakerKind;

use crate::events::Recorder;
use crate::make::{Error, Made, Workshop};
use crate::metrics::Metrics;
use crate::status::{self, CONFLICT_AGAIN, Memory};
use crate::world::{TaskKey, World};

/// How many Tasks of one BatchRun are created or deleted at a time.
const AT_A_TIME: usize = 8;

/// How soon to look again whether what is to be run again has been archived; mostly the watch tells before.
const ARCHIVED_AGAIN: Duration = Duration::from_secs(5);

/// What all looks share.
pub(super) struct Context {
    client: Client,
    world: World,
    recorder: Recorder,
    metrics: Metrics,
    runs: Store<BatchRun>,
    batches: Store<Batch>,
    memory: Memory<TaskKey>,
}

impl Context {
    pub(super) fn new(
        client: Client,
        world: World,
        recorder: Recorder,
        metrics: Metrics,
        runs: Store<BatchRun>,
        batches: Store<Batch>,
    ) -> Self {
        Self { client, world, recorder, metrics, runs, batches, memory: Memory::default() }
    }

    /// The Batch that a BatchRun names. Watches run behind: one that is not seen is asked for.
    async fn batch(&self, namespace: &str, run: &BatchRun) -> Result<Option<Arc<Batch>>, Error> {
        let Some(name) = run.spec.batch_ref.as_deref() else { return Ok(None) };
        if let Some(batch) = self.batches.get(&ObjectRef::new(name).within(namespace)) {
            return Ok(Some(batch));
        }
        let api: Api<Batch> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await.map_err(|e| Error::new("look at Batch", name, e))?;
        Ok(found.map(Arc::new))
    }

    /// Whether the BatchRun is still there.
    fn is_there(&self, run: &BatchRun) -> bool {
        self.runs.get(&ObjectRef::from_obj(run)).is_some_and(|now| now.metadata.uid == run.metadata.uid)
    }
}

fn key_of(run: &BatchRun) -> TaskKey {
    let metadata = &run.metadata;
    TaskKey::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// Looks at a BatchRun.
pub(super) async fn reconcile(run: Arc<BatchRun>, context: Arc<Context>) -> Result<Next, Error> {
    let started = std::time::Instant::now();
    let next = reconcile_one(run, &context).await;
    context.metrics.reconciled("BatchRun", next.is_ok(), started.elapsed());
    next
}

async fn reconcile_one(run: Arc<BatchRun>, context: &Context) -> Result<Next, Error> {
    let key = key_of(&run);
    if run.metadata.deletion_timestamp.is_some() {
        // What it made goes by its owner references.
        return Ok(Next::await_change());
    }
    if context.memory.is_stale(&key, run.metadata.resource_version.as_deref()) {
        tracing::debug!(name = %key.name, namespace = %key.namespace, "the watch has not shown the last write yet");
        return Ok(Next::await_change());
    }
    let next = look(&run, &key, context).await;
    if !context.is_there(&run) {
        // It went meanwhile: what was remembered of it since must go too.
        context.world.lock().children.forget(MakerKind::BatchRun, &key);
        context.memory.forget(&key);
    }
    next
}

async fn look(run: &BatchRun, key: &TaskKey, context: &Context) -> Result<Next, Error> {
    let uid = run.metadata.uid.as_deref().unwrap_or_default();
    let workshop =
        Workshop { client: &context.client, world: &context.world, kind: MakerKind::BatchRun, maker: key, uid };
    let batch = context.batch(&key.namespace, run).await?;
    let batch = batch.as_deref().map(|batch| &batch.spec);
    let now = Timestamp::now();
    let mut children = workshop.children();
    let first = plan(now, run, batch, &children, None);
    if first.delete.iter().any(|child| workshop.wants_archive(child)) {
        // What failed is run again once it is archived.
        return Ok(Next::requeue(ARCHIVED_AGAIN));
    }
    for some in first.delete.chunks(AT_A_TIME) {
        future::try_join_all(some.iter().map(|child| workshop.delete(child))).await?;
    }
    let mut refused = None;
    for some in first.create.chunks(AT_A_TIME) {
        let made = future::join_all(some.iter().map(|new| workshop.create(new))).await;
        for (new, made) in some.iter().zip(made) {
            match made? {
                Made::Now => context.recorder.publish(run, &new.note),
                Made::Before => {}
                Made::Refused(said) => refused = refused.or(Some(said)),
            }
        }
        if refused.is_some() {
            break;
        }
    }
    let planned = if first.create.is_empty() && first.delete.is_empty() {
        first
    } else {
        children = workshop.children();
        plan(now, run, batch, &children, refused.as_deref())
    };
    tracing::debug!(
        name = %key.name,
        namespace = %key.namespace,
        children = children.len(),
        status = planned.status.is_some(),
        refused = refused.is_some(),
        "looked at the BatchRun"
    );
    if let Some(new) = &planned.status {
        let old = run.status.clone().unwrap_or_default();
        let written = status::write(&context.client, run, &old, new).await;
        let written = written.map_err(|source| Error::new("write status of BatchRun", &key.name, source))?;
        if written.is_none() {
            return Ok(Next::requeue(CONFLICT_AGAIN));
        }
        planned.events.iter().for_each(|note| context.recorder.publish(run, note));
        context.memory.written(key, written);
    }
    context.world.lock().children.written(MakerKind::BatchRun, key, &children);
    if refused.is_some() {
        // A quota, a policy, a name: it may be lifted or freed, and nobody tells.
        return Ok(Next::requeue(context.memory.failed(key).1));
    }
    context.memory.succeeded(key);
    Ok(Next::await_change())
}

/// How long to wait before the next look after a failure.
pub(super) fn on_error(run: Arc<BatchRun>, error: &Error, context: Arc<Context>) -> Next {
    let key = key_of(&run);
    let (failures, wait) = context.memory.failed(&key);
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::warn!(namespace = %key.namespace, name = %key.name, failures, %error, cause, "will look at the BatchRun again");
    Next::requeue(wait)
}
