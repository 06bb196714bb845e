//! One look at one BatchRun: plan, make Tasks, tell.

use std::sync::Arc;
use std::time::Duration;

use futures::future;
use k8s_openapi::jiff::Timestamp;
use kube::api::Api;
use kube::runtime::controller::Action as Next;
use kube::runtime::reflector::{ObjectRef, Store};
use kubetask_api::{Batch, BatchRun};
use kubetask_core::batch::plan;
use kubetask_core::child::MakerKind;

use crate::make::{Error, Made};
use crate::maker::{Makers, Shared};
use crate::status::CONFLICT_AGAIN;
use crate::world::TaskKey;

/// How many Tasks of one BatchRun are created or deleted at a time.
const AT_A_TIME: usize = 8;

/// How soon to look again whether what is to be run again has been archived; mostly the watch tells before.
const ARCHIVED_AGAIN: Duration = Duration::from_secs(5);

/// What all looks share.
pub(super) struct Context {
    shared: Shared<BatchRun>,
    batches: Store<Batch>,
}

impl Makers for Context {
    type Maker = BatchRun;

    const KIND: MakerKind = MakerKind::BatchRun;

    fn shared(&self) -> &Shared<BatchRun> {
        &self.shared
    }

    async fn look(&self, run: &BatchRun, key: &TaskKey) -> Result<Next, Error> {
        look(run, key, self).await
    }

    fn forget(&self, key: &TaskKey) {
        self.shared.world.lock().children.forget(Self::KIND, key);
    }
}

impl Context {
    pub(super) fn new(shared: Shared<BatchRun>, batches: Store<Batch>) -> Self {
        Self { shared, batches }
    }

    /// The Batch that a BatchRun names. Watches run behind: one that is not seen is asked for.
    async fn batch(&self, namespace: &str, run: &BatchRun) -> Result<Option<Arc<Batch>>, Error> {
        let Some(name) = run.spec.batch_ref.as_deref() else { return Ok(None) };
        if let Some(batch) = self.batches.get(&ObjectRef::new(name).within(namespace)) {
            return Ok(Some(batch));
        }
        let api: Api<Batch> = Api::namespaced(self.shared.client.clone(), namespace);
        let found = api.get_opt(name).await.map_err(|e| Error::new("look at Batch", name, e))?;
        Ok(found.map(Arc::new))
    }
}

async fn look(run: &BatchRun, key: &TaskKey, context: &Context) -> Result<Next, Error> {
    let shared = &context.shared;
    let workshop = shared.workshop(Context::KIND, run, key);
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
                Made::Now => shared.recorder.publish(run, &new.note),
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
        if !shared.write("write status of BatchRun", run, &old, new).await? {
            return Ok(Next::requeue(CONFLICT_AGAIN));
        }
        planned.events.iter().for_each(|note| shared.recorder.publish(run, note));
    }
    shared.world.lock().children.written(Context::KIND, key, &children);
    Ok(shared.next(key, refused.is_some()))
}
