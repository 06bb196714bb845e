//! The Task controller: [`observe`] gathers, `kubetask_core::task::plan` decides, [`act`] carries out.
//!
//! The Tasks come from a reflector; everything that concerns them comes from the feeds of the [`World`]. Nothing is
//! decided before every feed has taken in what is there: a Task must not be told that its Agent is missing only
//! because the operator has just started.

mod act;
mod observe;
mod reconcile;

use std::sync::Arc;

use futures::{FutureExt, StreamExt, future};
use kube::Client;
use kube::runtime::controller::{self, Controller};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{WatchStreamExt, watcher};
use kubetask_api::Task;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::OperatorConfig;
use crate::events::Recorder;
use crate::world::World;
use crate::world::feed::{self, News};

pub use reconcile::{Context, reconcile};

/// Runs the controller until it is cancelled.
pub async fn run(client: Client, config: OperatorConfig, recorder: Recorder, cancel: CancellationToken) {
    let world = World::default();
    let (tasks, writer) = reflector::store();
    let feeds = feed::all(&client, &config, &world, &tasks);
    // The receiver is slower than a list of a large cluster: the feeds wait for it.
    let (sender, receiver) = mpsc::channel(1024);
    let (synced, pumps): (Vec<_>, Vec<_>) =
        feeds.into_iter().map(|feed| pump(feed, sender.clone(), cancel.clone())).unzip();
    drop(sender);
    let pumps = future::join_all(pumps.into_iter().map(tokio::spawn));

    let all_synced = future::join_all(synced);
    tokio::select! {
        _ = all_synced => {}
        () = cancel.cancelled() => return,
    }
    let watch = watcher::watcher(config.api::<Task>(&client), watcher::Config::default())
        .default_backoff()
        .modify(|task: &mut Task| task.metadata.managed_fields = None)
        .reflect(writer)
        .touched_objects();
    let context = Arc::new(Context::new(client, config.clone(), world, tasks.clone(), recorder));
    let looks = tokio_stream(receiver);
    Controller::for_stream(watch, tasks)
        .with_config(controller::Config::default().concurrency(config.concurrency))
        .reconcile_on(looks)
        .graceful_shutdown_on(cancel.cancelled_owned())
        .run(reconcile, reconcile::on_error, context)
        .for_each(|result| {
            if let Err(controller::Error::QueueError(error)) = result {
                tracing::debug!(%error, "the watch of Tasks was interrupted");
            }
            future::ready(())
        })
        .await;
    pumps.await;
}

/// Polls a feed; sends the Tasks it names once it has taken in what is there. Tasks named before are looked at anyway.
fn pump(
    mut feed: feed::Feed,
    sender: mpsc::Sender<ObjectRef<Task>>,
    cancel: CancellationToken,
) -> (impl Future<Output = ()> + Send, impl Future<Output = ()> + Send) {
    let (synced, when_synced) = tokio::sync::oneshot::channel::<()>();
    let pump = async move {
        let mut synced = Some(synced);
        loop {
            let news = tokio::select! {
                news = feed.next() => news,
                () = cancel.cancelled() => return,
            };
            match news {
                Some(News::Look(key)) if synced.is_none() => {
                    if sender.send(ObjectRef::new(&key.name).within(&key.namespace)).await.is_err() {
                        return;
                    }
                }
                Some(News::Look(_)) => {}
                Some(News::Synced) => {
                    if let Some(synced) = synced.take() {
                        // Nobody waits any more only when the operator ends.
                        let _ = synced.send(());
                    }
                }
                None => return,
            }
        }
    };
    (when_synced.map(|_| ()), pump)
}

fn tokio_stream<T: Send + 'static>(receiver: mpsc::Receiver<T>) -> impl futures::Stream<Item = T> + Send {
    futures::stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) })
}
