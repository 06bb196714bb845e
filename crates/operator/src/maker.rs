//! How a maker, a CronTask or a BatchRun, is looked at: what the controllers of both do alike.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use kube::core::NamespaceResourceScope;
use kube::runtime::controller::Action as Next;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource};
use kubetask_core::child::MakerKind;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::events::Recorder;
use crate::make::{Error, Workshop};
use crate::metrics::Metrics;
use crate::status::{self, Memory};
use crate::world::{TaskKey, World};

/// A controller of makers: what is its own.
pub(crate) trait Makers: Send + Sync + 'static {
    /// What it looks at.
    type Maker: Maker;

    /// Its kind.
    const KIND: MakerKind;

    /// What all looks share.
    fn shared(&self) -> &Shared<Self::Maker>;

    /// Looks at one: plans, makes Tasks, tells.
    fn look(&self, maker: &Self::Maker, key: &TaskKey) -> impl Future<Output = Result<Next, Error>> + Send;

    /// One is gone, or goes.
    fn forget(&self, key: &TaskKey);
}

/// An object that makes Tasks.
pub(crate) trait Maker:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Maker for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// What all looks of a controller share.
pub(crate) struct Shared<K: Maker> {
    pub(crate) client: Client,
    pub(crate) world: World,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
    pub(crate) memory: Memory<TaskKey>,
    store: Store<K>,
}

impl<K: Maker> Shared<K> {
    pub(crate) fn new(client: Client, world: World, recorder: Recorder, metrics: Metrics, store: Store<K>) -> Self {
        Self { client, world, recorder, metrics, memory: Memory::default(), store }
    }

    /// Where Tasks are made for that one.
    pub(crate) fn workshop<'a>(&'a self, kind: MakerKind, maker: &'a K, key: &'a TaskKey) -> Workshop<'a> {
        let uid = maker.meta().uid.as_deref().unwrap_or_default();
        Workshop { client: &self.client, world: &self.world, kind, maker: key, uid }
    }

    /// Writes what changed of the status; tells whether it was written: not when somebody was faster.
    pub(crate) async fn write<S: Serialize>(
        &self,
        step: &'static str,
        maker: &K,
        old: &S,
        new: &S,
    ) -> Result<bool, Error> {
        let key = key_of(maker);
        let written = status::write(&self.client, maker, old, new).await;
        let written = written.map_err(|source| Error::new(step, &key.name, source))?;
        let done = written.is_some();
        if done {
            self.memory.written(&key, written);
        }
        Ok(done)
    }

    /// What comes after a look. What was refused (a quota, a policy, a name) may be lifted or freed, and nobody tells.
    pub(crate) fn next(&self, key: &TaskKey, refused: bool) -> Next {
        if refused {
            return Next::requeue(self.memory.failed(key).1);
        }
        self.memory.succeeded(key);
        Next::await_change()
    }

    /// Whether that one is still there.
    fn is_there(&self, maker: &K) -> bool {
        self.store.get(&ObjectRef::from_obj(maker)).is_some_and(|now| now.meta().uid == maker.meta().uid)
    }
}

fn key_of<K: Resource>(maker: &K) -> TaskKey {
    let metadata = maker.meta();
    TaskKey::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// Looks at a maker.
pub(crate) async fn reconcile<C: Makers>(maker: Arc<C::Maker>, context: Arc<C>) -> Result<Next, Error> {
    let started = Instant::now();
    let next = reconcile_one(&*maker, &*context).await;
    context.shared().metrics.reconciled(C::KIND.as_str(), next.is_ok(), started.elapsed());
    next
}

async fn reconcile_one<C: Makers>(maker: &C::Maker, context: &C) -> Result<Next, Error> {
    let (key, shared) = (key_of(maker), context.shared());
    let metadata = maker.meta();
    if metadata.deletion_timestamp.is_some() {
        // What it made goes by its owner references.
        context.forget(&key);
        return Ok(Next::await_change());
    }
    if shared.memory.is_stale(&key, metadata.resource_version.as_deref()) {
        tracing::debug!(name = %key.name, namespace = %key.namespace, "the watch has not shown the last write yet");
        return Ok(Next::await_change());
    }
    let next = context.look(maker, &key).await;
    if !shared.is_there(maker) {
        // It went meanwhile: what was remembered of it since must go too.
        gone(context, &key);
    }
    next
}

/// A maker is not there any more. The ends of Tasks of a BatchRun that is gone would be kept for it for ever.
pub(crate) fn gone<C: Makers>(context: &C, key: &TaskKey) {
    context.forget(key);
    context.shared().memory.forget(key);
}

/// How long to wait before the next look after a failure.
pub(crate) fn on_error<C: Makers>(maker: Arc<C::Maker>, error: &Error, context: Arc<C>) -> Next {
    let (kind, key) = (C::KIND.as_str(), key_of(&*maker));
    let (failures, wait) = context.shared().memory.failed(&key);
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::warn!(kind, namespace = %key.namespace, name = %key.name, failures, %error, cause, "will look at it again");
    Next::requeue(wait)
}
