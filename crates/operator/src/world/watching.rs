//! The watch of a kind. An object that cannot be read, because a newer or older definition let it in, does not keep the
//! others from being seen.
//!
//! To read an object so that a failure is its own costs about twice as much as to read it straight from the text. So a
//! watch begins with that, and starts anew, careful from then on, once it meets something it cannot read.

use std::future::ready;

use futures::{Stream, StreamExt, TryStreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource};
use tokio_util::sync::CancellationToken;

use super::lean::{Lean, Watched};
use super::names;
use crate::config::OperatorConfig;
use crate::metrics::Metrics;

/// An object that may turn out not to be readable.
type Guarded<K> = DeserializeGuard<Lean<K>>;
/// Makes the event of one that was readable.
type Again<K> = fn(Lean<K>) -> Event<Lean<K>>;

/// Watches what `selection` selects in the namespaces that the operator looks after. It goes on by itself after errors,
/// with a backoff.
pub(crate) fn watch<K>(
    client: &Client,
    config: &OperatorConfig,
    selection: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static
where
    K: Watched,
{
    let met = CancellationToken::new();
    let quick = watcher(config.api::<Lean<K>>(client), selection.clone()).default_backoff().map_ok(Lean::of);
    let is_over = met.clone().cancelled_owned();
    let quick = quick.inspect_err(move |error| {
        if is_unreadable(error) {
            met.cancel();
        }
    });
    let metrics = config.metrics.clone();
    let careful = watcher(config.api::<Guarded<K>>(client), selection).default_backoff();
    quick.take_until(is_over).chain(careful.try_filter_map(move |event| ready(Ok(readable(event, &metrics)))))
}

/// Whether an object could not be read; or what the server said, as a line of a watch that is no event is taken for that.
fn is_unreadable(error: &watcher::Error) -> bool {
    use kube::Error::{Api, SerdeError};
    use watcher::Error::{InitialListFailed, WatchFailed};
    matches!(error, InitialListFailed(SerdeError(_)) | WatchFailed(SerdeError(_) | Api(_)))
}

/// The event, unless its object cannot be read: then that is said.
fn readable<K>(event: Event<Guarded<K>>, metrics: &Metrics) -> Option<Event<K>>
where
    K: Resource<DynamicType = ()>,
{
    let (object, again): (_, Again<K>) = match event {
        Event::Init => return Some(Event::Init),
        Event::InitDone => return Some(Event::InitDone),
        Event::Apply(object) => (object, Event::Apply),
        Event::InitApply(object) => (object, Event::InitApply),
        Event::Delete(object) => (object, Event::Delete),
    };
    match object.0 {
        Ok(object) => Some(Lean::of(again(object))),
        Err(invalid) => {
            let kind = K::kind(&());
            let (namespace, name) = names(&invalid.metadata);
            tracing::warn!(
                kind = %kind, namespace, name, error = invalid.error,
                "cannot be read and is passed over: does its definition have this version?"
            );
            metrics.unreadable(&kind);
            None
        }
    }
}
