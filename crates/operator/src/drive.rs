//! What every controller does alike: [`watched`] watches what it looks at, [`drive`] carries it to its end.

use std::future;

use futures::{Stream, StreamExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::{Action, Error};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource};
use tokio_util::sync::CancellationToken;

use crate::config::OperatorConfig;
use crate::health::Synced;
use crate::world::lean::Watched;
use crate::world::watching::watch;
use crate::world::{TaskKey, feed};

/// The watch of what a controller looks at. It fills the store of `writer`, without what `strip` takes away; `listed`
/// holds from the end of the first list on; `told` is told of everything.
pub(crate) fn watched<K>(
    client: &Client,
    config: &OperatorConfig,
    writer: Writer<K>,
    strip: fn(&mut K),
    listed: Synced,
    mut told: impl FnMut(&Event<K>) + Send + 'static,
) -> impl Stream<Item = watcher::Result<K>> + Send + 'static
where
    K: Watched + Sync,
{
    watch(client, config, watcher::Config::default())
        .modify(strip)
        .reflect(writer)
        .inspect(move |event| {
            let Ok(event) = event else { return };
            // Not by waiting for the reflector: it wakes one of those who wait for it, and that is the controller.
            if matches!(event, Event::InitDone) {
                listed.set();
            }
            told(event);
        })
        .touched_objects()
}

/// Carries a controller on until it has ended. `gone` is told of objects that somebody wanted looked at, but that are not
/// there: what is remembered of them must go.
pub(crate) async fn drive<K, Failed>(
    controller: impl Stream<Item = Result<(ObjectRef<K>, Action), Error<Failed, watcher::Error>>>,
    listed: &Synced,
    cancel: &CancellationToken,
    gone: impl Fn(&TaskKey),
) where
    K: Resource<DynamicType = ()>,
    Failed: 'static,
{
    let controller = controller.for_each(|looked| {
        match looked {
            Err(Error::QueueError(error)) => feed::interrupted(&K::kind(&()), &error),
            Err(Error::ObjectNotFound(what)) => {
                gone(&TaskKey::new(what.namespace.as_deref().unwrap_or_default(), &what.name));
            }
            _ => {}
        }
        future::ready(())
    });
    tokio::select! {
        () = controller => {}
        () = cancelled_before(listed, cancel) => {}
    }
}

/// Returns when the operator is to end before the controller's first list is complete; never otherwise.
///
/// kube-rs holds reconciliations until the store is ready, and a controller that is asked to end stops reading the watch
/// that fills it: asked too early, it would wait for ever. Nothing has been done by then, so it can be dropped.
async fn cancelled_before(listed: &Synced, cancel: &CancellationToken) {
    cancel.cancelled().await;
    if listed.is_set() {
        future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::stream;
    use kubetask_api::BatchRun;

    use super::*;

    #[tokio::test]
    async fn what_is_not_there_any_more_is_forgotten() {
        let missing: ObjectRef<BatchRun> = ObjectRef::new("r").within("n");
        let looks = [Err(Error::<std::io::Error, _>::ObjectNotFound(Box::new(missing.erase())))];
        let gone = Mutex::new(Vec::new());
        let controller =
            stream::iter(looks.map(|look| look.map(|()| (ObjectRef::<BatchRun>::new("r"), Action::await_change()))));
        drive(controller, &Synced::default(), &CancellationToken::new(), |key| gone.lock().unwrap().push(key.clone()))
            .await;
        assert_eq!(*gone.lock().unwrap(), [TaskKey::new("n", "r")]);
    }
}
